//! Named consumers and the trimming of the deletion index, with the power cut at every command.
//!
//! A script adds consumers, makes and removes files and moves cursors on, while the shards trim whatever
//! they may. It is cut before and after every write and flush of it, and then it holds: what was acknowledged
//! of a consumer is there; every deletion that was acknowledged is listed to a consumer that has not passed
//! it; and a reader who comes too late is told, and never reads over a gap. The verifier finds the pool sound
//! as it lies there.
//!
//! That each of these is seen to be wrong where it is wrong is a matter of `judge`, which is given what a
//! broken engine would answer.

mod cut;

use cairn_base::Nanos;
use cairn_engine::attr::SetAttr;
use cairn_engine::name::Name;
use cairn_engine::op::{Create, CreateHow, Mkdir, Unlink};
use cairn_engine::{Begin, Change, Consumer, ConsumerName, Cred, FsError, Shard, Tend, What};
use cairn_format::{InodeNo, Seq};
use cairn_sim::machine::Halt;
use cairn_sim::media::{Cut, CutEffect};
use cairn_sim::world::{Trimming, World, WorldConfig};
use cut::cut_and_verify;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

type Place = (Seq, u64);

const END: Place = (Seq(u64::MAX), u64::MAX);
/// Longer than the script is: to find one that never ends.
const CUTS_MAX: u64 = 400;
/// Rounds of trimming go by.
const WHILE: Nanos = Nanos::from_millis(200);

/// Everything may go as soon as consumers have passed it.
const EAGER: Trimming = Trimming { age: Nanos(0), tablet_max: 1000, round: Nanos::from_millis(20) };

fn config(fua: bool) -> WorldConfig {
    WorldConfig {
        tablets: 3,
        device_blocks: vec![1 << 14],
        fua,
        memtable_bytes: 256 << 10,
        log_blocks: 512,
    }
}

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).expect("a name")
}

fn consumer(text: &str) -> ConsumerName {
    ConsumerName::parse(text).expect("a name")
}

/// What somebody outside has been told. It is not on the machine whose power goes.
#[derive(Default)]
struct Told {
    /// Inodes whose removal was acknowledged.
    removed: BTreeSet<InodeNo>,
    /// Cursors that were acknowledged, and those that were asked for last.
    acked: BTreeMap<ConsumerName, Place>,
    asked: BTreeMap<ConsumerName, Place>,
    /// Of the slow consumer: what it has been told of.
    seen: BTreeSet<InodeNo>,
}

/// All changes behind a place, or what keeps from reading them.
async fn read(shard: &Rc<Shard<World>>, from: Place, floor: Seq) -> Result<Vec<Change>, FsError> {
    let (mut from, mut all) = (from, Vec::new());
    loop {
        let page = shard.changes_known(from, floor, END, 7).await?;
        let Some(last) = page.last() else { return Ok(all) };
        from = (last.seq, last.ino.raw() + 1);
        all.extend(page);
    }
}

fn deleted(changes: &[Change]) -> BTreeSet<InodeNo> {
    let gone = changes.iter().filter(|change| matches!(change.what, What::Deleted(_)));
    gone.map(|change| change.ino).collect()
}

async fn pause(shard: &Rc<Shard<World>>) {
    shard.reactor().sleep(WHILE).await;
}

async fn add(shard: &Rc<Shard<World>>, told: &RefCell<Told>, text: &str) -> Result<(), FsError> {
    shard.tend_consumer(Tend::Add(consumer(text), Begin::Now)).await?;
    let all = shard.consumers().await?;
    let added = all.into_iter().find(|it| it.name == consumer(text)).expect("it was added");
    told.borrow_mut().acked.insert(added.name.clone(), added.cursor);
    told.borrow_mut().asked.insert(added.name, added.cursor);
    Ok(())
}

async fn ack(
    shard: &Rc<Shard<World>>,
    told: &RefCell<Told>,
    text: &str,
    place: Place,
) -> Result<(), FsError> {
    told.borrow_mut().asked.insert(consumer(text), place);
    shard.tend_consumer(Tend::Ack(consumer(text), place)).await?;
    told.borrow_mut().acked.insert(consumer(text), place);
    Ok(())
}

