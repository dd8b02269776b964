//! The gRPC service: turns what came over the wire into requests, sends them to shards, and their
//! answers back.
//!
//! Any shard can answer for any inode, since the engine routes by itself, so everything goes to
//! shard 0; only what its loop and its frontend know each shard is asked itself. Lists are pulled a page at a time, the
//! next one only when the client has taken the last: a slow reader costs one page of memory, and a
//! shard never works ahead of it.

use crate::bridge::{CallError, Caller};
use crate::check::{Check, StartCheck};
use crate::proto::control_server::Control;
use crate::proto::{self, stat_request};
use crate::request::{
    ChangeIndex, ControlReply, ControlRequest, Local, Pool, Position, Target, WalkPage,
};
use crate::server::ShowExports;
use crate::status::{self, unexpected};
use crate::triggers::Triggers;
use crate::{
    archive, changes, consumers, counters, devices, fiemap, memory, paths, scrub, triggers,
    waiters, xattrs,
};
use cairn_base::BLOCK_BYTES;
use cairn_engine::FsError;
use cairn_engine::attr::{Attr, FileKind};
use cairn_engine::name::Name;
use cairn_engine::status::ShardStatus;
use cairn_engine::{DeviceSpace, SnapshotId};
use cairn_format::{InodeNo, Seq};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Positions in one message of a walk: 16 KiB or so.
const WALK_ENTRIES_MAX: usize = 4096;

pub(crate) struct Service {
    shards: Vec<Caller>,
    ready_at: tokio::time::Instant,
    check: StartCheck,
    check_turn: Arc<Semaphore>,
    snapshots: AtomicU64,
    exports: ShowExports,
    triggers: Triggers,
    /// Its sender goes when the daemon stops: who follows something comes to an end.
    stopping: watch::Receiver<()>,
}

impl Service {
    /// `shards` by number, at least one.
    pub fn new(
        shards: Vec<Caller>,
        check: StartCheck,
        exports: ShowExports,
        triggers: Triggers,
        stopping: watch::Receiver<()>,
    ) -> Service {
        assert!(!shards.is_empty(), "a pool is served by at least one shard");
        Service {
            shards,
            ready_at: tokio::time::Instant::now(),
            check,
            check_turn: Arc::new(Semaphore::new(1)),
            snapshots: AtomicU64::new(1),
            exports,
            triggers,
            stopping,
        }
    }

    async fn call(&self, request: ControlRequest) -> Result<ControlReply, Status> {
        self.shards[0].call(request).await.map_err(status::of_call)
    }

    async fn statuses(&self) -> Result<Vec<ShardStatus>, Status> {
        statuses(&self.shards[0]).await
    }

    /// The attributes of what a request names.
    async fn attr(&self, target: Option<stat_request::Target>) -> Result<Box<Attr>, Status> {
        let wants_directory = ends_as_directory(&target);
        match self.call(ControlRequest::Stat(parse_target(target)?)).await? {
            ControlReply::Stat(attr) if wants_directory && attr.kind != FileKind::Directory => {
                Err(status::of_call(CallError::Fs(FsError::NotDirectory)))
            }
            ControlReply::Stat(attr) => Ok(attr),
            _ => Err(unexpected()),
        }
    }

    async fn inode(&self, target: Option<proto::InodeTarget>) -> Result<InodeNo, Status> {
        Ok(self.attr(xattrs::target(target)).await?.ino)
    }

