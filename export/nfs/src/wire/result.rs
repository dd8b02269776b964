//! The results of every procedure but the two listings (RFC 1813, section 3.3).

use crate::wire::args::{Handle, Stable};
use crate::wire::attr::{Attributes, Change, NfsTime, PostOpAttributes};
use crate::wire::{NfsStat, Verifier};
use cairn_base::DmaSlice;
use cairn_net::xdr::Encoder;

pub trait Encode {
    fn encode(self, to: &mut Encoder);
}

/// A status other than `Ok`, and what the procedure attaches to failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<F> {
    pub stat: NfsStat,
    pub body: F,
}

pub type Outcome<T, F> = Result<T, Failure<F>>;

impl<T: Encode, F: Encode> Encode for Outcome<T, F> {
    fn encode(self, to: &mut Encoder) {
        match self {
            Ok(body) => {
                to.u32(NfsStat::Ok.number());
                body.encode(to);
            }
            Err(Failure { stat, body }) => {
                assert_ne!(stat, NfsStat::Ok, "a failure has a status of its own");
                to.u32(stat.number());
                body.encode(to);
            }
        }
    }
}

pub type GetattrRes = Outcome<Attributes, ()>;
pub type SetattrRes = Outcome<Change, Change>;
pub type LookupRes<'a> = Outcome<LookupOk<'a>, PostOpAttributes>;
pub type AccessRes = Outcome<AccessOk, PostOpAttributes>;
pub type ReadlinkRes<'a> = Outcome<ReadlinkOk<'a>, PostOpAttributes>;
pub type ReadRes = Outcome<ReadOk, PostOpAttributes>;
pub type WriteRes = Outcome<WriteOk, Change>;
/// CREATE, MKDIR, SYMLINK and MKNOD.
pub type CreateRes<'a> = Outcome<CreateOk<'a>, Change>;
/// REMOVE and RMDIR.
pub type RemoveRes = Outcome<Change, Change>;
pub type RenameRes = Outcome<RenameChanges, RenameChanges>;
pub type LinkRes = Outcome<LinkChanges, LinkChanges>;
/// A listing that could not begin; one that could is written by `DirList`.
pub type ReaddirFailure = Failure<PostOpAttributes>;
pub type FsstatRes = Outcome<FsstatOk, PostOpAttributes>;
pub type FsinfoRes = Outcome<FsinfoOk, PostOpAttributes>;
pub type PathconfRes = Outcome<PathconfOk, PostOpAttributes>;
pub type CommitRes = Outcome<CommitOk, Change>;

impl Encode for () {
    fn encode(self, _: &mut Encoder) {}
}

impl<F: Encode> Encode for Failure<F> {
    fn encode(self, to: &mut Encoder) {
        Outcome::<(), F>::Err(self).encode(to);
    }
}

impl Encode for Handle<'_> {
    fn encode(self, to: &mut Encoder) {
        to.opaque(self.0);
    }
}

/// post_op_fh3.
impl Encode for Option<Handle<'_>> {
    fn encode(self, to: &mut Encoder) {
        to.option(self, |to, handle| handle.encode(to));
    }
}

#[derive(Clone, Copy, Debug)]
pub struct LookupOk<'a> {
    pub object: Handle<'a>,
    pub attributes: PostOpAttributes,
    pub dir_attributes: PostOpAttributes,
}

