//! Archive agents: they copy files out, release them by the version of the copy, and stage them back, while
//! clients are at work on the same files.
//!
//! What an agent has copied outlives every crash, as a tape does. The oracle of `model/` knows nothing of offline
//! data but that a file which an agent has been at may answer `Offline`: releasing and staging change nothing that
//! it keeps. Whatever else is asked of a file is compared as ever, so bytes that were not released are seen.
//!
//! Whether it comes back is known when everything is read (`read_back.rs`), with no agent at work: each file that
//! is offline in part must have a tape of its version; its blocks are counted, and those that can be read are
//! compared with the tape; what the last agent was told must have lasted; then it is staged from the tape, which
//! may change nothing but meta_seq. From then on it is online, and says so.
//!
//! Agents copy files of up to `COPY_BYTES_MAX` only, and call the engine: NFS has no words for what they ask.

use crate::client::{Client, IO_BYTES_MAX};
use crate::model::act::NodeId;
use crate::model::history::History;
use crate::world::World;
use cairn_base::prng::Prng;
use cairn_base::{BLOCK_BYTES, Nanos};
use cairn_engine::attr::{Attr, FileKind};
use cairn_engine::error::FsError;
use cairn_engine::op;
use cairn_format::InodeNo;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

const BLOCK: u64 = BLOCK_BYTES as u64;
const MIB: u64 = 1 << 20;
const COPY_BYTES_MAX: u64 = 4 << 20;
const TURNS_PERCENT: u64 = 4;
const AGENTS_MAX: usize = 3;
/// Copies that are kept when nothing is offline.
const COPIES_KEPT: usize = 24;
const WHOLE: Range<u64> = 0..1 << 28;

pub struct Agents {
    is_drawn: bool,
    prng: Prng,
    pub tapes: Tapes,
    /// When the last one set out.
    begun: Nanos,
}

/// What the agents have, and what they were told.
#[derive(Clone, Default)]
pub struct Tapes(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    copies: BTreeMap<(InodeNo, u64), Rc<[u8]>>,
    told: BTreeMap<InodeNo, Told>,
    acts: BTreeMap<InodeNo, Acts>,
    under_way: usize,
    wrong: Option<String>,
}

/// Of these blocks, while the data has this version.
#[derive(Clone)]
struct Told {
    version: u64,
    blocks: Range<u64>,
    is_offline: bool,
}

#[derive(Clone, Copy, Default)]
struct Acts {
    under_way: usize,
    begun: u64,
}

/// One release or stage of a file, which others may overlap.
struct Turn {
    ino: InodeNo,
    /// Its number, when no other was under way.
    alone: Option<u64>,
}

impl Agents {
    pub fn new(seed: u64, is_drawn: bool) -> Agents {
        let (prng, tapes) = (Prng::new(seed ^ 0x7461_7065), Tapes::default());
        Agents { is_drawn, prng, tapes, begun: Nanos(0) }
    }

    pub fn are_idle(&self) -> bool {
        self.tapes.0.borrow().under_way == 0
    }

    /// What an agent was told and cannot be; or that it is told nothing.
    pub fn check(&self, world: &World) -> Result<(), String> {
        if let Some(what) = &self.tapes.0.borrow().wrong {
            return Err(format!("an agent: {what}"));
        }
        match !self.are_idle() && world.clock.now() > self.begun + world.patience() {
            true => Err("an agent is never answered".into()),
            false => Ok(()),
        }
    }

    /// Now and then one sets out.
    pub fn turn(&mut self, world: &mut World, history: &mut History) -> Option<String> {
        if !self.is_drawn || !self.prng.percent(TURNS_PERCENT) {
            return None;
        }
        if self.tapes.0.borrow().under_way == AGENTS_MAX {
            return None;
        }
        let tree = history.present();
        let is_fit = |node| {
            let size = tree.file(node).map_or(0, |file| file.size());
            size > 0 && size <= COPY_BYTES_MAX
        };
        let all: Vec<(NodeId, InodeNo)> = tree
            .nodes()
            .filter(|&(id, _)| is_fit(id))
            .filter_map(|(id, _)| Some((id, history.inode(id)?)))
            .collect();
        if all.is_empty() {
            return None;
        }
        let (node, ino) = all[self.prng.below(all.len() as u64) as usize];
        history.may_be_offline(node);
        let core = self.prng.below(world.shards().len() as u64) as usize;
        let (client, tapes) = (world.client(core), self.tapes.clone());
        let mut prng = Prng::new(self.prng.next_u64());
        self.begun = world.clock.now();
        tapes.0.borrow_mut().under_way += 1;
        world.machine().spawn(core, async move {
            let mut done = Ok(());
            // One after the other, so that much is staged in part.
            for _ in 0..1 + prng.below(4) {
                done = done.and(client.visit(&tapes, ino, &mut prng).await);
            }
            let mut state = tapes.0.borrow_mut();
            state.under_way -= 1;
            if let Err(what) = done {
                state.wrong.get_or_insert(format!("inode {ino}: {what}"));
            }
        });
        Some(format!("an agent looks at {node:?}, inode {ino}"))
    }
}

