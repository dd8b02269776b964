//! What system calls mean when a kernel turns them into NFS calls: names, links, errors, owners,
//! special files, listings that change while they are read.

use super::sample;
use super::world::{World, drop_caches, tool};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

/// Each odd name is made, listed as it is, renamed, found under the new name and removed.
pub fn names(world: &mut World) -> Result<String> {
    let home = world.home("names")?;
    let mut names: BTreeSet<OsString> =
        sample::ODD_NAMES.iter().map(|name| OsStr::from_bytes(name).to_owned()).collect();
    names.insert(sample::longest_name());
    for name in &names {
        fs::write(home.join(name), name.as_bytes()).with_context(|| format!("create {name:?}"))?;
    }
    drop_caches()?;
    ensure!(listed(&home)? == names, "listed {:?}, made {names:?}", listed(&home)?);
    for name in &names {
        let content = fs::read(home.join(name)).with_context(|| format!("read {name:?}"))?;
        ensure!(content == name.as_bytes(), "{name:?} has another's bytes");
        fs::rename(home.join(name), home.join("for a moment"))?;
        fs::rename(home.join("for a moment"), home.join(name))?;
        fs::remove_file(home.join(name)).with_context(|| format!("remove {name:?}"))?;
    }
    let too_long = home.join(OsStr::from_bytes(&[b'x'; 256]));
    // ErrorKind has no stable name for it on every toolchain; the number is Linux's ENAMETOOLONG.
    let refused = File::create(too_long).map(drop).map_err(|error| error.raw_os_error());
    ensure!(refused == Err(Some(36)), "a name of 256 bytes: {refused:?}");
    ensure!(listed(&home)?.is_empty(), "left over: {:?}", listed(&home)?);
    Ok(format!("{} names, the longest of 255 bytes", names.len()))
}

fn listed(folder: &Path) -> Result<BTreeSet<OsString>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    entries.collect()
}

fn refused<T>(what: &str, outcome: io::Result<T>, kind: ErrorKind) -> Result<()> {
    match outcome {
        Ok(_) => anyhow::bail!("{what} succeeded, and should fail with {kind:?}"),
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => anyhow::bail!("{what} failed with {error}, and should with {kind:?}"),
    }
}

