//! The operations of the file system, one file a verb.
//!
//! Each is a plain struct that says who asks for what. `Shard::call` runs it on the shard that owns
//! its home inode: here, or by mail. The list below is closed, so a frontend, the mail and the
//! simulator all know the same operations.

mod access;
mod archive;
mod commit;
mod create;
mod extents;
mod getattr;
mod link;
mod lookup;
mod parts;
mod read;
mod readdir;
mod readlink;
mod recall;
mod referring;
mod remove;
mod rename;
mod restore;
mod setattr;
mod unlink;
mod write;
mod xattr;

pub use crate::data::Restored;
pub use access::{Access, Accessed};
pub use archive::{PunchOffline, Release, Stage};
pub use commit::{Commit, Committed};
pub use create::{Create, CreateHow, Created, Mkdir, Mknod, Symlink};
pub use extents::{ExtentPage, Extents, FileExtent};
pub use getattr::{Attrs, Getattr};
pub use link::{Link, Linked};
pub use lookup::{Found, Lookup, Parent};
pub use read::{Data, Read};
pub use readdir::{Dirent, EntryName, Listing, Readdir};
pub use readlink::{LinkText, Readlink};
pub use recall::{FailWaiters, Recall, Wanted};
pub use referring::{NameAt, Named, Referring};
pub use rename::{PeekEntry, Rename, Renamed};
pub use restore::Restore;
pub use setattr::Setattr;
pub use unlink::{Rmdir, Unlink};
pub use write::{Stability, Write, Written};
pub use xattr::{GetXattr, ListXattr, RemoveXattr, SetXattr, XattrList, XattrNames, XattrSet};

use crate::attr::{Attr, Change};
use crate::error::FsError;
use crate::item::Entry;
use crate::once::CallKey;
use crate::peer::{Answer, Ask, mismatch};
use crate::shard::Shard;
use crate::trigger::{Trigger, fires};
use crate::trouble::{During, Trouble};
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::Site;
use std::rc::Rc;

/// One operation.
pub trait Op: Into<Request> {
    type Output;

    fn unwrap_reply(reply: Reply) -> Self::Output;
}

macro_rules! operations {
    ($($name:ident => $output:ty),* $(,)?) => {
        /// Any operation, as it travels between shards.
        #[derive(Debug)]
        pub enum Request {
            $($name($name),)*
        }

        impl Request {
            /// The inode whose owner runs it.
            pub fn home(&self) -> InodeNo {
                match self {
                    $(Request::$name(op) => op.home(),)*
                }
            }

            pub fn name(&self) -> &'static str {
                match self {
                    $(Request::$name(_) => stringify!($name),)*
                }
            }

            /// Runs it on this shard, which owns its home.
            pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Reply, FsError> {
                match self {
                    // Boxed: a future that holds any of them would be moved about with the largest.
                    $(Request::$name(op) => Box::pin(op.run(shard)).await.map(Reply::$name),)*
                }
            }
        }

        /// What any operation answers.
        #[derive(Debug)]
        pub enum Reply {
            $($name($output),)*
        }

        $(
            impl From<$name> for Request {
                fn from(op: $name) -> Request {
                    Request::$name(op)
                }
            }

            impl Op for $name {
                type Output = $output;

                fn unwrap_reply(reply: Reply) -> $output {
                    match reply {
                        Reply::$name(output) => output,
                        other => unreachable!("asked {}, answered {other:?}", stringify!($name)),
                    }
                }
            }
        )*
    };
}

operations! {
    Lookup => Found,
    Parent => Found,
    Getattr => Attr,
    Attrs => Vec<Option<Attr>>,
    Setattr => Change,
    Access => Accessed,
    Readlink => LinkText,
    Read => Data,
    Write => Written,
    Commit => Committed,
    Create => Created,
    Mkdir => Created,
    Symlink => Created,
    Mknod => Created,
    Link => Linked,
    Unlink => Change,
    Rmdir => Change,
    Rename => Renamed,
    PeekEntry => Option<Entry>,
    Readdir => Listing,
    Referring => Vec<Site>,
    NameAt => Option<Named>,
    GetXattr => Vec<u8>,
    SetXattr => Attr,
    ListXattr => XattrNames,
    RemoveXattr => Attr,
    Release => u64,
    Stage => u64,
    Recall => Option<u16>,
    FailWaiters => u64,
    Restore => (),
    Extents => ExtentPage,
    PunchOffline => u64,
}

impl<D: Doors> Shard<D> {
    /// Runs an operation on the shard that owns its home: this one, or another by mail.
    pub async fn call<O: Op>(self: &Rc<Self>, op: O) -> Result<O::Output, FsError> {
        self.call_once(op, None).await
    }

    /// The same, carried out once for all calls of that key (`once.rs`). To be awaited in a task
    /// that comes to its end whatever the client does.
    pub async fn call_once<O: Op>(
        self: &Rc<Self>,
        op: O,
        once: Option<CallKey>,
    ) -> Result<O::Output, FsError> {
        let request: Request = op.into();
        let owner = self.home(request.home())?;
        if owner == self.core.id {
            return self.run_once(request, once).await.map(O::unwrap_reply);
        }
        let ask = Ask::Op { request: Box::new(request), once };
        match self.peers.ask(owner, ask).await? {
            Answer::Op(reply) => reply.map(|reply| O::unwrap_reply(*reply)),
            other => mismatch(&other),
        }
    }

    /// The same from inside an operation; boxed, or operations would contain each other.
    pub(crate) async fn call_nested<O: Op>(self: &Rc<Self>, op: O) -> Result<O::Output, FsError> {
        Box::pin(self.call(op)).await
    }

    pub(crate) async fn run_here(self: &Rc<Self>, request: Request) -> Result<Reply, FsError> {
        self.core.counters.operations.add(1);
        let (during, ino) = (During::Operation(request.name()), request.home());
        let reply = match fires(Trigger::AnswerBusy, Some(ino)) {
            true => Err(FsError::Busy),
            false => request.run(self).await,
        };
        match reply {
            Err(FsError::Busy) => self.core.counters.busy.add(1),
            Err(error) if error.is_trouble() => {
                self.note(Trouble { during, ino: Some(ino), error })
            }
            Err(_) | Ok(_) => {}
        }
        reply
    }
}
