//! Remembers the answers of calls that must not be carried out twice.
//!
//! A client that lost its connection sends its unanswered calls again. A REMOVE that had been done
//! would then answer "no such file", and a CREATE "exists", for what in truth succeeded. So calls of
//! the procedures that change names or attributes come past here: the first of its kind is carried
//! out and its answer kept, a repetition gets that answer, byte for byte, and a repetition that
//! arrives while the first is still running waits for it.
//!
//! A call is recognised by a keyed hash over the client's address (not its port: a new connection
//! has another one), the xid, the procedure, who asks, and the arguments. The xid alone is not
//! enough, as clients behind one address choose theirs independently. The hash is keyed so that
//! nobody can make two calls look like one.
//!
//! What always holds: a call in progress is never forgotten; finished ones are forgotten oldest
//! first, above `entries_max`, above `bytes_max`, or after `age_max`. Calls in progress are bounded by
//! what connections may have open (`cairn_net::server`). A claim that is dropped without an answer
//! forgets the call and lets the next repetition carry it out; `server.rs` runs such calls in tasks of
//! their own, which a broken connection does not end, so that happens at shutdown only.
//!
//! The limitation: this cache belongs to the shard that serves the connection, not to the shard that
//! applies the operation. A client whose new connection is accepted by another shard is not
//! recognised there, and neither is one that comes back after a restart. Then a repeated call is
//! carried out again, with the answers above; no data is at risk. Closing the gap takes a key beside
//! each operation in the mail to the shard that applies it, and this module there.

use cairn_base::Nanos;
use cairn_base::hash::{Map, siphash128};
use cairn_net::rpc::Xid;
use cairn_reactor::WaitList;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyCacheLimits {
    pub entries_max: usize,
    pub bytes_max: usize,
    pub age_max: Nanos,
}

impl ReplyCacheLimits {
    /// Clients repeat a call after one minute on a silent connection, at once on a new one. An
    /// answer with a handle and three sets of attributes takes about 400 bytes.
    pub const DEFAULT: ReplyCacheLimits = ReplyCacheLimits {
        entries_max: 1 << 14,
        bytes_max: 8 << 20,
        age_max: Nanos::from_secs(120),
    };
}

/// What makes two calls the same call.
pub struct CallIdentity<'a> {
    pub client: IpAddr,
    pub xid: Xid,
    pub procedure: u32,
    pub uid: u32,
    pub args: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey(u128);

impl CallIdentity<'_> {
    pub fn key(&self, secret: &[u8; 16]) -> CallKey {
        let client = match self.client.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut bytes = Vec::with_capacity(28 + self.args.len());
        bytes.extend(client.octets());
        bytes.extend(self.xid.0.to_be_bytes());
        bytes.extend(self.procedure.to_be_bytes());
        bytes.extend(self.uid.to_be_bytes());
        bytes.extend(self.args);
        CallKey(siphash128(secret, &bytes))
    }
}

/// What to do with a call.
pub enum Admission {
    /// Carry it out, and tell the claim its answer.
    New(Claim),
    /// It has been carried out: this was the answer.
    Replay(Rc<[u8]>),
}

pub struct ReplyCache {
    limits: ReplyCacheLimits,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    entries: Map<CallKey, Entry>,
    /// The finished ones, oldest first.
    finished: VecDeque<(CallKey, Nanos)>,
    bytes: usize,
}

enum Entry {
    Running(Rc<WaitList>),
    Finished(Rc<[u8]>),
}

impl ReplyCache {
    pub fn new(limits: ReplyCacheLimits) -> Rc<ReplyCache> {
        Rc::new(ReplyCache { limits, state: RefCell::default() })
    }

    /// Waits while the same call is running.
    pub async fn admit(self: &Rc<Self>, key: CallKey) -> Admission {
        loop {
            let running = match self.state.borrow_mut().entries.entry(key) {
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(Entry::Running(Rc::new(WaitList::new())));
                    return Admission::New(Claim { cache: self.clone(), key });
                }
                std::collections::hash_map::Entry::Occupied(entry) => match entry.get() {
                    Entry::Finished(reply) => return Admission::Replay(reply.clone()),
                    Entry::Running(waiting) => waiting.clone(),
                },
            };
            running.until(|| (!self.runs_under(key, &running)).then_some(())).await;
        }
    }

    fn runs_under(&self, key: CallKey, waiting: &Rc<WaitList>) -> bool {
        match self.state.borrow().entries.get(&key) {
            Some(Entry::Running(current)) => Rc::ptr_eq(current, waiting),
            Some(Entry::Finished(_)) | None => false,
        }
    }

    fn finish(&self, key: CallKey, reply: Rc<[u8]>, now: Nanos) {
        let mut state = self.state.borrow_mut();
        state.bytes += reply.len();
        state.finished.push_back((key, now));
        let before = state.entries.insert(key, Entry::Finished(reply));
        state.shrink(&self.limits, now);
        drop(state);
        wake(before);
    }

    fn abandon(&self, key: CallKey) {
        let before = self.state.borrow_mut().entries.remove(&key);
        wake(before);
    }
}

fn wake(entry: Option<Entry>) {
    if let Some(Entry::Running(waiting)) = entry {
        waiting.wake_all();
    }
}

