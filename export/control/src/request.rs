//! What the control thread may ask a shard, as a closed list, and the answers.
//!
//! These are the engine's own types: the wire's are turned into them once, in `service.rs`.

use cairn_engine::attr::Attr;
use cairn_engine::name::Name;
use cairn_engine::op::{ExtentPage, Named, Restored, XattrList, XattrNames, XattrSet};
use cairn_engine::scrub::{Command, Damaged, ScrubReport};
use cairn_engine::status::ShardStatus;
use cairn_engine::trigger::Armed;
use cairn_engine::{
    Change, Consumer, Cut, DeviceSpace, Grow, Resized, SnapshotId, Tend, WaitOp, WaitersFrom,
    WaitersPage, XattrPlace,
};
use cairn_format::item::Site;
use cairn_format::{InodeNo, Key, Seq, TabletId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// What all shards are doing.
    Shards,
    /// What only the shard that is asked knows of itself.
    Local,
    /// The pool's totals and space.
    Pool,
    Stat(Target),
    Walk(WalkPage),
    /// Changes of all kinds, both ends inclusive.
    Changes {
        from: Position,
        /// Deletions up to here are nothing to the reader.
        floor: Seq,
        to: Position,
        count_max: usize,
    },
    /// What nothing can appear below any more.
    Stable,
    Consumer(Tend),
    Consumers,
    /// Places where an inode is named, behind one of them.
    Referring {
        ino: InodeNo,
        after: Option<Site>,
        count_max: usize,
    },
    /// The name of `child` at a place.
    NameAt {
        site: Site,
        child: InodeNo,
    },
    GetXattr {
        ino: InodeNo,
        name: Vec<u8>,
    },
    SetXattr {
        ino: InodeNo,
        name: Vec<u8>,
        value: Vec<u8>,
        how: XattrSet,
    },
    RemoveXattr {
        ino: InodeNo,
        name: Vec<u8>,
    },
    /// Names behind a place.
    ListXattrs {
        ino: InodeNo,
        list: XattrList,
        after: Option<XattrPlace>,
        count_max: usize,
    },
    /// Of shard 0.
    Resize(Vec<Grow>),
    /// Of the shard that is asked.
    Snapshot(SnapshotId, SnapshotStep),
    Scrub(Command),
    /// How far a scrub is.
    ScrubReport,
    /// A range of whole blocks.
    Release {
        ino: InodeNo,
        offset: u64,
        len: u64,
        data_version: u64,
    },
    /// At most 1 MiB.
    Stage {
        ino: InodeNo,
        offset: u64,
        data: Vec<u8>,
        data_version: u64,
    },
    /// Clients that wait for offline data on the shard that is asked.
    Waiting(WaitersFrom),
    FailWaiters {
        ino: InodeNo,
        offset: u64,
        len: u64,
        ops: Vec<WaitOp>,
        errno: u16,
    },
    /// On the shard that is asked.
    Arm(Armed),
    /// A range of whole blocks.
    PunchOffline {
        ino: InodeNo,
        offset: u64,
        len: u64,
        data_version: u64,
    },
    /// A page of the extents of some blocks.
    Extents {
        ino: InodeNo,
        blocks: std::ops::Range<u64>,
        count_max: usize,
    },
    /// Restores attributes.
    SetAttrX {
        ino: InodeNo,
        set: Restored,
    },
    /// What is known to be damaged, behind a place.
    Damage {
        after: Option<(TabletId, Key)>,
        count_max: usize,
    },
}

#[derive(Debug)]
pub enum ControlReply {
    /// In order.
    Shards(Vec<ShardStatus>),
    Local(Box<Local>),
    Pool(Box<Pool>),
    Stat(Box<Attr>),
    /// A page in order. Empty: nothing more up to the end that was asked for.
    Walk(Vec<Position>),
    /// The same of changes.
    Changes(Vec<Change>),
    Stable(Seq),
    /// It is done, and durable.
    Done,
    /// By name.
    Consumers(Vec<Consumer>),
    Sites(Vec<Site>),
    /// Nothing: the place does not name that child any more.
    Name(Option<Named>),
    Xattr(Vec<u8>),
    /// The extended attribute is set or removed, durably.
    XattrChanged,
    Xattrs(XattrNames),
    Resized(Vec<Resized>),
    /// The snapshot has begun.
    Cut(Box<Cut>),
    /// Whether the snapshot was held until now.
    Held(bool),
    Scrub(Box<ScrubReport>),
    Extents(ExtentPage),
    /// Released, staged, or punched.
    Blocks(u64),
    Waiting(WaitersPage),
    /// How many there are.
    Waiters(u64),
    /// In order; none at the end.
    Damage(Vec<Damaged>),
}

