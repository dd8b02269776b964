//! Who waits for data that is on the archive tier.
//!
//! A client whose request met offline data is told to come again, and until it does a waiter stands here for
//! it: the inode, the first block that was offline, what the client wanted, and which client it is. Archive
//! agents list the waiters and stage what they wait for, so a waiter is a queued recall. No task and no
//! request waits with it. A client that asks again is the same waiter as before.
//!
//! A waiter goes when its block is online (or a hole, or gone with its file), when an agent has set an error
//! for it and the client has been told, or when the client has not asked for two minutes. What goes online is
//! forgotten by the stage that brings it; whatever else takes offline data away is noticed when waiters are
//! listed.
//!
//! All of it is in memory: after a restart clients ask again. There are so many waiters at most, and one
//! client has so many as its frontend allows; who would be one too many is told to come again all the same,
//! and is taken in when there is room.

use crate::data::{mapped, regular_file};
use crate::error::FsError;
use crate::limits::EXTENT_BLOCKS_MAX;
use crate::shard::Shard;
use crate::txn::{Stop, View};
use cairn_base::Nanos;
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::EXTENT_OFFLINE;
use cairn_format::key::Key;
use cairn_reactor::{WaitList, race};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::ops::{ControlFlow, Range};
use std::rc::Rc;

/// Of one waiter with its places in both orders, for who divides memory: as `cairn-accept waiters` weighs a
/// million of them.
pub const WAITER_BYTES: usize = 168;

/// A client that has not asked for so long does not wait any more.
const WAITER_AGE_MAX: u32 = 120;
/// Between two looks for those.
const EXPIRY_ROUND: Nanos = Nanos::from_secs(10);
/// Waiters that one stretch looks at.
const STEP_WAITERS: usize = 1024;

/// What a client wanted of offline data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitOp {
    Read,
    Write,
    ChangeSize,
}

impl WaitOp {
    pub const ALL: [WaitOp; 3] = [WaitOp::Read, WaitOp::Write, WaitOp::ChangeSize];

    /// As the reference names it.
    pub fn name(self) -> &'static str {
        match self {
            WaitOp::Read => "read",
            WaitOp::Write => "write",
            WaitOp::ChangeSize => "change_size",
        }
    }
}

/// One client that waits for one range, as agents see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub ino: InodeNo,
    /// The first block that was offline.
    pub block: u64,
    /// From there to the end of what is needed.
    pub blocks: u64,
    pub op: WaitOp,
    /// IPv4 addresses are mapped.
    pub client: Ipv6Addr,
    /// Since the client asked first.
    pub age: Nanos,
    /// Rises from waiter to waiter of a shard.
    pub arrival: u64,
}

/// In which order waiters are listed, and behind which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitersFrom {
    /// By inode and block: behind all that wait for this one.
    Place(InodeNo, u64),
    /// By inode and block: behind this waiter of the shard that listed it.
    Behind(WaiterKey),
    /// By arrival: behind this one.
    Arrival(u64),
}

/// Some waiters, where those behind them are, and whether there are any now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitersPage {
    pub waiters: Vec<Waiter>,
    pub next: WaitersFrom,
    pub is_last: bool,
}

/// Where a waiter stands on its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaiterKey {
    ino: u64,
    block: u64,
    op: WaitOp,
    client: u32,
}

impl WaiterKey {
    fn first_of(ino: InodeNo, block: u64) -> WaiterKey {
        WaiterKey { ino: ino.raw(), block, op: WaitOp::Read, client: 0 }
    }

    fn last_of(ino: InodeNo, block: u64) -> WaiterKey {
        WaiterKey { ino: ino.raw(), block, op: WaitOp::ChangeSize, client: u32::MAX }
    }

    /// The one behind it.
    fn next(self) -> Option<WaiterKey> {
        Some(WaiterKey { client: self.client.checked_add(1)?, ..self })
    }

    fn ino(self) -> InodeNo {
        InodeNo::from_raw(self.ino).expect("made of one")
    }
}

/// Times are seconds of the shard's clock, which begins with it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    arrival: u64,
    blocks: u64,
    first: u32,
    last: u32,
    /// Set by an agent: the answer to the client's next request. 0: none.
    errno: u16,
}

struct ClientEntry {
    address: Ipv6Addr,
    waiters: u32,
}

/// The waiters of one shard.
pub(crate) struct Waiters {
    table: RefCell<Table>,
    changed: WaitList,
    max: usize,
}

