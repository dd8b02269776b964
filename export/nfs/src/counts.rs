//! How often each procedure was answered, and how long that took. Cells of one shard; whoever shows
//! them asks the shard.

use crate::wire::Procedure;
use cairn_base::Nanos;
use std::cell::Cell;

/// In the order of `Procedure::ALL`.
const NAMES: [&str; Procedure::ALL.len()] = [
    "null",
    "getattr",
    "setattr",
    "lookup",
    "access",
    "readlink",
    "read",
    "write",
    "create",
    "mkdir",
    "symlink",
    "mknod",
    "remove",
    "rmdir",
    "rename",
    "link",
    "readdir",
    "readdirplus",
    "fsstat",
    "fsinfo",
    "pathconf",
    "commit",
];

#[derive(Debug, Default)]
pub struct ProcedureCounts([(Cell<u64>, Cell<u64>); Procedure::ALL.len()]);

impl ProcedureCounts {
    /// One call was answered, so long after it arrived.
    pub(crate) fn note(&self, procedure: Procedure, took: Nanos) {
        let (calls, nanos) = &self.0[procedure as usize];
        calls.set(calls.get() + 1);
        nanos.set(nanos.get().saturating_add(took.0));
    }

    /// Name, calls, and the time from arrival to answer of all of them together.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, u64, Nanos)> {
        NAMES
            .iter()
            .zip(&self.0)
            .map(|(name, (calls, nanos))| (*name, calls.get(), Nanos(nanos.get())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_under_its_procedures_name() {
        for (procedure, name) in Procedure::ALL.into_iter().zip(NAMES) {
            let counts = ProcedureCounts::default();
            counts.note(procedure, Nanos(7));
            let noted: Vec<_> = counts.values().filter(|(_, calls, _)| *calls > 0).collect();
            assert_eq!(noted, [(name, 1, Nanos(7))]);
            assert_eq!(format!("{procedure:?}").to_lowercase(), name);
        }
    }
}
