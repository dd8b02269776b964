//! Listing a large directory while others change it: a name that was there all the time is seen
//! exactly once.
//!
//! 10,000 names, replies of 4 KiB, so that a listing takes hundreds of calls; two connections
//! delete, add and rename in the same directory meanwhile. Their names may be seen or not; the
//! others may be neither missing nor doubled. The same again with a kill and a restart in the
//! middle of a listing: a position means the same thing to the next daemon.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::nfs3_types::xdr_codec::Pack;
use cairn_accept::{Answer, Client, Cred, Fault, Served, eventually};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// For who changes the directory to do so once, on a busy machine.
const TURN_LIMIT: Duration = Duration::from_secs(60);
const NAMES: usize = 10_000;
/// Every fifth name comes and goes.
const CHURNED: usize = 5;
const REPLY_BYTES: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Names,
    NamesAndAttributes,
}

fn name(number: usize) -> String {
    let kind = if number.is_multiple_of(CHURNED) { "churn" } else { "keep" };
    format!("{kind}-{number}-{}", "n".repeat(number % 40))
}

/// One page: (name, cookie) of its entries, the verifier, whether it is the last.
type Page = (Vec<(Vec<u8>, u64)>, cookieverf3, bool);

fn page(
    client: &mut Client,
    dir: &nfs_fh3,
    kind: Kind,
    position: (u64, cookieverf3),
) -> Answer<Page> {
    // The results behind the status may take so much (RFC 1813, 3.3.16 and 3.3.17).
    let fits = |bytes: usize| {
        assert!(bytes <= REPLY_BYTES as usize, "asked for {REPLY_BYTES} bytes, got {bytes}");
    };
    match kind {
        Kind::Names => {
            let page = client.readdir(dir, position, REPLY_BYTES)?;
            fits(page.packed_size());
            let entries = page.reply.entries.into_inner();
            let entries = entries.iter().map(|e| (e.name.as_ref().to_vec(), e.cookie)).collect();
            Ok((entries, page.cookieverf, page.reply.eof))
        }
        Kind::NamesAndAttributes => {
            let page = client.readdirplus(dir, position, REPLY_BYTES)?;
            fits(page.packed_size());
            let entries = page.reply.entries.into_inner();
            let entries = entries.iter().map(|e| (e.name.as_ref().to_vec(), e.cookie)).collect();
            Ok((entries, page.cookieverf, page.reply.eof))
        }
    }
}

/// How often each name is seen in one listing. `between` runs after every page.
fn list(
    client: &mut Client,
    dir: &nfs_fh3,
    kind: Kind,
    mut between: impl FnMut(usize, &mut Client),
) -> BTreeMap<Vec<u8>, u32> {
    let mut seen = BTreeMap::new();
    let mut position = (0, cookieverf3::default());
    for number in 0.. {
        assert!(number < NAMES * 10, "the listing does not end");
        let (entries, verifier, eof) = page(client, dir, kind, position).expect("a page");
        assert!(eof || !entries.is_empty(), "an empty page that is not the last");
        position = (entries.last().map_or(position.0, |last| last.1), verifier);
        for (name, _) in entries {
            *seen.entry(name).or_insert(0) += 1;
        }
        if eof {
            break;
        }
        between(number, client);
    }
    seen
}

#[track_caller]
fn every_kept_name_once(seen: &BTreeMap<Vec<u8>, u32>, what: &str) {
    let kept = (0..NAMES).filter(|number| !number.is_multiple_of(CHURNED)).map(name);
    let wrong: Vec<(String, u32)> = kept
        .map(|name| {
            let times = seen.get(name.as_bytes()).copied().unwrap_or(0);
            (name, times)
        })
        .filter(|(_, times)| *times != 1)
        .collect();
    assert!(
        wrong.is_empty(),
        "{what}: {} names that were there all the time were not seen once: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(10)]
    );
    let strange = seen.keys().find(|name| {
        !name.starts_with(b"keep-") && !name.starts_with(b"churn-") && !name.starts_with(b".")
    });
    assert_eq!(strange, None, "{what}: a name nobody made");
}

