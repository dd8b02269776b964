//! What is exported, to whom, and how: the rules that stand between a client and the file system.
//!
//! An export is a directory of the pool under a name that clients mount. It is data; where it comes
//! from (the configuration, or the built-in one) does not matter here. Nothing about a
//! client is remembered when it mounts: its address, the port it calls from and what it may do are
//! looked at again for every call, so a changed rule holds at once and a handle that wandered to
//! another machine is worth nothing there.
//!
//! The names of exports are kept as lists of components. So repeated slashes, a slash at the end
//! and the empty path need no cases of their own, and `/a/b` is never mistaken for a part of `/a/bc`.
//! The longest export that a mount path begins with serves it; what is left of the path is walked in
//! the file system (`proc/mount.rs`).
//!
//! An export's id stands in every handle a client holds, so it must be the same after a restart and
//! after every change of the other exports. Unless the configuration names one, it is derived from
//! the export's path and from nothing else (`docs/decisions/0011-export-ids.md`).
//!
//! Not here: what squashing does to a credential (`auth.rs`), and security flavours, of which there
//! are only AUTH_SYS and AUTH_NONE.

use crate::auth::{Anonymous, Squash, identity};
use cairn_base::hash::siphash64;
use cairn_engine::Cred;
use cairn_format::InodeNo;
use cairn_net::rpc::Credential;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Stands in handles, so it is never used for another export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExportId(pub u32);

impl ExportId {
    /// Ids above belong to paths, those up to here to whoever writes the configuration.
    pub const CHOSEN_MAX: u32 = (1 << 31) - 1;

    /// The id of an export that names none. The whole pool is 1, as it was before there were others.
    pub fn of_path(path: &[Box<[u8]>]) -> ExportId {
        if path.is_empty() {
            return ExportId(1);
        }
        let mut bytes = Vec::new();
        for component in path {
            bytes.push(b'/');
            bytes.extend_from_slice(component);
        }
        // Handles are sealed with a key, so nothing is gained by finding two paths of one id.
        let [.., a, b, c, d] = siphash64(b"cairn export id.", &bytes).to_be_bytes();
        ExportId(u32::from_be_bytes([a, b, c, d]) | (ExportId::CHOSEN_MAX + 1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    ReadWrite,
    ReadOnly,
}

/// Which ports a call may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    Any,
    /// Below 1024, where a client's kernel lets only root send from.
    Reserved,
}

/// Addresses that begin with the same `prefix` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u32,
}

impl Cidr {
    /// `None` when the address does not have `prefix` bits.
    pub fn new(network: IpAddr, prefix: u32) -> Option<Cidr> {
        let bits = match network {
            IpAddr::V4(_) => Ipv4Addr::BITS,
            IpAddr::V6(_) => Ipv6Addr::BITS,
        };
        (prefix <= bits).then_some(Cidr { network, prefix })
    }

    pub fn contains(self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.checked_shr(Ipv4Addr::BITS - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.checked_shr(Ipv6Addr::BITS - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// The address without the bits behind the prefix.
    pub fn first(self) -> IpAddr {
        match self.network {
            IpAddr::V4(network) => {
                let mask = u32::MAX.checked_shl(Ipv4Addr::BITS - self.prefix).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(network.to_bits() & mask))
            }
            IpAddr::V6(network) => {
                let mask = u128::MAX.checked_shl(Ipv6Addr::BITS - self.prefix).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() & mask))
            }
        }
    }

    /// As EXPORT lists it.
    pub fn text(self) -> String {
        format!("{}/{}", self.network, self.prefix)
    }
}

#[derive(Clone, Debug)]
pub struct Export {
    pub id: ExportId,
    /// The components of the name that clients mount; none for `/`.
    pub path: Vec<Box<[u8]>>,
    /// The directory behind it.
    pub root: InodeNo,
    pub mode: Mode,
    pub squash: Squash,
    pub anonymous: Anonymous,
    pub ports: Ports,
    /// Does a request for offline data queue a recall? Otherwise it is refused (ACCES).
    pub recalls: bool,
    pub clients: Vec<Cidr>,
}

impl Export {
    /// Whether a call from there may use this export at all.
    pub fn admits(&self, peer: SocketAddr) -> bool {
        // A dual-stack socket shows IPv4 clients as mapped addresses.
        let address = peer.ip().to_canonical();
        let port = match self.ports {
            Ports::Any => true,
            Ports::Reserved => peer.port() < 1024,
        };
        port && self.clients.iter().any(|clients| clients.contains(address))
    }

