//! A data version that was seen with some bytes never comes back with other bytes.
//!
//! Archive agents keep "inode, data version" as the name of a content. It must hold over crashes
//! too, where a version that was given to data that did not survive must not be given again.

use crate::model::seen::{Seen, SeenBody};
use cairn_base::hash::xxh3;
use cairn_format::InodeNo;
use std::collections::BTreeMap;

/// Every (inode, version) seen, with a hash of what the file held.
#[derive(Default)]
pub struct Versions {
    seen: BTreeMap<(InodeNo, u64), u64>,
}

impl Versions {
    pub fn check(&mut self, seen: &Seen) -> Result<(), String> {
        for (&ino, node) in &seen.nodes {
            let SeenBody::File(file) = &node.body else { continue };
            let mut parts = file.size.to_le_bytes().to_vec();
            for (index, block) in &file.blocks {
                // Which blocks of a sparse file are read differs from time to time: zeros are
                // left out.
                if block.iter().any(|&byte| byte != 0) {
                    parts.extend(index.to_le_bytes());
                    parts.extend(xxh3(block).to_le_bytes());
                }
            }
            let (version, content) = (node.data_version, xxh3(&parts));
            if let Some(before) = self.seen.insert((ino, version), content)
                && before != content
            {
                return Err(format!("inode {ino} shows version {version} with other bytes"));
            }
        }
        Ok(())
    }
}
