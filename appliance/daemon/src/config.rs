//! What a daemon is told: by the flags of `up`, or by the file of `serve`.
//!
//! Both make the same `Config`, so nothing behind this file knows which it was. A key the file has
//! and we do not know is refused: a misspelt limit that is silently ignored is found too late.

use crate::error::Failure;
use crate::place::Place;
use cairn_reactor::IdlePolicy;
use nix::errno::Errno;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub const NFS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2049);
pub const SERVE_SOCKET_DEFAULT: &str = "/run/cairn/control.sock";

#[derive(Clone, Debug)]
pub struct Config {
    pub place: Place,
    pub first_use: FirstUse,
    pub nfs: SocketAddr,
    pub socket: PathBuf,
    /// `None`: by the number of cores (`pin.rs`).
    pub shards: Option<u16>,
    /// One shard's budget for its memtables, bytes; `None`: the engine's.
    pub memtable_bytes: Option<usize>,
    /// One shard's budget for file data it has read or written; `None`: its part of an eighth of the
    /// machine's memory.
    pub data_cache_bytes: Option<usize>,
    pub idle: IdlePolicy,
}

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
    pool: PoolSection,
    #[serde(default)]
    nfs: NfsSection,
    #[serde(default)]
    control: ControlSection,
    #[serde(default)]
    shards: ShardsSection,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolSection {
    dir: Option<PathBuf>,
    meta: Option<PathBuf>,
    data: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NfsSection {
    listen: Option<SocketAddr>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlSection {
    socket: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardsSection {
    count: Option<u16>,
    memtable: Option<String>,
    data_cache: Option<String>,
    idle: Option<IdleName>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum IdleName {
    Adaptive,
    Busy,
}

fn bytes_of(name: &str, text: Option<String>) -> Result<Option<usize>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let bytes = parse_size(&text).ok_or_else(|| invalid(format!("{name}: not a size: {text}")))?;
    let bytes = usize::try_from(bytes).map_err(|_| invalid(format!("{name}: too large")))?;
    Ok(Some(bytes))
}

impl Config {
    /// The daemon of `serve`: it never makes a pool.
    pub fn from_file(path: &Path) -> Result<Config, Failure> {
        let text =
            std::fs::read_to_string(path).map_err(|e| Failure::file("cannot read", path, &e))?;
        Config::from_toml(&text)
    }

    fn from_toml(text: &str) -> Result<Config, Failure> {
        let file: File = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or("", |at| &text[..at.start]);
            let line = 1 + before.matches('\n').count();
            invalid(format!("line {line}: {}", error.message().replace('\n', " ")))
        })?;
        let memtable_bytes = bytes_of("shards.memtable", file.shards.memtable)?;
        let data_cache_bytes = bytes_of("shards.data_cache", file.shards.data_cache)?;
        if file.shards.count == Some(0) {
            return Err(invalid("shards.count: a pool needs at least one shard"));
        }
        Ok(Config {
            place: place(file.pool)?,
            first_use: FirstUse::Refuse,
            nfs: file.nfs.listen.unwrap_or(NFS_DEFAULT),
            socket: file.control.socket.unwrap_or_else(|| SERVE_SOCKET_DEFAULT.into()),
            shards: file.shards.count,
            memtable_bytes,
            data_cache_bytes,
            idle: match file.shards.idle {
                None | Some(IdleName::Adaptive) => IdlePolicy::Adaptive,
                Some(IdleName::Busy) => IdlePolicy::Busy,
            },
        })
    }
}

fn place(pool: PoolSection) -> Result<Place, Failure> {
    match (pool.dir, pool.meta, pool.data) {
        (Some(dir), None, None) => Ok(Place::Dir(dir)),
        (None, Some(meta), data) => Ok(Place::Devices { meta, data }),
        _ => Err(invalid("pool: either dir, or meta and perhaps data")),
    }
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(Errno::EINVAL, text)
}

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
        assert_eq!((config.nfs, config.shards), (NFS_DEFAULT, None));
        assert_eq!(config.first_use, FirstUse::Refuse);
        let all = "[pool]\ndir = 'd'\n[nfs]\nlisten = '[::1]:0'\n[control]\nsocket = 's'\n\
                   [shards]\ncount = 3\nmemtable = '256K'\ndata_cache = '1M'\nidle = 'busy'";
        let config = Config::from_toml(all).unwrap();
        assert_eq!(config.memtable_bytes, Some(256 << 10));
        assert_eq!(config.data_cache_bytes, Some(1 << 20));
        assert_eq!((config.shards, config.idle), (Some(3), IdlePolicy::Busy));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_with_its_place() {
        let refused = |text: &str| Config::from_toml(text).unwrap_err().text;
        assert!(refused("[pool]\ndir='d'\n[shards]\ncuont = 3").starts_with("line 4:"));
        assert!(refused("[pool]\n").contains("either dir"));
        assert!(refused("[pool]\ndir='d'\nmeta='m'").contains("either dir"));
        assert!(refused("[pool]\ndir='d'\n[shards]\nmemtable='lots'").contains("lots"));
        assert!(refused("[pool]\ndir='d'\n[shards]\ncount=0").contains("at least one"));
    }
}
