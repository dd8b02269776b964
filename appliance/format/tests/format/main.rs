//! What the format promises, asked from outside: the same bytes as ever, every damage noticed, and
//! each block and record read as it was written.

mod damage;
mod filter;
mod golden;
mod item;
mod node;
mod pool;
mod record;
mod sample;
