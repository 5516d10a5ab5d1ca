//! Lines on their way to somebody who watches: a bounded queue that never makes the sender wait.
//!
//! Whoever watches may be slow or have stopped reading. Then lines are dropped and counted; the count is told as
//! a line of its own where they are missing, and a reader that takes nothing for [`STALL_MAX`] is given up. The lock
//! is held for a push or a pop, never across an await, and nobody takes it while nobody watches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Lines that wait for one reader.
pub const QUEUE_LINES_MAX: usize = 256;
/// Bytes of them.
pub const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A reader that takes nothing for so long while its queue is full is given up.
pub const STALL_MAX: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Queue {
    lines: VecDeque<Bytes>,
    bytes: usize,
    /// Lines that found no room since the last one that did.
    dropped: u64,
    /// Since when there has been no room.
    full_since: Option<Instant>,
    /// One of the two ends is gone.
    closed: bool,
    reader: Option<Waker>,
}

impl Queue {
    fn push(&mut self, line: Bytes) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    /// The line that stands where lines are missing.
    fn tell_dropped(&mut self) -> Option<Bytes> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then(|| Bytes::from(format!("{{\"dropped\":{dropped}}}\n")))
    }

    /// Frees the memory, and wakes the reader to its end.
    fn close(&mut self) {
        (self.lines, self.bytes, self.closed) = (VecDeque::new(), 0, true);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The sending end.
pub struct Feed(Arc<Mutex<Queue>>);

/// The reading end; dropping it ends the feed.
pub struct Reading(Arc<Mutex<Queue>>);

/// A queue.
pub fn feed() -> (Feed, Reading) {
    let queue = Arc::<Mutex<Queue>>::default();
    (Feed(queue.clone()), Reading(queue))
}

fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    /// Adds a line, or drops it where there is no room. False: nobody reads any more.
    pub fn offer(&self, line: &Bytes) -> bool {
        self.offer_at(line, Instant::now())
    }

    fn offer_at(&self, line: &Bytes, now: Instant) -> bool {
        let mut queue = locked(&self.0);
        if queue.closed {
            return false;
        }
        if queue.lines.len() < QUEUE_LINES_MAX && queue.bytes.saturating_add(line.len()) <= QUEUE_BYTES_MAX {
            if let Some(told) = queue.tell_dropped() {
                queue.push(told);
            }
            queue.push(line.clone());
            if let Some(reader) = queue.reader.take() {
                reader.wake();
            }
            return true;
        }
        queue.dropped += 1;
        let since = *queue.full_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= STALL_MAX {
            queue.close();
        }
        !queue.closed
    }
}

impl Reading {
    /// The next line; `None` when the feed was given up.
    pub fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut queue = locked(&self.0);
        queue.full_since = None;
        if let Some(line) = queue.lines.pop_front() {
            queue.bytes -= line.len();
            return Poll::Ready(Some(line));
        }
        if queue.closed {
            return Poll::Ready(None);
        }
        if let Some(told) = queue.tell_dropped() {
            return Poll::Ready(Some(told));
        }
        queue.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        locked(&self.0).close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: usize) -> Bytes {
        Bytes::from(vec![b'x'; bytes])
    }

    fn next(reading: &mut Reading) -> Poll<Option<Bytes>> {
        reading.poll_line(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        let (feed, mut reading) = feed();
        for _ in 0..QUEUE_LINES_MAX + 3 {
            assert!(feed.offer(&line(1)));
        }
        assert!(next(&mut reading).is_ready());
        assert!(feed.offer(&line(2)), "there is room again");
        for _ in 0..QUEUE_LINES_MAX - 1 {
            assert_eq!(next(&mut reading), Poll::Ready(Some(line(1))));
        }
        let told = Poll::Ready(Some(Bytes::from_static(b"{\"dropped\":3}\n")));
        assert_eq!(next(&mut reading), told, "it stands where they are missing");
        assert_eq!(next(&mut reading), Poll::Ready(Some(line(2))));
        assert_eq!(next(&mut reading), Poll::Pending);
    }

    #[test]
    fn bytes_have_a_bound_of_their_own() {
        let (feed, mut reading) = feed();
        let large = line(QUEUE_BYTES_MAX / 4);
        for _ in 0..6 {
            assert!(feed.offer(&large));
        }
        let mut taken = 0;
        while let Poll::Ready(Some(_)) = next(&mut reading) {
            taken += 1;
        }
        assert_eq!(taken, 4 + 1, "four lines and the word that two were dropped");
    }

    #[test]
    fn a_reader_that_left_or_stands_still_is_given_up() {
        let (one, reading) = feed();
        drop(reading);
        assert!(!one.offer(&line(1)));

        let (two, mut reading) = feed();
        let begun = Instant::now();
        for _ in 0..=QUEUE_LINES_MAX {
            assert!(two.offer_at(&line(1), begun));
        }
        assert!(two.offer_at(&line(1), begun + STALL_MAX / 2));
        assert!(next(&mut reading).is_ready(), "it reads again: the time starts anew");
        assert!(two.offer_at(&line(1), begun + STALL_MAX));
        assert!(two.offer_at(&line(1), begun + STALL_MAX));
        assert!(!two.offer_at(&line(1), begun + STALL_MAX * 2));
        assert_eq!(next(&mut reading), Poll::Ready(None), "and its memory is free");
    }
}
