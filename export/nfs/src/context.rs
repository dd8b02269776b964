//! One call on its way into the engine: who asks, from where, and what the handles in it mean.
//!
//! Every handle passes `target`, so every procedure is held to the same rules in the same order: is
//! the handle ours, does its export exist, does the export admit this client, may it change anything
//! there. What comes out is an inode, and a credential as the export sees the caller.
//!
//! A failed call still tells the client what the object looks like now, where asking is cheap and
//! the answer useful: a client that was refused a name renews what it knows about the directory. When
//! the object itself is the trouble (gone, busy, broken), nobody asks it again.

use crate::attr;
use crate::call_identity::one_form;
use crate::export::{Export, ExportId, Exports, Mode};
use crate::handle::{FileHandle, HANDLE_BYTES};
use crate::server::NfsServer;
use crate::status::{handle_stat, nfs_stat, recall_stat};
use crate::wire::{self, Failure, Handle, NfsStat, PostOpAttributes};
use cairn_base::door::Doors;
use cairn_engine::attr::{Attr, Change};
use cairn_engine::op::Wanted;
use cairn_engine::{CallKey, Cred, FsError, Shard, op};
use cairn_format::InodeNo;
use cairn_net::server::Call;
use std::rc::Rc;

pub struct Context<'a, D: Doors> {
    pub server: &'a NfsServer<D>,
    pub call: &'a Call,
    /// As they were when the call came.
    pub exports: Rc<Exports>,
    /// Set for a procedure that must not be carried out twice.
    pub once: Option<CallKey>,
}

/// What a handle names, and as whom the call may touch it.
pub struct Target<'a> {
    pub export: &'a Export,
    pub ino: InodeNo,
    pub cred: Cred,
}

/// A handle in the form that goes out.
pub type SealedHandle = [u8; HANDLE_BYTES];

impl<'a, D: Doors> Context<'a, D> {
    pub fn shard(&self) -> &'a Rc<Shard<D>> {
        self.server.shard()
    }

    /// Has the engine carry out a change, once however often it is asked.
    pub async fn carry_out<O: op::Op>(&self, op: O) -> Result<O::Output, FsError> {
        self.shard().call_once(op, self.once).await
    }

    pub fn target(&self, handle: Handle<'_>) -> Result<Target<'_>, NfsStat> {
        let FileHandle { export, ino } =
            self.server.seal().decode(handle.0).map_err(handle_stat)?;
        // An export that was taken away takes its handles with it.
        let export = self.exports.get(export).ok_or(NfsStat::Stale)?;
        if !export.admits(self.call.peer) {
            return Err(NfsStat::Acces);
        }
        Ok(Target { export, ino, cred: export.cred(&self.call.header.credential) })
    }

    /// For procedures that change something.
    pub fn target_to_change(&self, handle: Handle<'_>) -> Result<Target<'_>, NfsStat> {
        let target = self.target(handle)?;
        match target.export.mode {
            Mode::ReadWrite => Ok(target),
            Mode::ReadOnly => Err(NfsStat::RoFs),
        }
    }

    pub fn sealed(&self, export: ExportId, ino: InodeNo) -> SealedHandle {
        self.server.seal().encode(FileHandle { export, ino })
    }

    pub fn attributes(&self, attr: &Attr) -> wire::Attributes {
        attr::attributes(attr, self.server.seal().fsid())
    }

    pub fn change(&self, change: &Change) -> wire::Change {
        attr::change(change, self.server.seal().fsid())
    }

    /// Asks the inode's owner; no attributes when it does not answer.
    pub async fn attributes_of(&self, ino: InodeNo) -> PostOpAttributes {
        let attr = self.shard().call(op::Getattr { ino }).await.ok()?;
        Some(self.attributes(&attr))
    }

    /// What a client is told of an operation that may have met offline data: to come again, when a recall is
    /// queued; what an archive agent has for it; or that this export recalls nothing.
    pub async fn stat(
        &self,
        error: FsError,
        export: &Export,
        ino: InodeNo,
        wanted: Wanted,
    ) -> NfsStat {
        match error {
            FsError::Offline if !export.recalls => NfsStat::Acces,
            FsError::Offline => {
                let client = one_form(self.call.peer.ip());
                let shards = u32::from(self.shard().shards());
                let recalls_max = self.exports.recalls_per_client_max.div_ceil(shards);
                let recall = op::Recall { ino, wanted, client, recalls_max };
                match self.shard().call(recall).await {
                    Ok(None) => NfsStat::Jukebox,
                    Ok(Some(errno)) => recall_stat(errno),
                    Err(error) => nfs_stat(error),
                }
            }
            _ => nfs_stat(error),
        }
    }

    /// What an object looks like after an operation on it has failed.
    pub async fn attributes_after(&self, stat: NfsStat, ino: InodeNo) -> PostOpAttributes {
        match stat {
            NfsStat::Stale | NfsStat::Jukebox | NfsStat::Io => None,
            _ => self.attributes_of(ino).await,
        }
    }

    pub async fn failed(&self, error: FsError, ino: InodeNo) -> Failure<PostOpAttributes> {
        self.failed_with(nfs_stat(error), ino).await
    }

    pub async fn failed_with(&self, stat: NfsStat, ino: InodeNo) -> Failure<PostOpAttributes> {
        Failure { stat, body: self.attributes_after(stat, ino).await }
    }

    pub async fn failed_change(&self, error: FsError, ino: InodeNo) -> Failure<wire::Change> {
        self.failed_change_with(nfs_stat(error), ino).await
    }

    /// Without `before`: nothing happened, but we do not know since when.
    pub async fn failed_change_with(&self, stat: NfsStat, ino: InodeNo) -> Failure<wire::Change> {
        let after = self.attributes_after(stat, ino).await;
        Failure { stat, body: wire::Change { before: None, after } }
    }
}