impl Tapes {
    fn copy(&self, ino: InodeNo, version: u64) -> Option<Rc<[u8]>> {
        self.0.borrow().copies.get(&(ino, version)).cloned()
    }

    /// Another copy of the file, of older data.
    fn old_version(&self, ino: InodeNo, version: u64) -> Option<u64> {
        let state = self.0.borrow();
        state.copies.range((ino, 0)..(ino, version)).next_back().map(|(key, _)| key.1)
    }

    fn begin(&self, ino: InodeNo) -> Turn {
        let mut state = self.0.borrow_mut();
        state.told.remove(&ino);
        let acts = state.acts.entry(ino).or_default();
        acts.under_way += 1;
        acts.begun += 1;
        Turn { ino, alone: (acts.under_way == 1).then_some(acts.begun) }
    }

    fn end(&self, turn: Turn, told: Option<Told>) {
        let mut state = self.0.borrow_mut();
        let acts = state.acts.entry(turn.ino).or_default();
        acts.under_way -= 1;
        if turn.alone == Some(acts.begun)
            && let Some(told) = told
        {
            state.told.insert(turn.ino, told);
        }
    }

    /// Everything is online, and no agent is at work.
    pub fn settle(&self) {
        let mut state = self.0.borrow_mut();
        state.under_way = 0;
        state.acts.clear();
        state.told.clear();
        while state.copies.len() > COPIES_KEPT {
            state.copies.pop_first();
        }
    }
}

impl Client {
    async fn attr(&self, ino: InodeNo) -> Result<Attr, FsError> {
        self.shard.call(op::Getattr { ino }).await
    }

    async fn release(
        &self,
        ino: InodeNo,
        blocks: &Range<u64>,
        data_version: u64,
    ) -> Result<u64, FsError> {
        let (offset, len) = (blocks.start * BLOCK, (blocks.end - blocks.start) * BLOCK);
        self.shard.call(op::Release { ino, offset, len, data_version }).await
    }

    async fn stage(
        &self,
        ino: InodeNo,
        offset: u64,
        bytes: &[u8],
        data_version: u64,
    ) -> Result<u64, FsError> {
        let mut data = self.shard.arena().alloc(bytes.len());
        data[..bytes.len()].copy_from_slice(bytes);
        let len = bytes.len();
        self.shard.call(op::Stage { ino, offset, data, len, data_version }).await
    }

    /// The error is an answer that cannot be.
    async fn visit(&self, tapes: &Tapes, ino: InodeNo, prng: &mut Prng) -> Result<(), String> {
        let attr = match self.attr(ino).await {
            Ok(attr) => attr,
            Err(FsError::Stale) => return Ok(()),
            Err(error) => return Err(format!("getattr: {error:?}")),
        };
        if attr.kind != FileKind::Regular {
            return Ok(());
        }
        self.copy_out(tapes, &attr).await?;
        let Some(copy) = tapes.copy(ino, attr.data_version) else { return Ok(()) };
        let old = tapes.old_version(ino, attr.data_version);
        let count = (copy.len() as u64).div_ceil(BLOCK);
        let blocks = match prng.percent(40) {
            true => WHOLE,
            false => {
                let first = prng.below(count);
                first..first + 1 + prng.below(count - first)
            }
        };
        let turn = tapes.begin(ino);
        let told = match (prng.below(20), old) {
            (0..7, _) => self.release_right(&attr, blocks).await,
            (7..9, Some(old)) => self.refused_release(ino, blocks, old).await,
            (9..11, Some(old)) => {
                let stage = self.stage(ino, 0, &copy[..copy.len().min(4096)], old).await;
                only(stage, &[FsError::VersionMismatch, FsError::Invalid]).map(|()| None)
            }
            (11, _) => {
                let behind = count * BLOCK;
                let stage = self.stage(ino, behind, &[1; 4096], attr.data_version).await;
                only(stage, &[FsError::VersionMismatch, FsError::Invalid]).map(|()| None)
            }
            (12..15, _) => self.stage_wrong(&attr, &copy, blocks, prng).await.map(|()| None),
            _ => self.stage_right(&attr, &copy, blocks).await,
        };
        let told = told?;
        tapes.end(turn, told);
        Ok(())
    }

