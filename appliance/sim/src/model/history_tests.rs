//! Which answers the oracle believes.

use super::*;
use crate::model::act::{Payload, Place, Sync};
use crate::model::file::SeenFile;
use crate::model::seen::{SeenBody, SeenNode};
use cairn_engine::attr::FileKind;
use cairn_format::Seq;

fn at(dir: u32, name: &str) -> Place {
    Place { dir: NodeId(dir), name: name.as_bytes().into() }
}

fn ino(n: u64) -> InodeNo {
    InodeNo::from_raw(n).expect("not zero")
}

fn create(dir: u32, name: &str) -> Act {
    Act::Make { at: at(dir, name), kind: FileKind::Regular, mode: 0o644 }
}

fn made(n: u64) -> Answer {
    Answer::Node { ino: ino(n), kind: FileKind::Regular }
}

fn lookup(name: &str) -> Act {
    Act::Lookup { at: at(0, name) }
}

/// Asks and answers at once.
fn say(history: &mut History, id: u32, act: Act, answer: Answer) -> Result<(), String> {
    history.ask(RequestId(id), &act);
    history.answer(RequestId(id), &answer)
}

#[test]
fn an_impossible_answer_is_refused() {
    let mut history = History::default();
    say(&mut history, 1, create(0, "a"), made(5)).expect("fine");
    assert!(say(&mut history, 2, create(0, "a"), made(6)).is_err());
    let mut history = History::default();
    say(&mut history, 1, create(0, "a"), made(5)).expect("fine");
    assert!(say(&mut history, 2, lookup("a"), Answer::Refused(FsError::NotFound)).is_err());
    let mut history = History::default();
    say(&mut history, 1, create(0, "a"), made(5)).expect("fine");
    assert!(say(&mut history, 2, create(0, "b"), made(5)).is_err(), "one inode, two nodes");
}

#[test]
fn overlapping_requests_may_be_answered_in_any_order_that_exists() {
    let mut history = History::default();
    history.ask(RequestId(1), &create(0, "a"));
    history.ask(RequestId(2), &Act::Unlink { at: at(0, "a") });
    history.ask(RequestId(3), &create(0, "a"));
    // 1, 2, 3: seen in the order 3, 1, 2.
    history.answer(RequestId(3), &made(7)).expect("the first or the last");
    history.answer(RequestId(1), &made(6)).expect("then the unlink came between");
    history.answer(RequestId(2), &Answer::Done).expect("it was");
    assert!(say(&mut history, 4, lookup("a"), made(9)).is_err());
}

#[test]
fn a_refusal_may_be_older_than_the_change_that_ended_its_reason() {
    let mut history = History::default();
    say(&mut history, 1, create(0, "a"), made(5)).expect("fine");
    history.ask(RequestId(2), &create(0, "a"));
    say(&mut history, 3, Act::Unlink { at: at(0, "a") }, Answer::Done).expect("fine");
    history.answer(RequestId(2), &Answer::Refused(FsError::Exists)).expect("it was, then");
}

#[test]
fn two_creates_of_one_name_cannot_both_succeed() {
    let mut history = History::default();
    history.ask(RequestId(1), &create(0, "a"));
    history.ask(RequestId(2), &create(0, "a"));
    history.answer(RequestId(1), &made(6)).expect("fine");
    assert!(history.answer(RequestId(2), &made(7)).is_err());
}

#[test]
fn a_read_settles_which_of_two_writes_came_last() {
    let write = |tag| {
        let data = Payload { tag, offset: 0, len: 10 };
        (Act::Write { node: NodeId(1), data, sync: Sync::File }, data.bytes())
    };
    let mut history = History::default();
    say(&mut history, 1, create(0, "a"), made(5)).expect("fine");
    let ((first, _), (second, bytes)) = (write(1), write(2));
    history.ask(RequestId(2), &first);
    history.ask(RequestId(3), &second);
    history.answer(RequestId(3), &Answer::Done).expect("fine");
    history.answer(RequestId(2), &Answer::Done).expect("fine");
    assert_eq!(history.worlds_len(), 2);
    let read = Act::Read { node: NodeId(1), offset: 0, len: 10 };
    say(&mut history, 4, read, Answer::Bytes { bytes, eof: true }).expect("one of them");
    assert_eq!(history.worlds_len(), 1);
}

#[test]
fn a_read_during_a_change_of_the_same_thing_proves_nothing() {
    let mut history = History::default();
    history.ask(RequestId(1), &create(0, "a"));
    history.ask(RequestId(2), &lookup("a"));
    history.ask(RequestId(3), &lookup("b"));
    history.answer(RequestId(1), &made(5)).expect("fine");
    history.answer(RequestId(2), &Answer::Refused(FsError::NotFound)).expect("it may be early");
    let wrong = history.answer(RequestId(3), &made(5));
    assert!(wrong.is_err(), "nothing happened to b");
}

/// The tree with the names given, all empty regular files.
fn seen(names: &[(&str, u64)]) -> Seen {
    let node = |kind, nlink, body| SeenNode {
        kind,
        mode: if kind == FileKind::Directory { 0o755 } else { 0o644 },
        gid: 0,
        nlink,
        data_version: 0,
        meta_seq: Seq(0),
        data_seq: Seq(0),
        online_blocks: 0,
        xattrs: BTreeMap::new(),
        body,
    };
    let entries = names.iter().map(|&(name, n)| (name.as_bytes().into(), ino(n))).collect();
    let root = node(FileKind::Directory, 2, SeenBody::Directory(entries));
    let mut nodes: BTreeMap<InodeNo, SeenNode> = [(InodeNo::ROOT, root)].into();
    for &(_, n) in names {
        let body = SeenBody::File(SeenFile::default());
        nodes.insert(ino(n), node(FileKind::Regular, 1, body));
    }
    Seen { nodes, ..Seen::default() }
}

/// a is there and answered; its rename to b and a new c are under way.
fn before_the_cut() -> History {
    let mut history = History::default();
    say(&mut history, 1, create(0, "a"), made(5)).expect("fine");
    history.ask(RequestId(2), &Act::Rename { from: at(0, "a"), to: at(0, "b") });
    history.ask(RequestId(3), &create(0, "c"));
    history
}

#[test]
fn after_a_cut_unanswered_requests_happened_wholly_or_not_at_all() {
    for good in [&[("a", 5)][..], &[("b", 5)], &[("a", 5), ("c", 8)], &[("b", 5), ("c", 8)]] {
        before_the_cut().settle_crash(&seen(good)).expect("allowed");
    }
    for bad in [&[][..], &[("c", 8)], &[("a", 5), ("b", 5)], &[("b", 6)], &[("a", 5), ("d", 8)]] {
        assert!(before_the_cut().settle_crash(&seen(bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn what_was_answered_after_an_unanswered_request_pins_it() {
    let mut history = before_the_cut();
    let put = create(0, "a");
    say(&mut history, 4, put, made(9)).expect("only after the rename");
    let both = seen(&[("a", 9), ("b", 5)]);
    history.settle_crash(&both).expect("allowed");
    assert!(history.is_idle());
    assert!(say(&mut history, 5, create(0, "b"), made(10)).is_err(), "b is there for certain");
}

#[test]
fn a_refusal_does_not_pin_what_it_rested_on() {
    let mut history = History::default();
    history.ask(RequestId(1), &create(0, "a"));
    let refused = Answer::Refused(FsError::Exists);
    say(&mut history, 2, create(0, "a"), refused).expect("the first is there, not yet durable");
    history.settle_crash(&seen(&[])).expect("it was lost, as nothing promised it");
}
