//! Client, socket, service and bridge together, with a thread in the place of a shard.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails like the test")]

use cairn_base::{BlockNo, Run};
use cairn_control::proto::check_reply::News;
use cairn_control::proto::{self, stat_request::Target};
use cairn_control::request::{ControlReply, ControlRequest, Pool, Position, SnapshotStep};
use cairn_control::{
    CheckJob, CheckNews, Checked, Client, ClientError, ControlSocket, ServeWith, ShowExports,
    bridge, serve,
};
use cairn_engine::Cut;
use cairn_engine::error::FsError;
use cairn_format::Seq;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// The seq that nothing can appear below any more.
const STABLE: Seq = Seq(600);

/// Answers as a shard would that holds `entries` in its change index and no file at all; whether it
/// holds its snapshots is said as well.
fn shard(entries: Vec<Position>, is_held: bool) -> cairn_control::Caller {
    let (wake, woken) = std::sync::mpsc::channel();
    let (caller, end) = bridge(move || {
        // Fails only when the shard has ended.
        let _ = wake.send(());
    });
    std::thread::spawn(move || {
        while woken.recv().is_ok() {
            end.poll(|request, answer| match request {
                ControlRequest::Stat(_) => answer.send(Err(FsError::NotFound)),
                ControlRequest::Walk(page) => {
                    let wanted = entries.iter().filter(|at| (page.first..=page.last).contains(at));
                    answer.send(Ok(ControlReply::Walk(
                        wanted.copied().take(page.count_max).collect(),
                    )));
                }
                ControlRequest::Pool => answer.send(Ok(ControlReply::Pool(Box::new(Pool {
                    fsid: [0xab; 16],
                    epoch: 7,
                    tablets: 256,
                    stable: STABLE,
                    inodes: entries.len() as u64,
                    devices: Vec::new(),
                })))),
                ControlRequest::Snapshot(_, SnapshotStep::Begin) => {
                    let at = BlockNo::from_raw(0);
                    let cut = Cut { fronts: vec![], log: Run::new(at, 8), log_used: vec![] };
                    answer.send(Ok(ControlReply::Cut(Box::new(cut))));
                }
                ControlRequest::Snapshot(..) => answer.send(Ok(ControlReply::Held(is_held))),
                _ => drop(answer),
            });
        }
    });
    caller
}

struct Served {
    _dir: TempDir,
    client: Client,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn served(entries: Vec<Position>) -> Served {
    served_by(shard(entries, true)).await
}

/// Its checker finds one thing.
async fn served_by(shard: cairn_control::Caller) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let socket = ControlSocket::bind(&path).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(async move {
        let until = async {
            let _ = stopped.await;
        };
        let exports: ShowExports = Arc::new(|| Box::pin(exports()));
        serve(&socket, vec![shard], Arc::new(check), exports, ServeWith::default(), until).await
    });
    let client = Client::connect(&path).await.unwrap();
    Served { _dir: dir, client, stop, served }
}

async fn exports() -> proto::ExportsReply {
    let entry = proto::ExportEntry { path: "/a".into(), ..proto::ExportEntry::default() };
    proto::ExportsReply { exports: vec![entry], ..proto::ExportsReply::default() }
}

#[tokio::test]
async fn exports_are_what_the_daemon_shows() {
    let mut served = served(Vec::new()).await;
    assert_eq!(served.client.exports().await.unwrap(), exports().await);
}

fn finding() -> proto::CheckFinding {
    proto::CheckFinding { kind: "data".into(), object: "ino:1".into(), detail: "bad".into() }
}

fn check(job: CheckJob) {
    std::thread::spawn(move || {
        assert_eq!(job.cuts.len(), 1, "one a shard");
        let summary = proto::CheckSummary { findings: 1, ..proto::CheckSummary::default() };
        let checked = Checked { findings: vec![finding()], summary };
        // Where the snapshot is lost nobody listens to the rest.
        if job.news.blocking_send(CheckNews::Copied).is_ok() {
            let _ = job.news.blocking_send(CheckNews::Ended(Ok(checked)));
        }
    });
}

fn walk(index: proto::ChangeIndex, first: Option<(u64, u64)>) -> proto::WalkInodesRequest {
    let position = |(seq, ino)| proto::IndexPosition { seq, ino };
    proto::WalkInodesRequest { index: index.into(), first: first.map(position), last: None }
}

#[tokio::test]
async fn a_walk_pages_by_itself_and_ends_at_what_is_stable() {
    let entries: Vec<Position> =
        (0..5000).map(|n| Position { seq: Seq(n / 7), ino: n + 1 }).collect();
    let mut served = served(entries.clone()).await;
    let request = walk(proto::ChangeIndex::MetaSeq, Some((1, 9)));
    let mut walk = served.client.walk_inodes(request).await.unwrap();
    let (mut listed, mut pages) = (Vec::new(), 0);
    while let Some(page) = walk.page().await.unwrap() {
        listed.extend(page.iter().map(|at| Position { seq: Seq(at.seq), ino: at.ino }));
        pages += 1;
    }
    let end = entries.iter().position(|at| at.seq > STABLE).unwrap();
    assert_eq!(listed, entries[8..end]);
    assert!(pages > 1, "one page would not have shown it");
}

#[tokio::test]
async fn the_errno_of_the_file_system_reaches_the_client() {
    let mut served = served(Vec::new()).await;
    let missing = served.client.stat(Target::Path(b"/a".into())).await.unwrap_err();
    assert_eq!((missing.errno, missing.text.as_str()), (2, "no such file or directory"));
    let relative = served.client.stat(Target::Path(b"a".into())).await.unwrap_err();
    assert_eq!((relative.errno, relative.text.as_str()), (22, "not an absolute path"));
    let lost = served.client.status().await.unwrap_err();
    assert_eq!((lost.errno, lost.text.as_str()), (108, "the daemon is shutting down"));
}

#[tokio::test]
async fn a_check_tells_what_it_found_and_then_the_summary() {
    let mut served = served(Vec::new()).await;
    for _ in 0..2 {
        let mut check = served.client.check(proto::CheckRequest { data: true }).await.unwrap();
        assert_eq!(check.news().await.unwrap(), Some(News::Finding(finding())));
        let summary = check.news().await.unwrap();
        assert!(matches!(summary, Some(News::Summary(summary)) if summary.findings == 1));
        assert_eq!(check.news().await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_was_found_in_a_snapshot_that_was_lost_is_not_told() {
    let mut served = served_by(shard(Vec::new(), false)).await;
    let mut check = served.client.check(proto::CheckRequest { data: false }).await.unwrap();
    assert_eq!(check.news().await.unwrap_err().errno, 110);
}

#[tokio::test]
async fn serving_ends_when_told_and_the_socket_goes_away() {
    let served = served(Vec::new()).await;
    let path = served._dir.path().join("control.sock");
    assert!(path.exists());
    served.stop.send(()).unwrap();
    served.served.await.unwrap().unwrap();
    assert!(!path.exists());
    assert_eq!(errno(Client::connect(&path).await), Some(2));
}

#[tokio::test]
async fn a_socket_without_a_daemon_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(errno(Client::connect(&path).await), Some(111));
    // No socket (ENOTSOCK), though the kernel refuses it with the same errno.
    assert_eq!(errno(Client::connect(Path::new("/dev/null")).await), Some(88));
}

fn errno(result: Result<Client, ClientError>) -> Option<i32> {
    result.err().map(|error| error.errno)
}