/// Rules of POSIX that need more than one call to see.
pub fn calls(world: &mut World) -> Result<String> {
    let home = world.home("meaning")?;
    let at = |name: &str| home.join(name);

    // A file that is removed or replaced while open stays until it is closed.
    fs::write(at("open"), "still here")?;
    let mut open = OpenOptions::new().read(true).write(true).open(at("open"))?;
    fs::remove_file(at("open"))?;
    refused("open of a removed name", File::open(at("open")), ErrorKind::NotFound)?;
    open.write_all(b"STILL")?;
    open.seek(SeekFrom::Start(0))?;
    let mut text = String::new();
    open.read_to_string(&mut text)?;
    ensure!(text == "STILL here", "an unlinked open file reads {text:?}");
    fs::write(at("old"), "old")?;
    let mut replaced = File::open(at("old"))?;
    fs::write(at("new"), "new")?;
    fs::rename(at("new"), at("old"))?;
    text.clear();
    replaced.read_to_string(&mut text)?;
    ensure!(text == "old", "a replaced open file reads {text:?}");
    ensure!(fs::read_to_string(at("old"))? == "new", "the replacing file has other bytes");
    drop((open, replaced));
    let left = listed(&home)?;
    ensure!(left == BTreeSet::from(["old".into()]), "after closing, {left:?} is left");

    // Creation, folders, links.
    refused(
        "exclusive create of what is there",
        File::create_new(at("old")),
        ErrorKind::AlreadyExists,
    )?;
    fs::create_dir_all(at("a/b"))?;
    fs::create_dir(at("c"))?;
    refused("rmdir of a full folder", fs::remove_dir(at("a")), ErrorKind::DirectoryNotEmpty)?;
    refused(
        "rename onto a full folder",
        fs::rename(at("c"), at("a")),
        ErrorKind::DirectoryNotEmpty,
    )?;
    refused("rename into itself", fs::rename(at("a"), at("a/b/a")), ErrorKind::InvalidInput)?;
    refused(
        "rename of a file onto a folder",
        fs::rename(at("old"), at("c")),
        ErrorKind::IsADirectory,
    )?;
    refused(
        "rename of a folder onto a file",
        fs::rename(at("c"), at("old")),
        ErrorKind::NotADirectory,
    )?;
    refused("link to a folder", fs::hard_link(at("a"), at("d")), ErrorKind::PermissionDenied)?;
    refused("unlink of a folder", fs::remove_file(at("c")), ErrorKind::IsADirectory)?;
    fs::rename(at("a"), at("c/a"))?;
    fs::hard_link(at("old"), at("c/link"))?;
    ensure!(fs::metadata(at("old"))?.nlink() == 2, "a linked file has not two links");
    ensure!(
        fs::metadata(at("old"))?.ino() == fs::metadata(at("c/link"))?.ino(),
        "two inode numbers"
    );
    fs::rename(at("old"), at("c/link"))?; // two names of one file: nothing happens
    ensure!(at("old").exists(), "rename between two links of a file removed one");
    fs::remove_file(at("old"))?;
    drop_caches()?;
    ensure!(fs::metadata(at("c/link"))?.nlink() == 1, "an unlinked file has not one link");
    symlink("x".repeat(1_000), at("far"))?;
    drop_caches()?;
    ensure!(fs::read_link(at("far"))?.as_os_str().len() == 1_000, "a long link target is cut");

    // Appending by two, and the end of a file that moves.
    let (mut one, mut two) = (append(&at("log"))?, append(&at("log"))?);
    for turn in 0..50 {
        writeln!(if turn % 2 == 0 { &mut one } else { &mut two }, "{turn}")?;
    }
    let lines = fs::read_to_string(at("log"))?;
    ensure!(lines.lines().map(str::parse).eq((0..50).map(Ok::<u32, _>)), "appended: {lines:?}");
    one.set_len(3)?;
    one.set_len(6)?;
    ensure!(fs::read(at("log"))? == b"0\n1\0\0\0", "cut and grown: {:?}", fs::read(at("log"))?);

    let before = space(&home)?;
    ensure!(before.0 > 0 && before.1 <= before.0, "df says {before:?}");
    Ok("open after unlink, links, renames, appends, errors".to_owned())
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Total and free bytes, as df has them.
fn space(folder: &Path) -> Result<(u64, u64)> {
    let told = tool("df", &["--output=size,avail", "--block-size=1", "."], folder)?;
    let line = told.lines().nth(1).context("df without a second line")?;
    let mut numbers = line.split_whitespace().map(str::parse);
    let mut number = || numbers.next().context("df without a number")?.context("df");
    Ok((number()?, number()?))
}

pub fn special_files(world: &mut World) -> Result<String> {
    let home = world.home("special")?;
    tool("mkfifo", &["fifo"], &home)?;
    tool("mknod", &["null", "c", "1", "3"], &home)?;
    tool("mknod", &["disk", "b", "259", "7"], &home)?;
    let socket = UnixListener::bind(home.join("socket")).context("bind")?;
    drop_caches()?;
    let kind = |name: &str| fs::symlink_metadata(home.join(name)).map(|data| data.file_type());
    ensure!(
        kind("fifo")?.is_fifo() && kind("socket")?.is_socket(),
        "a fifo or socket changed its type"
    );
    ensure!(kind("null")?.is_char_device() && kind("disk")?.is_block_device(), "a device changed");
    ensure!(
        fs::metadata(home.join("disk"))?.rdev() == (259 << 8 | 7),
        "a device has another number"
    );
    UnixStream::connect(home.join("socket")).context("connect")?;
    drop(socket);
    let told = tool("sh", &["-c", "echo through >fifo & cat fifo; wait"], &home)?;
    ensure!(told == "through\n", "through the fifo came {told:?}");
    fs::write(home.join("null"), "nothing")?;
    ensure!(fs::read(home.join("null"))?.is_empty(), "the null device gave bytes");
    for name in ["fifo", "null", "disk", "socket"] {
        fs::remove_file(home.join(name))?;
    }
    Ok("fifo, devices, socket".to_owned())
}

/// One user's shell line in a folder; its exit says whether it was allowed.
struct Rule {
    user: &'static str,
    groups: &'static str,
    line: &'static str,
    allowed: bool,
}

const fn may(user: &'static str, line: &'static str) -> Rule {
    Rule { user, groups: "--clear-groups", line, allowed: true }
}

const fn may_not(user: &'static str, line: &'static str) -> Rule {
    Rule { user, groups: "--clear-groups", line, allowed: false }
}

/// In order: some use what earlier ones made.
const RULES: &[Rule] = &[
    may("1000", "echo mine > open/mine && chmod 600 open/mine"),
    may("1000", "cat open/mine"),
    may_not("2000", "cat open/mine"),
    may_not("2000", "echo more >> open/mine"),
    may_not("2000", "rm -f open/mine"), // sticky
    may_not("2000", "mv open/mine open/yours"),
    may_not("2000", "chmod 666 open/mine"),
    may_not("1000", "chown 2000 open/mine"),
    may_not("1000", "echo x > closed/new"),
    may_not("1000", "ls closed"),
    may_not("1000", "cat closed/secret"),
    may("1000", "cat passage/known"), // may pass, may not list
    may_not("1000", "ls passage"),
    may_not("1000", "cat group/file"),
    Rule { user: "1000", groups: "--groups=3000", line: "cat group/file", allowed: true },
    Rule { user: "1000", groups: "--groups=3000", line: "echo x >> group/file", allowed: false },
    may("1000", "echo x > inherit/file && test \"$(stat -c %g inherit/file)\" = 3000"),
    may("1000", "mkdir inherit/folder && test -g inherit/folder"),
    may(
        "1000",
        "cp /bin/true open/set && chmod 4755 open/set && echo x >> open/set && test ! -u open/set",
    ),
    may("2000", "touch open/yours && rm open/yours"),
    may_not("2000", "touch -d 2001-01-01 open/mine"),
    may("1000", "touch -d 2001-01-01 open/mine && rm open/mine"),
];

pub fn users(world: &mut World) -> Result<String> {
    let home = world.home("users")?;
    let folders = [
        ("open", 0o1777, 0),
        ("closed", 0o700, 0),
        ("passage", 0o711, 0),
        ("group", 0o755, 3000),
        ("inherit", 0o2777, 3000),
    ];
    for (name, mode, group) in folders {
        fs::create_dir(home.join(name))?;
        chown(home.join(name), None, Some(group))?;
        fs::set_permissions(home.join(name), Permissions::from_mode(mode))?;
    }
    for (path, mode) in [("closed/secret", 0o644), ("passage/known", 0o644), ("group/file", 0o640)]
    {
        fs::write(home.join(path), "bytes")?;
        fs::set_permissions(home.join(path), Permissions::from_mode(mode))?;
    }
    chown(home.join("group/file"), None, Some(3000))?;
    // The temporary folder above the mount is root's alone; users enter by their working folder.
    for rule in RULES {
        let mut shell = Command::new("setpriv");
        shell.args([
            &format!("--reuid={}", rule.user),
            &format!("--regid={}", rule.user),
            rule.groups,
        ]);
        shell.args(["sh", "-c", rule.line]).current_dir(&home);
        let finished = crate::program::finish(shell)?;
        ensure!(
            finished.status.success() == rule.allowed,
            "user {} {}: `{}` should be {}: {}",
            rule.user,
            rule.groups,
            rule.line,
            if rule.allowed { "allowed" } else { "refused" },
            finished.stderr.trim()
        );
    }
    Ok(format!("{} lines of three users and a group", RULES.len()))
}

/// A large folder: listed whole, emptied while it is listed, then gone.
pub fn listing(world: &mut World) -> Result<String> {
    let home = world.home("listing")?;
    let count = world.amount(400, 4_000);
    let names: BTreeSet<OsString> =
        (0..count).map(|number| format!("entry-{number:06}").into()).collect();
    for name in &names {
        File::create(home.join(name))?;
    }
    drop_caches()?;
    let entries: Vec<OsString> =
        fs::read_dir(&home)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    ensure!(entries.len() == count, "{} entries listed of {count}", entries.len());
    ensure!(entries.into_iter().collect::<BTreeSet<_>>() == names, "other names were listed");
    // What is not touched meanwhile is listed exactly once.
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(&home)? {
        let name = entry?.file_name();
        ensure!(seen.insert(name.clone()), "{name:?} was listed twice");
        if seen.len().is_multiple_of(2) {
            fs::remove_file(home.join(&name)).with_context(|| format!("remove {name:?}"))?;
        }
    }
    ensure!(seen == names, "{} of {count} listed while every other was removed", seen.len());
    drop_caches()?;
    let left = listed(&home)?.len();
    ensure!(left == count.div_ceil(2), "{left} are left");
    fs::remove_dir_all(&home).context("remove the folder and what is in it")?;
    ensure!(!home.exists(), "a removed folder is there");
    Ok(format!("{count} entries"))
}
