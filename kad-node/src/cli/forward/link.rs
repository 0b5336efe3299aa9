//! What many wait for when it has to be made again.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// A connection that all share, and that one of them makes anew when it has ended.
#[derive(Debug)]
pub(super) struct Link<C> {
    held: Mutex<Held<C>>,
    /// Attempts that have failed. Whoever sees more of them when its turn comes than when it came has waited for one.
    failures: AtomicU64,
}

#[derive(Debug)]
struct Held<C> {
    connection: C,
    /// How many there were before it.
    number: u64,
    why: String,
}

impl<C: Clone> Link<C> {
    pub(super) fn new(connection: C) -> Self {
        Self {
            held: Mutex::new(Held {
                connection,
                number: 0,
                why: String::new(),
            }),
            failures: AtomicU64::default(),
        }
    }

    /// The connection and its number, or the one that `again` makes if it has `ended`, told with what. One at a time
    /// tries, and its failure is that of all that waited for it: would each try for itself, the last of them waited as
    /// many times as long.
    pub(super) async fn get<E, Again>(
        &self,
        ended: impl FnOnce(&C, u64) -> Option<E>,
        again: impl FnOnce(E) -> Again,
    ) -> Result<(C, u64), String>
    where
        Again: Future<Output = Result<C, String>>,
    {
        let failures = self.failures.load(Ordering::Acquire);
        let mut held = self.held.lock().await;
        if let Some(end) = ended(&held.connection, held.number) {
            if self.failures.load(Ordering::Acquire) != failures {
                return Err(held.why.clone());
            }
            match again(end).await {
                Ok(connection) => (held.connection, held.number) = (connection, held.number + 1),
                Err(why) => {
                    held.why.clone_from(&why);
                    self.failures.fetch_add(1, Ordering::Release);
                    return Err(why);
                }
            }
        }
        Ok((held.connection.clone(), held.number))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::{Instant, sleep};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_an_attempt_share_its_failure() {
        let (link, attempts) = (Link::new(0), Cell::new(0));
        let attempt = async |()| {
            attempts.set(attempts.get() + 1);
            sleep(LONG).await;
            Err(format!("attempt {}", attempts.get()))
        };
        let began = Instant::now();
        let outcomes = join_all((0..64).map(|_| link.get(|_, _| Some(()), attempt))).await;
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == Err("attempt 1".to_owned()))
        );
        assert_eq!((attempts.get(), began.elapsed()), (1, LONG));
        // Who comes later tries again.
        assert_eq!(
            link.get(|_, _| Some(()), attempt).await,
            Err("attempt 2".to_owned())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_an_attempt_share_its_connection() {
        let link = Link::new(0);
        let attempt = async |()| {
            sleep(LONG).await;
            Ok(1)
        };
        let began = Instant::now();
        let outcomes =
            join_all((0..64).map(|_| link.get(|held, _| (*held == 0).then_some(()), attempt))).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Ok((1, 1))));
        assert_eq!(began.elapsed(), LONG);
    }
}
