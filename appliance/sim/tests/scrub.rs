//! A scrub finds every block that is not what the pool refers to, and nothing else, while clients go on
//! and whatever the power does.
//!
//! A pool with something of everything is made once; each case goes on from its image, boots, puts one
//! fault into one block behind the engine's back, and lets a pass run. The fault is what a device can do:
//! rot, a write that was lost (what stood there before stands there still), one that was torn, one that
//! landed elsewhere.

use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, Nanos, Run};
use cairn_engine::attr::SetAttr;
use cairn_engine::name::Name;
use cairn_engine::op::{Create, CreateHow, Mkdir, Read, Referring, Stability, Unlink, Write};
use cairn_engine::scrub::{Command, Damaged, ScrubReport, ScrubState, What};
use cairn_engine::{Cred, FsError, Shard};
use cairn_format::filter::FilterRef;
use cairn_format::item::{CAUSE_MEDIA, ExtentHead};
use cairn_format::key::ParsedKey;
use cairn_format::node::{NODE_BLOCKS, Node, NodeHeader, NodeRef};
use cairn_format::superblock::{
    SUPERBLOCK_A, SUPERBLOCK_B, SUPERBLOCK_BLOCKS, Superblock, root_block,
};
use cairn_format::tablet_root::{TabletRootBlock, TreeRef};
use cairn_format::{InodeNo, Key, RootGeneration, TabletId};
use cairn_sim::fault::Lasting;
use cairn_sim::media::{Image, Temper};
use cairn_sim::mutation::layout::Layout;
use cairn_sim::mutation::pool_copy::PoolCopy;
use cairn_sim::world::{World, WorldConfig};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use zerocopy::{FromBytes, IntoBytes};

const SHARDS: usize = 2;
/// Longer than any pass here takes.
const PASS_MAX: Nanos = Nanos::from_secs(300);
const NAMES: u64 = 900;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Rot,
    Lost,
    Torn,
    Misdirected,
}

const FAULTS: [Fault; 4] = [Fault::Rot, Fault::Lost, Fault::Torn, Fault::Misdirected];

fn config(memtable_bytes: usize) -> WorldConfig {
    let device_blocks = vec![1 << 15];
    WorldConfig { tablets: 4, device_blocks, fua: true, memtable_bytes, log_blocks: 1500 }
}

/// A pool that was filled, and where everything lies in it.
struct Made {
    world: World,
    image: Image,
    copy: PoolCopy,
    layout: Layout,
}

impl Made {
    fn new() -> Made {
        // Small memtables, so that most of it is in trees.
        let mut world = World::new(5, config(64 << 10));
        world.format().expect("formatted");
        world.boot(SHARDS).expect("booted");
        let shard = world.shards()[0].clone();
        let filled = world.machine().run(0, async move { fill(&shard).await });
        filled.expect("the machine runs").expect("there is room");
        world.machine().idle(Nanos::from_secs(5)).expect("it idles");
        world.crash();
        let image = world.media.borrow().image();
        let copy = PoolCopy::of(&world.media.borrow());
        let layout = Layout::of(&copy).expect("a sound pool");
        Made { world, image, copy, layout }
    }

    /// The pool goes on, with memtables that nothing here fills.
    fn booted(&self, shards: usize) -> Scrubbed {
        let (clock, image) = (&self.world.clock, &self.image);
        let mut world = World::resume(7, config(4 << 20), clock, image, Temper::KeepAll);
        world.boot(shards).expect("booted");
        Scrubbed { world }
    }

