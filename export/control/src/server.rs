//! Serving on the Unix socket and, for metrics, on an address, on a thread of its own: the only place in the
//! daemon where tokio runs, with one thread and nothing of the file system in it.

use crate::bridge::Caller;
use crate::check::StartCheck;
use crate::metrics;
use crate::proto::ExportsReply;
use crate::proto::control_server::ControlServer;
use crate::service::Service;
use crate::socket::ControlSocket;
use crate::triggers::Triggers;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

/// How long calls that run when `shutdown` ends may take to finish.
const GRACE: Duration = Duration::from_secs(2);

/// What the exports are, which only the daemon knows.
pub type ShowExports =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ExportsReply> + Send>> + Send + Sync>;

/// What the daemon was started with.
#[derive(Debug, Default)]
pub struct ServeWith {
    /// Where metrics are answered, too.
    pub metrics_at: Option<TcpListener>,
    /// Whether faults may be set off (`cairn debug trigger`).
    pub debug_triggers: bool,
}

/// Serves until `shutdown` ends, then lets running calls finish for a moment. `shards` by number;
/// `check` starts a checker.
pub async fn serve(
    socket: &ControlSocket,
    shards: Vec<Caller>,
    check: StartCheck,
    exports: ShowExports,
    with: ServeWith,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let incoming = UnixListenerStream::new(socket.listener()?);
    let (stopping, mut stopped) = tokio::sync::watch::channel(());
    let scraped = metrics::router(shards.clone());
    let served_at = with.metrics_at.map(|at| metrics::serve(at, shards.clone()));
    let service =
        Service::new(shards, check, exports, Triggers::new(with.debug_triggers), stopped.clone());
    let calls = Routes::new(ControlServer::new(service)).into_axum_router();
    // A scrape is a request of HTTP/1, a call one of HTTP/2.
    let server = Server::builder()
        .accept_http1(true)
        .add_routes(Routes::from(calls.merge(scraped)))
        .serve_with_incoming_shutdown(incoming, async move {
            // Either a message or the sender's end: both mean stop.
            let _ = stopped.changed().await;
        });
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return ended.map_err(io::Error::other),
        () = shutdown => {}
        () = forever(served_at) => {}
    }
    drop(stopping);
    match tokio::time::timeout(GRACE, server).await {
        Ok(ended) => ended.map_err(io::Error::other),
        Err(_) => Ok(()),
    }
}

async fn forever(serving: Option<impl Future<Output = ()>>) {
    match serving {
        Some(serving) => serving.await,
        None => std::future::pending().await,
    }
}
