//! A connection's bytes: record marks, fragments, and the head of each call.
//!
//! The same stream is taken apart three times: by `Framing` in pieces of seeded sizes, by a plain
//! reading of the whole of it written here from RFC 5531, section 11, and by `serve_connection`, which
//! is what a client talks to. All three must see the same records, and the last the same calls.
//!
//! The first byte of an input: 1 has limits so small that they are met, 2 puts one mark that fits in
//! front of all of it. The second is the seed of the pieces.

use super::{Target, Verdict, mode_of};
use crate::specimen::Specimen;
use cairn_base::door::{Link, LinkError};
use cairn_base::prng::Prng;
use cairn_base::{Arena, DmaBuf, DmaSlice};
use cairn_net::record::{Framing, RecordError, RecordLimits, Step, single_fragment_mark};
use cairn_net::rpc::{self, AUTH_SYS, CallHeader, Credential, RpcError};
use cairn_net::server::{Call, ConnectionError, ConnectionLimits, serve_connection};
use cairn_net::xdr::{Encoder, UNIT_BYTES};
use cairn_net::{Budget, InboxError};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, ready};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const SMALL_LIMITS: u8 = 1;
const ONE_RECORD: u8 = 2;

const SMALL: RecordLimits = RecordLimits { record_bytes_max: 256, fragments_max: 3 };

pub const TARGET: Target = Target {
    name: "rpc_record",
    run,
    modes: 4,
    bytes_max: 8 << 10,
    // A mark may announce a record of the largest size, which is made room for at once; a second
    // fragment may ask for that again before the first buffer goes.
    heap_max: 2 * RecordLimits::DEFAULT.record_bytes_max + (512 << 10),
    specimens,
};

fn specimens() -> Vec<Specimen> {
    let null = call(1, 100_003, 0, &[]);
    let sys = call(2, 100_003, 3, &auth_sys(&[4, 24, 27]));
    let whole = |bytes: &[u8]| fragment(bytes, true);
    let pieces = [fragment(&sys[..20], false), fragment(&[], false), fragment(&sys[20..], true)];
    let mismatch = [&null[..8], &3u32.to_be_bytes(), &null[12..]].concat();
    vec![
        Specimen::new("null", &[&[0, 1], &whole(&null)]),
        Specimen::new("auth-sys", &[&[0, 2], &whole(&sys)]),
        Specimen::new("fragments", &[&[0, 3], &pieces.concat(), &whole(&null)]),
        Specimen::new("fragments-at-the-limit", &[&[SMALL_LIMITS, 3], &pieces.concat()]),
        Specimen::new("several", &[&[SMALL_LIMITS, 4], &whole(&null), &whole(&sys), &whole(&null)]),
        Specimen::new("mended", &[&[ONE_RECORD, 5], &sys]),
        Specimen::new("version-3", &[&[ONE_RECORD, 6], &mismatch]),
        Specimen::new("announced", &[&[0, 7], &0x8010_0000u32.to_be_bytes(), &null]),
    ]
}

fn call(xid: u32, program: u32, procedure: u32, credential: &[u8]) -> Vec<u8> {
    let mut call = Encoder::new();
    for word in [xid, 0, 2, program, 3, procedure] {
        call.u32(word);
    }
    call.u32(if credential.is_empty() { 0 } else { AUTH_SYS });
    call.opaque(credential);
    call.u32(0);
    call.opaque(&[]);
    call.opaque(b"a handle, maybe");
    call.parts().0
}

fn auth_sys(groups: &[u32]) -> Vec<u8> {
    let mut body = Encoder::new();
    body.u32(77);
    body.opaque(b"client");
    body.u32(1000);
    body.u32(100);
    body.counted(groups, |to, group| to.u32(*group));
    body.parts().0
}

fn fragment(bytes: &[u8], last: bool) -> Vec<u8> {
    let mut mark = single_fragment_mark(bytes.len());
    mark[0] &= if last { 0xff } else { 0x7f };
    [&mark[..], bytes].concat()
}

/// The records of a stream, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    records: Vec<Vec<u8>>,
    /// True: between two records.
    end: Result<bool, RecordError>,
}

