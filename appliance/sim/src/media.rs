//! What the simulated devices hold, and what they lose when the power goes.
//!
//! Each block has one *stored* image, which survives, and perhaps *accepted* versions above it that
//! sit in the device's cache. Reads see the newest accepted version. A cached write becomes accepted
//! when it completes; a flush stores what was accepted when the flush began, and does so when it
//! ends. A durable write is stored when it completes, and replaces older accepted versions of its
//! blocks, for a device does not put an old version over one that it forced out.
//!
//! At a power cut nothing is decided by whole commands. For each sector the device may have put any
//! accepted version on the medium, or none; the same holds for writes in flight, durable or not. A
//! sector is 512 bytes, or 4 KiB: then commands are torn, and no block. A seeded *temper* chooses how:
//! keep all, lose all, by command, or by sector, so that runs meet the tidy outcomes as well as the
//! torn ones.
//!
//! The cut itself is placed at a chosen command (`Cut`), counted over the writes and flushes of all
//! devices: just before that command is taken, or just after it had its whole effect and before
//! anyone could be told. From then on the power is off and nothing completes, until `power_on`.
//!
//! Nothing here knows of futures; `disk.rs` is the door around it. Faults are in `fault.rs`.

use crate::clock::Clock;
use crate::digest::{Digest, Event};
use crate::fault::{Faults, FlushOutcome};
use cairn_base::door::{Durability, MediaError};
use cairn_base::hash::xxh3;
use cairn_base::prng::Prng;
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, Nanos, Run};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What a device writes whole, unless it is told otherwise.
pub const SECTOR_BYTES: usize = 512;

/// The content of one block; versions share it.
pub type Block = Rc<[u8]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(pub u64);

#[derive(Clone)]
pub enum Command {
    Read { at: BlockNo, blocks: u64 },
    Write { at: BlockNo, content: Vec<Block>, want: Durability },
    Flush { device: DeviceId },
    Discard { run: Run },
}

impl Command {
    fn device(&self) -> DeviceId {
        match self {
            Command::Read { at, .. } | Command::Write { at, .. } => at.device(),
            Command::Flush { device } => *device,
            Command::Discard { run } => run.start.device(),
        }
    }
}

/// What a completed command answers; a read brings its blocks.
pub type Outcome = Result<Vec<Block>, MediaError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutEffect {
    /// The device never saw the command.
    Before,
    /// The device finished it, and nobody was told.
    After,
}

/// Where the power goes off: at the `command`-th write or flush since format, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub command: u64,
    pub effect: CutEffect,
}

/// What one device did, for tests that count I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub reads: u64,
    pub blocks_read: u64,
    pub writes: u64,
    pub blocks_written: u64,
    pub flushes: u64,
    pub discards: u64,
}

pub struct Media {
    devices: Vec<Device>,
    in_flight: BTreeMap<CommandId, InFlight>,
    /// Completions to come, by time; the id breaks ties.
    due: BTreeMap<(Nanos, CommandId), ()>,
    next_id: u64,
    /// Writes and flushes taken, over all devices and boots.
    commands: u64,
    order: u64,
    cut: Option<Cut>,
    power: bool,
    /// Images from before and after each write and flush, while somebody wants them.
    watched: Option<Vec<Image>>,
    pub faults: Faults,
    prng: Prng,
    clock: Clock,
    digest: Digest,
}

#[derive(Clone)]
struct Device {
    blocks: u64,
    fua: bool,
    sector_bytes: usize,
    stored: BTreeMap<u64, Block>,
    accepted: BTreeMap<u64, Vec<Version>>,
    traffic: Traffic,
}

/// One accepted content of one block.
#[derive(Clone)]
struct Version {
    order: u64,
    content: Block,
    /// A flush that should have stored it failed: no later flush will, though it may yet survive.
    doomed: bool,
}

struct InFlight {
    command: Command,
    /// For a flush: versions of this order or older are covered.
    covers: u64,
}

/// What the devices hold at one moment, stored, accepted or on its way: a power cut can be dealt to it as
/// often as wanted.
#[derive(Clone)]
pub struct Image {
    devices: Vec<Device>,
}

