//! The targets, and what they have in common: bytes in, a verdict out, a panic where a belief is
//! broken.

pub mod config;
pub mod control;
pub mod item;
pub mod log_batch;
pub mod mount_args;
pub mod nfs_args;
pub mod node;
pub mod rpc_record;
pub mod superblock;

use crate::specimen::Specimen;
use cairn_format::Damage;
use std::borrow::Cow;

/// What became of one input that broke no belief.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// And why, as a kind: values of the input are not in it.
    Refused(Cow<'static, str>),
}

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]) -> Verdict,
    /// How many values the first byte has; 0 where it is a byte like the others.
    pub modes: u8,
    /// Mutation makes no longer inputs.
    pub bytes_max: usize,
    /// What one input may hold on the heap at once.
    pub heap_max: usize,
    /// Sound inputs, made by the product's own writers.
    pub specimens: fn() -> Vec<Specimen>,
}

pub const TARGETS: &[Target] = &[
    superblock::TARGET,
    node::TARGET,
    log_batch::TARGET,
    rpc_record::TARGET,
    nfs_args::TARGET,
    mount_args::TARGET,
    control::TARGET,
    config::TARGET,
];

pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// What every target that opens a block by its first byte does with an empty input.
pub(crate) fn mode_of(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, &[]), |(mode, rest)| (*mode, rest))
}

/// `bytes`, and zeros up to a whole block of its kind.
pub(crate) fn filled(bytes: &[u8], block_bytes: usize) -> Vec<u8> {
    let mut block = bytes.to_vec();
    block.resize(block_bytes.max(bytes.len()), 0);
    block
}

/// A damage's kind and field, without the numbers it found.
pub(crate) fn kind_of(damage: Damage) -> Cow<'static, str> {
    match damage {
        Damage::Magic { .. } => "magic".into(),
        Damage::Misdirected { .. } => "misdirected".into(),
        Damage::Stale { .. } => "stale".into(),
        Damage::Bounds(field) => format!("bounds: {field}").into(),
        Damage::Value(field) => format!("value: {field}").into(),
        Damage::Missing(kind) => format!("missing: {kind}").into(),
        Damage::Checksum => "checksum".into(),
        Damage::Hash => "hash".into(),
        Damage::Order => "order".into(),
        Damage::DataChecksum | Damage::ChecksumMissing => "data checksum".into(),
    }
}

/// Whether `part` lies within `whole`, as a slice that was borrowed from it does.
pub(crate) fn is_within(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_names_of_their_own() {
        for target in TARGETS {
            let of_that_name = TARGETS.iter().filter(|other| other.name == target.name);
            assert_eq!(of_that_name.count(), 1, "{}", target.name);
        }
    }
}
