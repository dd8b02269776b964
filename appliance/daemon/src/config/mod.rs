//! What a daemon is told: by the flags of `up`, or by the file of `serve`.
//!
//! Both make the same `Config`, so nothing behind this file knows which it was. A key the file has
//! and we do not know is refused: a misspelt limit that is silently ignored is found too late. Every
//! refusal names the line, and the key where the file itself is well formed.
//!
//! The exports, the limits and the times of `[nfs]` may change while the daemon runs (`reload.rs`); what
//! else changed in the file holds from the next start on, and is told (`ConfigFile::needs_restart`).

mod exports;
mod mistake;

pub use exports::ExportRule;

use crate::error::Failure;
use crate::place::Place;
use cairn_engine::limits::MEMTABLE_BYTES_MIN;
use cairn_reactor::IdlePolicy;
use nix::errno::Errno;
use serde::Deserialize;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use toml::Spanned;

pub const NFS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2049);
pub const SERVE_SOCKET_DEFAULT: &str = "/run/cairn/control.sock";

#[derive(Clone, Debug)]
pub struct Config {
    pub place: Place,
    pub first_use: FirstUse,
    /// At least one.
    pub nfs: Vec<SocketAddr>,
    /// Register with the machine's rpcbind.
    pub portmap: bool,
    /// `None`: the pool's root for this machine.
    pub exports: Option<Vec<ExportRule>>,
    pub limits: NetLimits,
    pub socket: PathBuf,
    /// Where metrics are answered over HTTP; they always are on the socket.
    pub metrics: Option<SocketAddr>,
    /// Whether faults may be set off over the socket; never said by a file.
    pub debug_triggers: bool,
    /// `None`: by the number of cores (`pin.rs`).
    pub shards: Option<u16>,
    /// What the process may use of everything that grows with load, bytes (`memory.rs`); `None`: each
    /// part has its default.
    pub memory_bytes: Option<usize>,
    /// One shard's budget for its memtables, bytes; `None`: its share of the memory, or the engine's.
    pub memtable_bytes: Option<usize>,
    /// One shard's budget for file data it has read or written; `None`: its part of an eighth of the
    /// machine's memory.
    pub data_cache_bytes: Option<usize>,
    pub idle: IdlePolicy,
    /// Where all of this stands; `None` for `up`.
    pub file: Option<ConfigFile>,
}

/// What connections may do, all shards together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetLimits {
    pub connections_max: u32,
    /// From one address.
    pub connections_per_client_max: u32,
    /// From the first byte of a call to its last.
    pub record_seconds_max: u32,
    /// For a client to take a batch of answers.
    pub send_seconds_max: u32,
    /// Recalls that one address may have queued.
    pub recalls_per_client_max: u32,
}

impl NetLimits {
    /// A client has one connection for each server it mounts from, or 16 with `nconnect`. A thousand
    /// connections that each hold a record of a megabyte open are a gigabyte, which a daemon should
    /// survive without being told. The times are a minute for a megabyte.
    pub const DEFAULT: NetLimits = NetLimits {
        connections_max: 1024,
        connections_per_client_max: 128,
        record_seconds_max: 60,
        send_seconds_max: 60,
        recalls_per_client_max: u32::MAX,
    };
}

/// The file a configuration came from.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// What cannot change while the daemon runs: keys, and their values as the file has them.
    fixed: Vec<(&'static str, String)>,
}

impl ConfigFile {
    /// The keys of which `later` has another value.
    pub fn needs_restart(&self, later: &ConfigFile) -> Vec<&'static str> {
        let changed = self.fixed.iter().zip(&later.fixed).filter(|(old, new)| old != new);
        changed.map(|((key, _), _)| *key).collect()
    }
}

/// Some ten thousand exports: far more than anybody writes by hand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What becomes of a place without a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstUse {
    /// An embedded pool of so many bytes is made; `None`: as `place.rs` chooses.
    Format {
        size: Option<u64>,
    },
    Refuse,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    memory: Option<Spanned<String>>,
    pool: Spanned<PoolSection>,
    #[serde(default)]
    nfs: NfsSection,
    #[serde(default)]
    control: ControlSection,
    #[serde(default)]
    shards: ShardsSection,
    export: Option<Vec<exports::ExportSection>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolSection {
    dir: Option<Spanned<PathBuf>>,
    meta: Option<Spanned<PathBuf>>,
    data: Option<Spanned<PathBuf>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NfsSection {
    listen: Option<Spanned<Listen>>,
    portmap: Option<bool>,
    connections_max: Option<Spanned<u32>>,
    connections_per_client_max: Option<Spanned<u32>>,
    record_seconds_max: Option<Spanned<u32>>,
    send_seconds_max: Option<Spanned<u32>>,
    recalls_per_client_max: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "an address with a port, like \"127.0.0.1:2049\", or a list of them")]
