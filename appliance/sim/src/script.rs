//! Short scripts, cut everywhere.
//!
//! A script sets a scene, one request after another, and then asks several things at once. It is run
//! again and again on the same seed with the power cut at the first device command of the second
//! part, then at the second, and so on, before and after the command's effect, until a run ends
//! uncut. So each moment of a small operation is met, which a long random run only samples.

use crate::media::{Cut, CutEffect};
use crate::model::act::Act;
use crate::run::{Run, Stop};
use crate::scenario::{Log, Scenario};
use cairn_base::Nanos;
use cairn_engine::failpoint::Point;
use std::collections::BTreeSet;
use std::mem::ManuallyDrop;

/// Node numbers are those of requests, counted from 1 over both parts.
#[derive(Clone, Debug)]
pub struct Script {
    pub setup: Vec<Act>,
    pub at_once: Vec<Act>,
}

/// More commands than any script takes: to find the one that never ends.
const CUTS_MAX: u64 = 2000;
const FAILURES_MAX: u64 = 20_000;

impl Script {
    /// Returns how many cuts there were. The error names the cut.
    pub fn cut_everywhere(&self, scenario: &Scenario) -> Result<u64, String> {
        for command in 1..CUTS_MAX {
            for effect in [CutEffect::Before, CutEffect::After] {
                let reached = self
                    .run(scenario, Some(Cut { command, effect }), &Log::default())
                    .map_err(|what| format!("cut {effect:?} command {command}: {what}"))?;
                if !reached {
                    return Ok(2 * (command - 1));
                }
            }
        }
        Err(format!("not over after {CUTS_MAX} device commands"))
    }

    /// The same script with the n-th thing that can fail failing, for each n until a run reaches none
    /// (`failing.rs`). Returns how many failed, and at which points. The error names the n.
    pub fn fail_everywhere(&self, scenario: &Scenario) -> Result<(u64, BTreeSet<Point>), String> {
        let mut points = BTreeSet::new();
        for nth in 1..FAILURES_MAX {
            let log = Log::default();
            let mut run = ManuallyDrop::new(Run::new(scenario, &log));
            let failed = run.with_failure(self, nth);
            let failed = failed.map_err(|what| format!("failure {nth}: {what}"))?;
            drop(ManuallyDrop::into_inner(run));
            let Some(point) = failed else { return Ok((nth - 1, points)) };
            points.insert(point);
        }
        Err(format!("not over after {FAILURES_MAX} failures"))
    }

    /// One run; `cut` counts from the beginning of the second part. Returns whether it was reached.
    pub fn run(&self, scenario: &Scenario, cut: Option<Cut>, log: &Log) -> Result<bool, String> {
        // As in `Scenario::run`: what failed is not taken apart.
        let mut run = ManuallyDrop::new(Run::new(scenario, log));
        let reached = run.script(self, cut)?;
        drop(ManuallyDrop::into_inner(run));
        Ok(reached)
    }
}

impl Run<'_> {
    fn script(&mut self, script: &Script, cut: Option<Cut>) -> Result<bool, String> {
        let failed = |error| format!("{error:?}");
        self.world.format().map_err(failed)?;
        self.world.boot(self.scenario.shards_max).map_err(failed)?;
        for act in &script.setup {
            self.send(0, act.clone());
            self.all_answered().map_err(Stop::into_text)?;
        }
        if let Some(cut) = cut {
            let command = self.world.media.borrow().commands() + cut.command;
            let cut = Cut { command, ..cut };
            self.log.say(|| format!("the power will go: {cut:?}"));
            self.world.media.borrow_mut().set_cut(Some(cut));
        }
        let reached = match self.second_part(script) {
            Ok(()) => false,
            Err(Stop::PowerOff) => true,
            Err(stop @ (Stop::Damage | Stop::Wrong(_))) => return Err(stop.into_text()),
        };
        self.crash_and_compare()?;
        Ok(reached)
    }

    fn second_part(&mut self, script: &Script) -> Result<(), Stop> {
        for (client, act) in script.at_once.iter().enumerate() {
            self.send(client, act.clone());
        }
        self.all_answered()?;
        // What follows an answer (clearing up, marks) is part of it.
        self.world.machine().idle(Nanos::from_secs(1))?;
        let seen = self.read_back()?;
        self.history.settle_idle(&seen).map_err(Stop::Wrong)?;
        self.checks()
    }
}