pub fn run(input: &[u8]) -> Verdict {
    let (mode, rest) = mode_of(input);
    let (seed, rest) = mode_of(rest);
    let limits = if mode & SMALL_LIMITS == 0 { RecordLimits::DEFAULT } else { SMALL };
    let stream: Cow<'_, [u8]> = match mode & ONE_RECORD {
        0 => rest.into(),
        _ => fragment(rest, true).into(),
    };
    let taken = in_pieces(limits, &stream, &mut Prng::new(seed.into()));
    assert_eq!(taken, at_once(limits, &stream), "the pieces in which it comes mean nothing");
    let held: usize = taken.records.iter().map(Vec::len).sum();
    assert!(held <= stream.len(), "records hold what came and no more");
    let calls = calls(&taken);
    served(limits, &stream, seed, &taken, &calls);
    verdict(&taken, &calls)
}

fn in_pieces(limits: RecordLimits, stream: &[u8], prng: &mut Prng) -> Taken {
    let mut framing = Framing::new(limits);
    let (mut records, mut record, mut rest) = (Vec::new(), Vec::new(), stream);
    while !rest.is_empty() {
        let piece = 1 + prng.below(70) as usize;
        let (mut input, behind) = rest.split_at(piece.min(rest.len()));
        rest = behind;
        loop {
            let (used, step) = match framing.step(input) {
                Ok(step) => step,
                Err(error) => return Taken { records, end: Err(error) },
            };
            match step {
                Step::Body { bytes } => {
                    assert_eq!(bytes, used);
                    record.extend_from_slice(&input[..bytes]);
                }
                Step::Fragment { record_bytes, .. } => {
                    assert!(record.len() <= record_bytes);
                    assert!(record_bytes <= limits.record_bytes_max);
                    assert_eq!(framing.fragment_left(), record_bytes - record.len());
                }
                Step::End => records.push(std::mem::take(&mut record)),
                Step::Hungry => assert_eq!(used, input.len()),
            }
            input = &input[used..];
            if step == Step::Hungry {
                break;
            }
        }
    }
    Taken { records, end: Ok(framing.at_boundary()) }
}

/// The same by reading the RFC: a record is its fragments, a fragment what its mark says.
fn at_once(limits: RecordLimits, mut rest: &[u8]) -> Taken {
    let (mut records, mut record, mut announced, mut fragments) = (Vec::new(), Vec::new(), 0, 0);
    while let Some((mark, behind)) = rest.split_first_chunk::<4>() {
        let mark = u32::from_be_bytes(*mark);
        let len = (mark & 0x7fff_ffff) as usize;
        (announced, fragments) = (announced + len, fragments + 1);
        if announced > limits.record_bytes_max {
            let end = Err(RecordError::TooLarge { bytes: announced });
            return Taken { records, end };
        }
        if fragments > limits.fragments_max {
            return Taken { records, end: Err(RecordError::TooManyFragments) };
        }
        let Some((body, behind)) = behind.split_at_checked(len) else {
            return Taken { records, end: Ok(false) };
        };
        record.extend_from_slice(body);
        rest = behind;
        if mark >> 31 == 1 {
            records.push(std::mem::take(&mut record));
            (announced, fragments) = (0, 0);
        }
    }
    Taken { records, end: Ok(rest.is_empty() && fragments == 0) }
}

/// What one record is: a call with its arguments, a call that is denied, or no call.
type Read = Result<(CallHeader, Vec<u8>), RpcError>;

fn calls(taken: &Taken) -> Vec<Read> {
    let mut calls = Vec::new();
    for record in &taken.records {
        let read = rpc::decode_call(record).map(|(header, args)| {
            assert!(args.remaining() <= record.len() - 10 * UNIT_BYTES, "a head has ten words");
            assert_eq!(record[..4], header.xid.0.to_be_bytes());
            if let Credential::Sys(sys) = &header.credential {
                assert!(sys.groups().len() <= 16);
            }
            (header, record[record.len() - args.remaining()..].to_vec())
        });
        let last = read == Err(RpcError::NotACall);
        calls.push(read);
        if last {
            break;
        }
    }
    calls
}

