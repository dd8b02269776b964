//! A device grows under a pool that is served, with the power cut at every write and flush of it.
//!
//! After each cut the pool is verified as it lies there, by the verifier that shares no counting with
//! the engine, and again after it was opened: the device has its old size or its new one, and no block
//! is lost or has two owners. That the test would see a wrong order is tested too, with one planted.

mod cut;

use cairn_base::{DeviceId, Nanos};
use cairn_engine::attr::FileKind;
use cairn_engine::sabotage::{Sabotage, plant};
use cairn_engine::{DeviceSpace, Grow};
use cairn_sim::machine::Halt;
use cairn_sim::media::{Cut, CutEffect};
use cairn_sim::model::act::{Act, NodeId, Payload, Place, Sync};
use cairn_sim::model::reading::Answer;
use cairn_sim::model::tree::Inodes;
use cairn_sim::world::{World, WorldConfig};
use cut::cut_and_verify;

const BEFORE: u64 = 20 << 10;
const MORE: u64 = 8 << 10;
/// Longer than growing takes: to find a run that never ends.
const CUTS_MAX: u64 = 100;

#[derive(Clone, Copy)]
struct Case {
    shards: usize,
    devices: usize,
    grows: u8,
    fua: bool,
}

struct Pool {
    world: World,
    inodes: Inodes,
    grows: u8,
}

impl Pool {
    fn new(case: Case) -> Pool {
        let config = WorldConfig {
            tablets: 4,
            device_blocks: vec![BEFORE; case.devices],
            fua: case.fua,
            memtable_bytes: 256 << 10,
            log_blocks: 1024,
        };
        let mut world = World::new(11, config);
        world.format().expect("formatted");
        world.boot(case.shards).expect("booted");
        let inodes = [(NodeId::ROOT, cairn_format::InodeNo::ROOT)].into();
        let mut pool = Pool { world, inodes, grows: case.grows };
        pool.write(1, 300_000);
        pool
    }

    fn write(&mut self, node: u32, len: u32) -> bool {
        let at = Place { dir: NodeId::ROOT, name: node.to_string().into_bytes().into() };
        let make = Act::Make { at, kind: FileKind::Regular, mode: 0o600 };
        match self.ask(&make) {
            Answer::Node { ino, .. } => self.inodes.insert(NodeId(node), ino),
            _ => return false,
        };
        let data = Payload { tag: node, offset: 0, len };
        self.ask(&Act::Write { node: NodeId(node), data, sync: Sync::File }) == Answer::Done
    }

    fn reads(&mut self, node: u32, len: u32) -> bool {
        let read = Act::Read { node: NodeId(node), offset: 0, len };
        let bytes = Payload { tag: node, offset: 0, len }.bytes();
        self.ask(&read) == Answer::Bytes { bytes, eof: true }
    }

    fn ask(&mut self, act: &Act) -> Answer {
        self.world.perform(0, act, &self.inodes).expect("the machine runs")
    }

    fn grow(&mut self) -> Result<(), Halt> {
        let shard = self.world.shards()[0].clone();
        let wanted = [Grow { device: DeviceId(self.grows), blocks: None }];
        let grown = self.world.machine().run(0, async move { shard.resize_devices(&wanted).await });
        grown.map(|grown| _ = grown.expect("nothing refuses it"))
    }

    fn device(&mut self) -> DeviceSpace {
        let shard = self.world.shards()[0].clone();
        let spaces = self.world.machine().run(0, async move { shard.device_spaces().await });
        spaces.expect("the machine runs").expect("it answers")[usize::from(self.grows)]
    }

    /// Cuts the power here and verifies what lies on the devices.
    fn verify(&mut self) -> Result<(), String> {
        cut_and_verify(&mut self.world)
    }

    fn boot(&mut self, shards: usize) -> Result<(), String> {
        self.world.boot(shards).map_err(|error| format!("{error:?}"))
    }
}

