//! One run's machine: QEMU's arguments and what the guest is told.
//!
//! The settings that look arbitrary were found the hard way:
//!
//! - `clocksource=hpet tsc=unstable`: a guest that boots while the host is busy calibrates the TSC
//!   wrongly and then counts seconds too fast, so that time-outs fire early.
//! - `no_timer_check`: with interrupt remapping and two machines at once the kernel's check of its
//!   timer fails now and then, and it panics.
//! - `intremap=on`: without it VFIO refuses, or asks for `allow_unsafe_interrupts`.
//! - `panic=-1` and `-no-reboot`: a panic ends QEMU at once.
//! - `cache=unsafe` on throw-away disks: their flushes reach nothing. The guest's own order of
//!   writes and flushes is the same.
//!
//! virtio devices bypass the IOMMU, so only the NVMe controllers are behind it; each sits alone on
//! the root bus and so in a group of its own.

use super::cpio::Archive;
use super::image::Image;
use super::{Job, Options};
use anyhow::{Context, Result};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The first PCI device number of the NVMe controllers.
const NVME_SLOT: u8 = 0x10;

pub struct Machine<'a> {
    pub options: &'a Options,
    pub job: &'a Job,
    pub image: &'a Image,
    /// This run's own.
    pub folder: &'a Path,
}

/// Where the guest's ports lead to, each a socket in the run's folder.
#[derive(Clone, Copy)]
pub enum Port {
    Stdout,
    Stderr,
    Report,
}

impl Port {
    pub const ALL: [Port; 3] = [Port::Stdout, Port::Stderr, Port::Report];

    pub fn name(self) -> &'static str {
        match self {
            Port::Stdout => "stdout",
            Port::Stderr => "stderr",
            Port::Report => "report",
        }
    }
}

