//! What a power cut may and may not take.

use super::*;
use crate::fault::{Blow, Lasting, SLOWNESS};

const META: DeviceId = DeviceId(0);

fn media(seed: u64) -> Media {
    Media::new(seed, Clock::default(), Digest::new(seed), &[64, 64], true)
}

fn at(index: u64) -> BlockNo {
    BlockNo::new(META, index)
}

fn block(tag: u8) -> Block {
    vec![tag; BLOCK_BYTES].into()
}

fn write(tag: u8, index: u64, want: Durability) -> Command {
    Command::Write { at: at(index), content: vec![block(tag)], want }
}

fn run(media: &mut Media, command: Command) -> Outcome {
    let id = media.submit(command).expect("the power is on");
    loop {
        let (done, outcome) = media.complete_next().expect("it completes");
        if done == id {
            return outcome;
        }
    }
}

fn tags(block: &Block) -> Vec<u8> {
    let mut tags: Vec<u8> = block.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect();
    for sector in block.chunks(SECTOR_BYTES) {
        assert!(sector.iter().all(|&byte| byte == sector[0]), "sectors are not torn");
    }
    tags.dedup();
    tags
}

#[test]
fn a_completed_durable_write_survives_every_cut() {
    for seed in 0..64 {
        let mut media = media(seed);
        run(&mut media, write(1, 5, Durability::Durable)).expect("written");
        media.power_off();
        assert_eq!(tags(&media.peek_stored(at(5)).expect("stored")), [1]);
    }
}

#[test]
fn a_flush_stores_what_completed_before_it_began() {
    for seed in 0..64 {
        let mut media = media(seed);
        run(&mut media, write(1, 5, Durability::Cached)).expect("written");
        run(&mut media, Command::Flush { device: META }).expect("flushed");
        media.power_off();
        assert_eq!(tags(&media.peek_stored(at(5)).expect("stored")), [1]);
    }
}

#[test]
fn a_flush_of_another_device_stores_nothing_here() {
    let lost = (0..64).any(|seed| {
        let mut media = media(seed);
        run(&mut media, write(1, 5, Durability::Cached)).expect("written");
        run(&mut media, Command::Flush { device: DeviceId(1) }).expect("flushed");
        media.power_off();
        media.peek_stored(at(5)).is_none_or(|b| tags(&b) != [1])
    });
    assert!(lost);
}

#[test]
fn a_write_that_completes_during_a_flush_is_not_covered_by_it() {
    let lost = (0..64).any(|seed| {
        let mut media = media(seed);
        let flush = media.submit(Command::Flush { device: META }).expect("on");
        let write = media.submit(write(1, 5, Durability::Cached)).expect("on");
        let (mut flushed, mut written_first) = (false, false);
        while let Some((id, _)) = media.complete_next() {
            flushed |= id == flush;
            written_first |= id == write && !flushed;
        }
        media.power_off();
        written_first && media.peek_stored(at(5)).is_none_or(|b| tags(&b) != [1])
    });
    assert!(lost);
}

#[test]
fn without_a_flush_a_cut_may_keep_lose_or_tear_a_cached_write() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let mut media = media(seed);
        run(&mut media, write(1, 5, Durability::Durable)).expect("written");
        run(&mut media, write(2, 5, Durability::Cached)).expect("written");
        assert_eq!(tags(&media.peek(at(5)).expect("seen")), [2], "reads see what was accepted");
        media.power_off();
        let mut left = tags(&media.peek_stored(at(5)).expect("stored"));
        left.sort_unstable();
        left.dedup();
        outcomes.insert(left);
    }
    assert!(outcomes.contains(&vec![1]) && outcomes.contains(&vec![2]));
    assert!(outcomes.contains(&vec![1, 2]), "some cut tears the block");
}

#[test]
fn a_durable_write_in_flight_may_tear() {
    let torn = (0..64).any(|seed| {
        let mut media = media(seed);
        run(&mut media, write(1, 5, Durability::Durable)).expect("written");
        media.submit(write(2, 5, Durability::Durable)).expect("on");
        media.power_off();
        tags(&media.peek_stored(at(5)).expect("stored")).len() > 1
    });
    assert!(torn);
}

#[test]
fn an_older_cached_write_never_comes_back_over_a_durable_one() {
    for seed in 0..64 {
        let mut media = media(seed);
        run(&mut media, write(1, 5, Durability::Cached)).expect("written");
        run(&mut media, write(2, 5, Durability::Durable)).expect("written");
        media.power_off();
        assert_eq!(tags(&media.peek_stored(at(5)).expect("stored")), [2]);
    }
}