enum Listen {
    One(String),
    Several(Vec<String>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlSection {
    socket: Option<Spanned<PathBuf>>,
    metrics: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardsSection {
    count: Option<Spanned<u16>>,
    memtable: Option<Spanned<String>>,
    data_cache: Option<Spanned<String>>,
    idle: Option<IdleName>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum IdleName {
    Adaptive,
    Busy,
}

fn bytes_of(
    lines: &Lines,
    key: &str,
    text: Option<Spanned<String>>,
) -> Result<Option<usize>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let wrong = |what: &str| {
        let line = lines.at(text.span().start);
        invalid(format!("line {line}: {key}: {what}: {:?}", text.get_ref()))
    };
    let bytes = parse_size(text.get_ref()).ok_or_else(|| wrong(NO_SIZE))?;
    usize::try_from(bytes).map(Some).map_err(|_| wrong("too large"))
}

impl Config {
    /// The daemon of `serve`: it never makes a pool.
    pub fn from_file(path: &Path) -> Result<Config, Failure> {
        let mut config = Config::from_toml(&read(path)?)?;
        config.file = Some(ConfigFile { path: path.to_owned(), fixed: config.fixed() });
        Ok(config)
    }

    fn fixed(&self) -> Vec<(&'static str, String)> {
        vec![
            ("pool", format!("{:?}", self.place)),
            ("nfs.listen", format!("{:?}", self.nfs)),
            ("nfs.portmap", format!("{:?}", self.portmap)),
            ("control.socket", format!("{:?}", self.socket)),
            ("control.metrics", format!("{:?}", self.metrics)),
            ("shards.count", format!("{:?}", self.shards)),
            ("memory", format!("{:?}", self.memory_bytes)),
            ("shards.memtable", format!("{:?}", self.memtable_bytes)),
            ("shards.data_cache", format!("{:?}", self.data_cache_bytes)),
            ("shards.idle", format!("{:?}", self.idle)),
        ]
    }

    /// What the text of a file says.
    pub fn from_toml(text: &str) -> Result<Config, Failure> {
        let lines = &Lines::of(text.as_bytes());
        let file: File =
            toml::from_str(text).map_err(|error| invalid(mistake::told(text, lines, &error)))?;
        let memory_bytes = bytes_of(lines, "memory", file.memory)?;
        let memtable_line = file.shards.memtable.as_ref().map(|text| lines.at(text.span().start));
        let memtable_bytes = bytes_of(lines, "shards.memtable", file.shards.memtable)?;
        if let Some((line, bytes)) = memtable_line.zip(memtable_bytes) {
            refuse_small_memtable(bytes)
                .map_err(|why| invalid(format!("line {line}: shards.memtable: {why}")))?;
        }
        let data_cache_bytes = bytes_of(lines, "shards.data_cache", file.shards.data_cache)?;
        let shards = match file.shards.count {
            Some(count) if *count.get_ref() == 0 => {
                let line = lines.at(count.span().start);
                return Err(invalid(format!(
                    "line {line}: shards.count: a pool needs at least one shard"
                )));
            }
            count => count.map(Spanned::into_inner),
        };
        let socket = match file.control.socket {
            Some(socket) if socket.get_ref().as_os_str().is_empty() => {
                let line = lines.at(socket.span().start);
                return Err(invalid(format!("line {line}: control.socket: no path")));
            }
            socket => socket.map_or_else(|| SERVE_SOCKET_DEFAULT.into(), Spanned::into_inner),
        };
        let metrics = file.control.metrics.map(|at| {
            address(at.get_ref()).map_err(|why| {
                let line = lines.at(at.span().start);
                invalid(format!("line {line}: control.metrics: {why}"))
            })
        });
        let metrics = metrics.transpose()?;
        Ok(Config {
            place: place(lines, file.pool)?,
            first_use: FirstUse::Refuse,
            nfs: match &file.nfs.listen {
                None => vec![NFS_DEFAULT],
                Some(listen) => addresses(listen.get_ref()).map_err(|why| {
                    let line = lines.at(listen.span().start);
                    invalid(format!("line {line}: nfs.listen: {why}"))
                })?,
            },
            portmap: file.nfs.portmap.unwrap_or(false),
            limits: limits(lines, &file.nfs)?,
            exports: match file.export {
                None => None,
                Some(sections) => Some(exports::rules(lines, sections)?),
            },
            file: None,
            socket,
            metrics,
            debug_triggers: false,
            shards,
            memory_bytes,
            memtable_bytes,
            data_cache_bytes,
            idle: match file.shards.idle {
                None | Some(IdleName::Adaptive) => IdlePolicy::Adaptive,
                Some(IdleName::Busy) => IdlePolicy::Busy,
            },
        })
    }
}

fn limits(lines: &Lines, nfs: &NfsSection) -> Result<NetLimits, Failure> {
    let at_least_one = |key: &str, value: &Option<Spanned<u32>>, default: u32| match value {
        None => Ok(default),
        Some(value) if *value.get_ref() == 0 => {
            let line = lines.at(value.span().start);
            Err(invalid(format!("line {line}: nfs.{key}: 0 would let nobody in; at least 1")))
        }
        Some(value) => Ok(*value.get_ref()),
    };
    let default = NetLimits::DEFAULT;
    Ok(NetLimits {
        connections_max: at_least_one(
            "connections_max",
            &nfs.connections_max,
            default.connections_max,
        )?,
        connections_per_client_max: at_least_one(
            "connections_per_client_max",
            &nfs.connections_per_client_max,
            default.connections_per_client_max,
        )?,
        record_seconds_max: at_least_one(
            "record_seconds_max",
            &nfs.record_seconds_max,
            default.record_seconds_max,
        )?,
        send_seconds_max: at_least_one(
            "send_seconds_max",
            &nfs.send_seconds_max,
            default.send_seconds_max,
        )?,
        recalls_per_client_max: at_least_one(
            "recalls_per_client_max",
            &nfs.recalls_per_client_max,
            default.recalls_per_client_max,
        )?,
    })
}

fn addresses(listen: &Listen) -> Result<Vec<SocketAddr>, String> {
    let texts = match listen {
        Listen::One(text) => std::slice::from_ref(text),
        Listen::Several(texts) => texts,
    };
    let addresses = texts.iter().map(|text| address(text));
    let addresses = addresses.collect::<Result<Vec<SocketAddr>, String>>()?;
    assert_listenable(&addresses)?;
    Ok(addresses)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong = "is not an address with a port, like \"127.0.0.1:2049\" or \"[::1]:2049\"";
    text.parse().map_err(|_| format!("{text:?} {wrong}"))
}

/// Whether a list of addresses can be listened on as a whole; of `--nfs` as of the file.
pub fn assert_listenable(addresses: &[SocketAddr]) -> Result<(), String> {
    if addresses.is_empty() {
        return Err("no address to listen on".into());
    }
    for (nth, one) in addresses.iter().enumerate() {
        for other in &addresses[..nth] {
            let same_port = one.port() == other.port() && one.port() != 0;
            if one == other && same_port {
                return Err(format!("{one} comes twice"));
            }
            let all = |at: &SocketAddr| at.is_ipv6() && at.ip().is_unspecified();
            if same_port && (all(one) || all(other)) {
                return Err(format!("[::]:{} is every address already, IPv4 too", one.port()));
            }
        }
    }
    Ok(())
}

/// Where the lines of a file begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &[u8]) -> Lines {
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        Lines(ends.map(|(at, _)| at).collect())
    }

    /// The line of a byte of the file, from 1.
    fn at(&self, at: usize) -> usize {
        1 + self.0.partition_point(|end| *end < at)
    }
}

/// The whole file, which is one: a pipe would be waited for, also by a daemon that serves, and a wrong
/// name may lead to a disk.
fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: &io::Error| Failure::file("cannot read", path, error);
    let found = std::fs::metadata(path).map_err(|e| failed(&e))?;
    if found.is_dir() {
        return Err(failed(&Errno::EISDIR.into()));
    }
    if !found.is_file() {
        return Err(invalid(format!("{} is no file", path.display())));
    }
    if found.len() > FILE_BYTES_MAX {
        let text = format!(
            "{} has {} bytes, a configuration at most {FILE_BYTES_MAX}",
            path.display(),
            found.len()
        );
        return Err(Failure::new(Errno::EFBIG, text));
    }
    let bytes = std::fs::read(path).map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = Lines::of(error.as_bytes()).at(error.utf8_error().valid_up_to());
        invalid(format!("line {line}: not UTF-8"))
    })
}

