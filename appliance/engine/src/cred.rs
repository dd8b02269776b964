//! Who asks. One place makes these from what a frontend was told; one place (`access.rs`) uses them.

use smallvec::SmallVec;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cred {
    pub uid: u32,
    pub gid: u32,
    pub groups: SmallVec<[u32; 4]>,
    /// May pass over ownership and mode bits (root).
    pub privileged: bool,
}

impl Cred {
    pub fn root() -> Cred {
        Cred { uid: 0, gid: 0, groups: SmallVec::new(), privileged: true }
    }

    pub fn user(uid: u32, gid: u32, groups: &[u32]) -> Cred {
        Cred { uid, gid, groups: SmallVec::from_slice(groups), privileged: uid == 0 }
    }

    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}
