//! The way from the control thread to the frontend of one shard: what it is to serve, and what it has
//! to tell. The way to the engine is `cairn_control::bridge`.
//!
//! The rules of a frontend are its own. They change only by a letter of this kind, which the shard's
//! loop takes in between two rounds; so no call ever sees half of a new configuration, and no shard
//! looks at anything that another thread may change. A letter always wakes the shard.

use cairn_base::Nanos;
use cairn_nfs::export::Exports;
use std::cell::RefCell;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// A reload waits for all shards before the next one begins, and a look takes one letter.
const LETTERS_MAX: usize = 16;

/// What a frontend serves, and how.
#[derive(Clone, Debug)]
pub struct Rules {
    pub exports: Exports,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections_max: u32,
    pub connections_per_client_max: u32,
    pub record_time_max: Nanos,
    pub send_time_max: Nanos,
}

/// Since the start, on one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turned {
    /// Connections closed as they came, since there were too many.
    pub refused: u64,
    /// Connections closed because their peer was too slow.
    pub cut: u64,
}

pub enum Letter {
    /// From the next call on. The first one opens the frontend.
    Use(Rules, oneshot::Sender<()>),
    Turned(oneshot::Sender<Turned>),
}

/// The control thread's end.
#[derive(Clone)]
pub struct FrontendCaller {
    letters: mpsc::Sender<Letter>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The shard's end.
pub struct FrontendMail {
    letters: RefCell<mpsc::Receiver<Letter>>,
}

pub fn frontend_mail(wake: impl Fn() + Send + Sync + 'static) -> (FrontendCaller, FrontendMail) {
    let (sender, receiver) = mpsc::channel(LETTERS_MAX);
    let caller = FrontendCaller { letters: sender, wake: Arc::new(wake) };
    (caller, FrontendMail { letters: RefCell::new(receiver) })
}

/// The shard has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardGone;

impl FrontendCaller {
    /// Returns when the rules are in force there.
    pub async fn use_rules(&self, rules: Rules) -> Result<(), ShardGone> {
        self.ask(|answer| Letter::Use(rules, answer)).await
    }

    pub async fn turned(&self) -> Result<Turned, ShardGone> {
        self.ask(Letter::Turned).await
    }

    async fn ask<T>(
        &self,
        letter: impl FnOnce(oneshot::Sender<T>) -> Letter,
    ) -> Result<T, ShardGone> {
        let (answer, answered) = oneshot::channel();
        self.letters.send(letter(answer)).await.map_err(|_| ShardGone)?;
        (self.wake)();
        answered.await.map_err(|_| ShardGone)
    }
}

impl FrontendMail {
    /// The next letter, if there is one.
    pub fn take(&self) -> Option<Letter> {
        self.letters.borrow_mut().try_recv().ok()
    }

    pub fn is_empty(&self) -> bool {
        self.letters.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_letter_wakes_its_shard_and_a_shard_that_is_gone_is_noticed() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = wakes.clone();
        let (caller, mail) = frontend_mail(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let asking = caller.clone();
        let asked = tokio::spawn(async move { asking.turned().await });
        tokio::task::yield_now().await;
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        assert!(!mail.is_empty());
        let Some(Letter::Turned(answer)) = mail.take() else { panic!("the letter") };
        let turned = Turned { refused: 1, cut: 2 };
        assert_eq!(answer.send(turned), Ok(()));
        assert_eq!(asked.await.unwrap(), Ok(turned));
        drop(mail);
        assert_eq!(caller.turned().await, Err(ShardGone));
    }
}
