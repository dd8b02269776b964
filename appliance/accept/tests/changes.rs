//! `cairn changes`: whoever goes on from the last position that was printed knows everything that is
//! durable, and nothing that is not, whatever happens in between.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Client, Daemon, Served, cairn, finish, pause, set_mode};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    seq: u64,
    ino: u64,
    what: String,
    kind: String,
    name: Option<String>,
    parent: Option<u64>,
}

impl Change {
    fn position(&self) -> String {
        format!("{}.{}", self.seq, self.ino)
    }
}

fn changes(daemon: &Daemon, since: &str) -> Vec<Change> {
    let finished = daemon.command(&["changes", "--since", since, "--json"]).expect("runs");
    parse(&finished.succeeded("cairn changes").unwrap_or_else(|error| panic!("{error:#}")))
}

fn parse(stdout: &str) -> Vec<Change> {
    let change = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Change {
            seq: value["seq"].as_u64().expect("seq"),
            ino: value["ino"].as_u64().expect("ino"),
            what: text("change").expect("change"),
            kind: text("kind").expect("kind"),
            name: text("name"),
            parent: value["parent_ino"].as_u64(),
        }
    };
    let all: Vec<Change> = stdout.lines().map(change).collect();
    let ordered =
        all.windows(2).all(|pair| (pair[0].seq, pair[0].ino) < (pair[1].seq, pair[1].ino));
    assert!(ordered, "not in the order of position, or one twice");
    all
}

fn create(client: &mut Client, dir: &nfs_fh3, name: &str) -> cairn_accept::Made {
    let how = createhow3::GUARDED(sattr3::default());
    client.create(dir, name.as_bytes(), how).expect("create")
}

#[test]
fn each_change_is_told_as_what_it_was_and_any_position_goes_on() {
    let test = "changes";
    let Some(mut served) =
        Served::start_with(test, |setup| setup.memtable = Some("256K".to_owned()))
    else {
        return;
    };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    let mut dirs = Vec::new();
    for outer in 0..10 {
        let name = format!("dir-{outer}");
        let dir = client.mkdir(&root, name.as_bytes(), sattr3::default()).expect("mkdir");
        for inner in 0..40 {
            create(&mut client, &dir.handle, &format!("file-{inner}"));
        }
        dirs.push(dir);
    }
    let empty = client.mkdir(&root, b"empty", sattr3::default()).expect("mkdir");
    let daemon = served.daemon(test).expect("ours");

    let all = changes(daemon, "0");
    let count = |what: &str, kind: &str| {
        all.iter().filter(|change| change.what == what && change.kind == kind).count()
    };
    assert_eq!(count("created", "regular"), 400, "each file, in more than one page");
    assert_eq!(count("metadata", "directory"), 11, "the root and what has been filled since");
    assert_eq!(count("created", "directory"), 1);
    let untouched = all.iter().find(|change| change.ino == empty.attr.fileid).expect("is there");
    assert_eq!(untouched.what, "created");
    for cut in [0, 1, 7, 255, 256, 257, all.len() - 1] {
        let rest = changes(daemon, &all[cut].position());
        assert_eq!(rest, all[cut + 1..], "from {}", all[cut].position());
    }
    let end = all.last().expect("not empty").position();

    // One of each; what is done twice is told once.
    let file = client.lookup(&dirs[0].handle, b"file-3").expect("lookup");
    client.write(&file.handle, 0, b"one", stable_how::FILE_SYNC).expect("write");
    client.write(&file.handle, 0, b"two", stable_how::FILE_SYNC).expect("write");
    let mode = client.lookup(&dirs[1].handle, b"file-4").expect("lookup");
    let set = sattr3 { mode: set_mode(0o600), ..sattr3::default() };
    client.setattr(&mode.handle, set).expect("setattr");
    let both = client.lookup(&dirs[1].handle, b"file-5").expect("lookup");
    client.write(&both.handle, 0, b"data", stable_how::FILE_SYNC).expect("write");
    let set = sattr3 { mode: set_mode(0o600), ..sattr3::default() };
    client.setattr(&both.handle, set).expect("setattr");
    let gone = client.lookup(&dirs[2].handle, b"file-5").expect("lookup");
    client.remove(&dirs[2].handle, b"file-5").expect("remove");
    client.rmdir(&root, b"empty").expect("rmdir");
    let made = create(&mut client, &dirs[3].handle, "new");
    let daemon = served.daemon(test).expect("ours");

    let news = changes(daemon, &end);
    let of = |ino: u64| -> Vec<&str> {
        news.iter().filter(|change| change.ino == ino).map(|change| change.what.as_str()).collect()
    };
    assert_eq!(of(file.attr.fileid), ["data"]);
    assert_eq!(of(mode.attr.fileid), ["metadata"]);
    assert_eq!(of(both.attr.fileid), ["data", "metadata"]);
    assert_eq!(of(gone.attr.fileid), ["deleted"]);
    assert_eq!(of(empty.attr.fileid), ["deleted"]);
    assert_eq!(of(made.attr.fileid), ["created"]);
    let removed = news.iter().find(|change| change.ino == gone.attr.fileid).expect("told");
    assert_eq!(removed.name.as_deref(), Some("file-5"));
    assert_eq!(removed.parent, Some(dirs[2].attr.fileid));
    assert_eq!(removed.kind, "regular");

    let before = changes(daemon, "0");
    daemon.kill().expect("kill");
    daemon.restart().expect("restart");
    assert_eq!(changes(daemon, "0"), before, "the same after a kill");
    let end = before.last().expect("not empty").position();
    assert_eq!(changes(daemon, &end), [], "and nothing more");

    let text = daemon.command(&["changes", "--since", &end]).expect("runs");
    assert_eq!(text.stdout, "");
    let text = daemon.command(&["changes", "--since", "0"]).expect("runs").stdout;
    let line = format!(
        "{} deleted regular {} file-5",
        removed.position(),
        removed.parent.expect("has one")
    );
    assert!(text.lines().any(|said| said == line), "no line {line:?} in\n{text}");
}

