//! Time as a seam: the wall clock, monotonic time, and the coarse wheel that ends waits.
//!
//! Wall time is for people, records and expiry dates; monotonic time is for limits and timeouts, so
//! that a clock that is set back resurrects nothing. Policy tests put a frozen clock in this place.

pub mod wheel;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Where a worker reads the time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clocks. The instant is the origin of monotonic time, shared by all workers.
    System(Instant),
    /// A clock that moves only when a test moves it.
    Frozen(Rc<Frozen>),
}

/// The clock of a policy test.
#[derive(Debug)]
pub struct Frozen {
    start: Timestamp,
    elapsed: Cell<Duration>,
}

impl Frozen {
    /// A clock that stands at `start`.
    pub fn at(start: Timestamp) -> Rc<Frozen> {
        Rc::new(Frozen { start, elapsed: Cell::new(Duration::ZERO) })
    }

    /// Moves wall and monotonic time together.
    pub fn advance(&self, by: Duration) {
        self.elapsed.set(self.elapsed.get().saturating_add(by));
    }
}

impl Clock {
    /// The machine's clocks, counting monotonic time from now.
    pub fn system() -> Clock {
        Clock::System(Instant::now())
    }

    /// Wall clock, for records and dates.
    pub fn wall(&self) -> Timestamp {
        match self {
            Clock::System(_) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let nanos = i128::try_from(since.as_nanos()).unwrap_or(0);
                Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::UNIX_EPOCH)
            }
            Clock::Frozen(frozen) => {
                let elapsed = jiff::SignedDuration::try_from(frozen.elapsed.get()).unwrap_or_default();
                frozen.start.checked_add(elapsed).unwrap_or(frozen.start)
            }
        }
    }

    /// Monotonic nanoseconds since an origin that all workers of a process share.
    pub fn mono_ns(&self) -> u64 {
        let elapsed = match self {
            Clock::System(origin) => origin.elapsed(),
            Clock::Frozen(frozen) => frozen.elapsed.get(),
        };
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Monotonic milliseconds since the same origin.
    pub fn mono_ms(&self) -> u64 {
        self.mono_ns() / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_moves_only_when_told() {
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let frozen = Frozen::at(start);
        let clock = Clock::Frozen(frozen.clone());
        assert_eq!(clock.wall(), start);
        assert_eq!(clock.mono_ns(), 0);
        frozen.advance(Duration::from_millis(1500));
        assert_eq!(clock.wall().to_string(), "2026-03-01T12:00:01.5Z");
        assert_eq!(clock.mono_ms(), 1500);
    }
}
