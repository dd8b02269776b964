//! The largest number of everything, each with where it comes from. What happens at the limit is
//! said where the limit is used.

/// Node allocations, filters included, are multiples of this many blocks, so that the space for
/// nodes can never splinter into pieces too small for one.
pub const NODE_UNIT: u64 = cairn_format::node::NODE_BLOCKS;

/// A tablet with more log trees than this merges some, or folds its oldest one.
pub const LOG_TREES_FOLD: usize = 4;
/// A tablet with this many log trees takes no more freezes before a merge or fold has ended; the format
/// has room for 12.
pub const LOG_TREES_STOP: usize = 10;

/// A fold pays when the log tree is this part of the fs tree.
pub const FOLD_SHARE: u64 = 8;
/// A log tree of so many nodes with that share folds at once.
pub const FOLD_NODES_EAGER: u64 = 64;

/// Merges of one tablet that may be under way at once: a long one of old trees, and one of those that
/// come meanwhile.
pub const MERGES_TABLET_MAX: usize = 2;
/// Merges of one shard. Each holds a path of nodes for each of its trees.
pub const MERGES_MAX: usize = 4;
/// Trees that must be there for a merge beside another, or beside a fold.
pub const MERGE_BESIDE_MIN: usize = 3;
/// How many nodes the tree of a merge may have more than those it is made of: each level may end with a
/// thin node, and one more level may be needed.
pub const MERGE_NODES_SPARE: u64 = 8;
/// Pieces that the old blocks of a merge, and its new ones, may lie in: both lists go into one record
/// (`RECORD_BYTES_MAX`), and as free runs into the memtable.
pub const MERGE_RUNS_MAX: usize = 1024;
pub const MERGE_RUNS_MIN: usize = 32;
/// Bytes of a record for each run that it takes or frees, at most.
pub const RUN_EDIT_BYTES: usize = 160;
/// A tablet whose filters are more than this part of the shard's budget for them merges no more: it folds.
pub const MERGE_FILTERS_PART: usize = 4;

const _: () = assert!(2 * MERGE_RUNS_MAX * RUN_EDIT_BYTES + 4096 <= RECORD_BYTES_MAX);

/// Most leaves of the fs tree that one fold step may rewrite, or a merge step write. With the path above them a step writes at
/// most `FOLD_STEP_NODES` nodes; the reserve of each tablet holds that many.
pub const FOLD_STEP_LEAVES: usize = 16;
pub const FOLD_STEP_NODES: u64 = 64;
/// Nodes of a tablet beside these that only operations which free space may come to owe.
pub const FREEING_NODES: u64 = 32;
/// The part of a pool's blocks that only folds, and who frees space, may take zones of; one zone at least
/// and no more than 16 GiB.
pub const ZONES_KEPT_PART: u64 = 32;
pub const ZONES_KEPT_BLOCKS_MAX: u64 = 4 << 20;

/// Adjoining data zones that a tablet gets at once, at most, and how many blocks they may be; a zone may be
/// larger than that.
pub const ZONES_AT_ONCE_MAX: u64 = 16;
pub const ZONES_AT_ONCE_BLOCKS: u64 = (64 << 20) / cairn_base::BLOCK_BYTES as u64;
/// A tablet that asks again so soon gets more at once.
pub const ZONES_STREAM_MS: u64 = 1_000;

/// Records that are logged between two steps of folds and merges, at most (`log/pace.rs`).
pub const STEP_RECORDS_MAX: u64 = 16;

/// Bytes of items that one node is sure to take: 16 KiB less the header and one largest item.
pub const NODE_FILL_MIN: usize = 11_000;

/// One record's bytes; an operation that would exceed it works in steps.
pub const RECORD_BYTES_MAX: usize = 512 << 10;
/// A batch is sealed when it has grown to this.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Log writes in flight at once, where a write can be durable by itself.
pub const LOG_WRITES_MAX: usize = 4;
/// How far ahead of the clock the logged seq ceiling is kept, in microseconds.
pub const CEILING_AHEAD_US: u64 = 60_000_000;
/// A log that has been idle this long writes one empty batch to carry its last mark.
pub const LOG_IDLE_MS: u64 = 20;

/// Memtables no larger than this are copied to the log's head rather than frozen when they hold the
/// tail back.
pub const RELOG_BYTES_MAX: usize = 32 << 10;

/// One shard's memtables, when nothing else is configured.
pub const MEMTABLE_BYTES_DEFAULT: usize = 64 << 20;
/// The least memtable budget of a shard, and what each of its tablets adds to it: a freeze leaves its
/// own free-run edits in the next memtable, and a budget full of those would freeze for ever.
pub const MEMTABLE_BYTES_MIN: usize = 64 << 10;
pub const MEMTABLE_TABLET_BYTES: usize = 1 << 10;
/// One shard's node cache.
pub const CACHE_BYTES_DEFAULT: usize = 256 << 20;

