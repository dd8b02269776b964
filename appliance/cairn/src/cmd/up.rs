//! `cairn up`: a daemon with an embedded pool, in the foreground.

use super::serve::announce;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::log::LogArgs;
use crate::pool_args::DIR_DEFAULT;
use cairn_daemon::{
    Config, FirstUse, IdlePolicy, NFS_DEFAULT, NO_SIZE, NetLimits, Place, assert_listenable,
    parse_size, refuse_small_memtable,
};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Serve an embedded pool in the foreground
#[derive(Args)]
#[command(
    long_about = "Serve an embedded pool in the foreground: the file DIR/pool, made at first use \
                  and never reformatted. Exports its root directory as / over NFS version 3, \
                  read-write, to this machine only; NFS, MOUNT and port mapper answer on the one \
                  port. Other exports are in the configuration of `cairn serve`. Prints `ready` when it serves. SIGTERM or SIGINT ends it in order.",
    after_help = "Examples:\n  cairn up\n  cairn up --dir /srv/archive --size 2T --nfs 127.0.0.1:12049\n  \
                  cairn up --nfs 127.0.0.1:0          any free port; `ready` says which\n  \
                  cairn up --memory 256M                a small machine, or a shared one\n  \
                  cairn up --nfs 127.0.0.1:2049 --nfs '[::1]:2049' --portmap"
)]
pub struct Up {
    /// Where the pool lives
    #[arg(long, value_name = "DIR", default_value = DIR_DEFAULT)]
    dir: PathBuf,

    /// Size of a new pool, sparse [default: 64G, or half the free space where that is less]
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    size: Option<u64>,

    /// Where NFS listens, once for each address; port 0 is any free one
    #[arg(long, value_name = "ADDR:PORT", value_parser = address, default_values_t = [NFS_DEFAULT])]
    nfs: Vec<SocketAddr>,

    /// Register NFS and MOUNT with this machine's rpcbind (port 111)
    #[arg(long)]
    portmap: bool,

    /// Answer GET /metrics there, for Prometheus; no password is asked for [default: on the socket only]
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    metrics: Option<SocketAddr>,

    /// Let `cairn debug trigger` set off faults in this daemon: for tests only
    #[arg(long)]
    debug_triggers: bool,

    #[command(flatten)]
    tuning: Tuning,

    #[command(flatten)]
    log: LogArgs,
}

/// What tests turn, and machines that need it.
#[derive(Args)]
pub struct Tuning {
    /// Cores that serve [default: all, less one on machines of up to 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024),
          allow_negative_numbers = true)]
    pub shards: Option<u16>,

    /// Memory for everything that grows with load, all shards together (docs/memory.md)
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    pub memory: Option<u64>,

    /// One shard's budget for all its memtables, at least 64K [default: its share of --memory, or 64M]
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    pub memtable: Option<u64>,

    /// One shard's cache of file data; 0 keeps none and reads nothing ahead [default: its share of --memory, or a quarter of the machine's memory over all shards]
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    pub data_cache: Option<u64>,
}

impl Tuning {
    /// What was said wins over what `config` has.
    pub fn apply(&self, config: &mut Config) -> Result<(), Error> {
        config.shards = self.shards.or(config.shards);
        if let Some(bytes) = self.memory {
            let bytes =
                usize::try_from(bytes).map_err(|_| Error::usage("--memory", "too large"))?;
            config.memory_bytes = Some(bytes);
        }
        if let Some(bytes) = self.memtable {
            let bytes =
                usize::try_from(bytes).map_err(|_| Error::usage("--memtable", "too large"))?;
            refuse_small_memtable(bytes).map_err(|why| Error::usage("--memtable", why))?;
            config.memtable_bytes = Some(bytes);
        }
        if let Some(bytes) = self.data_cache {
            let bytes =
                usize::try_from(bytes).map_err(|_| Error::usage("--data-cache", "too large"))?;
            config.data_cache_bytes = Some(bytes);
        }
        Ok(())
    }
}

impl Up {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        self.log.begin()?;
        assert_listenable(&self.nfs).map_err(|why| Error::usage("--nfs", why))?;
        let mut config = Config {
            place: Place::Dir(self.dir.clone()),
            first_use: FirstUse::Format { size: self.size },
            nfs: self.nfs.clone(),
            portmap: self.portmap,
            exports: None,
            limits: NetLimits::DEFAULT,
            socket: globals
                .socket
                .clone()
                .unwrap_or_else(|| self.dir.join(crate::live::SOCKET_FILE)),
            metrics: self.metrics,
            debug_triggers: self.debug_triggers,
            shards: None,
            memory_bytes: None,
            memtable_bytes: None,
            data_cache_bytes: None,
            idle: IdlePolicy::Adaptive,
            file: None,
        };
        self.tuning.apply(&mut config)?;
        let ready = |ready: &cairn_daemon::Ready| announce(ready, globals.json);
        cairn_daemon::run(config, ready)
            .map_err(|failure| Error::failure(self.dir.display(), failure))?;
        Ok(Outcome::Done)
    }
}

/// For clap.
pub fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| NO_SIZE.into())
}

/// For clap, as the file of `serve` has it.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "an address with a port, like 127.0.0.1:2049 or [::1]:2049, and no name".into();
    text.parse().map_err(|_| wrong())
}
