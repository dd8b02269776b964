//! What agents noted of a file in hidden xattrs reaches them with its deletion, or the file is still there
//! with all of it: the power is cut at every device command of a removal, before and after its effect.
//!
//! Some of these removals take several records. Which xattrs a deletion keeps, and whether it says that
//! there were more, must not depend on where the power went.

mod cut;

use cairn_base::Nanos;
use cairn_engine::attr::SetAttr;
use cairn_engine::name::Name;
use cairn_engine::op::{
    Create, CreateHow, GetXattr, ListXattr, Lookup, Mkdir, Rmdir, SetXattr, Unlink, XattrList,
    XattrSet,
};
use cairn_engine::{Cred, FsError, Gone, Shard, What};
use cairn_format::item::DELETION_XATTRS_BYTES_MAX;
use cairn_format::{InodeNo, Seq};
use cairn_sim::machine::Halt;
use cairn_sim::media::{Cut, CutEffect};
use cairn_sim::world::{World, WorldConfig};
use cut::cut_and_verify;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Longer than any of these removals: to find one that never ends.
const CUTS_MAX: u64 = 300;

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is removed, and its xattrs.
struct Case {
    is_directory: bool,
    xattrs: Xattrs,
}

fn named(text: &str) -> Name {
    Name::parse(text.as_bytes()).expect("a name")
}

fn world(fua: bool, shards: usize) -> World {
    let config = WorldConfig {
        tablets: 3,
        device_blocks: vec![1 << 15],
        fua,
        memtable_bytes: 512 << 10,
        log_blocks: 1024,
    };
    let mut world = World::new(5, config);
    world.format().expect("formatted");
    world.boot(shards).expect("booted");
    world
}

/// Directories of the root go round over the tablets: on two shards the removal meets both.
const HOLDER: &str = "holder";
const VICTIM: &str = "victim";

async fn set_up(shard: &Rc<Shard<World>>, case: &Case) -> Result<InodeNo, FsError> {
    let (cred, set) = (Cred::root(), SetAttr::default());
    let dir = InodeNo::ROOT;
    let mkdir = Mkdir { cred: cred.clone(), dir, name: named(HOLDER), set };
    let holder = shard.call(mkdir).await?.ino;
    let ino = if case.is_directory {
        let mkdir = Mkdir { cred: cred.clone(), dir: holder, name: named(VICTIM), set };
        shard.call(mkdir).await?.ino
    } else {
        let how = CreateHow::Guarded(set);
        let create = Create { cred: cred.clone(), dir: holder, name: named(VICTIM), how };
        shard.call(create).await?.ino
    };
    for (name, value) in &case.xattrs {
        let (name, value) = (name.clone(), value.clone());
        let how = XattrSet::Create;
        shard.call(SetXattr { cred: cred.clone(), ino, name, value, how }).await?;
    }
    Ok(ino)
}

async fn lookup(shard: &Rc<Shard<World>>, dir: InodeNo, text: &str) -> Result<InodeNo, FsError> {
    let lookup = Lookup { cred: Cred::root(), dir, name: named(text) };
    Ok(shard.call(lookup).await?.child)
}

async fn remove(shard: &Rc<Shard<World>>, case: &Case) -> Result<(), FsError> {
    let dir = lookup(shard, InodeNo::ROOT, HOLDER).await?;
    let (cred, name) = (Cred::root(), named(VICTIM));
    match case.is_directory {
        true => shard.call(Rmdir { cred, dir, name }).await.map(drop),
        false => shard.call(Unlink { cred, dir, name }).await.map(drop),
    }
}