    fn trees(&self) -> impl Iterator<Item = (bool, TreeRef)> + '_ {
        self.layout.tablets.iter().flat_map(|tablet| {
            let logs = tablet.root.log_trees().iter().map(|entry| (false, entry.tree));
            logs.chain([(true, tablet.root.fs)]).filter(|(_, tree)| !tree.is_empty())
        })
    }

    fn bytes(&self, at: &NodeRef) -> Vec<u8> {
        self.copy.bytes(Run::new(at.block_no(), NODE_BLOCKS))
    }

    /// Nodes of one level of fs trees or log trees.
    fn nodes(&self, is_fs: bool, level: u8) -> Vec<NodeRef> {
        let mut found = Vec::new();
        for (_, tree) in self.trees().filter(|(fs, tree)| *fs == is_fs && tree.level >= level) {
            let mut nodes = vec![tree.root];
            for _ in level..tree.level {
                let children = nodes.iter().flat_map(|at| {
                    let bytes = self.bytes(at);
                    let node = Node::trusted(&bytes);
                    (0..node.count()).map(|index| node.child(index)).collect::<Vec<_>>()
                });
                nodes = children.collect();
            }
            found.extend(nodes);
        }
        found
    }

    fn filters(&self) -> Vec<FilterRef> {
        let entries = self.layout.tablets.iter().flat_map(|tablet| tablet.root.log_trees());
        entries.map(|entry| entry.filter).filter(|filter| !filter.is_none()).collect()
    }

    fn data(&self) -> Vec<(InodeNo, u64, BlockNo)> {
        let items = self.layout.tablets.iter().flat_map(|tablet| &tablet.items);
        let blocks = items.filter_map(|(key, value)| match key.parse()? {
            ParsedKey::Extent { inode, file_block } => {
                let (head, _) = ExtentHead::parse(value).ok()?;
                let start = BlockNo::from_raw(head.start.get());
                let block = |n| (inode, file_block + n, start.after(n));
                (start.raw() != 0).then(|| (0..head.blocks()).map(block).collect::<Vec<_>>())
            }
            _ => None,
        });
        blocks.flatten().collect()
    }
}

/// A world in which passes run.
struct Scrubbed {
    world: World,
}

impl Scrubbed {
    fn ask<T: 'static, F: Future<Output = T> + 'static>(
        &mut self,
        ask: impl FnOnce(Rc<Shard<World>>) -> F,
    ) -> T {
        // Any shard can be asked; the last is seldom the one that gives the orders.
        let core = self.world.shards().len() - 1;
        let shard = self.world.shards()[core].clone();
        self.world.machine().run(core, ask(shard)).expect("the machine runs")
    }

    fn command(&mut self, command: Command) -> ScrubReport {
        self.ask(|shard| async move { shard.scrub(command).await }).expect("it is carried out")
    }

    fn report(&mut self) -> ScrubReport {
        self.ask(|shard| async move { shard.scrub_report().await }).expect("it is told")
    }

    fn start(&mut self, rate: u64) {
        let report = self.command(Command::Start { rate: Some(rate) });
        assert!(report.pass > 0, "{report:?}");
    }

    /// Until no pass is under way.
    fn wait(&mut self) -> ScrubReport {
        let until = self.world.clock.now() + PASS_MAX;
        while self.world.clock.now() < until {
            let report = self.report();
            if report.state != ScrubState::Running {
                return report;
            }
            self.world.machine().idle(Nanos::from_millis(50)).expect("it idles");
        }
        panic!("no end of the pass: {:?}", self.report());
    }

    fn pass(&mut self) -> Vec<Damaged> {
        self.start(0);
        let report = self.wait();
        assert_eq!(report.state, ScrubState::Idle, "{report:?}");
        let found = self.found();
        assert_eq!(report.findings_ended, found.len() as u64, "{found:?}");
        found
    }

