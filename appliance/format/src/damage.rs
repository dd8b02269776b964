//! What can be wrong with bytes that came from a disk. Small and `Copy`: it travels inside errors.

/// Why a block or an item is not what its reference promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Not this kind of block at all.
    Magic { found: u64 },
    /// The checksum inside the block does not match its bytes.
    Checksum,
    /// The hash in the parent's reference does not match: lost, torn, misdirected or rotten.
    Hash,
    /// The block says it belongs elsewhere.
    Misdirected { claims: u64 },
    /// An older version of what should be here.
    Stale { found: u64 },
    /// A count or offset points outside its block; the field is named.
    Bounds(&'static str),
    /// Reserved bytes are not zero, or an enum has a value we do not know; the field is named.
    Value(&'static str),
    /// Keys are not in ascending order.
    Order,
    /// A data block does not match its CRC-32C.
    DataChecksum,
    /// A data block that is mapped has no CRC-32C.
    ChecksumMissing,
    /// An item that another item promises is absent; the kind is named.
    Missing(&'static str),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Damage::Magic { found } => write!(f, "unknown magic {found:#018x}"),
            Damage::Checksum => write!(f, "its own checksum does not match"),
            Damage::Hash => write!(f, "its parent's hash does not match"),
            Damage::Misdirected { claims } => write!(f, "it claims to be block {claims:#x}"),
            Damage::Stale { found } => write!(f, "an older generation ({found})"),
            Damage::Bounds(field) => write!(f, "{field} points outside its block"),
            Damage::Value(field) => write!(f, "{field} has an impossible value"),
            Damage::Order => write!(f, "keys out of order"),
            Damage::DataChecksum => write!(f, "the data's checksum does not match"),
            Damage::ChecksumMissing => write!(f, "mapped data without a checksum"),
            Damage::Missing(kind) => write!(f, "the {kind} it refers to is missing"),
        }
    }
}

impl std::error::Error for Damage {}
