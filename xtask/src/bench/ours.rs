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
    socket: String,
}

impl Cairn {
    /// On a new pool in `folder`, with `more` arguments of `cairn up`.
    pub fn start(binary: &Path, folder: &Path, more: &[&str], stop: &Stop) -> Result<Cairn> {
        let mut command = Command::new(binary);
        command.args(["up", "--nfs", "127.0.0.1:0", "--size", POOL_SIZE]);
        command.arg("--dir").arg(folder.join("pool"));
        command.args(more);
        let mut process = Process::start("cairn", &mut command, &folder.join("cairn.log"))?;
        let mut ready = None;
        stop.wait_until(READY_TIME_MAX, "the start of cairn", || {
            process.ensure_alive()?;
            ready = parse_ready(&process.output()?);
            Ok(ready.is_some())
        })?;
        let (address, socket) = ready.context("cairn is ready nowhere")?;
        Ok(Cairn { process, address, socket })
    }

    pub fn server(&self) -> Server {
        Server { url: format!("nfs://{}/", self.address), pid: self.process.pid() }
    }

    /// Where it answers the command line.
    pub fn socket(&self) -> &str {
        &self.socket
    }
}

/// Address and socket, from the line `ready nfs ADDR:PORT socket PATH shards N`.
pub fn parse_ready(output: &str) -> Option<(String, String)> {
    let line = output.lines().find_map(|line| line.strip_prefix("ready nfs "))?;
    let (address, rest) = line.split_once(" socket ")?;
    let (socket, _) = rest.rsplit_once(" shards ")?;
    Some((address.to_owned(), socket.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_once_cairn_is_ready() {
        assert_eq!(parse_ready("WARN no reserved pages\n"), None);
        let ready = "WARN x\nready nfs 127.0.0.1:4711 socket a/b shards 1\n";
        let (address, socket) = parse_ready(ready).expect("it is ready");
        assert_eq!((address.as_str(), socket.as_str()), ("127.0.0.1:4711", "a/b"));
    }
}
