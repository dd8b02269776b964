//! Device reads that are under way and will be cached, so that a block that somebody waits for is not
//! read a second time.

use cairn_base::Run;
use cairn_reactor::WaitList;
use std::cell::RefCell;

#[derive(Default)]
pub struct Arriving {
    runs: RefCell<Vec<Run>>,
    landed: WaitList,
}

/// One read, for as long as it is under way.
pub struct Flight<'a> {
    arriving: &'a Arriving,
    run: Run,
}

impl Arriving {
    pub fn begin(&self, run: Run) -> Flight<'_> {
        self.runs.borrow_mut().push(run);
        Flight { arriving: self, run }
    }

    /// Is a block of `run` on its way?
    pub fn meets(&self, run: &Run) -> bool {
        let meets = |other: &Run| other.start < run.end() && run.start < other.end();
        self.runs.borrow().iter().any(meets)
    }

    /// Waits until no block of `run` is.
    pub async fn landed(&self, run: &Run) {
        self.landed.until(|| (!self.meets(run)).then_some(())).await;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut runs = self.arriving.runs.borrow_mut();
        if let Some(place) = runs.iter().position(|run| *run == self.run) {
            runs.swap_remove(place);
        }
        drop(runs);
        self.arriving.landed.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::{BlockNo, DeviceId};

    fn run(start: u64, blocks: u64) -> Run {
        Run::new(BlockNo::new(DeviceId(0), start), blocks)
    }

    #[test]
    fn a_run_is_met_while_any_of_its_blocks_is_on_its_way() {
        let arriving = Arriving::default();
        let first = arriving.begin(run(10, 10));
        let second = arriving.begin(run(20, 5));
        for (start, blocks, met) in [(0, 10, false), (0, 11, true), (24, 9, true), (25, 9, false)] {
            assert_eq!(arriving.meets(&run(start, blocks)), met, "{start}");
        }
        drop(first);
        assert!(!arriving.meets(&run(0, 20)) && arriving.meets(&run(0, 21)));
        drop(second);
        assert!(!arriving.meets(&run(0, 100)));
    }
}
