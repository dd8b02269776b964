//! All the states that could be true, given what concurrent clients asked and were told.
//!
//! Requests of several clients overlap, and the engine may put overlapping ones in any order. So
//! the oracle keeps a set of *worlds*: each is one order that explains every answer so far. When an
//! answer arrives, each world must have, or find, a place for the request: alone, or after some of
//! the unanswered requests that touch the same things. A world that finds none is dropped; when none
//! is left, the engine answered something impossible.
//!
//! Answers to reads are compared exactly, and drop the worlds they contradict, unless a change of
//! the same things was under way at any time during the read: no promise is made about those.
//!
//! After a power cut the question is which states the disk may hold. Everything answered is there;
//! of the unanswered requests each may have happened or not. `after_crash` gives all those states,
//! and `model/file.rs` says what each allows about data that was not committed.

use crate::model::act::{Act, NodeId, RequestId};
use crate::model::file::Allow;
use crate::model::footprint::{Footprint, conflict, merge};
use crate::model::reading::{Answer, Read, judge_read};
use crate::model::seen::Seen;
use crate::model::tree::{Body, Done, Fate, Fingerprints, Inodes, Node, Tree};
use cairn_engine::error::FsError;
use cairn_format::InodeNo;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

/// What was concluded of a request, once it has a place in a world's order.
type Outcome = Result<Done, Vec<FsError>>;

#[derive(Clone, PartialEq, Eq)]
struct World {
    /// Before the first request of `order`.
    base: Tree,
    /// From the oldest change that is placed but not answered on.
    order: Vec<Placed>,
    now: Tree,
}

#[derive(Clone, PartialEq, Eq)]
struct Placed {
    id: RequestId,
    act: Act,
    outcome: Outcome,
    /// It changed something. What did not may rest on changes that are lost: its answer promised
    /// nothing to last.
    changed: bool,
    answered: bool,
}

/// Ways in which possible states differ from what was seen, in one report.
const REASONS_MAX: usize = 3;

/// States that were looked at.
struct Shown<'a> {
    prints: Fingerprints<'a>,
    seen: HashSet<u64>,
}

/// Why none of the possible states is the one that was seen.
#[derive(Default)]
struct Reasons {
    states: usize,
    why: Vec<String>,
}

impl Reasons {
    fn add(&mut self, what: String) {
        self.states += 1;
        if self.why.len() < REASONS_MAX && !self.why.contains(&what) {
            self.why.push(what);
        }
    }

    fn text(&self) -> String {
        format!("none of {} possible states: {}", self.states, self.why.join("; or: "))
    }
}

#[derive(Clone)]
pub struct History {
    worlds: Vec<World>,
    changes: BTreeMap<RequestId, Act>,
    reads: BTreeMap<RequestId, Read>,
    inodes: Inodes,
    nodes: BTreeMap<InodeNo, NodeId>,
    /// Reads that were compared exactly.
    checked_reads: u64,
    /// Files that an agent has been at since all was online: they may be offline in part.
    offline: BTreeSet<NodeId>,
}

impl Default for History {
    fn default() -> History {
        let tree = Tree::default();
        History {
            worlds: vec![World { base: tree.clone(), order: Vec::new(), now: tree }],
            changes: BTreeMap::new(),
            reads: BTreeMap::new(),
            inodes: [(NodeId::ROOT, InodeNo::ROOT)].into(),
            nodes: [(InodeNo::ROOT, NodeId::ROOT)].into(),
            checked_reads: 0,
            offline: BTreeSet::new(),
        }
    }
}

impl History {
    /// One possible present, to choose requests by.
    pub fn present(&self) -> &Tree {
        &self.worlds[0].now
    }

    pub fn inode(&self, node: NodeId) -> Option<InodeNo> {
        self.inodes.get(&node).copied()
    }

    pub fn worlds_len(&self) -> usize {
        self.worlds.len()
    }

    pub fn checked_reads(&self) -> u64 {
        self.checked_reads
    }

    pub fn is_idle(&self) -> bool {
        self.changes.is_empty() && self.reads.is_empty()
    }

    /// Whether this answer says nothing once buffered data was lost. A COMMIT over NFS comes with a verifier,
    /// which the client has compared: with another one than its writes had it says that they are lost.
    pub fn proves_nothing_after_a_loss(
        &self,
        id: RequestId,
        answer: &Answer,
        over_nfs: bool,
    ) -> bool {
        let is_commit = matches!(self.changes.get(&id), Some(Act::Commit { .. }));
        let is_lost = *answer == Answer::Refused(FsError::Stopped);
        self.reads.contains_key(&id) || is_commit && (is_lost || !over_nfs)
    }