/// Files in directories of all tablets, removed in two turns; one consumer keeps up, the other passes the
/// first turn only.
async fn script(shard: Rc<Shard<World>>, told: Rc<RefCell<Told>>) -> Result<(), FsError> {
    let cred = Cred::root;
    let mut files = Vec::new();
    for dir in 0..3 {
        let (name, set) = (name(&format!("d{dir}")), SetAttr::default());
        let made = shard.call(Mkdir { cred: cred(), dir: InodeNo::ROOT, name, set }).await?.ino;
        for number in 0..4 {
            let name = self::name(&format!("f{number}"));
            let how = CreateHow::Unchecked(SetAttr::default());
            let create = Create { cred: cred(), dir: made, name: name.clone(), how };
            files.push((made, name, shard.call(create).await?.ino));
        }
    }
    add(&shard, &told, "fast").await?;
    add(&shard, &told, "slow").await?;
    for turn in 0..2 {
        for (dir, name, ino) in files.iter().skip(turn).step_by(2) {
            shard.call(Unlink { cred: cred(), dir: *dir, name: name.clone() }).await?;
            told.borrow_mut().removed.insert(*ino);
        }
        pause(&shard).await;
        let stable = shard.stable().await?;
        let cursor = (stable, u64::MAX);
        if turn == 0 {
            let from = told.borrow().acked[&consumer("slow")];
            let changes = read(&shard, (Seq(from.0.0 + 1), 0), Seq(0)).await?;
            told.borrow_mut().seen.extend(deleted(&changes));
            ack(&shard, &told, "slow", cursor).await?;
        }
        ack(&shard, &told, "fast", cursor).await?;
        pause(&shard).await;
    }
    Ok(())
}

/// What a pool says after a cut.
struct Found {
    consumers: Vec<Consumer>,
    /// From the slow consumer's place.
    slow: Result<Vec<Change>, FsError>,
    /// From the first of all places, for who may know everything.
    whole: Result<Vec<Change>, FsError>,
    /// From the first of all places, for who knows nothing.
    fresh: Result<Vec<Change>, FsError>,
}

async fn look(shard: Rc<Shard<World>>) -> Result<Found, FsError> {
    pause(&shard).await;
    let consumers = shard.consumers().await?;
    let slow = consumers.iter().find(|it| it.name == consumer("slow"));
    let slow = match slow {
        Some(slow) => {
            let (seq, ino) = slow.cursor;
            let from = ino.checked_add(1).map_or((Seq(seq.0 + 1), 0), |ino| (seq, ino));
            read(&shard, from, slow.floor).await
        }
        None => Ok(Vec::new()),
    };
    let whole = read(&shard, (Seq(1), 0), Seq(0)).await;
    let fresh = read(&shard, (Seq(0), 0), shard.stable().await?).await;
    Ok(Found { consumers, slow, whole, fresh })
}

fn judge(told: &Told, found: &Found) -> Result<(), String> {
    for (name, acked) in &told.acked {
        let there = found.consumers.iter().find(|it| it.name == *name);
        let cursor = there.map(|it| it.cursor);
        if cursor != Some(*acked) && cursor != told.asked.get(name).copied() {
            return Err(format!("{name:?} is at {cursor:?}, acknowledged was {acked:?}"));
        }
    }
    if told.acked.contains_key(&consumer("slow")) {
        let slow = found.slow.as_ref().map_err(|error| format!("the slow consumer: {error}"))?;
        let known: BTreeSet<InodeNo> = deleted(slow).union(&told.seen).copied().collect();
        if let Some(ino) = told.removed.difference(&known).next() {
            return Err(format!("the slow consumer never hears that inode {ino} is gone"));
        }
    }
    match &found.whole {
        Ok(whole) => {
            if let Some(ino) = told.removed.difference(&deleted(whole)).next() {
                return Err(format!("history has a gap at inode {ino}, and nobody is told"));
            }
        }
        Err(FsError::Trimmed { .. }) => {}
        Err(error) => return Err(format!("history: {error}")),
    }
    match &found.fresh {
        Ok(fresh) => {
            let there = fresh.iter().filter(|it| !matches!(it.what, What::Deleted(_)));
            let ghost = there.map(|it| it.ino).find(|ino| told.removed.contains(ino));
            ghost.map_or(Ok(()), |ino| Err(format!("inode {ino} is told of, and is gone")))
        }
        Err(error) => Err(format!("who knows nothing is refused: {error}")),
    }
}

