//! Turns the byte stream of one connection into records, each in a buffer of its own.
//!
//! Bytes of unknown meaning are received into a small staging buffer, where many short calls fit at
//! once. As soon as a mark has said how long a record is, its own buffer exists, what is staged is
//! copied there, and the rest is received straight into it. So a short call is copied once, and of a
//! WRITE of a megabyte at most `STAGING_BYTES` are.
//!
//! A large record ends where its buffer ends. The payload of a WRITE is the last thing in its record,
//! so one of whole blocks lies in whole blocks of the buffer, and can go to a device as it is.
//!
//! A receive into a record's buffer may run past the record, since buffers are whole blocks. What
//! lies behind the end is moved back to staging; a direct receive is only begun where that fits.
//!
//! What a mark announces is only a promise, and buffers of the arena are never cut smaller again. So
//! records that are not complete have a bounded part of it (`Budget::open`); where that is used up,
//! by peers who announce much and send little, their buffers come from the heap and go back there.
//!
//! A record that has begun has so long to be complete (`sleep`): a peer that sends a byte now and then
//! would otherwise hold its buffer for ever. Between two records a peer may be silent as long as it
//! likes, as clients with nothing to do are.
//!
//! What always holds: at most one record is being assembled, no buffer is larger than the record
//! limit (rounded up to a block), and the staging buffer is empty whenever a receive begins.

use crate::budget::{Budget, Opening};
use crate::record::{Framing, RecordError, RecordLimits, Step};
use cairn_base::door::{Link, LinkError};
use cairn_base::{Arena, BLOCK_BYTES, DmaBuf, DmaSlice};
use futures_util::future::{Either, select};
use std::future::Future;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;

/// About a hundred short calls. More would only be copied once more in front of a large WRITE.
const STAGING_BYTES: usize = 16 << 10;
/// From here on a record is put at the end of its buffer.
const LARGE_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxError {
    Link(LinkError),
    Record(RecordError),
    /// The peer finished in the middle of a record.
    Cut,
    /// A record that had begun was not complete in time.
    Slow,
}

pub struct Inbox<'a, L, F, S> {
    link: &'a L,
    arena: &'a Arena,
    budget: &'a Budget,
    limits: RecordLimits,
    framing: Framing,
    /// Absent only while the link has it.
    staging: Option<DmaBuf>,
    staged: Range<usize>,
    /// Absent before a record's first mark, and while the link has it.
    assembly: Option<Assembly<'a>>,
    /// Makes the end of a record's time.
    sleep: F,
    /// When the record that has begun must be complete; absent between records.
    due: Option<Pin<Box<S>>>,
}

struct Assembly<'a> {
    buf: DmaBuf,
    /// Where the record begins, and where the next byte goes.
    start: usize,
    filled: usize,
    opening: Opening<'a>,
}

impl<'a, L: Link, F: Fn() -> S, S: Future<Output = ()>> Inbox<'a, L, F, S> {
    pub fn new(
        link: &'a L,
        arena: &'a Arena,
        budget: &'a Budget,
        limits: RecordLimits,
        sleep: F,
    ) -> Self {
        Inbox {
            link,
            arena,
            budget,
            limits,
            framing: Framing::new(limits),
            staging: Some(arena.alloc(STAGING_BYTES)),
            staged: 0..0,
            assembly: None,
            sleep,
            due: None,
        }
    }

    /// The next record, or `None` when the peer has finished between two.
    pub async fn next(&mut self) -> Result<Option<DmaSlice>, InboxError> {
        loop {
            if let Some(record) = self.work_off().map_err(InboxError::Record)? {
                self.due = None;
                return Ok(Some(record));
            }
            if self.framing.at_boundary() {
                self.due = None;
            } else if self.due.is_none() {
                self.due = Some(Box::pin((self.sleep)()));
            }
            let received = match self.due.take() {
                None => self.receive().await,
                Some(mut due) => {
                    let received = match select(pin!(self.receive()), &mut due).await {
                        Either::Left((received, _)) => received,
                        Either::Right(((), _)) => return Err(InboxError::Slow),
                    };
                    self.due = Some(due);
                    received
                }
            };
            if received.map_err(InboxError::Link)? == 0 {
                let clean = self.framing.at_boundary();
                return if clean { Ok(None) } else { Err(InboxError::Cut) };
            }
        }
    }

