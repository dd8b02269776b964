//! The largest of everything that a client is told or held to, where the engine does not say it
//! (`cairn_engine::limits`). What a connection may have open is `cairn_net::server::ConnectionLimits`.

use cairn_base::BLOCK_BYTES;
use cairn_engine::limits;

/// Bytes of one READ or WRITE, and the size we prefer: a call costs the same whatever it carries.
pub const IO_BYTES_MAX: u32 = limits::IO_BYTES_MAX as u32;

/// What a READ or WRITE should be a multiple of.
pub const IO_MULTIPLE: u32 = BLOCK_BYTES as u32;

/// The size of a listing we prefer: about 400 entries with attributes and handles.
pub const READDIR_PREFERRED: u32 = 64 << 10;

/// No listing is larger, whatever the client has room for.
pub const READDIR_BYTES_MAX: u32 = 1 << 20;

/// Entries asked of the engine at once. Between two such batches other calls get their turn.
pub const READDIR_BATCH: usize = 1024;

/// How far above a directory its export's root is looked for when a client asks for `..`. Deeper ones
/// cannot be left upwards through an export that is a part of the pool.
pub const ANCESTORS_MAX: usize = 4096;

const _: () = assert!(READDIR_BATCH <= limits::LISTING_ENTRIES_MAX);