#[test]
fn the_cut_falls_exactly_at_its_command() {
    for (effect, expected) in [(CutEffect::Before, false), (CutEffect::After, true)] {
        let mut media = media(3);
        run(&mut media, write(1, 1, Durability::Durable)).expect("written");
        media.set_cut(Some(Cut { command: 3, effect }));
        run(&mut media, write(1, 2, Durability::Durable)).expect("the second is not cut");
        assert!(media.submit(write(1, 3, Durability::Durable)).is_none());
        assert!(!media.is_on());
        assert_eq!(media.peek_stored(at(3)).is_some(), expected);
        assert!(media.submit(Command::Read { at: at(1), blocks: 1 }).is_none());
        assert!(media.complete_next().is_none());
        media.power_on();
        assert_eq!(
            tags(&run(&mut media, Command::Read { at: at(2), blocks: 1 }).expect("read")[0]),
            [1]
        );
    }
}

#[test]
fn a_failed_flush_is_not_mended_by_the_next_one() {
    let mut lost = 0;
    for seed in 0..64 {
        let mut media = media(seed);
        media.faults.fail_flush(META, 0, Lasting::Once);
        run(&mut media, write(1, 5, Durability::Cached)).expect("written");
        assert_eq!(run(&mut media, Command::Flush { device: META }), Err(MediaError::Flush(5)));
        run(&mut media, Command::Flush { device: META }).expect("only the first fails");
        media.power_off();
        lost += usize::from(media.peek_stored(at(5)).is_none_or(|b| tags(&b) != [1]));
    }
    assert!(lost > 0, "retrying a failed flush into success must lose data");
}

#[test]
fn errors_come_where_they_were_planted() {
    let mut media = media(1);
    media.faults.fail_reads_of(at(7), Lasting::Once);
    media.faults.fail_write(1);
    let read = |media: &mut Media, index, blocks| {
        run(media, Command::Read { at: at(index), blocks }).err()
    };
    assert_eq!(read(&mut media, 0, 7), None);
    assert_eq!(read(&mut media, 4, 8), Some(MediaError::Read(5)));
    assert_eq!(read(&mut media, 4, 8), None, "once is once");
    assert_eq!(run(&mut media, write(1, 1, Durability::Durable)).err(), None);
    assert_eq!(run(&mut media, write(1, 1, Durability::Durable)).err(), Some(MediaError::Write(5)));
    assert_eq!(read(&mut media, 60, 5), Some(MediaError::OutOfRange));
    assert_eq!(media.faults.injected_count(), 2);
}

#[test]
fn rot_flips_one_stored_bit() {
    let mut media = media(1);
    run(&mut media, write(0, 9, Durability::Durable)).expect("written");
    media.rot(at(9), 8 * 100 + 3);
    let content = run(&mut media, Command::Read { at: at(9), blocks: 1 }).expect("read");
    assert_eq!(content[0][100], 8);
    assert_eq!(content[0].iter().map(|b| b.count_ones()).sum::<u32>(), 1);
}

#[test]
fn traffic_counts_commands_and_blocks_by_device() {
    let mut media = media(1);
    let two = vec![block(1), block(2)];
    let write = Command::Write { at: at(1), content: two, want: Durability::Cached };
    run(&mut media, write).expect("written");
    run(&mut media, Command::Flush { device: META }).expect("flushed");
    run(&mut media, Command::Read { at: at(0), blocks: 4 }).expect("read");
    let expected =
        Traffic { reads: 1, blocks_read: 4, writes: 1, blocks_written: 2, flushes: 1, discards: 0 };
    assert_eq!(media.traffic(META), expected);
    assert_eq!(media.traffic(DeviceId(1)), Traffic::default());
    assert_eq!(media.commands(), 2);
}

#[test]
fn a_device_of_large_sectors_tears_commands_and_no_block() {
    let mut torn_commands = 0;
    for seed in 0..64 {
        let mut media = media(seed);
        media.set_sector_bytes(BLOCK_BYTES);
        let four = |tag| vec![block(tag), block(tag), block(tag), block(tag)];
        let write = |tag, want| Command::Write { at: at(5), content: four(tag), want };
        run(&mut media, write(1, Durability::Durable)).expect("written");
        run(&mut media, write(2, Durability::Cached)).expect("written");
        media.power_off();
        let left = (5..9).map(|index| tags(&media.peek_stored(at(index)).expect("stored")));
        let left: Vec<Vec<u8>> = left.collect();
        assert!(left.iter().all(|tags| tags.len() == 1), "{left:?}");
        torn_commands += usize::from(left.iter().any(|tags| *tags != left[0]));
    }
    assert!(torn_commands > 0, "some blocks of a command may be lost and others not");
}

#[test]
fn a_lost_write_is_acknowledged_and_leaves_what_was_there() {
    let mut media = media(1);
    run(&mut media, write(1, 5, Durability::Durable)).expect("written");
    media.faults.strike(1, 1, Blow::Lost, Vec::new());
    run(&mut media, write(1, 6, Durability::Durable)).expect("written");
    run(&mut media, write(2, 5, Durability::Durable)).expect("it says so");
    run(&mut media, write(2, 6, Durability::Durable)).expect("written");
    assert_eq!(tags(&media.peek(at(5)).expect("the old one")), [1]);
    assert_eq!(tags(&media.peek(at(6)).expect("the new one")), [2]);
    assert_eq!(media.faults.hit().iter().copied().collect::<Vec<_>>(), [at(5)]);
    assert_eq!(media.faults.injected_count(), 0, "no device reported it");
}

