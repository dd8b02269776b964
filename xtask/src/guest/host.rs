//! What this machine is and has: the release, root, packages, and where its packages come from.
//!
//! The guest is installed from wherever the host itself installs from: apt is asked for its index
//! targets, which gives one form for all the ways of writing sources, and those of the
//! distribution's main archive are taken. No mirror is named in the tree.

use super::Missing;
use crate::run;
use crate::test::{apt, has_apt, is_installed, is_root};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where Debian puts the keys that sign its archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub struct Host {
    pub codename: String,
}

/// One suite of an archive, as apt on this machine knows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    uri: String,
    suite: String,
}

impl Host {
    /// Fails with what is `Missing` where no guest can run at all.
    pub fn look() -> Result<Host> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(Missing("Linux on x86-64".to_owned()).into());
        }
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let value = |key: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        match (value("ID").as_deref(), value("VERSION_CODENAME")) {
            (Some("debian"), Some(codename)) if has_apt() => Ok(Host { codename }),
            _ => Err(Missing("a Debian host: the guest is made of its release".to_owned()).into()),
        }
    }

    /// Installs what is missing when root, else says what is.
    pub fn install(&self, packages: &[&str]) -> Result<()> {
        let missing: Vec<&str> =
            packages.iter().copied().filter(|name| !is_installed(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let list = missing.join(" ");
        if !is_root() {
            return Err(Missing(format!("{list} (as root: apt-get install {list})")).into());
        }
        let installed = run::succeeds(quiet(&mut apt()).arg("update"))?
            && run::succeeds(
                quiet(&mut apt()).args(["install", "--no-install-recommends"]).args(&missing),
            )?;
        match installed {
            true => Ok(()),
            false => Err(Missing(format!("{list}, which apt-get could not install")).into()),
        }
    }

    /// The suites of the host's release that the guest is installed from.
    pub fn sources(&self) -> Result<Vec<Source>> {
        let mut found = self.listed_sources()?;
        if found.is_empty() {
            // A minimal image comes without lists; the origin of an archive is read from them.
            run::succeeds(quiet(&mut apt()).arg("update"))?;
            found = self.listed_sources()?;
        }
        if found.is_empty() {
            let need = format!("apt sources of Debian {} with an origin of Debian", self.codename);
            return Err(Missing(need).into());
        }
        Ok(found)
    }

    fn listed_sources(&self) -> Result<Vec<Source>> {
        let format = "$(ORIGIN)|$(COMPONENT)|$(REPO_URI)|$(RELEASE)";
        let output = Command::new("apt-get")
            .args(["indextargets", "--format", format, "Created-By: Packages"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start apt-get indextargets")?;
        Ok(parse_targets(&String::from_utf8_lossy(&output.stdout), &self.codename))
    }
}

impl Source {
    /// As one line of sources.list.
    pub fn line(&self) -> String {
        let signed = match Path::new(KEYRING).exists() {
            true => format!("[signed-by={KEYRING}] "),
            false => String::new(),
        };
        format!("deb {signed}{} {} main", self.uri, self.suite)
    }
}

/// The same archive's `suite`, given the release's own sources.
pub fn sibling(sources: &[Source], codename: &str, suite: &str) -> Result<Source> {
    let own = sources
        .iter()
        .find(|source| source.suite == codename)
        .with_context(|| format!("apt has no source for the suite {codename} itself"))?;
    Ok(Source { uri: own.uri.clone(), suite: suite.to_owned() })
}

/// Only the archive of the release itself: with updates and security, without backports, whose
/// packages the guest would take only in part.
fn parse_targets(text: &str, codename: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let ["Debian", "main", uri, suite] = fields[..] else { continue };
        let own = suite == codename
            || suite
                .strip_prefix(codename)
                .is_some_and(|rest| matches!(rest, "-updates" | "-security"));
        let source = Source { uri: uri.to_owned(), suite: suite.to_owned() };
        if own && !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
}

/// apt's own words belong on stderr: the command in the guest owns stdout.
fn quiet(apt: &mut Command) -> &mut Command {
    apt.stdout(Stdio::from(std::io::stderr()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "Debian|main|http://one/debian/|bookworm\n\
        Debian|main|http://one/debian/|bookworm\n\
        Debian|contrib|http://one/debian/|bookworm\n\
        Debian|main|http://two/debian-security/|bookworm-security\n\
        Debian Backports|main|http://one/debian/|bookworm-backports\n\
        Somebody|main|http://three/|bookworm\n";

    #[test]
    fn the_hosts_own_archive_is_taken_and_nobody_elses() {
        let sources = parse_targets(TARGETS, "bookworm");
        let suites: Vec<&str> = sources.iter().map(|source| source.suite.as_str()).collect();
        assert_eq!(suites, ["bookworm", "bookworm-security"]);
        assert_eq!(parse_targets(TARGETS, "trixie"), []);
    }

    #[test]
    fn a_sibling_suite_comes_from_the_main_archive() {
        let sources = parse_targets(TARGETS, "bookworm");
        let backports = sibling(&sources, "bookworm", "bookworm-backports").expect("it has one");
        assert!(backports.line().ends_with("http://one/debian/ bookworm-backports main"));
        assert!(sibling(&sources, "trixie", "trixie").is_err());
    }
}
