//! Reading and changing one kind of item through a view.

mod dirent;
mod inode;
mod orphan;
mod xattr;

pub use dirent::{Entry, NewEntry};
pub use inode::attr_of_item;
pub use xattr::{XattrPlace, check_xattr};
