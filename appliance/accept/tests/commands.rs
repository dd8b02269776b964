//! The commands for operators, against a daemon that works: counters, top, completions, the manual,
//! version; and what each says when it is asked nonsense.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Daemon, Served, cairn, finish, skip_without};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

fn succeeded(daemon: &Daemon, arguments: &[&str]) -> String {
    let finished = daemon.command(arguments).expect("runs");
    finished.succeeded(&arguments.join(" ")).unwrap_or_else(|error| panic!("{error:#}"))
}

fn alone(arguments: &[&str]) -> String {
    let finished = cairn(arguments).and_then(finish).expect("runs");
    finished.succeeded(&arguments.join(" ")).unwrap_or_else(|error| panic!("{error:#}"))
}

/// `name value unit` lines.
fn counters(daemon: &Daemon, arguments: &[&str]) -> BTreeMap<String, u64> {
    let text = succeeded(daemon, &[&["counters"], arguments].concat());
    let counter = |line: &str| {
        let parts: Vec<&str> = line.split(' ').collect();
        let [name, value, unit] = parts[..] else { panic!("not `name value unit`: {line:?}") };
        assert!(!unit.is_empty());
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line:?}")))
    };
    text.lines().map(counter).collect()
}

#[test]
fn counters_count_what_clients_do_and_explain_themselves() {
    let test = "counters";
    let Some(mut served) = Served::start_with(test, |setup| setup.shards = 2) else { return };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    let daemon = served.daemon(test).expect("ours");
    let before = counters(daemon, &[]);
    for number in 0..20 {
        let how = createhow3::GUARDED(sattr3::default());
        let made = client.create(&root, format!("file-{number}").as_bytes(), how).expect("create");
        client.write(&made.handle, 0, &[1; 10_000], stable_how::FILE_SYNC).expect("write");
        client.getattr(&made.handle).expect("getattr");
    }
    let after = counters(daemon, &[]);
    let grew = |name: &str| after[name] - before[name];
    assert_eq!(grew("nfs_create_calls"), 20);
    assert_eq!(grew("nfs_write_calls"), 20);
    assert!(grew("nfs_getattr_calls") >= 20);
    assert!(grew("nfs_write_ns") > 0);
    assert!(grew("received_bytes") > 200_000);
    assert!(grew("sent_bytes") > 0);
    assert!(grew("log_records") >= 20);
    assert!(after["connections"] >= 1);
    assert!(after["connections_accepted"] >= after["connections"]);

    let some = counters(daemon, &["--prefix", "log_"]);
    assert!(some.keys().all(|name| name.starts_with("log_")) && some.contains_key("log_bytes"));
    let none = daemon.command(&["counters", "--prefix", "no such"]).expect("runs");
    assert_eq!(none.status.code(), Some(1), "{}", none.stderr);
    assert!(none.stderr.contains("no counter's name begins so"), "{}", none.stderr);
    let json = succeeded(daemon, &["counters", "--json"]);
    assert_eq!(json.lines().count(), after.len());
    for line in json.lines() {
        let counter: Value = serde_json::from_str(line).expect("JSON");
        let text = |key: &str| counter[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(text("name") && text("unit") && text("kind") && text("help"), "{line}");
        let is_whole = counter["name"].as_str().is_some_and(|name| name.starts_with("memory_"));
        let shards = if is_whole { 0 } else { 2 };
        assert_eq!(counter["shards"].as_array().map(Vec::len), Some(shards), "{line}");
    }
}

#[test]
fn top_prints_one_interval_where_nobody_watches() {
    let test = "top";
    let Some(mut served) = Served::start_with(test, |setup| setup.shards = 2) else { return };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    let worker = std::thread::spawn(move || while client.getattr(&root).is_ok() {});
    let daemon = served.daemon(test).expect("ours");
    // Both have no terminal; one says so.
    for arguments in [&["top"][..], &["top", "--once"]] {
        let text = succeeded(daemon, arguments);
        assert!(text.starts_with("health ok version "), "{text}");
        for part in ["shard 0 busy ", "shard 1 busy ", "nfs getattr calls/s ", "space ", " free "] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }
    let view: Value = serde_json::from_str(&succeeded(daemon, &["top", "--json"])).expect("JSON");
    assert_eq!(view["shards"].as_array().map(Vec::len), Some(2));
    assert!(view["calls_per_s"].as_u64() > Some(0), "{view}");
    assert_eq!(view["procedures"][0]["name"], "getattr");

    if !skip_without(test, "script", "bsdutils") {
        a_terminal_is_given_back(daemon);
    }
    daemon.kill().expect("kill");
    worker.join().expect("ends with its connection");
}

/// A pseudo-terminal of 80 by 24, as `script` makes one; `q` after the first picture.
fn a_terminal_is_given_back(daemon: &Daemon) {
    let program = cairn(&["top"]).expect("there is a program");
    let program = program.get_program().to_string_lossy().into_owned();
    let line = format!(
        "stty cols 80 rows 24; exec '{program}' top --socket '{}'",
        daemon.socket().display()
    );
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script.spawn().expect("script runs");
    let mut keys = child.stdin.take().expect("piped");
    std::thread::spawn(move || {
        // Until it has gone: what was typed before it listens may be lost.
        while keys.write_all(b"q").is_ok() {
            cairn_accept::pause(std::time::Duration::from_millis(200));
        }
    });
    let output = child.wait_with_output().expect("ends");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("\u{1b}[?1049h"), "no screen of its own: {shown:?}");
    assert!(shown.contains("calls/s"), "{shown:?}");
    assert!(shown.ends_with("\u{1b}[?25h") || shown.contains("\u{1b}[?1049l"), "{shown:?}");
}

