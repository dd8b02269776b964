//! What the daemon says once it serves, with commands to paste.
//!
//! The commands are for Debian's libnfs tools, which need no mount and no root. They take both ports
//! in the URL, which spares them the port mapper, and the root directory's files after two slashes:
//! the first ends the host, the second is the export.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// With the real ports, also where 0 was asked for. At least one; the first is what the commands
    /// name.
    pub nfs: Vec<SocketAddr>,
    pub socket: PathBuf,
    /// Where metrics are answered over HTTP, with the real port.
    pub metrics: Option<SocketAddr>,
    pub shards: u16,
}

impl Ready {
    pub fn first(&self) -> SocketAddr {
        self.nfs.first().copied().unwrap_or(crate::config::NFS_DEFAULT)
    }

    /// Shell commands that list, fill and read the root directory, and ask the daemon how it is.
    /// `program` is how the user called us.
    pub fn commands(&self, program: &str) -> Vec<String> {
        let nfs = self.first();
        let name = host(nfs);
        let port = nfs.port();
        let ports = format!("nfsport={port}&mountport={port}");
        let socket = quoted(&self.socket.display().to_string());
        let metrics =
            self.metrics.map(|at| format!("curl -s http://{}:{}/metrics", host(at), at.port()));
        let mut commands = vec![
            format!("nfs-ls 'nfs://{name}/?{ports}'"),
            format!("nfs-cp /etc/hostname 'nfs://{name}//hostname?{ports}'"),
            format!("nfs-cat 'nfs://{name}//hostname?{ports}'"),
            format!("{} status --socket {socket}", quoted(program)),
        ];
        commands.extend(metrics);
        commands
    }
}

/// As this machine reaches it.
fn host(at: SocketAddr) -> String {
    match at.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => "127.0.0.1".to_owned(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => "[::1]".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// For a POSIX shell, quoted only where it must be.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,=@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_the_real_port_and_survive_a_shell() {
        let ready = Ready {
            nfs: vec!["0.0.0.0:40001".parse().unwrap(), "[::1]:7".parse().unwrap()],
            socket: "it's/control.sock".into(),
            metrics: Some("127.0.0.1:9464".parse().unwrap()),
            shards: 1,
        };
        let commands = ready.commands("target/release/cairn");
        assert_eq!(commands[0], "nfs-ls 'nfs://127.0.0.1/?nfsport=40001&mountport=40001'");
        assert_eq!(commands[4], "curl -s http://127.0.0.1:9464/metrics");
        assert_eq!(commands[3], r"target/release/cairn status --socket 'it'\''s/control.sock'");
    }
}