fn place(lines: &Lines, pool: Spanned<PoolSection>) -> Result<Place, Failure> {
    let line = lines.at(pool.span().start);
    let PoolSection { dir, meta, data } = pool.into_inner();
    let said = |key: &str, path: Option<Spanned<PathBuf>>| match path {
        Some(path) if path.get_ref().as_os_str().is_empty() => {
            let line = lines.at(path.span().start);
            Err(invalid(format!("line {line}: pool.{key}: no path")))
        }
        path => Ok(path.map(Spanned::into_inner)),
    };
    match (said("dir", dir)?, said("meta", meta)?, said("data", data)?) {
        (Some(dir), None, None) => Ok(Place::Dir(dir)),
        (None, Some(meta), data) => Ok(Place::Devices { meta, data }),
        _ => Err(invalid(format!("line {line}: pool: either dir, or meta and perhaps data"))),
    }
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(Errno::EINVAL, text)
}

/// Whether memtables of so many bytes would work; of `--memtable` as of the file. The engine would raise
/// less to this by itself, and show another limit than it keeps.
pub fn refuse_small_memtable(bytes: usize) -> Result<(), String> {
    if bytes < MEMTABLE_BYTES_MIN {
        let least = MEMTABLE_BYTES_MIN >> 10;
        return Err(format!(
            "{bytes} bytes are too few for a shard's memtables: at least {least}K"
        ));
    }
    Ok(())
}

