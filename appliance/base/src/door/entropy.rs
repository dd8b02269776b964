//! Bytes nobody can guess: keys made at format, and nothing on a hot path.

pub trait Entropy: 'static {
    fn fill(&self, bytes: &mut [u8]);
}
