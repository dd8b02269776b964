//! An XFS file system in a file, mounted through a loop device while this value lives.
//!
//! Direct I/O on the loop device, so that the peer's data is not in the page cache twice and its
//! flushes reach the disk the way cairn's do.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Image {
    /// Where it is mounted.
    pub mount: PathBuf,
    device: String,
}

const IMAGE_BYTES: u64 = 16 << 30;

impl Image {
    /// `options` are given to mount, beside the defaults.
    pub fn mount(folder: &Path, name: &str, options: Option<&str>) -> Result<Image> {
        let file = folder.join(format!("{name}.img"));
        let mount = folder.join(name);
        std::fs::create_dir(&mount).with_context(|| format!("cannot make {}", mount.display()))?;
        std::fs::File::create(&file)
            .and_then(|image| image.set_len(IMAGE_BYTES))
            .with_context(|| format!("cannot make {}", file.display()))?;
        say(Command::new("mkfs.xfs").arg("-q").arg(&file))?;
        let device =
            say(Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(&file))?;
        // From here on dropping detaches.
        let image = Image { mount, device: device.trim().to_owned() };
        let mut command = Command::new("mount");
        command.args(["-t", "xfs"]);
        if let Some(options) = options {
            command.args(["-o", options]);
        }
        say(command.arg(&image.device).arg(&image.mount))?;
        Ok(image)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let is_mounted = Command::new("mountpoint").arg("-q").arg(&self.mount).status();
        if is_mounted.is_ok_and(|status| status.success())
            && let Err(error) = say(Command::new("umount").arg(&self.mount))
        {
            eprintln!("left mounted: {}: {error:#}", self.mount.display());
        }
        if let Err(error) = say(Command::new("losetup").arg("--detach").arg(&self.device)) {
            eprintln!("left attached: {}: {error:#}", self.device);
        }
    }
}

/// Runs to the end and gives stdout; stderr is the error.
fn say(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
