//! The checker of `cairn check --socket`: the verifier of the off-line check, on a thread and a ring
//! of its own, over a snapshot of the pool that is being served.
//!
//! It reads one thing after the other and yields its core to everybody (nice 19), so the shards feel
//! it as one more client with one request at a time. Nothing here can write. It looks every
//! `LOOK_EVERY` whether somebody still wants the answer.

use crate::error::{Failure, check_failure_on};
use crate::offline::Offline;
use crate::place::Claim;
use crate::snapshot_disk::SnapshotDisk;
use cairn_base::Nanos;
use cairn_check::{CheckOptions, Counts, Finding, Progress, Report, check};
use cairn_control::proto::{CheckFinding, CheckProgress, CheckSummary};
use cairn_control::{CheckFailed, CheckJob, CheckNews, Checked, StartCheck};
use cairn_reactor::{Either, race};
use nix::errno::Errno;
use std::sync::Arc;

const LOOK_EVERY: Nanos = Nanos::from_millis(50);
const NICE: i32 = 19;

/// What the control service starts for a check.
pub fn starter(claim: Arc<Claim>) -> StartCheck {
    Arc::new(move |job| {
        let claim = Arc::clone(&claim);
        let thread = std::thread::Builder::new().name("check".into());
        if let Err(error) = thread.spawn(move || run(&claim, &job)) {
            // With the closure its end of the news went away, which the service tells the client.
            tracing::warn!("cannot start a thread for a check: {error}");
        }
    })
}

fn run(claim: &Claim, job: &CheckJob) {
    // On Linux this is the thread's own; without it the check is only less polite.
    let _ = rustix::process::setpriority_process(None, NICE);
    let ended = verify(claim, job)
        .map(checked)
        .map_err(|failure| CheckFailed { errno: failure.errno as i32, text: failure.text });
    // Nobody listens when the client has gone.
    let _ = job.news.blocking_send(CheckNews::Ended(ended));
}

fn verify(claim: &Claim, job: &CheckJob) -> Result<Report, Failure> {
    let offline = Offline::new(claim.devices())?;
    let copied = offline.run(SnapshotDisk::copy(offline.disk(), &job.cuts));
    let disk = copied.map_err(|(block, error)| {
        Failure::new(Errno::EIO, format!("cannot read block {block}: {error:?}"))
    })?;
    let unwanted = || Failure::new(Errno::EINTR, "nobody wants the result");
    job.news.blocking_send(CheckNews::Copied).map_err(|_| unwanted())?;
    let options = CheckOptions { data: job.data, ..CheckOptions::default() };
    let show = |Progress { phase, done, total }| {
        let progress = CheckProgress { phase: phase.into(), done, total };
        // What the service has not taken yet is soon out of date.
        let _ = job.news.try_send(CheckNews::Progress(progress));
    };
    let handle = offline.handle();
    let abandoned = async {
        while !job.news.is_closed() {
            handle.sleep(LOOK_EVERY).await;
        }
    };
    match offline.run(race(check(&disk, options, show), abandoned)) {
        Either::Left(report) => report.map_err(|error| check_failure_on(error, claim.paths())),
        Either::Right(()) => Err(unwanted()),
    }
}

fn checked(report: Report) -> Checked {
    let finding = |finding: Finding| CheckFinding {
        kind: finding.kind.into(),
        object: finding.object,
        detail: finding.detail,
    };
    Checked {
        findings: report.findings.into_iter().map(finding).collect(),
        summary: summary(&report.counts, report.findings_total),
    }
}

/// A check's result in numbers; the off-line one prints the same.
pub fn summary(counts: &Counts, findings: u64) -> CheckSummary {
    CheckSummary {
        findings,
        tablets: counts.tablets,
        inodes: counts.inodes,
        names: counts.dirents,
        extents: counts.extents,
        nodes: counts.nodes,
        items: counts.items,
        log_batches: counts.log_batches,
        data_blocks: counts.data_blocks_read,
    }
}
