//! Proof that the verifier sees: every inconsistency of a table is put into a sound pool, and must be
//! found as what it is.
//!
//! The pools are the engine's own work (`good_pool.rs`), and the verifier has to call them clean, or
//! nothing is proven by what it says afterwards. A mutation changes a copy. Most change what items, totals
//! and roots say, in a record or node whose checksums and references are right again (`patient.rs`), so
//! that only the contradiction can give them away; some are what a medium does: rot, a write that was
//! lost, a write that landed elsewhere. A mutation is caught when one finding is of the expected kind, on
//! the expected object and says the expected thing: another finding that comes along does not count.
//!
//! What is missed here is a hole in `appliance/check`, and is mended there.

mod file;
mod good_pool;
mod index;
mod inode;
pub mod layout;
mod log;
mod medium;
mod name;
mod patient;
mod pending;
pub mod pool_copy;
mod root;
mod scrub;
mod space;
mod superblock;
mod tree;

pub use good_pool::Which;

use crate::mutation::good_pool::GoodPool;
use crate::mutation::patient::{Lacks, Patient};
use cairn_check::Report;
use std::rc::Rc;

/// One inconsistency.
pub struct Mutation {
    pub name: &'static str,
    /// What it breaks, in a line.
    pub breaks: &'static str,
    pool: Which,
    /// The kind of the finding, and words of its detail.
    finding: [&'static str; 2],
    /// Changes the pool; answers with words of the object that the finding has to name.
    apply: fn(&mut Patient<'_>) -> Result<String, Lacks>,
}

/// Finding, or what there was instead.
pub type Outcome = Result<String, String>;

/// The table, by what is broken.
pub fn all() -> impl Iterator<Item = &'static Mutation> {
    let tables: [&'static [Mutation]; 12] = [
        inode::ALL,
        name::ALL,
        file::ALL,
        index::ALL,
        pending::ALL,
        space::ALL,
        tree::ALL,
        root::ALL,
        log::ALL,
        superblock::ALL,
        medium::ALL,
        scrub::ALL,
    ];
    tables.into_iter().flatten()
}

/// Makes sound pools as they are asked for, once each.
#[derive(Default)]
pub struct Pools {
    made: Vec<(Which, Rc<GoodPool>)>,
}

impl Pools {
    /// A pool that the verifier calls clean.
    fn get(&mut self, which: Which) -> Result<Rc<GoodPool>, String> {
        if let Some((_, pool)) = self.made.iter().find(|(made, _)| *made == which) {
            return Ok(pool.clone());
        }
        let pool = good_pool::make(which).map_err(|what| format!("{which:?}: {what}"))?;
        let report = pool.copy.check().map_err(|error| format!("{which:?}: {error}"))?;
        if let Some(finding) = report.findings.first() {
            return Err(format!("the {which:?} pool is not sound: {finding}"));
        }
        let pool = Rc::new(pool);
        self.made.push((which, pool.clone()));
        Ok(pool)
    }

    /// Applies one mutation and looks for what it must show.
    pub fn try_out(&mut self, mutation: &Mutation) -> Outcome {
        let pool = self.get(mutation.pool)?;
        let mut patient = Patient::new(&pool);
        let applied = (mutation.apply)(&mut patient);
        let object = applied.and_then(|object| patient.close().map(|()| object));
        let object = object.map_err(|lacks| format!("cannot be applied: {lacks}"))?;
        match patient.copy.check() {
            Ok(report) => mutation.judge(&object, &report),
            // A pool that is refused is told apart by its words alone.
            Err(error) => mutation.judge_refusal(&error.to_string()),
        }
    }
}

impl Mutation {
    fn judge(&self, object: &str, report: &Report) -> Outcome {
        let [kind, detail] = self.finding;
        let hit = report.findings.iter().find(|found| {
            found.kind == kind && found.object.contains(object) && found.detail.contains(detail)
        });
        match (hit, report.findings.first()) {
            (Some(finding), _) => Ok(finding.to_string()),
            (None, None) => {
                Err(format!("the pool is clean to it; wanted {kind}: {object}: {detail}"))
            }
            (None, Some(other)) => {
                let others = report.findings_total;
                Err(format!("{others} others, {other}; wanted {kind}: {object}: {detail}"))
            }
        }
    }

    fn judge_refusal(&self, refusal: &str) -> Outcome {
        let [kind, detail] = self.finding;
        match kind == "refused" && refusal.contains(detail) {
            true => Ok(format!("refused: {refusal}")),
            false => Err(format!("refused: {refusal}; wanted {kind}: {detail}")),
        }
    }
}
