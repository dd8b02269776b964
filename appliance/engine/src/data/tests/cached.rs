//! What is read ahead, waited for, and kept in memory.

use super::*;

const FILE_BLOCKS: usize = 1500;
const STEP: usize = 16;

/// A pool with one file that no memory has anything of.
fn with_cold_file() -> (MemDisk, Ticking, InodeNo, Vec<u8>) {
    let (disk, clock) = formatted();
    let mut content = vec![0; FILE_BLOCKS * BLOCK_BYTES];
    Prng::new(5).fill(&mut content);
    let bytes = &content;
    let ino = on_shard(&disk, &clock, |shard| async move {
        let ino = make_file(&shard, 0o644).await;
        for (n, piece) in bytes.chunks(1 << 20).enumerate() {
            let offset = (n << 20) as u64;
            let wrote =
                write(&shard, Cred::root(), ino, (offset, piece), Stability::Unstable).await;
            wrote.expect("there is room");
        }
        commit(&shard, ino).await.expect("the disk works");
        ino
    });
    disk.0.data_cache.set(64 << 20);
    (disk, clock, ino, content)
}

async fn read_step(shard: &TestShard, ino: InodeNo, block: usize) -> Result<Vec<u8>, FsError> {
    let len = (STEP * BLOCK_BYTES) as u32;
    let data = shard.read_data(&Cred::root(), ino, (block * BLOCK_BYTES) as u64, len).await?;
    Ok(data.to_vec())
}

/// Data blocks that the shard has read.
fn reads(shard: &TestShard) -> usize {
    shard.core.counters.data_blocks_read.get() as usize
}

#[test]
fn a_file_read_in_sequence_is_read_from_the_device_once_and_before_it_is_asked_for() {
    let (disk, clock, ino, content) = with_cold_file();
    disk.0.read_us.set(50);
    on_shard(&disk, &clock, |shard| async move {
        for block in (0..FILE_BLOCKS).step_by(STEP) {
            let end = (block + STEP).min(FILE_BLOCKS);
            let seen = read_step(&shard, ino, block).await.expect("readable");
            assert!(seen == content[block * BLOCK_BYTES..end * BLOCK_BYTES], "block {block}");
            shard.disk.wait(200).await;
            if block == 10 * STEP {
                assert!(reads(&shard) > end + 4 * STEP, "{} blocks", reads(&shard));
            }
        }
        assert_eq!(reads(&shard), FILE_BLOCKS, "each block once");
        assert!(read_all(&shard, ino).await == content);
        assert_eq!(reads(&shard), FILE_BLOCKS, "all of it is in memory");
    });
}

#[test]
fn readers_of_the_same_blocks_wait_for_one_read() {
    let (disk, clock, ino, content) = with_cold_file();
    disk.0.read_us.set(500);
    on_shard(&disk, &clock, |shard| async move {
        let one = |block| read_step(&shard, ino, block);
        let read = super::super::join::join(8, [32, 40].map(one)).await;
        for (seen, block) in read.into_iter().zip([32, 40]) {
            let part = block * BLOCK_BYTES..(block + STEP) * BLOCK_BYTES;
            assert!(seen.expect("readable") == content[part]);
        }
        assert_eq!(reads(&shard), 24, "blocks 32 to 56, each once");
    });
}

#[test]
fn a_rotten_block_ahead_is_an_error_for_those_who_ask_for_it_only() {
    let (disk, clock, ino, content) = with_cold_file();
    let rotten = 700;
    let needle = &content[rotten * BLOCK_BYTES..(rotten + 1) * BLOCK_BYTES];
    for bytes in disk.0.stable.borrow_mut().values_mut().filter(|bytes| bytes[..] == *needle) {
        bytes[17] ^= 1;
    }
    on_shard(&disk, &clock, |shard| async move {
        for block in (0..FILE_BLOCKS).step_by(STEP) {
            let has_it = (block..block + STEP).contains(&rotten);
            let end = (block + STEP).min(FILE_BLOCKS);
            match read_step(&shard, ino, block).await {
                Ok(seen) => {
                    assert!(!has_it && seen == content[block * BLOCK_BYTES..end * BLOCK_BYTES])
                }
                Err(error) => assert!(has_it, "block {block}: {error}"),
            }
        }
    });
}

#[test]
fn what_was_written_is_in_memory_until_its_blocks_are_free() {
    let (disk, clock) = formatted();
    disk.0.data_cache.set(64 << 20);
    on_shard(&disk, &clock, |shard| async move {
        let ino = make_file(&shard, 0o644).await;
        let bytes = vec![3; 1 << 20];
        let whole = (0, &bytes[..]);
        write(&shard, Cred::root(), ino, whole, Stability::FileSync).await.expect("room");
        assert_eq!((read_all(&shard, ino).await == bytes, reads(&shard)), (true, 0));
        assert_eq!(shard.core.data_cache.bytes(), 1 << 20);
        truncate(&shard, ino, 0).await;
        assert_eq!(shard.core.data_cache.bytes(), 0);
    });
}