    /// Twice the same version, before and after: what lies between is its data.
    async fn copy_out(&self, tapes: &Tapes, attr: &Attr) -> Result<(), String> {
        let (ino, size, version) = (attr.ino, attr.size, attr.data_version);
        if size == 0 || size > COPY_BYTES_MAX {
            return Ok(());
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            match self.read(ino, bytes.len() as u64, IO_BYTES_MAX).await {
                Ok((some, _)) if some.is_empty() => return Ok(()), // made shorter
                Ok((some, _)) => bytes.extend(some),
                Err(FsError::Offline | FsError::Stale | FsError::Busy) => return Ok(()),
                Err(error) => return Err(format!("read: {error:?}")),
            }
        }
        match self.attr(ino).await {
            Ok(after) if after.data_version == version && after.size == size => {}
            Ok(_) | Err(FsError::Stale) => return Ok(()),
            Err(error) => return Err(format!("getattr: {error:?}")),
        }
        let bytes: Rc<[u8]> = bytes.into();
        match tapes.0.borrow_mut().copies.insert((ino, version), bytes.clone()) {
            Some(before) if before != bytes => {
                Err(format!("two copies of version {version} differ"))
            }
            _ => Ok(()),
        }
    }

    async fn release_right(&self, attr: &Attr, blocks: Range<u64>) -> Result<Option<Told>, String> {
        let version = attr.data_version;
        let answer = self.release(attr.ino, &blocks, version).await;
        if answer.is_ok() {
            return Ok(Some(Told { version, blocks, is_offline: true }));
        }
        self.judge_refusal(attr, answer, &[]).await.map(|()| None)
    }

    async fn refused_release(
        &self,
        ino: InodeNo,
        blocks: Range<u64>,
        old: u64,
    ) -> Result<Option<Told>, String> {
        let release = self.release(ino, &blocks, old).await;
        only(release, &[FsError::VersionMismatch]).map(|()| None)
    }

    /// The range's bytes, MiB by MiB.
    async fn stage_right(
        &self,
        attr: &Attr,
        copy: &[u8],
        blocks: Range<u64>,
    ) -> Result<Option<Told>, String> {
        let (ino, version) = (attr.ino, attr.data_version);
        for range in mibs_of(&blocks, copy.len()) {
            let answer = self.stage(ino, range.start as u64, &copy[range], version).await;
            if answer.is_err() {
                // With other bytes that wait, of whoever staged wrong ones, the right ones go too.
                let also = [FsError::FixityMismatch];
                self.judge_refusal(attr, answer, &also).await?;
                return Ok(None);
            }
        }
        let is_whole = blocks == WHOLE;
        Ok(is_whole.then_some(Told { version, blocks, is_offline: false }))
    }

    /// One byte is another: whatever the answer, nobody may ever read it.
    async fn stage_wrong(
        &self,
        attr: &Attr,
        copy: &[u8],
        blocks: Range<u64>,
        prng: &mut Prng,
    ) -> Result<(), String> {
        for range in mibs_of(&blocks, copy.len()) {
            let mut wrong = copy[range.clone()].to_vec();
            let at = prng.below(wrong.len() as u64) as usize;
            wrong[at] ^= 0x40;
            let answer = self.stage(attr.ino, range.start as u64, &wrong, attr.data_version).await;
            if answer.is_err() {
                self.judge_refusal(attr, answer, &[FsError::FixityMismatch]).await?;
            }
        }
        Ok(())
    }

    /// A mismatch means that the version is another one now, and it never comes back.
    async fn judge_refusal(
        &self,
        attr: &Attr,
        answer: Result<u64, FsError>,
        also: &[FsError],
    ) -> Result<(), String> {
        if answer != Err(FsError::VersionMismatch) {
            return only(answer, also);
        }
        match self.attr(attr.ino).await {
            Ok(now) if now.data_version == attr.data_version => {
                Err(format!("version {} is refused, and shown", attr.data_version))
            }
            Ok(_) | Err(FsError::Stale) => Ok(()),
            Err(error) => Err(format!("getattr: {error:?}")),
        }
    }

