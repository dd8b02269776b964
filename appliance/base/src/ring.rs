//! The one io_uring of a shard: files, sockets and sleep on one thread, as plain futures.
//!
//! A shard must be able to sleep until anything it waits for has happened, so everything it waits
//! for is in one ring: disk commands of the file backend, network receives and sends, and the wake-up
//! from another thread, which is a poll of an eventfd. The owner of the loop calls `poll` on every
//! round, and `wait` when it has nothing to do. The futures register ordinary wakers and know no
//! reactor.
//!
//! The kernel is asked to run completions only when this thread enters it (DEFER_TASKRUN), which
//! keeps interrupts off the polling core; older kernels get a plain ring. Submissions collect until
//! the next `poll` or `wait`. When the submission queue is full it is submitted on the spot, and what
//! the kernel does not take stays in a backlog, in order. Nothing needs bounding here: an entry
//! belongs to a future that some bounded caller made.
//!
//! What always holds, and what the unsafe code rests on:
//! - all memory an entry points to is owned by its slot, does not move, and is not looked at
//!   meanwhile;
//! - a slot lives from before the entry is queued until its completion has been reaped, also when
//!   the future is dropped: then nobody waits, and the buffers go when the kernel has answered;
//! - a slot holds its file too, so a descriptor number is not reused under a queued entry;
//! - when the ring is dropped it cancels, waits for what is in flight, and rather leaks a buffer
//!   than frees one that the kernel may still write.
//!
//! A dropped receive, send or accept is also cancelled, since it may otherwise stay for ever. What
//! a cancelled receive had taken from the stream is lost with it: give up the connection.
//! Descriptors must be in blocking mode; the ring answers `EAGAIN` for others instead of waiting.

use crate::dma_buf::{DmaBuf, DmaSlice};
use crate::door::Durability;
use crate::units::Nanos;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::mem::{self, MaybeUninit};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll, Waker};

/// The completion queue is this much longer, for bursts between two polls.
const COMPLETIONS_PER_SUBMISSION: u32 = 4;

/// The kernel takes no more slices at once (`UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// No slot has this number: the completion of a cancel says nothing that its target's does not.
const NOBODY: u64 = u64::MAX;

const REAP_BATCH: usize = 64;

/// How long the drop of a ring waits for the kernel before it leaks what is in flight: slow disks
/// answer within seconds.
const CLOSE_ROUNDS: usize = 100;
const CLOSE_ROUND: types::Timespec = types::Timespec::new().nsec(100_000_000);

/// An open file or socket that the ring may work on. Clones share it; the last one closes it.
#[derive(Clone, Debug)]
pub struct Fd(Rc<OwnedFd>);

impl Fd {
    pub fn new(file: impl Into<OwnedFd>) -> Fd {
        Fd(Rc::new(file.into()))
    }

    /// Ends both directions of a socket: a waiting receive returns 0 and a waiting accept an error.
    pub fn shutdown(&self) {
        // SAFETY: no memory is involved, and the descriptor is open while `self` lives.
        // The only failure is a socket that is not connected any more: nothing waits on it.
        unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_RDWR) };
    }

    fn target(&self) -> types::Fd {
        types::Fd(self.0.as_raw_fd())
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Ends the sleep of one ring, from any thread. May be made before the ring it is for.
#[derive(Clone)]
pub struct RingWaker {
    event: Arc<File>,
}

impl RingWaker {
    pub fn new() -> io::Result<RingWaker> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call returned a new descriptor that nobody else knows.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(RingWaker { event: Arc::new(fd.into()) })
    }

    pub fn wake(&self) {
        let count = (&*self.event).write(&1_u64.to_ne_bytes());
        count.expect("an eventfd takes 2^64 - 2 wake-ups before it would block");
    }

    /// Only when it is known to be set: it would block otherwise.
    fn clear(&self) {
        let mut count = [0; 8];
        (&*self.event).read_exact(&mut count).expect("an eventfd that polls as set is readable");
    }
}

#[derive(Clone)]
pub struct Ring {
    inner: Rc<Inner>,
}