/// One run with one cut; false when the growing ended before it.
fn cut_once(case: Case, cut: Cut) -> Result<bool, String> {
    let mut pool = Pool::new(case);
    let free_before = pool.device().blocks_free;
    let device = DeviceId(pool.grows);
    pool.world.media.borrow_mut().grow(device, MORE);
    let command = pool.world.media.borrow().commands() + cut.command;
    pool.world.media.borrow_mut().set_cut(Some(Cut { command, ..cut }));
    let reached = match pool.grow() {
        Ok(()) => false,
        Err(Halt::PowerOff) => true,
        Err(halt) => return Err(format!("{halt:?}")),
    };
    pool.verify().map_err(|what| format!("as it lies there: {what}"))?;
    // With a third shard the logs need space that only tablet 1 has.
    pool.boot([2, 1, 3][cut.command as usize % 3])?;
    let found = pool.device();
    if found.blocks + found.blocks_more != BEFORE + MORE || !found.blocks_more.is_multiple_of(MORE)
    {
        return Err(format!("neither the old size nor the new: {found:?}"));
    }
    if !reached && found.blocks != BEFORE + MORE {
        return Err(format!("it was told that the device has grown: {found:?}"));
    }
    pool.verify().map_err(|what| format!("after an open: {what}"))?;
    pool.boot(case.shards)?;
    pool.grow().map_err(|halt| format!("{halt:?}"))?;
    let grown = pool.device();
    // Logs for a third shard were taken out of it, and tablets hold zones for their nodes.
    if grown.blocks_more != 0 || grown.blocks_free < free_before + MORE / 2 {
        return Err(format!("the new blocks are not free: {grown:?}, {free_before} before"));
    }
    if !pool.reads(1, 300_000) {
        return Err("a file is not what it was".into());
    }
    pool.write(2, 700_000);
    pool.verify().map_err(|what| format!("at the end: {what}"))?;
    Ok(reached)
}

fn cut_everywhere(case: Case) -> Result<u64, String> {
    for command in 1..CUTS_MAX {
        for effect in [CutEffect::Before, CutEffect::After] {
            let reached = cut_once(case, Cut { command, effect });
            let reached =
                reached.map_err(|what| format!("{effect:?} command {command}: {what}"))?;
            if !reached {
                return Ok(command - 1);
            }
        }
    }
    Err(format!("not over after {CUTS_MAX} device commands"))
}

#[test]
fn a_device_that_grows_has_one_size_or_the_other_wherever_the_power_goes() {
    let one = Case { shards: 1, devices: 1, grows: 0, fua: true };
    for case in [one, Case { shards: 2, devices: 2, grows: 1, fua: false }] {
        let cuts = cut_everywhere(case).unwrap_or_else(|what| panic!("{what}"));
        assert!(cuts >= 7, "three superblocks on each device and a record: {cuts} commands");
    }
}

#[test]
fn without_the_mark_a_cut_loses_the_new_space_and_is_seen() {
    plant(Some(Sabotage::GrownWithoutMark));
    let seen = cut_everywhere(Case { shards: 1, devices: 1, grows: 0, fua: true });
    plant(None);
    let seen = seen.expect_err("lost space is seen");
    assert!(seen.contains("belongs to nobody"), "{seen}");
}

#[test]
fn a_full_pool_that_grew_takes_files_again_and_keeps_them() {
    let mut pool = Pool::new(Case { shards: 2, devices: 2, grows: 1, fua: true });
    let fill = |pool: &mut Pool, from: u32| {
        (from..).find(|node| !pool.write(*node, 700_000)).expect("a pool is full some time")
    };
    let full = fill(&mut pool, 10);
    pool.world.media.borrow_mut().grow(DeviceId(1), MORE);
    assert_eq!(pool.device().blocks_more, MORE);
    pool.grow().expect("the machine runs");
    let again = fill(&mut pool, 1000);
    let megabytes = u64::from(again - 1000) * 700_000;
    assert!(megabytes > MORE * 4096 / 2, "{full} files, then {again}");
    pool.world.machine().idle(Nanos::from_secs(2)).expect("it idles");
    pool.verify().unwrap_or_else(|what| panic!("{what}"));
    pool.boot(1).expect("a full pool opens");
    for node in (10..full).chain(1000..again) {
        assert!(pool.reads(node, 700_000), "file {node}");
    }
}

#[test]
fn what_a_device_does_not_have_or_is_in_use_is_refused() {
    let mut pool = Pool::new(Case { shards: 1, devices: 1, grows: 0, fua: true });
    for blocks in [BEFORE - 1, BEFORE + 1] {
        let shard = pool.world.shards()[0].clone();
        let wanted = [Grow { device: DeviceId(0), blocks: Some(blocks) }];
        let asked = pool.world.machine().run(0, async move { shard.resize_devices(&wanted).await });
        assert!(asked.expect("the machine runs").is_err(), "{blocks} blocks");
    }
    pool.grow().expect("to the size it has is no change");
    assert_eq!(pool.device().blocks, BEFORE);
    pool.verify().unwrap_or_else(|what| panic!("{what}"));
}