const ROUNDS: u64 = 20;

/// What an archive agent knows: of each inode the last change it was told.
#[derive(Default)]
struct Agent {
    since: String,
    inodes: BTreeMap<u64, u64>,
}

impl Agent {
    /// What the daemon told before it was gone, if it went; whether it is still there.
    fn poll(&mut self, socket: &Path) -> bool {
        let mut command = cairn(&["changes", "--json", "--since", &self.since]).expect("a program");
        command.arg("--socket").arg(socket);
        let finished = finish(command).expect("runs");
        for change in parse(&finished.stdout) {
            self.since = change.position();
            match change.what.as_str() {
                "deleted" => drop(self.inodes.remove(&change.ino)),
                _ => drop(self.inodes.insert(change.ino, change.seq)),
            }
        }
        finished.status.success()
    }
}

/// Of each inode its last change, as a walk of the whole index has it.
fn walked(daemon: &Daemon) -> BTreeMap<u64, u64> {
    let finished = daemon.command(&["walk-inodes", "meta_seq", "0", "-1"]).expect("runs");
    let stdout = finished.succeeded("walk-inodes").unwrap_or_else(|error| panic!("{error:#}"));
    let entry = |line: &str| {
        let (seq, ino) = line.split_once(' ')?;
        Some((ino.parse().ok()?, seq.parse().ok()?))
    };
    stdout.lines().map(|line| entry(line).unwrap_or_else(|| panic!("{line:?}"))).collect()
}

/// Changes the same few files again and again, so that most changes hide one that was not told yet,
/// until the daemon is gone.
fn disturb(mut client: Client, worker: usize) {
    let root = client.root().clone();
    for turn in 0_u32.. {
        let name = format!("disturbed-{worker}-{}", turn % 16);
        let how = createhow3::UNCHECKED(sattr3::default());
        let Ok(made) = client.create(&root, name.as_bytes(), how) else { return };
        let set = sattr3 { mode: set_mode(0o600 + turn % 8), ..sattr3::default() };
        let write = turn.to_be_bytes();
        let done = match turn % 4 {
            0 => client.setattr(&made.handle, set).map(drop),
            1 => client.write(&made.handle, 0, &write, stable_how::UNSTABLE).map(drop),
            2 => client.write(&made.handle, 0, &write, stable_how::FILE_SYNC).map(drop),
            _ => client.remove(&root, name.as_bytes()).map(drop),
        };
        if done.is_err() {
            return;
        }
    }
}

#[test]
fn an_agent_that_polls_knows_everything_that_survives_a_kill() {
    let test = "changes_kill";
    let Some(mut served) =
        Served::start_with(test, |setup| setup.memtable = Some("256K".to_owned()))
    else {
        return;
    };
    if served.is_foreign() {
        return;
    }
    let mut agent = Agent { since: "0".into(), ..Agent::default() };
    for round in 0..ROUNDS {
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let client = served.connect();
                std::thread::spawn(move || disturb(client, worker))
            })
            .collect();
        let daemon = served.daemon(test).expect("ours");
        let socket = daemon.socket();
        let agent = &mut agent;
        std::thread::scope(|scope| {
            // It is killed while it answers, and not between two answers.
            scope.spawn(|| while agent.poll(&socket) {});
            pause(Duration::from_millis(60 + round * 7 % 50));
            daemon.kill().expect("kill");
        });
        for worker in workers {
            worker.join().expect("a worker ends with its connection");
        }
        daemon.restart().expect("restart");
        assert!(agent.poll(&socket), "the daemon is back");
        assert_eq!(agent.inodes, walked(daemon), "what the agent knows and what there is");
    }
}