/// Sends a stream in pieces, finishes, and takes every answer.
struct Peer {
    stream: Vec<u8>,
    sent: Cell<usize>,
    pieces: RefCell<Prng>,
    answered_bytes: Cell<usize>,
}

impl Link for Peer {
    async fn recv(&self, mut buf: DmaBuf, from: usize) -> (DmaBuf, Result<usize, LinkError>) {
        let at = self.sent.get();
        let piece = 1 + self.pieces.borrow_mut().below(400) as usize;
        let bytes = piece.min(self.stream.len() - at).min(buf.len() - from);
        buf[from..from + bytes].copy_from_slice(&self.stream[at..at + bytes]);
        self.sent.set(at + bytes);
        (buf, Ok(bytes))
    }

    async fn send(&self, bufs: Vec<DmaSlice>) -> Result<(), LinkError> {
        let bytes: usize = bufs.iter().map(|slice| slice.len()).sum();
        self.answered_bytes.set(self.answered_bytes.get() + bytes);
        Ok(())
    }

    fn close(&self) {}

    fn peer(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 700))
    }
}

fn served(limits: RecordLimits, stream: &[u8], seed: u8, taken: &Taken, calls: &[Read]) {
    let link = Peer {
        stream: stream.to_vec(),
        sent: Cell::new(0),
        pieces: RefCell::new(Prng::new(u64::from(seed) + 1)),
        answered_bytes: Cell::new(0),
    };
    let (arena, budget) = (Arena::heap(), Budget::new(usize::MAX));
    let limits = ConnectionLimits { record: limits, ..ConnectionLimits::DEFAULT };
    let seen = RefCell::new(Vec::new());
    let handler = |call: Call| {
        let mut args = call.args();
        let mut bytes = Vec::new();
        while let Ok(word) = args.fixed::<UNIT_BYTES>() {
            bytes.extend_from_slice(&word);
        }
        let odd = args.remaining();
        seen.borrow_mut().push((call.header, bytes, odd));
        (0, ready(Some(rpc::success(call.header.xid))))
    };
    let end = finish(serve_connection(&link, &arena, limits, &budget, |_| pending(), handler));

    let seen = seen.into_inner();
    let good: Vec<_> = calls.iter().filter_map(|call| call.as_ref().ok()).collect();
    assert_eq!(seen.len(), good.len(), "each call is taken once");
    for ((header, bytes, odd), (want, args)) in seen.iter().zip(good) {
        assert_eq!(header, want);
        assert_eq!(bytes[..], args[..args.len() - odd]);
    }
    let want = match (calls.last(), taken.end) {
        (Some(Err(RpcError::NotACall)), _) => Err(ConnectionError::NotACall),
        (_, Err(error)) => Err(ConnectionError::Inbox(InboxError::Record(error))),
        (_, Ok(false)) => Err(ConnectionError::Inbox(InboxError::Cut)),
        (_, Ok(true)) => Ok(()),
    };
    assert_eq!(end, want);
    let denied = calls.iter().filter(|call| matches!(call, Err(RpcError::Denied { .. }))).count();
    let least = seen.len() * 28 + denied * 24;
    assert!(link.answered_bytes.get() >= least, "what was taken is answered");
    assert_eq!(budget.bytes(), 0, "nothing stays on the account of who has gone");
    assert_eq!(budget.open_bytes(), 0);
}

/// Nothing here waits for anything but itself.
fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..100_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
    panic!("a connection that neither moves nor ends");
}

fn verdict(taken: &Taken, calls: &[Read]) -> Verdict {
    let refused = match (calls.last(), taken.end) {
        (Some(Err(RpcError::NotACall)), _) => "not a call",
        (Some(Err(RpcError::Denied { .. })), _) => "denied",
        (_, Err(RecordError::TooLarge { .. })) => "too large",
        (_, Err(RecordError::TooManyFragments)) => "too many fragments",
        (_, Ok(false)) => "cut",
        (None, Ok(true)) => "nothing",
        (Some(Ok(_)), Ok(true)) => return Verdict::Accepted,
    };
    Verdict::Refused(refused.into())
}