    /// An UNCHECKED create may make a file or find one, and its answer does not say which. Beside
    /// another change of the same name, nobody could tell which request made the node.
    pub fn would_confuse(&self, act: &Act) -> bool {
        let is_open = |act: &Act| matches!(act, Act::Open { .. });
        let mine = self.footprint(act);
        let others = self.changes.values().filter(|other| is_open(act) || is_open(other));
        others.map(|other| self.footprint(other)).any(|other| conflict(&mine, &other))
    }

    pub fn ask(&mut self, id: RequestId, act: &Act) {
        let footprint = self.footprint(act);
        if act.is_read() {
            let mut read =
                Read { act: act.clone(), disturbed: false, moving_names: BTreeSet::new() };
            for change in self.changes.values() {
                read.disturb(&footprint, &self.footprint(change));
            }
            self.reads.insert(id, read);
            return;
        }
        let mut reads = std::mem::take(&mut self.reads);
        for read in reads.values_mut() {
            read.disturb(&self.footprint(&read.act), &footprint);
        }
        self.reads = reads;
        self.changes.insert(id, act.clone());
    }

    /// From now on a file may refuse what needs its data.
    pub fn may_be_offline(&mut self, node: NodeId) {
        self.offline.insert(node);
    }

    /// All files were seen to be online, and no agent is at work.
    pub fn all_online(&mut self) {
        self.offline.clear();
    }

    fn is_offline_answer(&self, act: &Act, answer: &Answer) -> bool {
        let (Act::Read { node, .. } | Act::Write { node, .. } | Act::Truncate { node, .. }) = act
        else {
            return false;
        };
        *answer == Answer::Refused(FsError::Offline) && self.offline.contains(node)
    }

    /// Takes in an answer. The error says why it is impossible.
    pub fn answer(&mut self, id: RequestId, answer: &Answer) -> Result<(), String> {
        if let Some(read) = self.reads.remove(&id) {
            return self.observe(id, &read, answer);
        }
        let act = self.changes.get(&id).cloned().ok_or(format!("{id:?} was answered twice"))?;
        if *answer == Answer::Refused(FsError::Busy) || self.is_offline_answer(&act, answer) {
            return self.withdraw(id, &act);
        }
        let mut explained = Vec::new();
        for world in std::mem::take(&mut self.worlds) {
            self.explain(world, id, &act, answer, &mut explained);
        }
        if explained.is_empty() {
            return Err(format!("{id:?} {act:?} was answered {answer:?}: no order explains it"));
        }
        self.changes.remove(&id);
        for mut world in explained {
            world.close(id);
            if !self.worlds.contains(&world) {
                self.worlds.push(world);
            }
        }
        if let Answer::Node { ino, .. } = *answer {
            self.learn(id, &act, ino)?;
        }
        Ok(())
    }

    /// Busy means that nothing was done, and so does Offline.
    fn withdraw(&mut self, id: RequestId, act: &Act) -> Result<(), String> {
        self.changes.remove(&id);
        self.worlds.retain(|world| world.order.iter().all(|placed| placed.id != id));
        match self.worlds.is_empty() {
            true => Err(format!("{id:?} {act:?} was refused but had its effect")),
            false => Ok(()),
        }
    }

    /// Finds every order of unanswered requests that ends with `id` and gives `answer`.
    fn explain(
        &self,
        world: World,
        id: RequestId,
        act: &Act,
        answer: &Answer,
        found: &mut Vec<World>,
    ) {
        if let Some(placed) = world.order.iter().find(|placed| placed.id == id) {
            if self.fits(id, act, &placed.outcome, answer) {
                found.push(world);
            }
            return;
        }
        let related = self.related(&world, id, act);
        let mut alone = world.clone();
        let outcome = alone.place(id, act);
        if self.fits(id, act, &outcome, answer) {
            found.push(alone);
        }
        for other in related {
            let mut longer = world.clone();
            // Also where it is refused: that may be the very answer it will get.
            let _outcome = longer.place(other, &self.changes[&other]);
            self.explain(longer, id, act, answer, found);
        }
    }

    /// The unanswered, unplaced requests that could matter to `act`: they touch what it touches,
    /// or what such a one touches.
    fn related(&self, world: &World, id: RequestId, act: &Act) -> Vec<RequestId> {
        let mut reach = world.now.footprint(act);
        let mut open: Vec<(RequestId, Footprint)> = self
            .changes
            .iter()
            .filter(|(other, _)| **other != id && world.order.iter().all(|p| p.id != **other))
            .map(|(&other, act)| (other, world.now.footprint(act)))
            .collect();
        let mut related = Vec::new();
        while let Some(index) = open.iter().position(|(_, other)| conflict(&reach, other)) {
            let (other, footprint) = open.swap_remove(index);
            related.push(other);
            merge(&mut reach, footprint);
        }
        related
    }