#[test]
fn nonsense_is_refused_by_name() {
    let test = "nonsense";
    let Some(mut served) = Served::start_with(test, |setup| setup.shards = 2) else { return };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    client.create(&root, b"file", createhow3::GUARDED(sattr3::default())).expect("create");
    let daemon = served.daemon(test).expect("ours");
    for good in ["/file", "//./file", "/", "/."] {
        succeeded(daemon, &["stat", good]);
    }
    let gone = "there is no such inode, or no longer (ESTALE)";
    for (arguments, code, text) in [
        (&["ino-path", "4198401"][..], 1, gone),
        (&["ino-path", "18446744073709551615"], 1, gone),
        (&["get-referring-entries", "ino:4198401"], 1, gone),
        (&["stat", "/file/"], 1, "not a directory (ENOTDIR)"),
        (&["stat", "/file/."], 1, "not a directory (ENOTDIR)"),
        (&["stat", "/../file"], 1, "a path inside cairn has no `..` in it"),
        (&["ino-path", "0"], 2, "an inode is NUMBER or ino:NUMBER, from 1"),
        (&["ino-path", "/a"], 2, "an inode is NUMBER or ino:NUMBER, from 1"),
        (&["get-referring-entries", "ino:x"], 2, "an inode is NUMBER or ino:NUMBER, from 1"),
        (&["changes"], 2, "--since"),
        (&["changes", "--since", "7."], 2, "a place to go on behind is SEQ or SEQ.INO"),
        (&["changes", "--since", "yesterday"], 2, "a place to go on behind is SEQ or SEQ.INO"),
        (&["changes", "--since=-1"], 2, "nothing lies behind the last"),
        (&["counters", "--watch", "0"], 2, "--watch"),
        (&["top", "--interval", "0"], 2, "--interval"),
    ] {
        let finished = daemon.command(arguments).expect("runs");
        assert_eq!(finished.status.code(), Some(code), "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(text), "{arguments:?}: {}", finished.stderr);
        assert_eq!(finished.stdout, "", "{arguments:?}: stdout is for records");
    }
    let stable = succeeded(daemon, &["statfs", "--single-field", "stable_seq"]);
    assert_eq!(
        succeeded(daemon, &["changes", "--since", stable.trim()]),
        "",
        "that is no nonsense"
    );
    for far in ["9999999999999999", "9999999999999999.7", "18446744073709551615"] {
        let refused = daemon.command(&["changes", "--since", far]).expect("runs");
        assert_eq!((refused.status.code(), &*refused.stdout), (Some(1), ""), "{}", refused.stderr);
        let newest = refused.stderr.split("the newest seq of this pool is ").nth(1);
        let newest = newest.and_then(|text| text.split(':').next()?.parse::<u64>().ok());
        assert!(newest >= stable.trim().parse().ok(), "{}", refused.stderr);
        assert!(
            refused.stderr.starts_with(&format!("cairn: changes {far}: ")),
            "{}",
            refused.stderr
        );
    }
    daemon.expect_alive().expect("it goes on");
    daemon.stop().expect("stops");
    for arguments in [
        &["changes", "--since", "0"][..],
        &["ino-path", "1"],
        &["get-referring-entries", "1"],
        &["counters"],
        &["top", "--once"],
    ] {
        let finished = daemon.command(arguments).expect("runs");
        assert_eq!(finished.status.code(), Some(1));
        let said = &finished.stderr;
        assert!(
            said.contains("no daemon listens there; start one with `cairn up`"),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn completions_are_what_the_shells_take() {
    if cairn_accept::binary().is_none() {
        return cairn_accept::skip("completions", "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (shell, package) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        let script = alone(&["completions", shell]);
        for verb in ["get-referring-entries", "walk-inodes", "changes"] {
            assert!(script.contains(verb), "{shell}: {verb} is not offered");
        }
        assert!(!script.contains("debug-populate"), "{shell} offers what is hidden");
        let path = dir.path().join(shell);
        std::fs::write(&path, script).expect("write");
        // The other two are not on every machine, and not worth installing for this.
        let missing = shell != "bash" && !installed(shell);
        if missing || skip_without("completions", shell, package) {
            continue;
        }
        let mut check = Command::new(shell);
        check.arg("-n").arg(&path);
        let finished = finish(check).expect("runs");
        finished.succeeded(&format!("{shell} -n")).unwrap_or_else(|error| panic!("{error:#}"));
    }
    let refused = cairn(&["completions", "tcsh"]).and_then(finish).expect("runs");
    assert_eq!(refused.status.code(), Some(2));
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    if cairn_accept::binary().is_none() {
        return cairn_accept::skip("manual", "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("man1");
    assert_eq!(alone(&["man", "--out", &out.to_string_lossy()]), "");
    let pages: Vec<_> = std::fs::read_dir(&out).expect("was made").collect();
    assert!(pages.len() > 15, "{} pages", pages.len());
    let page = std::fs::read_to_string(out.join("cairn-changes.1")).expect("is there");
    assert_eq!(alone(&["man", "changes"]), page);
    assert!(alone(&["man"]).contains("cairn\\-changes(1)"));
    assert_eq!(alone(&["man", "cairn"]), alone(&["man"]));
    let refused = cairn(&["man", "no-such"]).and_then(finish).expect("runs");
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(refused.stderr, "cairn: man no-such: there is no such command (EINVAL)\n");
    if skip_without("manual", "groff", "groff-base") {
        return;
    }
    for page in pages {
        let path = page.expect("listed").path();
        let mut groff = Command::new("groff");
        // The options behind -P have bold as plain letters.
        groff.args(["-man", "-Tutf8", "-ww", "-P-cbou"]).arg(&path);
        let finished = finish(groff).expect("runs");
        assert_eq!(finished.stderr, "", "{}", path.display());
        assert!(finished.stdout.contains("SYNOPSIS"), "{}", path.display());
    }
}

#[test]
fn the_version_says_what_was_built() {
    if cairn_accept::binary().is_none() {
        return cairn_accept::skip("version", "the cairn binary");
    }
    let record: Value = serde_json::from_str(&alone(&["version", "--json"])).expect("JSON");
    let text = alone(&["version"]);
    let version = record["version"].as_str().expect("version");
    assert!(text.starts_with(&format!("version {version}\ncommit ")), "{text}");
    let commit = record["commit"].as_str().expect("commit");
    let is_hash = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || commit == "unknown", "{commit:?}");
    assert!(record["format_version"].as_u64() >= Some(1));
    assert!(record["features"].as_array().expect("a list").iter().any(|f| f == "nfs3"));
}
