//! What the daemon tells whoever started it, as systemd's notify protocol has it: that it serves, that
//! it ends, and again and again that it is alive. Without $NOTIFY_SOCKET nobody is told anything.
//!
//! The watchdog is answered only when every shard has answered a question of ours: a daemon one of
//! whose loops hangs is to be restarted, and a timer that goes on by itself would hide that.

use crate::ready::Ready;
use cairn_control::Caller;
use cairn_control::request::ControlRequest;
use sd_notify::NotifyState::{self, Status, Stopping, Watchdog};
use std::time::Duration;

pub fn recovering() {
    tell(&[Status("opening the pool")]);
}

/// Recovered, listening, and answering control calls.
pub fn ready(ready: &Ready) {
    let status = format!("serving NFS on {} with {} shards", ready.first(), ready.shards);
    tell(&[NotifyState::Ready, Status(&status)]);
}

pub fn stopping() {
    tell(&[Stopping, Status("stopping")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!("cannot tell the supervisor: {error}");
    }
}

/// Answers the watchdog for as long as it is awaited, if there is one.
pub async fn watch(shards: Vec<Caller>) {
    let said = |key: &str| std::env::var(key).ok();
    let given = watchdog(said("WATCHDOG_USEC").as_deref(), said("WATCHDOG_PID").as_deref());
    let Some(given) = given else { return };
    // Asked twice in the time that we are given, so one late answer is not the end.
    let half = (given / 2).max(Duration::from_millis(1));
    let mut turns = tokio::time::interval(half);
    loop {
        turns.tick().await;
        match first_silent(&shards, half).await {
            None => tell(&[Watchdog]),
            Some(shard) => {
                tracing::error!(shard, "a shard does not answer; the watchdog is not told")
            }
        }
    }
}

/// The time between two signs of life, if they are asked of this process.
fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let usec: u64 = usec?.parse().ok()?;
    (is_ours && usec > 0).then(|| Duration::from_micros(usec))
}

/// The first shard that does not answer in time.
async fn first_silent(shards: &[Caller], limit: Duration) -> Option<usize> {
    let deadline = tokio::time::Instant::now() + limit;
    for (number, shard) in shards.iter().enumerate() {
        let answered = tokio::time::timeout_at(deadline, shard.call(ControlRequest::Local)).await;
        if !matches!(answered, Ok(Ok(_))) {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_control::bridge;
    use cairn_control::request::ControlReply;

    /// Answers everything that it is woken for.
    fn living() -> Caller {
        let (wake, woken) = std::sync::mpsc::channel();
        let (caller, end) = bridge(move || {
            // Fails only when the shard has ended.
            let _ = wake.send(());
        });
        std::thread::spawn(move || {
            while woken.recv().is_ok() {
                end.poll(|_, answer| answer.send(Ok(ControlReply::Local(Box::default()))));
            }
        });
        caller
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let this = std::process::id().to_string();
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), Some(&this)), second);
        assert_eq!(watchdog(Some("1000000"), None), second);
        assert_eq!(watchdog(Some("1000000"), Some("1")), None);
        assert_eq!(watchdog(Some("0"), None), None);
        assert_eq!(watchdog(Some("soon"), None), None);
        assert_eq!(watchdog(None, Some(&this)), None);
    }

    #[tokio::test]
    async fn one_shard_that_hangs_is_found() {
        let (hanging, _end) = bridge(|| ());
        let limit = Duration::from_millis(200);
        assert_eq!(first_silent(&[living(), living()], Duration::from_secs(60)).await, None);
        assert_eq!(first_silent(&[living(), hanging], limit).await, Some(1));
    }

    #[tokio::test]
    async fn one_shard_that_has_ended_is_found() {
        let (ended, end) = bridge(|| ());
        drop(end);
        assert_eq!(first_silent(&[ended], Duration::from_secs(60)).await, Some(0));
    }
}
