//! Which cores the shards run on.
//!
//! Only cores this process may use count: in a container, or under taskset, they are fewer than the
//! machine has. On small machines one is left to the kernel, the clients and everything else; on
//! larger ones a shard per core is worth more. With more shards than cores, as tests have, nobody is
//! pinned: two polled loops pinned to one core would starve each other while another stands idle.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Machines up to this size keep one core free of shards.
const SMALL_MACHINE_CORES: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(Vec<usize>);

impl Cores {
    /// The cores this process may use.
    pub fn allowed() -> Result<Cores, Errno> {
        let set = sched_getaffinity(Pid::from_raw(0))?;
        Ok(Cores((0..CpuSet::count()).filter(|&core| set.is_set(core) == Ok(true)).collect()))
    }

    /// As many shards as these cores should have.
    pub fn shards_default(&self) -> u16 {
        let cores = self.0.len();
        let shards = if cores <= SMALL_MACHINE_CORES { cores.saturating_sub(1) } else { cores };
        u16::try_from(shards.max(1)).unwrap_or(u16::MAX)
    }

    /// The core of each of `shards` shards; `None` when they stay where the kernel puts them. The
    /// lowest core is the last to be taken: interrupts tend to land there.
    pub fn assign(&self, shards: u16) -> Vec<Option<usize>> {
        let shards = usize::from(shards);
        match self.0.len().checked_sub(shards) {
            Some(spare) => self.0[spare..].iter().copied().map(Some).collect(),
            None => vec![None; shards],
        }
    }
}

/// Ties the calling thread to `core`.
pub fn pin(core: usize) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(count: usize) -> Cores {
        Cores((0..count).collect())
    }

    #[test]
    fn small_machines_keep_a_core_free() {
        let defaults = [0, 1, 2, 4, 5, 64].map(|count| cores(count).shards_default());
        assert_eq!(defaults, [1, 1, 1, 3, 5, 64]);
    }

    #[test]
    fn shards_get_a_core_each_or_none_of_them_does() {
        assert_eq!(Cores(vec![2, 5, 7]).assign(2), [Some(5), Some(7)]);
        assert_eq!(cores(2).assign(3), [None, None, None]);
    }
}
