//! Reading and writing, at every kind of place.

use super::*;
use cairn_accept::set_size;

/// Bytes that differ wherever they might be mixed up.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

#[test]
fn what_was_cut_off_reads_as_zeros_when_the_file_grows_again() {
    let Some(mut place) = Place::start("truncate_and_extend") else { return };
    for (number, (length, cut, grown)) in
        [(10_000, 5_000, 9_000), (4096, 1, 8192), (100_000, 0, 50_000), (300, 4, 300)]
            .into_iter()
            .enumerate()
    {
        let bytes = pattern(1, length);
        let file = place.file(&format!("file-{number}"), 0o644, &bytes);
        let root = &mut place.root;
        let id = fileid(root, &file);
        let wcc = root.setattr(&file, set_size(cut as u64)).expect("cut");
        changed(&place.served, &wcc, id);
        assert_eq!(root.getattr(&file).expect("getattr").size, cut as u64);
        root.setattr(&file, set_size(grown as u64)).expect("grow");
        let mut expected = bytes[..cut].to_vec();
        expected.resize(grown, 0);
        let is = read(root, &file, 0, 200_000);
        assert!(is == expected, "{length} cut to {cut} grown to {grown}: not kept and zeros");
    }
}

#[test]
fn holes_read_as_zeros_and_take_no_room() {
    let Some(mut place) = Place::start("sparse_file") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let file = create(root, &home, "sparse", 0o644).handle;
    write(root, &file, 1 << 20, b"island");
    write(root, &file, 100, b"first");
    let mut expected = vec![0; 4096];
    expected[100..105].copy_from_slice(b"first");
    assert_eq!(read(root, &file, 0, 4096), expected);
    assert_eq!(read(root, &file, 500_000, 4096), vec![0; 4096]);
    assert_eq!(read(root, &file, (1 << 20) - 2, 100), b"\0\0island");
    let attr = root.getattr(&file).expect("getattr");
    assert_eq!(attr.size, (1 << 20) + 6);
    assert!(attr.used <= 64 * 1024, "two islands use {} bytes", attr.used);
}

#[test]
fn a_file_reaches_past_4_gib() {
    let Some(mut place) = Place::start("past_4_gib") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let file = create(root, &home, "far", 0o644).handle;
    for (offset, text) in [((1 << 32) - 3, "border"), (5 << 30, "five"), (1 << 40, "one TiB")] {
        write(root, &file, offset, text.as_bytes());
    }
    for (offset, text) in [((1 << 32) - 3, "border"), (5 << 30, "five"), (1 << 40, "one TiB")] {
        assert_eq!(read(root, &file, offset, text.len() as u32), text.as_bytes());
    }
    assert_eq!(read(root, &file, 3, 6), vec![0; 6], "nothing wrapped round");
    assert_eq!(root.getattr(&file).expect("getattr").size, (1 << 40) + 7);
    root.setattr(&file, set_size((1 << 32) + 1)).expect("cut");
    assert_eq!(read(root, &file, (1 << 32) - 3, 100), b"bord");
}

#[test]
fn reading_at_and_past_the_end_says_so() {
    let Some(mut place) = Place::start("read_past_end") else { return };
    let file = place.file("file", 0o644, &pattern(2, 5_000));
    let root = &mut place.root;
    for (offset, count, length, eof) in [
        (0, 5_000, 5_000, true),
        (0, 4_999, 4_999, false),
        (4_000, 4_000, 1_000, true),
        (5_000, 10, 0, true),
        (5_001, 10, 0, true),
        (1 << 40, 10, 0, true),
    ] {
        let part = root.read(&file, offset, count).expect("read");
        let is = (part.count, part.data.len(), part.eof);
        assert_eq!(is, (length as u32, length, eof), "{count} bytes at {offset}");
    }
    let none = root.read(&file, 10, 0).expect("a read of nothing");
    assert_eq!(none.count, 0);
}

#[test]
fn every_alignment_of_an_overwrite_lands_where_it_should() {
    let Some(mut place) = Place::start("unaligned_overwrite") else { return };
    let mut model = pattern(3, 40_000);
    let file = place.file("file", 0o644, &model);
    let root = &mut place.root;
    for (offset, length) in [
        (0, 1),
        (4_095, 2),
        (4_096, 4_096),
        (1, 4_096),
        (8_191, 8_194),
        (12_287, 1),
        (39_999, 1),
        (39_000, 3_000),
        (20_000, 16_384),
    ] {
        let bytes = pattern(offset as u64 + 100, length);
        write(root, &file, offset as u64, &bytes);
        model.resize(model.len().max(offset + length), 0);
        model[offset..offset + length].copy_from_slice(&bytes);
        assert!(read(root, &file, 0, 100_000) == model, "{length} bytes at {offset}");
    }
}

