//! Reading everything that the pool refers to, and comparing it with what refers to it, while clients
//! go on.
//!
//! A block that nobody asks for may rot for years, and is missed when it is too late to do anything about
//! it. So a *pass* goes over all tablets, each shard over its own: every node of every tree (`walk.rs`),
//! every filter, every data block of every file (`data.rs`), both copies of the superblocks and of each
//! tablet's root (`fronts.rs`), from the device and not from a cache.
//!
//! A pass goes in steps along the keys of a tablet: some nodes, or about a MiB of data. Each step takes
//! the trees as they are then, and holds a read guard as long as it reads, so that nothing it was referred
//! to can be overwritten meanwhile. Trees may be merged and folded between two steps: what is in them then
//! was written since, and what was there before has kept its keys. What is found is believed when it was
//! read twice and is still what the pool refers to.
//!
//! One shard, the owner of tablet 1, gives the orders (`order.rs`); all of them, the places that tablets
//! have come to and what was found are items (`keep.rs`), so a pass goes on after a restart, and nothing
//! that was found is forgotten. A record that is lost with the power means that a few steps are done again.
//!
//! Clients come first (`pace.rs`): steps wait while they do something, beside the rate that was asked for.
//!
//! Not here: the write logs, which an open reads as a whole; space, links and indexes, which `cairn check`
//! compares with each other; repairing anything, which needs a second copy.

mod data;
mod found;
mod fronts;
mod keep;
mod order;
mod pace;
mod walk;

pub use found::{Damaged, What};
pub use order::{Command, ScrubReport, ScrubState};

use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_base::{BLOCK_BYTES, Nanos};
use cairn_format::TabletId;
use cairn_format::item::ScrubItem;
use cairn_format::key::Key;
use cairn_reactor::{Semaphore, WaitList};
use keep::Place;
use pace::Pacer;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use walk::Walked;

/// A tablet's place is written down so often.
const SAVE_EVERY: Nanos = Nanos::from_secs(5);

/// What a shard is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub pass: u64,
    /// Bytes that this shard may read in a second; 0: as many as it can.
    pub rate: u64,
    /// Else it only has to know where it is.
    pub runs: bool,
}

/// A shard's part of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub tablets: u64,
    pub tablets_done: u64,
    pub nodes: u64,
    pub blocks: u64,
    pub findings: u64,
    pub unlisted: u64,
    /// There is no space to write down where it is.
    pub unsaved: bool,
    /// It has not read yet where it is.
    pub is_loading: bool,
}

pub(crate) struct Scrub {
    order: Cell<Order>,
    /// Orders are counted, so that one that is given again is seen as well.
    orders: Cell<u64>,
    loaded: Cell<u64>,
    changed: WaitList,
    places: RefCell<BTreeMap<TabletId, Place>>,
    unsaved: Cell<bool>,
    /// Of tablet 1, on its owner, once it was read.
    plan: Cell<Option<ScrubItem>>,
    turn: Semaphore,
}

impl Default for Scrub {
    fn default() -> Scrub {
        Scrub {
            order: Cell::default(),
            orders: Cell::default(),
            loaded: Cell::default(),
            changed: WaitList::new(),
            places: RefCell::default(),
            unsaved: Cell::default(),
            plan: Cell::default(),
            turn: Semaphore::new(1),
        }
    }
}

impl Scrub {
    fn give(&self, order: Order) {
        self.order.set(order);
        self.orders.set(self.orders.get() + 1);
        self.changed.wake_all();
    }

    pub fn wake(&self) {
        self.changed.wake_all();
    }
}

impl<D: Doors> Shard<D> {
    /// The scrubbing task: ends when the shard stops.
    pub(crate) async fn run_scrub(self: Rc<Self>) {
        self.resume_plan().await;
        let mut seen = 0;
        loop {
            let next = self.scrub.changed.until(|| {
                if self.is_stopping() || self.log.has_failed() {
                    return Some(None);
                }
                (self.scrub.orders.get() != seen).then(|| Some(self.scrub.orders.get()))
            });
            let Some(number) = next.await else { return };
            seen = number;
            let order = self.scrub.order.get();
            if order.pass > 0 {
                self.follow(number, order).await;
            }
        }
    }

    /// Until the shard's part is done, or there is another order.
    async fn follow(self: &Rc<Self>, number: u64, order: Order) {
        let tablets: Vec<TabletId> = self.core.tablets().map(|tablet| tablet.id).collect();
        for id in &tablets {
            if !self.load_place(*id, order.pass).await {
                return;
            }
        }
        self.scrub.loaded.set(order.pass);
        let mut pacer = Pacer::new(order.rate);
        for id in tablets.into_iter().filter(|_| order.runs) {
            if self.is_scrubbed(id) {
                continue;
            }
            let mut saved_at = self.handle.now();
            let mut walked = None;
            while !self.is_scrubbed(id) {
                if !self.is_wanted(number) {
                    // Whoever goes on finds where it was. A stop waits for nothing more.
                    if !self.is_stopping() {
                        self.save(id).await;
                    }
                    return;
                }
                let bytes = self.scrub_step(id, &mut walked).await;
                let next = self.next_step_at(&mut pacer, bytes);
                // Before a long wait, and not behind it.
                if next >= saved_at + SAVE_EVERY {
                    self.save(id).await;
                    saved_at = self.handle.now();
                }
                self.give_way(next, number).await;
            }
            self.finish_tablet(id).await;
        }
        if order.runs && self.is_wanted(number) {
            self.tell_done(order.pass).await;
        }
    }

    fn is_wanted(&self, number: u64) -> bool {
        self.scrub.orders.get() == number && !self.is_stopping() && !self.log.has_failed()
    }

    /// The next nodes of a tablet, or the next data that those of the step before map; how many bytes it
    /// has read.
    async fn scrub_step(self: &Rc<Self>, id: TabletId, kept: &mut Option<Walked>) -> u64 {
        self.core.counters.scrub_steps.add(1);
        let Some(mut walked) = kept.take() else {
            let cursor = self.cursor_in_scrub(id);
            let fronts = if cursor == Key::MIN { self.scrub_fronts(id).await } else { 0 };
            let walked = self.walk_step(id, cursor).await;
            self.note_found(id, &walked.found);
            self.change_place(id, |place| place.nodes += walked.nodes);
            let bytes = fronts + walked.bytes;
            *kept = Some(walked);
            return bytes;
        };
        let read = self.data_step(id, &mut walked).await;
        let blocks = read.as_ref().map_or(0, |read| read.blocks);
        if let Some(read) = read {
            self.note_found(id, &read.found);
            self.change_place(id, |place| {
                place.blocks += blocks;
                place.cursor = read.next;
                place.is_done = read.next == Key::MAX;
            });
            if read.next < walked.end {
                *kept = Some(walked);
            }
        }
        blocks * BLOCK_BYTES as u64
    }

    pub(crate) fn part_here(&self, pass: u64) -> Part {
        let places = self.scrub.places.borrow();
        let mut part = Part {
            tablets: self.core.tablets().count() as u64,
            is_loading: self.scrub.loaded.get() != pass,
            unsaved: self.scrub.unsaved.get(),
            ..Part::default()
        };
        for place in places.values().filter(|place| place.pass == pass) {
            part.tablets_done += u64::from(place.is_done);
            part.nodes += place.nodes;
            part.blocks += place.blocks;
            part.findings += place.findings();
            part.unlisted += place.unlisted;
        }
        part
    }

    /// On every shard: what is to be done from now on.
    pub(crate) fn order_here(&self, order: Order) {
        self.scrub.give(order);
    }
}
