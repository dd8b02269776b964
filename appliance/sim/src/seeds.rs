//! The seeds that ever failed, kept beside the code and replayed in every run.

use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    failed: Vec<Kept>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub seed: u64,
    /// What it showed.
    pub showed: String,
    /// The change that mended it.
    pub mended: String,
}

pub fn kept() -> Vec<Kept> {
    let file: File = toml::from_str(include_str!("../seeds.toml")).expect("tests parse it");
    file.failed
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kept_seed_says_what_it_showed_and_what_mended_it() {
        for kept in super::kept() {
            assert!(!kept.showed.is_empty() && !kept.mended.is_empty(), "seed {}", kept.seed);
        }
    }
}
