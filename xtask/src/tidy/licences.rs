//! Which licences may enter, and where.
//!
//! The list is `deny.toml`, the one that cargo-deny reads; this check needs no tool beside cargo.
//! Our source is GPL-2.0-or-later. Apache-2.0 without another choice is compatible with version 3
//! only, so it may enter the control plane (the binary is then conveyed under GPL-3.0-or-later) and
//! never what the data plane links: those packages must stay usable under version 2.
//!
//! Build and test dependencies do not reach the binary; they must be on the list all the same.

use super::Finding;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const DATA_PLANE: &[&str] =
    &["cairn-base", "cairn-format", "cairn-reactor", "cairn-engine", "cairn-nvme", "cairn-net"];

/// Compatible with GPL version 3 and not with version 2.
const VERSION_3_ONLY: &[&str] = &["Apache-2.0"];

pub struct Allowed(BTreeSet<String>);

impl Allowed {
    pub fn parse(deny: &str) -> Result<Allowed> {
        let table: toml::Table = deny.parse().context("deny.toml is not TOML")?;
        let list = table
            .get("licenses")
            .and_then(|licences| licences.get("allow"))
            .and_then(toml::Value::as_array)
            .context("deny.toml has no list licenses.allow")?;
        let names = list.iter().map(|name| name.as_str().map(str::to_owned));
        let names = names.collect::<Option<BTreeSet<String>>>();
        Ok(Allowed(names.context("licenses.allow holds something that is no string")?))
    }

    fn everywhere(&self, licence: &str) -> bool {
        self.0.contains(licence)
    }

    fn in_data_plane(&self, licence: &str) -> bool {
        self.everywhere(licence) && !VERSION_3_ONLY.contains(&licence)
    }
}

pub fn check(metadata: &Value, allowed: &Allowed) -> Result<Vec<Finding>> {
    let graph = Graph::read(metadata)?;
    let mut findings = Vec::new();
    for package in graph.packages.values().filter(|package| package.is_foreign) {
        if let Some(problem) = refusal(package, |licence| allowed.everywhere(licence)) {
            findings.push(Finding::new(package.label.clone(), problem));
        }
    }
    let roots = graph
        .packages
        .iter()
        .filter(|(_, package)| !package.is_foreign && DATA_PLANE.contains(&package.name()));
    for id in graph.normal_closure(roots.map(|(id, _)| *id)) {
        let package = &graph.packages[id];
        let fine_elsewhere = refusal(package, |licence| allowed.everywhere(licence)).is_none();
        let refused = refusal(package, |licence| allowed.in_data_plane(licence)).is_some();
        if package.is_foreign && fine_elsewhere && refused {
            let text = format!("{} only, and the data plane links it", package.licence);
            findings.push(Finding::new(package.label.clone(), text));
        }
    }
    Ok(findings)
}

fn refusal(package: &Package, accepts: impl Fn(&str) -> bool) -> Option<String> {
    match satisfied(&package.licence, &accepts) {
        Ok(true) => None,
        Ok(false) => Some(format!("licence {} is not in deny.toml", package.licence)),
        Err(error) => Some(format!("licence {:?} cannot be read: {error}", package.licence)),
    }
}

struct Package {
    /// `name version`
    label: String,
    licence: String,
    is_foreign: bool,
}

impl Package {
    fn name(&self) -> &str {
        self.label.split(' ').next().unwrap_or_default()
    }
}

struct Graph<'a> {
    packages: BTreeMap<&'a str, Package>,
    /// Edges that reach the binary.
    normal: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Graph<'a> {
    fn read(metadata: &'a Value) -> Result<Graph<'a>> {
        let mut graph = Graph { packages: BTreeMap::new(), normal: BTreeMap::new() };
        let mut known = BTreeMap::new();
        for package in metadata["packages"].as_array().context("metadata without packages")? {
            let id = package["id"].as_str().context("a package without an id")?;
            let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
            let read = Package {
                label: format!("{} {}", text("name"), text("version")),
                licence: text("license"),
                is_foreign: !package["source"].is_null(),
            };
            known.insert(id, read);
        }
        // The list of packages has every platform's; the resolved graph has ours.
        for node in metadata["resolve"]["nodes"].as_array().context("metadata without a graph")? {
            let id = node["id"].as_str().context("a node without an id")?;
            graph.packages.insert(id, known.remove(id).context("a node without a package")?);
            let mut normal = Vec::new();
            for edge in node["deps"].as_array().context("a node without edges")? {
                let kinds = edge["dep_kinds"].as_array().context("an edge without a kind")?;
                if kinds.iter().any(|kind| kind["kind"].is_null()) {
                    normal.push(edge["pkg"].as_str().context("an edge to nowhere")?);
                }
            }
            graph.normal.insert(id, normal);
        }
        Ok(graph)
    }

    fn normal_closure(&self, roots: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
        let mut waiting: Vec<&str> = roots.collect();
        let mut reached = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if reached.insert(id) {
                waiting.extend(self.normal.get(id).into_iter().flatten());
            }
        }
        reached
    }
}

