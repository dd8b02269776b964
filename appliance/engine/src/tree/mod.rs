//! B-trees of immutable nodes: reading one, walking one, and packing sorted items into one.
//!
//! Nobody changes a node in place. Log trees are packed once, from a memtable
//! or from other log trees (`merge.rs`, `grow.rs`); the fs tree grows new
//! nodes beside the old ones (`fold.rs`) and gets a new root. That is why readers need no locks, and
//! only a promise that blocks of old nodes are not reused under them (`space/`).

mod cursor;
mod fold;
mod grow;
mod lookup;
mod merge;
mod pack;

pub use cursor::{Cursor, Stream};
pub use fold::{Fold, FoldBounds, fold_nodes_min};
pub use grow::{Growing, OutOfPlaces, Packing};
pub use lookup::{Hit, get, leads_to};
pub use merge::{Inputs, Unread};
pub use pack::{Built, Item, NodePlaces, pack_tree, write_nodes};
