//! When changed files have come to rest: no event for a while, and two equal listings.
//!
//! A writer that pauses longer than that in the middle of a file is seen as done; what it has written so
//! far is then judged like any other set, and its next write is the next change.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::list;
use crate::policy::files::{Folder, Listing};

/// Files that do not come to rest for so long are worth a word in the log, again and again.
const LONG_UNREST: Duration = Duration::from_secs(10);

/// Waits until nothing happens to the folders, and gives what they held when the wait began: they are at rest if
/// they still hold that.
pub(super) async fn quiet(folders: &[Folder], quiet: Duration, changed: &Notify) -> Listing {
    // The look takes place during the quiet time, and costs none of its own.
    tokio::join!(list(folders), at_rest(quiet, changed)).0
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
        at_rest(rest, changed).await;
    }
}

/// Waits until no event has come for a while.
async fn at_rest(quiet: Duration, changed: &Notify) {
    let mut told = Instant::now();
    while timeout(quiet, changed.notified()).await.is_ok() {
        if told.elapsed() > LONG_UNREST {
            told = Instant::now();
            tracing::warn!("files keep changing: a reload waits until they rest");
        }
    }
}
