//! Every operation with each of its permits, promises, zones and reservations failing in turn.

use cairn_base::BLOCK_BYTES;
use cairn_engine::attr::FileKind;
use cairn_engine::failpoint::Point;
use cairn_sim::model::act::{Act, NodeId, Payload, Place, Sync};
use cairn_sim::scenario::Scenario;
use cairn_sim::script::Script;
use cairn_sim::world::WorldConfig;

fn at(dir: u32, name: &str) -> Place {
    Place { dir: NodeId(dir), name: name.as_bytes().into() }
}

fn make(dir: u32, name: &str, kind: FileKind) -> Act {
    Act::Make { at: at(dir, name), kind, mode: 0o700 }
}

fn write(node: u32, offset: u64, len: u32, sync: Sync) -> Act {
    Act::Write { node: NodeId(node), data: Payload { tag: node, offset, len }, sync }
}

fn rename(from: Place, to: Place) -> Act {
    Act::Rename { from, to }
}

/// Nodes are numbered by the request that makes them, from 1; 0 is the root.
fn every_operation() -> Script {
    let block = BLOCK_BYTES as u64;
    let mut all = vec![
        make(0, "one", FileKind::Directory),
        make(0, "two", FileKind::Directory),
        make(1, "file", FileKind::Regular),
        make(2, "file", FileKind::Regular),
        make(1, "fifo", FileKind::Fifo),
        Act::Symlink { at: at(2, "symlink"), target: vec![b'x'; 3000] },
        Act::Open { at: at(1, "opened"), mode: 0o600 },
        Act::Link { node: NodeId(3), at: at(2, "link") },
        write(3, 0, 300, Sync::File),
        write(3, 5000, 30_000, Sync::Data),
        write(3, 100_000, 70_000, Sync::Unstable),
        Act::Commit { node: NodeId(3), offset: 0, len: 0 },
        write(4, 0, 200_000, Sync::File),
        write(4, 1000, 50_000, Sync::Unstable),
        Act::Truncate { node: NodeId(4), size: 3 * block + 100 },
        Act::Truncate { node: NodeId(4), size: 40 * block },
        Act::Commit { node: NodeId(4), offset: 0, len: 0 },
        Act::Chmod { node: NodeId(4), mode: 0o640, gid: 3 },
        Act::SetXattr { node: NodeId(1), name: b"user.a"[..].into(), value: vec![1; 9000] },
        Act::SetXattr { node: NodeId(3), name: b"user.a"[..].into(), value: vec![2; 60] },
        Act::RemoveXattr { node: NodeId(3), name: b"user.a"[..].into() },
        rename(at(1, "fifo"), at(1, "renamed")),
        rename(at(1, "renamed"), at(2, "moved")),
        rename(at(2, "moved"), at(1, "file")),
        make(1, "below", FileKind::Directory),
        rename(at(1, "below"), at(2, "below")),
        Act::Unlink { at: at(2, "link") },
        Act::Unlink { at: at(1, "file") },
        Act::Rmdir { at: at(2, "below") },
        make(0, "three", FileKind::Directory),
    ];
    // Enough to freeze, fold and trim.
    let files = 1 + all.len() as u32;
    all.extend((0..4).map(|nth| make(2, &format!("file {nth}"), FileKind::Regular)));
    for nth in 0..12 {
        let node = NodeId(files + nth % 4);
        let name = format!("user.{nth}").into_bytes();
        all.push(Act::SetXattr { node, name: name.into(), value: vec![nth as u8; 9000] });
        all.push(write(files + nth % 4, u64::from(nth) * 7000, 9000, Sync::Unstable));
    }
    Script { setup: all, at_once: Vec::new() }
}

fn scenario(shards: usize, device_blocks: Vec<u64>) -> Scenario {
    let world = WorldConfig {
        tablets: 4,
        device_blocks,
        fua: true,
        memtable_bytes: 64 << 10,
        log_blocks: 1024,
    };
    Scenario::quiet(5, world, shards)
}

#[test]
fn whatever_fails_is_a_clean_refusal_and_the_next_try_works() {
    for (shards, devices) in [(1, vec![24 << 10]), (2, vec![24 << 10, 16 << 10])] {
        let found = every_operation().fail_everywhere(&scenario(shards, devices));
        let (failures, points) = found.unwrap_or_else(|what| panic!("{shards} shards: {what}"));
        assert!(failures > 100, "only {failures} places can fail");
        for point in [Point::Permit, Point::Promise, Point::Zone, Point::Reservation] {
            assert!(points.contains(&point), "{point:?} never failed");
        }
    }
}
