//! Named consumers of the change stream: cursors that are kept in the pool.
//!
//! Whoever reads the stream may keep its place itself. A consumer's place is kept here, so that the
//! deletion index is not trimmed before it has gone by (`trim.rs`), and it finds its place again after
//! everything but the pool was lost. The cursors are items of tablet 1, so its owner changes them, one
//! change at a time, and each is durable before it is answered.
//!
//! A cursor goes forward only, and never above what is stable: nothing at or below a cursor can come up
//! later. A *floor* goes with it: what was stable when the consumer began. Who begins at the very beginning
//! learns of every inode that there is, and of none that was gone by then, so deletions up to the floor
//! tell it nothing and hold nothing back.
//!
//! A new consumer may come too late: a step of trimming that was under way did not know of it. So every
//! shard is asked, once the cursor is durable, up to where it has trimmed; each answers between two steps,
//! and later steps know the cursor. One that has missed something is taken out again and refused.

use super::change::Place;
use crate::error::FsError;
use crate::limits::CONSUMERS_MAX;
use crate::peer::{Answer, Ask, mismatch};
use crate::shard::Shard;
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::{Clock, Doors};
use cairn_format::item::{CONSUMER_NAME_BYTES_MAX, ConsumerHead};
use cairn_format::key::{Key, RANGE_CONSUMER};
use cairn_format::{Damage, InodeNo, Seq, ShardId, TabletId};
use std::ops::ControlFlow;
use std::rc::Rc;
use zerocopy::IntoBytes;

/// The tablet that has the cursors.
const CONSUMERS_TABLET: TabletId = InodeNo::ROOT.tablet();
/// How often a consumer that begins now is moved up because trimming was under way.
const TRIES: usize = 8;

/// A consumer's name: 1 to 255 bytes of UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerName(Box<str>);