    async fn receive(&mut self) -> Result<usize, LinkError> {
        match self.assembly.take() {
            Some(assembly) if self.ends_soon_behind(&assembly) => self.fill(assembly).await,
            other => {
                self.assembly = other;
                self.stage().await
            }
        }
    }

    /// Works off what is staged, up to the end of a record.
    fn work_off(&mut self) -> Result<Option<DmaSlice>, RecordError> {
        let staging = self.staging.as_ref().expect("the link has nothing of ours now");
        loop {
            let input = &staging[self.staged.clone()];
            let (used, step) = self.framing.step(input)?;
            match step {
                Step::Hungry => {
                    self.staged.start += used;
                    assert!(self.staged.is_empty(), "hungry means all was eaten");
                    return Ok(None);
                }
                Step::Fragment { record_bytes, last } => {
                    let (arena, budget, limits) = (self.arena, self.budget, self.limits);
                    let room = Room { arena, budget, limits };
                    make_room(&mut self.assembly, room, record_bytes, last);
                }
                Step::Body { bytes } => {
                    let assembly = self.assembly.as_mut().expect("its mark came first");
                    let filled = assembly.filled;
                    assembly.buf[filled..filled + bytes].copy_from_slice(&input[..bytes]);
                    assembly.filled += bytes;
                }
                Step::End => {
                    let Assembly { buf, start, filled, .. } =
                        self.assembly.take().expect("its mark came first");
                    return Ok(Some(DmaSlice::of(&Arc::new(buf), start..filled)));
                }
            }
            self.staged.start += used;
        }
    }

    /// Whether a receive into the record's buffer cannot overrun the fragment by more than staging
    /// holds. True for the usual record, which is one fragment in a buffer of its size.
    fn ends_soon_behind(&self, assembly: &Assembly<'_>) -> bool {
        let left = self.framing.fragment_left();
        left > 0 && assembly.buf.len() - (assembly.filled + left) <= STAGING_BYTES
    }

    async fn fill(&mut self, assembly: Assembly<'a>) -> Result<usize, LinkError> {
        let Assembly { buf, start, filled, opening } = assembly;
        let (buf, received) = self.link.recv(buf, filled).await;
        let received = received?;
        let placed = received.min(self.framing.fragment_left());
        let behind = &buf[filled + placed..filled + received];
        let staging = self.staging.as_mut().expect("only one receive at a time");
        staging[..behind.len()].copy_from_slice(behind);
        self.staged = 0..behind.len();
        self.framing.placed(placed);
        self.assembly = Some(Assembly { buf, start, filled: filled + placed, opening });
        Ok(received)
    }

    async fn stage(&mut self) -> Result<usize, LinkError> {
        let buf = self.staging.take().expect("only one receive at a time");
        let (buf, received) = self.link.recv(buf, 0).await;
        self.staging = Some(buf);
        let received = received?;
        self.staged = 0..received;
        Ok(received)
    }
}

/// Where buffers of records come from, and how large they may become.
struct Room<'a> {
    arena: &'a Arena,
    budget: &'a Budget,
    limits: RecordLimits,
}

/// One fragment gets a buffer of its size. A record in several gets the largest there is, at the
/// second one: growing step by step would copy it over and over, at the peer's choice.
fn make_room<'a>(
    assembly: &mut Option<Assembly<'a>>,
    room: Room<'a>,
    record_bytes: usize,
    last: bool,
) {
    let bytes = match assembly {
        None => record_bytes,
        Some(Assembly { buf, start, .. }) if buf.len() - *start >= record_bytes => return,
        Some(_) if last => record_bytes,
        Some(_) => room.limits.record_bytes_max,
    };
    let to_the_end = last && record_bytes >= LARGE_BYTES;
    let start = if to_the_end { bytes.next_multiple_of(BLOCK_BYTES) - bytes } else { 0 };
    let (opening, arena) = room.budget.open(start + bytes, room.arena);
    let mut buf = arena.alloc(start + bytes);
    let filled = assembly.take().map_or(start, |before| {
        let record = &before.buf[before.start..before.filled];
        buf[start..start + record.len()].copy_from_slice(record);
        start + record.len()
    });
    *assembly = Some(Assembly { buf, start, filled, opening });
}