/// One run with one cut; false when the script ended before it. How many deletions were trimmed by then.
fn cut_once(fua: bool, shards: usize, cut: Cut) -> Result<(bool, bool), String> {
    let mut world = World::new(3, config(fua));
    world.trimming = Some(EAGER);
    world.format().expect("formatted");
    world.boot(shards).expect("booted");
    let command = world.media.borrow().commands() + cut.command;
    world.media.borrow_mut().set_cut(Some(Cut { command, ..cut }));
    let told = Rc::new(RefCell::new(Told::default()));
    let (shard, known) = (world.shards()[0].clone(), told.clone());
    let reached = match world.machine().run(0, async move { script(shard, known).await }) {
        Ok(Ok(())) => false,
        Err(Halt::PowerOff) => true,
        other => return Err(format!("{other:?}")),
    };
    cut_and_verify(&mut world).map_err(|what| format!("as it lies there: {what}"))?;
    world.boot(1 + (shards % 3)).map_err(|error| format!("{error:?}"))?;
    let shard = world.shards()[0].clone();
    let found = world.machine().run(0, async move { look(shard).await });
    let found = found.map_err(|halt| format!("{halt:?}"))?.map_err(|error| error.to_string())?;
    judge(&told.borrow(), &found)?;
    let trimmed = matches!(found.whole, Err(FsError::Trimmed { .. }));
    cut_and_verify(&mut world).map_err(|what| format!("at the end: {what}"))?;
    Ok((reached, trimmed))
}

#[test]
fn consumers_and_what_they_wait_for_are_there_wherever_the_power_goes() {
    for (fua, shards) in [(true, 1), (true, 2), (false, 3), (false, 1)] {
        let (mut cuts, mut trimmed_in) = (0, 0);
        for command in 1..CUTS_MAX {
            let mut is_over = false;
            for effect in [CutEffect::Before, CutEffect::After] {
                let once = cut_once(fua, shards, Cut { command, effect });
                let (reached, trimmed) = once.unwrap_or_else(|what| {
                    panic!("{shards} shards, {effect:?} command {command}: {what}")
                });
                trimmed_in += u64::from(trimmed);
                assert!(trimmed || reached, "what all have passed is trimmed in the end");
                is_over |= !reached;
            }
            cuts = command;
            if is_over {
                break;
            }
        }
        assert!((30..CUTS_MAX - 1).contains(&cuts), "{cuts} commands");
        assert!(trimmed_in > 8, "trimmed before {trimmed_in} cuts only");
    }
}

fn run<T: 'static, F: Future<Output = T> + 'static>(
    world: &mut World,
    core: usize,
    body: impl FnOnce(Rc<Shard<World>>) -> F,
) -> T {
    let shard = world.shards()[core].clone();
    let future = body(shard);
    world.machine().run(core, future).expect("the machine runs")
}

fn booted(trimming: Trimming, shards: usize) -> World {
    let mut world = World::new(9, config(true));
    world.trimming = Some(trimming);
    world.format().expect("formatted");
    world.boot(shards).expect("booted");
    world
}

/// Two minutes go by; one waits for a minute at most at a time.
fn grow_old(world: &mut World) {
    for _ in 0..3 {
        world.machine().idle(Nanos::from_secs(40)).expect("it idles");
    }
}

/// Makes and removes files of one directory.
async fn churn(shard: Rc<Shard<World>>, from: u64, count: u64) {
    for number in from..from + count {
        let (cred, dir, name) = (Cred::root(), InodeNo::ROOT, name(&format!("c{number}")));
        let how = CreateHow::Unchecked(SetAttr::default());
        let create = Create { cred: cred.clone(), dir, name: name.clone(), how };
        shard.call(create).await.expect("created");
        shard.call(Unlink { cred, dir, name }).await.expect("removed");
    }
}

