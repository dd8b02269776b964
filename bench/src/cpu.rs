//! How much processor time a process has used, and which process listens on a port.
//!
//! Both are read from `/proc`. `utime` and `stime` of `/proc/PID/stat` count all threads, also those
//! that have ended, in ticks of 10 ms. What kernel threads do for a process (a loop device's worker,
//! a journal's thread) is not in it: a server inside one program is charged in full, and one that leans
//! on the kernel is charged less than it costs. Only a process on this machine can be asked.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid(pub u32);

/// USER_HZ of every Linux that runs on x86-64.
const TICK: Duration = Duration::from_millis(10);

pub fn myself() -> Pid {
    Pid(std::process::id())
}

pub fn used(pid: Pid) -> Result<Duration> {
    let path = format!("/proc/{}/stat", pid.0);
    let stat = std::fs::read_to_string(&path).with_context(|| {
        format!("{path}: no such process: has the server ended, or is --server-pid wrong?")
    })?;
    ticks(&stat).map(|ticks| TICK * ticks).with_context(|| format!("{path} has no times"))
}

/// utime + stime: fields 14 and 15, counted behind the name, which may itself hold blanks.
fn ticks(stat: &str) -> Option<u32> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// The process that listens there, when the address is of this machine and we may look.
pub fn listener(address: SocketAddr) -> Option<Pid> {
    if !address.ip().is_loopback() {
        return None;
    }
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, address.port()))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = std::fs::read_dir("/proc").ok()?;
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .find(|pid| holds_any(*pid, &sockets))
        .map(Pid)
}

/// Inodes of the sockets that listen on `port`: state 0A, the local port in hexadecimal.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == "0A";
        listens.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn holds_any(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
        return false;
    };
    files
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_blanks_and_brackets() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 90 0 0 0 250 50 0 0 20 0 4 0 100";
        assert_eq!(ticks(stat), Some(300));
    }

    #[test]
    fn only_listening_sockets_of_the_port_are_found() {
        let table = "  sl  local_address rem_address   st tx rx tr tm retr uid timeout inode\n\
            0: 0100007F:0801 00000000:0000 0A 0:0 0:0 0 0 0 4711 1 0\n\
            1: 0100007F:0801 0100007F:9999 01 0:0 0:0 0 0 0 4712 1 0\n\
            2: 0100007F:0802 00000000:0000 0A 0:0 0:0 0 0 0 4713 1 0\n";
        assert_eq!(listening_inodes(table, 2049), ["4711"]);
    }
}
