//! The disk door over simulated media: commands become futures that the world completes.
//!
//! A `Disk` is one boot's view of the media. Handles are cheap to clone, one for each shard; the
//! media outlive them. A future registers its waker here and is woken by `Disk::complete_next`, which
//! the world calls when it decides that time has come. Futures of an earlier boot never complete:
//! their handle's tables went with the power. Dropping a future abandons the wait; the command goes
//! on, as the door's contract says.
//!
//! All shards of a boot share one handle's tables, so a flush that failed is known to all of them at
//! once: later ones of that device fail as well, whatever the media say, as `nvme` has it.

use crate::media::{Block, Command, CommandId, Media, Outcome};
use cairn_base::door::{self, Durability, MediaError};
use cairn_base::{Arena, BLOCK_BYTES, BlockNo, DeviceId, DmaBuf, DmaSlice, Run};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Clone)]
pub struct Disk {
    media: Rc<RefCell<Media>>,
    waits: Rc<RefCell<BTreeMap<CommandId, Wait>>>,
    /// Those under way, also when nobody waits for them any more.
    flushes: Rc<RefCell<BTreeMap<CommandId, DeviceId>>>,
    /// Devices of which a flush has failed, and how.
    unflushed: Rc<RefCell<BTreeMap<DeviceId, MediaError>>>,
    arena: Arena,
    zeros: Block,
}

enum Wait {
    /// Submitted, and polled with this waker if at all.
    Open(Option<Waker>),
    Done(Outcome),
}

impl Disk {
    pub fn new(media: &Rc<RefCell<Media>>) -> Disk {
        let zeros = vec![0; BLOCK_BYTES].into();
        Disk {
            media: media.clone(),
            waits: Rc::default(),
            flushes: Rc::default(),
            unflushed: Rc::default(),
            arena: Arena::heap(),
            zeros,
        }
    }

    pub fn media(&self) -> &Rc<RefCell<Media>> {
        &self.media
    }

    /// Completes the command that is due first and wakes its waiter. False when none is in flight.
    pub fn complete_next(&self) -> bool {
        let Some((id, outcome)) = self.media.borrow_mut().complete_next() else { return false };
        let outcome = match self.flushes.borrow_mut().remove(&id) {
            Some(device) => self.flushed(device, outcome),
            None => outcome,
        };
        let previous = match self.waits.borrow_mut().get_mut(&id) {
            Some(wait) => std::mem::replace(wait, Wait::Done(outcome)),
            None => return true, // nobody waits any more
        };
        // Outside the borrow: waking may run code that comes back here.
        if let Wait::Open(Some(waker)) = previous {
            waker.wake();
        }
        true
    }

    /// What everybody is told of a flush once one has failed.
    fn flushed(&self, device: DeviceId, outcome: Outcome) -> Outcome {
        let mut unflushed = self.unflushed.borrow_mut();
        if let Err(error) = &outcome {
            unflushed.entry(device).or_insert(*error);
        }
        unflushed.get(&device).map_or(outcome, |error| Err(*error))
    }

    /// A copy that the media may share; blocks of zeros, of which there are many, share one.
    fn keep(&self, block: &[u8]) -> Block {
        match block.iter().all(|&byte| byte == 0) {
            true => self.zeros.clone(),
            false => block.into(),
        }
    }

    fn submit(&self, command: Command) -> Completion {
        let id = self.media.borrow_mut().submit(command);
        if let Some(id) = id {
            self.waits.borrow_mut().insert(id, Wait::Open(None));
        }
        Completion { disk: self.clone(), id }
    }
}

impl door::Disk for Disk {
    fn device_count(&self) -> usize {
        self.media.borrow().device_count()
    }

    fn device_blocks(&self, device: DeviceId) -> u64 {
        self.media.borrow().device_blocks(device)
    }

    fn has_fua(&self, device: DeviceId) -> bool {
        self.media.borrow().has_fua(device)
    }

    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn blocks_read(&self) -> u64 {
        let media = self.media.borrow();
        let devices = (0..media.device_count()).map(|index| DeviceId(index as u8));
        devices.map(|device| media.traffic(device).blocks_read).sum()
    }

    fn read(
        &self,
        at: BlockNo,
        mut buf: DmaBuf,
    ) -> impl Future<Output = (DmaBuf, Result<(), MediaError>)> {
        let blocks = (buf.len() / BLOCK_BYTES) as u64;
        let completion = self.submit(Command::Read { at, blocks });
        async move {
            match completion.await {
                Ok(content) => {
                    for (to, from) in buf.chunks_exact_mut(BLOCK_BYTES).zip(&content) {
                        to.copy_from_slice(from);
                    }
                    (buf, Ok(()))
                }
                Err(error) => (buf, Err(error)),
            }
        }
    }

    fn write(
        &self,
        at: BlockNo,
        bufs: Vec<DmaSlice>,
        want: Durability,
    ) -> impl Future<Output = Result<(), MediaError>> {
        let mut content = Vec::new();
        for slice in &bufs {
            assert!(slice.len().is_multiple_of(BLOCK_BYTES), "a slice holds whole blocks");
            content.extend(slice.chunks_exact(BLOCK_BYTES).map(|block| self.keep(block)));
        }
        let completion = self.submit(Command::Write { at, content, want });
        async move { completion.await.map(drop) }
    }

    fn flush(&self, device: DeviceId) -> impl Future<Output = Result<(), MediaError>> {
        let completion = self.submit(Command::Flush { device });
        if let Some(id) = completion.id {
            self.flushes.borrow_mut().insert(id, device);
        }
        async move { completion.await.map(drop) }
    }

    fn discard(&self, run: Run) -> impl Future<Output = Result<(), MediaError>> {
        let completion = self.submit(Command::Discard { run });
        async move { completion.await.map(drop) }
    }
}

struct Completion {
    disk: Disk,
    /// `None` when the power was off: then it never completes.
    id: Option<CommandId>,
}

impl Future for Completion {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let Some(id) = self.id else { return Poll::Pending };
        let mut waits = self.disk.waits.borrow_mut();
        match waits.remove(&id) {
            Some(Wait::Done(outcome)) => Poll::Ready(outcome),
            Some(Wait::Open(_)) => {
                waits.insert(id, Wait::Open(Some(context.waker().clone())));
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let wait = self.disk.waits.borrow_mut().remove(&id);
        drop(wait); // its waker may own a task: not inside the borrow
    }
}
