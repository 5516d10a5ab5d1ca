//! When changed files have come to rest: no event for a while, and two equal listings.
//!
//! A writer that pauses longer than that in the middle of a file is seen as done; what it has written so
//! far is then judged like any other set, and its next write is the next change.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::list;
use crate::policy::files::{Folder, Listing};

/// Something that happens without end, such as a log in the folder, holds a reload up for so long.
const UNREST_MAX: Duration = Duration::from_secs(5);

/// So many compilations in vain are followed by the next one at once: whoever saves twice is live without delay.
const IN_VAIN_FREE: u32 = 3;
/// Longest pause before another compilation.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Compilations in vain, because the files changed meanwhile: behind the first few stands a pause, doubled each time.
/// It ends with the files at rest.
pub(super) struct Unrest {
    in_vain: u32,
    first: Duration,
}

impl Unrest {
    /// None yet; `first` is the first pause that is above zero.
    pub fn new(first: Duration) -> Unrest {
        Unrest { in_vain: 0, first }
    }

    /// One more: how long to wait before the next one. Said once in the log.
    pub fn pause(&mut self) -> Duration {
        self.in_vain = self.in_vain.saturating_add(1);
        let Some(doublings) = self.in_vain.checked_sub(IN_VAIN_FREE + 1) else { return Duration::ZERO };
        if doublings == 0 {
            tracing::warn!("files change while they are compiled: further attempts come with pauses until they rest");
        }
        self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX)
    }
}

/// Waits until nothing happens to the folders, and gives what they held when the wait began: they are at rest if
/// they still hold that.
pub(super) async fn quiet(folders: &[Folder], quiet: Duration, changed: &Notify) -> Listing {
    // The look takes place during the quiet time, and costs none of its own.
    tokio::join!(list(folders), at_rest(quiet, UNREST_MAX, changed)).0
}

/// Waits until the folders are at rest.
pub(super) async fn settled(folders: &[Folder], rest: Duration, changed: &Notify) -> Listing {
    let mut before = quiet(folders, rest, changed).await;
    loop {
        let now = list(folders).await;
        if now == before {
            return now;
        }
        before = now;
        at_rest(rest, UNREST_MAX, changed).await;
    }
}

/// Waits until no event has come for a while. Where events never end, equal listings have to say what is at rest.
async fn at_rest(quiet: Duration, most: Duration, changed: &Notify) {
    let begun = Instant::now();
    while timeout(quiet, changed.notified()).await.is_ok() {
        if begun.elapsed() > most {
            tracing::warn!(
                "something keeps changing in the folders of the policies: a reload waits no longer for rest"
            );
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_never_ends_holds_nobody_up() {
        let changed = std::sync::Arc::new(Notify::new());
        let noise = async {
            loop {
                changed.notify_one();
                tokio::task::yield_now().await;
            }
        };
        let most = Duration::from_millis(200);
        tokio::select! {
            () = at_rest(Duration::from_secs(60), most, &changed) => {}
            () = noise => {}
        }
    }

    #[test]
    fn compilations_in_vain_come_with_pauses_up_to_a_bound() {
        let mut unrest = Unrest::new(Duration::from_millis(100));
        let pauses: Vec<u128> = (0..14).map(|_| unrest.pause().as_millis()).collect();
        assert_eq!(pauses, [0, 0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000, 10_000]);
        assert_eq!(Unrest { in_vain: u32::MAX - 1, ..unrest }.pause(), PAUSE_MAX);
    }
}
