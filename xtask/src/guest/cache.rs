//! The folder that outlives runs: `$XDG_CACHE_HOME/cairn-guest`, else `~/.cache/cairn-guest`.
//!
//! `image-STAMP/` holds one complete image; it appears under that name by a rename and is never
//! changed afterwards, so a reader needs no lock. Builders take `lock`. Everything in here may be
//! removed when no guest runs.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Images kept beside the one in use: trees on two branches with two recipes should not take turns
/// in building.
const OTHERS_KEPT: usize = 1;

pub struct Cache(PathBuf);

impl Cache {
    pub fn open() -> Result<Cache> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
            Some(named) => PathBuf::from(named),
            None => {
                let home = std::env::var_os("HOME").filter(|value| !value.is_empty());
                let home = home.context("no $HOME: set XDG_CACHE_HOME to a folder")?;
                PathBuf::from(home).join(".cache")
            }
        };
        ensure!(base.is_absolute(), "{} is not an absolute path", base.display());
        let path = base.join("cairn-guest");
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make the cache folder {}", path.display()))?;
        Ok(Cache(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn image(&self, stamp: &str) -> PathBuf {
        self.0.join(format!("image-{stamp}"))
    }

    /// Held by whoever builds, until the file is dropped. Waits for another builder.
    pub fn lock(&self) -> Result<File> {
        let path = self.0.join("lock");
        let file = File::create(&path)
            .with_context(|| format!("cannot make the lock {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// Removes all images but `kept` and the newest others. The lock must be held.
    pub fn drop_others(&self, kept: &Path) -> Result<()> {
        let mut others = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let is_image = entry.file_name().to_string_lossy().starts_with("image-");
            if is_image && entry.path() != kept {
                others.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        others.sort();
        let surplus = others.len().saturating_sub(OTHERS_KEPT);
        for (_, path) in others.drain(..surplus) {
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove the old image {}", path.display()))?;
        }
        Ok(())
    }
}