    /// Whom a call through this export acts for.
    pub fn cred(&self, credential: &Credential) -> Cred {
        let who = identity(credential, self.squash, self.anonymous);
        Cred::user(who.uid, who.gid, &who.groups)
    }

    /// The name as clients write it.
    pub fn name(&self) -> Vec<u8> {
        if self.path.is_empty() {
            return b"/".to_vec();
        }
        self.path.iter().flat_map(|component| [b"/", &component[..]].concat()).collect()
    }

    /// Who may mount it, for EXPORT.
    pub fn groups(&self) -> Vec<String> {
        self.clients.iter().map(|clients| clients.text()).collect()
    }
}

/// All exports of a pool.
#[derive(Clone, Debug)]
pub struct Exports {
    all: Vec<Export>,
    /// What one client may have queued in recalls, all shards together.
    pub recalls_per_client_max: u32,
}

impl Exports {
    pub fn new(exports: Vec<Export>) -> Exports {
        Exports { all: exports, recalls_per_client_max: u32::MAX }
    }

    /// The root directory as `/`, for this machine only: read-write, root stays root.
    pub fn loopback_root() -> Exports {
        let clients = [
            Cidr { network: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 },
            Cidr { network: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
        ];
        Exports::new(vec![Export {
            id: ExportId(1),
            path: Vec::new(),
            root: InodeNo::ROOT,
            mode: Mode::ReadWrite,
            squash: Squash::None,
            anonymous: Anonymous::NOBODY,
            ports: Ports::Any,
            recalls: true,
            clients: clients.into(),
        }])
    }

    pub fn get(&self, id: ExportId) -> Option<&Export> {
        self.all.iter().find(|export| export.id == id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Export> {
        self.all.iter()
    }

    /// The export that serves a mount path, and the components that lead on from its root.
    pub fn serving<'a>(&self, path: &'a [u8]) -> Option<(&Export, Vec<&'a [u8]>)> {
        let components: Vec<&[u8]> = components(path).collect();
        let begins = |export: &&Export| {
            export.path.len() <= components.len()
                && export.path.iter().zip(&components).all(|(ours, theirs)| **ours == **theirs)
        };
        let export = self.all.iter().filter(begins).max_by_key(|export| export.path.len())?;
        Some((export, components[export.path.len()..].to_vec()))
    }
}

/// The components of a path, however its slashes are written.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn export(id: u32, path: &str) -> Export {
        let path = components(path.as_bytes()).map(Box::from).collect();
        let Exports { mut all, .. } = Exports::loopback_root();
        Export { id: ExportId(id), path, ..all.remove(0) }
    }

    fn serving<'a>(exports: &Exports, path: &'a str) -> Option<(u32, Vec<&'a [u8]>)> {
        exports.serving(path.as_bytes()).map(|(export, rest)| (export.id.0, rest))
    }

    #[test]
    fn slashes_do_not_count_and_the_empty_path_is_the_root() {
        let exports = Exports::new(vec![export(1, "/")]);
        for path in ["", "/", "//", "///"] {
            assert_eq!(serving(&exports, path), Some((1, vec![])));
        }
        for path in ["/a/b", "//a//b/", "a/b", "/a/b//"] {
            assert_eq!(serving(&exports, path), Some((1, vec![&b"a"[..], b"b"])));
        }
    }

