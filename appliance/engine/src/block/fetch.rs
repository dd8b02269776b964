//! Reading nodes and filters: a device read, then the check against the parent's reference.

use super::cache::{FilterBuf, NodeBuf};
use crate::error::FsError;
use crate::sabotage::{Sabotage, planted};
use cairn_base::DmaSlice;
use cairn_base::door::Disk;
use cairn_format::filter::{Filter, FilterRef};
use cairn_format::node::{NODE_BYTES, Node, NodeRef};
use std::rc::Rc;

pub async fn fetch_node<K: Disk>(disk: &K, want: &NodeRef) -> Result<Rc<NodeBuf>, FsError> {
    let block = want.block_no();
    let (buf, read) = disk.read(block, disk.arena().alloc(NODE_BYTES)).await;
    read.map_err(|error| FsError::Media { block, error })?;
    if !planted(Sabotage::NodeUnverified) {
        Node::parse(&buf, want).map_err(|damage| FsError::Corrupt { block, damage })?;
    }
    Ok(Rc::new(NodeBuf::verified(buf)))
}

pub async fn fetch_filter<K: Disk>(disk: &K, want: &FilterRef) -> Result<Rc<FilterBuf>, FsError> {
    let block = want.block_no();
    let (buf, read) = disk.read(block, disk.arena().alloc(want.bytes())).await;
    read.map_err(|error| FsError::Media { block, error })?;
    Filter::parse(&buf, want).map_err(|damage| FsError::Corrupt { block, damage })?;
    Ok(Rc::new(FilterBuf::verified(DmaSlice::whole(buf))))
}
