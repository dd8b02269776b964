//! `[[export]]`: from the words of the file to the rules of an export, all but the inode of its
//! directory, which only the open pool knows (`reload.rs`).
//!
//! Each mistake is told with its line and key, since a file with many exports is where a wrong one is
//! hard to find. What is merely unwise is allowed: exports may lie inside each other (the longest path
//! that a client names serves it, under its own rules).

use super::{Lines, invalid};
use crate::error::Failure;
use cairn_format::InodeNo;
use cairn_nfs::auth::{Anonymous, Squash};
use cairn_nfs::export::{Cidr, Export, ExportId, Mode, Ports, components};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;
use toml::Spanned;

const NAME_BYTES_MAX: usize = 255;

/// No user and no group has it: in system calls it is -1, "leave as it is" (chown(2)).
const NO_ID: u32 = u32::MAX;

/// Bits of an IPv6 address in front of an IPv4 one that it stands for (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u32 = 96;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportSection {
    path: Spanned<String>,
    clients: Spanned<Vec<Spanned<String>>>,
    access: Option<AccessName>,
    squash: Option<SquashName>,
    anon_uid: Option<Spanned<u32>>,
    anon_gid: Option<Spanned<u32>>,
    secure: Option<bool>,
    recall: Option<bool>,
    id: Option<Spanned<u32>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AccessName {
    Rw,
    Ro,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SquashName {
    None,
    Root,
    All,
}

/// An export as the file has it. `rules.root` is not looked up yet.
#[derive(Clone, Debug)]
pub struct ExportRule {
    pub rules: Export,
    /// Where its path stands in the file, for messages.
    pub place: String,
}

impl ExportRule {
    pub fn path(&self) -> String {
        String::from_utf8_lossy(&self.rules.name()).into_owned()
    }
}

pub(super) fn rules(
    lines: &Lines,
    sections: Vec<ExportSection>,
) -> Result<Vec<ExportRule>, Failure> {
    let mut rules: Vec<ExportRule> = Vec::with_capacity(sections.len());
    let (mut paths, mut ids) = (HashMap::new(), HashMap::new());
    for (nth, section) in sections.into_iter().enumerate() {
        let rule = rule(lines, nth, section)?;
        if let Some(other) = paths.insert(rule.rules.path.clone(), nth) {
            let (path, other) = (rule.path(), &rules[other]);
            return Err(invalid(format!("{}: {path} is {} already", rule.place, other.place)));
        }
        let ExportId(id) = rule.rules.id;
        if let Some(other) = ids.insert(id, nth) {
            return Err(invalid(format!(
                "{}: {} and {} have the same id {id}: give one of them an `id` of its own",
                rule.place,
                rule.path(),
                rules[other].path()
            )));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn rule(lines: &Lines, nth: usize, section: ExportSection) -> Result<ExportRule, Failure> {
    let at = |start: usize, key: &str| format!("line {}: export[{nth}].{key}", lines.at(start));
    let place = at(section.path.span().start, "path");
    let path = path(section.path.get_ref()).map_err(|why| invalid(format!("{place}: {why}")))?;
    let id = match &section.id {
        None => ExportId::of_path(&path),
        Some(id) => match *id.get_ref() {
            id @ 1..=ExportId::CHOSEN_MAX => ExportId(id),
            other => {
                let place = at(id.span().start, "id");
                let most = ExportId::CHOSEN_MAX;
                return Err(invalid(format!("{place}: {other} is not from 1 to {most}")));
            }
        },
    };
    if section.clients.get_ref().is_empty() {
        let place = at(section.clients.span().start, "clients");
        return Err(invalid(format!(
            "{place}: nobody could mount it; name addresses or networks, or \"0.0.0.0/0\" and \"::/0\" \
             for everybody"
        )));
    }
    let clients = section.clients.get_ref().iter().map(|client| {
        network(client.get_ref())
            .map_err(|why| invalid(format!("{}: {why}", at(client.span().start, "clients"))))
    });
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    let nobody = Anonymous::NOBODY;
    let anonymous = |key: &str, said: &Option<Spanned<u32>>, default: u32| match said {
        Some(id) if *id.get_ref() == NO_ID => {
            let place = at(id.span().start, key);
            Err(invalid(format!("{place}: {NO_ID} is -1, which nobody is; {default} is nobody's")))
        }
        Some(id) => Ok(*id.get_ref()),
        None => Ok(default),
    };
    let rules = Export {
        id,
        path,
        root: InodeNo::ROOT,
        mode: match section.access {
            None | Some(AccessName::Rw) => Mode::ReadWrite,
            Some(AccessName::Ro) => Mode::ReadOnly,
        },
        squash: match section.squash {
            None | Some(SquashName::Root) => Squash::Root,
            Some(SquashName::None) => Squash::None,
            Some(SquashName::All) => Squash::All,
        },
        anonymous: Anonymous {
            uid: anonymous("anon_uid", &section.anon_uid, nobody.uid)?,
            gid: anonymous("anon_gid", &section.anon_gid, nobody.gid)?,
        },
        ports: if section.secure == Some(true) { Ports::Reserved } else { Ports::Any },
        recalls: section.recall != Some(false),
        clients,
    };
    Ok(ExportRule { rules, place })
}

fn path(text: &str) -> Result<Vec<Box<[u8]>>, String> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} does not begin with a slash: paths are of the pool"));
    }
    let mut path = Vec::new();
    for name in components(text.as_bytes()) {
        if matches!(name, b"." | b"..") {
            return Err(format!("{text:?} has {:?} in it", String::from_utf8_lossy(name)));
        }
        if name.len() > NAME_BYTES_MAX || name.contains(&0) {
            return Err(format!("{text:?} has a name in it that no file can have"));
        }
        path.push(Box::from(name));
    }
    Ok(path)
}

/// `10.0.0.0/8`, `2001:db8::/32`, or one address.
fn network(text: &str) -> Result<Cidr, String> {
    let wrong = || format!("{text:?} is not an address or a network like \"10.0.0.0/8\"");
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let prefix = match prefix {
        None if address.is_ipv4() => 32,
        None => 128,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map_err(|_| wrong())?
        }
        Some(_) => return Err(wrong()),
    };
    let cidr = Cidr::new(address, prefix).ok_or_else(|| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        format!("{text:?}: an address of this kind has only {bits} bits")
    })?;
    if let Some(digits) = text.split_once('/').map(|(_, digits)| digits)
        && digits != prefix.to_string()
    {
        return Err(format!("{text:?}: a prefix has no zeros in front: \"{address}/{prefix}\""));
    }
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
        && prefix >= MAPPED_BITS
    {
        let form = match prefix - MAPPED_BITS {
            32 => format!("{v4}"),
            bits => format!("{v4}/{bits}"),
        };
        return Err(format!("{text:?} matches nobody: IPv4 is written as such: \"{form}\""));
    }
    if cidr.first() != address {
        let first = cidr.first();
        return Err(format!(
            "{text:?} has bits behind its prefix: \"{first}/{prefix}\" is the network, \"{address}\" \
             the one address"
        ));
    }
    Ok(cidr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(exports: &str) -> Result<Config, Failure> {
        Config::from_toml(&format!("[pool]\ndir = 'd'\n{exports}"))
    }

    #[test]
    fn an_export_has_defaults_that_trust_nobodys_root() {
        let config =
            config("[[export]]\npath = '//a/b/'\nclients = ['10.0.0.0/8', '::1']").unwrap();
        let [rule] = &config.exports.unwrap()[..] else { panic!("one export") };
        let Export { id, mode, squash, anonymous, ports, ref clients, .. } = rule.rules;
        assert_eq!(rule.path(), "/a/b");
        assert!(id.0 > ExportId::CHOSEN_MAX);
        assert_eq!((mode, squash, ports), (Mode::ReadWrite, Squash::Root, Ports::Any));
        assert_eq!(anonymous, Anonymous::NOBODY);
        assert_eq!(clients.iter().map(|c| c.text()).collect::<Vec<_>>(), ["10.0.0.0/8", "::1/128"]);
    }

    #[test]
    fn every_key_of_an_export_is_taken() {
        let config = config(
            "[[export]]\npath = '/'\nclients = ['::/0']\naccess = 'ro'\nsquash = 'all'\n\
             anon_uid = 7\nanon_gid = 8\nsecure = true\nrecall = false\nid = 12",
        );
        let rule = config.unwrap().exports.unwrap().remove(0).rules;
        assert_eq!((rule.id, rule.mode, rule.squash), (ExportId(12), Mode::ReadOnly, Squash::All));
        assert_eq!((rule.anonymous, rule.ports), (Anonymous { uid: 7, gid: 8 }, Ports::Reserved));
        assert!(!rule.recalls);
    }

    #[test]
    fn no_export_is_the_built_in_one_and_an_empty_list_is_none() {
        assert!(config("").unwrap().exports.is_none());
        let none = Config::from_toml("export = []\n[pool]\ndir = 'd'").unwrap().exports;
        assert!(none.unwrap().is_empty());
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_key() {
        let refused = |exports: &str| config(exports).map(|_| ()).unwrap_err().text;
        let with = |line: &str| {
            let text = format!("[[export]]\npath = '/a'\n{line}");
            let clients = if line.contains("clients") { "" } else { "\nclients = ['::1']" };
            refused(&(text + clients))
        };
        for (line, expected) in [
            ("clients = ['10.0.0.0/33']", "line 5: export[0].clients: \"10.0.0.0/33\""),
            ("clients = ['10.0.0.1/8']", "\"10.0.0.0/8\" is the network"),
            (
                "clients = ['::1',\n 'host']",
                "line 6: export[0].clients: \"host\" is not an address",
            ),
            ("clients = ['10.0.0.0/+8']", "is not an address"),
            (
                "clients = ['::ffff:10.0.0.0/104']",
                "line 5: export[0].clients: \"::ffff:10.0.0.0/104\" matches nobody: IPv4 is written as \
                 such: \"10.0.0.0/8\"",
            ),
            ("clients = ['::ffff:127.0.0.1']", "such: \"127.0.0.1\""),
            ("clients = ['::ffff:0.0.0.0/96']", "such: \"0.0.0.0/0\""),
            ("clients = ['10.0.0.0/08']", "a prefix has no zeros in front: \"10.0.0.0/8\""),
            ("anon_uid = 4294967295", "line 5: export[0].anon_uid: 4294967295 is -1"),
            ("anon_gid = 4294967295", "line 5: export[0].anon_gid: 4294967295 is -1"),
            ("anon_gid = 'root'", "line 5: export[0].anon_gid: 'root' is not a number"),
            ("clients = []", "line 5: export[0].clients: nobody could mount it"),
            ("id = 0", "line 5: export[0].id: 0 is not from 1"),
            ("id = 2147483648", "line 5: export[0].id"),
            ("anon_uid = -1", "line 5:"),
            ("access = 'write'", "line 5: unknown variant `write`"),
            (
                "squash = true",
                "line 5: export[0].squash: true is not \"none\", \"root\" or \"all\"",
            ),
            ("sqash = 'all'", "line 5: unknown field `sqash`"),
        ] {
            let text = with(line);
            assert!(text.contains(expected), "{line}: {text}");
        }
        let text = refused("[[export]]\npath = 'a'\nclients = ['::1']");
        assert!(text.starts_with("line 4: export[0].path: \"a\" does not begin"), "{text}");
        let text = refused("[[export]]\npath = '/a/../b'\nclients = ['::1']");
        assert!(text.contains("\"..\" in it"), "{text}");
        let text = refused("[[export]]\nclients = ['::1']");
        assert!(text.starts_with("line 3: missing field `path`"), "{text}");
    }

    #[test]
    fn a_path_or_an_id_that_comes_twice_is_refused() {
        let two = |first: &str, second: &str| {
            let one = |keys: &str| format!("[[export]]\nclients = ['::1']\n{keys}\n");
            config(&(one(first) + &one(second))).map(|_| ()).map_err(|failure| failure.text)
        };
        let same = two("path = '/a'", "path = '//a/'").unwrap_err();
        assert!(same.starts_with("line 8: export[1].path: /a is line 5"), "{same}");
        let same = two("path = '/a'\nid = 3", "path = '/b'\nid = 3").unwrap_err();
        assert!(same.contains("/b and /a have the same id 3"), "{same}");
        let same = two("path = '/'", "path = '/b'\nid = 1").unwrap_err();
        assert!(same.contains("the same id 1"), "{same}");
        assert_eq!(two("path = '/a'", "path = '/a/b'"), Ok(()), "inside each other");
    }
}
