//! One run's own folder in the cache: sockets, the console, the written part of the disks.
//!
//! It is named after the process, and goes with the value. A run that was killed leaves its folder
//! behind; the next run removes those whose process is gone. A folder whose process number has been
//! given to somebody else meanwhile waits for a later run.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

pub struct RunFolder(PathBuf);

impl RunFolder {
    pub fn create(cache: &Path) -> Result<RunFolder> {
        let runs = cache.join("run");
        std::fs::create_dir_all(&runs)
            .with_context(|| format!("cannot make {}", runs.display()))?;
        sweep(&runs)?;
        let path = runs.join(std::process::id().to_string());
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(RunFolder(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("xtask guest: left behind {}: {error}", self.0.display());
        }
    }
}

fn sweep(runs: &Path) -> Result<()> {
    for entry in std::fs::read_dir(runs)? {
        let entry = entry?;
        let owner = entry.file_name().to_string_lossy().parse::<u32>().ok();
        let lives = owner.is_some_and(|pid| {
            pid != std::process::id() && Path::new(&format!("/proc/{pid}")).exists()
        });
        if owner.is_some() && !lives {
            // Another run may be sweeping too; what is gone is gone.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_runs_are_swept_and_live_ones_stay() {
        let cache = std::env::temp_dir().join(format!("cairn-sweep-{}", std::process::id()));
        let runs = cache.join("run");
        // No process has the number 2^31: Linux stops at 2^22.
        for name in ["1", "2147483648"] {
            std::fs::create_dir_all(runs.join(name)).expect("a temporary folder");
        }
        let folder = RunFolder::create(&cache).expect("a run folder");
        assert!(runs.join("1").exists());
        assert!(!runs.join("2147483648").exists());
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
        std::fs::remove_dir_all(&cache).expect("the test's own folder");
    }
}