    /// All pages, small ones.
    fn found(&mut self) -> Vec<Damaged> {
        let mut all: Vec<Damaged> = Vec::new();
        loop {
            let after = all.last().map(|damaged| (damaged.tablet, damaged.key()));
            let page = self.ask(move |shard| async move { shard.damage(after, 2).await });
            let page = page.expect("it is told");
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// In blocks, nodes and data.
    fn blocks_read(&self) -> u64 {
        let counters = self.world.shards().iter().map(|shard| shard.core.counters.values());
        counters.map(|values| values.scrub_nodes * NODE_BLOCKS + values.scrub_blocks).sum()
    }

    fn nodes_read(&self) -> u64 {
        let counters = self.world.shards().iter().map(|shard| shard.core.counters.values());
        counters.map(|values| values.scrub_nodes).sum()
    }

    /// Puts other bytes in the place of some blocks, on the medium.
    fn put(&mut self, at: BlockNo, bytes: &[u8]) {
        let mut media = self.world.media.borrow_mut();
        let mut changed = false;
        for (n, block) in (0..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let at = at.after(n);
            let old = media.peek(at).map_or_else(|| vec![0; BLOCK_BYTES], |block| block.to_vec());
            for (byte, (old, new)) in old.iter().zip(block).enumerate() {
                for bit in (0..8).filter(|bit| (old ^ new) >> bit & 1 == 1) {
                    media.rot(at, byte * 8 + bit);
                    changed = true;
                }
            }
        }
        assert!(changed, "the fault at {at} changes nothing");
    }

    fn bytes(&self, run: Run) -> Vec<u8> {
        let media = self.world.media.borrow();
        let block = |n| media.peek(run.start.after(n)).map(|block| block.to_vec());
        (0..run.blocks).flat_map(|n| block(n).unwrap_or_else(|| vec![0; BLOCK_BYTES])).collect()
    }

    /// `older` is what a lost write leaves, `other` what a misdirected one does.
    fn harm(&mut self, run: Run, fault: Fault, older: &[u8], other: &[u8]) {
        let mut bytes = self.bytes(run);
        match fault {
            Fault::Rot => {
                // In the middle of something that is used.
                let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
                bytes[used[used.len() / 2]] ^= 4;
            }
            Fault::Lost => bytes.copy_from_slice(older),
            Fault::Torn => {
                let half = bytes.len() / 2;
                bytes[half..].copy_from_slice(&older[half..]);
            }
            Fault::Misdirected => bytes.copy_from_slice(other),
        }
        self.put(run.start, &bytes);
    }
}

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).expect("a name")
}

async fn make(shard: &Rc<Shard<World>>, text: &str) -> Result<InodeNo, FsError> {
    let how = CreateHow::Unchecked(SetAttr::default());
    let (cred, dir, name) = (Cred::root(), InodeNo::ROOT, name(text));
    Ok(shard.call(Create { cred, dir, name, how }).await?.ino)
}

async fn write(
    shard: &Rc<Shard<World>>,
    ino: InodeNo,
    offset: u64,
    len: usize,
) -> Result<(), FsError> {
    let mut data = shard.arena().alloc((offset % 4096) as usize + len);
    for (at, byte) in data.iter_mut().enumerate() {
        *byte = (offset + at as u64 / 7 + ino.raw()) as u8 | 1;
    }
    let (cred, stability) = (Cred::root(), Stability::FileSync);
    shard.call(Write { cred, ino, offset, data, len, stability }).await.map(drop)
}

async fn unlink(shard: &Rc<Shard<World>>, text: &str) -> Result<(), FsError> {
    let unlink = Unlink { cred: Cred::root(), dir: InodeNo::ROOT, name: name(text) };
    shard.call(unlink).await.map(drop)
}

/// Files of all sizes and many names, in all tablets.
async fn fill(shard: &Rc<Shard<World>>) -> Result<(), FsError> {
    let mut dirs = Vec::new();
    for number in 0..8 {
        let (cred, dir, name) = (Cred::root(), InodeNo::ROOT, name(&format!("dir {number}")));
        dirs.push(shard.call(Mkdir { cred, dir, name, set: SetAttr::default() }).await?.ino);
    }
    for number in 0..NAMES {
        let (cred, dir) = (Cred::root(), dirs[number as usize % dirs.len()]);
        let how = CreateHow::Unchecked(SetAttr::default());
        let name = name(&format!("a name of some length, {number}"));
        let ino = shard.call(Create { cred, dir, name, how }).await?.ino;
        match number % 40 {
            0 => write(shard, ino, 0, 100).await?,
            1 => write(shard, ino, 0, 9000).await?,
            2 => {
                write(shard, ino, 0, 40_000).await?;
                write(shard, ino, 200_000, 50_000).await?;
            }
            3 if number < 100 => write(shard, ino, 0, 1_000_000).await?,
            _ => {}
        }
    }
    Ok(())
}

