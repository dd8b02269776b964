//! Who may do what by mode bits. ACLs will be decided here too, and nowhere else.

use crate::attr::{FileKind, Rights};
use crate::cred::Cred;
use crate::error::FsError;
use cairn_format::item::InodeItem;

pub const SUID: u32 = 0o4000;
pub const SGID: u32 = 0o2000;
pub const STICKY: u32 = 0o1000;
const GROUP_EXECUTE: u32 = 0o010;
const ANY_EXECUTE: u32 = 0o111;

/// The rights `cred` has on `inode`: exactly one class of bits counts, as POSIX has it.
pub fn granted(cred: &Cred, inode: &InodeItem) -> Rights {
    let mode = u32::from(inode.mode.get());
    if cred.privileged {
        let execute = inode.file_kind() == FileKind::Directory || mode & ANY_EXECUTE != 0;
        return Rights(if execute { 7 } else { 6 });
    }
    let class = if cred.uid == inode.uid.get() {
        mode >> 6
    } else if cred.in_group(inode.gid.get()) {
        mode >> 3
    } else {
        mode
    };
    Rights((class & 7) as u8)
}

pub fn require(cred: &Cred, inode: &InodeItem, want: Rights) -> Result<(), FsError> {
    if granted(cred, inode).has(want) { Ok(()) } else { Err(FsError::Access) }
}

pub fn is_owner(cred: &Cred, inode: &InodeItem) -> bool {
    cred.privileged || cred.uid == inode.uid.get()
}

/// May `cred` change entries of `dir`?
pub fn require_entry_change(cred: &Cred, dir: &InodeItem) -> Result<(), FsError> {
    require(cred, dir, Rights::WRITE.and(Rights::EXECUTE))
}

/// In a sticky directory only the owner of the entry's inode or of the directory may remove or
/// replace the entry.
pub fn require_not_sticky(cred: &Cred, dir: &InodeItem, child: &InodeItem) -> Result<(), FsError> {
    let sticky = u32::from(dir.mode.get()) & STICKY != 0;
    if sticky && !is_owner(cred, dir) && !is_owner(cred, child) {
        return Err(FsError::Permission);
    }
    Ok(())
}

/// The mode after somebody wrote to the file: set-uid goes, and set-gid where it means execution.
pub fn mode_after_write(cred: &Cred, inode: &InodeItem) -> u16 {
    let mode = u32::from(inode.mode.get());
    if cred.privileged || inode.file_kind() != FileKind::Regular {
        return mode as u16;
    }
    without_set_id(mode) as u16
}

/// Set-uid off, set-gid off where group execute gives it its meaning.
pub fn without_set_id(mode: u32) -> u32 {
    let sgid = if mode & GROUP_EXECUTE != 0 { SGID } else { 0 };
    mode & !(SUID | sgid)
}
