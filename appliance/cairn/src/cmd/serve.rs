//! `cairn serve`: the same daemon, told by a file.

use super::up::{Tuning, address};
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::log::LogArgs;
use cairn_daemon::{Config, Ready};
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Serve a pool as a configuration file says
#[derive(Args)]
#[command(
    long_about = "Serve a pool as a configuration file says. The daemon is that of `up`, but it \
                  never makes a pool: use `cairn format` first. SIGHUP reads the file again: exports \
                  and the limits of connections change at once, a file with a mistake is refused \
                  with its place, and what was in force stays. All keys: docs/exports.md.",
    after_help = "Example:\n  cairn serve --config /etc/cairn/cairn.toml\n\n\
                  The file:\n  memory = \"4G\"               # of everything that grows with load (docs/memory.md)\n  [pool]\n  meta = \"/dev/nvme0n1\"       # or: dir = \"/srv/archive\"\n  \
                  data = \"/dev/nvme1n1\"       # without it, meta holds everything\n  \
                  [nfs]\n  listen = [\"0.0.0.0:2049\", \"[::1]:2049\"]  # or one, without brackets\n  \
                  portmap = true              # register with rpcbind (port 111)\n  \
                  [[export]]                  # none: the root, for this machine only\n  \
                  path = \"/projects\"\n  clients = [\"10.0.0.0/8\", \"2001:db8::/32\"]\n  \
                  access = \"rw\"               # or \"ro\"\n  recall = true               # or false: refuse what is offline\n  squash = \"root\"             # or \"none\", \"all\"\n  \
                  [control]\n  socket = \"/run/cairn/control.sock\"\n  metrics = \"127.0.0.1:9464\"  # GET /metrics, for Prometheus\n  \
                  [shards]\n  count = 4                   # default: by the number of cores\n  \
                  memtable = \"64M\"            # one shard's budget\n  \
                  idle = \"adaptive\"           # or \"busy\": never sleep"
)]
pub struct Serve {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/cairn/cairn.toml")]
    config: PathBuf,

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

impl Serve {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        self.log.begin()?;
        let failed = |failure| Error::failure(self.config.display(), failure);
        let mut config = Config::from_file(&self.config).map_err(failed)?;
        self.tuning.apply(&mut config)?;
        config.portmap |= self.portmap;
        config.metrics = self.metrics.or(config.metrics);
        config.debug_triggers = self.debug_triggers;
        if let Some(socket) = &globals.socket {
            config.socket.clone_from(socket);
        }
        let place = config.place.to_string();
        let ready = |ready: &Ready| announce(ready, globals.json);
        cairn_daemon::run(config, ready).map_err(|failure| Error::failure(place, failure))?;
        Ok(Outcome::Done)
    }
}

#[derive(Serialize)]
struct ReadyRecord {
    event: &'static str,
    nfs: String,
    nfs_port: u16,
    nfs_all: Vec<String>,
    socket: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
    shards: u16,
    commands: Vec<String>,
}

/// The one thing a daemon writes to stdout. Whoever started it may not be reading: that is no
/// reason to stop serving.
pub fn announce(ready: &Ready, json: bool) {
    let called = std::env::args_os().next().unwrap_or_else(|| "cairn".into());
    let program = called.to_string_lossy();
    let commands = ready.commands(&program);
    let mut text = if json {
        let record = ReadyRecord {
            event: "ready",
            nfs: ready.first().to_string(),
            nfs_port: ready.first().port(),
            nfs_all: ready.nfs.iter().map(|at| at.to_string()).collect(),
            socket: ready.socket.display().to_string(),
            metrics: ready.metrics.map(|at| at.to_string()),
            shards: ready.shards,
            commands,
        };
        serde_json::to_string(&record).unwrap_or_default()
    } else {
        let all: Vec<String> = ready.nfs.iter().map(|at| at.to_string()).collect();
        let first = format!(
            "ready nfs {} socket {} shards {}{}",
            all.join(","),
            ready.socket.display(),
            ready.shards,
            ready.metrics.map(|at| format!(" metrics {at}")).unwrap_or_default()
        );
        let commands = commands.into_iter().map(|command| format!("  {command}"));
        std::iter::once(first).chain(commands).collect::<Vec<_>>().join("\n")
    };
    text.push('\n');
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        tracing::warn!("cannot say ready: {}", Error::io("stdout", &error));
    }
}
