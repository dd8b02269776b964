//! The client: what the command line, and any Rust program beside a daemon, uses.
//!
//! Errors come back as the text and errno the daemon gave them, so that a command can print the line
//! its user expects. A daemon that is not there is an error of the same form, and so is one that does
//! not move, and a socket behind which somebody else listens: pings tell.

use crate::proto::control_client::ControlClient;
use crate::proto::{self, stat_request};
use crate::socket::{CONNECT_BYTES_MAX, refuse_long};
use crate::status::ERRNO_KEY;
use nix::errno::Errno;
use std::error::Error as _;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// How often the daemon is asked whether it lives, and how long it may take to say so. Its control
/// thread does nothing long, so the patience is for a machine that is overloaded.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_PATIENCE: Duration = Duration::from_secs(20);

/// Why a call failed: text for the user, errno for the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    pub text: String,
    pub errno: i32,
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ClientError {}

pub struct Client {
    service: ControlClient<Channel>,
}

/// The pages of a walk, one after another.
pub struct Walk {
    pages: Streaming<proto::WalkInodesReply>,
}

impl Client {
    /// Connects to the daemon's socket.
    pub async fn connect(socket: &Path) -> Result<Client, ClientError> {
        let path = socket.to_str().ok_or_else(|| ClientError {
            text: "the socket's path is not UTF-8".into(),
            errno: Errno::EINVAL as i32,
        })?;
        refuse_long(socket, CONNECT_BYTES_MAX).map_err(|error| ClientError {
            text: format!(
                "the path of a socket has at most {CONNECT_BYTES_MAX} bytes, this one {}",
                path.len()
            ),
            errno: error.raw_os_error().unwrap_or_default(),
        })?;
        let channel = Endpoint::from_shared(format!("unix://{path}"))
            .map_err(|error| ClientError { text: error.to_string(), errno: Errno::EINVAL as i32 })?
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_PATIENCE)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|error| not_connected(&error, socket))?;
        Ok(Client { service: ControlClient::new(channel) })
    }

    pub async fn status(&mut self) -> Result<proto::StatusReply, ClientError> {
        let reply = self.service.status(proto::StatusRequest {}).await;
        reply.map(tonic::Response::into_inner).map_err(refused)
    }

    pub async fn exports(&mut self) -> Result<proto::ExportsReply, ClientError> {
        let reply = self.service.exports(proto::ExportsRequest {}).await;
        reply.map(tonic::Response::into_inner).map_err(refused)
    }

    pub async fn df(&mut self) -> Result<proto::DfReply, ClientError> {
        let reply = self.service.df(proto::DfRequest {}).await;
        reply.map(tonic::Response::into_inner).map_err(refused)
    }

    pub async fn statfs(&mut self) -> Result<proto::StatfsReply, ClientError> {
        let reply = self.service.statfs(proto::StatfsRequest {}).await;
        reply.map(tonic::Response::into_inner).map_err(refused)
    }

    pub async fn stat(
        &mut self,
        target: stat_request::Target,
    ) -> Result<proto::StatReply, ClientError> {
        let reply = self.service.stat(proto::StatRequest { target: Some(target) }).await;
        reply.map(tonic::Response::into_inner).map_err(refused)
    }

    pub async fn walk_inodes(
        &mut self,
        request: proto::WalkInodesRequest,
    ) -> Result<Walk, ClientError> {
        let pages = self.service.walk_inodes(request).await.map_err(refused)?.into_inner();
        Ok(Walk { pages })
    }

    pub async fn check(&mut self, request: proto::CheckRequest) -> Result<Check, ClientError> {
        let replies = self.service.check(request).await.map_err(refused)?.into_inner();
        Ok(Check { replies })
    }
}

impl Client {
    /// What changed behind a position.
    pub async fn changes(
        &mut self,
        request: proto::ChangesRequest,
    ) -> Result<Stream<proto::ChangesReply>, ClientError> {
        let replies = self.service.changes(request).await.map_err(refused)?.into_inner();
        Ok(Stream { replies })
    }

    pub async fn consumer_add(
        &mut self,
        request: proto::ConsumerAddRequest,
    ) -> Result<(), ClientError> {
        self.service.consumer_add(request).await.map(drop).map_err(refused)
    }