fn populate(served: &Served) -> nfs_fh3 {
    let mut client = served.connect();
    let home = served.home(&mut client);
    let dir = client.mkdir(&home, b"large", sattr3::default()).expect("mkdir").handle;
    std::thread::scope(|scope| {
        for part in 0..4 {
            let dir = &dir;
            scope.spawn(move || {
                let mut client = served.connect();
                for number in (part..NAMES).step_by(4) {
                    let how = createhow3::UNCHECKED(sattr3::default());
                    client.create(dir, name(number).as_bytes(), how).expect("create");
                }
            });
        }
    });
    dir
}

/// Deletes, adds and renames the names that may change, until told to end. A connection that breaks
/// is made again: the test kills the daemon.
fn churn(
    address: &cairn_accept::Address,
    dir: &nfs_fh3,
    part: usize,
    end: &AtomicBool,
    changes: &AtomicU64,
) {
    let mut dice = fastrand::Rng::with_seed(part as u64);
    let mut client = None;
    while !end.load(Ordering::Relaxed) {
        let Some(connected) = &mut client else {
            client = Client::connect(address, &Cred::ROOT).ok();
            continue;
        };
        // Each of two works on names of its own, so that every call has one possible outcome.
        let number = dice.usize(0..NAMES / CHURNED / 2) * CHURNED * 2 + part * CHURNED;
        let (plain, renamed) = (name(number), format!("churn-renamed-{number}"));
        let round = |client: &mut Client| -> Answer<()> {
            let how = createhow3::UNCHECKED(sattr3::default());
            client.create(dir, plain.as_bytes(), how)?;
            client.rename((dir, plain.as_bytes()), (dir, renamed.as_bytes()))?;
            client.remove(dir, renamed.as_bytes())?;
            let how = createhow3::UNCHECKED(sattr3::default());
            client.create(dir, plain.as_bytes(), how)?;
            client.remove(dir, plain.as_bytes())?;
            Ok(())
        };
        match round(connected) {
            Ok(()) => {
                changes.fetch_add(5, Ordering::Relaxed);
            }
            Err(Fault::Lost(_)) => client = None,
            Err(fault) => panic!("churn of {plain}: {fault}"),
        }
    }
}

/// Ends the churn also when the test fails, which would wait for it otherwise.
struct EndAtDrop<'f>(&'f AtomicBool);

impl Drop for EndAtDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_name_present_throughout_is_listed_once_while_others_change_the_directory() {
    let test = "readdir_stability";
    let Some(mut served) = Served::start(test) else { return };
    let dir = populate(&served);
    let address = served.address().clone();
    let (end, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = EndAtDrop(&end);
        for part in 0..2 {
            let (address, dir, end, changes) = (&address, &dir, &end, &changes);
            scope.spawn(move || churn(address, dir, part, end, changes));
        }
        let mut client = served.connect();
        for round in 0..3 {
            for kind in [Kind::Names, Kind::NamesAndAttributes] {
                let before = changes.load(Ordering::Relaxed);
                // The churn must have had its turn between the pages for the test to mean much.
                let has_changed = || (changes.load(Ordering::Relaxed) > before).then_some(());
                let seen = list(&mut client, &dir, kind, |_, _| {
                    let changed = eventually(TURN_LIMIT, has_changed);
                    assert!(changed.is_some(), "round {round}, {kind:?}: nothing changes");
                });
                every_kept_name_once(&seen, &format!("round {round}, {kind:?}"));
            }
        }

        if served.is_foreign() {
            return; // whose server it is may not be killed
        }
        for kind in [Kind::Names, Kind::NamesAndAttributes] {
            let daemon = served.daemon(test).expect("ours");
            let seen = list(&mut client, &dir, kind, |number, client| {
                if number == 20 {
                    daemon.kill().expect("kill");
                    daemon.restart().expect("restart");
                    *client = Client::connect(&address, &Cred::ROOT).expect("mount");
                }
            });
            every_kept_name_once(&seen, &format!("over a restart, {kind:?}"));
        }
    });
}