impl Encode for LookupOk<'_> {
    fn encode(self, to: &mut Encoder) {
        self.object.encode(to);
        self.attributes.encode(to);
        self.dir_attributes.encode(to);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct AccessOk {
    pub attributes: PostOpAttributes,
    pub access: u32,
}

impl Encode for AccessOk {
    fn encode(self, to: &mut Encoder) {
        self.attributes.encode(to);
        to.u32(self.access);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ReadlinkOk<'a> {
    pub attributes: PostOpAttributes,
    pub target: &'a [u8],
}

impl Encode for ReadlinkOk<'_> {
    fn encode(self, to: &mut Encoder) {
        self.attributes.encode(to);
        to.opaque(self.target);
    }
}

/// The bytes read stay in the buffers they were read into.
#[derive(Clone, Debug)]
pub struct ReadOk {
    pub attributes: PostOpAttributes,
    pub eof: bool,
    pub data: Vec<DmaSlice>,
}

impl Encode for ReadOk {
    fn encode(self, to: &mut Encoder) {
        self.attributes.encode(to);
        let bytes: usize = self.data.iter().map(|slice| slice.len()).sum();
        to.u32(u32::try_from(bytes).expect("a READ asks for less than 4 GiB"));
        to.bool(self.eof);
        to.payload(self.data);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct WriteOk {
    pub change: Change,
    pub count: u32,
    pub committed: Stable,
    pub verifier: Verifier,
}

impl Encode for WriteOk {
    fn encode(self, to: &mut Encoder) {
        self.change.encode(to);
        to.u32(self.count);
        to.u32(self.committed.number());
        to.fixed(&self.verifier);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct CreateOk<'a> {
    pub object: Option<Handle<'a>>,
    pub attributes: PostOpAttributes,
    pub dir_change: Change,
}

impl Encode for CreateOk<'_> {
    fn encode(self, to: &mut Encoder) {
        self.object.encode(to);
        self.attributes.encode(to);
        self.dir_change.encode(to);
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct RenameChanges {
    pub from_dir: Change,
    pub to_dir: Change,
}

impl Encode for RenameChanges {
    fn encode(self, to: &mut Encoder) {
        self.from_dir.encode(to);
        self.to_dir.encode(to);
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct LinkChanges {
    pub attributes: PostOpAttributes,
    pub dir_change: Change,
}

impl Encode for LinkChanges {
    fn encode(self, to: &mut Encoder) {
        self.attributes.encode(to);
        self.dir_change.encode(to);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct FsstatOk {
    pub attributes: PostOpAttributes,
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// Free for this caller.
    pub available_bytes: u64,
    pub total_files: u64,
    pub free_files: u64,
    pub available_files: u64,
    /// Seconds in which all this is not expected to change.
    pub invariant_secs: u32,
}

impl Encode for FsstatOk {
    fn encode(self, to: &mut Encoder) {
        self.attributes.encode(to);
        to.u64(self.total_bytes);
        to.u64(self.free_bytes);
        to.u64(self.available_bytes);
        to.u64(self.total_files);
        to.u64(self.free_files);
        to.u64(self.available_files);
        to.u32(self.invariant_secs);
    }
}

/// The bits of FSINFO's properties (RFC 1813, section 3.3.19).
pub mod property {
    pub const LINK: u32 = 0x01;
    pub const SYMLINK: u32 = 0x02;
    /// PATHCONF says the same for every object.
    pub const HOMOGENEOUS: u32 = 0x08;
    pub const CAN_SET_TIME: u32 = 0x10;
}

#[derive(Clone, Copy, Debug)]
pub struct FsinfoOk {
    pub attributes: PostOpAttributes,
    pub read_max: u32,
    pub read_preferred: u32,
    pub read_multiple: u32,
    pub write_max: u32,
    pub write_preferred: u32,
    pub write_multiple: u32,
    pub readdir_preferred: u32,
    pub file_size_max: u64,
    pub time_delta: NfsTime,
    pub properties: u32,
}

impl Encode for FsinfoOk {
    fn encode(self, to: &mut Encoder) {
        self.attributes.encode(to);
        to.u32(self.read_max);
        to.u32(self.read_preferred);
        to.u32(self.read_multiple);
        to.u32(self.write_max);
        to.u32(self.write_preferred);
        to.u32(self.write_multiple);
        to.u32(self.readdir_preferred);
        to.u64(self.file_size_max);
        to.u32(self.time_delta.seconds);
        to.u32(self.time_delta.nanos);
        to.u32(self.properties);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct PathconfOk {
    pub attributes: PostOpAttributes,
    pub link_max: u32,
    pub name_max: u32,
    /// A longer name is an error, not cut.
    pub no_trunc: bool,
    pub chown_restricted: bool,
    pub case_insensitive: bool,
    pub case_preserving: bool,
}

impl Encode for PathconfOk {
    fn encode(self, to: &mut Encoder) {
        self.attributes.encode(to);
        to.u32(self.link_max);
        to.u32(self.name_max);
        to.bool(self.no_trunc);
        to.bool(self.chown_restricted);
        to.bool(self.case_insensitive);
        to.bool(self.case_preserving);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct CommitOk {
    pub change: Change,
    pub verifier: Verifier,
}

impl Encode for CommitOk {
    fn encode(self, to: &mut Encoder) {
        self.change.encode(to);
        to.fixed(&self.verifier);
    }
}
