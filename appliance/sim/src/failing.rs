//! A script with one failure in it: what is refused changed nothing, what was taken for it came back, and
//! the next try works.
//!
//! The engine fails at the n-th place where it can (`cairn_engine::failpoint`). A request may then be
//! refused for want of space, and only for that, or find another way. The model is told that a refused
//! one did nothing, and it is asked again; so a change that was made all the same shows at once, or
//! when the tree is read.

use crate::check;
use crate::model::act::Act;
use crate::model::reading::Answer;
use crate::run::{Run, Stop};
use crate::script::Script;
use cairn_base::Nanos;
use cairn_engine::error::FsError;
use cairn_engine::failpoint::{self, Point};

impl Run<'_> {
    /// What failed, if the script came so far.
    pub(crate) fn with_failure(
        &mut self,
        script: &Script,
        nth: u64,
    ) -> Result<Option<Point>, String> {
        let failed = |error| format!("{error:?}");
        self.world.format().map_err(failed)?;
        self.world.boot(self.scenario.shards_max).map_err(failed)?;
        self.idle = vec![0];
        failpoint::fail_at(nth);
        let done = self.all_in_turn(script);
        let point = failpoint::failed();
        failpoint::fail_at(0);
        let what = |stop: Stop| format!("{point:?}: {}", stop.into_text());
        done.map_err(what)?;
        self.look().map_err(what)?;
        check::reserve::check(&mut self.world).map_err(|halt| what(halt.into()))??;
        self.world.crash();
        check::whole::check(&self.world.media.borrow())
            .map_err(|error| what(Stop::Wrong(error)))?;
        self.world.boot(self.scenario.shards_max).map_err(failed)?;
        let seen = self.read_back().map_err(Stop::into_text)?;
        self.history.settle_crash(&seen).map_err(|error| what(Stop::Wrong(error)))?;
        Ok(point)
    }

    fn all_in_turn(&mut self, script: &Script) -> Result<(), Stop> {
        for act in script.setup.iter().chain(&script.at_once) {
            if !self.ask_once(act)? && !self.ask_once(act)? {
                return Err(Stop::Wrong(format!("{act:?} is refused again")));
            }
        }
        // Write-back, folds and clean-ups may be what meets it.
        Ok(self.world.machine().idle(Nanos::from_secs(5))?)
    }

    /// False when it was refused for the failure. The next request has the same number then.
    fn ask_once(&mut self, act: &Act) -> Result<bool, Stop> {
        self.last_answer = self.world.clock.now();
        self.send(0, act.clone());
        loop {
            if let Some((id, _, answer)) = self.pop_answer() {
                let is_refused = answer == Answer::Refused(FsError::NoSpace);
                if is_refused && failpoint::failed().is_none() {
                    return Err(Stop::Wrong(format!("{act:?}: no space, and nothing failed")));
                }
                // To the model that is the same: nothing was done.
                let told = if is_refused { Answer::Refused(FsError::Busy) } else { answer };
                self.history.answer(id, &told).map_err(Stop::Wrong)?;
                if is_refused {
                    self.next_id -= 1;
                }
                return Ok(!is_refused);
            }
            let stepped = self.world.machine().step()?;
            self.demand_progress(stepped)?;
        }
    }

    fn look(&mut self) -> Result<(), Stop> {
        let seen = self.read_back()?;
        self.history.settle_idle(&seen).map_err(Stop::Wrong)?;
        check::names::check(&seen).map_err(Stop::Wrong)?;
        self.checks()
    }
}
