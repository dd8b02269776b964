//! A scrub, as its client sees it: the action, how far it is, what was found, in words.
//!
//! The pass is the engine's (`engine/src/scrub/`), and goes on whoever listens. Here it is looked at twice a
//! second. Findings name inodes; which path those have is asked when they are told, since files move.

use crate::bridge::Caller;
use crate::paths;
use crate::proto::scrub_reply::News;
use crate::proto::{
    ScrubAction, ScrubFinding, ScrubProgress, ScrubReply, ScrubRequest, ScrubSummary,
};
use crate::request::{ControlReply, ControlRequest};
use crate::status::{self, unexpected};
use cairn_base::BLOCK_BYTES;
use cairn_engine::scrub::{Command, Damaged, ScrubReport, ScrubState, What};
use cairn_format::key::{
    RANGE_CONSUMER, RANGE_DAMAGED_BLOCK, RANGE_DATA_SEQ, RANGE_DELETION, RANGE_DONE,
    RANGE_FREE_RUN, RANGE_INODE, RANGE_META_SEQ, RANGE_ORPHAN, RANGE_PENDING, RANGE_SCRUB,
    RANGE_TRIMMED,
};
use cairn_format::node::NODE_BYTES;
use cairn_format::{InodeNo, Key, TabletId};
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const FINDINGS_PAGE: usize = 64;

pub(crate) type Replies = mpsc::Sender<Result<ScrubReply, Status>>;

/// Nothing: only look.
pub(crate) fn command(request: &ScrubRequest) -> Result<Option<Command>, Status> {
    let command = match request.action() {
        ScrubAction::Unspecified => return Err(status::invalid("start, status, pause or cancel?")),
        ScrubAction::Start => Some(Command::Start { rate: request.rate }),
        ScrubAction::Status => None,
        ScrubAction::Pause => Some(Command::Pause),
        ScrubAction::Cancel => Some(Command::Cancel),
    };
    match (command, request.rate) {
        (Some(Command::Start { .. }), _) | (_, None) => Ok(command),
        _ => Err(status::invalid("a rate goes with a start")),
    }
}

pub(crate) async fn run(shard: Caller, command: Option<Command>, follow: bool, replies: Replies) {
    if let Err(status) = tell(&shard, command, follow, &replies).await {
        // A client that does not listen any more is told nothing.
        let _ = replies.send(Err(status)).await;
    }
}

async fn tell(
    shard: &Caller,
    command: Option<Command>,
    follow: bool,
    replies: &Replies,
) -> Result<(), Status> {
    if let Some(command) = command {
        ask(shard, ControlRequest::Scrub(command)).await?;
    }
    let bytes_total = bytes_in_use(shard).await?;
    let (mut report, mut looks) = (report(shard).await?, tokio::time::interval(LOOK_EVERY));
    let pass = report.pass;
    loop {
        send(replies, News::Progress(told(&report, bytes_total))).await?;
        if !follow || report.state != ScrubState::Running || report.pass != pass {
            break;
        }
        looks.tick().await;
        report = self::report(shard).await?;
    }
    let listed = tell_findings(shard, replies).await?;
    let unlisted = report.part.unlisted;
    let progress = Some(told(&report, bytes_total));
    let summary = ScrubSummary { findings: listed + unlisted, unlisted, progress };
    send(replies, News::Summary(summary)).await
}

/// For whoever asks what the daemon is doing.
pub(crate) async fn progress(shard: &Caller) -> Result<ScrubProgress, Status> {
    Ok(told(&report(shard).await?, bytes_in_use(shard).await?))
}