/// Random writes, truncations and commits beside a plain vector; then, on a daemon of ours, a kill
/// and the same comparison again.
#[test]
fn a_long_random_history_equals_the_model_also_after_a_kill() {
    let test = "random_history";
    let Some(mut place) = Place::start(test) else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let file = create(root, &home, "file", 0o644).handle;
    let mut dice = fastrand::Rng::with_seed(7);
    let mut model: Vec<u8> = Vec::new();
    for step in 0..300 {
        let offset = dice.usize(0..150_000);
        match dice.u32(0..10) {
            0 => {
                root.setattr(&file, set_size(offset as u64)).expect("setattr");
                model.resize(offset, 0);
            }
            1 => {
                root.commit(&file, 0, 0).expect("commit");
            }
            _ => {
                let bytes = pattern(step, [1, 100, 4_096, 5_000, 32_768][dice.usize(0..5)]);
                let stable = [stable_how::UNSTABLE, stable_how::FILE_SYNC, stable_how::DATA_SYNC];
                let written = root
                    .write(&file, offset as u64, &bytes, stable[dice.usize(0..3)])
                    .expect("write");
                assert_eq!(written.count as usize, bytes.len());
                model.resize(model.len().max(offset + bytes.len()), 0);
                model[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        let from = dice.usize(0..150_000);
        let expected = model.get(from..).unwrap_or_default();
        let expected = &expected[..expected.len().min(10_000)];
        assert!(read(root, &file, from as u64, 10_000) == expected, "step {step}, at {from}");
    }
    root.commit(&file, 0, 0).expect("commit");
    assert!(read(root, &file, 0, 200_000) == model, "before the kill");
    if place.served.is_foreign() {
        return;
    }
    let daemon = place.served.daemon(test).expect("ours");
    daemon.kill().expect("kill");
    daemon.restart().expect("restart");
    let mut client = place.served.connect();
    assert_eq!(client.getattr(&file).expect("the handle survives").size, model.len() as u64);
    assert!(read(&mut client, &file, 0, 200_000) == model, "after the kill");
}

#[test]
fn the_write_verifier_changes_with_the_server_and_not_before() {
    let test = "write_verifier";
    let Some(mut place) = Place::start(test) else { return };
    let file = place.file("file", 0o644, b"x");
    let root = &mut place.root;
    let first = root.write(&file, 0, b"a", stable_how::UNSTABLE).expect("write").verf;
    let second = root.write(&file, 9_000, b"b", stable_how::FILE_SYNC).expect("write").verf;
    let third = root.commit(&file, 0, 0).expect("commit").verf;
    assert_eq!((first, first), (second, third));
    if place.served.is_foreign() {
        return;
    }
    let daemon = place.served.daemon(test).expect("ours");
    daemon.kill().expect("kill");
    daemon.restart().expect("restart");
    let mut client = place.served.connect();
    let later = client.write(&file, 0, b"a", stable_how::UNSTABLE).expect("write").verf;
    assert_ne!(later, first, "a client must learn that unstable writes may be gone");
}

#[test]
fn a_synchronous_write_says_that_it_is_one() {
    let Some(mut place) = Place::start("stability_answered") else { return };
    let file = place.file("file", 0o644, b"x");
    let id = fileid(&mut place.root, &file);
    for stable in [stable_how::UNSTABLE, stable_how::DATA_SYNC, stable_how::FILE_SYNC] {
        let written = place.root.write(&file, 0, &pattern(4, 9_000), stable).expect("write");
        assert!(written.committed as u32 >= stable as u32, "{stable}: {}", written.committed);
        changed(&place.served, &written.file_wcc, id);
    }
}

#[test]
fn writing_moves_mtime_and_data_is_only_in_files() {
    let Some(mut place) = Place::start("write_times_and_kinds") else { return };
    let file = place.file("file", 0o644, b"x");
    let dir = place.dir("dir", 0o755);
    let root = &mut place.root;
    let before = root.getattr(&file).expect("getattr");
    write(root, &file, 0, b"y");
    let after = root.getattr(&file).expect("getattr");
    assert!(time(&after.mtime) > time(&before.mtime));
    let status = [nfsstat3::NFS3ERR_ISDIR, nfsstat3::NFS3ERR_INVAL];
    refused(root.read(&dir, 0, 10), &status);
    refused(root.write(&dir, 0, b"x", stable_how::FILE_SYNC), &status);
    refused(root.commit(&dir, 0, 0), &status);
}

#[test]
fn nothing_is_written_past_the_largest_file() {
    let Some(mut place) = Place::start("too_far") else { return };
    let file = place.file("file", 0o644, b"x");
    let root = &mut place.root;
    let status = [nfsstat3::NFS3ERR_FBIG, nfsstat3::NFS3ERR_INVAL];
    for offset in [u64::MAX, u64::MAX - 3, 1 << 63] {
        refused(root.write(&file, offset, b"data", stable_how::FILE_SYNC), &status);
    }
    refused(root.setattr(&file, set_size(u64::MAX)), &status);
    assert_eq!(root.getattr(&file).expect("getattr").size, 1);
}

#[test]
fn the_largest_write_and_read_pass_whole() {
    let Some(mut place) = Place::start("largest_transfer") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let info = root.fsinfo().expect("fsinfo");
    let length = info.wtmax.min(1 << 20);
    let bytes = pattern(5, length as usize);
    let file = create(root, &home, "file", 0o644).handle;
    let written = root.write(&file, 0, &bytes, stable_how::UNSTABLE).expect("write");
    assert_eq!(written.count, length);
    root.commit(&file, 0, 0).expect("commit");
    let mut is = Vec::new();
    while is.len() < bytes.len() {
        let part = root.read(&file, is.len() as u64, info.rtmax.min(length)).expect("read");
        assert!(!part.data.is_empty(), "no progress at {}", is.len());
        is.extend_from_slice(&part.data);
    }
    assert!(is == bytes, "the file differs");
}

#[test]
fn an_append_at_the_end_grows_the_file() {
    let Some(mut place) = Place::start("append") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let file = create(root, &home, "log", 0o644).handle;
    let mut model = Vec::new();
    for line in 0..200 {
        let text = format!("line {line} of the log, which is of some length\n");
        let end = root.getattr(&file).expect("getattr").size;
        assert_eq!(end, model.len() as u64);
        write(root, &file, end, text.as_bytes());
        model.extend_from_slice(text.as_bytes());
    }
    assert!(read(root, &file, 0, 100_000) == model);
}
