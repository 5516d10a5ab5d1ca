//! The last requests that failed, kept in memory for whoever asks afterwards.
//!
//! Each worker has its own two rings, one for denied and one for broken requests, so that no worker waits for
//! another and a flood of refusals does not wash away the one request that broke. A worker keeps at most
//! [`KEPT_PER_SECOND_MAX`] a second: a flood costs no more than that. Nothing is written to disk.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::fault::Kind;

/// Requests of each kind that are kept and shown.
pub const KEPT_MAX: usize = 64;
/// Requests of each kind that one worker keeps within a second.
pub const KEPT_PER_SECOND_MAX: u32 = 64;
/// Bytes of one request's line.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

const SECOND_NS: u64 = 1_000_000_000;

#[derive(Default)]
struct Ring {
    /// When it was kept, and its line.
    lines: VecDeque<(u64, String)>,
    second: u64,
    within_second: u32,
    passed_over: u64,
}

/// The rings of all workers.
pub struct Failed {
    workers: Box<[Mutex<[Ring; 2]>]>,
}

/// What the rings hold.
#[derive(Debug, Default, PartialEq)]
pub struct Kept {
    /// The oldest first, each with its line break.
    pub lines: Vec<String>,
    /// Failed requests that came too fast to be kept.
    pub passed_over: u64,
}

impl Failed {
    /// Empty rings for so many workers.
    pub fn new(workers: usize) -> Failed {
        Failed { workers: (0..workers).map(|_| Mutex::default()).collect() }
    }

    /// Keeps what `line` makes, unless too many have just been kept. A line that is too long is left out.
    pub fn keep(&self, worker: usize, kind: Kind, now_ns: u64, line: impl FnOnce() -> String) {
        let Some(rings) = self.workers.get(worker) else { return };
        {
            let mut rings = rings.lock().unwrap_or_else(PoisonError::into_inner);
            let ring = ring(&mut rings, kind);
            if ring.second != now_ns / SECOND_NS {
                (ring.second, ring.within_second) = (now_ns / SECOND_NS, 0);
            }
            if ring.within_second >= KEPT_PER_SECOND_MAX {
                ring.passed_over += 1;
                return;
            }
            ring.within_second += 1;
        }
        let line = line();
        let mut rings = rings.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = ring(&mut rings, kind);
        if line.len() > LINE_BYTES_MAX {
            ring.passed_over += 1;
            return;
        }
        if ring.lines.len() >= KEPT_MAX {
            ring.lines.pop_front();
        }
        ring.lines.push_back((now_ns, line));
    }

    /// The last [`KEPT_MAX`] of each kind, in the order in which they failed.
    pub fn kept(&self) -> Kept {
        let mut of_kind: [Vec<(u64, String)>; 2] = Default::default();
        let mut passed_over = 0;
        for rings in &self.workers {
            let rings = rings.lock().unwrap_or_else(PoisonError::into_inner);
            for (all, ring) in of_kind.iter_mut().zip(rings.iter()) {
                all.extend(ring.lines.iter().cloned());
                passed_over += ring.passed_over;
            }
        }
        let mut lines = Vec::new();
        for mut all in of_kind {
            all.sort_by_key(|(at_ns, _)| *at_ns);
            let surplus = all.len().saturating_sub(KEPT_MAX);
            lines.extend(all.into_iter().skip(surplus));
        }
        lines.sort_by_key(|(at_ns, _)| *at_ns);
        Kept { lines: lines.into_iter().map(|(_, line)| line).collect(), passed_over }
    }
}

fn ring(rings: &mut [Ring; 2], kind: Kind) -> &mut Ring {
    let [denied, broken] = rings;
    match kind {
        Kind::Denied => denied,
        Kind::Broken => broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_kind_stay_in_their_order() {
        let failed = Failed::new(2);
        failed.keep(0, Kind::Broken, 5, || "broken\n".into());
        for number in 0..1000_u64 {
            let worker = usize::from(number % 2 == 0);
            failed.keep(worker, Kind::Denied, number * SECOND_NS / 10, || format!("{number}\n"));
        }
        let kept = failed.kept();
        assert_eq!((kept.lines.len(), kept.passed_over), (KEPT_MAX + 1, 0));
        assert_eq!(kept.lines[0], "broken\n", "a flood of the other kind does not wash it away");
        assert_eq!((kept.lines[1].as_str(), kept.lines[KEPT_MAX].as_str()), ("936\n", "999\n"));
    }

    #[test]
    fn a_flood_is_not_even_written_down() {
        let failed = Failed::new(1);
        let mut made = 0;
        for _ in 0..1000 {
            failed.keep(0, Kind::Denied, 7, || {
                made += 1;
                String::new()
            });
        }
        assert_eq!((made, failed.kept().passed_over), (KEPT_PER_SECOND_MAX, 1000 - u64::from(KEPT_PER_SECOND_MAX)));
        failed.keep(0, Kind::Denied, SECOND_NS, || "next second".into());
        assert_eq!(failed.kept().lines.last().unwrap(), "next second");
    }

    #[test]
    fn a_line_has_a_bound() {
        let failed = Failed::new(1);
        failed.keep(0, Kind::Broken, 0, || "x".repeat(LINE_BYTES_MAX + 1));
        failed.keep(9, Kind::Broken, 0, || "no such worker".into());
        assert_eq!(failed.kept(), Kept { lines: Vec::new(), passed_over: 1 });
    }
}
