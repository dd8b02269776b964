//! Writes a shard's troubles into the daemon's log: each once a minute at most, however often clients ask
//! again for what is damaged.

use cairn_base::Nanos;
use cairn_base::door::Clock;
use cairn_engine::DeletionsStatus;
use cairn_engine::trouble::{During, Trouble, Troubles};

/// The same trouble is told again after so long.
const AGAIN: Nanos = Nanos::from_secs(60);
/// Troubles that are remembered; with more, all but the newest are told again sooner.
const REMEMBERED_MAX: usize = 1024;

/// Whether one lags is looked at so often, and not in every round of the loop.
const LOOK_EVERY: Nanos = Nanos::from_secs(1);
/// A consumer that lags is named again after so long.
const LAGS_AGAIN: Nanos = Nanos::from_secs(600);

#[derive(Default)]
pub struct Told {
    told: Vec<(Trouble, Nanos)>,
    lagging: Option<(DeletionsStatus, Nanos)>,
    looked: Nanos,
}

impl Told {
    pub fn tell(&mut self, shard: u16, troubles: &Troubles, clock: &impl Clock) {
        if troubles.is_empty() {
            return;
        }
        let (notes, untold) = troubles.take();
        for trouble in self.news(notes, clock.monotonic()) {
            let way_out = match trouble.during {
                During::WriteBack | During::Finishing(_) => "",
                During::Operation(_) | During::Removal | During::Upkeep(_) => {
                    "; `cairn scrub` names all that is damaged (EIO)"
                }
            };
            tracing::error!(shard, ino = trouble.ino.map(|ino| ino.raw()), "{trouble}{way_out}");
        }
        if untold > 0 {
            tracing::error!(shard, "{untold} more calls and write-backs met errors of a device");
        }
    }

    /// Names the consumer that holds back so many deletions that the oldest will be forgotten unseen, or are.
    pub fn tell_lagging(
        &mut self,
        shard: u16,
        alarm: impl FnOnce() -> Option<DeletionsStatus>,
        clock: &impl Clock,
    ) {
        let now = clock.monotonic();
        if now.saturating_sub(self.looked) < LOOK_EVERY {
            return;
        }
        self.looked = now;
        let Some(alarm) = alarm().filter(|alarm| self.is_news(alarm, now)) else { return };
        let name = alarm.held_by.as_ref().map_or("", |name| name.as_str());
        let what = match alarm.trimmed_unseen {
            0 => "when there are more, the oldest are forgotten".to_owned(),
            unseen => format!("{unseen} were forgotten that it has not seen"),
        };
        tracing::warn!(
            shard,
            consumer = name,
            "consumer {name:?} has not passed the oldest of {} deletions of a tablet, which keeps {} at most: {what}; \
             let it go on, or `cairn changes consumer remove` it",
            alarm.entries_fullest,
            alarm.entries_tablet_max
        );
    }

    /// Another consumer, the first deletions that are lost to it, or a while later.
    fn is_news(&mut self, alarm: &DeletionsStatus, now: Nanos) -> bool {
        let is_old = self.lagging.as_ref().is_some_and(|(told, at)| {
            told.held_by == alarm.held_by
                && (told.trimmed_unseen > 0) == (alarm.trimmed_unseen > 0)
                && now.saturating_sub(*at) < LAGS_AGAIN
        });
        if !is_old {
            self.lagging = Some((alarm.clone(), now));
        }
        !is_old
    }

    /// Those that were not told a short time ago.
    fn news(&mut self, notes: Vec<Trouble>, now: Nanos) -> Vec<Trouble> {
        self.told.retain(|(_, at)| now.saturating_sub(*at) < AGAIN);
        let is_old = |note: &Trouble| self.told.iter().any(|(told, _)| told == note);
        let news: Vec<Trouble> = notes.into_iter().filter(|note| !is_old(note)).collect();
        let excess = (self.told.len() + news.len()).saturating_sub(REMEMBERED_MAX);
        self.told.drain(..excess.min(self.told.len()));
        self.told.extend(news.iter().map(|trouble| (*trouble, now)));
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_engine::FsError;
    use cairn_format::InodeNo;

    fn trouble(raw: u64) -> Trouble {
        let ino = InodeNo::from_raw(raw);
        Trouble { during: During::Operation("Read"), ino, error: FsError::Stopped }
    }

    #[test]
    fn what_was_told_is_told_again_after_a_minute() {
        let mut told = Told::default();
        assert_eq!(told.news(vec![trouble(1)], Nanos::from_secs(1)), [trouble(1)]);
        let both = || vec![trouble(1), trouble(2)];
        assert_eq!(told.news(both(), Nanos::from_secs(60)), [trouble(2)]);
        assert_eq!(told.news(both(), Nanos::from_secs(61)), [trouble(1)]);
    }

    #[test]
    fn a_consumer_that_lags_is_named_when_something_is_new() {
        let mut told = Told::default();
        let alarm = |name: &str, trimmed_unseen| DeletionsStatus {
            held_by: cairn_engine::ConsumerName::parse(name).ok(),
            trimmed_unseen,
            ..DeletionsStatus::default()
        };
        let at = Nanos::from_secs;
        assert!(told.is_news(&alarm("tape", 0), at(1)));
        assert!(!told.is_news(&alarm("tape", 0), at(600)));
        assert!(told.is_news(&alarm("tape", 5), at(600)), "the first is lost");
        assert!(!told.is_news(&alarm("tape", 9), at(601)));
        assert!(told.is_news(&alarm("disk", 9), at(602)));
        assert!(told.is_news(&alarm("disk", 9), at(1202)), "a while later");
    }

    #[test]
    fn a_flood_is_forgotten_oldest_first() {
        let mut told = Told::default();
        for raw in 1..=REMEMBERED_MAX as u64 + 1 {
            told.news(vec![trouble(raw)], Nanos(0));
        }
        assert_eq!(told.told.len(), REMEMBERED_MAX);
        assert_eq!(told.news(vec![trouble(1), trouble(3)], Nanos(0)), [trouble(1)]);
    }
}
