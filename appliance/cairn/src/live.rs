//! Reaching a running daemon: which socket, and the small runtime its client needs.

use crate::Globals;
use crate::exit::Error;
use cairn_control::Client;
use nix::errno::Errno;
use std::future::Future;
use std::path::{Path, PathBuf};

pub const SOCKET_ENV: &str = "CAIRN_SOCKET";
/// In the folder of an embedded pool.
pub const SOCKET_FILE: &str = "control.sock";
pub const EMBEDDED_SOCKET: &str = "./cairn-data/control.sock";

/// `--socket`, else the environment, else the embedded daemon's here, else the system's.
pub fn socket(globals: &Globals) -> PathBuf {
    let embedded = || Path::new(EMBEDDED_SOCKET).exists().then(|| EMBEDDED_SOCKET.into());
    globals
        .socket
        .clone()
        .or_else(|| std::env::var_os(SOCKET_ENV).filter(|path| !path.is_empty()).map(PathBuf::from))
        .or_else(embedded)
        .unwrap_or_else(|| cairn_daemon::SERVE_SOCKET_DEFAULT.into())
}

/// With the way out, of an error of connecting.
fn advised(error: Error) -> Error {
    let advice = match error.errno() {
        Errno::ENOENT | Errno::ECONNREFUSED => {
            "start one with `cairn up`, or name another with --socket"
        }
        Errno::ENOTSOCK => "name the socket of a daemon with --socket",
        Errno::ENAMETOOLONG => {
            "name a shorter one with --socket, or serve a --dir with a shorter path"
        }
        _ => return error,
    };
    let errno = error.errno();
    error.advised(errno, advice)
}

/// Connects, and runs `ask` to its end.
pub fn with_daemon<T, F>(globals: &Globals, ask: impl FnOnce(Client) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let socket = socket(globals);
    let object = || socket.display();
    let asked = async |client| {
        tokio::select! {
            outcome = ask(client) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Error::new(object(), Errno::EINTR, "interrupted")),
        }
    };
    with_connection(&socket, asked)
}

/// The same for a command whose end is the user's interrupt: it looks for that itself.
pub fn with_daemon_until_interrupted<T, F>(
    globals: &Globals,
    ask: impl FnOnce(Client) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    with_connection(&socket(globals), ask)
}

fn with_connection<T, F>(socket: &Path, ask: impl FnOnce(Client) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let object = || socket.display();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io(object(), &error))?;
    runtime.block_on(async {
        let client = Client::connect(socket)
            .await
            .map_err(|error| advised(Error::client(object(), error)))?;
        ask(client).await
    })
}