#[derive(Default)]
struct Table {
    by_place: BTreeMap<WaiterKey, Entry>,
    by_arrival: BTreeMap<u64, WaiterKey>,
    clients: HashMap<Ipv6Addr, u32>,
    client_entries: Vec<ClientEntry>,
    free_clients: Vec<u32>,
    next_arrival: u64,
}

/// What became of a request that met offline data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// It is a waiter; one that had not been before?
    Waits { is_new: bool },
    /// There are too many.
    Refused,
    /// An agent has said what to answer.
    Told(u16),
}

impl Table {
    fn client(&mut self, address: Ipv6Addr) -> u32 {
        if let Some(known) = self.clients.get(&address) {
            return *known;
        }
        let entry = ClientEntry { address, waiters: 0 };
        let id = match self.free_clients.pop() {
            Some(id) => {
                self.client_entries[id as usize] = entry;
                id
            }
            None => {
                self.client_entries.push(entry);
                (self.client_entries.len() - 1) as u32
            }
        };
        self.clients.insert(address, id);
        id
    }

    fn drop_idle_client(&mut self, id: u32) {
        let entry = &self.client_entries[id as usize];
        if entry.waiters == 0 {
            self.clients.remove(&entry.address);
            self.free_clients.push(id);
        }
    }

    fn ask(&mut self, who: &Asker, place: (InodeNo, Range<u64>), now: u32, max: usize) -> Asked {
        let (ino, blocks) = place;
        let client = self.client(who.client);
        let key = WaiterKey { ino: ino.raw(), block: blocks.start, op: who.op, client };
        if let Some(entry) = self.by_place.get_mut(&key) {
            if entry.errno != 0 {
                let errno = entry.errno;
                self.remove(&key);
                return Asked::Told(errno);
            }
            entry.last = now;
            entry.blocks = blocks.end - blocks.start;
            return Asked::Waits { is_new: false };
        }
        let waiters = self.client_entries[client as usize].waiters;
        if self.by_place.len() >= max || waiters >= who.waiters_max {
            self.drop_idle_client(client);
            return Asked::Refused;
        }
        self.next_arrival += 1;
        let arrival = self.next_arrival;
        let blocks = blocks.end - blocks.start;
        self.by_place.insert(key, Entry { arrival, blocks, first: now, last: now, errno: 0 });
        self.by_arrival.insert(arrival, key);
        self.client_entries[client as usize].waiters += 1;
        Asked::Waits { is_new: true }
    }

    fn remove(&mut self, key: &WaiterKey) {
        let Some(entry) = self.by_place.remove(key) else { return };
        self.by_arrival.remove(&entry.arrival);
        self.client_entries[key.client as usize].waiters -= 1;
        self.drop_idle_client(key.client);
    }

    fn waiter(&self, key: WaiterKey, now: u32) -> Option<Waiter> {
        let entry = self.by_place.get(&key).filter(|entry| entry.errno == 0)?;
        Some(Waiter {
            ino: key.ino(),
            block: key.block,
            blocks: entry.blocks,
            op: key.op,
            client: self.client_entries[key.client as usize].address,
            age: Nanos::from_secs(u64::from(now.saturating_sub(entry.first))),
            arrival: entry.arrival,
        })
    }

    /// Some keys of an order, and where those behind them are.
    fn keys(&self, from: WaitersFrom) -> (Vec<WaiterKey>, WaitersFrom) {
        use std::ops::Bound::{Excluded, Unbounded};
        let by_place = |behind: WaiterKey| {
            let range = self.by_place.range((Excluded(behind), Unbounded));
            range.map(|(key, _)| *key).take(STEP_WAITERS).collect()
        };
        let keys: Vec<WaiterKey> = match from {
            WaitersFrom::Place(ino, block) => by_place(WaiterKey::last_of(ino, block)),
            WaitersFrom::Behind(key) => by_place(key),
            WaitersFrom::Arrival(behind) => {
                let range = self.by_arrival.range((Excluded(behind), Unbounded));
                range.map(|(_, key)| *key).take(STEP_WAITERS).collect()
            }
        };
        let next = keys.last().map(|last| match from {
            WaitersFrom::Arrival(_) => WaitersFrom::Arrival(self.by_place[last].arrival),
            WaitersFrom::Place(..) | WaitersFrom::Behind(_) => WaitersFrom::Behind(*last),
        });
        (keys, next.unwrap_or(from))
    }