/// A few changes, as clients make while a pass runs.
async fn disturb(shard: Rc<Shard<World>>, done: Rc<Cell<u64>>) {
    for round in 0..6 {
        let text = format!("new {}", round % 3);
        let Ok(ino) = make(&shard, &text).await else { return };
        if write(&shard, ino, 0, 30_000).await.is_err() {
            return;
        }
        done.set(done.get() + 1);
        shard.reactor().sleep(Nanos::from_millis(3)).await;
    }
}

/// One fault in one block: it is found as what it is, and so is nothing else.
fn expect_found(
    made: &Made,
    run: Run,
    (older, other): (&[u8], &[u8]),
    fault: Fault,
    is_it: impl Fn(&What) -> bool,
) {
    let mut scrubbed = made.booted(SHARDS);
    scrubbed.harm(run, fault, older, other);
    let done = Rc::new(Cell::new(0));
    let shard = scrubbed.world.shards()[0].clone();
    scrubbed.world.machine().spawn(0, disturb(shard, done.clone()));
    let found = scrubbed.pass();
    let is_right = matches!(&found[..], [one] if one.block == run.start && is_it(&one.what));
    assert!(is_right, "{fault:?} at {run:?}: {found:?}");
    assert!(done.get() > 0, "clients stood still");
}

fn zeros(run: Run) -> Vec<u8> {
    vec![0; run.blocks as usize * BLOCK_BYTES]
}

/// The same node as it was a generation before.
fn older_node(bytes: &[u8]) -> Vec<u8> {
    let mut older = bytes.to_vec();
    let (header, _) = NodeHeader::mut_from_prefix(&mut older).expect("a node");
    header.generation = (header.generation.get() - 1).into();
    // It held something else, to its end.
    older[9000..].iter_mut().for_each(|byte| *byte ^= 0x11);
    older
}

#[test]
fn every_fault_in_every_kind_of_node_is_found_and_named() {
    let made = Made::new();
    for (is_fs, level) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let nodes = made.nodes(is_fs, level);
        // Clients are in the root, whose tablet stays sound: else they would hear EIO.
        let is_apart =
            |at: &&NodeRef| Node::trusted(&made.bytes(at)).tablet() != InodeNo::ROOT.tablet();
        let apart: Vec<NodeRef> = nodes.iter().filter(is_apart).copied().collect();
        assert!(!apart.is_empty(), "fs {is_fs}, level {level}: {} nodes", nodes.len());
        let leaves = made.nodes(true, 0);
        for fault in FAULTS {
            let at = apart[apart.len() / 2];
            let other = leaves[usize::from(leaves[0] == at)];
            let run = Run::new(at.block_no(), NODE_BLOCKS);
            let (older, other) = (older_node(&made.bytes(&at)), made.bytes(&other));
            expect_found(
                &made,
                run,
                (&older, &other),
                fault,
                |what| matches!(what, What::Node { tree, .. } if (*tree == 0) == is_fs),
            );
        }
    }
}

