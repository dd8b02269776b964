//! The guest's kernel: fetched by apt, unpacked beside the image.
//!
//! apt works in folders of its own here, with one suite as its only source. The host's apt never
//! learns of that suite, and nothing is installed on the host. The metapackage `linux-image-amd64`
//! says which kernel is the suite's newest.
//!
//! Debian's vmlinuz unpacks itself, which takes seconds under emulation; so it is unpacked here, and
//! QEMU starts the plain ELF file by its PVH entry.

use super::host::Source;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const METAPACKAGE: &str = "linux-image-amd64";
/// The frame magic of zstd, RFC 8878 section 3.1.1.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    /// Has `boot/vmlinuz-RELEASE` and `lib/modules/RELEASE`.
    pub folder: PathBuf,
}

/// Downloads and unpacks the newest kernel of `source` under `work`.
pub fn fetch(source: &Source, work: &Path) -> Result<Kernel> {
    let apt = PrivateApt::create(source, &work.join("apt"))?;
    apt.run("apt-get", &["--quiet=2", "update"])?;
    let depends = apt.run("apt-cache", &["depends", METAPACKAGE])?;
    let package = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{METAPACKAGE} depends on no kernel:\n{depends}"))?;
    let release = package.trim_start_matches("linux-image-").to_owned();

    let downloads = work.join("debs");
    std::fs::create_dir_all(&downloads)?;
    let mut download = apt.command("apt-get", &["--quiet=2", "download", package]);
    output_of(download.current_dir(&downloads))?;
    let deb = std::fs::read_dir(&downloads)?
        .next()
        .with_context(|| format!("apt-get download left no {package}"))??
        .path();

    let folder = work.join("kernel");
    output_of(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&folder))?;
    output_of(Command::new("depmod").arg("-b").arg(&folder).arg(&release))?;
    Ok(Kernel { release, folder })
}

impl Kernel {
    pub fn modules(&self) -> PathBuf {
        // Debian's releases differ in whether /lib is a link to usr/lib.
        let merged = self.folder.join("usr/lib/modules").join(&self.release);
        if merged.exists() { merged } else { self.folder.join("lib/modules").join(&self.release) }
    }

    /// The kernel as an ELF file, or as Debian packs it when there is none to be found inside.
    pub fn bootable(&self) -> Result<Vec<u8>> {
        let path = self.folder.join("boot").join(format!("vmlinuz-{}", self.release));
        let packed =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let starts = packed.windows(4).enumerate().filter(|(_, window)| *window == ZSTD_MAGIC);
        for (start, _) in starts {
            let unpacked = zstd_frame(&packed[start..])?;
            if unpacked.starts_with(b"\x7fELF") {
                return Ok(unpacked);
            }
        }
        Ok(packed)
    }
}

/// What unpacks from the start of `bytes`; nothing, when that is no frame after all. zstd complains
/// of what follows the frame, and has then written all of it.
fn zstd_frame(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("zstd")
        .arg("-dcq")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start zstd")?;
    let mut stdin = child.stdin.take().context("zstd has no stdin")?;
    let bytes = bytes.to_owned();
    // It may stop reading at the end of the frame; that is not our failure.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    let output = child.wait_with_output().context("lost zstd")?;
    feeder.join().ok().context("the thread that fed zstd panicked")?;
    Ok(output.stdout)
}

/// apt with its own sources, lists and cache.
struct PrivateApt {
    settings: Vec<String>,
}

impl PrivateApt {
    fn create(source: &Source, folder: &Path) -> Result<PrivateApt> {
        for part in ["lists/partial", "cache/archives/partial", "parts"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let list = folder.join("sources.list");
        std::fs::write(&list, format!("{}\n", source.line()))?;
        let folder = folder.to_str().context("the cache folder's name is not text")?;
        let settings = [
            format!("Dir::Etc::SourceList={folder}/sources.list"),
            format!("Dir::Etc::SourceParts={folder}/parts"),
            format!("Dir::State::Lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            // apt's own user cannot write below a private folder.
            "APT::Sandbox::User=root".to_owned(),
        ];
        Ok(PrivateApt { settings: settings.into() })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(self.settings.iter().flat_map(|setting| ["-o", setting])).args(arguments);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output_of(&mut self.command(program, arguments))
    }
}

/// The stdout of a tool that must succeed; its complaints go to stderr as they come.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