    fn fits(&self, id: RequestId, act: &Act, outcome: &Outcome, answer: &Answer) -> bool {
        match (outcome, answer) {
            (Ok(Done::Nothing), Answer::Done) => true,
            (Ok(Done::Node(node)), Answer::Node { ino, .. }) => {
                match (self.inodes.get(node), self.nodes.get(ino)) {
                    (Some(told), _) => told == ino,
                    // A node nobody was told of has a number nobody was told.
                    (None, taken) => taken.is_none() || (*node == id.node() && act.is_read()),
                }
            }
            (Err(why), Answer::Refused(error)) => why.contains(error),
            _ => false,
        }
    }

    /// Whose inode number a client was just told.
    fn learn(&mut self, id: RequestId, act: &Act, ino: InodeNo) -> Result<(), String> {
        // The worlds agree on it: see `would_confuse`.
        let node = match act {
            Act::Open { at, .. } => match self.worlds[0].now.child(at) {
                Some(node) if !self.inodes.contains_key(&node) => node,
                _ => return Ok(()),
            },
            _ => id.node(),
        };
        if let Some(other) = self.nodes.insert(ino, node)
            && other != node
        {
            return Err(format!("inode {ino} was given to {other:?} and again to {node:?}"));
        }
        self.inodes.insert(node, ino);
        Ok(())
    }

    fn observe(&mut self, id: RequestId, read: &Read, answer: &Answer) -> Result<(), String> {
        let is_refused =
            *answer == Answer::Refused(FsError::Busy) || self.is_offline_answer(&read.act, answer);
        if read.disturbed || is_refused {
            return Ok(());
        }
        self.checked_reads += 1;
        let inodes = &self.inodes;
        let mut why = None;
        self.worlds.retain(|world| match judge_read(&world.now, read, answer, inodes) {
            Ok(()) => true,
            Err(what) => {
                why = Some(what);
                false
            }
        });
        match why {
            Some(what) if self.worlds.is_empty() => Err(format!("{id:?} {:?}: {what}", read.act)),
            _ => Ok(()),
        }
    }

    fn footprint(&self, act: &Act) -> Footprint {
        let mut all = Footprint::new();
        for world in &self.worlds {
            merge(&mut all, world.now.footprint(act));
        }
        all
    }

    /// A file that a crash could change, in some world.
    pub fn uncommitted(&self) -> Option<NodeId> {
        let mut nodes = self.worlds.iter().flat_map(|world| world.now.nodes());
        let is_open = |node: &Node| matches!(&node.body, Body::File(file) if !file.is_settled());
        nodes.find_map(|(id, node)| is_open(node).then_some(id))
    }

    /// With no client waiting: what was read back must be one of the worlds, and is then the only
    /// one.
    pub fn settle_idle(&mut self, seen: &Seen) -> Result<(), String> {
        assert!(self.changes.is_empty(), "only an idle history has one present");
        let mut reasons = Reasons::default();
        for world in std::mem::take(&mut self.worlds) {
            let tree = world.now;
            match tree.judge(seen, &self.inodes, Allow::Present) {
                Err(what) => reasons.add(what),
                Ok(inodes) => {
                    self.inodes.extend(inodes);
                    let world = World { base: tree.clone(), order: Vec::new(), now: tree };
                    if !self.worlds.contains(&world) {
                        self.worlds.push(world);
                    }
                }
            }
        }
        if self.worlds.is_empty() { Err(reasons.text()) } else { Ok(()) }
    }

    /// After a crash and a restart: what was read back must be allowed, and is then the truth.
    pub fn settle_crash(&mut self, seen: &Seen) -> Result<(), String> {
        let mut reasons = Reasons::default();
        let found =
            self.after_crash(&mut |tree| match tree.judge(seen, &self.inodes, Allow::AfterCrash) {
                Ok(inodes) => ControlFlow::Break((tree, inodes)),
                Err(what) => {
                    reasons.add(what);
                    ControlFlow::Continue(())
                }
            });
        self.changes.clear();
        self.reads.clear();
        self.worlds.clear();
        let ControlFlow::Break((mut tree, inodes)) = found else { return Err(reasons.text()) };
        tree.settle_as(seen, &inodes);
        // What a crash took is gone, and its numbers with it.
        self.nodes.extend(inodes.iter().map(|(&node, &ino)| (ino, node)));
        self.inodes.extend(inodes);
        self.worlds.push(World { base: tree.clone(), order: Vec::new(), now: tree });
        Ok(())
    }

