//! Which modules of a kernel the guest gets.
//!
//! A Debian kernel has some four thousand, compressed; a guest needs a hundred, and unpacking them
//! under emulation is slow. So the wanted ones and what they need are unpacked on the disk, and the
//! rest is left out. `modules.dep` (made by depmod) lists for each module all it needs, and a
//! module's own needs come after it in its line: loading a line from its end is a right order.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

/// The modules of one kernel, by name.
pub struct Modules {
    /// Name (with `_`) to its path and the paths it needs, below the modules folder.
    lines: BTreeMap<String, (String, Vec<String>)>,
}

impl Modules {
    pub fn parse(modules_dep: &str) -> Modules {
        let mut lines = BTreeMap::new();
        for (path, needs) in modules_dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            lines.insert(name(path), (path.to_owned(), needs));
        }
        Modules { lines }
    }

    /// The paths of `wanted` and of what they need, each once, in an order to load them in. What
    /// the kernel does not have as a module is taken to be built in.
    pub fn with_needs(&self, wanted: &[&str]) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut order = Vec::new();
        for (path, needs) in wanted.iter().filter_map(|wanted| self.lines.get(*wanted)) {
            for path in needs.iter().rev().chain([path]) {
                if seen.insert(path) {
                    order.push(path.clone());
                }
            }
        }
        order
    }
}

/// `kernel/fs/nfs/nfs-v3.ko.xz` as `nfs_v3`.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The module of this path as it is loaded, unpacked when it was packed.
pub fn unpacked(packed: &Path) -> Result<Vec<u8>> {
    let (tool, flags) = match packed.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => ("xz", "-dc"),
        Some("zst") => ("zstd", "-dcq"),
        _ => {
            return std::fs::read(packed)
                .with_context(|| format!("cannot read {}", packed.display()));
        }
    };
    let output = Command::new(tool)
        .arg(flags)
        .arg(packed)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {tool}"))?;
    ensure!(output.status.success(), "{tool} could not unpack {}", packed.display());
    Ok(output.stdout)
}

/// A module's path without the ending of its packing.
pub fn unpacked_path(path: &str) -> &str {
    path.trim_end_matches(".xz").trim_end_matches(".zst")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/jbd2/jbd2.ko.xz\n\
        kernel/lib/crc16.ko.xz:\n\
        kernel/fs/jbd2/jbd2.ko.xz:\n\
        kernel/drivers/nvme/host/nvme-tcp.ko.xz: kernel/drivers/nvme/host/nvme-core.ko.xz\n";

    #[test]
    fn needs_are_loaded_first_and_once() {
        let modules = Modules::parse(DEP);
        assert_eq!(
            modules.with_needs(&["ext4", "crc16", "built_in"]),
            ["kernel/fs/jbd2/jbd2.ko.xz", "kernel/lib/crc16.ko.xz", "kernel/fs/ext4/ext4.ko.xz"]
        );
    }

    #[test]
    fn a_module_is_named_as_the_kernel_names_it() {
        let modules = Modules::parse(DEP);
        assert_eq!(modules.with_needs(&["nvme_tcp"]).len(), 2);
        assert_eq!(unpacked_path("kernel/lib/crc16.ko.xz"), "kernel/lib/crc16.ko");
    }
}