#[test]
fn a_misdirected_write_lands_elsewhere_and_leaves_its_own_place() {
    let mut media = media(1);
    run(&mut media, write(1, 5, Durability::Durable)).expect("written");
    media.faults.strike(0, 1, Blow::Misdirected { by: 62 }, Vec::new());
    run(&mut media, write(2, 5, Durability::Durable)).expect("it says so");
    assert_eq!(tags(&media.peek(at(5)).expect("the old one")), [1]);
    assert_eq!(tags(&media.peek(at(3)).expect("landed")), [2]);
    assert_eq!(media.faults.hit().iter().copied().collect::<Vec<_>>(), [at(3), at(5)]);
}

#[test]
fn a_blow_falls_with_a_write_and_spares_what_it_is_told_to() {
    let spared = vec![Run::new(at(0), 8)];
    let mut media = media(1);
    run(&mut media, write(1, 5, Durability::Durable)).expect("written");
    run(&mut media, write(1, 9, Durability::Durable)).expect("written");
    media.faults.strike(0, 1, Blow::Rot { pick: 7, bit: 9 }, spared.clone());
    run(&mut media, write(1, 6, Durability::Durable)).expect("does not count");
    assert!(media.faults.hit().is_empty());
    run(&mut media, write(1, 10, Durability::Durable)).expect("written");
    assert_eq!(media.peek(at(9)).expect("rotten")[1], 1 ^ 2);
    assert_eq!(media.faults.hit().iter().copied().collect::<Vec<_>>(), [at(9)]);
    media.faults.strike(0, 1, Blow::Lost, spared);
    run(&mut media, write(3, 7, Durability::Durable)).expect("does not count");
    assert_eq!(tags(&media.peek(at(7)).expect("written")), [3]);
}

#[test]
fn an_unreadable_block_fails_every_read_until_it_is_written_also_after_a_restart() {
    let mut media = media(1);
    run(&mut media, write(1, 5, Durability::Durable)).expect("written");
    media.faults.strike(0, 1, Blow::Unreadable { pick: 0 }, Vec::new());
    run(&mut media, write(1, 9, Durability::Durable)).expect("written");
    let read = |media: &mut Media| run(media, Command::Read { at: at(4), blocks: 4 }).err();
    assert_eq!(read(&mut media), Some(MediaError::Read(5)));
    assert_eq!(read(&mut media), Some(MediaError::Read(5)));
    media.power_off();
    media.power_on();
    media.faults.restart();
    assert_eq!(read(&mut media), Some(MediaError::Read(5)));
    run(&mut media, write(2, 5, Durability::Durable)).expect("written");
    assert_eq!(read(&mut media), None);
    assert_eq!(media.faults.injected_count(), 0, "it is damage and no failing device");
}

#[test]
fn a_device_that_is_gone_fails_everything_and_comes_back_unless_it_is_gone_for_good() {
    for for_good in [false, true] {
        let mut media = media(1);
        media.faults.lose_device(META, 1, for_good);
        run(&mut media, write(1, 5, Durability::Durable)).expect("not yet");
        assert_eq!(media.faults.gone_for_good(), None);
        let other = Command::Flush { device: DeviceId(1) };
        run(&mut media, other).expect("another device");
        let all = [
            write(2, 5, Durability::Durable),
            Command::Flush { device: META },
            Command::Read { at: at(5), blocks: 1 },
            Command::Discard { run: Run::new(at(5), 1) },
        ];
        for command in all {
            let gone = run(&mut media, command).err();
            assert_eq!(gone, Some(MediaError::Gone));
        }
        media.power_off();
        media.power_on();
        media.faults.restart();
        let read = run(&mut media, Command::Read { at: at(5), blocks: 1 });
        match for_good {
            true => assert_eq!(read.err(), Some(MediaError::Gone)),
            false => assert_eq!(tags(&read.expect("it is back")[0]), [1]),
        }
        assert_eq!(media.faults.gone_for_good().is_some(), for_good);
    }
}

#[test]
fn a_slow_device_takes_its_time_for_so_many_commands() {
    let mut media = media(1);
    media.faults.slow_down(META, 1, 2);
    let mut took = Vec::new();
    for _ in 0..4 {
        let before = media.clock.now();
        media.submit(write(1, 5, Durability::Cached)).expect("on");
        took.push(media.next_due().expect("under way").0 - before.0);
        media.complete_next().expect("it ends").1.expect("written");
    }
    // Ten microseconds at least, and with the slowest usual command not 40 times a hundred.
    let slow = took.iter().map(|ns| *ns >= 10_000 * SLOWNESS).collect::<Vec<_>>();
    assert_eq!(slow, [false, true, true, false], "{took:?}");
}