#[test]
fn every_fault_in_a_filter_or_a_data_block_is_found_and_named() {
    let made = Made::new();
    let filters = made.filters();
    let (at, other) = (filters[filters.len() - 1], filters[0]);
    let run = |of: FilterRef| Run::new(of.block_no(), of.blocks.get().into());
    assert_ne!(run(at), run(other), "two filters");
    let mut other = made.copy.bytes(run(other));
    other.resize(at.bytes(), 0);
    for fault in FAULTS {
        let places = (&zeros(run(at))[..], &other[..]);
        expect_found(&made, run(at), places, fault, |what| matches!(what, What::Filter { .. }));
    }
    let blocks = made.data();
    let inodes: BTreeSet<InodeNo> = blocks.iter().map(|(ino, _, _)| *ino).collect();
    assert!(blocks.len() > 500 && inodes.len() > 20, "{} blocks", blocks.len());
    for (n, fault) in FAULTS.into_iter().enumerate() {
        let (inode, place, block) = blocks[blocks.len() / 5 * (n + 1)];
        let (run, other) = (Run::new(block, 1), made.copy.block(blocks[0].2));
        expect_found(&made, run, (&zeros(run), &other), fault, |what| {
            *what == What::Data { ino: inode, file_block: place, blocks: 1 }
        });
    }
}

#[test]
fn every_fault_in_a_copy_of_a_root_or_a_superblock_is_found_and_named() {
    let made = Made::new();
    let fsid = made.layout.superblock.fsid;
    for fault in FAULTS {
        let (id, other) = (TabletId(2), TabletId(3));
        let slots = [0, 1].map(|slot| root_block(id, RootGeneration(slot)));
        let newest = slots.into_iter().max_by_key(|at| {
            let block = made.copy.block(*at);
            TabletRootBlock::parse(&block, &fsid, id).map_or(0, |body| body.generation.get())
        });
        let run = Run::new(newest.expect("one of two"), 1);
        let block = made.copy.block(run.start);
        let mut body = *TabletRootBlock::parse(&block, &fsid, id).expect("a root");
        body.generation = (body.generation.get() - 2).into();
        body.newest_meta_seq = 1.into();
        let mut older = zeros(run);
        TabletRootBlock::seal(&body, &fsid, &mut older);
        // Its second half is not used, so that a torn one is what was there at first: nothing.
        let older = if fault == Fault::Torn { vec![0xee; BLOCK_BYTES] } else { older };
        let other = made.copy.block(root_block(other, RootGeneration(run.start.index() & 1)));
        expect_found(&made, run, (&older, &other), fault, |what| *what == What::Root);
    }
    for (fault, is_newest) in FAULTS.into_iter().flat_map(|fault| [(fault, true), (fault, false)]) {
        let scrubbed = made.booted(SHARDS);
        let slots = [SUPERBLOCK_A, SUPERBLOCK_B];
        let runs = slots.map(|slot| Run::new(BlockNo::new(DeviceId(0), slot), SUPERBLOCK_BLOCKS));
        let copies = runs.map(|run| (run, scrubbed.bytes(run)));
        let generation =
            |bytes: &[u8]| Superblock::parse(bytes).expect("both are good").generation.get();
        let [a, b] = copies;
        let a_is_newest = generation(&a.1) > generation(&b.1);
        let ((run, bytes), (_, other)) = if a_is_newest == is_newest { (a, b) } else { (b, a) };
        let mut older = Superblock::read_from_bytes(&bytes).expect("its size");
        older.generation = (older.generation.get() - 2).into();
        older.seal();
        let mut older = older.as_bytes().to_vec();
        if fault == Fault::Torn {
            let half = older.len() / 2;
            older[half] ^= 1;
        }
        expect_found(&made, run, (&older, &other), fault, |what| *what == What::Superblock);
    }
}

#[test]
fn a_block_that_cannot_be_read_is_found_and_one_that_can_the_second_time_is_not() {
    let made = Made::new();
    let (ino, file_block, block) = made.data()[100];
    let leaf = made.nodes(true, 0)[1].block_no();
    for lasting in [Lasting::Once, Lasting::Forever] {
        let mut scrubbed = made.booted(SHARDS);
        for at in [block, leaf] {
            scrubbed.world.media.borrow_mut().faults.fail_reads_of(at, lasting);
        }
        let found = scrubbed.pass();
        if lasting == Lasting::Once {
            assert_eq!(found, [], "they can be read");
            continue;
        }
        let blocks: BTreeSet<BlockNo> = found.iter().map(|damaged| damaged.block).collect();
        assert!(blocks.contains(&leaf), "{found:?}");
        assert!(found.iter().all(|damaged| damaged.cause.code == CAUSE_MEDIA), "{found:?}");
        let hidden = found.iter().any(|damaged| match damaged.what {
            // What a leaf hides cannot be looked for.
            What::Node { from, to, .. } => {
                let key = Key::extent(ino, file_block);
                damaged.tablet == ino.tablet() && from <= key && key < to
            }
            _ => false,
        });
        assert_ne!(blocks.contains(&block), hidden, "{found:?}");
    }
}