struct Inner {
    uring: RefCell<IoUring>,
    slots: RefCell<Slab<Slot>>,
    backlog: RefCell<VecDeque<squeue::Entry>>,
    waker: RingWaker,
    wake_armed: Cell<bool>,
}

struct Slot {
    state: State,
    memory: Memory,
    _fd: Option<Fd>,
}

enum State {
    /// The kernel has it, or will get it.
    Waiting(Option<Waker>),
    /// Likewise, but the future is gone.
    Abandoned,
    Done(i32),
}

/// What the kernel may touch until it has answered.
enum Memory {
    Nothing,
    /// Nothing, and the answer is a new descriptor.
    NewFd,
    Buf(DmaBuf),
    Vector(Box<Vector>),
    /// Nothing, and the errno of a failure is kept there, whether somebody waits or not.
    Failure(Arc<AtomicI32>),
    /// Nothing, and the command is the ring's own: nobody polls it.
    Wake,
}

struct Vector {
    /// Pointed to by `iovecs`, never read back.
    slices: Vec<DmaSlice>,
    /// Pointed to by `header`.
    iovecs: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl Ring {
    pub fn new(entries: u32) -> io::Result<Ring> {
        Ring::with_waker(entries, &RingWaker::new()?)
    }

    /// The ring is for this thread alone; `waker` may have been handed to others already.
    pub fn with_waker(entries: u32, waker: &RingWaker) -> io::Result<Ring> {
        let completions = entries * COMPLETIONS_PER_SUBMISSION;
        let preferred = IoUring::builder()
            .setup_cqsize(completions)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(entries);
        let uring = match preferred {
            Ok(uring) => uring,
            Err(_) => IoUring::builder().setup_cqsize(completions).build(entries)?,
        };
        let params = uring.params();
        if !(params.is_feature_nodrop() && params.is_feature_ext_arg()) {
            // Before Linux 5.11: completions could get lost, or a sleep could not be bounded.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let inner = Inner {
            uring: RefCell::new(uring),
            slots: RefCell::default(),
            backlog: RefCell::default(),
            waker: waker.clone(),
            wake_armed: Cell::new(false),
        };
        Ok(Ring { inner: Rc::new(inner) })
    }

    pub fn waker(&self) -> RingWaker {
        self.inner.waker.clone()
    }

    /// Commands that the kernel has not answered.
    pub fn in_flight(&self) -> usize {
        self.inner.slots.borrow().len() - usize::from(self.inner.wake_armed.get())
    }

    /// Submits what has collected and takes in what has completed, without waiting. Returns the
    /// number of completions.
    pub fn poll(&self) -> usize {
        self.inner.drain_backlog();
        let mut uring = self.inner.uring.borrow_mut();
        let queue = uring.submission();
        let enter = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if enter {
            check(uring.submit());
        }
        drop(uring);
        self.inner.reap()
    }

    /// Sleeps until something completes, the ring is woken, or the time is over; like `poll`
    /// otherwise. Spurious returns are possible.
    pub fn wait(&self, at_most: Option<Nanos>) -> usize {
        if !self.inner.wake_armed.replace(true) {
            self.inner.arm_wake();
        }
        self.inner.drain_backlog();
        match at_most {
            None => check(self.inner.uring.borrow().submit_and_wait(1)),
            Some(Nanos(ns)) => {
                let time = types::Timespec::from(std::time::Duration::from_nanos(ns));
                self.inner.wait_for(&time);
            }
        }
        self.inner.reap()
    }

    /// Fills the whole of `buf` from `offset`; the end of the file before that is `UnexpectedEof`.
    pub async fn read_at(&self, fd: &Fd, mut buf: DmaBuf, offset: u64) -> (DmaBuf, io::Result<()>) {
        let mut done = 0;
        while done < buf.len() {
            let rest = &mut buf[done..];
            let entry = opcode::Read::new(fd.target(), rest.as_mut_ptr(), op_len(rest.len()))
                .offset(offset + done as u64)
                .build();
            let (result, memory) = self.start(fd, entry, Memory::Buf(buf)).await;
            buf = memory.into_buf();
            match outcome(result) {
                Ok(0) => return (buf, Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (buf, Err(error)),
            }
        }
        (buf, Ok(()))
    }

    /// Writes all slices back to back from `offset`. `Durable` is RWF_DSYNC: the data is on stable
    /// media when it completes.
    pub async fn write_at(
        &self,
        fd: &Fd,
        slices: Vec<DmaSlice>,
        offset: u64,
        want: Durability,
    ) -> io::Result<()> {
        let flags = match want {
            Durability::Cached => 0,
            Durability::Durable => libc::RWF_DSYNC,
        };
        let build = |vector: &Vector, done: u64| {
            opcode::Writev::new(fd.target(), vector.iovecs.as_ptr(), vector.iovecs.len() as u32)
                .offset(offset + done)
                .rw_flags(flags)
                .build()
        };
        self.drive_vector(fd, slices, OnDrop::Finish, build).await
    }

    /// Everything written before is on stable media, as far as the data goes (fdatasync).
    ///
    /// The first failure's errno is kept in `failure`, also when this future was dropped meanwhile: the
    /// kernel does not tell it again.
    pub async fn sync_data(&self, fd: &Fd, failure: &Arc<AtomicI32>) -> io::Result<()> {
        let entry = opcode::Fsync::new(fd.target()).flags(types::FsyncFlags::DATASYNC).build();
        let (result, _) = self.start(fd, entry, Memory::Failure(Arc::clone(failure))).await;
        outcome(result).map(|_| ())
    }

    /// Makes a hole in a file, which keeps its length.
    pub async fn punch_hole(&self, fd: &Fd, offset: u64, len: u64) -> io::Result<()> {
        let entry = opcode::Fallocate::new(fd.target(), len)
            .offset(offset)
            .mode(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE)
            .build();
        let (result, _) = self.start(fd, entry, Memory::Nothing).await;
        outcome(result).map(|_| ())
    }

    /// The next connection of a listening TCP socket.
    pub async fn accept(&self, listener: &Fd) -> io::Result<TcpStream> {
        let nobody = std::ptr::null_mut();
        let entry = opcode::Accept::new(listener.target(), nobody, nobody.cast())
            .flags(libc::SOCK_CLOEXEC)
            .build();
        let mut op = self.start(listener, entry, Memory::NewFd);
        op.on_drop = OnDrop::Cancel;
        let (result, _) = op.await;
        outcome(result)?;
        // SAFETY: the kernel answered with a new descriptor that nobody else knows.
        let fd = unsafe { OwnedFd::from_raw_fd(result) };
        Ok(fd.into())
    }

    /// Receives at least one byte into `buf[from..]`; 0 means that the peer has finished sending.
    pub async fn recv(&self, fd: &Fd, mut buf: DmaBuf, from: usize) -> (DmaBuf, io::Result<usize>) {
        let room = &mut buf[from..];
        assert!(!room.is_empty(), "0 would look like the end of the stream");
        let entry = opcode::Recv::new(fd.target(), room.as_mut_ptr(), op_len(room.len())).build();
        let mut op = self.start(fd, entry, Memory::Buf(buf));
        op.on_drop = OnDrop::Cancel;
        let (result, memory) = op.await;
        (memory.into_buf(), outcome(result))
    }

    /// Sends all bytes of all slices, in order.
    pub async fn send(&self, fd: &Fd, slices: Vec<DmaSlice>) -> io::Result<()> {
        let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32;
        let build = |vector: &Vector, _: u64| {
            opcode::SendMsg::new(fd.target(), &raw const vector.header).flags(flags).build()
        };
        self.drive_vector(fd, slices, OnDrop::Cancel, build).await
    }

    /// One command after the other until every byte of `slices` has been taken.
    async fn drive_vector(
        &self,
        fd: &Fd,
        slices: Vec<DmaSlice>,
        on_drop: OnDrop,
        build: impl Fn(&Vector, u64) -> squeue::Entry,
    ) -> io::Result<()> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut vector = Box::new(Vector::new(slices));
        let mut done = 0;
        while done < total {
            vector.aim(done);
            let entry = build(&vector, done as u64);
            let mut op = self.start(fd, entry, Memory::Vector(vector));
            op.on_drop = on_drop;
            let (result, memory) = op.await;
            vector = memory.into_vector();
            match outcome(result) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Queues an entry whose pointers lead into `memory` and nowhere else.
    fn start(&self, fd: &Fd, entry: squeue::Entry, memory: Memory) -> Op {
        let state = State::Waiting(None);
        let slot = self.inner.queue(entry, Slot { state, memory, _fd: Some(fd.clone()) });
        Op { inner: self.inner.clone(), slot: Some(slot), on_drop: OnDrop::Finish }
    }
}

impl Inner {
    fn queue(&self, entry: squeue::Entry, slot: Slot) -> usize {
        let number = self.slots.borrow_mut().insert(slot);
        self.backlog.borrow_mut().push_back(entry.user_data(number as u64));
        self.drain_backlog();
        number
    }

    fn cancel(&self, slot: usize) {
        let entry = opcode::AsyncCancel::new(slot as u64).build().user_data(NOBODY);
        self.backlog.borrow_mut().push_back(entry);
        self.drain_backlog();
    }

    /// Moves entries to the submission queue, in order, as far as the kernel takes them.
    fn drain_backlog(&self) {
        let mut backlog = self.backlog.borrow_mut();
        let mut uring = self.uring.borrow_mut();
        while let Some(entry) = backlog.front() {
            if uring.submission().is_full() {
                check(uring.submit());
            }
            // SAFETY: the entry's slot owns what it points to until its completion is reaped
            // (module head); a cancel points to nothing.
            let pushed = unsafe { uring.submission().push(entry) };
            if pushed.is_err() {
                return; // the kernel is out of memory or of room for completions: next round
            }
            backlog.pop_front();
        }
    }

    fn arm_wake(&self) {
        let event = types::Fd(self.waker.event.as_raw_fd());
        let entry = opcode::PollAdd::new(event, libc::POLLIN as u32).build();
        // The eventfd needs no `Fd`: the ring's own waker keeps it open.
        let state = State::Waiting(None);
        self.queue(entry, Slot { state, memory: Memory::Wake, _fd: None });
    }

    fn wait_for(&self, time: &types::Timespec) {
        let args = types::SubmitArgs::new().timespec(time);
        check(self.uring.borrow().submitter().submit_with_args(1, &args));
    }

    fn reap(&self) -> usize {
        let mut count = 0;
        let mut batch = [const { MaybeUninit::<cqueue::Entry>::uninit() }; REAP_BATCH];
        loop {
            let mut uring = self.uring.borrow_mut();
            let completed = uring.completion().fill(&mut batch);
            drop(uring); // wakers run below
            for entry in completed.iter().filter(|entry| entry.user_data() != NOBODY) {
                self.settle(entry.user_data() as usize, entry.result());
            }
            count += completed.len();
            if completed.len() < REAP_BATCH {
                return count;
            }
        }
    }

    fn settle(&self, number: usize, result: i32) {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(number).expect("a slot outlives its command");
        slot.memory.note(result);
        if let (State::Waiting(waker), false) = (&mut slot.state, slot.memory.is_wake()) {
            let waker = waker.take();
            slot.state = State::Done(result);
            drop(slots);
            if let Some(waker) = waker {
                waker.wake();
            }
            return;
        }
        let slot = slots.remove(number);
        drop(slots);
        if slot.memory.is_wake() {
            self.wake_armed.set(false);
            if result > 0 {
                self.waker.clear();
            }
        }
        slot.memory.discard(result);
    }
}

impl Drop for Inner {
    /// Every future held the ring, so all of them are gone and all slots are abandoned.
    fn drop(&mut self) {
        if self.slots.borrow().is_empty() {
            return;
        }
        let all = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        self.backlog.borrow_mut().push_back(all.user_data(NOBODY));
        for _ in 0..CLOSE_ROUNDS {
            self.drain_backlog();
            self.wait_for(&CLOSE_ROUND);
            self.reap();
            if self.slots.borrow().is_empty() {
                return;
            }
        }
        // The kernel may still write to these: lost memory is better than foreign bytes in it.
        mem::forget(self.slots.take());
    }
}

#[derive(Clone, Copy)]
enum OnDrop {
    /// The kernel ends it soon by itself.
    Finish,
    Cancel,
}

/// One command under way. Its output is the kernel's answer and the memory back.
struct Op {
    inner: Rc<Inner>,
    slot: Option<usize>,
    on_drop: OnDrop,
}

impl Future for Op {
    type Output = (i32, Memory);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(i32, Memory)> {
        let number = self.slot.expect("polled after its end");
        let mut slots = self.inner.slots.borrow_mut();
        let slot = &mut slots[number];
        match &mut slot.state {
            State::Waiting(waker) => {
                let old = waker.replace(cx.waker().clone());
                drop(slots);
                drop(old); // outside of the borrow: it may be the last hold on a task
                Poll::Pending
            }
            State::Done(result) => {
                let result = *result;
                let slot = slots.remove(number);
                drop(slots);
                self.slot = None;
                Poll::Ready((result, slot.memory))
            }
            State::Abandoned => unreachable!("only the drop of this future abandons"),
        }
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        let Some(number) = self.slot else { return };
        let mut slots = self.inner.slots.borrow_mut();
        if let State::Done(result) = slots[number].state {
            let slot = slots.remove(number);
            drop(slots);
            slot.memory.discard(result);
            return;
        }
        let state = mem::replace(&mut slots[number].state, State::Abandoned);
        drop(slots);
        drop(state);
        if let OnDrop::Cancel = self.on_drop {
            self.inner.cancel(number);
        }
    }
}

impl Memory {
    fn is_wake(&self) -> bool {
        matches!(self, Memory::Wake)
    }

    fn into_buf(self) -> DmaBuf {
        match self {
            Memory::Buf(buf) => buf,
            _ => unreachable!("a command returns the memory it was given"),
        }
    }

    fn into_vector(self) -> Box<Vector> {
        match self {
            Memory::Vector(vector) => vector,
            _ => unreachable!("a command returns the memory it was given"),
        }
    }

    /// The kernel has answered.
    fn note(&self, result: i32) {
        if let Memory::Failure(first) = self
            && result < 0
            && result != -libc::ECANCELED
        {
            // One that failed before stays.
            let _ = first.compare_exchange(0, -result, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Nobody waits for the answer any more.
    fn discard(self, result: i32) {
        if let (Memory::NewFd, 0..) = (&self, result) {
            // SAFETY: the kernel answered with a new descriptor that nobody else knows.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
    }
}

impl Vector {
    fn new(slices: Vec<DmaSlice>) -> Vector {
        let header = MaybeUninit::<libc::msghdr>::zeroed();
        // SAFETY: a plain C structure of integers and pointers, for which zero is a value.
        let header = unsafe { header.assume_init() };
        Vector { iovecs: Vec::with_capacity(slices.len().min(SLICES_MAX)), slices, header }
    }

    /// Points at the bytes behind the first `done`, as many slices as the kernel takes at once.
    fn aim(&mut self, done: usize) {
        let mut skip = done;
        self.iovecs.clear();
        for slice in &self.slices {
            let Some(rest) = slice.get(skip..).filter(|rest| !rest.is_empty()) else {
                skip -= slice.len();
                continue;
            };
            skip = 0;
            // The kernel only reads through it, whatever the type says.
            let iov_base = rest.as_ptr().cast_mut().cast();
            self.iovecs.push(libc::iovec { iov_base, iov_len: rest.len() });
            if self.iovecs.len() == SLICES_MAX {
                break;
            }
        }
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.iovecs.len() as _;
    }
}

/// An answer of the kernel as a result.
fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Longer buffers take several commands.
fn op_len(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// What may end an enter early is met again in the next round; anything else is a broken ring.
fn check(entered: io::Result<usize>) {
    let Err(error) = entered else { return };
    match error.raw_os_error() {
        // A signal; the time was over; no memory or too many completions at the moment.
        Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::ENOMEM | libc::EBUSY) => {}
        _ => panic!("the kernel refuses the ring: {error}"),
    }
}

#[cfg(test)]
mod tests;
