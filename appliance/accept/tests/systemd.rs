//! The daemon under a supervisor: what it says and when, in which form it logs, and whether the unit
//! that we ship is one that systemd takes.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Deadline, Served, Setup, binary, finish, skip, skip_without};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// What systemd is to the daemon: a socket that takes messages.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Supervisor {
    fn new(dir: &Path) -> Supervisor {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
        Supervisor { socket, path }
    }

    /// The next message, if one is there or comes soon.
    fn told(&self) -> Option<String> {
        let mut message = [0; 4096];
        match self.socket.recv(&mut message) {
            Ok(bytes) => Some(String::from_utf8_lossy(&message[..bytes]).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(error) => panic!("cannot listen: {error}"),
        }
    }

    /// Messages until one has this line, that one included.
    fn wait_for(&self, line: &str) -> Vec<String> {
        let deadline = Deadline::after(PATIENCE);
        let mut told = Vec::new();
        while !deadline.passed() {
            if let Some(message) = self.told() {
                let is_it = message.lines().any(|said| said == line);
                told.push(message);
                if is_it {
                    return told;
                }
            }
        }
        panic!("no {line} in {PATIENCE:?}; told: {told:?}");
    }

    fn environment(&self) -> (&'static str, String) {
        ("NOTIFY_SOCKET", self.path.to_string_lossy().into_owned())
    }
}

#[test]
fn a_supervisor_is_told_ready_after_recovery_and_alive_while_shards_answer() {
    let test = "sd_notify";
    let dir = tempfile::tempdir().expect("a temporary folder");
    let supervisor = Supervisor::new(dir.path());
    let Some(mut served) = Served::start_with(test, |setup| setup.shards = 2) else { return };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    let how = createhow3::GUARDED(sattr3::default());
    let file = client.create(&root, b"file", how).expect("create");
    client.write(&file.handle, 0, b"kept", stable_how::FILE_SYNC).expect("write");
    let address = served.address().nfs;
    let daemon = served.daemon(test).expect("ours");
    daemon.kill().expect("kill");

    // Something to recover, watched from outside: nobody is let in before READY=1.
    daemon.setup_mut().environment =
        vec![supervisor.environment(), ("WATCHDOG_USEC", "1000000".into())];
    let command = daemon.setup_mut().command().expect("a program");
    let mut child = spawn(command);
    let mut told = Vec::new();
    let deadline = Deadline::after(PATIENCE);
    while !told.iter().any(|message: &String| message.lines().any(|line| line == "READY=1")) {
        assert!(!deadline.passed(), "never ready: {told:?}");
        told.extend(supervisor.told());
    }
    assert!(TcpStream::connect(address).is_ok(), "READY=1, and nobody listens");
    assert!(!told[0].contains("READY=1"), "it says first what it does: {told:?}");
    assert!(told[0].contains("STATUS=opening the pool"), "{told:?}");
    let status = format!("STATUS=serving NFS on {address} with 2 shards");
    assert!(told.last().expect("one").lines().any(|line| line == status), "{told:?}");
    let mut client = served.connect();
    let root = client.root().clone();
    let found = client.lookup(&root, b"file").expect("what was acknowledged is there at once");
    assert_eq!(found.attr.size, 4);
    for _ in 0..3 {
        let told = supervisor.wait_for("WATCHDOG=1");
        assert_eq!(told.len(), 1, "nothing else is said meanwhile: {told:?}");
    }
    terminate(&child);
    supervisor.wait_for("STOPPING=1");
    assert!(child.wait().expect("ends").success());
}

