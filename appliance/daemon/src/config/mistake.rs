//! What is wrong with a configuration file, in the words of the file: the line, the key, and what the
//! key wants. The parser's own words are of its types, and name no key.
//!
//! The parser says where in the text it stopped. Which key that is, is looked up in the file itself,
//! read once more without regard to what its keys mean.

use super::Lines;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

type Section = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The sections, how each is written, and its keys with what they want.
const SECTIONS: [Section; 6] = [
    ("", "the top of the file, before the first section,", &[("memory", SIZE)]),
    ("pool", "[pool]", &[("dir", PATH), ("meta", PATH), ("data", PATH)]),
    (
        "nfs",
        "[nfs]",
        &[
            (
                "listen",
                "an address with a port, like \"127.0.0.1:2049\", or a list of them: [\"…\", \"…\"]",
            ),
            ("portmap", BOOL),
            ("connections_max", COUNT),
            ("connections_per_client_max", COUNT),
            ("record_seconds_max", COUNT),
            ("send_seconds_max", COUNT),
            ("recalls_per_client_max", COUNT),
        ],
    ),
    ("control", "[control]", &[("socket", PATH), ("metrics", ADDRESS)]),
    (
        "shards",
        "[shards]",
        &[
            ("count", "a number of cores, from 1 to 1024"),
            ("memtable", SIZE),
            ("data_cache", SIZE),
            ("idle", "\"adaptive\" or \"busy\""),
        ],
    ),
    (
        "export",
        "[[export]]",
        &[
            ("path", "a path of the pool in quotes, like \"/projects\""),
            ("clients", "a list of networks and addresses: [\"10.0.0.0/8\", \"::1\"]"),
            ("access", "\"rw\" or \"ro\""),
            ("squash", "\"none\", \"root\" or \"all\""),
            ("anon_uid", ID),
            ("anon_gid", ID),
            ("secure", BOOL),
            ("recall", BOOL),
            ("id", "a number from 1 to 2147483647"),
        ],
    ),
];

const ADDRESS: &str = "an address with a port, like \"127.0.0.1:9464\"";
const PATH: &str = "a path in quotes, like \"/srv/archive\"";
const SIZE: &str = "a size in quotes, like \"4G\"";
const BOOL: &str = "true or false, without quotes";
const COUNT: &str = "a number from 1 to 4294967295";
const ID: &str = "a number from 0 to 4294967294";

/// Of a value that is shown in a message.
const SHOWN_CHARS_MAX: usize = 40;

/// Where the parser stopped.
struct Spot {
    /// `export` of the third `[[export]]`, too.
    section: String,
    /// With the number of its section, for messages: `export[2].path`.
    place: String,
    /// `None`: the section itself.
    key: Option<String>,
    value: Range<usize>,
}

/// One line about the first mistake.
pub(super) fn told(text: &str, lines: &Lines, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let line = lines.at(at);
    let said = error.message().replace('\n', " ");
    if let Some((name, written, _)) = quoted(&said, "missing field ").and_then(section) {
        return format!("line {line}: missing field `{name}`: write {written}");
    }
    let spot =
        DeTable::parse(text).ok().and_then(|table| find(table.get_ref(), at, &mut Vec::new()));
    match spot.and_then(|spot| reworded(text, &said, &spot)) {
        Some(words) => format!("line {line}: {words}"),
        None => format!("line {line}: {said}"),
    }
}

fn reworded(text: &str, said: &str, spot: &Spot) -> Option<String> {
    let (_, written, keys) = section(&spot.section)?;
    let wanted = spot.key.as_ref().and_then(|key| keys.iter().find(|(name, _)| name == key));
    if let Some(field) = quoted(said, "unknown field ") {
        let mut names: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
        if spot.section.is_empty() {
            names.extend(SECTIONS.iter().skip(1).map(|(_, written, _)| *written));
        }
        let elsewhere =
            home_of(field).map_or(String::new(), |home| format!("; it belongs to {home}"));
        return Some(format!(
            "unknown field `{field}`: {written} has {}{elsewhere}",
            names.join(", ")
        ));
    }
    if let Some(field) = quoted(said, "missing field ") {
        return Some(format!("missing field `{field}`: {written} must have it"));
    }
    if let Some(variant) = quoted(said, "unknown variant ") {
        let (_, wants) = wanted?;
        return Some(format!("unknown variant `{variant}`: {} is {wants}", spot.place));
    }
    if !(said.starts_with("invalid ")
        || said.starts_with("wanted ")
        || said.starts_with("an address"))
    {
        return None;
    }
    match (wanted, &spot.key) {
        (Some((_, wants)), _) => {
            let found = shown(text.get(spot.value.clone())?);
            Some(format!("{}: {found} is not {wants}", spot.place))
        }
        (None, None) if spot.section == "export" => {
            Some("export: write [[export]], once for each export, above its keys".into())
        }
        (None, None) => Some(format!("{}: write {written}, once, above its keys", spot.section)),
        (None, Some(_)) => None,
    }
}

fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|(section, ..)| *section == name)
}

/// Where a key, or a section that was taken for one, belongs.
fn home_of(field: &str) -> Option<String> {
    let of_key = SECTIONS.iter().find(|(_, _, keys)| keys.iter().any(|(name, _)| *name == field));
    let home = of_key.map(|(_, written, _)| (*written).trim_end_matches(',').to_owned());
    home.or_else(|| section(field).map(|(_, written, _)| format!("a line of its own: {written}")))
}