/// Everything at once, in a pool that changes all the time: nothing sound may be told to be damaged.
async fn churn(shard: Rc<Shard<World>>, core: usize, stop: Rc<Cell<bool>>, done: Rc<Cell<u64>>) {
    for round in 0_u64.. {
        if stop.get() {
            return;
        }
        let text = format!("churn {core} {}", round % 17);
        let Ok(ino) = make(&shard, &text).await else { return };
        let offset = round % 5 * 70_000;
        if write(&shard, ino, offset, 1000 + (round % 4) as usize * 30_000).await.is_err() {
            return;
        }
        if round % 3 == 0 && unlink(&shard, &text).await.is_err() {
            return;
        }
        done.set(done.get() + 1);
    }
}

#[test]
fn a_sound_pool_that_changes_all_the_time_has_no_findings() {
    for (seed, shards) in [(1, 1), (2, 2), (3, 3)] {
        // So small that freed blocks are soon used again.
        let small =
            WorldConfig { device_blocks: vec![7 << 10], log_blocks: 300, ..config(64 << 10) };
        let mut world = World::new(seed, small);
        world.format().expect("formatted");
        world.boot(shards).expect("booted");
        let mut scrubbed = Scrubbed { world };
        let filled = scrubbed.ask(|shard| async move { fill(&shard).await });
        filled.expect("there is room");
        let (stop, done) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        for core in 0..shards {
            let shard = scrubbed.world.shards()[core].clone();
            let load = churn(shard, core, stop.clone(), done.clone());
            scrubbed.world.machine().spawn(core, load);
        }
        for pass in 0..12 {
            let before = done.get();
            assert_eq!(scrubbed.pass(), [], "seed {seed}, pass {pass}");
            assert!(done.get() > before, "clients stood still");
        }
        stop.set(true);
        let counters = |of: fn(&cairn_engine::counters::CounterValues) -> u64| -> u64 {
            scrubbed.world.shards().iter().map(|shard| of(&shard.core.counters.values())).sum()
        };
        assert!(counters(|c| c.fold_steps) > 10, "nothing was folded meanwhile");
        assert!(counters(|c| c.log_trees_written) > 4, "nothing was frozen meanwhile");
    }
}

#[test]
fn a_pass_goes_on_after_a_power_cut_and_forgets_nothing() {
    let made = Made::new();
    let whole = {
        let mut scrubbed = made.booted(SHARDS);
        assert_eq!(scrubbed.pass(), []);
        scrubbed.blocks_read()
    };
    let blocks = made.data();
    let harmed: BTreeSet<BlockNo> = (1..5).map(|part| blocks[blocks.len() / 5 * part].2).collect();
    let mut scrubbed = made.booted(SHARDS);
    for block in &harmed {
        scrubbed.world.media.borrow_mut().rot(*block, 99);
    }
    // So slow that the power goes several times in one tablet.
    scrubbed.start(24 << 10);
    let (pass, mut blocks, mut boots) = (scrubbed.report().pass, 0, 0);
    let mut known: BTreeSet<BlockNo> = BTreeSet::new();
    loop {
        scrubbed.world.machine().idle(Nanos::from_secs(12)).expect("it idles");
        let found: BTreeSet<BlockNo> =
            scrubbed.found().iter().map(|damaged| damaged.block).collect();
        assert!(found.is_superset(&known), "forgotten: {known:?}, now {found:?}");
        let report = scrubbed.report();
        if report.state == ScrubState::Idle {
            assert_eq!(report.pass, pass, "it is the same pass");
            assert_eq!(found, harmed);
            blocks += scrubbed.blocks_read();
            break;
        }
        // What was found in the last seconds may not be written down yet.
        let settled = scrubbed.world.machine().idle(Nanos::from_secs(6));
        settled.expect("it idles");
        known = found;
        blocks += scrubbed.blocks_read();
        boots += 1;
        assert!(boots < 50, "no end: {report:?}");
        scrubbed.world.crash();
        scrubbed.world.boot(1 + boots % 3).expect("booted");
    }
    assert!(boots >= 4, "the power went {boots} times");
    assert!(blocks < 2 * whole, "{blocks} blocks were read, a pass has {whole}");
}

