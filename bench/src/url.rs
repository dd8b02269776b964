//! `nfs://HOST[:PORT]/PATH[?mountport=PORT]`, read strictly: a benchmark of the wrong server is worse
//! than none.

use anyhow::{Context, Result, bail, ensure};
use std::net::{SocketAddr, ToSocketAddrs};

pub const NFS_PORT: u16 = 2049;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
    /// The export to mount.
    pub path: String,
    pub mount_port: Option<u16>,
}

impl Url {
    pub fn parse(text: &str) -> Result<Url> {
        let rest = text
            .strip_prefix("nfs://")
            .with_context(|| format!("{text}: an URL looks like nfs://HOST:PORT/PATH"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) =
            split_port(authority).with_context(|| format!("{text}: bad host or port"))?;
        let mut mount_port = None;
        for setting in query.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(("mountport", port)) => {
                    mount_port =
                        Some(port.parse().with_context(|| format!("{text}: bad mountport"))?);
                }
                _ => bail!("{text}: {setting} is not known; only mountport=PORT is"),
            }
        }
        Ok(Url { host, port: port.unwrap_or(NFS_PORT), path: format!("/{path}"), mount_port })
    }

    pub fn address(&self) -> Result<SocketAddr> {
        (self.host.as_str(), self.port)
            .to_socket_addrs()
            .with_context(|| format!("cannot resolve {}", self.host))?
            .next()
            .with_context(|| format!("{} has no address", self.host))
    }
}

fn split_port(authority: &str) -> Result<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').context("the bracket stays open")?;
            (host, port.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    ensure!(!host.is_empty(), "the host is missing");
    let port = port.map(str::parse).transpose().context("the port is a number up to 65535")?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read() {
        let url = Url::parse("nfs://[::1]:12049/export/a?mountport=20048").expect("a good URL");
        assert_eq!(url.address().expect("a literal").to_string(), "[::1]:12049");
        assert_eq!((url.path.as_str(), url.mount_port), ("/export/a", Some(20048)));
        let short = Url::parse("nfs://127.0.0.1").expect("a good URL");
        assert_eq!(short.address().expect("a literal").port(), NFS_PORT);
        assert_eq!((short.path.as_str(), short.mount_port), ("/", None));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "http://a/",
            "nfs://",
            "nfs://a:b/",
            "nfs://a:99999/",
            "nfs://a/?port=1",
            "nfs://[::1/x",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
