//! What a message on the socket asks for, without a daemon behind it: how the fuzz targets
//! (`appliance/fuzz`) reach what `service.rs` does between the decoder of messages and the shards.
//!
//! Each arm is what the service's method of that name does first. What a method then asks of shards,
//! and how often, is not here.

use crate::archive::{Releasing, Staging};
use crate::proto;
use crate::request::{ControlRequest, Position, Target};
use crate::service::{parse_ino, parse_target, parse_walk};
use crate::{archive, changes, consumers, devices, fiemap, waiters, xattrs};
use cairn_engine::DeviceSpace;
use cairn_format::Seq;
use prost::Message;
use tonic::Status;

/// The methods whose requests hold more than a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Stat,
    WalkInodes,
    Changes,
    ConsumerAdd,
    ConsumerAck,
    InoPath,
    GetReferringEntries,
    ResizeDevices,
    GetXattr,
    SetXattr,
    RemoveXattr,
    ListXattrs,
    Release,
    Stage,
    DataWaitErr,
    SetAttrX,
    GetFiemap,
    PunchOffline,
}

impl Method {
    pub const ALL: [Method; 18] = [
        Method::Stat,
        Method::WalkInodes,
        Method::Changes,
        Method::ConsumerAdd,
        Method::ConsumerAck,
        Method::InoPath,
        Method::GetReferringEntries,
        Method::ResizeDevices,
        Method::GetXattr,
        Method::SetXattr,
        Method::RemoveXattr,
        Method::ListXattrs,
        Method::Release,
        Method::Stage,
        Method::DataWaitErr,
        Method::SetAttrX,
        Method::GetFiemap,
        Method::PunchOffline,
    ];
}

/// What the service would have learnt from its shards.
#[derive(Clone, Debug)]
pub struct Pool {
    pub devices: Vec<DeviceSpace>,
    pub stable: Seq,
}

/// Why a request goes no further: in the decoder's words, or in ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Undecodable,
    Because(String),
}

/// The first thing that a shard is asked, if it is asked at all.
pub fn asked(
    method: Method,
    message: &[u8],
    pool: &Pool,
) -> Result<Option<ControlRequest>, Refused> {
    let because = |status: Status| Refused::Because(status.message().to_owned());
    match method {
        Method::Stat => {
            let target = decode::<proto::StatRequest>(message)?.target;
            parse_target(target).map(ControlRequest::Stat).map(Some).map_err(because)
        }
        Method::WalkInodes => {
            let page = parse_walk(decode(message)?).map_err(because)?;
            Ok((page.first <= page.last).then_some(ControlRequest::Walk(page)))
        }
        Method::Changes => {
            let request = decode(message)?;
            changes::refuse_beyond(&request, pool.stable).map_err(because)?;
            let to = Position { seq: pool.stable, ino: u64::MAX };
            let from = changes::first(&request).filter(|from| *from <= to);
            let floor = changes::floor(&request, pool.stable);
            Ok(from.map(|from| ControlRequest::Changes { from, floor, to, count_max: 1 }))
        }
        Method::ConsumerAdd => {
            let tend = consumers::add(decode(message)?).map_err(because)?;
            Ok(Some(ControlRequest::Consumer(tend)))
        }
        Method::ConsumerAck => {
            let tend = consumers::ack(decode(message)?).map_err(because)?;
            Ok(Some(ControlRequest::Consumer(tend)))
        }
        Method::InoPath => {
            let ino = decode::<proto::InoPathRequest>(message)?.ino;
            let ino = parse_ino(ino).map_err(because)?;
            Ok(Some(ControlRequest::Referring { ino, after: None, count_max: 1 }))
        }
        Method::GetReferringEntries => {
            let ino = decode::<proto::GetReferringEntriesRequest>(message)?.ino;
            let ino = parse_ino(ino).map_err(because)?;
            Ok(Some(ControlRequest::Referring { ino, after: None, count_max: 1 }))
        }
        Method::ResizeDevices => {
            let wanted = devices::plan(&pool.devices, &decode(message)?).map_err(because)?;
            Ok(Some(ControlRequest::Resize(wanted)))
        }
        Method::GetXattr => {
            let inode = decode::<proto::GetXattrRequest>(message)?.inode;
            parse_target(xattrs::target(inode)).map(ControlRequest::Stat).map(Some).map_err(because)
        }
        Method::SetXattr => {
            let request = decode::<proto::SetXattrRequest>(message)?;
            xattrs::how(&request).map_err(because)?;
            let target = parse_target(xattrs::target(request.inode)).map_err(because)?;
            Ok(Some(ControlRequest::Stat(target)))
        }
        Method::RemoveXattr => {
            let inode = decode::<proto::RemoveXattrRequest>(message)?.inode;
            parse_target(xattrs::target(inode)).map(ControlRequest::Stat).map(Some).map_err(because)
        }
        Method::ListXattrs => {
            let inode = decode::<proto::ListXattrsRequest>(message)?.inode;
            parse_target(xattrs::target(inode)).map(ControlRequest::Stat).map(Some).map_err(because)
        }
        Method::Release => {
            let asked = archive::parse_release(&decode(message)?).map_err(because)?;
            let Releasing { ino, offset, length, data_version } = asked;
            // Without a length it goes to the end, in calls of so much.
            let len = length.unwrap_or(archive::RELEASE_BYTES);
            Ok(Some(ControlRequest::Release { ino, offset, len, data_version }))
        }
        Method::Stage => {
            let piece = archive::parse_piece(None, decode(message)?).map_err(because)?;
            let (Staging { ino, at: offset, data_version }, data) = piece;
            Ok(Some(ControlRequest::Stage { ino, offset, data, data_version }))
        }
        Method::SetAttrX => {
            let request = decode::<proto::SetAttrXRequest>(message)?;
            let target = parse_target(xattrs::target(request.inode.clone())).map_err(because)?;
            let set = archive::restored(&request);
            Ok(Some(match target {
                Target::Ino(ino) => ControlRequest::SetAttrX { ino, set },
                Target::Path(_) => ControlRequest::Stat(target),
            }))
        }
        Method::GetFiemap => {
            let request = decode::<proto::GetFiemapRequest>(message)?;
            let blocks = fiemap::blocks(&request).map_err(because)?;
            let target = parse_target(xattrs::target(request.inode)).map_err(because)?;
            Ok(Some(match target {
                Target::Ino(ino) => ControlRequest::Extents { ino, blocks, count_max: 1 },
                Target::Path(_) => ControlRequest::Stat(target),
            }))
        }
        Method::PunchOffline => {
            let request = decode::<proto::PunchOfflineRequest>(message)?;
            archive::check_punch(&request).map_err(because)?;
            let proto::PunchOfflineRequest { inode, data_version, offset, length: len } = request;
            let target = parse_target(xattrs::target(inode)).map_err(because)?;
            Ok(Some(match target {
                Target::Ino(ino) => ControlRequest::PunchOffline { ino, offset, len, data_version },
                Target::Path(_) => ControlRequest::Stat(target),
            }))
        }
        Method::DataWaitErr => waiters::parse_fail(decode(message)?).map(Some).map_err(because),
    }
}

fn decode<M: Message + Default>(message: &[u8]) -> Result<M, Refused> {
    M::decode(message).map_err(|_| Refused::Undecodable)
}