impl ConsumerName {
    /// `NameTooLong` or `Invalid` when it is none.
    pub fn parse(raw: &str) -> Result<ConsumerName, FsError> {
        match raw {
            _ if raw.len() > CONSUMER_NAME_BYTES_MAX => Err(FsError::NameTooLong),
            _ if raw.is_empty() || raw.chars().any(char::is_control) => Err(FsError::Invalid),
            _ => Ok(ConsumerName(raw.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a new consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At the beginning: it is told of all that there is.
    Beginning,
    /// Behind what is stable now.
    Now,
    /// Behind this place.
    Place(Place),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub name: ConsumerName,
    /// It has seen everything up to and with this place.
    pub cursor: Place,
    /// What was stable when it began.
    pub floor: Seq,
    /// Nanoseconds since 1970.
    pub created: u64,
    /// The same of its last step forward; 0: there was none.
    pub acked: u64,
}

impl Consumer {
    /// Deletions up to and with this place are nothing to it.
    pub fn passed(&self) -> Place {
        self.cursor.max((self.floor, u64::MAX))
    }

    fn parse(value: &[u8]) -> Result<Consumer, Damage> {
        let (head, name) = ConsumerHead::parse(value)?;
        Ok(Consumer {
            name: ConsumerName(name.into()),
            cursor: (Seq(head.seq.get()), head.inode.get()),
            floor: Seq(head.floor.get()),
            created: head.created.get(),
            acked: head.acked.get(),
        })
    }

    fn value(&self) -> Vec<u8> {
        let head = ConsumerHead {
            seq: self.cursor.0.0.into(),
            inode: self.cursor.1.into(),
            floor: self.floor.0.into(),
            created: self.created.into(),
            acked: self.acked.into(),
        };
        [head.as_bytes(), self.name.as_str().as_bytes()].concat()
    }
}

/// What is to become of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tend {
    Add(ConsumerName, Begin),
    /// It has seen everything up to and with the place.
    Ack(ConsumerName, Place),
    Remove(ConsumerName),
}

impl<D: Doors> Shard<D> {
    fn consumers_owner(&self) -> ShardId {
        self.core.pool.owner(CONSUMERS_TABLET)
    }

    /// Changes a consumer, from any shard; durable when it returns. Adding: `Exists`, `Trimmed` when the
    /// history behind the place is not whole any more, `TooManyConsumers`. Else: `NotFound`. `Invalid` is a
    /// place above what is stable, or below the cursor.
    pub async fn tend_consumer(self: &Rc<Self>, tend: Tend) -> Result<(), FsError> {
        let owner = self.consumers_owner();
        if owner == self.core.id {
            return self.tend_here(tend).await;
        }
        self.peers.ask(owner, Ask::Consumer(tend)).await?.done()
    }

    /// All consumers by name, from any shard. What is told is durable.
    pub async fn consumers(self: &Rc<Self>) -> Result<Vec<Consumer>, FsError> {
        let owner = self.consumers_owner();
        if owner == self.core.id {
            return self.consumers_here().await;
        }
        match self.peers.ask(owner, Ask::Consumers).await? {
            Answer::Consumers(consumers) => consumers,
            other => mismatch(&other),
        }
    }

    pub(crate) async fn consumers_here(self: &Rc<Self>) -> Result<Vec<Consumer>, FsError> {
        let mut all = self.read_with(|view| all(view)).await?;
        // Who trims, or goes on at a cursor, must not rely on what a crash takes back.
        self.settle(self.log.newest_ticket()).await?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    pub(crate) async fn tend_here(self: &Rc<Self>, tend: Tend) -> Result<(), FsError> {
        let _turn = self.trims.turn_of_consumers.acquire(1).await;
        match tend {
            Tend::Add(name, begin) => self.add_consumer(name, begin).await,
            Tend::Ack(name, place) => self.ack_consumer(&name, place).await,
            Tend::Remove(name) => self.remove_consumer(&name).await,
        }
    }

    async fn add_consumer(
        self: &Rc<Self>,
        name: ConsumerName,
        begin: Begin,
    ) -> Result<(), FsError> {
        let key = self.consumer_key(&name);
        for tries in 0..TRIES {
            let stable = self.stable().await?;
            let (cursor, floor) = match begin {
                Begin::Beginning => ((Seq(0), u64::MAX), stable),
                Begin::Now => ((stable, u64::MAX), stable),
                Begin::Place(place) if place.0 > stable => return Err(FsError::Invalid),
                Begin::Place(place) => (place, Seq(0)),
            };
            let created = self.clock.wall().max(0) as u64;
            let consumer = Consumer { name: name.clone(), cursor, floor, created, acked: 0 };
            let is_new = tries == 0;
            let need = Need::new(Class::Growing, &[CONSUMERS_TABLET], Need::SMALL);
            let added = self.transact(need, |view| {
                if is_new {
                    if view.get(CONSUMERS_TABLET, &key)?.is_some() {
                        return Err(FsError::Exists.into());
                    }
                    if all(view)?.len() >= CONSUMERS_MAX {
                        return Err(FsError::TooManyConsumers.into());
                    }
                }
                view.put(CONSUMERS_TABLET, key, &consumer.value());
                Ok(())
            });
            let ((), ticket) = added.await?;
            self.settle(ticket).await?;
            let trimmed = self.trimmed_everywhere().await?;
            match trimmed.filter(|trimmed| *trimmed > consumer.passed()) {
                None => return Ok(()),
                Some(to) if matches!(begin, Begin::Place(_)) => {
                    self.remove_consumer(&name).await?;
                    return Err(FsError::Trimmed { to: to.0 });
                }
                Some(_) => {}
            }
        }
        self.remove_consumer(&name).await?;
        Err(FsError::Busy)
    }

    /// Up to where any shard has trimmed deletions, each asked between two of its steps.
    async fn trimmed_everywhere(self: &Rc<Self>) -> Result<Option<Place>, FsError> {
        let mut newest = None;
        for id in (0..self.core.pool.shards).map(ShardId) {
            let trimmed = if id == self.core.id {
                self.trimmed_here().await
            } else {
                match self.peers.ask(id, Ask::Trimmed).await? {
                    Answer::Trimmed(trimmed) => trimmed,
                    other => mismatch(&other),
                }
            };
            newest = newest.max(trimmed?);
        }
        Ok(newest)
    }

    async fn ack_consumer(
        self: &Rc<Self>,
        name: &ConsumerName,
        place: Place,
    ) -> Result<(), FsError> {
        if place.0 > self.stable().await? {
            return Err(FsError::Invalid);
        }
        let key = self.consumer_key(name);
        let now = self.clock.wall().max(0) as u64;
        let need = Need::new(Class::Freeing, &[CONSUMERS_TABLET], Need::SMALL);
        let acked = self.transact(need, |view| {
            let value = view.get(CONSUMERS_TABLET, &key)?.ok_or(FsError::NotFound)?;
            let parsed = Consumer::parse(&value);
            let mut consumer = parsed.map_err(|damage| view.damaged(CONSUMERS_TABLET, damage))?;
            if place < consumer.cursor {
                return Err(FsError::Invalid.into());
            }
            (consumer.cursor, consumer.acked) = (place, now);
            view.put(CONSUMERS_TABLET, key, &consumer.value());
            Ok(())
        });
        let ((), ticket) = acked.await?;
        self.settle(ticket).await
    }

    async fn remove_consumer(self: &Rc<Self>, name: &ConsumerName) -> Result<(), FsError> {
        let key = self.consumer_key(name);
        let need = Need::new(Class::Freeing, &[CONSUMERS_TABLET], Need::SMALL);
        let removed = self.transact(need, |view| {
            if view.get(CONSUMERS_TABLET, &key)?.is_none() {
                return Err(FsError::NotFound.into());
            }
            view.delete(CONSUMERS_TABLET, key);
            Ok(())
        });
        let ((), ticket) = removed.await?;
        self.settle(ticket).await
    }

    fn consumer_key(&self, name: &ConsumerName) -> Key {
        Key::consumer(self.core.pool.name_hash(name.as_str().as_bytes()))
    }
}

/// There are at most `CONSUMERS_MAX`.
fn all(view: &View<'_>) -> Result<Vec<Consumer>, Stop> {
    let prefix = Key::of_range(RANGE_CONSUMER);
    let mut parsed = Vec::new();
    view.scan(CONSUMERS_TABLET, prefix, prefix.prefix_end(), |_, value| {
        parsed.push(Consumer::parse(value));
        ControlFlow::Continue(())
    })?;
    let all: Result<Vec<Consumer>, Damage> = parsed.into_iter().collect();
    all.map_err(|damage| view.damaged(CONSUMERS_TABLET, damage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_some_text_of_one_line() {
        assert!(ConsumerName::parse("tape library 2 (Köln)").is_ok());
        assert_eq!(ConsumerName::parse(""), Err(FsError::Invalid));
        assert_eq!(ConsumerName::parse("a\nb"), Err(FsError::Invalid));
        assert!(ConsumerName::parse(&"x".repeat(255)).is_ok());
        assert_eq!(ConsumerName::parse(&"x".repeat(256)), Err(FsError::NameTooLong));
    }

    #[test]
    fn a_consumer_comes_back_from_its_item() {
        let consumer = Consumer {
            name: ConsumerName::parse("tape").expect("a name"),
            cursor: (Seq(7), u64::MAX),
            floor: Seq(5),
            created: 1,
            acked: 2,
        };
        assert_eq!(Consumer::parse(&consumer.value()), Ok(consumer.clone()));
        assert_eq!(consumer.passed(), (Seq(7), u64::MAX));
        let beginning = Consumer { cursor: (Seq(0), u64::MAX), ..consumer };
        assert_eq!(beginning.passed(), (Seq(5), u64::MAX));
    }
}
