//! Programs that are hard on a file system, and that can tell afterwards whether it kept its word:
//! git, SQLite, fio.

use super::world::{World, drop_caches, tool};
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// A clone, a commit in it, in the long run a repack; git's own check, warm and cold.
pub fn git(world: &mut World) -> Result<String> {
    let (origin, home) = (world.local("git")?, world.home("git")?);
    let commits = world.amount(2, 12);
    tool("git", &["init", "--quiet", "-b", "main", "."], &origin)?;
    for commit in 0..commits {
        for file in 0..12 {
            let path = origin.join(format!("{}/file-{file}.txt", commit % 3));
            std::fs::create_dir_all(path.parent().context("a path with a folder")?)?;
            std::fs::write(&path, format!("line {commit} of {file}\n").repeat(50 + 40 * file))?;
        }
        tool("git", &["add", "--all"], &origin)?;
        tool("git", &["commit", "--quiet", "-m", &format!("commit {commit}")], &origin)?;
    }
    let from = origin.to_str().context("a path that is text")?;
    tool("git", &["clone", "--quiet", "--no-hardlinks", from, "clone"], &home)?;
    let clone = home.join("clone");
    is_sound(&clone)?;
    std::fs::write(clone.join("0/file-0.txt"), "changed\n")?;
    tool("git", &["mv", "1/file-1.txt", "moved.txt"], &clone)?;
    tool("git", &["commit", "--quiet", "--all", "-m", "on the mount"], &clone)?;
    if !world.slice {
        tool("git", &["gc", "--quiet", "--prune=now"], &clone)?;
    }
    drop_caches()?;
    is_sound(&clone)?;
    let count = tool("git", &["rev-list", "--count", "HEAD"], &clone)?;
    ensure!(count.trim() == (commits + 1).to_string(), "git counts {count} commits");
    Ok(format!("clone of {commits} commits, a commit, fsck"))
}

fn is_sound(clone: &Path) -> Result<()> {
    tool("git", &["fsck", "--strict", "--full"], clone)?;
    let changed = tool("git", &["status", "--porcelain"], clone)?;
    ensure!(changed.is_empty(), "git sees changes in a clean tree:\n{changed}");
    Ok(())
}

pub fn sqlite(world: &mut World) -> Result<String> {
    transactions(world, "sqlite", "DELETE")
}

/// The index of this journal is shared memory: a file of the mount, mapped.
pub fn sqlite_wal(world: &mut World) -> Result<String> {
    transactions(world, "sqlite-wal", "WAL")
}

fn transactions(world: &World, step: &str, journal: &str) -> Result<String> {
    let (home, local) = (world.home(step)?, world.local(step)?);
    let count: u64 = world.amount(40, 500);
    let mut script = format!("PRAGMA journal_mode={journal};\nPRAGMA synchronous=FULL;\n");
    script += "CREATE TABLE entry (number INTEGER PRIMARY KEY, text TEXT, bytes BLOB);\n";
    script += "CREATE INDEX by_text ON entry (text);\n";
    for number in 0..count {
        script += "BEGIN;\n";
        for row in 0..4 {
            let key = number * 4 + row;
            script += &format!(
                "INSERT INTO entry VALUES ({key}, 'row {key}', zeroblob({}));\n",
                key % 700
            );
        }
        if number % 5 == 4 {
            script += &format!("DELETE FROM entry WHERE number = {};\n", (number - 4) * 4);
        }
        script += if number % 7 == 6 { "ROLLBACK;\n" } else { "COMMIT;\n" };
    }
    let path = local.join("script.sql");
    std::fs::write(&path, &script)?;
    let read = format!(".read {}", path.display());
    tool("sqlite3", &["-bail", "database", &read], &home)?;
    // The same script on the local disk says what must be in it.
    tool("sqlite3", &["-bail", "database", &read], &local)?;
    drop_caches()?;
    let sound = tool("sqlite3", &["database", "PRAGMA integrity_check;"], &home)?;
    ensure!(sound.trim() == "ok", "integrity_check: {sound}");
    let question =
        "SELECT count(*), sum(number), sum(length(bytes)), min(text), max(text) FROM entry;";
    let answers = [&home, &local].map(|folder| tool("sqlite3", &["database", question], folder));
    let [there, here] = answers;
    let (there, here) = (there?, here?);
    ensure!(there == here, "the database has {there} and should have {here}");
    Ok(format!("{count} transactions in mode {journal}, {}", there.trim()))
}

pub fn fio_direct(world: &mut World) -> Result<String> {
    let words = ["--direct=1", "--ioengine=libaio", "--iodepth=8", "--bsrange=4k-64k"];
    fio(world, "fio-direct", &words)
}

pub fn fio_buffered(world: &mut World) -> Result<String> {
    // Odd sizes and offsets: the client must read before it writes, or remember pieces of pages.
    let words =
        ["--direct=0", "--ioengine=psync", "--fsync=64", "--bsrange=512-40k", "--bs_unaligned=1"];
    fio(world, "fio-buffered", &words)
}

pub fn fio_mmap(world: &mut World) -> Result<String> {
    fio(world, "fio-mmap", &["--ioengine=mmap", "--fsync=128", "--bs=4k"])
}

/// Random writes over a file, then every block read back and compared with its checksum.
fn fio(world: &World, step: &str, words: &[&str]) -> Result<String> {
    let home = world.home(step)?;
    let mib = world.amount(4, 48);
    let size = format!("--size={mib}M");
    let seed = format!("--randseed={}", world.seed);
    let fixed = [
        "--name=verify",
        "--filename=data",
        "--rw=randwrite",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        "--invalidate=1",
        "--fallocate=none",
        "--output-format=terse",
        &size,
        &seed,
    ];
    tool("fio", &[&fixed[..], words].concat(), &home)?;
    // fio cannot verify again what it wrote unaligned, on any file system. Equal bytes will do.
    let content = || std::fs::read(home.join("data")).map(|bytes| blake3::hash(&bytes));
    let cached = content()?;
    drop_caches()?;
    ensure!(content()? == cached, "the server's bytes differ from those in the client's cache");
    Ok(format!("{mib} MiB"))
}