fn quoted<'a>(said: &'a str, start: &str) -> Option<&'a str> {
    said.strip_prefix(start)?.split('`').nth(1)
}

fn shown(value: &str) -> String {
    let line = value.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown
}

/// `path` is where `table` stands: names of keys, and places in lists.
fn find(table: &DeTable<'_>, at: usize, path: &mut Vec<String>) -> Option<Spot> {
    for (key, value) in table.iter() {
        path.push(key.get_ref().to_string());
        let deeper = match value.get_ref() {
            DeValue::Table(table) => find(table, at, path),
            DeValue::Array(values) => values.iter().enumerate().find_map(|(nth, value)| {
                let DeValue::Table(table) = value.get_ref() else { return None };
                path.push(format!("[{nth}]"));
                let deeper = find(table, at, path)
                    .or_else(|| value.span().contains(&at).then(|| spot(path, value)));
                path.pop();
                deeper
            }),
            _ => None,
        };
        let here =
            || (value.span().contains(&at) || key.span().contains(&at)).then(|| spot(path, value));
        let found = deeper.or_else(here);
        path.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

fn spot(path: &[String], value: &Spanned<DeValue<'_>>) -> Spot {
    let mut place = String::new();
    for part in path {
        if !place.is_empty() && !part.starts_with('[') {
            place.push('.');
        }
        place.push_str(part);
    }
    let names: Vec<&String> = path.iter().filter(|part| !part.starts_with('[')).collect();
    let (section, key) = match names[..] {
        [only] if section(only).is_none() => (String::new(), Some(only.clone())),
        [section] => (section.clone(), None),
        [section, key, ..] => (section.clone(), Some(key.clone())),
        [] => (String::new(), None),
    };
    Spot { section, place, key, value: value.span() }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_value_of_another_kind_is_told_with_its_key_and_what_it_wants() {
        let refused = |text: &str| Config::from_toml(text).unwrap_err().text;
        let pool = |more: &str| refused(&format!("[pool]\ndir = 'd'\n{more}"));
        for (text, said) in [
            (refused("memory = 5\n[pool]\ndir='d'"), "line 1: memory: 5 is not a size in quotes"),
            (refused("[pool]\ndir = 5"), "line 2: pool.dir: 5 is not a path in quotes"),
            (refused("pool = 5"), "line 1: pool: write [pool], once"),
            (refused("[[pool]]\ndir = 'd'"), "line 1: pool: write [pool], once"),
            (pool("[export]\npath = '/'"), "line 3: export: write [[export]], once for each"),
            (pool("[nfs]\nlisten = 7"), "line 4: nfs.listen: 7 is not an address with a port"),
            (
                pool("[nfs]\nconnections_max = 99999999999999999999"),
                "line 4: nfs.connections_max: 99999999999999999999 is not a number from 1 to",
            ),
            (pool("[nfs]\nportmap = 'yes'"), "line 4: nfs.portmap: 'yes' is not true or false"),
            (pool("[shards]\ncount = -1"), "line 4: shards.count: -1 is not a number of cores"),
            (pool("[shards]\nidle = 5"), "line 4: shards.idle: 5 is not \"adaptive\" or \"busy\""),
            (
                pool("[shards]\nidle = 'x'"),
                "line 4: unknown variant `x`: shards.idle is \"adaptive\"",
            ),
            (pool("[control]\nsocket = []"), "line 4: control.socket: [] is not a path"),
            (
                pool("[[export]]\npath = '/'\nclients = '::1'"),
                "line 5: export[0].clients: '::1' is not a list of networks",
            ),
            (
                pool("[[export]]\npath = '/'\nclients = ['::1']\n[[export]]\npath = '/'\nid = 'x'"),
                "line 8: export[1].id: 'x' is not a number from 1",
            ),
        ] {
            assert!(text.starts_with(said), "want {said}\n got {text}");
            assert!(!text.contains("struct") && !text.contains("i128"), "{text}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_section_is_told_with_both() {
        let refused = |text: &str| Config::from_toml(text).unwrap_err().text;
        let text = refused("[pool]\ndir = 'd'\n[control]\nexport = []");
        assert_eq!(
            text,
            "line 4: unknown field `export`: [control] has socket, metrics; it belongs to a line of \
             its own: [[export]]"
        );
        let text = refused("[pool]\ndir = 'd'\nmemory = '1G'");
        assert!(
            text.starts_with("line 3: unknown field `memory`: [pool] has dir, meta, data; "),
            "{text}"
        );
        assert!(
            text.ends_with("it belongs to the top of the file, before the first section"),
            "{text}"
        );
        let text = refused("[nfs]\nportmap = true");
        assert_eq!(text, "line 1: missing field `pool`: write [pool]");
        let text = refused("[pool]\ndir = 'd'\n[nsf]\nportmap = true");
        assert!(
            text.starts_with("line 3: unknown field `nsf`: ") && text.contains("[nfs]"),
            "{text}"
        );
        let text = refused("dir = 'd'");
        assert!(text.ends_with("it belongs to [pool]"), "{text}");
    }

    #[test]
    fn what_is_no_toml_is_told_as_the_parser_has_it() {
        let text = Config::from_toml("[pool]\ndir = \n").unwrap_err().text;
        assert!(text.starts_with("line 2: "), "{text}");
    }
}
