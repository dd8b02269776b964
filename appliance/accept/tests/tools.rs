//! Debian's libnfs tools use it as any user would: nfs-ls, nfs-cp, nfs-cat.

use cairn_accept::{Served, finish, skip_without};
use std::path::Path;
use std::process::Command;

const PACKAGE: &str = "libnfs-utils";

fn url(port: u16, name: &str) -> String {
    format!("nfs://127.0.0.1//{name}?nfsport={port}&mountport={port}")
}

fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    let what = format!("{program} {}", arguments.join(" "));
    let finished = finish(command).and_then(|finished| finished.succeeded(&what));
    finished.unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn the_tools_of_debian_copy_list_and_read() {
    let test = "libnfs_tools";
    if ["nfs-ls", "nfs-cp", "nfs-cat"].iter().any(|tool| skip_without(test, tool, PACKAGE)) {
        return;
    }
    let Some(mut served) = Served::start(test) else { return };
    if served.is_foreign() {
        return;
    }
    let port = served.address().nfs.port();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let local = dir.path().join("local.txt");
    let text: String = (0..30_000).map(|line| format!("line {line}\n")).collect();
    std::fs::write(&local, &text).expect("write");
    let path = |path: &Path| path.to_string_lossy().into_owned();

    run("nfs-cp", &[&path(&local), &url(port, "copied.txt")]);
    let listed = run("nfs-ls", &[&url(port, "")]);
    let line = listed.lines().find(|line| line.ends_with(" copied.txt"));
    let line = line.unwrap_or_else(|| panic!("copied.txt is not listed:\n{listed}"));
    assert!(line.contains(&format!(" {} ", text.len())), "another size: {line}");
    assert!(run("nfs-cat", &[&url(port, "copied.txt")]) == text, "nfs-cat shows other bytes");

    let daemon = served.daemon(test).expect("ours");
    daemon.kill().expect("kill");
    daemon.restart().expect("restart");
    let back = dir.path().join("back.txt");
    run("nfs-cp", &[&url(port, "copied.txt"), &path(&back)]);
    let back = std::fs::read_to_string(&back).expect("copied back");
    assert!(back == text, "other bytes after a kill");
}
