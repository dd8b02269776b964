//! READDIR and READDIRPLUS of directories that hold still. Moving ones: `readdir_stability.rs`.

use super::*;
use std::collections::BTreeSet;

/// Every entry of a directory as (name, fileid, cookie), in pages of `count` bytes.
fn pages(client: &mut Client, dir: &nfs_fh3, count: u32) -> Vec<Vec<(String, u64, u64)>> {
    let mut position = (0, cookieverf3::default());
    let mut pages = Vec::new();
    loop {
        let page = client.readdir(dir, position, count).expect("readdir");
        position.1 = page.cookieverf;
        let entries: Vec<_> = (page.reply.entries.into_inner().iter())
            .map(|e| (String::from_utf8_lossy(e.name.as_ref()).into_owned(), e.fileid, e.cookie))
            .collect();
        assert!(page.reply.eof || !entries.is_empty(), "an empty page that is not the last");
        position.0 = entries.last().map_or(position.0, |last| last.2);
        pages.push(entries);
        if page.reply.eof {
            return pages;
        }
        assert!(pages.len() < 10_000, "the listing does not end");
    }
}

#[test]
fn small_pages_list_every_name_once() {
    let Some(mut place) = Place::start("small_pages") else { return };
    let dir = place.dir("dir", 0o755);
    let mut expected = BTreeSet::new();
    for number in 0..500 {
        let name = format!("{number}-{}", "x".repeat(number % 60));
        let made = create(&mut place.root, &dir, &name, 0o644);
        expected.insert((name, made.attr.fileid));
    }
    expected.insert((".".to_owned(), fileid(&mut place.root, &dir)));
    let home = place.home.clone();
    expected.insert(("..".to_owned(), fileid(&mut place.root, &home)));
    for count in [512, 4096, 32_768] {
        let listed: Vec<_> = pages(&mut place.root, &dir, count).concat();
        let cookies: BTreeSet<u64> = listed.iter().map(|(_, _, cookie)| *cookie).collect();
        assert_eq!(cookies.len(), listed.len(), "a cookie stands for one place");
        let names: BTreeSet<_> = listed.iter().map(|(n, id, _)| (n.clone(), *id)).collect();
        assert_eq!(names.len(), listed.len(), "a name is listed once, pages of {count}");
        assert!(names == expected, "pages of {count} bytes: names missing or strange");
    }
}

#[test]
fn every_cookie_goes_on_where_it_was_given() {
    let Some(mut place) = Place::start("cookies") else { return };
    let dir = place.dir("dir", 0o755);
    for number in 0..50 {
        create(&mut place.root, &dir, &format!("name-{number}"), 0o644);
    }
    let listed: Vec<_> = pages(&mut place.root, &dir, 32_768).concat();
    let verifier = place.root.readdir(&dir, (0, cookieverf3::default()), 4096);
    let verifier = verifier.expect("readdir").cookieverf;
    for (at, (_, _, cookie)) in listed.iter().enumerate() {
        let rest = place.root.readdir(&dir, (*cookie, verifier), 32_768).expect("readdir");
        let rest: Vec<u64> =
            rest.reply.entries.into_inner().iter().map(|entry| entry.cookie).collect();
        let expected: Vec<u64> = listed[at + 1..].iter().map(|entry| entry.2).collect();
        assert_eq!(rest, expected, "after entry {at}");
    }
    // The place of a name that is gone is still a place.
    place.root.remove(&dir, b"name-20").expect("remove");
    let gone = listed.iter().position(|entry| entry.0 == "name-20").expect("was listed");
    let rest = place.root.readdir(&dir, (listed[gone].2, verifier), 32_768).expect("readdir");
    assert_eq!(rest.reply.entries.into_inner().len(), listed.len() - gone - 1);
}

#[test]
fn readdirplus_tells_what_lookup_tells() {
    let Some(mut place) = Place::start("readdirplus") else { return };
    let dir = place.dir("dir", 0o755);
    create(&mut place.root, &dir, "file", 0o640);
    mkdir(&mut place.root, &dir, "inner");
    place.root.symlink(&dir, b"symlink", b"x").expect("symlink");
    let start = (0, cookieverf3::default());
    let page = place.root.readdirplus(&dir, start, 32_768).expect("readdirplus");
    assert!(page.reply.eof);
    let entries = page.reply.entries.into_inner();
    assert_eq!(entries.len(), 5);
    for entry in entries {
        let name = entry.name.as_ref();
        let found = place.root.lookup(&dir, name).expect("lookup");
        assert_eq!(entry.fileid, found.attr.fileid);
        let Nfs3Option::Some(attr) = entry.name_attributes else {
            assert!(name.starts_with(b"."), "{name:?} without attributes");
            continue;
        };
        assert_eq!(attr.fileid, found.attr.fileid);
        assert_eq!((attr.type_, attr.mode), (found.attr.type_, found.attr.mode));
        let Nfs3Option::Some(handle) = entry.name_handle else { continue };
        assert_eq!(handle, found.handle, "{name:?}: one object, one handle");
    }
}

#[test]
fn an_empty_directory_ends_at_once_and_too_small_a_page_is_refused() {
    let Some(mut place) = Place::start("empty_listing") else { return };
    let dir = place.dir("dir", 0o755);
    let names: Vec<String> =
        pages(&mut place.root, &dir, 4096).concat().into_iter().map(|entry| entry.0).collect();
    assert_eq!(names, [".", ".."]);
    let none = place.root.readdir(&dir, (0, cookieverf3::default()), 16);
    if !place.served.is_foreign() {
        refused(none, &[nfsstat3::NFS3ERR_TOOSMALL]);
    }
}

#[test]
fn a_name_made_again_is_listed_once() {
    let Some(mut place) = Place::start("listing_after_remake") else { return };
    let dir = place.dir("dir", 0o755);
    for _ in 0..20 {
        create(&mut place.root, &dir, "phoenix", 0o644);
        place.root.remove(&dir, b"phoenix").expect("remove");
    }
    create(&mut place.root, &dir, "phoenix", 0o644);
    place.root.rename((&dir, b"phoenix"), (&dir, b"renamed")).expect("rename");
    let names: Vec<String> =
        pages(&mut place.root, &dir, 4096).concat().into_iter().map(|entry| entry.0).collect();
    assert_eq!(names, [".", "..", "renamed"]);
}
