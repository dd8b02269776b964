//! The blocks of a tablet's zones: which are free, which are promised, and when a freed one may be
//! used again.

mod acquire;
mod free;
mod holds;
mod reads;
mod repay;
mod runs;
mod zones;

pub use acquire::SPACE_TABLET;
pub use free::{Promise, Reservation, Space, SpaceChange};
pub use reads::{ReadGuard, Reads};
pub use runs::RunSet;
pub use zones::{find_wholly_free, zone_piece};