    /// A file that is offline in part, with nobody at work: looked at, staged, and looked at again. The inner
    /// error says what is wrong.
    pub(crate) async fn bring_back(
        &self,
        tapes: &Tapes,
        before: &Attr,
    ) -> Result<Result<Attr, String>, FsError> {
        let (ino, version) = (before.ino, before.data_version);
        let told = tapes.0.borrow().told.get(&ino).cloned();
        let told = told.filter(|told| told.version == version);
        let copy = tapes.copy(ino, version);
        if before.offline_blocks == 0 && told.is_none() {
            return Ok(Ok(*before));
        }
        let mut offline = 0;
        for block in 0..before.size.min(COPY_BYTES_MAX).div_ceil(BLOCK) {
            let from = (block * BLOCK) as usize;
            let right = copy.as_ref().map(|copy| &copy[from..copy.len().min(from + BLOCK_BYTES)]);
            let is_offline = match self.read(ino, block * BLOCK, BLOCK as u32).await {
                Err(FsError::Offline) => true,
                Err(error) => return Err(error),
                Ok((bytes, _)) if right.is_some_and(|right| bytes != right) => {
                    return Ok(Err(format!("block {block} is not what is on the tape")));
                }
                Ok(_) => false,
            };
            offline += u64::from(is_offline);
            if is_offline && copy.is_none() {
                return Ok(Err(format!("data of version {version} was released that nobody has")));
            }
            let is_full = right.is_some_and(|right| right.iter().any(|&byte| byte != 0));
            if let Some(told) = told.as_ref().filter(|told| told.blocks.contains(&block))
                && is_offline != told.is_offline
                && is_full
            {
                let was = if told.is_offline { "released" } else { "staged" };
                return Ok(Err(format!("block {block} is not {was}, as an agent was told")));
            }
        }
        // Without a copy it is being made shorter: what is counted lies behind its end.
        let Some(copy) = copy else { return Ok(Ok(*before)) };
        if offline != before.offline_blocks {
            let counted = before.offline_blocks;
            return Ok(Err(format!("{counted} offline blocks are counted, {offline} are offline")));
        }
        // The power may go while this is under way, and then it is not as the agent was told.
        tapes.0.borrow_mut().told.remove(&ino);
        for range in mibs_of(&WHOLE, copy.len()) {
            let stage = || self.stage(ino, range.start as u64, &copy[range.clone()], version);
            let mut staged = stage().await;
            if staged == Err(FsError::FixityMismatch) {
                // Wrong bytes waited, and are dropped with the right ones. Now all of the MiB comes at once.
                staged = stage().await;
            }
            match staged {
                Ok(_) => {}
                Err(error) if error.is_trouble() => return Err(error),
                Err(error) => return Ok(Err(format!("its own bytes are refused: {error:?}"))),
            }
        }
        let after = self.attr(ino).await?;
        let same = |a: &Attr| (a.size, a.mtime, a.ctime, a.data_seq, a.data_version, a.mode);
        if same(&after) != same(before) {
            return Ok(Err(format!("staging made {before:?} into {after:?}")));
        }
        let blocks = before.online_blocks + before.offline_blocks;
        if (after.online_blocks, after.offline_blocks) != (blocks, 0) {
            return Ok(Err(format!("staging all of {before:?} gave {after:?}")));
        }
        if before.offline_blocks > 0 && after.meta_seq <= before.meta_seq {
            return Ok(Err("staging did not move meta_seq".into()));
        }
        Ok(Ok(after))
    }
}

/// Where a file of this size has the blocks, cut at each MiB.
fn mibs_of(blocks: &Range<u64>, size: usize) -> Vec<Range<usize>> {
    let end = (blocks.end * BLOCK).min(size as u64);
    let mut all = Vec::new();
    let mut at = blocks.start * BLOCK;
    while at < end {
        let next = end.min((at / MIB + 1) * MIB);
        all.push(at as usize..next as usize);
        at = next;
    }
    all
}

/// The file may be gone, and its shard busy; else it is one of these.
fn only(answer: Result<u64, FsError>, allowed: &[FsError]) -> Result<(), String> {
    match answer {
        Err(FsError::Stale | FsError::Busy) => Ok(()),
        Err(error) if allowed.contains(&error) => Ok(()),
        other => Err(format!("answered {other:?}, of {allowed:?}")),
    }
}