/// What is wrong where `parse_size` has no answer.
pub const NO_SIZE: &str = "a size is a number, perhaps with K M G T P or E, below 16E";

/// Digits, then perhaps one of K M G T P E: powers of 1024.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().next_back()? {
        (at, suffix) if suffix.is_ascii_alphabetic() => {
            let power = "KMGTPE".find(suffix.to_ascii_uppercase())?;
            (&text[..at], 10 * (power as u32 + 1))
        }
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_do_not_wrap() {
        assert_eq!(parse_size("512"), Some(512));
        assert_eq!(parse_size("256K"), Some(256 << 10));
        assert_eq!(parse_size("64g"), Some(64 << 30));
        assert_eq!(parse_size("15E"), Some(15 << 60));
        for bad in ["", "K", "16E", "1KB", "+1", "-1", "1.5G", "1Z", "1 K", "6é"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_file_says_where_the_pool_is_and_the_rest_has_defaults() {
        let config = Config::from_toml("[pool]\nmeta = '/dev/a'\ndata = '/dev/b'").unwrap();
        let expected = Place::Devices { meta: "/dev/a".into(), data: Some("/dev/b".into()) };
        assert_eq!(config.place, expected);
        assert_eq!((config.nfs, config.shards), (vec![NFS_DEFAULT], None));
        assert_eq!((config.limits, config.portmap), (NetLimits::DEFAULT, false));
        assert_eq!(config.first_use, FirstUse::Refuse);
        let all = "[pool]\ndir = 'd'\n[nfs]\nlisten = '[::1]:0'\n[control]\nsocket = 's'\n\
                   metrics = '127.0.0.1:9464'\n[shards]\ncount = 3\nmemtable = '256K'\ndata_cache = '1M'\nidle = 'busy'";
        assert_eq!(config.memory_bytes, None);
        let all = &format!("memory = '1G'\n{all}");
        let config = Config::from_toml(all).unwrap();
        assert_eq!(config.memory_bytes, Some(1 << 30));
        assert_eq!(config.metrics, Some("127.0.0.1:9464".parse().unwrap()));
        assert_eq!(config.memtable_bytes, Some(256 << 10));
        assert_eq!(config.data_cache_bytes, Some(1 << 20));
        assert_eq!((config.shards, config.idle), (Some(3), IdlePolicy::Busy));
    }

    #[test]
    fn connections_have_limits_and_several_addresses() {
        let nfs = "[pool]\ndir='d'\n[nfs]\nlisten = ['127.0.0.1:2049', '[::1]:2049']\nportmap = true\n\
                   connections_max = 9\nconnections_per_client_max = 8\nrecord_seconds_max = 7\n\
                   send_seconds_max = 6\nrecalls_per_client_max = 5";
        let config = Config::from_toml(nfs).unwrap();
        assert_eq!(config.nfs.len(), 2);
        assert!(config.portmap);
        let NetLimits { connections_max, connections_per_client_max, .. } = config.limits;
        assert_eq!((connections_max, connections_per_client_max), (9, 8));
        assert_eq!((config.limits.record_seconds_max, config.limits.send_seconds_max), (7, 6));
        assert_eq!(config.limits.recalls_per_client_max, 5);
    }

    #[test]
    fn the_sample_in_the_documentation_is_a_configuration() {
        let config = Config::from_toml(include_str!("../../../../docs/cairn.toml")).unwrap();
        assert_eq!(config.limits, NetLimits::DEFAULT, "it shows the defaults");
        assert_eq!((config.nfs.len(), config.exports.unwrap().len()), (2, 4));
    }

    #[test]
    fn what_needs_a_restart_is_named_and_what_does_not_is_not() {
        let file = |text: &str| {
            let fixed = Config::from_toml(text).unwrap().fixed();
            ConfigFile { path: "cairn.toml".into(), fixed }
        };
        let old = file("[pool]\ndir = 'd'\n[nfs]\nconnections_max = 3");
        let same = file("[pool]\ndir = 'd'\n[[export]]\npath='/a'\nclients=['::1']");
        assert!(old.needs_restart(&same).is_empty());
        let new = file("[pool]\ndir = 'e'\n[control]\nmetrics = '[::1]:1'\n[shards]\ncount = 2");
        assert_eq!(old.needs_restart(&new), ["pool", "control.metrics", "shards.count"]);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_with_its_place() {
        let refused = |text: &str| Config::from_toml(text).unwrap_err().text;
        assert!(refused("[pool]\ndir='d'\n[shards]\ncuont = 3").starts_with("line 4:"));
        assert!(
            refused("[pool]\ndir='d'\n[nfs]\nconnections_max = 0").starts_with("line 4: nfs.conn")
        );
        let told = refused("[pool]\ndir='d'\n[control]\nmetrics = 'localhost:9464'");
        assert!(told.starts_with("line 4: control.metrics: \"localhost:9464\" is not"), "{told}");
        for (listen, why) in [
            ("'host:1'", "line 4: nfs.listen: \"host:1\" is not"),
            ("[]", "line 4: nfs.listen: no address"),
            ("7", "line 4: nfs.listen: 7 is not an address with a port"),
            ("['[::]:1', '0.0.0.0:1']", "every address already"),
            ("['1.1.1.1:1', '1.1.1.1:1']", "comes twice"),
        ] {
            let text = refused(&format!("[pool]\ndir='d'\n[nfs]\nlisten = {listen}"));
            assert!(text.contains(why), "{listen}: {text}");
        }
        assert!(refused("[pool]\n").starts_with("line 1: pool: either dir"));
        assert!(refused("[pool]\ndir='d'\nmeta='m'").contains("either dir"));
        let lots = refused("[pool]\ndir='d'\n[shards]\nmemtable='lots'");
        assert!(lots.starts_with("line 4: shards.memtable: a size is"), "{lots}");
        for (pool, key) in [("dir=''", "dir"), ("meta=''", "meta"), ("meta='m'\ndata=''", "data")] {
            let line = 1 + pool.lines().count();
            assert_eq!(
                refused(&format!("[pool]\n{pool}")),
                format!("line {line}: pool.{key}: no path")
            );
        }
        for small in ["0", "1", "1K", "65535"] {
            let said = refused(&format!("[pool]\ndir='d'\n[shards]\nmemtable='{small}'"));
            assert!(said.starts_with("line 4: shards.memtable: "), "{said}");
            assert!(said.ends_with("too few for a shard's memtables: at least 64K"), "{said}");
        }
        let least = "[pool]\ndir='d'\n[shards]\nmemtable='64K'\ndata_cache='0'";
        let least = Config::from_toml(least).unwrap();
        assert_eq!((least.memtable_bytes, least.data_cache_bytes), (Some(64 << 10), Some(0)));
        let empty = refused("[pool]\ndir='d'\n[control]\nsocket=''");
        assert_eq!(empty, "line 4: control.socket: no path");
        let none = refused("[pool]\ndir='d'\n[shards]\ncount=0");
        assert!(none.starts_with("line 4: shards.count: a pool needs at least one"), "{none}");
    }

    #[test]
    fn what_is_no_text_file_is_refused_and_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cairn.toml");
        let refused = |path: &Path| Config::from_file(path).unwrap_err();
        std::fs::write(&path, b"[pool]\ndir = 'd'\n# \xff").unwrap();
        assert_eq!(refused(&path).text, "line 3: not UTF-8");
        std::fs::File::create(&path).unwrap().set_len(20 << 30).unwrap();
        assert_eq!(refused(&path).errno, Errno::EFBIG);
        assert!(refused(Path::new("/dev/zero")).text.ends_with("/dev/zero is no file"));
        assert_eq!(refused(dir.path()).errno, Errno::EISDIR);
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(refused(&pipe).errno, Errno::EINVAL);
    }
}
