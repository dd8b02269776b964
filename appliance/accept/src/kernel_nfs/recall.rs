//! Offline data: programs on the mount wait, and succeed when it is brought back.
//!
//! The kernel's client asks again every few seconds (its jukebox delay) and the program's call just takes longer.

use super::world::{TOOL_LIMIT, World, drop_caches};
use crate::clock::{eventually, pause};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

const BYTES: usize = 3 << 20;
/// So long a reader waits before anything is brought back.
const WAIT: Duration = Duration::from_secs(3);

pub fn recall(world: &mut World) -> Result<String> {
    let (home, local) = (world.home("recall")?, world.local("recall")?);
    let bytes: Vec<u8> = (0..BYTES).map(|n| (n / 5 + n / 4096) as u8 | 1).collect();
    let (file, copy) = (home.join("file"), local.join("copy"));
    for path in [&file, &copy] {
        fs::write(path, &bytes)?;
    }
    let run = |world: &World, arguments: &[&str]| -> Result<String> {
        world.daemon.command(arguments)?.succeeded(arguments[0])
    };
    // What the kernel keeps back comes to the daemon, and what it knows is forgotten.
    drop_caches()?;
    let version = run(world, &["stat", "/recall/file", "-s", "data_version"])?;
    let version = version.trim();
    run(world, &["release", "/recall/file", "-V", version])?;
    drop_caches()?;

    // A program of its own: a process that waits for a mount cannot do much else.
    let mut reader = Command::new("cmp").args([&file, &copy]).stdout(Stdio::null()).spawn()?;
    let mut writer = Command::new("dd")
        .args(["if=/dev/zero", "bs=5000", "count=1", "conv=notrunc,fsync"])
        .arg(format!("of={}", home.join("file").display()))
        .args(["seek=100", "status=none"])
        .stdin(Stdio::null())
        .spawn()?;
    let waiting = || run(world, &["data-waiting"]).ok().filter(|list| list.contains(" read "));
    let listed = eventually(TOOL_LIMIT, waiting).context("no reader is listed")?;
    pause(WAIT);
    ensure!(reader.try_wait()?.is_none(), "the reader did not wait");
    ensure!(writer.try_wait()?.is_none(), "the writer did not wait");
    let copy = copy.to_str().context("a path in UTF-8")?;
    run(world, &["stage", copy, "/recall/file", "-V", version])?;
    for (name, child) in [("reader", &mut reader), ("writer", &mut writer)] {
        let ended = eventually(TOOL_LIMIT, || child.try_wait().transpose());
        let ended = ended.with_context(|| format!("the {name} still waits"))??;
        // What the writer wrote the reader may have met.
        if !ended.success() && name == "writer" {
            bail!("the {name} ended with {ended}");
        }
    }
    let mut expected = bytes;
    expected[500_000..505_000].fill(0);
    drop_caches()?;
    ensure!(fs::read(&file)? == expected, "the file has other bytes");
    let left = run(world, &["data-waiting"])?;
    ensure!(!left.contains(" read "), "still listed: {left}");
    Ok(format!("a reader and a writer waited and succeeded; {} waiters", listed.lines().count()))
}