#[test]
fn a_paused_pass_stays_where_it_is_and_a_cancelled_one_is_over() {
    let made = Made::new();
    let mut scrubbed = made.booted(SHARDS);
    scrubbed.start(256 << 10);
    scrubbed.world.machine().idle(Nanos::from_secs(4)).expect("it idles");
    let paused = scrubbed.command(Command::Pause);
    assert_eq!(paused.state, ScrubState::Paused);
    scrubbed.world.machine().idle(Nanos::from_secs(2)).expect("it idles");
    let nodes = scrubbed.nodes_read();
    scrubbed.world.machine().idle(Nanos::from_secs(20)).expect("it idles");
    assert_eq!(scrubbed.nodes_read(), nodes, "it reads on");
    let before = scrubbed.report();
    assert!(before.part.nodes + before.part.blocks > 0, "{before:?}");
    scrubbed.world.crash();
    scrubbed.world.boot(1).expect("booted");
    scrubbed.world.machine().idle(Nanos::from_secs(2)).expect("it idles");
    let after = scrubbed.report();
    assert_eq!((after.state, after.pass), (ScrubState::Paused, before.pass));
    assert_eq!(after.part.nodes, before.part.nodes, "it is where it was");
    assert_eq!(scrubbed.nodes_read(), 0, "a paused pass reads nothing");
    let over = scrubbed.command(Command::Cancel);
    assert_eq!((over.state, over.ended), (ScrubState::Idle, 0));
    assert_eq!(scrubbed.pass(), []);
    assert!(scrubbed.report().pass > before.pass);
}