async fn tell_findings(shard: &Caller, replies: &Replies) -> Result<u64, Status> {
    let mut after: Option<(TabletId, Key)> = None;
    let mut listed = 0;
    loop {
        let asked = ControlRequest::Damage { after, count_max: FINDINGS_PAGE };
        let found = match shard.call(asked).await.map_err(status::of_call)? {
            ControlReply::Damage(found) => found,
            _ => return Err(unexpected()),
        };
        let Some(last) = found.last() else { return Ok(listed) };
        after = Some((last.tablet, last.key()));
        for damaged in &found {
            let path = match damaged.what {
                What::Data { ino, .. } => path_of(shard, ino).await,
                _ => None,
            };
            send(replies, News::Finding(finding(damaged, path))).await?;
            listed += 1;
        }
    }
}

/// One of its paths; none of a file that has no name or cannot be followed up.
async fn path_of(shard: &Caller, ino: InodeNo) -> Option<Vec<u8>> {
    let (paths, mut first) = mpsc::channel(2);
    paths::send_paths(shard.clone(), ino, false, paths).await;
    first.recv().await?.ok().map(|reply| reply.path)
}

async fn send(replies: &Replies, news: News) -> Result<(), Status> {
    let reply = ScrubReply { news: Some(news) };
    replies.send(Ok(reply)).await.map_err(|_| Status::cancelled("nobody listens"))
}

async fn ask(shard: &Caller, request: ControlRequest) -> Result<ScrubReport, Status> {
    match shard.call(request).await.map_err(status::of_call)? {
        ControlReply::Scrub(report) => Ok(*report),
        _ => Err(unexpected()),
    }
}

async fn report(shard: &Caller) -> Result<ScrubReport, Status> {
    ask(shard, ControlRequest::ScrubReport).await
}

/// About what a pass reads: all that is not free. Logs are among that, and pieces of zones are not.
async fn bytes_in_use(shard: &Caller) -> Result<u64, Status> {
    match shard.call(ControlRequest::Pool).await.map_err(status::of_call)? {
        ControlReply::Pool(pool) => {
            let used = pool.devices.iter().map(|d| d.blocks.saturating_sub(d.blocks_free));
            Ok(used.sum::<u64>() * BLOCK_BYTES as u64)
        }
        _ => Err(unexpected()),
    }
}

fn told(report: &ScrubReport, bytes_total: u64) -> ScrubProgress {
    let part = &report.part;
    let is_idle = report.state == ScrubState::Idle;
    let done = part.nodes * NODE_BYTES as u64 + part.blocks * BLOCK_BYTES as u64;
    ScrubProgress {
        state: state_word(report.state).into(),
        pass: report.pass,
        began: report.began,
        ended: report.ended,
        rate: report.rate,
        tablets: part.tablets,
        tablets_done: part.tablets_done,
        nodes: part.nodes,
        data_blocks: part.blocks,
        bytes_total,
        bytes_done: done.min(bytes_total),
        findings: if is_idle { report.findings_ended } else { part.findings },
        unsaved: part.unsaved,
        findings_ended: report.findings_ended,
    }
}

fn state_word(state: ScrubState) -> &'static str {
    match state {
        ScrubState::Idle => "idle",
        ScrubState::Running => "running",
        ScrubState::Paused => "paused",
    }
}

fn finding(damaged: &Damaged, path: Option<Vec<u8>>) -> ScrubFinding {
    let Damaged { tablet, block, what, cause, pass } = damaged;
    let plain = ScrubFinding {
        block: block.to_string(),
        detail: cause.to_string(),
        tablet: Some(tablet.0.into()),
        pass: *pass,
        ..ScrubFinding::default()
    };
    match *what {
        What::Data { ino, file_block, blocks } => ScrubFinding {
            kind: "data".into(),
            ino: Some(ino.raw()),
            offset: Some(file_block * BLOCK_BYTES as u64),
            length: Some(blocks * BLOCK_BYTES as u64),
            path,
            ..plain
        },
        What::Node { tree, from, to } => ScrubFinding {
            kind: "node".into(),
            tree: Some(tree_words(tree)),
            lost: Some(lost_words(&from, &to)),
            ..plain
        },
        What::Filter { tree } => {
            ScrubFinding { kind: "filter".into(), tree: Some(tree_words(tree)), ..plain }
        }
        What::Root => ScrubFinding { kind: "root".into(), ..plain },
        What::Superblock => ScrubFinding { kind: "superblock".into(), tablet: None, ..plain },
    }
}