/// How a power cut treats what was not stored.
#[derive(Clone, Copy, Debug)]
pub enum Temper {
    LoseAll,
    KeepAll,
    ByCommand { keep_percent: u64 },
    BySector { keep_percent: u64 },
}

impl Media {
    /// Blank devices of `blocks` each, the power on.
    pub fn new(seed: u64, clock: Clock, digest: Digest, blocks: &[u64], fua: bool) -> Media {
        let device = |&blocks: &u64| Device {
            blocks,
            fua,
            sector_bytes: SECTOR_BYTES,
            stored: BTreeMap::new(),
            accepted: BTreeMap::new(),
            traffic: Traffic::default(),
        };
        Media {
            devices: blocks.iter().map(device).collect(),
            in_flight: BTreeMap::new(),
            due: BTreeMap::new(),
            next_id: 1,
            commands: 0,
            order: 0,
            cut: None,
            power: true,
            watched: None,
            faults: Faults::default(),
            prng: Prng::new(seed ^ 0x6d65_6469),
            clock,
            digest,
        }
    }

    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    pub fn device_blocks(&self, device: DeviceId) -> u64 {
        self.devices.get(usize::from(device.0)).map_or(0, |d| d.blocks)
    }

    /// The device has more blocks from now on, as one behind a volume manager may.
    pub fn grow(&mut self, device: DeviceId, more: u64) {
        self.devices[usize::from(device.0)].blocks += more;
    }

    /// What the devices write whole from now on.
    pub fn set_sector_bytes(&mut self, bytes: usize) {
        assert!(BLOCK_BYTES.is_multiple_of(bytes), "a block is whole sectors");
        for device in &mut self.devices {
            device.sector_bytes = bytes;
        }
    }

    pub fn has_fua(&self, device: DeviceId) -> bool {
        self.devices.get(usize::from(device.0)).is_some_and(|d| d.fua)
    }

    pub fn traffic(&self, device: DeviceId) -> Traffic {
        self.devices[usize::from(device.0)].traffic
    }

