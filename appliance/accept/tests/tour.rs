//! Runs docs/tour-archive.md: every command, in one shell, against a daemon of its own; what each prints must be what
//! the page says it prints, but for numbers. With `CAIRN_BLESS=1` the page is given what was printed.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Address, Client, Cred, Daemon, Served, set_size, skip_without};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const PAGE: &str = "docs/tour-archive.md";
const END: &str = "@@end";
/// What the page says, where a test has a port of its own.
const PORTS: &str = "nfsport=2049&mountport=2049";

/// A shell that is told one command after another.
struct Shell {
    child: Child,
    lines: Receiver<String>,
}

impl Shell {
    fn start(dir: &Path, daemon: &Daemon) -> Shell {
        let cairn = cairn_accept::binary().expect("there is one");
        let beside = cairn.parent().expect("it is in a folder").to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).current_dir(dir);
        command.env("PATH", format!("{}:{path}", beside.display()));
        command.env("CAIRN_SOCKET", daemon.socket());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("bash");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut shell = Shell { child, lines };
        shell.run("exec 2>&1");
        shell
    }

    /// What it prints.
    fn run(&mut self, command: &str) -> Vec<String> {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{command}\necho {END}").expect("bash reads");
        let mut printed = Vec::new();
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|_| panic!("no end of {command:?}: {printed:?}"));
            // Behind what ends without a new line.
            if let Some(last) = line.strip_suffix(END) {
                printed.extend((!last.is_empty()).then(|| last.to_owned()));
                return printed;
            }
            printed.push(line);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbers differ from run to run.
fn masked(lines: &[String]) -> Vec<String> {
    let mask = |line: &String| {
        let mut masked = String::new();
        for c in line.chars() {
            match c.is_ascii_digit() {
                true if masked.ends_with('#') => {}
                true => masked.push('#'),
                false => masked.push(c),
            }
        }
        masked
    };
    let mut lines: Vec<String> = lines.iter().map(mask).collect();
    // So does the order of what has a number in it.
    lines.sort();
    lines
}

/// What the page has done on a client with a mount.
fn on_a_client(address: &Address, dir: &Path, command: &str) {
    let mut client = Client::connect(address, &Cred::ROOT).expect("mount");
    let root = client.root().clone();
    let mounted = |path: &str| path.strip_prefix("/mnt/").expect("below /mnt").as_bytes().to_vec();
    match command.split(' ').collect::<Vec<_>>()[..] {
        ["rm", path] => drop(client.remove(&root, &mounted(path)).expect("removed")),
        ["cp", from, to] => {
            let how = createhow3::UNCHECKED(set_size(0));
            let file = client.create(&root, &mounted(to), how).expect("create").handle;
            let bytes = std::fs::read(dir.join(from)).expect("read");
            for (nth, piece) in bytes.chunks(1 << 18).enumerate() {
                let written = client.write(&file, (nth as u64) << 18, piece, stable_how::FILE_SYNC);
                written.expect("written");
            }
        }
        _ => panic!("{command}: not known here"),
    }
}

#[test]
fn the_tour_of_an_agent_does_what_its_page_says() {
    let test = "tour_archive";
    if ["nfs-cp", "nfs-cat"].iter().any(|tool| skip_without(test, tool, "libnfs-utils")) {
        return;
    }
    let Some(mut served) = Served::start(test) else { return };
    if served.is_foreign() {
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
    let text = std::fs::read_to_string(&page).expect("the page");
    let address = served.address().clone();
    let ports = format!("nfsport={0}&mountport={0}", address.nfs.port());
    let dir = tempfile::tempdir().expect("a folder");
    let mut shell = Shell::start(dir.path(), served.daemon(test).expect("ours"));

    let bless = std::env::var_os("CAIRN_BLESS").is_some();
    let (mut written, mut wrong, mut commands) = (String::new(), String::new(), 0);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        writeln!(written, "{line}").expect("to a string");
        if let Some(command) = line.strip_prefix("mnt$ ") {
            on_a_client(&address, dir.path(), command);
        }
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let mut command = command.to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with("> ") || *line == ">") {
            writeln!(written, "{more}").expect("to a string");
            command = format!("{command}\n{}", more.strip_prefix("> ").unwrap_or_default());
        }
        let is_output = |line: &&str| !line.starts_with("$ ") && *line != "```";
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(is_output) {
            expected.push(line.to_owned());
        }
        let printed = shell.run(&command.replace(PORTS, &ports));
        commands += 1;
        if masked(&printed) != masked(&expected) {
            writeln!(wrong, "{command}\n  printed {printed:#?}\n  the page has {expected:#?}")
                .expect("to a string");
        }
        printed.iter().for_each(|line| writeln!(written, "{line}").expect("to a string"));
    }
    drop(shell);
    assert!(commands > 20, "the page has lost its commands");
    if bless {
        std::fs::write(&page, written).expect("the page is written");
    } else {
        assert!(wrong.is_empty(), "{wrong}");
    }
    served.daemon(test).expect("ours").stop_and_check().expect("the verifier finds nothing");
}
