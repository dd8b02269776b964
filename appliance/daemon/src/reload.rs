//! What is in force, and how it changes: exports and limits from the configuration to every shard.
//!
//! A new set of rules is made whole before any shard hears of it: the file is read and understood, and
//! every export's directory is looked up in the pool. Then each shard is sent the set, one after the
//! other; a call is under the rules of the shard that took it, so for a moment two clients may be
//! treated differently, and no call ever by half of a set. What is wrong with a new file is told, with
//! the place, and nothing changes. SIGHUP asks for it; so no signal can take exports away by a typing
//! mistake.

use crate::config::{Config, ConfigFile, ExportRule, NetLimits};
use crate::descriptors;
use crate::error::Failure;
use crate::frontend_mail::{FrontendCaller, Limits, Rules, Turned};
use crate::memory::Division;
use crate::tally::Tally;
use cairn_base::Nanos;
use cairn_control::proto::{ExportEntry, ExportsReply, NfsClient, NfsLimits};
use cairn_control::request::{ControlReply, ControlRequest, Target};
use cairn_control::{CallError, Caller};
use cairn_engine::attr::{Attr, FileKind};
use cairn_engine::error::FsError;
use cairn_engine::name::Name;
use cairn_nfs::auth::Squash;
use cairn_nfs::export::{Export, ExportId, Exports, Mode, Ports};
use nix::errno::Errno;
use std::sync::{Arc, Mutex, PoisonError};

/// The frontends of all shards, seen from the control thread.
pub struct Frontends {
    shards: Vec<FrontendCaller>,
    /// Any shard can look up a path.
    lookup: Caller,
    tally: Tally,
    division: Division,
    state: Mutex<State>,
}

/// Only the control thread touches it; the lock is for the types of its service.
#[derive(Default)]
struct State {
    exports: Vec<Export>,
    limits: Option<NetLimits>,
    file: Option<ConfigFile>,
    reloads: u64,
    refused: Option<String>,
    needs_restart: Vec<&'static str>,
}

impl Frontends {
    pub fn new(
        shards: Vec<FrontendCaller>,
        lookup: Caller,
        tally: Tally,
        division: Division,
    ) -> Arc<Frontends> {
        let state = Mutex::default();
        Arc::new(Frontends { shards, lookup, tally, division, state })
    }

    /// The first rules, with which the shards begin to listen.
    pub async fn begin(&self, config: &Config) -> Result<(), Failure> {
        let resolved = self.resolve(config.exports.as_deref()).await;
        let exports = resolved.map_err(|Failure { errno, text }| match &config.file {
            Some(file) => Failure::new(errno, format!("{}: {text}", file.path.display())),
            None => Failure::new(errno, text),
        })?;
        self.send(&exports, config.limits).await?;
        self.with(|state| {
            state.exports = exports;
            state.limits = Some(config.limits);
            state.file.clone_from(&config.file);
        });
        Ok(())
    }

    /// Reads the file again.
    pub async fn reload(&self) {
        let Some(file) = self.with(|state| state.file.clone()) else { return };
        let place = file.path.display();
        match self.try_reload(&file).await {
            Ok((exports, needs_restart)) => {
                tracing::info!("{place}: reloaded, {exports} exports are in force");
                if !needs_restart.is_empty() {
                    tracing::warn!(
                        "{place}: changed, and in force from the next start on only: {}",
                        needs_restart.join(", ")
                    );
                }
                self.with(|state| {
                    state.reloads += 1;
                    state.refused = None;
                    state.needs_restart = needs_restart;
                });
            }
            Err(failure) => {
                tracing::error!(
                    "{place}: {failure} ({:?}); not reloaded, what was in force stays",
                    failure.errno
                );
                self.with(|state| state.refused = Some(failure.text));
            }
        }
    }

    async fn try_reload(&self, file: &ConfigFile) -> Result<(usize, Vec<&'static str>), Failure> {
        let config = Config::from_file(&file.path)?;
        let needs_restart =
            config.file.as_ref().map(|new| file.needs_restart(new)).unwrap_or_default();
        let exports = self.resolve(config.exports.as_deref()).await?;
        let before = self.with(|state| state.exports.clone());
        if let Some(rules) = &config.exports {
            keep_ids(&before, &exports, rules)?;
        }
        self.send(&exports, config.limits).await?;
        let count = exports.len();
        self.with(|state| {
            state.exports = exports;
            state.limits = Some(config.limits);
        });
        Ok((count, needs_restart))
    }

