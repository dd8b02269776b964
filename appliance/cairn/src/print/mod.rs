//! Showing a pool's bytes as `cairn_format` reads them, block by block. There is no second parser,
//! and no engine: what cannot be opened can still be looked at.

mod item;
mod logs;
mod pool;
mod record;
mod trees;

pub use logs::logs;
pub use pool::PoolBytes;
pub use record::{Printed, Sink};
pub use trees::{Depth, roots, trees};

use cairn_format::Damage;
use cairn_base::BlockNo;

/// Something that could not be shown, and why; printing goes on behind it.
pub fn damaged(block: BlockNo, damage: Damage) -> Printed {
    Printed::Damage { block: block.to_string(), damage: damage.to_string() }
}
