//! The peer: Debian's nfs-ganesha with FSAL VFS over XFS.
//!
//! XFS answers a CREATE or RENAME when the change is in memory; an NFS server has to have it on stable
//! media. Mounted `wsync`, XFS does that, and that mount is what cairn is compared with, since both
//! then promise the same. The unsynced mount is exported beside it, because that is how many run it;
//! its figures are printed and are no target.
//!
//! Ganesha registers with rpcbind and does not start without one, although nobody asks it: one is
//! started when none is there, and ended with the peer.

use super::image::Image;
use super::process::Process;
use super::server::Server;
use super::stop::Stop;
use crate::{run, test};
use anyhow::{Context, Result, ensure};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PACKAGES: &[&str] = &["nfs-ganesha", "nfs-ganesha-vfs", "rpcbind", "xfsprogs"];
const PORT_MAPPER: u16 = 111;
const READY_TIME_MAX: Duration = Duration::from_secs(30);

/// Dropped from top to bottom: who uses a thing goes before it.
pub struct Ganesha {
    process: Process,
    _port_mapper: Option<Process>,
    synced: Image,
    unsynced: Image,
    port: u16,
    mount_port: u16,
}

impl Ganesha {
    pub fn start(folder: &Path, stop: &Stop) -> Result<Ganesha> {
        install()?;
        let synced = Image::mount(folder, "synced", Some("wsync"))?;
        let unsynced = Image::mount(folder, "unsynced", None)?;
        let port_mapper = start_port_mapper(folder, stop)?;
        let (port, mount_port) = two_free_ports()?;
        let config = folder.join("ganesha.conf");
        let text = config_text(port, mount_port, [&synced.mount, &unsynced.mount]);
        std::fs::write(&config, text).context("cannot write ganesha's configuration")?;
        let mut command = Command::new("ganesha.nfsd");
        command.args(["-F", "-L", "STDOUT", "-f"]).arg(&config);
        command.arg("-p").arg(folder.join("ganesha.pid"));
        let mut process =
            Process::start("ganesha.nfsd", &mut command, &folder.join("ganesha.log"))?;
        stop.wait_until(READY_TIME_MAX, "the start of ganesha", || {
            process.ensure_alive()?;
            Ok(process.output()?.contains("NFS SERVER INITIALIZED"))
        })?;
        Ok(Ganesha { process, _port_mapper: port_mapper, synced, unsynced, port, mount_port })
    }

    /// What cairn is compared with.
    pub fn synced(&self) -> Server {
        self.export(&self.synced)
    }

    /// Printed beside it.
    pub fn unsynced(&self) -> Server {
        self.export(&self.unsynced)
    }

    fn export(&self, image: &Image) -> Server {
        let (port, path) = (self.port, image.mount.display());
        let url = format!("nfs://127.0.0.1:{port}{path}?mountport={}", self.mount_port);
        Server { url, pid: self.process.pid() }
    }
}

fn install() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().copied().filter(|name| !test::is_installed(name)).collect();
    ensure!(
        test::is_root(),
        "the peer mounts a file system and needs root: run as root, or leave out --peer"
    );
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(test::has_apt(), "the peer needs {}: install them", missing.join(" "));
    let installed = run::succeeds(test::apt().arg("update"))?
        && run::succeeds(test::apt().args(["install", "--no-install-recommends"]).args(&missing))?;
    ensure!(installed, "apt cannot install {}", missing.join(" "));
    Ok(())
}

fn start_port_mapper(folder: &Path, stop: &Stop) -> Result<Option<Process>> {
    let answers = || {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_MAPPER));
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    };
    if answers() {
        return Ok(None);
    }
    let mut command = Command::new("rpcbind");
    let mut process = Process::start("rpcbind", command.arg("-f"), &folder.join("rpcbind.log"))?;
    stop.wait_until(READY_TIME_MAX, "the start of rpcbind", || {
        process.ensure_alive()?;
        Ok(answers())
    })?;
    Ok(Some(process))
}

fn two_free_ports() -> Result<(u16, u16)> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port");
    let (first, second) = (listen()?, listen()?);
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}

/// All paths are absolute: ganesha changes its folder. No UDP, no lock manager, no quota program.
fn config_text(port: u16, mount_port: u16, paths: [&Path; 2]) -> String {
    let mut text = format!(
        "NFS_CORE_PARAM {{ NFS_Port = {port}; MNT_Port = {mount_port}; Protocols = 3; \
         Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; \
         Bind_addr = 127.0.0.1; }}\n\
         LOG {{ Default_Log_Level = EVENT; }}\n"
    );
    for (id, path) in (1..).zip(paths) {
        text += &format!(
            "EXPORT {{ Export_Id = {id}; Path = {path}; Pseudo = /{id}; Access_Type = RW; \
             Squash = No_Root_Squash; SecType = sys; Protocols = 3; Transports = TCP; \
             FSAL {{ Name = VFS; }} }}\n",
            path = path.display()
        );
    }
    text
}
