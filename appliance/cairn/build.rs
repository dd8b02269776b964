//! Says which commit a build is of, when that can be known: $CAIRN_COMMIT for those who build from a
//! tarball and know, else what git says of this tree, else nothing, and `cairn version` says "unknown".

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CAIRN_COMMIT");
    let given = std::env::var("CAIRN_COMMIT").ok().filter(|commit| !commit.is_empty());
    if let Some(commit) = given.or_else(commit_of_tree) {
        println!("cargo:rustc-env=CAIRN_BUILD_COMMIT={commit}");
    }
}

/// Nothing when this tree is no repository of its own, as when it was unpacked inside another one.
fn commit_of_tree() -> Option<String> {
    let tree =
        Path::new(&std::env::var_os("CARGO_MANIFEST_DIR")?).join("../..").canonicalize().ok()?;
    let top = git(&tree, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != tree {
        return None;
    }
    // Grows with every commit and every change of branch.
    let log = tree.join(git(&tree, &["rev-parse", "--git-path", "logs/HEAD"])?);
    if log.exists() {
        println!("cargo:rerun-if-changed={}", log.display());
    }
    git(&tree, &["rev-parse", "--short=12", "HEAD"])
}

fn git(tree: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(tree).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
