//! Answers on their way out, several to a send.
//!
//! Answers leave in the order in which they were finished, not in which they were asked for. While
//! one send is on the wire others gather here, and the next send takes them together: under load
//! the batches grow by themselves, and a lone answer waits for nobody.
//!
//! A batch is one buffer with the record marks and fields of all its answers, cut where payloads
//! stand between them. Payload slices are passed on as they are.

use crate::record::{MARK_BYTES, single_fragment_mark};
use crate::xdr::Encoder;
use cairn_base::{Arena, DmaBuf, DmaSlice};
use std::ops::Range;
use std::sync::Arc;

/// A batch ends at the first answer that reaches one of these. The bytes are what a socket takes at
/// once in the best case; the slices stay far below the kernel's 1,024.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_SLICES: usize = 128;

/// Takes answers from the front of `queue` until the batch is full, and at least one.
pub fn batch<T>(
    arena: &Arena,
    queue: &mut impl Iterator<Item = (Encoder, T)>,
) -> (Vec<DmaSlice>, Vec<T>) {
    let mut answers = Vec::new();
    let mut tickets = Vec::new();
    let (mut bytes, mut fields_bytes, mut slices) = (0, 0, 0);
    while bytes < BATCH_BYTES && slices < BATCH_SLICES {
        let Some((answer, ticket)) = queue.next() else { break };
        let whole = answer.len();
        let (fields, payloads) = answer.parts();
        bytes += MARK_BYTES + whole;
        fields_bytes += MARK_BYTES + fields.len();
        slices += 1 + 2 * payloads.len();
        answers.push((whole, fields, payloads));
        tickets.push(ticket);
    }

    let mut head = Head { buf: arena.alloc(fields_bytes), end: 0 };
    let mut parts = Vec::with_capacity(slices);
    let mut cut = 0;
    for (whole, fields, payloads) in answers {
        head.put(&single_fragment_mark(whole));
        let mut from = 0;
        for payload in payloads {
            head.put(&fields[from..payload.at]);
            from = payload.at;
            parts.push(Part::Fields(cut..head.end));
            parts.push(Part::Payload(payload.slice));
            cut = head.end;
        }
        head.put(&fields[from..]);
    }
    parts.push(Part::Fields(cut..head.end));
    let head = Arc::new(head.buf);
    let slices = parts.into_iter().filter_map(|part| match part {
        Part::Fields(range) if range.is_empty() => None,
        Part::Fields(range) => Some(DmaSlice::of(&head, range)),
        Part::Payload(slice) => Some(slice),
    });
    (slices.collect(), tickets)
}

struct Head {
    buf: DmaBuf,
    end: usize,
}

impl Head {
    fn put(&mut self, bytes: &[u8]) {
        self.buf[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }
}

enum Part {
    Fields(Range<usize>),
    Payload(DmaSlice),
}
