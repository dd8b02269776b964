//! What a shard does with a control request: asks the engine, which routes by itself.
//!
//! Paths are walked as root and without following symbolic links: their targets mean something on
//! the client that made them, not here.

use crate::request::{
    ChangeIndex, ControlReply, ControlRequest, Local, Pool, Position, SnapshotStep, Target,
};
use cairn_base::door::Doors;
use cairn_engine::attr::Attr;
use cairn_engine::name::Name;
use cairn_engine::{Cred, FsError, SeqIndex, Shard, op, trigger};
use cairn_format::InodeNo;
use std::rc::Rc;

/// `local` is asked only for what it alone knows.
pub async fn answer<D: Doors>(
    shard: Rc<Shard<D>>,
    request: ControlRequest,
    local: impl FnOnce() -> Local,
) -> Result<ControlReply, FsError> {
    match request {
        ControlRequest::Local => Ok(ControlReply::Local(Box::new(local()))),
        ControlRequest::Shards => Ok(ControlReply::Shards(shard.status().await?)),
        ControlRequest::Pool => Ok(ControlReply::Pool(Box::new(pool(&shard).await?))),
        ControlRequest::Stat(target) => {
            let attr = match target {
                Target::Ino(ino) => shard.call(op::Getattr { ino }).await?,
                Target::Path(names) => resolve(&shard, names).await?,
            };
            Ok(ControlReply::Stat(Box::new(attr)))
        }
        ControlRequest::Walk(page) => {
            let index = match page.index {
                ChangeIndex::MetaSeq => SeqIndex::Meta,
                ChangeIndex::DataSeq => SeqIndex::Data,
            };
            let bound = |position: Position| (position.seq, position.ino);
            let (first, last) = (bound(page.first), bound(page.last));
            let found = shard.walk_seq(index, first, last, page.count_max).await?;
            let position = |(seq, ino): (_, InodeNo)| Position { seq, ino: ino.raw() };
            Ok(ControlReply::Walk(found.into_iter().map(position).collect()))
        }
        ControlRequest::Changes { from, floor, to, count_max } => {
            let (from, to) = ((from.seq, from.ino), (to.seq, to.ino));
            Ok(ControlReply::Changes(shard.changes_known(from, floor, to, count_max).await?))
        }
        ControlRequest::Stable => Ok(ControlReply::Stable(shard.stable().await?)),
        ControlRequest::Consumer(tend) => {
            shard.tend_consumer(tend).await?;
            Ok(ControlReply::Done)
        }
        ControlRequest::Consumers => Ok(ControlReply::Consumers(shard.consumers().await?)),
        ControlRequest::Referring { ino, after, count_max } => {
            let referring = op::Referring { ino, after, count_max };
            Ok(ControlReply::Sites(shard.call(referring).await?))
        }
        ControlRequest::NameAt { site, child } => {
            Ok(ControlReply::Name(shard.call(op::NameAt { site, child }).await?))
        }
        ControlRequest::GetXattr { ino, name } => {
            let get = op::GetXattr { cred: Cred::root(), ino, name };
            Ok(ControlReply::Xattr(shard.call(get).await?))
        }
        ControlRequest::SetXattr { ino, name, value, how } => {
            let set = op::SetXattr { cred: Cred::root(), ino, name, value, how };
            shard.call(set).await.map(|_| ControlReply::XattrChanged)
        }
        ControlRequest::RemoveXattr { ino, name } => {
            let remove = op::RemoveXattr { cred: Cred::root(), ino, name };
            shard.call(remove).await.map(|_| ControlReply::XattrChanged)
        }
        ControlRequest::ListXattrs { ino, list, after, count_max } => {
            let list = op::ListXattr { cred: Cred::root(), ino, list, after, count_max };
            Ok(ControlReply::Xattrs(shard.call(list).await?))
        }
        ControlRequest::Resize(wanted) => {
            Ok(ControlReply::Resized(shard.resize_devices(&wanted).await?))
        }
        ControlRequest::Scrub(command) => {
            Ok(ControlReply::Scrub(Box::new(shard.scrub(command).await?)))
        }
        ControlRequest::ScrubReport => {
            Ok(ControlReply::Scrub(Box::new(shard.scrub_report().await?)))
        }
        ControlRequest::Damage { after, count_max } => {
            Ok(ControlReply::Damage(shard.damage(after, count_max).await?))
        }
        ControlRequest::Release { ino, offset, len, data_version } => {
            let release = op::Release { ino, offset, len, data_version };
            Ok(ControlReply::Blocks(shard.call(release).await?))
        }
        ControlRequest::Stage { ino, offset, data: bytes, data_version } => {
            let len = bytes.len();
            let mut data = shard.arena().alloc(len);
            data[..len].copy_from_slice(&bytes);
            let stage = op::Stage { ino, offset, data, len, data_version };
            Ok(ControlReply::Blocks(shard.call(stage).await?))
        }
        ControlRequest::Waiting(from) => Ok(ControlReply::Waiting(shard.waiting(from).await?)),
        ControlRequest::FailWaiters { ino, offset, len, ops, errno } => {
            let fail = op::FailWaiters { ino, offset, len, ops, errno };
            Ok(ControlReply::Waiters(shard.call(fail).await?))
        }
        ControlRequest::Arm(armed) => {
            trigger::arm(armed);
            Ok(ControlReply::Done)
        }
        ControlRequest::PunchOffline { ino, offset, len, data_version } => {
            let punch = op::PunchOffline { ino, offset, len, data_version };
            Ok(ControlReply::Blocks(shard.call(punch).await?))
        }
        ControlRequest::Extents { ino, blocks, count_max } => {
            let extents = op::Extents { ino, blocks, count_max };
            Ok(ControlReply::Extents(shard.call(extents).await?))
        }
        ControlRequest::SetAttrX { ino, set } => {
            shard.call(op::Restore { ino, set }).await.map(|()| ControlReply::Done)
        }
        ControlRequest::Snapshot(id, step) => Ok(match step {
            SnapshotStep::Begin => ControlReply::Cut(Box::new(shard.begin_snapshot(id).await?)),
            SnapshotStep::Resume => ControlReply::Held(shard.resume_log(id)),
            SnapshotStep::Keep => ControlReply::Held(shard.keep_snapshot(id)),
            SnapshotStep::End => ControlReply::Held(shard.end_snapshot(id)),
        }),
    }
}

async fn resolve<D: Doors>(shard: &Rc<Shard<D>>, names: Vec<Name>) -> Result<Attr, FsError> {
    let mut ino = InodeNo::ROOT;
    for name in names {
        let found = shard.call(op::Lookup { cred: Cred::root(), dir: ino, name }).await?;
        ino = found.child;
    }
    shard.call(op::Getattr { ino }).await
}

async fn pool<D: Doors>(shard: &Rc<Shard<D>>) -> Result<Pool, FsError> {
    Ok(Pool {
        fsid: shard.fsid(),
        epoch: shard.epoch().0,
        tablets: u64::from(shard.tablets()),
        stable: shard.stable().await?,
        inodes: shard.statfs().await?.inodes,
        devices: shard.device_spaces().await?,
    })
}
