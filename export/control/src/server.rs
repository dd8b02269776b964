//! Serving on the Unix socket, on a thread of its own: the only place in the daemon where tokio
//! runs, with one thread and nothing of the file system in it.

use crate::bridge::Caller;
use crate::check::StartCheck;
use crate::proto::ExportsReply;
use crate::proto::control_server::ControlServer;
use crate::service::Service;
use crate::socket::ControlSocket;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

/// How long calls that run when `shutdown` ends may take to finish.
const GRACE: Duration = Duration::from_secs(2);

/// What the exports are, which only the daemon knows.
pub type ShowExports =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ExportsReply> + Send>> + Send + Sync>;

/// Serves until `shutdown` ends, then lets running calls finish for a moment. `shards` by number;
/// `check` starts a checker.
pub async fn serve(
    socket: &ControlSocket,
    shards: Vec<Caller>,
    check: StartCheck,
    exports: ShowExports,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let incoming = UnixListenerStream::new(socket.listener()?);
    let (stopping, mut stopped) = tokio::sync::watch::channel(());
    let service = Service::new(shards, check, exports, stopped.clone());
    let server = Server::builder()
        .add_service(ControlServer::new(service))
        .serve_with_incoming_shutdown(incoming, async move {
            // Either a message or the sender's end: both mean stop.
            let _ = stopped.changed().await;
        });
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return ended.map_err(io::Error::other),
        () = shutdown => {}
    }
    drop(stopping);
    match tokio::time::timeout(GRACE, server).await {
        Ok(ended) => ended.map_err(io::Error::other),
        Err(_) => Ok(()),
    }
}
