//! A check on line, from the client's call to the summary: who holds still when, and who lets go.
//!
//! All shards begin a snapshot, which stops their logs (`engine/src/snapshot.rs`). The checker, which
//! the daemon brings, copies what must be copied and says so; the logs go on. While it reads, the
//! snapshot is renewed; when it has ended, the shards are asked whether they held it all the time, and
//! only then is a finding believed. Shards let go by themselves when nobody renews, so nothing here
//! must run for them to be free again.
//!
//! A client that goes away ends its check. The next one may begin when the checker's thread has ended.

use crate::bridge::{CallError, Caller};
use crate::proto::{CheckFinding, CheckProgress, CheckReply, CheckSummary, check_reply::News};
use crate::request::{ControlReply, ControlRequest, SnapshotStep};
use crate::status;
use cairn_engine::{Cut, SnapshotId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

/// How often a snapshot is renewed, and looked after: when one shard gave it up the others soon follow.
const RENEW: Duration = Duration::from_millis(500);
/// What the checker may be ahead of the client.
const NEWS_MAX: usize = 16;

const ESTALE: i32 = 116;
const ETIMEDOUT: i32 = 110;
const EIO: i32 = 5;

/// What a checker is given.
pub struct CheckJob {
    /// Read all file data too.
    pub data: bool,
    /// By shard.
    pub cuts: Vec<Cut>,
    /// Closed when nobody wants to know any more.
    pub news: mpsc::Sender<CheckNews>,
}

/// What it tells.
pub enum CheckNews {
    /// The logs may go on.
    Copied,
    Progress(CheckProgress),
    /// The last thing it says.
    Ended(Result<Checked, CheckFailed>),
}

pub struct Checked {
    pub findings: Vec<CheckFinding>,
    pub summary: CheckSummary,
}

/// Why a check came to no end.
pub struct CheckFailed {
    pub errno: i32,
    pub text: String,
}

/// Starts a checker on a thread of its own, and returns at once.
pub type StartCheck = Arc<dyn Fn(CheckJob) + Send + Sync>;

pub(crate) type Replies = mpsc::Sender<Result<CheckReply, Status>>;

pub(crate) struct Check {
    pub id: SnapshotId,
    pub shards: Vec<Caller>,
    pub start: StartCheck,
    pub data: bool,
    pub replies: Replies,
    /// There is one check at a time.
    pub turn: OwnedSemaphorePermit,
}

impl Check {
    pub async fn run(self) {
        let checked = match self.begin().await {
            Ok(cuts) => self.follow(cuts).await,
            Err(status) => Err(status),
        };
        let held = self.ask_all(SnapshotStep::End).await;
        let checked = match checked {
            Ok(_) if !held => Err(lost()),
            other => other,
        };
        let Check { replies, turn, .. } = self;
        drop(turn);
        // A client that does not listen any more is told nothing.
        let _ = tell(&replies, checked).await;
    }

    async fn begin(&self) -> Result<Vec<Cut>, Status> {
        let mut cuts = Vec::with_capacity(self.shards.len());
        for reply in self.call_all(SnapshotStep::Begin).await {
            match reply.map_err(status::of_call)? {
                ControlReply::Cut(cut) => cuts.push(*cut),
                _ => return Err(status::of_call(CallError::Gone)),
            }
        }
        Ok(cuts)
    }

    /// Until the checker has ended, which it does soon when there is no use for it.
    async fn follow(&self, cuts: Vec<Cut>) -> Result<Checked, Status> {
        let (news, mut told) = mpsc::channel(NEWS_MAX);
        (self.start)(CheckJob { data: self.data, cuts, news });
        let checked = self.listen(&mut told).await;
        told.close();
        while told.recv().await.is_some() {}
        checked
    }

    async fn listen(&self, told: &mut mpsc::Receiver<CheckNews>) -> Result<Checked, Status> {
        let mut renew = tokio::time::interval(RENEW);
        let mut is_copied = false;
        loop {
            tokio::select! {
                news = told.recv() => match news {
                    Some(CheckNews::Copied) => {
                        if !self.ask_all(SnapshotStep::Resume).await {
                            let text = "the logs could not be copied in time: try again";
                            return Err(status::unavailable(ETIMEDOUT, text.into()));
                        }
                        is_copied = true;
                    }
                    Some(CheckNews::Progress(progress)) => {
                        // A client that reads slowly misses some of it.
                        let _ = self.replies.try_send(Ok(reply(News::Progress(progress))));
                    }
                    Some(CheckNews::Ended(Ok(checked))) => return Ok(checked),
                    Some(CheckNews::Ended(Err(CheckFailed { errno, text }))) => {
                        return Err(status::unavailable(errno, text));
                    }
                    None => {
                        let text = "the check's thread has ended unexpectedly";
                        return Err(status::unavailable(EIO, text.into()));
                    }
                },
                _ = renew.tick(), if is_copied => {
                    if !self.ask_all(SnapshotStep::Keep).await {
                        return Err(lost());
                    }
                }
                () = self.replies.closed() => return Err(Status::cancelled("nobody listens")),
            }
        }
    }

    /// Whether all shards said yes.
    async fn ask_all(&self, step: SnapshotStep) -> bool {
        let replies = self.call_all(step).await;
        replies.iter().all(|reply| matches!(reply, Ok(ControlReply::Held(true))))
    }

    /// Asks all shards at once, since a log that stands still waits for the others.
    async fn call_all(&self, step: SnapshotStep) -> Vec<Result<ControlReply, CallError>> {
        let request = ControlRequest::Snapshot(self.id, step);
        let call = |shard: &Caller| {
            let (shard, request) = (shard.clone(), request.clone());
            tokio::spawn(async move { shard.call(request).await })
        };
        let calls: Vec<_> = self.shards.iter().map(call).collect();
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(call.await.unwrap_or(Err(CallError::Gone)));
        }
        replies
    }
}

async fn tell(
    replies: &Replies,
    checked: Result<Checked, Status>,
) -> Result<(), mpsc::error::SendError<Result<CheckReply, Status>>> {
    let Checked { findings, summary } = match checked {
        Ok(checked) => checked,
        Err(status) => return replies.send(Err(status)).await,
    };
    for finding in findings {
        replies.send(Ok(reply(News::Finding(finding)))).await?;
    }
    replies.send(Ok(reply(News::Summary(summary)))).await
}

fn reply(news: News) -> CheckReply {
    CheckReply { news: Some(news) }
}

fn lost() -> Status {
    let text = "ended without a result: writers needed the space that it kept; \
                check again when more is free";
    status::unavailable(ESTALE, text.into())
}
