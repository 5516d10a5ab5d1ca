//! Who follows live requests, and what is kept of those that failed.
//!
//! While nobody watches, a request reads one flag and no more; while somebody does, every request carries a trace,
//! because whether it is wanted shows only at its end. Filters are conditions over the finished exchange.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::audit::feed::{Feed, Reading, feed};
use crate::audit::ring::Failed;
use crate::engine::exchange::Exchange;
use crate::engine::program::Condition;

/// Who may watch at once.
pub const WATCHERS_MAX: usize = 8;

struct Watcher {
    number: u64,
    /// Without one every request is wanted.
    filter: Option<Box<dyn Condition>>,
    feed: Feed,
}

/// Everybody who watches.
pub struct Watchers {
    watching: AtomicBool,
    list: ArcSwap<Vec<Arc<Watcher>>>,
    /// Held while the list changes.
    changing: Mutex<()>,
    count: AtomicU64,
    pub failed: Failed,
}

impl Watchers {
    /// Nobody yet, in a process of so many workers.
    pub fn new(workers: usize) -> Watchers {
        Watchers {
            watching: AtomicBool::new(false),
            list: ArcSwap::default(),
            changing: Mutex::default(),
            count: AtomicU64::new(0),
            failed: Failed::new(workers),
        }
    }

    /// Whether somebody watches. A request that begins in the same moment may be missed.
    pub fn watching(&self) -> bool {
        self.watching.load(Ordering::Relaxed)
    }

    /// Begins to watch; `None` where [`WATCHERS_MAX`] do already. Dropping the result ends it.
    pub fn watch(self: &Arc<Watchers>, filter: Option<Box<dyn Condition>>) -> Option<Watching> {
        let (feed, reading) = feed();
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let watcher = Arc::new(Watcher { number, filter, feed });
        let fits = self.change(|list| {
            let fits = list.len() < WATCHERS_MAX;
            if fits {
                list.push(watcher);
            }
            fits
        });
        fits.then(|| Watching { watchers: self.clone(), number, reading })
    }

    fn change<T>(&self, how: impl FnOnce(&mut Vec<Arc<Watcher>>) -> T) -> T {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = Vec::clone(&self.list.load());
        let result = how(&mut list);
        self.watching.store(!list.is_empty(), Ordering::Relaxed);
        self.list.store(Arc::new(list));
        result
    }

    fn leave(&self, number: u64) {
        self.change(|list| list.retain(|watcher| watcher.number != number));
    }

    /// Those who want this request. Where a filter cannot be decided it is shown, with the code of the reason:
    /// a condition that breaks never counts as false.
    pub fn wanted(&self, x: &Exchange) -> Wanted {
        let list = self.list.load();
        let mut wanted = Wanted::default();
        for watcher in list.iter() {
            match watcher.filter.as_ref().map_or(Ok(true), |filter| filter.holds(x)) {
                Ok(true) => wanted.by.push((watcher.clone(), None)),
                Ok(false) => {}
                Err(fault) => wanted.by.push((watcher.clone(), Some(fault.code.to_string()))),
            }
        }
        wanted
    }

    /// Sends a line, which ends with `}` and a line break, to those who want it.
    pub fn tell(&self, wanted: Wanted, line: String) {
        let line = Bytes::from(line);
        for (watcher, undecided) in wanted.by {
            let told = match undecided.as_ref().zip(line.strip_suffix(b"}\n")) {
                Some((code, most)) => {
                    let mut own = most.to_vec();
                    own.extend_from_slice(format!(",\"filter_fault\":\"{code}\"}}\n").as_bytes());
                    watcher.feed.offer(&Bytes::from(own))
                }
                None => watcher.feed.offer(&line),
            };
            if !told {
                self.leave(watcher.number);
            }
        }
    }
}

/// Those who want one request.
#[derive(Default)]
pub struct Wanted {
    by: Vec<(Arc<Watcher>, Option<String>)>,
}

impl Wanted {
    /// Nobody does.
    pub fn is_empty(&self) -> bool {
        self.by.is_empty()
    }
}

/// Watching, until it is dropped.
pub struct Watching {
    watchers: Arc<Watchers>,
    number: u64,
    reading: Reading,
}

impl Watching {
    /// The next line; `None` when the watcher was given up because it did not read.
    pub fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.reading.poll_line(cx)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watchers.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_stands_while_somebody_watches_and_there_is_no_ninth() {
        let watchers = Arc::new(Watchers::new(1));
        assert!(!watchers.watching());
        let mut all: Vec<Watching> = (0..WATCHERS_MAX).map(|_| watchers.watch(None).unwrap()).collect();
        assert!(watchers.watch(None).is_none());
        all.pop();
        all.push(watchers.watch(None).unwrap());
        assert!(watchers.watching());
        drop(all);
        assert!(!watchers.watching());
    }
}