    /// Writes and flushes taken so far: what `Cut::command` counts.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    pub fn set_cut(&mut self, cut: Option<Cut>) {
        self.cut = cut;
    }

    pub fn is_on(&self) -> bool {
        self.power
    }

    /// Takes a command. `None` when the power is off, or went off with this very command: then no
    /// answer ever comes.
    pub fn submit(&mut self, command: Command) -> Option<CommandId> {
        if !self.power {
            return None;
        }
        self.fold_submit(&command);
        if matches!(command, Command::Write { .. } | Command::Flush { .. }) {
            self.commands += 1;
            if let Some(cut) = self.cut.filter(|cut| cut.command <= self.commands) {
                if cut.effect == CutEffect::After {
                    let covers = self.order;
                    // The answer is lost with the power.
                    let _ = self.take_effect(&InFlight { command, covers });
                }
                self.power_off();
                return None;
            }
            if self.watched.is_some() {
                self.watch_command(&command);
            }
        }
        let id = CommandId(self.next_id);
        self.next_id += 1;
        let at = self.clock.now() + self.latency(&command);
        self.due.insert((at, id), ());
        self.in_flight.insert(id, InFlight { command, covers: self.order });
        Some(id)
    }

    /// From now on each write and flush leaves two images, of the moments before the device saw it and
    /// after it had its whole effect.
    pub fn watch(&mut self, wanted: bool) {
        self.watched = wanted.then(Vec::new);
    }

    /// The images since the last call.
    pub fn take_images(&mut self) -> Vec<Image> {
        self.watched.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn watch_command(&mut self, command: &Command) {
        let before = self.image();
        let (devices, order) = (self.devices.clone(), self.order);
        // Nobody is told yet, and the command itself is still to come.
        let _ = self.take_effect(&InFlight { command: command.clone(), covers: order });
        let after = self.image();
        (self.devices, self.order) = (devices, order);
        self.watched.get_or_insert_default().extend([before, after]);
    }

    /// What a power cut now would find.
    pub fn image(&self) -> Image {
        let (mut devices, mut order) = (self.devices.clone(), self.order);
        // Writes in flight are just younger versions that may have got somewhere.
        for in_flight in self.in_flight.values() {
            if let Command::Write { at, content, .. } = &in_flight.command {
                order += 1;
                accept(&mut devices, order, *at, content);
            }
        }
        Image { devices }
    }

    /// Devices on which the power went when they held `image`, and is on again.
    pub fn after_cut(
        seed: u64,
        clock: Clock,
        digest: Digest,
        image: &Image,
        temper: Temper,
    ) -> Media {
        let mut media = Media::new(seed, clock, digest, &[], false);
        media.devices = image.devices.clone();
        media.lose(temper);
        media
    }

    /// What tells these devices, all of it stored, from `base`, which most of it comes from.
    pub fn difference(&self, base: &Image) -> u64 {
        let mut all = Vec::new();
        for (device, base) in self.devices.iter().zip(&base.devices) {
            for (index, block) in &device.stored {
                let same = base.stored.get(index).is_some_and(|old| Rc::ptr_eq(old, block));
                if !same && base.stored.get(index) != Some(block) {
                    all.extend([*index, xxh3(block)]);
                }
            }
            all.push(u64::MAX);
        }
        let bytes: Vec<u8> = all.iter().flat_map(|word| word.to_le_bytes()).collect();
        xxh3(&bytes)
    }

    /// When the next command completes.
    pub fn next_due(&self) -> Option<Nanos> {
        self.due.keys().next().map(|&(at, _)| at)
    }

    /// Completes the command that is due first.
    pub fn complete_next(&mut self) -> Option<(CommandId, Outcome)> {
        let ((_, id), ()) = self.due.pop_first()?;
        let in_flight = self.in_flight.remove(&id).expect("what is due is in flight");
        let outcome = self.take_effect(&in_flight);
        self.digest.fold(Event::Complete, &[id.0, u64::from(outcome.is_ok())]);
        Some((id, outcome))
    }

    /// The power goes off now: decides what survives of everything that was not stored.
    pub fn power_off(&mut self) {
        if !self.power {
            return;
        }
        self.power = false;
        self.digest.fold(Event::Cut, &[self.commands]);
        let temper = match self.prng.below(8) {
            0 => Temper::LoseAll,
            1 => Temper::KeepAll,
            2..5 => Temper::ByCommand { keep_percent: 1 + self.prng.below(99) },
            _ => Temper::BySector { keep_percent: 1 + self.prng.below(99) },
        };
        self.due.clear();
        // Writes in flight are just younger versions that may have got somewhere.
        for (_, in_flight) in std::mem::take(&mut self.in_flight) {
            if let Command::Write { at, content, .. } = in_flight.command {
                self.accept(at, &content);
            }
        }
        self.lose(temper);
    }

    /// Decides what survives of everything that is accepted.
    fn lose(&mut self, temper: Temper) {
        for device in &mut self.devices {
            for (block, versions) in std::mem::take(&mut device.accepted) {
                for version in versions {
                    survive(device, block, &version, temper, &mut self.prng);
                }
            }
        }
    }

    /// The machine starts again, with what was stored.
    pub fn power_on(&mut self) {
        assert!(!self.power, "only what is off can be switched on");
        self.power = true;
        self.cut = None;
    }

    /// The block as a read would find it now.
    pub fn peek(&self, at: BlockNo) -> Option<Block> {
        self.devices.get(usize::from(at.device().0))?.newest(at.index())
    }

    /// What would be left of the block if nothing accepted survived.
    pub fn peek_stored(&self, at: BlockNo) -> Option<Block> {
        self.devices.get(usize::from(at.device().0))?.stored.get(&at.index()).cloned()
    }

    /// Flips one bit of the stored image, as a medium does by itself.
    pub fn rot(&mut self, at: BlockNo, bit: usize) {
        let device = &mut self.devices[usize::from(at.device().0)];
        let mut bytes = device.newest(at.index()).unwrap_or_else(zeros).to_vec();
        bytes[bit / 8 % BLOCK_BYTES] ^= 1 << (bit % 8);
        device.accepted.remove(&at.index());
        device.stored.insert(at.index(), bytes.into());
    }

    /// The blocks that hold anything but zeros, in order: where rot can do harm.
    pub fn written(&self) -> Vec<BlockNo> {
        let mut all = Vec::new();
        for (id, device) in self.devices.iter().enumerate() {
            let id = DeviceId(id as u8);
            let full = device.stored.iter().filter(|(_, block)| block.iter().any(|&b| b != 0));
            all.extend(full.map(|(&index, _)| BlockNo::new(id, index)));
        }
        all
    }

    fn take_effect(&mut self, in_flight: &InFlight) -> Outcome {
        self.faults.is_gone(in_flight.command.device())?;
        match &in_flight.command {
            Command::Read { at, blocks } => self.read(*at, *blocks),
            Command::Write { at, content, want } => {
                self.write(*at, content, *want).map(|()| Vec::new())
            }
            Command::Flush { device } => self.flush(*device, in_flight.covers).map(|()| Vec::new()),
            Command::Discard { run } => self.discard(*run).map(|()| Vec::new()),
        }
    }

    fn read(&mut self, at: BlockNo, blocks: u64) -> Outcome {
        let device = self.device(Run::new(at, blocks))?;
        device.traffic.reads += 1;
        device.traffic.blocks_read += blocks;
        let content: Vec<Block> = (at.index()..at.index() + blocks)
            .map(|index| device.newest(index).unwrap_or_else(zeros))
            .collect();
        match self.faults.read_error(Run::new(at, blocks)) {
            Some(errno) => Err(MediaError::Read(errno)),
            None => Ok(content),
        }
    }

    fn write(
        &mut self,
        at: BlockNo,
        content: &[Block],
        want: Durability,
    ) -> Result<(), MediaError> {
        let blocks = content.len() as u64;
        let run = Run::new(at, blocks);
        let device = self.device(run)?;
        device.traffic.writes += 1;
        device.traffic.blocks_written += blocks;
        let blow = self.faults.blow(run);
        if let Some(errno) = self.faults.write_error() {
            // Some of it may have arrived: a failed write promises nothing either way.
            let arrived = self.prng.below(blocks + 1) as usize;
            self.accept(at, &content[..arrived]);
            return Err(MediaError::Write(errno));
        }
        let at = self.strike(run, blow);
        self.faults.end_strike();
        let Some(at) = at else { return Ok(()) };
        self.faults.rewritten(Run::new(at, blocks));
        match want {
            Durability::Cached => self.accept(at, content),
            Durability::Durable => {
                let device = &mut self.devices[usize::from(at.device().0)];
                for (index, block) in (at.index()..).zip(content) {
                    device.accepted.remove(&index);
                    device.stored.insert(index, block.clone());
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, at: BlockNo, content: &[Block]) {
        self.order += 1;
        accept(&mut self.devices, self.order, at, content);
    }

    fn flush(&mut self, id: DeviceId, covers: u64) -> Result<(), MediaError> {
        let index = usize::from(id.0);
        let device = self.devices.get_mut(index).ok_or(MediaError::OutOfRange)?;
        device.traffic.flushes += 1;
        match self.faults.flush(id) {
            FlushOutcome::Works => device.store_accepted(covers),
            FlushOutcome::Lies => {}
            FlushOutcome::Fails(errno) => {
                device.doom_accepted(covers);
                return Err(MediaError::Flush(errno));
            }
        }
        Ok(())
    }

    fn discard(&mut self, run: Run) -> Result<(), MediaError> {
        let garbage = self.prng.next_u64();
        self.faults.rewritten(run);
        let device = self.device(run)?;
        device.traffic.discards += 1;
        for index in run.start.index()..run.start.index() + run.blocks {
            device.accepted.remove(&index);
            match garbage % 3 {
                0 => {}
                1 => _ = device.stored.remove(&index),
                _ => _ = device.stored.insert(index, vec![garbage as u8; BLOCK_BYTES].into()),
            }
        }
        Ok(())
    }

    fn device(&mut self, run: Run) -> Result<&mut Device, MediaError> {
        let device = self.devices.get_mut(usize::from(run.start.device().0));
        device
            .filter(|d| run.start.index().saturating_add(run.blocks) <= d.blocks)
            .ok_or(MediaError::OutOfRange)
    }

    /// Like a good device, with now and then a very slow command.
    fn latency(&mut self, command: &Command) -> Nanos {
        let micros = match command {
            Command::Read { .. } => 20 + self.prng.below(150),
            Command::Write { want: Durability::Cached, .. } => 10 + self.prng.below(100),
            Command::Write { .. } => 20 + self.prng.below(300),
            Command::Flush { .. } => 50 + self.prng.below(900),
            Command::Discard { .. } => 10 + self.prng.below(50),
        };
        let slow = if self.prng.below(100) == 0 { 40 } else { 1 };
        let slow = slow * self.faults.slowness(command.device());
        Nanos(micros * slow * 1000 + self.prng.below(1000))
    }

    fn fold_submit(&self, command: &Command) {
        match command {
            Command::Read { at, blocks } => {
                self.digest.fold(Event::Submit, &[1, at.raw(), *blocks]);
            }
            Command::Write { at, content, want } => {
                let durable = u64::from(*want == Durability::Durable);
                self.digest.fold(Event::Submit, &[2, at.raw(), content.len() as u64, durable]);
                for block in content {
                    self.digest.fold(Event::Submit, &[xxh3(block)]);
                }
            }
            Command::Flush { device } => {
                self.digest.fold(Event::Submit, &[3, u64::from(device.0)]);
            }
            Command::Discard { run } => {
                self.digest.fold(Event::Submit, &[4, run.start.raw(), run.blocks]);
            }
        }
    }
}

impl Device {
    fn newest(&self, index: u64) -> Option<Block> {
        let accepted = self.accepted.get(&index).and_then(|versions| versions.last());
        accepted.map(|v| &v.content).or_else(|| self.stored.get(&index)).cloned()
    }

    fn store_accepted(&mut self, covers: u64) {
        let stored = &mut self.stored;
        self.accepted.retain(|&index, versions| {
            let mut newest = None;
            versions.retain(|version| {
                let covered = version.order <= covers && !version.doomed;
                if covered {
                    newest = Some(version.content.clone());
                }
                !covered
            });
            if let Some(content) = newest {
                stored.insert(index, content);
                // A doomed version below the stored one cannot come back above it.
                versions.retain(|version| version.order > covers);
            }
            !versions.is_empty()
        });
    }

    fn doom_accepted(&mut self, covers: u64) {
        for version in self.accepted.values_mut().flatten() {
            version.doomed |= version.order <= covers;
        }
    }
}

fn accept(devices: &mut [Device], order: u64, at: BlockNo, content: &[Block]) {
    let Some(device) = devices.get_mut(usize::from(at.device().0)) else { return };
    for (index, block) in (at.index()..device.blocks).zip(content) {
        let version = Version { order, content: block.clone(), doomed: false };
        device.accepted.entry(index).or_default().push(version);
    }
}

fn survive(device: &mut Device, index: u64, version: &Version, temper: Temper, prng: &mut Prng) {
    // One draw per command: its order number spreads it, and all its blocks share it.
    let by_command = |percent: u64| Prng::new(version.order).percent(percent);
    let keep_percent = match temper {
        Temper::LoseAll => return,
        Temper::KeepAll => 100,
        Temper::ByCommand { keep_percent } if by_command(keep_percent) => 100,
        Temper::ByCommand { .. } => return,
        Temper::BySector { keep_percent } => keep_percent,
    };
    if keep_percent >= 100 {
        device.stored.insert(index, version.content.clone());
        return;
    }
    let mut bytes = device.stored.get(&index).cloned().unwrap_or_else(zeros).to_vec();
    let sector_bytes = device.sector_bytes;
    for sector in 0..BLOCK_BYTES / sector_bytes {
        if prng.percent(keep_percent) {
            let range = sector * sector_bytes..(sector + 1) * sector_bytes;
            bytes[range.clone()].copy_from_slice(&version.content[range]);
        }
    }
    device.stored.insert(index, bytes.into());
}

fn zeros() -> Block {
    vec![0; BLOCK_BYTES].into()
}

#[cfg(test)]
#[path = "media_tests.rs"]
mod tests;
