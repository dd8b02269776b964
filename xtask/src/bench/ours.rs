//! cairn, as a user starts it: a pool in a file on the local disk.

use super::process::Process;
use super::server::Server;
use super::stop::Stop;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The pool's logs are written full when it is made.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
const POOL_SIZE: &str = "16G";

pub struct Cairn {
    process: Process,
    address: String,
}

impl Cairn {
    pub fn start(binary: &Path, folder: &Path, shards: Option<u16>, stop: &Stop) -> Result<Cairn> {
        let mut command = Command::new(binary);
        command.args(["up", "--nfs", "127.0.0.1:0", "--size", POOL_SIZE]);
        command.arg("--dir").arg(folder.join("pool"));
        if let Some(shards) = shards {
            command.args(["--shards", &shards.to_string()]);
        }
        let mut process = Process::start("cairn", &mut command, &folder.join("cairn.log"))?;
        let mut address = None;
        stop.wait_until(READY_TIME_MAX, "the start of cairn", || {
            process.ensure_alive()?;
            address = ready_address(&process.output()?);
            Ok(address.is_some())
        })?;
        Ok(Cairn { process, address: address.context("cairn is ready nowhere")? })
    }

    pub fn server(&self) -> Server {
        Server { url: format!("nfs://{}/", self.address), pid: self.process.pid() }
    }
}

/// From the line `ready nfs ADDR:PORT socket ...`.
pub fn ready_address(output: &str) -> Option<String> {
    let line = output.lines().find_map(|line| line.strip_prefix("ready nfs "))?;
    line.split(' ').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_once_cairn_is_ready() {
        assert_eq!(ready_address("WARN no reserved pages\n"), None);
        let ready = "WARN x\nready nfs 127.0.0.1:4711 socket a/b shards 1\n";
        assert_eq!(ready_address(ready).as_deref(), Some("127.0.0.1:4711"));
    }
}
