//! Several futures of one task at once, a bounded number at a time.
//!
//! Only for device commands that belong to one operation: their number is small and all of them are
//! polled at each wake.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// Runs all of `futures`, at most `limit` at a time; outputs are in the order of the futures.
pub async fn join<F: Future>(limit: usize, futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut coming = futures.into_iter();
    let mut flying: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut outputs: Vec<Option<F::Output>> = Vec::new();
    std::future::poll_fn(|cx| {
        loop {
            while flying.len() < limit
                && let Some(next) = coming.next()
            {
                flying.push((outputs.len(), Box::pin(next)));
                outputs.push(None);
            }
            let before = flying.len();
            flying.retain_mut(|(place, future)| match future.as_mut().poll(cx) {
                Poll::Ready(output) => {
                    outputs[*place] = Some(output);
                    false
                }
                Poll::Pending => true,
            });
            if flying.is_empty() && before < limit {
                return Poll::Ready(());
            }
            if flying.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    outputs.into_iter().map(|output| output.expect("every future has ended")).collect()
}

#[cfg(test)]
mod tests {
    use super::join;
    use std::cell::Cell;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn outputs_keep_their_order_and_the_limit_holds() {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let one = |number: usize| {
            let (now, most) = (&now, &most);
            async move {
                now.set(now.get() + 1);
                most.set(most.get().max(now.get()));
                let mut waits = 1 + number % 2;
                std::future::poll_fn(|_| {
                    if waits == 0 {
                        return Poll::Ready(());
                    }
                    waits -= 1;
                    Poll::Pending
                })
                .await;
                now.set(now.get() - 1);
                number
            }
        };
        for count in [0, 1, 3, 4, 10] {
            let mut all = pin!(join(3, (0..count).map(one)));
            let mut cx = Context::from_waker(Waker::noop());
            let done = loop {
                if let Poll::Ready(done) = all.as_mut().poll(&mut cx) {
                    break done;
                }
            };
            assert_eq!(done, (0..count).collect::<Vec<_>>());
        }
        assert_eq!(most.get(), 3);
    }
}
