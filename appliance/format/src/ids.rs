//! Identities and counters that stand in the format. None converts to a bare integer by itself.

use std::fmt;
use std::num::NonZeroU64;

/// Bits of an inode number that name its tablet; the rest is a counter of that tablet.
pub const TABLET_BITS: u32 = 12;
pub const TABLETS_MAX: usize = 4096;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// One of the T fixed slices of the file system.
    TabletId(u16)
);
number!(
    /// One polled core of a node.
    ShardId(u16)
);
number!(
    /// A machine that serves the pool; 0 while there is one.
    NodeId(u16)
);
number!(
    /// The pool-wide change number: microseconds since 1970 where the clock allows it, never less
    /// than one that was shown before.
    Seq(u64)
);
number!(
    /// One run of one owner. Raised and made durable before the owner's first log write.
    Epoch(u64)
);
number!(
    /// Counts the roots of one tablet.
    RootGeneration(u64)
);
number!(
    /// A place in one epoch of one shard's write log, in blocks from its beginning. The place in
    /// the ring is this modulo the ring's size.
    LogPosition(u64)
);
number!(
    /// A directory entry's place in readdir order; never reused within the directory.
    EntryPosition(u64)
);

/// Never zero on disk, so `Option<InodeNo>` is the same eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeNo(NonZeroU64);

impl InodeNo {
    /// The root directory: tablet 1, counter 0.
    pub const ROOT: InodeNo = InodeNo(NonZeroU64::MIN);

    /// `None` for the number that does not exist (tablet 0, counter 0) and for a counter that does
    /// not fit 52 bits.
    pub const fn new(tablet: TabletId, counter: u64) -> Option<Self> {
        assert!((tablet.0 as usize) < TABLETS_MAX);
        if counter >> (64 - TABLET_BITS) != 0 {
            return None;
        }
        Self::from_raw(counter << TABLET_BITS | tablet.0 as u64)
    }

    pub const fn from_raw(raw: u64) -> Option<Self> {
        match NonZeroU64::new(raw) {
            Some(n) => Some(InodeNo(n)),
            None => None,
        }
    }

    pub const fn raw(self) -> u64 {
        self.0.get()
    }

    pub const fn tablet(self) -> TabletId {
        TabletId((self.raw() & ((1 << TABLET_BITS) - 1)) as u16)
    }

    pub const fn counter(self) -> u64 {
        self.raw() >> TABLET_BITS
    }
}

impl fmt::Debug for InodeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ino:{}", self.raw())
    }
}

impl fmt::Display for InodeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.raw())
    }
}

/// Names one operation over tablets. Never repeats: the epoch is new at every open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    pub node: NodeId,
    pub shard: ShardId,
    pub epoch: Epoch,
    pub counter: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_tablet_one_counter_zero() {
        assert_eq!(InodeNo::new(TabletId(1), 0), Some(InodeNo::ROOT));
        assert_eq!(InodeNo::ROOT.raw(), 1);
        assert_eq!(InodeNo::new(TabletId(0), 0), None);
    }

    #[test]
    fn an_inode_number_gives_back_its_parts() {
        let ino = InodeNo::new(TabletId(4095), (1 << 52) - 1).expect("fits");
        assert_eq!((ino.tablet(), ino.counter()), (TabletId(4095), (1 << 52) - 1));
        assert_eq!(InodeNo::new(TabletId(1), 1 << 52), None);
    }
}