    /// What `cairn exports` shows.
    pub async fn show(&self) -> ExportsReply {
        let mut turned = Turned::default();
        for shard in &self.shards {
            // A shard that is gone takes the daemon with it.
            let Turned { refused, cut } = shard.turned().await.unwrap_or_default();
            turned.refused += refused;
            turned.cut += cut;
        }
        let clients: Vec<NfsClient> = self
            .tally
            .clients()
            .into_iter()
            .map(|(address, connections)| NfsClient { address: address.to_string(), connections })
            .collect();
        self.with(|state| {
            let limits = self.division.connections(state.limits.unwrap_or(NetLimits::DEFAULT));
            ExportsReply {
                exports: state.exports.iter().map(entry).collect(),
                nfs: Some(NfsLimits {
                    connections: clients.iter().map(|client| client.connections).sum(),
                    connections_max: limits.connections_max,
                    connections_per_client_max: limits.connections_per_client_max,
                    record_seconds_max: limits.record_seconds_max,
                    send_seconds_max: limits.send_seconds_max,
                    recalls_per_client_max: (limits.recalls_per_client_max < u32::MAX)
                        .then_some(limits.recalls_per_client_max),
                    connections_refused: turned.refused,
                    connections_cut: turned.cut,
                }),
                clients,
                config: state.file.as_ref().map(|file| file.path.display().to_string()),
                reloads: state.reloads,
                refused: state.refused.clone(),
                needs_restart: state.needs_restart.iter().map(|key| key.to_string()).collect(),
            }
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn send(&self, exports: &[Export], limits: NetLimits) -> Result<(), Failure> {
        let limits = self.division.connections(limits);
        if let Some(complaint) = descriptors::complaint(limits) {
            tracing::warn!("{complaint}");
        }
        let seconds = |seconds: u32| Nanos::from_secs(seconds.into());
        let mut exports = Exports::new(exports.to_vec());
        exports.recalls_per_client_max = limits.recalls_per_client_max;
        let rules = Rules {
            exports,
            limits: Limits {
                connections_max: limits.connections_max,
                connections_per_client_max: limits.connections_per_client_max,
                record_time_max: seconds(limits.record_seconds_max),
                send_time_max: seconds(limits.send_seconds_max),
            },
        };
        for shard in &self.shards {
            let sent = shard.use_rules(rules.clone()).await;
            sent.map_err(|_| Failure::new(Errno::ESHUTDOWN, "the daemon is shutting down"))?;
        }
        Ok(())
    }

    /// The exports with their directories.
    async fn resolve(&self, rules: Option<&[ExportRule]>) -> Result<Vec<Export>, Failure> {
        let Some(rules) = rules else {
            return Ok(Exports::loopback_root().iter().cloned().collect());
        };
        let mut exports = Vec::with_capacity(rules.len());
        for rule in rules {
            let attr = self.look_up(rule).await?;
            if attr.kind != FileKind::Directory {
                let text = format!("{}: {} is no directory", rule.place, rule.path());
                return Err(Failure::new(Errno::ENOTDIR, text));
            }
            exports.push(Export { root: attr.ino, ..rule.rules.clone() });
        }
        Ok(exports)
    }

    async fn look_up(&self, rule: &ExportRule) -> Result<Attr, Failure> {
        let failed = |error: FsError| {
            let text = match error {
                FsError::NotFound => format!(
                    "{}: the pool has no directory {}: make it through another export first",
                    rule.place,
                    rule.path()
                ),
                other => format!("{}: cannot look up {}: {other}", rule.place, rule.path()),
            };
            Failure::new(Errno::from_raw(error.errno()), text)
        };
        let names = rule.rules.path.iter().map(|name| Name::parse(name));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        match self.lookup.call(ControlRequest::Stat(Target::Path(names))).await {
            Ok(ControlReply::Stat(attr)) => Ok(*attr),
            Err(CallError::Fs(error)) => Err(failed(error)),
            Ok(_) | Err(CallError::Busy | CallError::Gone) => {
                let text = format!("{}: cannot look up {} now", rule.place, rule.path());
                Err(Failure::new(Errno::EAGAIN, text))
            }
        }
    }
}

/// An id may follow its directory to another path. Given to another directory it would turn the
/// handles that clients hold into keys for what was never exported to them.
fn keep_ids(before: &[Export], after: &[Export], rules: &[ExportRule]) -> Result<(), Failure> {
    for (new, rule) in after.iter().zip(rules) {
        let old = before.iter().find(|old| old.id == new.id);
        if let Some(old) = old.filter(|old| old.path != new.path && old.root != new.root) {
            let ExportId(id) = new.id;
            let was = String::from_utf8_lossy(&old.name()).into_owned();
            return Err(Failure::new(
                Errno::EINVAL,
                format!(
                    "{}: id {id} is that of {was}, another directory: handles of it are in use, so \
                     choose a new id",
                    rule.place
                ),
            ));
        }
    }
    Ok(())
}

fn entry(export: &Export) -> ExportEntry {
    let ExportId(id) = export.id;
    ExportEntry {
        id,
        path: String::from_utf8_lossy(&export.name()).into_owned(),
        ino: export.root.raw(),
        access: match export.mode {
            Mode::ReadWrite => "rw".into(),
            Mode::ReadOnly => "ro".into(),
        },
        squash: match export.squash {
            Squash::None => "none".into(),
            Squash::Root => "root".into(),
            Squash::All => "all".into(),
        },
        anon_uid: export.anonymous.uid,
        anon_gid: export.anonymous.gid,
        secure: export.ports == Ports::Reserved,
        recall: export.recalls,
        clients: export.groups(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_format::InodeNo;

    fn of(text: &str, roots: &[u64]) -> (Vec<Export>, Vec<ExportRule>) {
        let rules = Config::from_toml(text).unwrap().exports.unwrap();
        let exports = rules.iter().zip(roots).map(|(rule, root)| Export {
            root: InodeNo::from_raw(*root).unwrap(),
            ..rule.rules.clone()
        });
        (exports.collect(), rules)
    }

    #[test]
    fn an_id_follows_its_directory_and_is_never_given_to_another() {
        let text = |path: &str| {
            format!("[pool]\ndir='d'\n[[export]]\npath='{path}'\nid=3\nclients=['::1']")
        };
        let (before, _) = of(&text("/a"), &[50]);
        let kept = |path: &str, root| {
            let (after, rules) = of(&text(path), &[root]);
            keep_ids(&before, &after, &rules).map_err(|failure| failure.text)
        };
        assert_eq!(kept("/renamed", 50), Ok(()));
        assert_eq!(kept("/a", 51), Ok(()), "made anew: its old handles are stale");
        let other = kept("/b", 51).unwrap_err();
        assert!(other.starts_with("line 4: export[0].path: id 3 is that of /a"), "{other}");
    }
}
