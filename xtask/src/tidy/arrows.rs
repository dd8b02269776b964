//! Dependencies point one way, as STYLE.md 2.1 draws them.
//!
//! The table says what each package may use directly; what those use, it may use too. Arrows are
//! read from the manifests, not from the code, so an arrow that is declared and never followed is
//! still caught. A package without a row is a finding: a new boundary is a decision.
//!
//! Dev-dependencies do not shape the program and have a list of their own, since each is still a
//! surprise to whoever meets it.

use super::Finding;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeSet;

/// (package, what it may use directly).
const ARROWS: &[(&str, &[&str])] = &[
    ("cairn-base", &[]),
    ("cairn-format", &["cairn-base"]),
    ("cairn-check", &["cairn-format"]),
    ("cairn-reactor", &["cairn-base"]),
    ("cairn-engine", &["cairn-format", "cairn-reactor"]),
    ("cairn-nvme", &["cairn-base"]),
    ("cairn-net", &["cairn-base"]),
    ("cairn-nfs", &["cairn-engine", "cairn-net"]),
    ("cairn-control", &["cairn-engine", "cairn-net"]),
    ("cairn-sim", &["cairn-engine", "cairn-check", "cairn-nfs", "cairn-control"]),
    ("cairn-daemon", &["cairn-check", "cairn-nfs", "cairn-control", "cairn-nvme"]),
    ("cairn", &["cairn-daemon"]),
    // Calls every parser that meets foreign bytes; nothing uses it.
    ("cairn-fuzz", &["cairn-daemon"]),
    // Sees the product from outside only: its binary and its protocols.
    ("cairn-accept", &[]),
    // Measures servers over their protocol, with a client of its own (bench/src/nfs.rs uses no crate of
    // ours); and the engine without one, which it must open as the daemon does (bench/src/engine/).
    ("cairn-bench", &["cairn-daemon"]),
    ("xtask", &[]),
];

/// (package, what its tests use beyond its arrows). Each needs a reason beside it.
const DEV_ARROWS: &[(&str, &str)] = &[
    // The NFS server is tested over the real engine on simulated devices.
    ("cairn-nfs", "cairn-sim"),
];

/// Crates that bring a runtime and threads of their own, and the only packages that may use them:
/// the control plane lives on its own thread, the shards never do. The load generator is a client.
const RUNTIMES: &[&str] = &["tokio", "tonic", "tonic-prost", "hyper", "axum", "etcd-client"];
const RUNTIME_USERS: &[&str] = &["cairn-control", "cairn-daemon", "cairn", "cairn-bench"];

pub fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata["packages"].as_array().context("metadata without packages")?;
    let members: Vec<&Value> = packages.iter().filter(|p| p["source"].is_null()).collect();
    let names: BTreeSet<&str> = members.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in members {
        let name = package["name"].as_str().context("a package without a name")?;
        let dependencies = package["dependencies"].as_array().context("no dependencies")?;
        let Some(allowed) = may_use(name) else {
            findings.push(Finding::new(name, "has no row in ARROWS (xtask/src/tidy/arrows.rs)"));
            continue;
        };
        for dependency in dependencies {
            let target = dependency["name"].as_str().context("a nameless dependency")?;
            let is_dev = dependency["kind"] == "dev";
            let known =
                allowed.contains(target) || (is_dev && DEV_ARROWS.contains(&(name, target)));
            if names.contains(target) && !known {
                let kind = if is_dev { "its tests may not use" } else { "may not use" };
                findings.push(Finding::new(name, format!("{kind} {target}: no such arrow")));
            }
            if RUNTIMES.contains(&target) && !is_dev && !RUNTIME_USERS.contains(&name) {
                findings
                    .push(Finding::new(name, format!("may not use the runtime crate {target}")));
            }
        }
    }
    Ok(findings)
}

/// Everything upstream of `package`, or nothing when it has no row.
fn may_use(package: &str) -> Option<BTreeSet<&'static str>> {
    let row = |name: &str| ARROWS.iter().find(|(from, _)| *from == name).map(|(_, to)| *to);
    let mut waiting = row(package)?.to_vec();
    let mut upstream = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if upstream.insert(name) {
            waiting.extend(row(name).unwrap_or_default());
        }
    }
    Some(upstream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tree_with(name: &str, dependency: &str, kind: Option<&str>) -> Vec<Finding> {
        let members: Vec<Value> = ARROWS
            .iter()
            .map(|(member, _)| *member)
            .chain((may_use(name).is_none()).then_some(name))
            .map(|member| {
                let dependencies = if member == name {
                    json!([{ "name": dependency, "kind": kind }])
                } else {
                    json!([])
                };
                json!({ "name": member, "source": null, "dependencies": dependencies })
            })
            .collect();
        check(&json!({ "packages": members })).expect("the metadata is well formed")
    }

    #[test]
    fn the_drawn_arrows_hold_also_at_a_distance() {
        assert_eq!(tree_with("cairn-engine", "cairn-base", None), []);
        assert_eq!(tree_with("cairn-sim", "cairn-net", None), []);
        assert_eq!(tree_with("cairn", "cairn-control", None), []);
    }

    #[test]
    fn the_engine_may_not_know_of_devices_or_sockets() {
        for target in ["cairn-nvme", "cairn-net", "cairn-nfs", "cairn-sim"] {
            assert_eq!(tree_with("cairn-engine", target, None).len(), 1, "{target}");
        }
    }

    #[test]
    fn an_arrow_backwards_is_caught_also_in_build_and_tests() {
        assert_eq!(tree_with("cairn-base", "cairn-format", Some("build")).len(), 1);
        assert_eq!(tree_with("cairn-format", "cairn-engine", Some("dev")).len(), 1);
    }

    #[test]
    fn a_runtime_stays_in_the_control_plane() {
        assert_eq!(tree_with("cairn-nfs", "tokio", None).len(), 1);
        assert_eq!(tree_with("cairn-control", "tonic", None), []);
    }

    #[test]
    fn a_package_nobody_placed_is_caught() {
        let findings = tree_with("cairn-novelty", "cairn-base", None);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "cairn-novelty");
    }
}