    #[test]
    fn the_longest_export_serves_and_a_common_beginning_of_a_name_is_not_a_path() {
        let exports = Exports::new(vec![export(1, "/a"), export(2, "/a/b"), export(3, "/c/d")]);
        assert_eq!(serving(&exports, "/a/b/x"), Some((2, vec![&b"x"[..]])));
        assert_eq!(serving(&exports, "/a/bc"), Some((1, vec![&b"bc"[..]])));
        assert_eq!(serving(&exports, "/ab"), None);
        assert_eq!(serving(&exports, "/c"), None);
        assert_eq!(serving(&exports, "/"), None);
    }

    #[test]
    fn a_network_contains_what_shares_its_bits() {
        let cidr = |text: &str, prefix| Cidr::new(address(text), prefix).unwrap();
        assert!(cidr("10.1.0.0", 16).contains(address("10.1.255.3")));
        assert!(!cidr("10.1.0.0", 16).contains(address("10.2.0.0")));
        assert!(cidr("0.0.0.0", 0).contains(address("255.255.255.255")));
        assert!(!cidr("0.0.0.0", 0).contains(address("::1")));
        assert!(cidr("192.0.2.7", 32).contains(address("192.0.2.7")));
        assert!(!cidr("192.0.2.7", 32).contains(address("192.0.2.6")));
        assert!(cidr("2001:db8::", 32).contains(address("2001:db8:ffff::1")));
        assert!(!cidr("2001:db8::", 32).contains(address("2001:db9::")));
        assert!(cidr("::", 0).contains(address("2001:db8::1")));
        for (text, prefix, first) in [
            ("10.1.2.3", 8, "10.0.0.0"),
            ("10.1.2.3", 0, "0.0.0.0"),
            ("2001:db8::7", 32, "2001:db8::"),
        ] {
            assert_eq!(cidr(text, prefix).first(), address(first));
            assert_eq!(cidr(first, prefix).first(), address(first));
        }
        assert_eq!(Cidr::new(address("10.0.0.0"), 33), None);
        assert_eq!(Cidr::new(address("::"), 129), None);
    }

    #[test]
    fn the_built_in_export_admits_this_machine_only() {
        let exports = Exports::loopback_root();
        let export = exports.get(ExportId(1)).unwrap();
        for peer in ["127.0.0.1:40000", "127.9.9.9:1", "[::1]:700", "[::ffff:127.0.0.1]:5"] {
            assert!(export.admits(peer.parse().unwrap()), "{peer}");
        }
        for peer in ["10.0.0.1:40000", "[2001:db8::1]:700", "[::ffff:10.0.0.1]:5"] {
            assert!(!export.admits(peer.parse().unwrap()), "{peer}");
        }
    }

    #[test]
    fn ids_of_paths_never_change_because_clients_keep_handles() {
        let id = |path: &str| ExportId::of_path(&export(9, path).path);
        assert_eq!(id("/"), ExportId(1));
        assert_eq!(id("//a/b/"), id("/a/b"));
        assert_ne!(id("/a/b"), id("/ab"));
        assert!(id("/a").0 > ExportId::CHOSEN_MAX);
        assert_eq!(id("/projects"), ExportId(2_389_449_300));
    }

    #[test]
    fn reserved_ports_end_at_1023() {
        let secure = Export { ports: Ports::Reserved, ..export(1, "/") };
        assert!(secure.admits("127.0.0.1:1023".parse().unwrap()));
        assert!(!secure.admits("127.0.0.1:1024".parse().unwrap()));
    }

    #[test]
    fn nobody_is_privileged_but_root_and_a_call_without_a_credential_is_not_root() {
        let nobody = export(1, "/").cred(&Credential::None);
        assert_eq!(nobody, Cred::user(65534, 65534, &[]));
        assert!(!nobody.privileged);
    }

    #[test]
    fn names_are_listed_as_clients_write_them() {
        assert_eq!(export(1, "/").name(), b"/");
        assert_eq!(export(1, "/a/b").name(), b"/a/b");
        assert_eq!(export(1, "/").groups(), ["127.0.0.0/8", "::1/128"]);
    }
}
