//! Changes of names: numbered empty files in each lane's own directory, created, looked at, renamed
//! between two letters, removed.
//!
//! The phases that change names go through the numbers once, so they end by themselves; time only cuts
//! them short. `Lane::letters` knows what exists, whichever phases ran and however far they came.

use super::{Scale, share};
use crate::lane::Slot;
use crate::nfs::Page;
use crate::rig::{Measure, Rig, Span};
use anyhow::{Context, Result};
use std::time::Duration;

const NONE: u8 = 0;

/// Some files, if there are none.
pub fn prepare(rig: &mut Rig, scale: &Scale) -> Result<()> {
    let has_some = |letters: &[u8]| letters.iter().any(|letter| *letter != NONE);
    if !rig.lanes().iter().all(|lane| has_some(&lane.letters.borrow())) {
        remove_all(rig)?;
        create_all(rig, scale, None)?;
    }
    Ok(())
}

pub fn create_all(rig: &mut Rig, scale: &Scale, time: Option<Duration>) -> Result<Measure> {
    let each = share(rig, scale.files)?;
    for lane in rig.lanes() {
        *lane.letters.borrow_mut() = vec![NONE; usize::try_from(each)?];
    }
    rig.run(Span { turns: each, time }, create)
}

pub fn remove_all(rig: &mut Rig) -> Result<()> {
    let each = count(rig);
    if each > 0 {
        rig.run(Span::turns(each), unlink)?;
    }
    Ok(())
}

/// How many numbers a lane has, whether or not their files exist.
pub fn count(rig: &Rig) -> u64 {
    let longest = rig.lanes().iter().map(|lane| lane.letters.borrow().len()).max();
    u64::try_from(longest.unwrap_or(0)).expect("usize is no more than 64 bits")
}

fn name(letter: u8, number: u64) -> String {
    format!("{}{number:08}", char::from(letter))
}

fn letter(slot: &Slot, number: u64) -> Result<u8> {
    let letters = slot.lane.letters.borrow();
    letters.get(usize::try_from(number)?).copied().context("there is no such number")
}

fn set_letter(slot: &Slot, number: u64, letter: u8) -> Result<()> {
    slot.lane.letters.borrow_mut()[usize::try_from(number)?] = letter;
    Ok(())
}

async fn create(slot: Slot) -> Result<()> {
    while let Some(number) = slot.turn() {
        let start = slot.start();
        slot.create(&slot.lane.directory, name(b'a', number).as_bytes()).await?;
        slot.done(start, 1, 0);
        set_letter(&slot, number, b'a')?;
    }
    Ok(())
}

pub async fn stat(slot: Slot) -> Result<()> {
    let numbers = u64::try_from(slot.lane.letters.borrow().len())?;
    while slot.turn().is_some() {
        let (number, letter) = loop {
            let number = slot.lane.random.borrow_mut().u64(0..numbers);
            match letter(&slot, number)? {
                NONE => continue, // some exist: `prepare` has seen to it
                letter => break (number, letter),
            }
        };
        let start = slot.start();
        let file = slot.lookup(&slot.lane.directory, name(letter, number).as_bytes()).await?;
        slot.getattr(&file).await?;
        slot.done(start, 1, 0);
    }
    Ok(())
}

/// Each slot lists the directory for itself, from the first page to the last, again and again.
pub async fn readdirplus(slot: Slot) -> Result<()> {
    let mut page = Page::FIRST;
    while slot.turn().is_some() {
        let start = slot.start();
        let (next, entries) = slot.readdirplus(&slot.lane.directory, &page).await?;
        slot.done(start, entries, 0);
        page = if next.is_last { Page::FIRST } else { next };
    }
    Ok(())
}

pub async fn rename(slot: Slot) -> Result<()> {
    while let Some(number) = slot.turn() {
        let other = match letter(&slot, number)? {
            NONE => continue,
            b'a' => b'b',
            _ => b'a',
        };
        let from = name(letter(&slot, number)?, number);
        let start = slot.start();
        let to = name(other, number);
        slot.rename(&slot.lane.directory, from.as_bytes(), to.as_bytes()).await?;
        slot.done(start, 1, 0);
        set_letter(&slot, number, other)?;
    }
    Ok(())
}

pub async fn unlink(slot: Slot) -> Result<()> {
    while let Some(number) = slot.turn() {
        let letter = letter(&slot, number)?;
        if letter == NONE {
            continue;
        }
        let start = slot.start();
        slot.remove(&slot.lane.directory, name(letter, number).as_bytes()).await?;
        slot.done(start, 1, 0);
        set_letter(&slot, number, NONE)?;
    }
    Ok(())
}