    /// Sets an error for those of an inode's waiters, from one on, who want some of these blocks for one of
    /// these. How many that are, and where to go on.
    fn fail(
        &mut self,
        from: WaiterKey,
        blocks: &Range<u64>,
        ops: &[WaitOp],
        errno: u16,
    ) -> (u64, Option<WaiterKey>) {
        let (mut failed, mut seen, mut last) = (0, 0, from);
        let to = WaiterKey { block: blocks.end, op: WaitOp::Read, client: 0, ..from };
        for (key, entry) in self.by_place.range_mut(from..to.max(from)).take(STEP_WAITERS) {
            (seen, last) = (seen + 1, *key);
            let meets = key.block + entry.blocks > blocks.start;
            if meets && ops.contains(&key.op) && entry.errno == 0 {
                entry.errno = errno;
                failed += 1;
            }
        }
        (failed, (seen == STEP_WAITERS).then(|| last.next()).flatten())
    }

    /// Forgets those among some behind a place who have not asked for long: how many, and which was the last
    /// that was looked at.
    fn expire(&mut self, behind: Option<WaiterKey>, now: u32) -> (u64, Option<WaiterKey>) {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = behind.map_or(Unbounded, Excluded);
        let range = self.by_place.range((from, Unbounded)).take(STEP_WAITERS);
        let some: Vec<(WaiterKey, u32)> = range.map(|(key, entry)| (*key, entry.last)).collect();
        let silent = |asked: u32| now.saturating_sub(asked) > WAITER_AGE_MAX;
        let gone: Vec<&WaiterKey> =
            some.iter().filter(|(_, asked)| silent(*asked)).map(|(key, _)| key).collect();
        gone.iter().for_each(|key| self.remove(key));
        (gone.len() as u64, some.last().map(|(key, _)| *key))
    }

    /// Some of the waiters from one on, up to another.
    fn some(&self, from: WaiterKey, to: WaiterKey) -> Vec<WaiterKey> {
        let range = self.by_place.range(from..to.max(from));
        range.map(|(key, _)| *key).take(STEP_WAITERS).collect()
    }
}

impl Waiters {
    pub fn new(max: usize) -> Waiters {
        Waiters { table: RefCell::default(), changed: WaitList::new(), max }
    }

    pub fn len(&self) -> usize {
        self.table.borrow().by_place.len()
    }

    pub fn wake(&self) {
        self.changed.wake_all();
    }
}

/// Whose request met offline data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub op: WaitOp,
    pub client: Ipv6Addr,
    pub waiters_max: u32,
}

/// What a stretch has found of what was asked for.
enum Look {
    Asked(Asked),
    /// Online up to here.
    Up(u64),
    Online,
}

impl<D: Doors> Shard<D> {
    /// Takes in a client whose request met something offline in a range of blocks. `Some`: what an agent
    /// wants it to be told, once; otherwise it is to come again.
    pub(crate) async fn wait_for(
        &self,
        ino: InodeNo,
        blocks: Range<u64>,
        who: &Asker,
    ) -> Result<Option<u16>, FsError> {
        let now = self.waiters_now();
        let mut from = blocks.start;
        let asked = loop {
            let look = self.read_with(|view| {
                let item = view.inode(ino)?;
                if item.offline_blocks.get() == 0 {
                    return Ok(Look::Online);
                }
                // In the same stretch: a stage that ends later finds the waiter.
                Ok(match first_offline(view, ino, from..blocks.end)? {
                    Ok(first) => {
                        let place = (ino, first..blocks.end);
                        let mut table = self.waiters.table.borrow_mut();
                        Look::Asked(table.ask(who, place, now, self.waiters.max))
                    }
                    Err(to) if to < blocks.end => Look::Up(to),
                    Err(_) => Look::Online,
                })
            });
            match look.await? {
                Look::Asked(asked) => break asked,
                Look::Up(to) => from = to,
                Look::Online => return Ok(None),
            }
            self.handle.yield_now().await;
        };
        let counters = &self.core.counters;
        match asked {
            Asked::Waits { is_new } => {
                counters.recalls.add(u64::from(is_new));
                self.waiters.wake();
                Ok(None)
            }
            Asked::Refused => {
                counters.recalls_refused.add(1);
                Ok(None)
            }
            Asked::Told(errno) => {
                counters.waiters_told.add(1);
                Ok(Some(errno))
            }
        }
    }