    pub async fn consumer_ack(
        &mut self,
        request: proto::ConsumerAckRequest,
    ) -> Result<(), ClientError> {
        self.service.consumer_ack(request).await.map(drop).map_err(refused)
    }

    pub async fn consumer_remove(&mut self, name: &str) -> Result<(), ClientError> {
        let request = proto::ConsumerRemoveRequest { name: name.into() };
        self.service.consumer_remove(request).await.map(drop).map_err(refused)
    }

    /// By name.
    pub async fn consumers(&mut self) -> Result<Vec<proto::ConsumerEntry>, ClientError> {
        let reply = self.service.consumer_list(proto::ConsumerListRequest {}).await;
        reply.map(|reply| reply.into_inner().consumers).map_err(refused)
    }

    pub async fn ino_path(
        &mut self,
        ino: u64,
        all: bool,
    ) -> Result<Stream<proto::InoPathReply>, ClientError> {
        let request = proto::InoPathRequest { ino, all };
        let replies = self.service.ino_path(request).await.map_err(refused)?.into_inner();
        Ok(Stream { replies })
    }

    pub async fn referring_entries(
        &mut self,
        ino: u64,
    ) -> Result<Stream<proto::GetReferringEntriesReply>, ClientError> {
        let request = proto::GetReferringEntriesRequest { ino };
        let replies = self.service.get_referring_entries(request).await;
        Ok(Stream { replies: replies.map_err(refused)?.into_inner() })
    }

    /// The value of an extended attribute.
    pub async fn get_xattr(
        &mut self,
        request: proto::GetXattrRequest,
    ) -> Result<Vec<u8>, ClientError> {
        let reply = self.service.get_xattr(request).await;
        reply.map(|reply| reply.into_inner().value).map_err(refused)
    }

    pub async fn set_xattr(&mut self, request: proto::SetXattrRequest) -> Result<(), ClientError> {
        self.service.set_xattr(request).await.map(drop).map_err(refused)
    }

    pub async fn remove_xattr(
        &mut self,
        request: proto::RemoveXattrRequest,
    ) -> Result<(), ClientError> {
        self.service.remove_xattr(request).await.map(drop).map_err(refused)
    }

    /// The names of an inode's extended attributes.
    pub async fn list_xattrs(
        &mut self,
        request: proto::ListXattrsRequest,
    ) -> Result<Stream<proto::ListXattrsReply>, ClientError> {
        let replies = self.service.list_xattrs(request).await.map_err(refused)?.into_inner();
        Ok(Stream { replies })
    }

    pub async fn resize_devices(
        &mut self,
        request: proto::ResizeDevicesRequest,
    ) -> Result<proto::ResizeDevicesReply, ClientError> {
        let reply = self.service.resize_devices(request).await;
        reply.map(tonic::Response::into_inner).map_err(refused)
    }

    /// What a scrub tells, one thing after another; the summary is the last.
    pub async fn scrub(
        &mut self,
        request: proto::ScrubRequest,
    ) -> Result<Stream<proto::ScrubReply>, ClientError> {
        let replies = self.service.scrub(request).await.map_err(refused)?.into_inner();
        Ok(Stream { replies })
    }

    /// How far a release is, one reply after another; the last one counts.
    pub async fn release(
        &mut self,
        request: proto::ReleaseRequest,
    ) -> Result<Stream<proto::ReleaseReply>, ClientError> {
        let replies = self.service.release(request).await.map_err(refused)?.into_inner();
        Ok(Stream { replies })
    }

    pub async fn set_attr_x(&mut self, request: proto::SetAttrXRequest) -> Result<(), ClientError> {
        self.service.set_attr_x(request).await.map(drop).map_err(refused)
    }

    /// A file's extents, in order.
    pub async fn get_fiemap(
        &mut self,
        request: proto::GetFiemapRequest,
    ) -> Result<Stream<proto::GetFiemapReply>, ClientError> {
        let replies = self.service.get_fiemap(request).await.map_err(refused)?.into_inner();
        Ok(Stream { replies })
    }

    pub async fn punch_offline(
        &mut self,
        request: proto::PunchOfflineRequest,
    ) -> Result<proto::PunchOfflineReply, ClientError> {
        let reply = self.service.punch_offline(request).await;
        reply.map(tonic::Response::into_inner).map_err(refused)
    }