async fn all_xattrs(shard: &Rc<Shard<World>>, ino: InodeNo) -> Result<Xattrs, FsError> {
    let mut all = Xattrs::new();
    for list in [XattrList::Visible, XattrList::Hidden] {
        let mut after = None;
        loop {
            let page = ListXattr { cred: Cred::root(), ino, list, after, count_max: 7 };
            let page = shard.call(page).await?;
            assert!(page.names.len() <= 7, "a page is no longer than was asked for");
            for name in page.names {
                let get = GetXattr { cred: Cred::root(), ino, name: name.clone() };
                let value = shard.call(get).await?;
                assert_eq!(all.insert(name, value), None, "a name is listed once");
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(all)
}

/// The notes of deletions of an inode in the whole change stream.
async fn deletions(shard: &Rc<Shard<World>>, ino: InodeNo) -> Result<Vec<Gone>, FsError> {
    let (mut from, mut gone) = ((Seq(0), 0), Vec::new());
    loop {
        let page = shard.changes(from, (Seq(u64::MAX), u64::MAX), 100).await?;
        let Some(last) = page.last() else { return Ok(gone) };
        from = (last.seq, last.ino.raw() + 1);
        for change in page.into_iter().filter(|change| change.ino == ino) {
            if let What::Deleted(note) = change.what {
                gone.push(note);
            }
        }
    }
}

enum Found {
    There(Xattrs),
    Deleted(Gone),
    /// Its name is gone, and its removal goes on.
    Orphan,
}

fn find(world: &mut World, ino: InodeNo) -> Found {
    let shard = world.shards()[0].clone();
    let found = world.machine().run(0, async move {
        let mut notes = deletions(&shard, ino).await?;
        assert!(notes.len() <= 1, "it is deleted once");
        let dir = lookup(&shard, InodeNo::ROOT, HOLDER).await?;
        match (lookup(&shard, dir, VICTIM).await, notes.pop()) {
            (Ok(_), Some(note)) => panic!("it is there and deleted: {note:?}"),
            (Ok(named), None) => {
                assert_eq!(named, ino);
                Ok(Found::There(all_xattrs(&shard, ino).await?))
            }
            (Err(FsError::NotFound), Some(note)) => Ok(Found::Deleted(note)),
            (Err(FsError::NotFound), None) => Ok(Found::Orphan),
            (Err(error), _) => Err(error),
        }
    });
    found.expect("the machine runs").expect("it can be read")
}

/// One run, perhaps with a cut; false when the removal was over before it. `expect` is the note of the
/// run without one.
fn run(
    case: &Rc<Case>,
    (fua, shards): (bool, usize),
    cut: Option<Cut>,
    expect: Option<&Gone>,
) -> (bool, Gone) {
    let mut world = world(fua, shards);
    let (shard, scene) = (world.shards()[0].clone(), case.clone());
    let ino = world.machine().run(0, async move { set_up(&shard, &scene).await });
    let ino = ino.expect("the machine runs").expect("set up");
    if let Some(cut) = cut {
        let command = world.media.borrow().commands() + cut.command;
        world.media.borrow_mut().set_cut(Some(Cut { command, ..cut }));
    }
    let (shard, scene) = (world.shards()[0].clone(), case.clone());
    let removed = world.machine().run(0, async move { remove(&shard, &scene).await });
    let is_answered = removed.is_ok();
    // What goes on behind the answer is part of it.
    let ended = match removed {
        Ok(removed) => {
            removed.expect("nothing refuses it");
            world.machine().idle(Nanos::from_secs(3))
        }
        Err(halt) => Err(halt),
    };
    let reached = match ended {
        Ok(()) => false,
        Err(Halt::PowerOff) => true,
        Err(halt) => panic!("{cut:?}: {halt:?}"),
    };
    let lying = cut_and_verify(&mut world);
    lying.unwrap_or_else(|what| panic!("{cut:?}, as it lies there: {what}"));
    world.boot(1 + shards % 2).expect("booted again");
    let at_once = find(&mut world, ino);
    world.machine().idle(Nanos::from_secs(3)).expect("the power is on");
    let at_rest = find(&mut world, ino);
    let note = match (at_once, at_rest) {
        (Found::There(before), Found::There(after)) => {
            assert!(!is_answered, "{cut:?}: the removal was acknowledged");
            assert_eq!(before, case.xattrs, "{cut:?}");
            assert_eq!(after, case.xattrs, "{cut:?}");
            expect.expect("without a cut it is removed").clone()
        }
        (Found::Orphan, Found::Deleted(note)) => note,
        (Found::Deleted(first), Found::Deleted(note)) => {
            assert_eq!(first, note, "{cut:?}: it is told the same for ever");
            note
        }
        (_, Found::Orphan) => panic!("{cut:?}: the removal does not end"),
        (Found::There(_) | Found::Deleted(_) | Found::Orphan, _) => {
            panic!("{cut:?}: what is there does not change by itself")
        }
    };
    if let Some(expect) = expect {
        assert_eq!(&note, expect, "{cut:?}: the note of another removal of the same");
    }
    (reached, note)
}

/// Gives the note, after it came out the same wherever the power went.
fn cut_everywhere(case: Case) -> Gone {
    let case = Rc::new(case);
    let mut note = None;
    for kind in [(true, 1), (false, 2)] {
        let (_, uncut) = run(&case, kind, None, None);
        let mut cuts = 0;
        'cuts: for command in 1..CUTS_MAX {
            for effect in [CutEffect::Before, CutEffect::After] {
                if !run(&case, kind, Some(Cut { command, effect }), Some(&uncut)).0 {
                    break 'cuts;
                }
                cuts += 1;
            }
        }
        assert!((2..2 * CUTS_MAX - 2).contains(&cuts), "{cuts} cuts");
        note = Some(uncut);
    }
    note.expect("two kinds of machines")
}

fn kept(note: &Gone) -> Xattrs {
    note.hidden_xattrs.iter().map(|x| (x.name.to_vec(), x.value.to_vec())).collect()
}

fn few() -> Xattrs {
    let few: [(&[u8], &[u8]); 4] = [
        (b"cairn.hide.tape", b"A00001L8"),
        (b"scoutfs.hide.flags", b"\xff\0"),
        (b"cairn.hide.empty", b""),
        (b"user.seen", b"yes"),
    ];
    few.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn hidden(xattrs: &Xattrs) -> Xattrs {
    let is_hidden = |name: &[u8]| name.windows(5).any(|word| word == b"hide.");
    xattrs.iter().filter(|(name, _)| is_hidden(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

#[test]
fn a_deletion_has_the_hidden_xattrs_wherever_the_power_went() {
    for is_directory in [false, true] {
        let note = cut_everywhere(Case { is_directory, xattrs: few() });
        assert_eq!(kept(&note), hidden(&few()));
        assert_eq!((&*note.name, note.hidden_xattrs_cut), (VICTIM.as_bytes(), false));
    }
}

#[test]
fn many_xattrs_go_in_steps_and_what_is_hidden_stays_to_the_end() {
    let mut xattrs = few();
    for number in 0..700 {
        xattrs.insert(format!("user.{number}").into_bytes(), vec![b'x'; 20]);
    }
    let note = cut_everywhere(Case { is_directory: false, xattrs });
    assert_eq!(kept(&note), hidden(&few()));
    assert!(!note.hidden_xattrs_cut);
}

#[test]
fn a_deletion_says_that_there_were_more_however_many_steps_it_took() {
    let mut xattrs = few();
    for number in 0..300 {
        xattrs.insert(format!("user.{number}").into_bytes(), vec![b'x'; 20]);
        xattrs.insert(format!("cairn.hide.{number}").into_bytes(), vec![b'h'; 400]);
    }
    // One that fits into no deletion.
    xattrs.insert(b"cairn.hide.long".to_vec(), vec![b'l'; 20_000]);
    let all = hidden(&xattrs);
    let note = cut_everywhere(Case { is_directory: false, xattrs });
    let kept = kept(&note);
    assert!(kept.iter().all(|(name, value)| all.get(name) == Some(value)), "each is whole");
    let bytes = |(name, value): (&Vec<u8>, &Vec<u8>)| 3 + name.len() + value.len();
    let total: usize = kept.iter().map(bytes).sum();
    assert!(total <= DELETION_XATTRS_BYTES_MAX);
    let left = all.iter().filter(|(name, _)| !kept.contains_key(*name));
    let least = left.map(bytes).min().expect("some are left out");
    assert!(total + least > DELETION_XATTRS_BYTES_MAX, "nothing is left out that would fit");
    assert!(note.hidden_xattrs_cut);
}

#[test]
fn one_large_hidden_xattr_is_left_out_and_said_to_be_steps_later() {
    let mut xattrs = few();
    // So many that it is none of the last to be met.
    for number in 0..1000 {
        xattrs.insert(format!("user.{number}").into_bytes(), vec![b'x'; 20]);
    }
    xattrs.insert(b"cairn.hide.long".to_vec(), vec![b'l'; 65_535]);
    let note = cut_everywhere(Case { is_directory: false, xattrs });
    assert_eq!(kept(&note), hidden(&few()));
    assert!(note.hidden_xattrs_cut);
}