#[test]
fn damage_goes_with_what_was_damaged_and_with_the_next_pass() {
    let made = Made::new();
    let mut scrubbed = made.booted(SHARDS);
    let make_file = |text: &'static str| {
        move |shard: Rc<Shard<World>>| async move {
            let ino = make(&shard, text).await?;
            write(&shard, ino, 0, 100_000).await.map(|()| ino)
        }
    };
    let (first, second) = (
        scrubbed.ask(make_file("removed")).expect("made"),
        scrubbed.ask(make_file("overwritten")).expect("made"),
    );
    scrubbed.world.machine().idle(Nanos::from_secs(5)).expect("it idles");
    // Where they lie, an image of the devices tells.
    let copy = {
        let (clock, image) = (&made.world.clock, scrubbed.world.media.borrow().image());
        let mut cut = World::resume(9, config(4 << 20), clock, &image, Temper::KeepAll);
        cut.crash();
        let media = cut.media.borrow();
        PoolCopy::of(&media)
    };
    let layout = Layout::of(&copy).expect("a sound pool");
    for ino in [first, second] {
        let start = layout.tablet(ino.tablet()).items.iter().find_map(|(key, value)| {
            let (head, _) = ExtentHead::parse(value).ok()?;
            match key.parse()? {
                ParsedKey::Extent { inode, .. } if inode == ino => Some(head.start.get()),
                _ => None,
            }
        });
        let start = BlockNo::from_raw(start.expect("it was placed"));
        for n in [3, 4, 9] {
            scrubbed.world.media.borrow_mut().rot(start.after(n), 77);
        }
    }
    let found = scrubbed.pass();
    let of = |ino| {
        [(ino, 3, 2), (ino, 9, 1)].map(|(ino, file_block, blocks)| What::Data {
            ino,
            file_block,
            blocks,
        })
    };
    let told: Vec<What> = found.iter().map(|damaged| damaged.what).collect();
    assert_eq!(told.len(), 4, "{found:?}");
    assert!(of(first).iter().chain(&of(second)).all(|what| told.contains(what)), "{found:?}");
    let eio = scrubbed.ask(move |shard| async move {
        shard.call(Read { cred: Cred::root(), ino: first, offset: 3 * 4096, len: 4096 }).await
    });
    // The cache may have the right bytes still; wrong ones are never told.
    if let Err(error) = eio {
        assert_eq!(error.errno(), 5, "{error}");
    }
    let gone = scrubbed.ask(move |shard| async move {
        unlink(&shard, "removed").await?;
        write(&shard, second, 0, 5 * 4096).await
    });
    gone.expect("a damaged file can be removed, and written anew");
    scrubbed.world.machine().idle(Nanos::from_secs(5)).expect("it idles");
    let left: Vec<What> = scrubbed.found().iter().map(|damaged| damaged.what).collect();
    assert_eq!(left, [What::Data { ino: second, file_block: 9, blocks: 1 }], "without a pass");
    scrubbed.ask(|shard| async move { unlink(&shard, "overwritten").await }).expect("removed");
    assert_eq!(scrubbed.pass(), []);
    // What was repaired is off the list when a pass has seen it.
    let copy = BlockNo::new(DeviceId(0), SUPERBLOCK_A);
    scrubbed.world.media.borrow_mut().rot(copy, 5);
    assert_eq!(scrubbed.pass().len(), 1);
    scrubbed.world.media.borrow_mut().rot(copy, 5);
    assert_eq!(scrubbed.pass(), []);
}

/// The children of a node of level 1, with the keys between which each lies.
fn leaves_below(made: &Made, tree: &TreeRef) -> Vec<(NodeRef, Key, Key)> {
    let bytes = made.bytes(&tree.root);
    let node = Node::trusted(&bytes);
    assert_eq!(node.level(), 1, "a tree of two levels");
    let from = |index| if index == 0 { Key::MIN } else { node.key(index) };
    let to = |index| if index + 1 < node.count() { node.key(index + 1) } else { Key::MAX };
    (0..node.count()).map(|index| (node.child(index), from(index), to(index))).collect()
}

#[test]
fn a_damaged_leaf_hides_what_it_has_and_nothing_beside_it() {
    let made = Made::new();
    let (mut hidden, mut beside) = (0, 0);
    for tablet in made.layout.tablets.iter().filter(|tablet| tablet.root.fs.level == 1) {
        // Where an inode is named is asked of its last items, and behind those of a leaf is the next one.
        let inodes = tablet.items.keys().filter_map(|key| match key.parse() {
            Some(ParsedKey::Inode(inode)) => Some(inode),
            _ => None,
        });
        let inodes: Vec<InodeNo> = inodes.collect();
        for (leaf, from, to) in leaves_below(&made, &tablet.root.fs) {
            let mut scrubbed = made.booted(1);
            scrubbed.world.media.borrow_mut().rot(leaf.block_no(), 40_000);
            for &ino in &inodes {
                let asked = scrubbed.ask(move |shard| async move {
                    shard.call(Referring { ino, after: None, count_max: 9 }).await.map(drop)
                });
                let (first, end) = (Key::of_inode(ino), Key::of_inode(ino).prefix_end());
                match asked {
                    Ok(()) => beside += 1,
                    Err(error) => {
                        assert_eq!(error.errno(), 5, "{error}");
                        assert!(first < to && from < end, "{ino} is not in {from:?} to {to:?}");
                        hidden += 1;
                    }
                }
            }
        }
    }
    assert!(hidden > 50 && beside > 500, "{hidden} inodes hidden, {beside} beside");
}
