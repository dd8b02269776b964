//! Pools whose parts have lengths that nobody would choose.

use cairn_check::{CheckOptions, check};
use cairn_sim::world::{World, WorldConfig};

fn config(log_blocks: u64, device_blocks: Vec<u64>) -> WorldConfig {
    WorldConfig { tablets: 8, device_blocks, fua: true, memtable_bytes: 64 << 10, log_blocks }
}

#[test]
fn a_pool_is_sound_whatever_the_length_of_its_logs_and_devices() {
    for (log_blocks, odd) in [(1024, 0), (1025, 1), (1026, 2), (1027, 3), (1501, 5)] {
        for devices in [1, 2] {
            let config = config(log_blocks, vec![(20 << 10) + odd; devices]);
            let mut world = World::new(7, config);
            world.format().expect("formatted");
            for boots in 0..2 {
                let (mut machine, disk) = world.bare_machine(1);
                let checked = machine
                    .run(0, async move { check(&disk, CheckOptions::default(), |_| ()).await });
                let report = checked.expect("it ends").expect("it is a pool");
                let found = &report.findings;
                assert!(found.is_empty(), "logs of {log_blocks}, {boots} boots: {found:?}");
                world.boot(3).expect("booted");
                world.machine().idle(cairn_base::Nanos::from_secs(1)).expect("idle");
                world.crash();
                world.media.borrow_mut().power_on();
            }
        }
    }
}
