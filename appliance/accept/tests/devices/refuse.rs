//! What `format` leaves alone, and says why: with the device, what is on it, the errno, the way out.

use crate::{MIB, disk, refused, run, skipped, succeeds};
use cairn_accept::{Daemon, LoopDisk, Setup, skip_without, tool};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A boot sector with one partition that begins at 1 MiB (type 0x83, to the end).
fn partition(image: &Path, mib: u64) {
    let mut sector = [0; 512];
    let sectors = u32::try_from((mib - 1) * MIB / 512).unwrap();
    sector[446 + 4] = 0x83;
    sector[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    sector[446 + 12..446 + 16].copy_from_slice(&sectors.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    OpenOptions::new().write(true).open(image).unwrap().write_all_at(&sector, 0).unwrap();
}

fn front(image: &Path) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    File::open(image).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A device with one partition, which the kernel is told of: some kernels read no DOS tables.
fn with_partitions(mib: u64) -> LoopDisk {
    let disk = LoopDisk::attach(mib * MIB, &["--partscan"]).expect("a loop device");
    partition(disk.image(), mib);
    let sectors = ((mib - 1) * MIB / 512).to_string();
    let added = tool("addpart", &[disk.text(), "1", "2048", &sectors]);
    let there = Path::new(&format!("{}p1", disk.text())).exists();
    assert!(there, "the kernel has no partition: {added:?}");
    disk
}

#[test]
fn a_partition_table_and_partitions_are_left_alone_until_forced() {
    let test = "format_refuses_partitions";
    if skipped(test) || skip_without(test, "addpart", "util-linux") {
        return;
    }
    let disk = with_partitions(256);
    let before = front(disk.image());
    let name = format!("{}p1", disk.text().trim_start_matches("/dev/"));
    refused(&["format", "--meta", disk.text()], &[disk.text(), "DOS", &name, "--force", "EEXIST"]);
    assert_eq!(front(disk.image()), before, "what was refused was changed all the same");
    succeeds(&["format", "--meta", disk.text(), "--force"]);
    succeeds(&["check", "--meta", disk.text()]);
}

#[test]
fn what_is_mounted_itself_or_in_part_is_refused_even_when_forced() {
    let test = "format_refuses_mounted";
    if skipped(test)
        || skip_without(test, "mkfs.ext4", "e2fsprogs")
        || skip_without(test, "addpart", "util-linux")
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let whole = disk(256);
    let partitioned = with_partitions(256);
    let part = format!("{}p1", partitioned.text());
    for (mounted, named) in [(whole.text(), whole.text()), (&part, partitioned.text())] {
        tool("mkfs.ext4", &["-q", mounted]).unwrap();
        tool("mount", &["-t", "ext4", mounted, place]).unwrap();
        for more in [&[][..], &["--force"]] {
            let arguments = [&["format", "--meta", named], more].concat();
            let finished = run(&arguments);
            let stderr = finished.stderr.clone();
            let words = [named, "mounted at", place, "unmount", "EBUSY"];
            let missing: Vec<_> = words.iter().filter(|word| !stderr.contains(**word)).collect();
            if finished.status.code() != Some(1) || !missing.is_empty() {
                tool("umount", &[place]).unwrap();
                panic!("{arguments:?}: no {missing:?} in {stderr}");
            }
        }
        tool("umount", &[place]).unwrap();
        // Not mounted any more, it is only a file system.
        refused(&["format", "--meta", mounted], &["ext4", "--force", "EEXIST"]);
    }
}

#[test]
fn what_somebody_else_holds_is_refused_even_when_forced() {
    let test = "format_refuses_held";
    if skipped(test) {
        return;
    }
    let held = disk(256);
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, 0o200); // O_EXCL
    let holder = options.read(true).open(held.path()).unwrap();
    for more in [&[][..], &["--force"]] {
        let arguments = [&["format", "--meta", held.text()], more].concat();
        refused(&arguments, &[held.text(), "in use", "another program", "EBUSY"]);
    }
    drop(holder);
    succeeds(&["format", "--meta", held.text()]);
}

#[test]
fn a_device_of_another_pool_is_named_with_that_pools_id() {
    if skipped("format_refuses_other_pool") {
        return;
    }
    let (one, two) = (disk(256), disk(256));
    let made = succeeds(&["format", "--meta", one.text(), "--data", two.text()]);
    let fsid = made.split_whitespace().nth(1).unwrap();
    let third = disk(256);
    let arguments = ["format", "--meta", third.text(), "--data", two.text()];
    refused(&arguments, &[two.text(), "pool", fsid, "--force"]);
    succeeds(&["check", "--meta", one.text(), "--data", two.text()]);
}

#[test]
fn one_device_twice_is_refused_by_whichever_name() {
    if skipped("format_refuses_twice") {
        return;
    }
    let disk = disk(256);
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(disk.path(), &link).unwrap();
    for second in [disk.text(), link.to_str().unwrap()] {
        let arguments = ["format", "--meta", disk.text(), "--data", second, "--force"];
        refused(&arguments, &[disk.text(), "share blocks", "two devices", "EINVAL"]);
    }
}

#[test]
fn a_device_that_no_pool_can_be_on_is_refused() {
    if skipped("format_refuses_unfit") {
        return;
    }
    let small = disk(8);
    refused(&["format", "--meta", small.text()], &[small.text(), "8388608", "needed", "ENOSPC"]);
    let fixed = LoopDisk::attach(256 * MIB, &["--read-only"]).expect("a loop device");
    refused(&["format", "--meta", fixed.text(), "--force"], &[fixed.text(), "setrw", "EROFS"]);
    let coarse = LoopDisk::attach(256 * MIB, &["--sector-size", "4096"]).expect("a loop device");
    succeeds(&["format", "--meta", coarse.text()]);
    succeeds(&["check", "--meta", coarse.text()]);
}

/// Whoever has the other device mounted, or serves it, would lose what both show.
#[test]
fn bytes_that_a_second_loop_device_shows_are_refused_even_when_forced() {
    if skipped("format_refuses_second_loop") {
        return;
    }
    let first = disk(256);
    succeeds(&["format", "--meta", first.text()]);
    let before = front(first.image());
    let second = LoopDisk::over(first.image(), &[]).unwrap();
    for (named, other) in [(&first, &second), (&second, &first)] {
        let words = [named.text(), other.text(), "shows", "detach", "EBUSY"];
        refused(&["format", "--meta", named.text(), "--force"], &words);
    }
    let image = first.image().to_str().unwrap();
    refused(&["format", "--meta", image, "--force"], &[image, "in use: as", "EBUSY"]);
    assert_eq!(front(first.image()), before, "what was refused was changed all the same");
    drop(second);
    succeeds(&["check", "--meta", first.text()]);
}

#[test]
fn a_pool_file_that_is_served_is_in_use_by_way_of_a_loop_device_too() {
    if skipped("serve_refuses_loop_over_served") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(&dir.path().join("pool")).unwrap();
    setup.size = "256M";
    let mut daemon = Daemon::start(setup).unwrap();
    let show = LoopDisk::over(&daemon.dir().join("pool"), &[]).unwrap();
    let words = [show.text(), "shows", "in use by another process", "EBUSY"];
    refused(&["format", "--meta", show.text(), "--force"], &words);
    let check = run(&["check", "--meta", show.text()]);
    assert!(check.status.code() == Some(2) && check.stderr.contains(words[2]), "{}", check.stderr);
    daemon.stop_and_check().unwrap();
    succeeds(&["check", "--meta", show.text()]);
}

#[test]
fn stretches_of_one_file_make_a_pool_where_they_do_not_overlap() {
    if skipped("format_stretches") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    File::create(&image).unwrap().set_len(512 * MIB).unwrap();
    let stretch = |from: u64, length: u64| {
        let (from, length) = (format!("{}", from * MIB), format!("{}", length * MIB));
        LoopDisk::over(&image, &["--offset", &from, "--sizelimit", &length]).unwrap()
    };
    let meta = stretch(0, 256);
    let over = stretch(255, 257);
    let both = ["format", "--meta", meta.text(), "--data", over.text(), "--force"];
    refused(&both, &[meta.text(), over.text(), "share blocks", "EINVAL"]);
    assert!(front(&image).iter().all(|byte| *byte == 0), "what was refused was written to");
    drop(over);
    let data = stretch(256, 256);
    succeeds(&["format", "--meta", meta.text(), "--data", data.text()]);
    succeeds(&["check", "--meta", meta.text(), "--data", data.text()]);
}

#[test]
fn data_of_no_known_kind_is_left_alone_until_forced() {
    if skipped("format_refuses_data") {
        return;
    }
    let disk = disk(256);
    let image = OpenOptions::new().write(true).open(disk.image()).unwrap();
    // In the middle of nowhere: long enough to be met, as anything worth keeping is.
    image.write_all_at(&[7; 1 << 20], 100 * MIB).unwrap();
    refused(&["format", "--meta", disk.text()], &[disk.text(), "data", "--force", "EEXIST"]);
    succeeds(&["format", "--meta", disk.text(), "--force"]);
    succeeds(&["check", "--meta", disk.text()]);
}
