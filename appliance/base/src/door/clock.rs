//! Time, read once per turn of a reactor and handed down as an argument.

use crate::units::Nanos;

pub trait Clock: 'static {
    /// Never goes back while the process lives. Its zero means nothing.
    fn monotonic(&self) -> Nanos;

    /// Nanoseconds since 1970 as the machine believes; may jump either way, also by years.
    fn wall(&self) -> i64;
}