fn tree_words(tree: u8) -> String {
    match tree {
        0 => "fs tree".into(),
        number => format!("log tree {number}"),
    }
}

/// What lies between two keys: inodes by their numbers as keys order them, and other things by their names.
fn lost_words(from: &Key, to: &Key) -> String {
    const OTHERS: [(u8, u8, &str); 9] = [
        (RANGE_META_SEQ, RANGE_META_SEQ, "changes of metadata"),
        (RANGE_DATA_SEQ, RANGE_DATA_SEQ, "changes of data"),
        (RANGE_DELETION, RANGE_DELETION, "deletions"),
        (RANGE_ORPHAN, RANGE_ORPHAN, "inodes without a name"),
        (RANGE_FREE_RUN, RANGE_FREE_RUN, "free space"),
        (RANGE_PENDING, RANGE_DONE, "operations under way"),
        (RANGE_CONSUMER, RANGE_CONSUMER, "consumers of the change stream"),
        (RANGE_SCRUB, RANGE_DAMAGED_BLOCK, "what scrubs have found"),
        (RANGE_TRIMMED, RANGE_TRIMMED, "up to where deletions are forgotten"),
    ];
    let meets = |first: u8, last: u8| {
        *from < Key::of_range(last).prefix_end() && *to > Key::of_range(first)
    };
    let mut parts = Vec::new();
    if meets(RANGE_INODE, RANGE_INODE) {
        parts.push(match (inode_at(from), inode_at(to)) {
            (None, None) => "all inodes".into(),
            (Some(first), None) => format!("inodes from {first} on"),
            (None, Some(last)) => format!("inodes up to {last}"),
            (Some(first), Some(last)) if first == last => format!("a part of inode {first}"),
            (Some(first), Some(last)) => format!("inodes {first} to {last}"),
        });
    }
    let others = OTHERS.iter().filter(|(first, last, _)| meets(*first, *last));
    parts.extend(others.map(|(_, _, words)| (*words).to_owned()));
    parts.join(", ")
}

fn inode_at(key: &Key) -> Option<InodeNo> {
    let (range, rest) = key.as_bytes().split_first()?;
    let raw = u64::from_be_bytes(*rest.first_chunk()?);
    (*range == RANGE_INODE).then(|| InodeNo::from_raw(raw)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_hides_is_told_in_words() {
        let ino = |raw| InodeNo::from_raw(raw).unwrap();
        let extent = |raw| Key::extent(ino(raw), 1);
        assert_eq!(lost_words(&extent(5), &extent(9)), "inodes 5 to 9");
        assert_eq!(lost_words(&extent(5), &Key::extent(ino(5), 9)), "a part of inode 5");
        let words = lost_words(&extent(5), &Key::of_range(RANGE_DATA_SEQ));
        assert_eq!(words, "inodes from 5 on, changes of metadata");
        assert!(lost_words(&Key::MIN, &Key::MAX).starts_with("all inodes, changes of metadata, "));
        let late = lost_words(&Key::of_range(RANGE_DONE), &Key::MAX);
        let others = "operations under way, consumers of the change stream, what scrubs have found";
        assert_eq!(late, format!("{others}, up to where deletions are forgotten"));
    }

    #[test]
    fn a_rate_goes_with_a_start_only() {
        let request = |action: ScrubAction, rate| {
            command(&ScrubRequest { action: action.into(), rate, follow: true })
        };
        assert_eq!(
            request(ScrubAction::Start, Some(7)).unwrap(),
            Some(Command::Start { rate: Some(7) })
        );
        assert_eq!(request(ScrubAction::Status, None).unwrap(), None);
        assert!(request(ScrubAction::Pause, Some(7)).is_err());
        assert!(request(ScrubAction::Unspecified, None).is_err());
    }
}