    /// Waiters of this shard whose data is still offline, some at a time.
    pub async fn waiting(&self, from: WaitersFrom) -> Result<WaitersPage, FsError> {
        let (keys, next) = self.waiters.table.borrow().keys(from);
        self.forget_served(&keys).await?;
        let (table, now) = (self.waiters.table.borrow(), self.waiters_now());
        let is_last = keys.len() < STEP_WAITERS;
        let waiters = keys.into_iter().filter_map(|key| table.waiter(key, now)).collect();
        Ok(WaitersPage { waiters, next, is_last })
    }

    /// Has the next request of each that waits for some of these blocks fail with an errno. How many that are.
    pub(crate) async fn fail_waiters(
        &self,
        ino: InodeNo,
        blocks: Range<u64>,
        ops: &[WaitOp],
        errno: u16,
    ) -> Result<u64, FsError> {
        let mut failed = 0;
        let mut from = WaiterKey::first_of(ino, 0);
        loop {
            let step = self.waiters.table.borrow_mut().fail(from, &blocks, ops, errno);
            failed += step.0;
            match step.1 {
                Some(next) => from = next,
                None => return Ok(failed),
            }
            self.handle.yield_now().await;
        }
    }

    /// Forgets who waits for some of these blocks and has them now.
    pub(crate) async fn wake_waiters(
        &self,
        ino: InodeNo,
        blocks: Range<u64>,
    ) -> Result<(), FsError> {
        let mut from = WaiterKey::first_of(ino, blocks.start);
        let to = WaiterKey::first_of(ino, blocks.end);
        loop {
            let keys = self.waiters.table.borrow().some(from, to);
            self.forget_served(&keys).await?;
            let last = keys.last().filter(|_| keys.len() == STEP_WAITERS);
            match last.and_then(|last| last.next()) {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Forgets those of these waiters whose block is not offline any more.
    async fn forget_served(&self, keys: &[WaiterKey]) -> Result<(), FsError> {
        for of_inode in keys.chunk_by(|a, b| a.ino == b.ino) {
            let ino = of_inode[0].ino();
            let served = self.read_with(|view| served(view, ino, of_inode)).await;
            let served = match served {
                Ok(served) => served,
                // The file is gone, and with it whoever waited for it.
                Err(FsError::NotFound | FsError::Stale) => of_inode.to_vec(),
                Err(error) => return Err(error),
            };
            let mut table = self.waiters.table.borrow_mut();
            for key in &served {
                table.remove(key);
            }
        }
        Ok(())
    }

    /// The task that forgets clients which do not ask any more; ends when the shard stops.
    pub(crate) async fn run_waiters(self: Rc<Self>) {
        let over = || self.is_stopping() || self.log.has_failed();
        loop {
            let some = || (over() || self.waiters.len() > 0).then_some(());
            self.waiters.changed.until(some).await;
            let ended = self.waiters.changed.until(|| over().then_some(()));
            race(self.handle.sleep(EXPIRY_ROUND), ended).await;
            if over() {
                return;
            }
            self.forget_silent().await;
        }
    }

    async fn forget_silent(&self) {
        let mut behind = None;
        loop {
            let now = self.waiters_now();
            let (expired, last) = self.waiters.table.borrow_mut().expire(behind, now);
            self.core.counters.waiters_expired.add(expired);
            if last.is_none() {
                return;
            }
            behind = last;
            self.handle.yield_now().await;
        }
    }

    fn waiters_now(&self) -> u32 {
        u32::try_from(self.monotonic().0 / 1_000_000_000).unwrap_or(u32::MAX)
    }
}

/// Extents that one stretch looks at.
const LOOK_EXTENTS: usize = 4096;

/// The first offline block of a range; or up to where there is none.
fn first_offline(
    view: &View<'_>,
    ino: InodeNo,
    blocks: Range<u64>,
) -> Result<Result<u64, u64>, Stop> {
    // No extent goes over the end of an aligned MiB of the file.
    let from = blocks.start - blocks.start % EXTENT_BLOCKS_MAX;
    let (mut first, mut damage) = (None, None);
    let (mut to, mut seen) = (blocks.end, 0);
    view.scan(ino.tablet(), Key::extent(ino, from), Key::extent(ino, blocks.end), |key, value| {
        match mapped(&key, value) {
            Ok(extent) if extent.head.is(EXTENT_OFFLINE) && extent.end_block() > blocks.start => {
                first = Some(extent.first_block.max(blocks.start));
            }
            Ok(extent) => {
                seen += 1;
                if seen == LOOK_EXTENTS {
                    to = extent.end_block().max(blocks.start);
                }
            }
            Err(bad) => damage = Some(bad),
        }
        match first.is_some() || damage.is_some() || seen == LOOK_EXTENTS {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    match damage {
        Some(damage) => Err(view.damaged(ino.tablet(), damage)),
        None => Ok(first.ok_or(to)),
    }
}

/// Those of these waiters of one inode whose block is not offline.
fn served(view: &View<'_>, ino: InodeNo, keys: &[WaiterKey]) -> Result<Vec<WaiterKey>, Stop> {
    regular_file(view, ino)?;
    let mut served = Vec::new();
    for of_block in keys.chunk_by(|a, b| a.block == b.block) {
        let block = of_block[0].block;
        if first_offline(view, ino, block..block + 1)?.is_err() {
            served.extend_from_slice(of_block);
        }
    }
    Ok(served)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, n)
    }

    fn ino(n: u64) -> InodeNo {
        InodeNo::from_raw(n).expect("not zero")
    }

    fn asker(n: u16, waiters_max: u32) -> Asker {
        Asker { op: WaitOp::Read, client: client(n), waiters_max }
    }

    #[test]
    fn a_client_that_asks_again_is_the_same_waiter() {
        let mut table = Table::default();
        let ask = |table: &mut Table, who, now| table.ask(&asker(who, 9), (ino(7), 3..5), now, 9);
        assert_eq!(ask(&mut table, 1, 10), Asked::Waits { is_new: true });
        assert_eq!(ask(&mut table, 1, 20), Asked::Waits { is_new: false });
        assert_eq!(ask(&mut table, 2, 20), Asked::Waits { is_new: true });
        let (keys, next) = table.keys(WaitersFrom::Place(ino(7), 2));
        let waiters: Vec<_> = keys.iter().filter_map(|key| table.waiter(*key, 25)).collect();
        assert_eq!((waiters.len(), next), (2, WaitersFrom::Behind(keys[1])));
        let first = &waiters[0];
        assert_eq!((first.block, first.blocks, first.client), (3, 2, client(1)));
        assert_eq!(first.age, Nanos::from_secs(15));
        assert!(table.keys(WaitersFrom::Place(ino(7), 3)).0.is_empty());
        assert_eq!(table.keys(WaitersFrom::Arrival(1)).0, [keys[1]]);
    }

    #[test]
    fn an_error_is_told_once_and_is_not_listed_meanwhile() {
        let mut table = Table::default();
        let ask = |table: &mut Table| table.ask(&asker(1, 9), (ino(7), 3..5), 1, 9);
        ask(&mut table);
        let key = table.keys(WaitersFrom::Arrival(0)).0[0];
        table.by_place.get_mut(&key).expect("it waits").errno = 5;
        assert_eq!(table.waiter(key, 1), None);
        assert_eq!(ask(&mut table), Asked::Told(5));
        assert_eq!(ask(&mut table), Asked::Waits { is_new: true });
    }

    #[test]
    fn there_are_so_many_and_a_client_has_so_many() {
        let mut table = Table::default();
        let ask = |table: &mut Table, who, block, most| {
            table.ask(&asker(who, most), (ino(7), block..block + 1), 1, 3)
        };
        let (new, refused) = (Asked::Waits { is_new: true }, Asked::Refused);
        assert_eq!(ask(&mut table, 1, 1, 1), new);
        assert_eq!(ask(&mut table, 1, 2, 1), refused);
        assert_eq!(ask(&mut table, 2, 2, 9), new);
        assert_eq!(ask(&mut table, 2, 3, 9), new);
        assert_eq!(ask(&mut table, 3, 4, 9), refused);
        assert_eq!((table.clients.len(), table.free_clients.len()), (2, 1));
        for key in table.keys(WaitersFrom::Arrival(0)).0 {
            table.remove(&key);
        }
        assert!(table.clients.is_empty() && table.by_arrival.is_empty());
        assert_eq!(ask(&mut table, 1, 2, 1), new);
        assert_eq!(table.client_entries.len(), 3, "numbers of clients are used again");
    }
}
