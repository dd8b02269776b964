//! The listings of READDIR and READDIRPLUS (RFC 1813, sections 3.3.16 and 3.3.17), written entry by
//! entry until the client's limits are reached.
//!
//! `count` and `maxcount` are hard: they bound the whole of the result behind its status, with all
//! XDR overhead, and a client may have no more room than that. `dircount` bounds only the parts that
//! READDIR would have sent too; it is a wish about how much to look up, so the first entry is
//! exempt. A list that is not at its end and has no entry would make the client ask the same again for
//! ever: it becomes TOOSMALL.

use crate::wire::args::Handle;
use crate::wire::attr::PostOpAttributes;
use crate::wire::result::{Encode, Failure, ReaddirFailure};
use crate::wire::{NfsStat, Verifier};
use cairn_net::xdr::{Encoder, Mark, UNIT_BYTES, opaque_bytes};

/// "No more entries", and whether the directory ends here.
const TAIL_BYTES: usize = 2 * UNIT_BYTES;

/// entry3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub fileid: u64,
    pub name: &'a [u8],
    /// Resumes behind this entry.
    pub cookie: u64,
}

impl Entry<'_> {
    /// With the word that says there is one.
    pub fn bytes(&self) -> usize {
        UNIT_BYTES + 8 + opaque_bytes(self.name.len()) + 8
    }

    fn encode(&self, to: &mut Encoder) {
        let name_bytes = u32::try_from(self.name.len()).expect("a name is at most 255 bytes");
        let mut head = [0; 4 * UNIT_BYTES];
        head[..4].copy_from_slice(&1_u32.to_be_bytes()); // there is one
        head[4..12].copy_from_slice(&self.fileid.to_be_bytes());
        head[12..].copy_from_slice(&name_bytes.to_be_bytes());
        to.fixed(&head);
        to.fixed(self.name);
        to.u64(self.cookie);
    }
}

/// What READDIRPLUS adds to an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryPlus<'a> {
    pub attributes: PostOpAttributes,
    pub handle: Option<Handle<'a>>,
}

/// Bytes that a listing may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirLimits {
    /// READDIR's `count`, READDIRPLUS's `maxcount`.
    pub whole_bytes: usize,
    /// READDIRPLUS's `dircount`.
    pub names_bytes: usize,
}

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Added,
    /// Not added: finish the list without it.
    Full,
}

/// A listing in the making.
#[derive(Debug)]
pub struct DirList<'e> {
    to: &'e mut Encoder,
    begin: Mark,
    /// What the encoder's length may become.
    end_max: usize,
    names_left: usize,
    is_empty: bool,
    attributes: PostOpAttributes,
}

impl<'e> DirList<'e> {
    /// Writes the status and what stands in front of the entries.
    pub fn begin(
        to: &'e mut Encoder,
        attributes: PostOpAttributes,
        verifier: Verifier,
        limits: DirLimits,
    ) -> Self {
        let begin = to.mark();
        to.u32(NfsStat::Ok.number());
        let end_max = to.len().saturating_add(limits.whole_bytes);
        attributes.encode(to);
        to.fixed(&verifier);
        let names_left = limits.names_bytes;
        DirList { to, begin, end_max, names_left, is_empty: true, attributes }
    }

    pub fn add(&mut self, entry: &Entry<'_>) -> Fit {
        self.try_add(entry, |_| {})
    }

    pub fn add_plus(&mut self, entry: &Entry<'_>, plus: EntryPlus<'_>) -> Fit {
        self.try_add(entry, |to| {
            plus.attributes.encode(to);
            plus.handle.encode(to);
        })
    }

    /// Ends the list; `eof` says that the directory has nothing behind its last entry. On failure
    /// nothing of the list remains in the encoder.
    pub fn finish(self, eof: bool) -> Result<(), ReaddirFailure> {
        let fits = self.to.len() + TAIL_BYTES <= self.end_max;
        if !fits || (self.is_empty && !eof) {
            self.to.rewind(self.begin);
            return Err(Failure { stat: NfsStat::TooSmall, body: self.attributes });
        }
        self.to.bool(false);
        self.to.bool(eof);
        Ok(())
    }

    fn try_add(&mut self, entry: &Entry<'_>, plus: impl FnOnce(&mut Encoder)) -> Fit {
        let names_bytes = entry.bytes();
        if names_bytes > self.names_left && !self.is_empty {
            return Fit::Full;
        }
        let before = self.to.mark();
        entry.encode(self.to);
        plus(self.to);
        if self.to.len() + TAIL_BYTES > self.end_max {
            self.to.rewind(before);
            return Fit::Full;
        }
        self.names_left = self.names_left.saturating_sub(names_bytes);
        self.is_empty = false;
        Fit::Added
    }
}
