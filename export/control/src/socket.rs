//! The Unix socket: bound so that no daemon's socket is taken over, and no leftover is in the way.
//!
//! A killed daemon leaves its socket file behind. Whether one is a leftover is asked of the kernel:
//! nobody accepts on it. The new socket is made under another name, given its mode, and renamed over
//! the leftover, so that there is no moment at which others than its owner may open it.
//!
//! A path that no client could name, since it is too long or not UTF-8, is refused.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A listening socket; its file goes away with it.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// `AddrInUse` when a daemon answers there, `AlreadyExists` when something else than a socket
    /// has the name.
    pub fn bind(path: &Path) -> io::Result<ControlSocket> {
        refuse_unreachable(path)?;
        refuse_taken(path)?;
        let fresh = unfinished(path);
        remove_if_there(&fresh)?;
        let listener = UnixListener::bind(&fresh)?;
        let named = || {
            std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&fresh, path)?;
            listener.set_nonblocking(true)
        };
        if let Err(error) = named() {
            // Nobody will look for it there.
            let _ = std::fs::remove_file(&fresh);
            return Err(error);
        }
        Ok(ControlSocket { listener, path: path.to_owned() })
    }

    /// What `bind` would refuse for good, told before anything else is made; `made_later` is a folder
    /// that will be there by then.
    pub fn refuse_place(path: &Path, made_later: &Path) -> io::Result<()> {
        refuse_unreachable(path)?;
        refuse_taken(path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        match parent {
            Some(parent) if parent != made_later => std::fs::metadata(parent).map(drop),
            _ => Ok(()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For the runtime that serves it; needs to be called inside of one.
    pub(crate) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // What is left behind is recognised as a leftover by the next bind.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The name under which it is made has a byte more, and the kernel wants a zero behind it (unix(7)).
pub const PATH_BYTES_MAX: usize = CONNECT_BYTES_MAX - 1;

/// The longest path that a client can ask for.
pub(crate) const CONNECT_BYTES_MAX: usize = 107;

pub(crate) fn refuse_long(path: &Path, bytes_max: usize) -> io::Result<()> {
    match path.as_os_str().len() {
        length if length > bytes_max => {
            Err(io::Error::from_raw_os_error(nix::errno::Errno::ENAMETOOLONG as i32))
        }
        _ => Ok(()),
    }
}

fn refuse_unreachable(path: &Path) -> io::Result<()> {
    refuse_long(path, PATH_BYTES_MAX)?;
    match path.to_str() {
        Some(_) => Ok(()),
        None => Err(io::Error::from_raw_os_error(nix::errno::Errno::EILSEQ as i32)),
    }
}

fn refuse_taken(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::from_raw_os_error(nix::errno::Errno::EEXIST as i32));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::from_raw_os_error(nix::errno::Errno::EADDRINUSE as i32)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
    }
}

/// Short, since a socket's path may have 107 bytes.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("cairn-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_socket_that_somebody_serves_is_not_taken_over() {
        let folder = folder("socket-taken");
        let path = folder.join("s");
        let first = ControlSocket::bind(&path).unwrap();
        let second = ControlSocket::bind(&path).err().map(|e| e.kind());
        assert_eq!(second, Some(io::ErrorKind::AddrInUse));
        assert!(UnixStream::connect(&path).is_ok());
        drop(first);
        assert!(!path.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_is_refused_and_nothing_is_left_there() {
        let folder = folder("socket-place");
        let kind = |result: io::Result<()>| result.err().map(|e| e.kind());
        let long = folder.join("s".repeat(108));
        let refused = ControlSocket::refuse_place(&long, &folder);
        assert_eq!(kind(refused), Some(io::ErrorKind::InvalidFilename));
        assert_eq!(
            kind(ControlSocket::bind(&long).map(drop)),
            Some(io::ErrorKind::InvalidFilename)
        );
        let unnamed = folder.join(std::ffi::OsStr::from_bytes(b"s\xff"));
        let errno = |result: io::Result<()>| result.err().and_then(|e| e.raw_os_error());
        let not_utf8 = Some(nix::errno::Errno::EILSEQ as i32);
        assert_eq!(errno(ControlSocket::refuse_place(&unnamed, &folder)), not_utf8);
        assert_eq!(errno(ControlSocket::bind(&unnamed).map(drop)), not_utf8);
        let below = folder.join("none/s");
        let refused = |made_later: &Path| kind(ControlSocket::refuse_place(&below, made_later));
        assert_eq!(refused(&folder), Some(io::ErrorKind::NotFound));
        assert_eq!(refused(&folder.join("none")), None);
        std::fs::create_dir_all(folder.join("d~")).unwrap();
        assert!(ControlSocket::bind(&folder.join("d")).is_err());
        std::fs::remove_dir(folder.join("d~")).unwrap();
        assert!(ControlSocket::bind(Path::new("")).is_err());
        assert!(!Path::new("~").exists(), "the name it was made under");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_leftover_socket_is_replaced_and_a_file_is_not() {
        let folder = folder("socket-leftover");
        let path = folder.join("s");
        drop(UnixListener::bind(&path).unwrap());
        let bound = ControlSocket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(bound);
        std::fs::write(&path, "precious").unwrap();
        let refused = ControlSocket::bind(&path).err().map(|e| e.kind());
        assert_eq!(refused, Some(io::ErrorKind::AlreadyExists));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