    async fn pool(&self) -> Result<Box<Pool>, Status> {
        match self.call(ControlRequest::Pool).await? {
            ControlReply::Pool(pool) => Ok(pool),
            _ => Err(unexpected()),
        }
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn status(
        &self,
        _: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusReply>, Status> {
        let pool = self.pool().await?;
        let statuses = self.statuses().await?;
        let mut shards = Vec::with_capacity(self.shards.len());
        let mut known = Vec::with_capacity(self.shards.len());
        for (shard, status) in self.shards.iter().zip(statuses) {
            let local = local(shard).await?;
            shards.push(shard_status(&status, local.useful_work_permille));
            known.push((status, local));
        }
        let scrub = scrub::progress(&self.shards[0]).await?;
        let sum = |field: fn(&proto::ShardStatus) -> u64| shards.iter().map(field).sum();
        let health = if shards.iter().any(|shard| shard.stopped) {
            "stopped"
        } else if scrub.findings + scrub.findings_ended > 0
            || known.iter().any(|(status, _)| status.counters.device_errors > 0)
        {
            "damaged"
        } else if known.iter().any(|(status, _)| status.deletions.held_by.is_some()) {
            "lagging"
        } else {
            "ok"
        };
        Ok(Response::new(proto::StatusReply {
            version: env!("CARGO_PKG_VERSION").into(),
            fsid: hex(&pool.fsid),
            epoch: pool.epoch,
            uptime_ns: u64::try_from(self.ready_at.elapsed().as_nanos()).unwrap_or(u64::MAX),
            health: health.into(),
            tablets: pool.tablets,
            tablets_in_use: sum(|shard| shard.tablets_in_use),
            log_trees: sum(|shard| shard.log_trees),
            log_trees_written: sum(|shard| shard.log_trees_written),
            merges_finished: sum(|shard| shard.merges_finished),
            folds_finished: sum(|shard| shard.folds_finished),
            folds_resumed: sum(|shard| shard.folds_resumed),
            across_commits: sum(|shard| shard.across_commits),
            open_blocks_read_outside_logs: sum(|shard| shard.open_blocks_read_outside_logs),
            open_blocks_read_in_logs: sum(|shard| shard.open_blocks_read_in_logs),
            shards,
            nfs: (self.exports)().await.nfs,
            devices: pool.devices.iter().map(devices::status).collect(),
            memory: Some(memory::report(&known)),
            scrub: Some(scrub),
            deletions: Some(consumers::deletions(&known)),
        }))
    }

    async fn exports(
        &self,
        _: Request<proto::ExportsRequest>,
    ) -> Result<Response<proto::ExportsReply>, Status> {
        Ok(Response::new((self.exports)().await))
    }

    async fn df(&self, _: Request<proto::DfRequest>) -> Result<Response<proto::DfReply>, Status> {
        let entries = self.pool().await?.devices.iter().map(devices::df_entry).collect();
        Ok(Response::new(proto::DfReply { entries }))
    }

    async fn statfs(
        &self,
        _: Request<proto::StatfsRequest>,
    ) -> Result<Response<proto::StatfsReply>, Status> {
        let pool = self.pool().await?;
        let for_files = pool.devices.iter().filter(|device| device.holds_data);
        let sum = |field: fn(&DeviceSpace) -> u64| for_files.clone().map(field).sum();
        Ok(Response::new(proto::StatfsReply {
            fsid: hex(&pool.fsid),
            stable_seq: pool.stable.0,
            block_bytes: BLOCK_BYTES as u64,
            blocks_total: sum(|device| device.blocks),
            blocks_free: sum(|device| device.blocks_free),
            inodes: pool.inodes,
        }))
    }

    async fn stat(
        &self,
        request: Request<proto::StatRequest>,
    ) -> Result<Response<proto::StatReply>, Status> {
        let attr = self.attr(request.into_inner().target).await?;
        Ok(Response::new(stat_reply(&attr)))
    }

    type WalkInodesStream = ReceiverStream<Result<proto::WalkInodesReply, Status>>;

    async fn walk_inodes(
        &self,
        request: Request<proto::WalkInodesRequest>,
    ) -> Result<Response<Self::WalkInodesStream>, Status> {
        let mut page = parse_walk(request.into_inner())?;
        // What changes during the walk moves behind its end: each inode is listed at most once,
        // and what moved is the next walk's, from the last position of this one.
        page.last = page.last.min(Position { seq: self.pool().await?.stable, ino: u64::MAX });
        let (pages, stream) = mpsc::channel(1);
        tokio::spawn(walk(self.shards[0].clone(), page, pages));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type CheckStream = ReceiverStream<Result<proto::CheckReply, Status>>;

    async fn check(
        &self,
        request: Request<proto::CheckRequest>,
    ) -> Result<Response<Self::CheckStream>, Status> {
        let turn = Arc::clone(&self.check_turn).try_acquire_owned();
        let turn = turn.map_err(|_| status::in_use("a check is running, one at a time"))?;
        let (replies, stream) = mpsc::channel(1);
        let check = Check {
            id: SnapshotId(self.snapshots.fetch_add(1, Ordering::Relaxed)),
            shards: self.shards.clone(),
            start: Arc::clone(&self.check),
            data: request.into_inner().data,
            replies,
            turn,
        };
        tokio::spawn(check.run());
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type ChangesStream = ReceiverStream<Result<proto::ChangesReply, Status>>;

    async fn changes(
        &self,
        request: Request<proto::ChangesRequest>,
    ) -> Result<Response<Self::ChangesStream>, Status> {
        // As in a walk: what changes meanwhile is the next stream's, or comes when it is followed.
        let shard = self.shards[0].clone();
        let stable = changes::stable(&shard).await?;
        let request = request.into_inner();
        changes::refuse_beyond(&request, stable)?;
        let mut reading = changes::Reading::begin(&request, stable);
        if let Some(name) = &request.consumer {
            let consumer = consumers::find(&shard, name).await?;
            reading = changes::Reading::of(&consumer, stable, request.follow);
        }
        let (pages, stream) = mpsc::channel(1);
        tokio::spawn(reading.run(shard, pages, self.stopping.clone()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn consumer_add(
        &self,
        request: Request<proto::ConsumerAddRequest>,
    ) -> Result<Response<proto::ConsumerAddReply>, Status> {
        consumers::tend(&self.shards[0], consumers::add(request.into_inner())?).await?;
        Ok(Response::new(proto::ConsumerAddReply {}))
    }

    async fn consumer_ack(
        &self,
        request: Request<proto::ConsumerAckRequest>,
    ) -> Result<Response<proto::ConsumerAckReply>, Status> {
        consumers::tend(&self.shards[0], consumers::ack(request.into_inner())?).await?;
        Ok(Response::new(proto::ConsumerAckReply {}))
    }

    async fn consumer_remove(
        &self,
        request: Request<proto::ConsumerRemoveRequest>,
    ) -> Result<Response<proto::ConsumerRemoveReply>, Status> {
        consumers::tend(&self.shards[0], consumers::remove(request.into_inner())?).await?;
        Ok(Response::new(proto::ConsumerRemoveReply {}))
    }

    async fn consumer_list(
        &self,
        _: Request<proto::ConsumerListRequest>,
    ) -> Result<Response<proto::ConsumerListReply>, Status> {
        let all = consumers::list(&self.shards[0]).await?;
        let consumers = all.iter().map(consumers::entry).collect();
        Ok(Response::new(proto::ConsumerListReply { consumers }))
    }

    type InoPathStream = ReceiverStream<Result<proto::InoPathReply, Status>>;

    async fn ino_path(
        &self,
        request: Request<proto::InoPathRequest>,
    ) -> Result<Response<Self::InoPathStream>, Status> {
        let proto::InoPathRequest { ino, all } = request.into_inner();
        let ino = parse_ino(ino)?;
        let (replies, stream) = mpsc::channel(1);
        tokio::spawn(paths::send_paths(self.shards[0].clone(), ino, all, replies));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type GetReferringEntriesStream =
        ReceiverStream<Result<proto::GetReferringEntriesReply, Status>>;

    async fn get_referring_entries(
        &self,
        request: Request<proto::GetReferringEntriesRequest>,
    ) -> Result<Response<Self::GetReferringEntriesStream>, Status> {
        let ino = parse_ino(request.into_inner().ino)?;
        let (replies, stream) = mpsc::channel(1);
        tokio::spawn(paths::send_entries(self.shards[0].clone(), ino, replies));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_xattr(
        &self,
        request: Request<proto::GetXattrRequest>,
    ) -> Result<Response<proto::GetXattrReply>, Status> {
        let proto::GetXattrRequest { inode, name } = request.into_inner();
        let ino = self.inode(inode).await?;
        match self.call(ControlRequest::GetXattr { ino, name }).await? {
            ControlReply::Xattr(value) => Ok(Response::new(proto::GetXattrReply { value })),
            _ => Err(unexpected()),
        }
    }

    async fn set_xattr(
        &self,
        request: Request<proto::SetXattrRequest>,
    ) -> Result<Response<proto::SetXattrReply>, Status> {
        let how = xattrs::how(request.get_ref())?;
        let proto::SetXattrRequest { inode, name, value, .. } = request.into_inner();
        let ino = self.inode(inode).await?;
        match self.call(ControlRequest::SetXattr { ino, name, value, how }).await? {
            ControlReply::XattrChanged => Ok(Response::new(proto::SetXattrReply {})),
            _ => Err(unexpected()),
        }
    }

    async fn remove_xattr(
        &self,
        request: Request<proto::RemoveXattrRequest>,
    ) -> Result<Response<proto::RemoveXattrReply>, Status> {
        let proto::RemoveXattrRequest { inode, name } = request.into_inner();
        let ino = self.inode(inode).await?;
        match self.call(ControlRequest::RemoveXattr { ino, name }).await? {
            ControlReply::XattrChanged => Ok(Response::new(proto::RemoveXattrReply {})),
            _ => Err(unexpected()),
        }
    }

    type ListXattrsStream = ReceiverStream<Result<proto::ListXattrsReply, Status>>;

    async fn list_xattrs(
        &self,
        request: Request<proto::ListXattrsRequest>,
    ) -> Result<Response<Self::ListXattrsStream>, Status> {
        let proto::ListXattrsRequest { inode, hidden } = request.into_inner();
        let ino = self.inode(inode).await?;
        let (pages, stream) = mpsc::channel(1);
        tokio::spawn(xattrs::list(self.shards[0].clone(), ino, hidden, pages));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn resize_devices(
        &self,
        request: Request<proto::ResizeDevicesRequest>,
    ) -> Result<Response<proto::ResizeDevicesReply>, Status> {
        let devices = self.pool().await?.devices;
        let wanted = devices::plan(&devices, request.get_ref())?;
        match self.shards[0].call(ControlRequest::Resize(wanted)).await {
            Ok(ControlReply::Resized(done)) => Ok(Response::new(devices::resized(&devices, &done))),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(devices::failure(error)),
        }
    }

    type ScrubStream = ReceiverStream<Result<proto::ScrubReply, Status>>;

    async fn scrub(
        &self,
        request: Request<proto::ScrubRequest>,
    ) -> Result<Response<Self::ScrubStream>, Status> {
        let request = request.into_inner();
        let command = scrub::command(&request)?;
        let (replies, stream) = mpsc::channel(1);
        let shard = self.shards[0].clone();
        tokio::spawn(scrub::run(shard, command, request.follow, replies));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type ReleaseStream = ReceiverStream<Result<proto::ReleaseReply, Status>>;

    async fn release(
        &self,
        request: Request<proto::ReleaseRequest>,
    ) -> Result<Response<Self::ReleaseStream>, Status> {
        let asked = archive::parse_release(&request.into_inner())?;
        let (sender, replies) = mpsc::channel(1);
        tokio::spawn(archive::run_release(self.shards[0].clone(), asked, sender));
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn stage(
        &self,
        request: Request<tonic::Streaming<proto::StageRequest>>,
    ) -> Result<Response<proto::StageReply>, Status> {
        archive::stage(&self.shards[0], request.into_inner()).await.map(Response::new)
    }

    type DataWaitingStream = ReceiverStream<Result<proto::DataWaitingReply, Status>>;

    async fn data_waiting(
        &self,
        request: Request<proto::DataWaitingRequest>,
    ) -> Result<Response<Self::DataWaitingStream>, Status> {
        let listing = waiters::Listing::parse(&request.into_inner(), &self.shards)?;
        let (pages, stream) = mpsc::channel(1);
        tokio::spawn(listing.run(pages, self.stopping.clone()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn data_wait_err(
        &self,
        request: Request<proto::DataWaitErrRequest>,
    ) -> Result<Response<proto::DataWaitErrReply>, Status> {
        match self.call(waiters::parse_fail(request.into_inner())?).await? {
            ControlReply::Waiters(waiters) => {
                Ok(Response::new(proto::DataWaitErrReply { waiters }))
            }
            _ => Err(unexpected()),
        }
    }

    async fn trigger(
        &self,
        request: Request<proto::TriggerRequest>,
    ) -> Result<Response<proto::TriggerReply>, Status> {
        let armed = triggers::parse(&request.into_inner())?;
        self.triggers.arm(armed, &self.shards).await?;
        Ok(Response::new(proto::TriggerReply {}))
    }

    async fn triggers(
        &self,
        _: Request<proto::TriggersRequest>,
    ) -> Result<Response<proto::TriggersReply>, Status> {
        Ok(Response::new(proto::TriggersReply { triggers: self.triggers.list()? }))
    }

    async fn set_attr_x(
        &self,
        request: Request<proto::SetAttrXRequest>,
    ) -> Result<Response<proto::SetAttrXReply>, Status> {
        let request = request.into_inner();
        let set = archive::restored(&request);
        let ino = self.inode(request.inode).await?;
        match self.call(ControlRequest::SetAttrX { ino, set }).await? {
            ControlReply::Done => Ok(Response::new(proto::SetAttrXReply {})),
            _ => Err(unexpected()),
        }
    }

    type GetFiemapStream = ReceiverStream<Result<proto::GetFiemapReply, Status>>;

    async fn get_fiemap(
        &self,
        request: Request<proto::GetFiemapRequest>,
    ) -> Result<Response<Self::GetFiemapStream>, Status> {
        let request = request.into_inner();
        let blocks = fiemap::blocks(&request)?;
        let ino = self.inode(request.inode).await?;
        let (pages, stream) = mpsc::channel(1);
        tokio::spawn(fiemap::send(self.shards[0].clone(), ino, blocks, pages));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn punch_offline(
        &self,
        request: Request<proto::PunchOfflineRequest>,
    ) -> Result<Response<proto::PunchOfflineReply>, Status> {
        let request = request.into_inner();
        archive::check_punch(&request)?;
        let proto::PunchOfflineRequest { inode, data_version, offset, length: len } = request;
        let ino = self.inode(inode).await?;
        match self.call(ControlRequest::PunchOffline { ino, offset, len, data_version }).await? {
            ControlReply::Blocks(punched_blocks) => {
                Ok(Response::new(proto::PunchOfflineReply { punched_blocks }))
            }
            _ => Err(unexpected()),
        }
    }

    async fn counters(
        &self,
        request: Request<proto::CountersRequest>,
    ) -> Result<Response<proto::CountersReply>, Status> {
        let counters = counted(&self.shards, &request.into_inner().prefix).await?;
        Ok(Response::new(proto::CountersReply { counters }))
    }
}

/// Sends page after page until the walk ends, fails, or nobody listens.
async fn walk(
    shard: Caller,
    mut page: WalkPage,
    pages: mpsc::Sender<Result<proto::WalkInodesReply, Status>>,
) {
    while page.first <= page.last {
        let Ok(room) = pages.reserve().await else { return };
        let entries = match shard.call(ControlRequest::Walk(page)).await {
            Ok(ControlReply::Walk(entries)) => entries,
            Ok(_) => return room.send(Err(unexpected())),
            Err(error) => return room.send(Err(status::of_call(error))),
        };
        let Some(end) = entries.last().copied() else { return };
        room.send(Ok(proto::WalkInodesReply { entries: entries.iter().map(position).collect() }));
        let Some(next) = end.next() else { return };
        page.first = next;
    }
}

async fn statuses(shard: &Caller) -> Result<Vec<ShardStatus>, Status> {
    match shard.call(ControlRequest::Shards).await.map_err(status::of_call)? {
        ControlReply::Shards(statuses) => Ok(statuses),
        _ => Err(unexpected()),
    }
}

/// Everything that is counted, of the names that begin so.
pub(crate) async fn counted(
    shards: &[Caller],
    prefix: &str,
) -> Result<Vec<proto::Counter>, Status> {
    let mut known = Vec::with_capacity(shards.len());
    for (shard, status) in shards.iter().zip(statuses(&shards[0]).await?) {
        known.push((status, local(shard).await?));
    }
    Ok(counters::counters(&known, prefix))
}

async fn local(shard: &Caller) -> Result<Local, Status> {
    match shard.call(ControlRequest::Local).await.map_err(status::of_call)? {
        ControlReply::Local(local) => Ok(*local),
        _ => Err(unexpected()),
    }
}

fn shard_status(status: &ShardStatus, useful_work_permille: u32) -> proto::ShardStatus {
    let counters = &status.counters;
    let (fullest_tablet, fullest_tablet_inodes) = status.fullest_tablet;
    proto::ShardStatus {
        shard: status.shard.into(),
        stopped: status.stopped,
        stopped_because: status.failure.map(|reason| reason.to_string()),
        tablets: status.tablets,
        tablets_in_use: status.tablets_in_use,
        fullest_tablet: fullest_tablet.into(),
        fullest_tablet_inodes,
        inodes: status.inodes,
        orphans: status.orphans,
        pending: status.pending,
        operations: counters.operations,
        busy: counters.busy,
        locked_inodes: status.locked_inodes,
        log_trees: status.log_trees,
        log_trees_written: counters.log_trees_written,
        merge_steps: counters.merge_steps,
        merges_finished: counters.merges_finished,
        fold_steps: counters.fold_steps,
        folds_finished: counters.folds_finished,
        folds_resumed: counters.folds_resumed,
        across_commits: counters.across_commits,
        log_blocks_used: status.log_used_blocks,
        log_blocks: status.log_blocks,
        log_batches: counters.log_batches,
        log_records: counters.log_records,
        log_bytes: counters.log_bytes,
        trims: counters.trims,
        memtable_bytes: status.memtable_bytes,
        memtable_bytes_max: status.memtable_bytes_max,
        dirty_bytes: status.dirty_bytes,
        cache_nodes: status.cache_nodes,
        node_hits: counters.node_hits,
        node_reads: counters.node_reads,
        filter_skips: counters.filter_skips,
        data_blocks_read: counters.data_blocks_read,
        data_cache_bytes: status.data_cache_bytes,
        data_cache_bytes_max: status.data_cache_bytes_max,
        data_cache_hits: counters.data_cache_hits,
        replayed_answers: counters.replayed_answers,
        data_blocks_written: counters.data_blocks_written,
        free_node_blocks: status.free_node_blocks,
        free_data_blocks: status.free_data_blocks,
        free_unassigned_blocks: status.free_unassigned_blocks,
        open_blocks_read_outside_logs: counters.open_blocks_read_outside_logs,
        open_blocks_read_in_logs: counters.open_blocks_read_in_logs,
        useful_work_permille,
    }
}

pub(crate) fn parse_target(target: Option<stat_request::Target>) -> Result<Target, Status> {
    match target {
        Some(stat_request::Target::Ino(raw)) => parse_ino(raw).map(Target::Ino),
        Some(stat_request::Target::Path(path)) => parse_path(&path).map(Target::Path),
        None => Err(status::invalid("no path and no inode number")),
    }
}

pub(crate) fn parse_ino(raw: u64) -> Result<InodeNo, Status> {
    InodeNo::from_raw(raw).ok_or_else(|| status::invalid("inode 0 does not exist"))
}

/// A slash at the end, or a dot behind one, says that it is a directory, as everywhere.
fn ends_as_directory(target: &Option<stat_request::Target>) -> bool {
    match target {
        Some(stat_request::Target::Path(path)) => path.ends_with(b"/") || path.ends_with(b"/."),
        Some(stat_request::Target::Ino(_)) | None => false,
    }
}

/// Repeated slashes and `.` mean nothing, as everywhere. `..` is refused rather than resolved by text,
/// which would be wrong after symbolic links.
fn parse_path(path: &[u8]) -> Result<Vec<Name>, Status> {
    let rest = path.strip_prefix(b"/").ok_or_else(|| status::invalid("not an absolute path"))?;
    let names = rest.split(|byte| *byte == b'/');
    if names.clone().any(|name| name == b"..") {
        return Err(status::invalid("a path inside cairn has no `..` in it: name the directory"));
    }
    names
        .filter(|name| !matches!(*name, b"" | b"."))
        .map(|name| Name::parse(name).map_err(|error| status::of_call(CallError::Fs(error))))
        .collect()
}

pub(crate) fn parse_walk(request: proto::WalkInodesRequest) -> Result<WalkPage, Status> {
    let index = match request.index() {
        proto::ChangeIndex::MetaSeq => ChangeIndex::MetaSeq,
        proto::ChangeIndex::DataSeq => ChangeIndex::DataSeq,
        proto::ChangeIndex::Unspecified => return Err(status::invalid("which index?")),
    };
    let bound =
        |position: proto::IndexPosition| Position { seq: Seq(position.seq), ino: position.ino };
    Ok(WalkPage {
        index,
        first: request.first.map_or(Position::MIN, bound),
        last: request.last.map_or(Position::MAX, bound),
        count_max: WALK_ENTRIES_MAX,
    })
}

fn position(position: &Position) -> proto::IndexPosition {
    proto::IndexPosition { seq: position.seq.0, ino: position.ino }
}

fn stat_reply(attr: &Attr) -> proto::StatReply {
    proto::StatReply {
        ino: attr.ino.raw(),
        mode: type_bits(attr.kind) | attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        meta_seq: attr.meta_seq.0,
        data_seq: attr.data_seq.0,
        data_version: attr.data_version,
        online_blocks: attr.online_blocks,
        offline_blocks: attr.offline_blocks,
        crtime: attr.crtime.0,
        atime: attr.atime.0,
        mtime: attr.mtime.0,
        ctime: attr.ctime.0,
    }
}

/// The file type as the high bits of POSIX st_mode.
fn type_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Fifo => 0o010_000,
        FileKind::Character => 0o020_000,
        FileKind::Directory => 0o040_000,
        FileKind::Block => 0o060_000,
        FileKind::Regular => 0o100_000,
        FileKind::Symlink => 0o120_000,
        FileKind::Socket => 0o140_000,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_its_slashes_may_repeat() {
        let names = parse_path(b"//a/./b//").unwrap();
        assert_eq!(names.iter().map(Name::as_bytes).collect::<Vec<_>>(), [b"a", b"b"]);
        assert!(parse_path(b"/").unwrap().is_empty());
        assert!(parse_path(b"a/b").is_err());
        assert!(parse_path(b"/a/../b").is_err());
        assert!(parse_path(&[b"/".as_slice(), &[b'x'; 256]].concat()).is_err());
    }

    #[test]
    fn a_walk_without_bounds_is_all_of_the_index() {
        let mut request = proto::WalkInodesRequest::default();
        assert!(parse_walk(request).is_err(), "an index must be named");
        request.set_index(proto::ChangeIndex::DataSeq);
        let page = parse_walk(request).unwrap();
        assert_eq!(
            (page.index, page.first, page.last),
            (ChangeIndex::DataSeq, Position::MIN, Position::MAX)
        );
    }
}