    /// The first piece says where they go.
    pub async fn stage(
        &mut self,
        pieces: mpsc::Receiver<proto::StageRequest>,
    ) -> Result<proto::StageReply, ClientError> {
        let reply = self.service.stage(ReceiverStream::new(pieces)).await;
        reply.map(tonic::Response::into_inner).map_err(refused)
    }

    /// Clients that wait for offline data, page after page.
    pub async fn data_waiting(
        &mut self,
        request: proto::DataWaitingRequest,
    ) -> Result<Stream<proto::DataWaitingReply>, ClientError> {
        let replies = self.service.data_waiting(request).await.map_err(refused)?.into_inner();
        Ok(Stream { replies })
    }

    pub async fn data_wait_err(
        &mut self,
        request: proto::DataWaitErrRequest,
    ) -> Result<proto::DataWaitErrReply, ClientError> {
        let reply = self.service.data_wait_err(request).await;
        reply.map(tonic::Response::into_inner).map_err(refused)
    }

    pub async fn trigger(&mut self, request: proto::TriggerRequest) -> Result<(), ClientError> {
        self.service.trigger(request).await.map(drop).map_err(refused)
    }

    pub async fn triggers(&mut self) -> Result<Vec<proto::TriggerEntry>, ClientError> {
        let reply = self.service.triggers(proto::TriggersRequest {}).await.map_err(refused)?;
        Ok(reply.into_inner().triggers)
    }

    pub async fn counters(&mut self, prefix: &str) -> Result<Vec<proto::Counter>, ClientError> {
        let request = proto::CountersRequest { prefix: prefix.into() };
        let reply = self.service.counters(request).await.map_err(refused)?;
        Ok(reply.into_inner().counters)
    }
}

/// Messages of one kind, one after another.
pub struct Stream<T> {
    replies: Streaming<T>,
}

impl<T> Stream<T> {
    /// `None` at the end.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        self.replies.message().await.map_err(refused)
    }
}

/// What a check tells, one thing after another; the summary is the last.
pub struct Check {
    replies: Streaming<proto::CheckReply>,
}

impl Check {
    /// `None` at the end.
    pub async fn news(&mut self) -> Result<Option<proto::check_reply::News>, ClientError> {
        let reply = self.replies.message().await.map_err(refused)?;
        Ok(reply.and_then(|reply| reply.news))
    }
}

impl Walk {
    /// The next positions in order; `None` at the end.
    pub async fn page(&mut self) -> Result<Option<Vec<proto::IndexPosition>>, ClientError> {
        let page = self.pages.message().await.map_err(refused)?;
        Ok(page.map(|page| page.entries))
    }
}

/// What the daemon answered; or, without its errno, what became of the connection.
fn refused(status: Status) -> ClientError {
    let errno = status.metadata().get(ERRNO_KEY);
    match errno.and_then(|errno| errno.to_str().ok()?.parse().ok()) {
        Some(errno) => ClientError { text: status.message().into(), errno },
        None if is_timeout(&status) => ClientError {
            text: "who listens there does not answer: is it a daemon, and not stopped?".into(),
            errno: Errno::ETIMEDOUT as i32,
        },
        None => ClientError {
            text: format!("the daemon broke off: {}", status.message()),
            errno: Errno::ECONNRESET as i32,
        },
    }
}

/// A ping was not answered.
fn is_timeout(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.to_string().contains("timed out") {
            return true;
        }
        source = error.source();
    }
    false
}

fn plain(errno: i32) -> ClientError {
    ClientError { text: Errno::from_raw(errno).desc().to_lowercase(), errno }
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn not_connected(error: &tonic::transport::Error, socket: &Path) -> ClientError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(errno) = inner.downcast_ref::<std::io::Error>().and_then(|e| e.raw_os_error()) {
            return match Errno::from_raw(errno) {
                // What is no socket refuses a connection like one that nobody serves.
                Errno::ECONNREFUSED if !is_socket(socket) => {
                    ClientError { text: "is no socket".into(), errno: Errno::ENOTSOCK as i32 }
                }
                Errno::ENOENT | Errno::ECONNREFUSED => {
                    ClientError { text: "no daemon listens there".into(), errno }
                }
                Errno::EPIPE | Errno::ECONNRESET => {
                    ClientError { text: "who listens there is no daemon".into(), errno }
                }
                _ => plain(errno),
            };
        }
        source = inner.source();
    }
    ClientError { text: error.to_string(), errno: Errno::ENOTCONN as i32 }
}