/// Whether an SPDX expression can be met with accepted licences only. `/` is what old manifests
/// write for `OR`; `WITH` belongs to the name before it.
fn satisfied(expression: &str, accepts: &impl Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = either(&words, accepts)?;
    ensure!(rest.is_empty(), "it goes on with {rest:?}");
    Ok(met)
}

type Parsed<'w, 's> = Result<(bool, &'w [&'s str])>;

fn either<'w, 's>(words: &'w [&'s str], accepts: &impl Fn(&str) -> bool) -> Parsed<'w, 's> {
    let (mut met, mut rest) = both(words, accepts)?;
    while let [word, after @ ..] = rest
        && *word == "OR"
    {
        let (right, after) = both(after, accepts)?;
        met |= right;
        rest = after;
    }
    Ok((met, rest))
}

fn both<'w, 's>(words: &'w [&'s str], accepts: &impl Fn(&str) -> bool) -> Parsed<'w, 's> {
    let (mut met, mut rest) = one(words, accepts)?;
    while let [word, after @ ..] = rest
        && *word == "AND"
    {
        let (right, after) = one(after, accepts)?;
        met &= right;
        rest = after;
    }
    Ok((met, rest))
}

fn one<'w, 's>(words: &'w [&'s str], accepts: &impl Fn(&str) -> bool) -> Parsed<'w, 's> {
    match words {
        ["(", inner @ ..] => match either(inner, accepts)? {
            (met, [")", rest @ ..]) => Ok((met, rest)),
            _ => bail!("a bracket stays open"),
        },
        [] | [")" | "OR" | "AND" | "WITH", ..] => bail!("a licence is missing"),
        [name, "WITH", exception, rest @ ..] => {
            Ok((accepts(&format!("{name} WITH {exception}")), rest))
        }
        [name, rest @ ..] => Ok((accepts(name), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DENY: &str = "[licenses]\nallow = [\"MIT\", \"Apache-2.0\", \"BSD-3-Clause\"]\n";

    /// `user` uses `crate` under `licence` by an edge of `kind`.
    fn findings(user: &str, licence: &str, kind: Option<&str>) -> Vec<Finding> {
        let edge = json!([{ "pkg": "b", "dep_kinds": [{ "kind": kind }] }]);
        let metadata = json!({
            "packages": [
                { "id": "a", "name": user, "version": "1.0.0", "license": "GPL-2.0-or-later", "source": null },
                { "id": "b", "name": "leaf", "version": "2.0.0", "license": licence, "source": "registry" },
                { "id": "c", "name": "elsewhere", "version": "1.0.0", "license": "Odd", "source": "registry" },
            ],
            "resolve": { "nodes": [{ "id": "a", "deps": edge }, { "id": "b", "deps": [] }] },
        });
        check(&metadata, &Allowed::parse(DENY).expect("a list"))
            .expect("the metadata is well formed")
    }

    #[test]
    fn a_licence_off_the_list_is_caught_even_in_tests() {
        assert_eq!(findings("cairn-control", "AGPL-3.0-only", None).len(), 1);
        assert_eq!(findings("cairn-control", "AGPL-3.0-only", Some("dev")).len(), 1);
        assert_eq!(findings("cairn-control", "", None).len(), 1);
    }

    #[test]
    fn apache_alone_may_enter_the_control_plane_and_not_the_data_plane() {
        assert_eq!(findings("cairn-control", "Apache-2.0", None), []);
        assert_eq!(findings("cairn-engine", "Apache-2.0", None).len(), 1);
        assert_eq!(findings("cairn-engine", "Apache-2.0 AND MIT", None).len(), 1);
    }

    #[test]
    fn another_choice_beside_apache_is_enough() {
        for licence in
            ["MIT OR Apache-2.0", "Apache-2.0/MIT", "Apache-2.0 OR (MIT AND BSD-3-Clause)"]
        {
            assert_eq!(findings("cairn-engine", licence, None), [], "{licence}");
        }
    }

    #[test]
    fn an_apache_crate_of_the_tests_reaches_no_binary() {
        assert_eq!(findings("cairn-engine", "Apache-2.0", Some("dev")), []);
    }

    #[test]
    fn a_broken_expression_is_refused_not_guessed() {
        for licence in ["MIT OR", "(MIT", "MIT)", "MIT BSD-3-Clause"] {
            assert_eq!(findings("cairn-control", licence, None).len(), 1, "{licence}");
        }
    }
}
