//! The configuration of `serve`: text that an operator wrote, or another program did.
//!
//! Not hostile, but foreign all the same: a daemon that dies of a typing mistake cannot say where it
//! is. So besides what is accepted, the refusal is looked at: it names a line that the file has.

use super::{Target, Verdict};
use crate::specimen::Specimen;
use cairn_daemon::{Config, parse_size};
use cairn_nfs::export::components;
use std::borrow::Cow;

pub const TARGET: Target =
    Target { name: "config", run, modes: 0, bytes_max: 4 << 10, heap_max: 4 << 20, specimens };

const FULL: &str = r#"memory = "4G"
[pool]
meta = "/dev/nvme0n1"
data = "/dev/nvme1n1"
[nfs]
listen = ["127.0.0.1:2049", "[::1]:2049"]
portmap = true
connections_max = 100
connections_per_client_max = 10
record_seconds_max = 5
send_seconds_max = 6
[control]
socket = "/run/cairn/control.sock"
[shards]
count = 3
memtable = "64M"
data_cache = "1g"
idle = "busy"
[[export]]
path = "/projects"
clients = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]
access = "ro"
squash = "all"
anon_uid = 7
anon_gid = 8
secure = true
id = 12
[[export]]
path = "/"
clients = ["::1"]
"#;

fn specimens() -> Vec<Specimen> {
    let of = |name: &str, text: &str| Specimen::new(name, &[text.as_bytes()]);
    vec![
        of("full", FULL),
        of("smallest", "[pool]\ndir = 'd'\n"),
        of("inline", "pool = { dir = 'd' }\nnfs = { listen = '0.0.0.0:0' }\nexport = []\n"),
        of("export", "[pool]\ndir = 'd'\n[[export]]\npath = '//a/b/'\nclients = ['0.0.0.0/0']\n"),
        of("misspelt", "[pool]\ndir = 'd'\n[nsf]\nportmap = true\n"),
        of("wrong-kind", "[pool]\ndir = 'd'\n[[export]]\npath = 5\nclients = '::1'\n"),
        of(
            "mapped",
            "[pool]\ndir = 'd'\n[[export]]\npath = '/'\nclients = ['::ffff:10.0.0.0/104']\n",
        ),
        of("dotted", "pool.dir = 'd'\nshards.count = 2\nshards.memtable = '8M'\n"),
        of("unended", "[pool]\ndir = \"d\n"),
        of("deep", &format!("pool.dir = 'd'\nexport = {}{}", "[".repeat(100), "]".repeat(100))),
    ]
}

pub fn run(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused("not UTF-8".into());
    };
    for word in text.split(['"', '\'', '\n']).take(64) {
        size(word);
    }
    match Config::from_toml(text) {
        Ok(config) => {
            sound(&config);
            let again = Config::from_toml(text).map(|config| format!("{config:?}"));
            assert_eq!(again, Ok(format!("{config:?}")), "a file means one thing");
            Verdict::Accepted
        }
        Err(failure) => refused(text, &failure.text),
    }
}

/// A size means the same with its unit written out.
fn size(word: &str) {
    if let Some(bytes) = parse_size(word) {
        assert_eq!(parse_size(&bytes.to_string()), Some(bytes));
        assert_eq!(parse_size(&word.to_lowercase()), Some(bytes));
    }
}

fn sound(config: &Config) {
    assert!(!config.nfs.is_empty());
    assert_ne!(config.shards, Some(0));
    assert!(config.limits.connections_max > 0 && config.limits.record_seconds_max > 0);
    let exports = config.exports.iter().flatten();
    for rule in exports.clone() {
        let name = rule.rules.name();
        assert!(components(&name).eq(rule.rules.path.iter().map(|part| &part[..])));
        assert!(rule.rules.id.0 > 0 && !rule.rules.clients.is_empty());
        for clients in &rule.rules.clients {
            assert!(clients.contains(clients.first()), "a network holds its first address");
            let (address, prefix) = (clients.first(), clients.text());
            assert!(prefix.starts_with(&address.to_string()), "{prefix} begins at {address}");
        }
    }
    let mut ids: Vec<_> = exports.clone().map(|rule| rule.rules.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), exports.count(), "ids are the exports' own");
}

/// `line N: …`, and N is a line of the file or the one behind its last.
fn refused(text: &str, said: &str) -> Verdict {
    let (line, why) = said
        .strip_prefix("line ")
        .and_then(|rest| rest.split_once(": "))
        .unwrap_or_else(|| panic!("a refusal names its line: {said}"));
    let line: usize = line.parse().unwrap_or_else(|_| panic!("a line is a number: {said}"));
    let lines = 1 + text.bytes().filter(|byte| *byte == b'\n').count();
    assert!((1..=lines).contains(&line), "line {line} of {lines}: {said}");
    assert!(!why.is_empty() && !why.contains('\n'), "one line: {said:?}");
    Verdict::Refused(kind_of(why))
}

/// The words before anything that the file said.
fn kind_of(why: &str) -> Cow<'static, str> {
    const KINDS: [&str; 16] = [
        "unknown field",
        "unknown variant",
        "missing field",
        "duplicate key",
        "is not an address",
        "has bits behind",
        "no zeros in front",
        "matches nobody",
        "has only",
        "already",
        "the same id",
        "either dir",
        "comes twice",
        "a size is",
        "too few",
        "is not",
    ];
    KINDS.iter().find(|kind| why.contains(*kind)).map_or("other".into(), |kind| (*kind).into())
}