/// One shard's cache of file data, when nothing else is configured.
pub const DATA_CACHE_BYTES_DEFAULT: usize = 256 << 20;

/// Filters of one shard's log trees in memory, when nothing else is configured; what is dropped is read
/// again.
pub const FILTER_BYTES_DEFAULT: usize = 64 << 20;

/// The least budget of filters beside an eighth of the memtables' one: an operation over two tablets
/// holds all filters of both at once, or it would read them again for ever.
pub const FILTER_BYTES_MIN: usize = 1 << 20;

/// Buffered, unwritten file data of one shard, when nothing else is configured; writers wait above it.
pub const DIRTY_BYTES_DEFAULT: usize = 256 << 20;
/// Write-back begins by itself above this part of it
pub const DIRTY_START_PART: usize = 4;
/// and after this long.
pub const DIRTY_AGE_MS: u64 = 3_000;

/// Synchronous writes up to this many bytes go through the log as inline extents.
pub const INLINE_WRITE_BYTES_MAX: usize = 32 << 10;
/// Files up to this size keep their bytes inline for good.
pub const INLINE_FILE_BYTES_MAX: u64 = 2 << 10;

/// An extent never crosses an aligned file MiB, so the one that covers a block begins at most this
/// many blocks before it (docs/decisions/0005-extents-within-a-mib.md).
pub const EXTENT_BLOCKS_MAX: u64 = 256;

/// The largest file: byte offsets stay positive in every protocol.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;
/// The largest file that is restored offline: an extent for each MiB, about 1 GiB of items.
pub const RESTORE_BYTES_MAX: u64 = 16 << 40;
/// Bytes of one READ or WRITE.
pub const IO_BYTES_MAX: usize = 1 << 20;

pub const LINKS_MAX: u32 = i32::MAX as u32;
pub const SYMLINK_BYTES_MAX: usize = 4095;
pub const XATTR_VALUE_BYTES_MAX: usize = 65_535;
/// Items that one page of a listing of names looks at, parts of large values among them.
pub const XATTR_SCAN_ITEMS: usize = 512;
/// Items of xattrs that one step of a deletion removes; a value has up to 17, and the last one goes whole.
pub const XATTR_REMOVE_ITEMS: usize = 256;

/// Inode numbers handed out ahead of the logged high-water mark.
pub const INODES_AHEAD: u64 = 1024;

/// The first entry position of a directory: 1 and 2 stand for `.` and `..` in a listing.
pub const POSITION_FIRST: u64 = 3;

/// Extents removed by one step of a truncation or a deletion.
pub const REMOVE_STEP_ITEMS: usize = 512;

/// Entries of one answer to a listing or an index walk.
pub const LISTING_ENTRIES_MAX: usize = 4096;

/// Named consumers of the change stream. Each step of trimming reads all their cursors: 75 KiB at most.
pub const CONSUMERS_MAX: usize = 256;

/// A deletion that all consumers have passed is kept so long, for readers who keep their place themselves.
pub const DELETION_AGE: cairn_base::Nanos = cairn_base::Nanos::from_secs(30 * 24 * 60 * 60);
/// Deletions that a tablet keeps at most: a hundred seconds of removals at their fastest, some 100 MB.
pub const DELETIONS_TABLET_MAX: u64 = 1_000_000;
/// Of a small pool the deletions of all tablets together may take this part, at so many bytes each: a head of
/// 22 bytes, a name, a key, and room in the node. A tablet may keep some in any case.
pub const DELETIONS_POOL_PART: u64 = 16;
pub const DELETION_ENTRY_BYTES: u64 = 128;
pub const DELETIONS_TABLET_MIN: u64 = 1024;
/// Of a tablet's bound: with more, whoever holds them back is named.
pub const DELETIONS_ALARM_PERCENT: u64 = 75;
/// How often each tablet is looked at for what can be trimmed.
pub const TRIM_ROUND: cairn_base::Nanos = cairn_base::Nanos::from_secs(10);

/// Free-run items loaded by one step of a tablet's allocator.
pub const FREE_RUNS_LOAD: usize = 1024;

/// Answers a shard keeps for calls that are repeated, when nothing else is configured, and for how long. Clients repeat a call after
/// one minute on a silent connection, at once on a new one.
pub const ANSWERS_DEFAULT: usize = 1 << 15;
pub const ANSWER_AGE_MAX: cairn_base::Nanos = cairn_base::Nanos::from_secs(120);

/// Clients that wait for offline data, on one shard, when nothing else is configured.
pub const WAITERS_DEFAULT: usize = 1 << 20;

/// Requests a shard may have open at one peer.
pub const PEER_OPEN_MAX: usize = 128;
/// Of these, those for what makes room. A shard looks for one zone at a time, and gives zones back for
/// each peer that looks for one.
pub const PEER_OPEN_KEPT: usize = 8;