impl State {
    fn shrink(&mut self, limits: &ReplyCacheLimits, now: Nanos) {
        while let Some((key, finished_at)) = self.finished.front().copied() {
            let old = now.saturating_sub(finished_at) > limits.age_max;
            if !old && self.finished.len() <= limits.entries_max && self.bytes <= limits.bytes_max {
                break;
            }
            self.finished.pop_front();
            if let Some(Entry::Finished(reply)) = self.entries.remove(&key) {
                self.bytes -= reply.len();
            }
        }
    }
}

/// The right, and the duty, to carry out one call.
pub struct Claim {
    cache: Rc<ReplyCache>,
    key: CallKey,
}

impl Claim {
    pub fn finish(self, reply: Rc<[u8]>, now: Nanos) {
        self.cache.finish(self.key, reply, now);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let runs =
            matches!(self.cache.state.borrow().entries.get(&self.key), Some(Entry::Running(_)));
        if runs {
            self.cache.abandon(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    const LIMITS: ReplyCacheLimits =
        ReplyCacheLimits { entries_max: 3, bytes_max: 100, age_max: Nanos(1000) };

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// What `admit` says without waiting: the claim, the answer, or neither yet.
    fn admit(cache: &Rc<ReplyCache>, key: u128) -> Option<Result<Claim, Vec<u8>>> {
        match poll(pin!(cache.admit(CallKey(key)))) {
            Poll::Ready(Admission::New(claim)) => Some(Ok(claim)),
            Poll::Ready(Admission::Replay(reply)) => Some(Err(reply.to_vec())),
            Poll::Pending => None,
        }
    }

    fn claim(cache: &Rc<ReplyCache>, key: u128) -> Claim {
        let Some(Ok(claim)) = admit(cache, key) else { panic!("call {key} is new") };
        claim
    }

    #[test]
    fn a_repeated_call_gets_the_first_answer() {
        let cache = ReplyCache::new(LIMITS);
        claim(&cache, 1).finish((*b"done").into(), Nanos(5));
        let Some(Err(reply)) = admit(&cache, 1) else { panic!("a replay") };
        assert_eq!(reply, b"done");
        drop(claim(&cache, 2));
    }

    #[test]
    fn a_repetition_waits_for_the_call_in_progress() {
        let cache = ReplyCache::new(LIMITS);
        let first = claim(&cache, 1);
        let mut second = pin!(cache.admit(CallKey(1)));
        assert!(poll(second.as_mut()).is_pending());
        first.finish((*b"done").into(), Nanos(5));
        let Poll::Ready(Admission::Replay(reply)) = poll(second) else { panic!("a replay") };
        assert_eq!(&reply[..], b"done");
    }

    #[test]
    fn an_abandoned_call_is_carried_out_by_one_of_its_repetitions() {
        let cache = ReplyCache::new(LIMITS);
        let first = claim(&cache, 1);
        let mut second = pin!(cache.admit(CallKey(1)));
        let mut third = pin!(cache.admit(CallKey(1)));
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        drop(first);
        let Poll::Ready(Admission::New(claim)) = poll(second) else { panic!("a claim") };
        assert!(poll(third.as_mut()).is_pending());
        claim.finish((*b"done").into(), Nanos(5));
        assert!(matches!(poll(third), Poll::Ready(Admission::Replay(_))));
    }

    #[test]
    fn the_oldest_answers_go_first_by_count_by_bytes_and_by_age() {
        let cache = ReplyCache::new(LIMITS);
        let known = |key| matches!(admit(&cache, key), Some(Err(_)));
        for key in 0..4 {
            claim(&cache, key).finish((*b"four").into(), Nanos(5));
        }
        assert!(!known(0) && known(1) && known(3));
        claim(&cache, 10).finish([0; 95].into(), Nanos(6));
        assert!(!known(2) && known(3) && known(10), "4 + 95 bytes are kept");
        claim(&cache, 11).finish((*b"x").into(), Nanos(1006));
        assert!(!known(3) && known(10) && known(11), "999 is not too old");
        claim(&cache, 12).finish((*b"x").into(), Nanos(1007));
        assert!(!known(10) && known(11) && known(12));
        let state = cache.state.borrow();
        assert_eq!((state.bytes, state.finished.len(), state.entries.len()), (2, 2, 2));
    }

    #[test]
    fn each_part_of_a_calls_identity_tells_calls_apart_but_the_form_of_the_address_does_not() {
        let of = |client: &str, xid, procedure, uid, args| {
            let client = client.parse().unwrap();
            CallIdentity { client, xid: Xid(xid), procedure, uid, args }.key(&[1; 16])
        };
        let call = of("127.0.0.1", 1, 8, 0, b"args");
        assert_eq!(of("::ffff:127.0.0.1", 1, 8, 0, b"args"), call);
        assert_ne!(of("127.0.0.2", 1, 8, 0, b"args"), call);
        assert_ne!(of("127.0.0.1", 2, 8, 0, b"args"), call);
        assert_ne!(of("127.0.0.1", 1, 9, 0, b"args"), call);
        assert_ne!(of("127.0.0.1", 1, 8, 1, b"args"), call);
        assert_ne!(of("127.0.0.1", 1, 8, 0, b"arg"), call);
    }
}
