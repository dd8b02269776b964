//! `cairn changes consumer` and `changes --follow`, over a daemon that is stopped and killed.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Client, Served, cairn, pause, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::time::Duration;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn create(client: &mut Client, dir: &nfs_fh3, name: &str) {
    let how = createhow3::GUARDED(sattr3::default());
    client.create(dir, name.as_bytes(), how).expect("create");
}

/// A `cairn changes --follow` that runs.
struct Follower {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Follower {
    fn start(socket: &Path, arguments: &[&str]) -> Follower {
        let mut command = cairn(&["changes", "--follow"]).expect("a program");
        command.args(arguments).arg("--socket").arg(socket);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Follower { child, lines }
    }

    /// Waits for it: a follower that says nothing is one that hangs, and the test with it.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it can be read");
        assert!(!line.is_empty(), "it ended");
        line.trim_end().to_owned()
    }

    fn line_with(&mut self, words: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(words) {
                return line;
            }
        }
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a number");
        kill_process(pid, Signal::INT).expect("it is there");
    }

    fn end(mut self) -> (ExitStatus, String) {
        let status = wait(&mut self.child, PATIENCE).expect("waits").expect("it ends by itself");
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut said).expect("text");
        (status, said)
    }
}

#[test]
fn a_consumer_keeps_its_place_and_its_deletions_over_a_kill() {
    let test = "consumers";
    let Some(mut served) = Served::start(test) else { return };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    for number in 0..300 {
        create(&mut client, &root, &format!("file-{number}"));
    }
    let daemon = served.daemon(test).expect("ours");
    assert_eq!(daemon.told(&["changes", "consumer", "list"]), "");
    daemon.told(&["changes", "consumer", "add", "tape", "--from", "0"]);
    daemon.refuses(&["changes", "consumer", "add", "tape"], 1, "EEXIST");
    daemon.refuses(&["changes", "consumer", "ack", "disk", "1"], 1, "ENOENT");
    daemon.refuses(&["changes", "consumer", "remove", "disk"], 1, "ENOENT");
    daemon.refuses(&["changes", "--consumer", "disk"], 1, "ENOENT");

    let all = daemon.told(&["changes", "--consumer", "tape"]);
    assert_eq!(all, daemon.told(&["changes", "--since", "0"]));
    assert_eq!(all.lines().count(), 301, "in more than one page");
    let position = |line: &str| line.split(' ').next().expect("a position").to_owned();
    let middle = position(all.lines().nth(150).expect("there"));
    let last = position(all.lines().last().expect("there"));
    daemon.told(&["changes", "consumer", "ack", "tape", &middle]);
    assert_eq!(daemon.told(&["changes", "--consumer", "tape"]).lines().count(), 150);
    daemon.told(&["changes", "consumer", "ack", "tape", &last]);
    daemon.refuses(&["changes", "consumer", "ack", "tape", &middle], 1, "EINVAL");
    daemon.refuses(&["changes", "consumer", "ack", "tape", "9999999999999999999"], 1, "EINVAL");
    daemon.told(&["changes", "consumer", "add", "late copy"]);

    client.remove(&root, b"file-7").expect("remove");
    let daemon = served.daemon(test).expect("ours");
    daemon.kill().expect("kill");
    daemon.restart().expect("restart");
    let listed = daemon.told(&["changes", "consumer", "list", "--json"]);
    let listed: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = listed.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["late copy", "tape"]);
    assert_eq!(format!("{}.{}", listed[1]["seq"], listed[1]["ino"]), last);
    for name in ["tape", "late copy"] {
        let news = daemon.told(&["changes", "--consumer", name]);
        assert!(news.contains(" deleted regular 1 file-7"), "{name} is told: {news:?}");
    }
    let status = daemon.told(&["status"]);
    assert!(status.contains("deletions kept 1 "), "{status}");
    daemon.told(&["changes", "consumer", "remove", "tape"]);
    assert_eq!(daemon.told(&["changes", "consumer", "list"]).lines().count(), 1);
    daemon.stop_and_check().expect("a sound pool");
}

#[test]
fn who_follows_hears_of_what_happens_until_interrupted_or_the_daemon_stops() {
    let test = "follow";
    let Some(mut served) = Served::start(test) else { return };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    create(&mut client, &root, "first");
    let daemon = served.daemon(test).expect("ours");
    let socket = daemon.socket();
    daemon.told(&["changes", "consumer", "add", "tape", "--from", "0"]);
    let mut follower = Follower::start(&socket, &["--since", "0"]);
    let first = follower.line_with(" created regular");
    create(&mut client, &root, "second");
    let second = follower.line_with(" created regular");
    assert_ne!(first, second);
    client.remove(&root, b"first").expect("remove");
    follower.line_with(" deleted regular 1 first");
    follower.interrupt();
    let (status, said) = follower.end();
    assert!(status.success(), "{status}: {said}");
    let since = said.split("--since ").nth(1).and_then(|rest| rest.split(' ').next());
    let since = since.unwrap_or_else(|| panic!("where to go on: {said:?}")).to_owned();

    // One that nobody reads holds up nobody, and misses nothing.
    let mut slow = Follower::start(&socket, &["--since", &since]);
    let mut consumer = Follower::start(&socket, &["--consumer", "tape"]);
    for number in 0..3000 {
        create(&mut client, &root, &format!("a-name-that-fills-pipes-{number}"));
    }
    let daemon = served.daemon(test).expect("ours");
    assert!(daemon.told(&["changes", "--since", "0"]).lines().count() > 3000);
    let mut created = 0;
    while created < 3000 {
        created += usize::from(slow.line().contains(" created regular"));
    }
    while !consumer.line().contains(" created regular") {}
    pause(Duration::from_millis(500));
    let drain = std::thread::spawn(move || {
        let mut rest = String::new();
        consumer.lines.read_to_string(&mut rest).expect("text");
        consumer.end()
    });
    assert!(daemon.stop().expect("stops").success(), "followers do not keep it");
    let (status, said) = slow.end();
    assert!(status.success() && said.contains("the daemon stops"), "{status}: {said}");
    assert!(said.contains("go on behind"), "{said}");
    let (status, said) = drain.join().expect("a reader");
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("cairn changes consumer ack tape"), "{said}");
}