    /// Shows each state that the disk may hold when the power went off now, once, until `visit` ends it. There
    /// are too many of them to keep.
    fn after_crash<B>(&self, visit: &mut impl FnMut(Tree) -> ControlFlow<B>) -> ControlFlow<B> {
        let held = self.worlds.iter().flat_map(|world| [&world.base, &world.now]);
        let mut shown = Shown { prints: Fingerprints::new(held), seen: HashSet::new() };
        for world in &self.worlds {
            let open: Vec<RequestId> =
                world.order.iter().filter(|p| !p.answered).map(|p| p.id).collect();
            for kept in 0..1_u32 << open.len() {
                let lost =
                    |id| open.iter().position(|&o| o == id).is_some_and(|n| kept >> n & 1 == 0);
                let Some(tree) = world.replay_without(lost) else { continue };
                let unplaced: Vec<RequestId> = self
                    .changes
                    .keys()
                    .filter(|&&id| world.order.iter().all(|placed| placed.id != id))
                    .copied()
                    .collect();
                self.with_some(tree, &unplaced, &mut shown, visit)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// `tree`, and `tree` with each of `open` added in any order and number.
    fn with_some<B>(
        &self,
        tree: Tree,
        open: &[RequestId],
        shown: &mut Shown<'_>,
        visit: &mut impl FnMut(Tree) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (index, &id) in open.iter().enumerate() {
            let act = &self.changes[&id];
            if tree.refusals(act).is_empty() {
                let mut more = tree.clone();
                more.apply(id, act, Fate::Unanswered);
                let mut rest = open.to_vec();
                rest.remove(index);
                self.with_some(more, &rest, shown, visit)?;
            }
        }
        match shown.seen.insert(shown.prints.of(&tree)) {
            true => visit(tree),
            false => ControlFlow::Continue(()),
        }
    }

    /// The blocks of any file in which anything but zeros is possible: what a reading back of a
    /// large file must look at.
    pub fn interesting_blocks(&self) -> BTreeSet<u64> {
        let mut blocks = BTreeSet::new();
        let mut add = |tree: &Tree| {
            for (id, _) in tree.nodes() {
                blocks.extend(tree.file(id).into_iter().flat_map(|file| file.interesting()));
            }
        };
        for world in &self.worlds {
            add(&world.now);
            add(&world.base);
        }
        for act in self.changes.values() {
            if let Act::Write { data, .. } = act {
                blocks.extend(data.offset / 4096..=(data.offset + u64::from(data.len)) / 4096);
            }
        }
        blocks
    }
}

impl World {
    fn place(&mut self, id: RequestId, act: &Act) -> Outcome {
        let changed = !self.now.leaves_as_it_is(act);
        let outcome = play(&mut self.now, id, act, Fate::Answered);
        let placed = Placed {
            id,
            act: act.clone(),
            outcome: outcome.clone(),
            changed: changed && outcome.is_ok(),
            answered: false,
        };
        self.order.push(placed);
        outcome
    }

    /// `id` was answered. What no unanswered request stands before is certain.
    fn close(&mut self, id: RequestId) {
        for placed in &mut self.order {
            placed.answered |= placed.id == id;
        }
        while self.order.first().is_some_and(|placed| placed.answered) {
            let first = self.order.remove(0);
            let again = play(&mut self.base, first.id, &first.act, Fate::Answered);
            debug_assert!(again == first.outcome);
        }
    }

    /// The state without the unanswered requests that `lost` names. `None` when an answer that was
    /// given would then have been impossible.
    fn replay_without(&self, lost: impl Fn(RequestId) -> bool) -> Option<Tree> {
        let mut tree = self.base.clone();
        for placed in self.order.iter().filter(|placed| !lost(placed.id)) {
            if placed.answered && !placed.changed {
                continue;
            }
            let fate = if placed.answered { Fate::Answered } else { Fate::Unanswered };
            let outcome = play(&mut tree, placed.id, &placed.act, fate);
            if placed.answered && outcome != placed.outcome {
                return None;
            }
        }
        Some(tree)
    }
}

fn play(tree: &mut Tree, id: RequestId, act: &Act, fate: Fate) -> Outcome {
    let why = tree.refusals(act);
    match why.is_empty() {
        true => Ok(tree.apply(id, act, fate)),
        false => Err(why),
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
