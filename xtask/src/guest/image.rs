//! Builds what a guest boots from, once per recipe: kernel, first file system, disk.
//!
//! Everything is made in a folder of its own inside the cache and renamed into place when it is
//! complete, so an image is either whole or absent. Building needs root, since the files of the disk
//! belong to the guest's root; booting does not.

use super::cache::Cache;
use super::cpio::Archive;
use super::host::{Host, Source, sibling};
use super::kernel::{self, Kernel, output_of};
use super::modules::{self, Modules};
use super::{Missing, recipe};
use crate::test::is_root;
use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with the three files below.
pub struct Image(PathBuf);

impl Image {
    pub fn kernel(&self) -> PathBuf {
        self.0.join("kernel")
    }

    /// The part of the first file system that all runs share.
    pub fn early(&self) -> PathBuf {
        self.0.join("early.cpio")
    }

    pub fn disk(&self) -> PathBuf {
        self.0.join("disk.ext4")
    }
}

/// The image of today's recipe, built when it is not there or when `rebuild` asks for it.
pub fn current(host: &Host, cache: &Cache, rebuild: bool) -> Result<Image> {
    host.install(recipe::BOOT_PACKAGES)?;
    let path = cache.image(&recipe::stamp(&host.codename));
    if path.exists() && !rebuild {
        return Ok(Image(path));
    }
    if !is_root() {
        let need =
            "root, once, to build the guest's image (run `cargo xtask guest -- true` as root)";
        return Err(Missing(need.to_owned()).into());
    }
    let lock = cache.lock()?;
    if path.exists() && !rebuild {
        return Ok(Image(path)); // somebody else has just built it
    }
    host.install(recipe::BUILD_PACKAGES)?;
    let work = cache.path().join("build");
    if work.exists() {
        std::fs::remove_dir_all(&work).context("cannot remove what an interrupted build left")?;
    }
    let ready = work.join("image");
    std::fs::create_dir_all(&ready)?;
    build(host, &work, &ready).context("cannot build the guest's image")?;
    if path.exists() {
        std::fs::remove_dir_all(&path).context("cannot remove the image to be replaced")?;
    }
    std::fs::rename(&ready, &path).context("cannot put the new image in place")?;
    std::fs::remove_dir_all(&work).context("cannot remove the build folder")?;
    cache.drop_others(&path)?;
    drop(lock);
    Ok(Image(path))
}

fn build(host: &Host, work: &Path, ready: &Path) -> Result<()> {
    let sources = host.sources()?;
    step("the kernel");
    let suite = recipe::kernel_suite(&host.codename);
    let kernel = kernel::fetch(&sibling(&sources, &host.codename, &suite)?, work)?;
    std::fs::write(ready.join("kernel"), kernel.bootable()?)?;

    step(&format!("packages beside Linux {}", kernel.release));
    let root = work.join("root");
    install(host, &sources, &root)?;

    step("modules");
    let early = install_modules(&kernel, &root)?;
    std::fs::write(ready.join("early.cpio"), early_archive(&root, &early)?)?;
    settle_in(&root)?;

    step("the disk");
    make_disk(&root, &ready.join("disk.ext4"))
}

fn step(what: &str) {
    eprintln!("xtask guest: building the image: {what}");
}

fn install(host: &Host, sources: &[Source], root: &Path) -> Result<()> {
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap.args(["--quiet", "--variant=minbase", "--mode=root"]);
    bootstrap.arg("--aptopt=APT::Install-Recommends \"false\"");
    for part in ["doc", "man", "info", "locale", "i18n"] {
        bootstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{part}/*"));
    }
    bootstrap.arg(format!("--include={}", recipe::PACKAGES.join(",")));
    bootstrap.arg(&host.codename).arg(root);
    bootstrap.args(sources.iter().map(Source::line));
    output_of(&mut bootstrap)?;
    Ok(())
}

/// Copies the modules the guest gets, unpacked, and answers those to be loaded early, in order, as
/// paths inside `root`.
fn install_modules(kernel: &Kernel, root: &Path) -> Result<Vec<PathBuf>> {
    let from = kernel.modules();
    let listed =
        std::fs::read_to_string(from.join("modules.dep")).context("depmod left no modules.dep")?;
    let modules = Modules::parse(&listed);
    let to = root.join("lib/modules").join(&kernel.release);
    let wanted = [recipe::EARLY_MODULES, recipe::MODULES].concat();
    for path in modules.with_needs(&wanted) {
        let target = to.join(modules::unpacked_path(&path));
        std::fs::create_dir_all(target.parent().context("a module without a folder")?)?;
        std::fs::write(&target, modules::unpacked(&from.join(&path))?)?;
    }
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        std::fs::copy(from.join(list), to.join(list)).with_context(|| format!("no {list}"))?;
    }
    output_of(Command::new("depmod").arg("-b").arg(root).arg(&kernel.release))?;
    let early = modules.with_needs(recipe::EARLY_MODULES);
    Ok(early.iter().map(|path| to.join(modules::unpacked_path(path))).collect())
}

/// The first file system: busybox, the modules that reach the disk, and the script that loads them
/// in the order of their names.
fn early_archive(root: &Path, early: &[PathBuf]) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for folder in ["dev", "proc", "sys", "disk", "modules", "guest"] {
        archive.folder(folder);
    }
    archive.file("init", include_bytes!("init.sh"));
    archive.file("busybox", &std::fs::read("/bin/busybox").context("no /bin/busybox")?);
    for (place, path) in early.iter().enumerate() {
        let module = std::fs::read(path).with_context(|| {
            format!("no early module {}", path.strip_prefix(root).unwrap_or(path).display())
        })?;
        archive.file(&format!("modules/{place:02}.ko"), &module);
    }
    Ok(archive.finish())
}

/// What a booted system expects and an unpacked one lacks.
fn settle_in(root: &Path) -> Result<()> {
    let etc = root.join("etc");
    std::fs::write(etc.join("hostname"), "guest\n")?;
    std::fs::write(etc.join("hosts"), "127.0.0.1 localhost guest\n::1 localhost\n")?;
    for stale in ["resolv.conf", "mtab"] {
        if etc.join(stale).symlink_metadata().is_ok() {
            std::fs::remove_file(etc.join(stale))?;
        }
    }
    symlink("/proc/self/mounts", etc.join("mtab"))?;
    Ok(())
}

fn make_disk(root: &Path, disk: &Path) -> Result<()> {
    File::create(disk)?.set_len(recipe::DISK_BYTES)?;
    // No journal: the disk never outlives a boot. Tables written now, not in the guest's background,
    // and few of them: inodes for 16 times what the image holds.
    let mut mkfs = Command::new("/sbin/mkfs.ext4");
    mkfs.args(["-q", "-F", "-m", "0", "-N", "300000"]);
    mkfs.args(["-O", "^has_journal,^metadata_csum", "-E", "lazy_itable_init=0"]);
    mkfs.arg("-d").arg(root).arg(disk);
    output_of(&mut mkfs)?;
    Ok(())
}
