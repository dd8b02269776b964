//! Merging what the tablets of a shard have of a seq index into one page.
//!
//! No tablet is read much further than the page comes to: each is asked for little first, and for twice as
//! much whenever that is used up before the page is full. So a page costs its entries and a look into each
//! tablet that changed, also where all of it comes out of one of them.

use super::change::Place;
use crate::error::FsError;
use crate::tablet::Tablet;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

/// Entries asked of a tablet at once.
const ASKED_MAX: usize = 4096;

/// What one tablet has from a place on.
pub trait Read {
    type Entry;

    fn place(entry: &Self::Entry) -> Place;

    /// Up to `max` entries from `from` on, in order. Fewer mean that there are no more.
    async fn read(
        &self,
        tablet: &Rc<Tablet>,
        from: Place,
        max: usize,
    ) -> Result<Vec<Self::Entry>, FsError>;
}

struct Source<E> {
    tablet: Rc<Tablet>,
    entries: VecDeque<E>,
    /// So many are asked for next; `None` when there are no more.
    next: Option<usize>,
}

impl<E> Source<E> {
    async fn fill<R: Read<Entry = E>>(
        &mut self,
        read: &R,
        from: Place,
        max: usize,
    ) -> Result<(), FsError> {
        let Some(ask) = self.next.map(|ask| ask.min(max)) else { return Ok(()) };
        self.entries = read.read(&self.tablet, from, ask).await?.into();
        self.next = (self.entries.len() == ask).then_some((ask * 2).min(ASKED_MAX));
        Ok(())
    }
}

/// The first `max` entries of all tablets from `from` on, in order. `max` is above 0.
///
/// `Trimmed` names the latest place that any tablet was trimmed to: who hears of one is not to hear of a
/// later one next time.
pub async fn merged<R: Read>(
    read: &R,
    tablets: Vec<Rc<Tablet>>,
    from: Place,
    max: usize,
) -> Result<Vec<R::Entry>, FsError> {
    let first = (max / tablets.len().max(1)).saturating_mul(2).clamp(2, ASKED_MAX);
    let mut sources = Vec::with_capacity(tablets.len());
    let mut trimmed = None;
    for tablet in tablets {
        let mut source = Source { tablet, entries: VecDeque::new(), next: Some(first) };
        match source.fill(read, from, max).await {
            Err(FsError::Trimmed { to }) => trimmed = trimmed.max(Some(to)),
            filled => filled?,
        }
        sources.push(source);
    }
    if let Some(to) = trimmed {
        return Err(FsError::Trimmed { to });
    }
    let head = |source: &Source<R::Entry>| source.entries.front().map(R::place);
    let heads = sources.iter().enumerate();
    let mut heads: BinaryHeap<_> =
        heads.filter_map(|(nth, source)| Some(Reverse((head(source)?, nth)))).collect();
    let mut page = Vec::new();
    while let Some(Reverse((place, nth))) = heads.pop() {
        let source = &mut sources[nth];
        page.extend(source.entries.pop_front());
        if page.len() == max {
            break;
        }
        if source.entries.is_empty() {
            let behind = match place.1.checked_add(1) {
                Some(ino) => (place.0, ino),
                None => (cairn_format::Seq(place.0.0 + 1), 0),
            };
            source.fill(read, behind, max - page.len()).await?;
        }
        heads.extend(head(source).map(|place| Reverse((place, nth))));
    }
    Ok(page)
}
