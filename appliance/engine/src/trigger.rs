//! Faults that an operator of a test system sets off in a daemon, by name: each once, at the next place where
//! it can happen.
//!
//! A trigger is armed on every shard, and whoever comes to its place first takes it; with an inode, only what
//! is done to that one does. A daemon arms none unless it was started with `--debug-triggers`. Asking costs a
//! read of one thread-local flag.

use crate::failpoint::Point;
use cairn_format::InodeNo;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    RefusePermit,
    RefusePromise,
    RefuseZone,
    RefuseReservation,
    AnswerBusy,
    DieInRelease,
    DieInStage,
    DieAtLogBatch,
}

impl Trigger {
    pub const ALL: [Trigger; 8] = [
        Trigger::RefusePermit,
        Trigger::RefusePromise,
        Trigger::RefuseZone,
        Trigger::RefuseReservation,
        Trigger::AnswerBusy,
        Trigger::DieInRelease,
        Trigger::DieInStage,
        Trigger::DieAtLogBatch,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Trigger::RefusePermit => "refuse-permit",
            Trigger::RefusePromise => "refuse-promise",
            Trigger::RefuseZone => "refuse-zone",
            Trigger::RefuseReservation => "refuse-reservation",
            Trigger::AnswerBusy => "answer-busy",
            Trigger::DieInRelease => "die-in-release",
            Trigger::DieInStage => "die-in-stage",
            Trigger::DieAtLogBatch => "die-at-log-batch",
        }
    }

    /// What happens, for who looks for the right one.
    pub fn help(self) -> &'static str {
        match self {
            Trigger::RefusePermit => "The next operation that grows the pool gets ENOSPC.",
            Trigger::RefusePromise => {
                "The next promise of blocks is refused, as by a tablet that is full."
            }
            Trigger::RefuseZone => "The next tablet that wants a zone gets none.",
            Trigger::RefuseReservation => "The next blocks that are reserved are not ready yet.",
            Trigger::AnswerBusy => "The next operation is answered `busy`: NFS clients ask again.",
            Trigger::DieInRelease => {
                "The daemon dies behind the next step of a release, which is durable."
            }
            Trigger::DieInStage => {
                "The daemon dies when a stage has written its bytes, before they are in the file."
            }
            Trigger::DieAtLogBatch => {
                "The daemon dies before the next batch of the log is written."
            }
        }
    }

    /// Can it be of one inode?
    pub fn takes_inode(self) -> bool {
        matches!(self, Trigger::AnswerBusy | Trigger::DieInRelease | Trigger::DieInStage)
    }
}

/// One trigger, armed on several shards and fired on one.
#[derive(Clone, Debug)]
pub struct Armed {
    pub trigger: Trigger,
    pub ino: Option<InodeNo>,
    fired: Arc<AtomicBool>,
}

impl Armed {
    pub fn new(trigger: Trigger, ino: Option<InodeNo>) -> Armed {
        Armed { trigger, ino, fired: Arc::default() }
    }

    pub fn has_fired(&self) -> bool {
        self.fired.load(Ordering::Relaxed)
    }
}

/// The same one, not one like it.
impl PartialEq for Armed {
    fn eq(&self, other: &Armed) -> bool {
        Arc::ptr_eq(&self.fired, &other.fired)
    }
}

impl Eq for Armed {}

thread_local! {
    static IS_ARMED: Cell<bool> = const { Cell::new(false) };
    static ARMED: RefCell<Vec<Armed>> = const { RefCell::new(Vec::new()) };
}

/// On this shard's thread.
pub fn arm(armed: Armed) {
    ARMED.with_borrow_mut(|all| all.push(armed));
    IS_ARMED.set(true);
}

pub(crate) fn fires(trigger: Trigger, ino: Option<InodeNo>) -> bool {
    IS_ARMED.get() && fires_armed(trigger, ino)
}

#[cold]
fn fires_armed(trigger: Trigger, ino: Option<InodeNo>) -> bool {
    ARMED.with_borrow_mut(|all| {
        // What another shard has fired is done with here, too.
        all.retain(|armed| !armed.has_fired());
        let fits =
            |armed: &Armed| armed.trigger == trigger && (armed.ino.is_none() || armed.ino == ino);
        let mut fits = all.iter().filter(|armed| fits(armed));
        let fired = fits.any(|armed| !armed.fired.swap(true, Ordering::Relaxed));
        all.retain(|armed| !armed.has_fired());
        IS_ARMED.set(!all.is_empty());
        fired
    })
}

/// As kill -9 does.
pub(crate) fn die_if(trigger: Trigger, ino: Option<InodeNo>) {
    if fires(trigger, ino) {
        std::process::abort();
    }
}

pub(crate) fn refuses(point: Point) -> bool {
    let trigger = match point {
        Point::Permit => Trigger::RefusePermit,
        Point::Promise => Trigger::RefusePromise,
        Point::Zone => Trigger::RefuseZone,
        Point::Reservation => Trigger::RefuseReservation,
    };
    fires(trigger, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_fires_once_and_only_for_its_inode() {
        let ino = |n| InodeNo::from_raw(n);
        assert!(!fires(Trigger::AnswerBusy, ino(7)));
        let armed = Armed::new(Trigger::AnswerBusy, ino(7));
        arm(armed.clone());
        assert!(!fires(Trigger::AnswerBusy, ino(8)) && !fires(Trigger::DieInStage, ino(7)));
        assert!(!armed.has_fired());
        assert!(fires(Trigger::AnswerBusy, ino(7)) && !fires(Trigger::AnswerBusy, ino(7)));
        assert!(armed.has_fired());
        arm(Armed::new(Trigger::RefuseZone, None));
        assert!(refuses(Point::Zone) && !refuses(Point::Zone));
    }

    #[test]
    fn of_a_trigger_on_several_shards_one_fires() {
        let armed = Armed::new(Trigger::RefusePermit, None);
        arm(armed.clone());
        let elsewhere = armed.clone();
        let other = std::thread::spawn(move || {
            arm(elsewhere);
            refuses(Point::Permit)
        });
        assert!(other.join().expect("it ends"));
        assert!(!refuses(Point::Permit) && armed.has_fired());
    }
}