#[test]
fn deletions_that_are_young_or_not_passed_stay() {
    let young = Trimming { age: Nanos::from_secs(60), ..EAGER };
    let mut world = booted(young, 2);
    let whole = |world: &mut World| {
        run(world, 1, async |shard| {
            read(&shard, (Seq(1), 0), Seq(0)).await.map(|all| deleted(&all))
        })
    };
    let tend = |world: &mut World, tend: Tend| {
        run(world, 0, async move |shard| shard.tend_consumer(tend).await)
    };
    run(&mut world, 1, async |shard| churn(shard, 0, 300).await);
    world.machine().idle(Nanos::from_secs(30)).expect("it idles");
    assert_eq!(whole(&mut world).expect("nothing is trimmed").len(), 300, "they are young");
    tend(&mut world, Tend::Add(consumer("tape"), Begin::Now)).expect("added");
    let late = Tend::Add(consumer("late"), Begin::Place((Seq(1), 0)));
    run(&mut world, 1, async |shard| churn(shard, 300, 300).await);
    grow_old(&mut world);
    let to = match whole(&mut world) {
        Err(FsError::Trimmed { to }) => to,
        other => panic!("the old ones that all have passed are trimmed: {other:?}"),
    };
    // Behind the place that the error names history is whole again, and has all that is not passed.
    let rest = run(&mut world, 0, async move |shard| {
        read(&shard, (Seq(to.0 + 1), 0), Seq(0)).await.map(|all| deleted(&all))
    });
    assert_eq!(rest.expect("whole").len(), 300);
    assert_eq!(
        tend(&mut world, late.clone()),
        Err(FsError::Trimmed { to }),
        "history is lost to it"
    );
    let names = run(&mut world, 0, async |shard| shard.consumers().await).expect("listed");
    assert_eq!(names.len(), 1, "and it is not there");
    world.crash();
    world.boot(3).expect("booted");
    assert_eq!(tend(&mut world, late), Err(FsError::Trimmed { to }), "nor after a cut");
    // A new consumer that begins at the beginning misses nothing.
    tend(&mut world, Tend::Add(consumer("new"), Begin::Beginning)).expect("added");
    tend(&mut world, Tend::Remove(consumer("tape"))).expect("removed");
    grow_old(&mut world);
    assert!(matches!(whole(&mut world), Err(FsError::Trimmed { to: later }) if later > to));
    let new = run(&mut world, 1, async |shard| {
        let all = shard.consumers().await?;
        read(&shard, (Seq(1), 0), all[0].floor).await
    });
    assert_eq!(deleted(&new.expect("it is told nothing is missing")).len(), 0);
}