impl Machine<'_> {
    pub fn socket(&self, port: Port) -> PathBuf {
        self.folder.join(port.name())
    }

    pub fn console(&self) -> PathBuf {
        self.folder.join("console")
    }

    /// Writes what QEMU is to read, and answers how to start it.
    pub fn prepare(&self) -> Result<Command> {
        let mut early = std::fs::read(self.image.early()).context("cannot read the image")?;
        early.extend(self.own_archive());
        let initrd = self.folder.join("initrd");
        std::fs::write(&initrd, early)?;

        // QEMU must not outlive us, however we end: the kernel sees to it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(self.base_arguments());
        command.arg("-initrd").arg(&initrd);
        for (tag, folder) in self.job.shares.iter().enumerate() {
            command.arg("-fsdev").arg(joined(&[
                format!("local,id=share{tag},security_model=none,multidevs=remap,path=").as_ref(),
                &option_value(folder.as_os_str()),
            ]));
            command
                .args(["-device", &format!("virtio-9p-pci,fsdev=share{tag},mount_tag=share{tag}")]);
        }
        for number in 0..self.options.nvme {
            let disk = self.folder.join(format!("nvme{number}"));
            std::fs::File::create(&disk)
                .and_then(|file| file.set_len(self.options.nvme_size.0))
                .with_context(|| format!("cannot make {}", disk.display()))?;
            command.arg("-drive").arg(joined(&[
                format!("if=none,id=nvme{number},format=raw,cache=unsafe,discard=unmap,file=")
                    .as_ref(),
                &option_value(disk.as_os_str()),
            ]));
            let slot = NVME_SLOT + number;
            let device = format!("nvme,serial=guest{number},drive=nvme{number},addr={slot:#x}");
            command.args(["-device", &device]);
        }
        // Where QEMU puts the written part of the snapshot.
        command.env("TMPDIR", self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    fn base_arguments(&self) -> Vec<OsString> {
        let options = self.options;
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |text: &str| arguments.extend(text.split(' ').map(OsString::from));
        add("-nodefaults -display none -no-reboot -machine q35 -accel tcg,thread=multi -cpu max");
        add(&format!("-smp {} -m {}", options.cpus, options.memory));
        add("-device virtio-serial-pci");
        if options.iommu {
            add("-device intel-iommu,intremap=on");
        }
        let mut pair = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
        for port in Port::ALL {
            let name = port.name();
            let socket = option_value(self.socket(port).as_os_str());
            let chardev = format!("socket,id={name},server=off,path=");
            pair("-chardev", joined(&[chardev.as_ref(), &socket]));
            pair("-device", format!("virtserialport,chardev={name},name={name}").into());
        }
        let console = option_value(self.console().as_os_str());
        pair("-chardev", joined(&["file,id=console,path=".as_ref(), &console]));
        pair("-serial", "chardev:console".into());
        pair("-kernel", self.image.kernel().into());
        pair("-append", self.kernel_line().into());
        let drive = "if=none,id=disk,format=raw,snapshot=on,cache=unsafe,file=";
        let disk = option_value(self.image.disk().as_os_str());
        pair("-drive", joined(&[drive.as_ref(), &disk]));
        pair("-device", "virtio-blk-pci,drive=disk".into());
        arguments
    }

    fn kernel_line(&self) -> String {
        let mut words = vec![
            "console=ttyS0 panic=-1 no_timer_check clocksource=hpet tsc=unstable".to_owned(),
            "mitigations=off nokaslr random.trust_cpu=on".to_owned(),
        ];
        words.push(if self.options.console { "loglevel=7" } else { "quiet" }.to_owned());
        if self.options.iommu {
            words.push("intel_iommu=on".to_owned());
        }
        if self.options.hugepages > 0 {
            words.push(format!("hugepages={}", self.options.hugepages));
        }
        words.join(" ")
    }

    /// The scripts and the job, which the first file system hands on to the guest's /run.
    fn own_archive(&self) -> Vec<u8> {
        let mut archive = Archive::new();
        archive.folder("guest");
        archive.folder("guest/bin");
        archive.file("guest/session.sh", include_bytes!("session.sh"));
        archive.file("guest/bin/vfio-bind", include_bytes!("vfio-bind.sh"));
        archive.file("guest/job.sh", &self.job_script());
        archive.finish()
    }

    fn job_script(&self) -> Vec<u8> {
        let options = self.options;
        let mut modules = vec!["ublk_drv"];
        let kernel_drives = options.nvme > 0 && !options.iommu;
        if kernel_drives {
            modules.push("nvme");
        }
        if options.iommu {
            modules.push("vfio-pci");
        }
        let shares = self.job.shares.iter().map(|folder| folder.as_os_str());
        let mut script = array("command", self.job.command.iter().map(OsString::as_os_str));
        script.extend(array("shares", shares));
        script.extend(array("modules", modules.into_iter().map(OsStr::new)));
        let expected = if kernel_drives { options.nvme } else { 0 };
        let numbers = format!("nvme={expected}\nhugepages={}\n", options.hugepages);
        script.extend(numbers.bytes());
        script
    }
}

/// A value inside one of QEMU's comma-separated lists, where a comma is written twice.
fn option_value(value: &OsStr) -> OsString {
    let mut escaped = Vec::new();
    for byte in value.as_bytes() {
        escaped.push(*byte);
        if *byte == b',' {
            escaped.push(b',');
        }
    }
    OsString::from_vec(escaped)
}

fn joined(parts: &[&OsStr]) -> OsString {
    parts.iter().copied().collect()
}

/// A line of bash that gives `name` exactly these words.
fn array<'a>(name: &str, words: impl Iterator<Item = &'a OsStr>) -> Vec<u8> {
    let mut line = format!("{name}=(").into_bytes();
    for word in words {
        line.extend_from_slice(b" '");
        for byte in word.as_bytes() {
            match byte {
                b'\'' => line.extend_from_slice(b"'\\''"),
                other => line.push(*other),
            }
        }
        line.push(b'\'');
    }
    line.extend_from_slice(b" )\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_guest_as_they_were() {
        let words = ["a b", "it's", "$(c)", "", "new\nline", "-x"];
        let mut script = array("words", words.iter().map(OsStr::new));
        script.extend_from_slice(b"printf '<%s>' \"${words[@]}\"");
        let output = Command::new("bash")
            .arg("-c")
            .arg(OsStr::from_bytes(&script))
            .output()
            .expect("bash is there");
        let text = String::from_utf8(output.stdout).expect("what we put in");
        assert_eq!(text, "<a b><it's><$(c)><><new\nline><-x>");
    }

    #[test]
    fn a_comma_in_a_path_ends_no_option() {
        assert_eq!(option_value(OsStr::new("/a,readonly=on")), "/a,,readonly=on");
    }
}
