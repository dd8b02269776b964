//! Reading a pool's blocks from its files, one after another, while nobody else writes them.

use crate::exit::Error;
use crate::print::record::{Printed, Sink};
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId};
use cairn_daemon::{Claim, Mode, Place};
use cairn_format::superblock::{
    SUPERBLOCK_A, SUPERBLOCK_B, SUPERBLOCK_BYTES, Superblock, SuperblockError,
};
use nix::errno::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use zerocopy::IntoBytes;

pub struct PoolBytes {
    place: Place,
    files: Vec<File>,
    superblock: Box<Superblock>,
    /// Keeps daemons off the pool.
    _claim: Claim,
}

impl PoolBytes {
    pub fn open(place: &Place) -> Result<PoolBytes, Error> {
        let claim = Claim::take(place.devices(), Mode::ReadOnly)
            .map_err(|failure| Error::failure(place, failure))?;
        let open = |path: &std::path::Path| {
            File::open(path).map_err(|error| Error::io(path.display(), &error))
        };
        let files = claim.paths().iter().map(|device| open(&device.path));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let superblock = newest_superblock(place, &files[0])?;
        Ok(PoolBytes { place: place.clone(), files, superblock, _claim: claim })
    }

    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    pub fn read(&self, at: BlockNo, bytes: usize) -> Result<Vec<u8>, Error> {
        let mut buf = vec![0; bytes];
        let file = self.files.get(usize::from(at.device().0)).ok_or_else(|| {
            Error::new(&self.place, Errno::ENODEV, format!("block {at}: no such device was given"))
        })?;
        file.read_exact_at(&mut buf, at.byte_offset()).map_err(|error| {
            Error::io(format_args!("{} block {at}", self.place), &error)
        })?;
        Ok(buf)
    }

    /// Both copies on each device.
    pub fn print_superblocks(&self, sink: &mut Sink) -> Result<(), Error> {
        for device in 0..self.files.len() {
            for slot in [SUPERBLOCK_A, SUPERBLOCK_B] {
                let at = BlockNo::new(DeviceId(device as u8), slot);
                let bytes = self.read(at, SUPERBLOCK_BYTES)?;
                match Superblock::parse(&bytes) {
                    Ok(superblock) => sink.print(&Printed::superblock(at, superblock))?,
                    Err(error) => sink.print(&Printed::no_superblock(at, error))?,
                }
            }
        }
        for (index, device) in self.superblock.device_table().iter().enumerate() {
            sink.print(&Printed::device(index, device))?;
        }
        for log in self.superblock.log_table() {
            sink.print(&Printed::log_area(log))?;
        }
        Ok(())
    }
}

fn newest_superblock(place: &Place, file: &File) -> Result<Box<Superblock>, Error> {
    let mut newest: Option<Box<Superblock>> = None;
    let mut refused = SuperblockError::NotAPool;
    for slot in [SUPERBLOCK_A, SUPERBLOCK_B] {
        let mut bytes = vec![0; SUPERBLOCK_BYTES];
        // A file that ends before the slot has no copy there.
        if file.read_exact_at(&mut bytes, slot * BLOCK_BYTES as u64).is_err() {
            continue;
        }
        match Superblock::parse(&bytes) {
            Ok(found) => {
                let best = newest.as_ref().map_or(0, |newest| newest.generation.get());
                if found.generation.get() >= best {
                    let mut copy = Superblock::zeroed();
                    copy.as_mut_bytes().copy_from_slice(found.as_bytes());
                    newest = Some(copy);
                }
            }
            Err(SuperblockError::NotAPool) => {}
            Err(other) => refused = other,
        }
    }
    let errno = match refused {
        SuperblockError::NotAPool => Errno::EINVAL,
        SuperblockError::Damage(_) => Errno::EUCLEAN,
        SuperblockError::Version { .. } | SuperblockError::IncompatFeatures { .. } => Errno::ENOTSUP,
    };
    newest.ok_or_else(|| Error::new(place, errno, refused.to_string()))
}