/// The life of a snapshot (`engine/src/snapshot.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotStep {
    Begin,
    Resume,
    Keep,
    End,
}

/// How the command line names an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The names of an absolute path; none is the root.
    Path(Vec<Name>),
    Ino(InodeNo),
}

/// A place in a change index. `ino` is raw, since a bound need not be an inode's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub seq: Seq,
    pub ino: u64,
}

impl Position {
    pub const MIN: Position = Position { seq: Seq(0), ino: 0 };
    pub const MAX: Position = Position { seq: Seq(u64::MAX), ino: u64::MAX };

    /// The next place, or nothing behind the last.
    pub fn next(self) -> Option<Position> {
        match self.ino.checked_add(1) {
            Some(ino) => Some(Position { seq: self.seq, ino }),
            None => Some(Position { seq: Seq(self.seq.0.checked_add(1)?), ino: 0 }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeIndex {
    MetaSeq,
    DataSeq,
}

/// One page of a walk: positions from `first` to `last`, both inclusive, at most `count_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkPage {
    pub index: ChangeIndex,
    pub first: Position,
    pub last: Position,
    pub count_max: usize,
}

/// The pool as a whole.
#[derive(Clone, Debug)]
pub struct Pool {
    pub fsid: [u8; 16],
    pub epoch: u64,
    pub tablets: u64,
    pub stable: Seq,
    pub inodes: u64,
    /// In the order of the pool.
    pub devices: Vec<DeviceSpace>,
}

/// What one shard's loop and frontend know, which the engine does not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Of 1000 parts of the time, those that did something.
    pub useful_work_permille: u32,
    /// Of the loop's time, nanoseconds that did something.
    pub busy_ns: u64,
    /// Tasks that held the core too long, and the longest.
    pub stalls: u64,
    pub stall_worst_ns: u64,
    /// Tasks that exist now.
    pub tasks: u64,
    pub connections: u64,
    pub connections_accepted: u64,
    pub connections_refused: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub memory: Memory,
    /// NFS procedures, in a fixed order.
    pub procedures: Vec<Procedure>,
}

/// What a shard's thread knows of memory, beside what the engine counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of all shards.
    pub limits: MemoryLimits,
    /// Of the process, as the kernel counts it.
    pub resident_bytes: u64,
    /// Pages of the buffers of all shards.
    pub arena_bytes: u64,
    /// Those of them whose buffers wait for their next use.
    pub idle_bytes: u64,
    /// Calls and answers of this shard's connections, records that are arriving included.
    pub network_bytes: u64,
    /// Those connections themselves.
    pub connections_bytes: u64,
    /// What one kept answer takes.
    pub answer_bytes: u64,
    /// What a memtable takes for each byte that it counts, in quarters.
    pub memtable_quarters: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    pub budget: Option<u64>,
    /// What the process needs whatever it does.
    pub process: u64,
    pub parts: MemoryParts<u64>,
}

macro_rules! memory_parts {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What memory is used for.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct MemoryParts<T> {
            $($(#[$doc])* pub $name: T,)*
        }

        impl<T> MemoryParts<T> {
            pub fn map<U>(self, body: impl Fn(T) -> U) -> MemoryParts<U> {
                MemoryParts { $($name: body(self.$name),)* }
            }

            /// With their names, in order.
            pub fn named(self) -> Vec<(&'static str, T)> {
                vec![$((stringify!($name), self.$name)),*]
            }

            pub fn sum(self) -> T where T: std::iter::Sum {
                [$(self.$name),*].into_iter().sum()
            }
        }
    };
}

memory_parts! {
    /// Changes that are not in trees yet.
    memtables,
    /// Nodes of trees.
    node_cache,
    /// File data that was read.
    data_cache,
    /// Of log trees.
    filters,
    /// File data that is not on a device yet.
    dirty,
    /// Calls and answers.
    network,
    /// Connections, idle ones included.
    connections,
    /// Kept for calls that are repeated.
    answers,
    /// Clients that wait for offline data.
    waiters,
    /// I/O under way.
    buffers,
}

/// Calls of one procedure that were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Procedure {
    pub name: &'static str,
    pub calls: u64,
    /// From the call's arrival to its answer, all calls together.
    pub nanos: u64,
}