#[test]
fn a_daemon_that_cannot_open_its_pool_never_says_ready() {
    let test = "sd_notify_broken";
    if binary().is_none() {
        return skip(test, "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let supervisor = Supervisor::new(dir.path());
    let mut setup = Setup::new(&dir.path().join("pool")).expect("a port");
    setup.environment = vec![supervisor.environment()];
    std::fs::create_dir(&setup.dir).expect("mkdir");
    std::fs::write(setup.dir.join("pool"), vec![7; 1 << 20]).expect("write");
    let finished = finish(setup.command().expect("a program")).expect("runs");
    assert_eq!(finished.status.code(), Some(1));
    let told: Vec<String> = std::iter::from_fn(|| supervisor.told()).collect();
    assert!(!told.iter().any(|message| message.contains("READY=1")), "{told:?}");
    assert!(told.iter().any(|message| message.contains("STATUS=")), "it was listened to: {told:?}");
}

#[test]
fn with_json_every_line_of_stderr_is_one_object() {
    let test = "json_logs";
    if binary().is_none() {
        return skip(test, "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let setup = Setup::new(&dir.path().join("pool")).expect("a port");
    let mut command = setup.command().expect("a program");
    command.args(["--log-format", "json", "--log-level", "debug"]);
    let log = dir.path().join("log");
    command.stderr(std::fs::File::create(&log).expect("create"));
    let mut child = spawn(command);
    let ready =
        cairn_accept::eventually(PATIENCE, || TcpStream::connect(("127.0.0.1", setup.port)).ok());
    assert!(ready.is_some(), "it does not listen");
    terminate(&child);
    assert!(child.wait().expect("ends").success());
    let text = std::fs::read_to_string(&log).expect("read");
    let records = parse(&text);
    assert!(records.iter().any(|record| record["message"] == "stopping"), "{text}");

    // A failure is the line that matters most.
    std::fs::write(setup.dir.join("pool"), vec![7; 1 << 20]).expect("write");
    let mut command = setup.command().expect("a program");
    command.args(["--log-format", "json"]);
    let finished = finish(command).expect("runs");
    assert_eq!(finished.status.code(), Some(1));
    let records = parse(&finished.stderr);
    let last = records.last().expect("it says why");
    assert_eq!((&last["level"], &last["errno"]), (&"ERROR".into(), &"EINVAL".into()));
    assert!(last["message"].as_str().is_some_and(|text| text.starts_with("cairn: up ")), "{last}");

    // The environment chooses, too; what it cannot mean is refused.
    let mut command = setup.command().expect("a program");
    command.env("CAIRN_LOG", "cairn=loud");
    let finished = finish(command).expect("runs");
    assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("cairn: up CAIRN_LOG: "), "{}", finished.stderr);
}

fn parse(text: &str) -> Vec<Value> {
    let record = |line: &str| -> Value {
        let record: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        for key in ["timestamp", "level", "target", "message"] {
            assert!(record[key].is_string(), "no {key} in {line}");
        }
        record
    };
    text.lines().map(record).collect()
}

/// A daemon of the test's own hands; `Daemon` would wait for its `ready` line.
struct Child(std::process::Child);

fn spawn(mut command: Command) -> Child {
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    Child(command.spawn().expect("the program runs"))
}

impl Child {
    fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
        self.0.wait()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn terminate(child: &Child) {
    let mut kill = Command::new("kill");
    kill.args(["-TERM", &child.0.id().to_string()]);
    finish(kill).expect("runs").succeeded("kill").expect("it is there");
}

/// The unit as it would be installed, but for the program's place.
fn unit(dir: &Path) -> Option<PathBuf> {
    let program = binary()?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cairn/systemd/cairn.service");
    let text = std::fs::read_to_string(&source).expect("the unit is in the tree");
    assert!(text.contains("ExecStart=/usr/bin/cairn serve "), "another program?");
    let program = std::path::absolute(program).expect("a path");
    let text = text.replace("/usr/bin/cairn serve", &format!("{} serve", program.display()));
    let path = dir.join("cairn.service");
    std::fs::write(&path, text).expect("write");
    Some(path)
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    let test = "systemd_unit";
    if skip_without(test, "systemd-analyze", "systemd") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let Some(unit) = unit(dir.path()) else { return skip(test, "the cairn binary") };
    let analyze = |arguments: &[&str]| {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(arguments).arg(&unit);
        finish(analyze).expect("runs")
    };
    // The pages of the manual need not be installed here.
    let verified = analyze(&["verify", "--man=no"]);
    assert!(verified.status.success(), "{}", verified.stderr);
    let about_us: Vec<&str> =
        verified.stderr.lines().filter(|line| line.contains("cairn.service")).collect();
    assert_eq!(about_us, [""; 0]);
    // In tenths; docs/systemd.md says what is left open, and why.
    let security = analyze(&["security", "--offline=true", "--threshold=25", "--no-pager"]);
    assert!(security.status.success(), "{}{}", security.stdout, security.stderr);
    let score = security.stdout.lines().last().unwrap_or_default();
    println!("{score}");
    assert!(score.contains("exposure level"), "{score}");
}