#[test]
fn with_too_many_the_oldest_go_and_the_consumer_is_named() {
    let old = Nanos::from_secs(1 << 30);
    let mut world = booted(Trimming { age: old, tablet_max: 100, round: EAGER.round }, 2);
    let alarms = |world: &mut World| {
        let all = run(world, 0, async |shard| shard.status().await).expect("answered");
        let names = all.iter().filter_map(|it| it.deletions.held_by.clone()).collect::<Vec<_>>();
        let unseen: u64 = all.iter().map(|it| it.deletions.trimmed_unseen).sum();
        let entries: u64 = all.iter().map(|it| it.deletions.entries).sum();
        (names, unseen, entries)
    };
    let add = Tend::Add(consumer("tape"), Begin::Now);
    run(&mut world, 0, async move |shard| shard.tend_consumer(add).await).expect("added");
    run(&mut world, 1, async |shard| churn(shard, 0, 70).await);
    world.machine().idle(Nanos::from_secs(1)).expect("it idles");
    assert_eq!(alarms(&mut world), (vec![], 0, 70));
    run(&mut world, 1, async |shard| churn(shard, 70, 20).await);
    world.machine().idle(Nanos::from_secs(1)).expect("it idles");
    assert_eq!(alarms(&mut world), (vec![consumer("tape")], 0, 90), "before anything is lost");
    run(&mut world, 1, async |shard| churn(shard, 90, 310).await);
    world.machine().idle(Nanos::from_secs(1)).expect("it idles");
    assert_eq!(alarms(&mut world), (vec![consumer("tape")], 300, 100));
    let place = |shard: Rc<Shard<World>>| async move {
        let tape = shard.consumers().await.expect("listed").remove(0);
        let read = read(&shard, (Seq(tape.cursor.0.0 + 1), 0), tape.floor).await;
        (tape.cursor, shard.stable().await.expect("stable"), read)
    };
    let (cursor, stable, read) = run(&mut world, 1, place);
    assert!(matches!(read, Err(FsError::Trimmed { .. })), "it is told: {read:?}");
    let tend = |world: &mut World, tend: Tend| {
        run(world, 1, async move |shard| shard.tend_consumer(tend).await)
    };
    let ack = |place| Tend::Ack(consumer("tape"), place);
    assert_eq!(tend(&mut world, ack((Seq(cursor.0.0 - 1), 0))), Err(FsError::Invalid), "back");
    let far = (Seq(stable.0 + 1_000_000_000_000), 0);
    assert_eq!(tend(&mut world, ack(far)), Err(FsError::Invalid), "above what is stable");
    assert_eq!(tend(&mut world, ack((stable, u64::MAX))), Ok(()));
    world.machine().idle(Nanos::from_secs(1)).expect("it idles");
    assert_eq!(alarms(&mut world).0, vec![], "it has come by");
    assert_eq!(tend(&mut world, Tend::Remove(consumer("disk"))), Err(FsError::NotFound));
    let again = Tend::Add(consumer("tape"), Begin::Now);
    assert_eq!(tend(&mut world, again), Err(FsError::Exists));
    for number in 1..256 {
        let name = consumer(&number.to_string());
        assert_eq!(tend(&mut world, Tend::Add(name, Begin::Now)), Ok(()), "{number}");
    }
    let more = Tend::Add(consumer("one more"), Begin::Now);
    assert_eq!(tend(&mut world, more), Err(FsError::TooManyConsumers));
}

#[test]
fn what_a_broken_engine_would_answer_is_seen() {
    let ino = InodeNo::from_raw((9 << 12) + 1).expect("a number");
    let change = |what| Change {
        seq: Seq(5),
        ino,
        kind: cairn_engine::attr::FileKind::Regular,
        data_version: 0,
        what,
    };
    let gone = cairn_engine::Gone {
        parent: 1,
        name: b"x"[..].into(),
        hidden_xattrs: Box::default(),
        hidden_xattrs_cut: false,
    };
    let gone = change(What::Deleted(gone));
    let slow = Consumer {
        name: consumer("slow"),
        cursor: (Seq(3), 0),
        floor: Seq(2),
        created: 1,
        acked: 0,
    };
    let told = Told {
        removed: [ino].into(),
        acked: [(consumer("slow"), (Seq(3), 0))].into(),
        asked: [(consumer("slow"), (Seq(3), 0))].into(),
        seen: BTreeSet::new(),
    };
    let good = || Found {
        consumers: vec![slow.clone()],
        slow: Ok(vec![gone.clone()]),
        whole: Ok(vec![gone.clone()]),
        fresh: Ok(vec![]),
    };
    assert_eq!(judge(&told, &good()), Ok(()));
    let trimmed = || Err(FsError::Trimmed { to: Seq(5) });
    assert_eq!(judge(&told, &Found { whole: trimmed(), ..good() }), Ok(()));
    assert!(judge(&told, &Found { consumers: vec![], ..good() }).is_err());
    let back = Consumer { cursor: (Seq(2), 0), ..slow.clone() };
    assert!(judge(&told, &Found { consumers: vec![back], ..good() }).is_err());
    assert!(judge(&told, &Found { slow: Ok(vec![]), ..good() }).is_err());
    assert!(judge(&told, &Found { slow: trimmed(), ..good() }).is_err());
    assert!(judge(&told, &Found { whole: Ok(vec![]), ..good() }).is_err());
    assert!(judge(&told, &Found { fresh: trimmed(), ..good() }).is_err());
    assert!(judge(&told, &Found { fresh: Ok(vec![change(What::Data)]), ..good() }).is_err());
}
