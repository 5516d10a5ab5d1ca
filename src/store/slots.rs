//! Slots for work in flight: so many per key at once, and a line for those who may wait.
//!
//! A slot is a [`Permit`]; dropping it, however that comes, frees the slot or hands it to the first in line. Counts
//! are exact under any concurrency. What it does not do: it shares nothing between processes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot::{Receiver, Sender, channel};

use super::Sharded;

/// All slots of a process.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Sharded<HashMap<u128, Gate>>>);

#[derive(Debug, Default)]
struct Gate {
    held: u64,
    line: VecDeque<Sender<()>>,
}

/// One slot.
#[derive(Debug)]
pub struct Permit {
    slots: Slots,
    key: u128,
}

/// A place in the line.
#[derive(Debug)]
pub struct Waiting {
    slots: Slots,
    key: u128,
    turn: Receiver<()>,
}

/// What a request for a slot gave.
#[derive(Debug)]
pub enum Taken {
    /// A slot, with how many are held now.
    Held(Permit, u64),
    Waiting(Waiting),
    /// All are held, and the line is full.
    Full,
}

impl Default for Slots {
    fn default() -> Self {
        Slots(Arc::new(Sharded::new(HashMap::new)))
    }
}

impl Slots {
    /// Takes one of `max` slots of `key`, or one of `line_max` places in the line for them.
    pub fn take(&self, key: u128, max: u64, line_max: u64) -> Taken {
        let mut gates = self.0.lock(key);
        let gate = gates.entry(key).or_default();
        // Who still waits in the line stands before whoever comes now.
        if gate.held < max && gate.line.is_empty() {
            gate.held += 1;
            return Taken::Held(Permit { slots: self.clone(), key }, gate.held);
        }
        gate.line.retain(|waiting| !waiting.is_closed());
        if gate.line.len() as u64 >= line_max {
            return Taken::Full;
        }
        let (sender, turn) = channel();
        gate.line.push_back(sender);
        Taken::Waiting(Waiting { slots: self.clone(), key, turn })
    }

    /// How many are held.
    pub fn held(&self, key: u128) -> u64 {
        self.0.lock(key).get(&key).map_or(0, |gate| gate.held)
    }

    /// Hands one slot to the first in line that is still there, or frees it.
    fn free(&self, key: u128) {
        let mut gates = self.0.lock(key);
        let Entry::Occupied(mut gate) = gates.entry(key) else { return };
        while let Some(next) = gate.get_mut().line.pop_front() {
            if next.send(()).is_ok() {
                return;
            }
        }
        gate.get_mut().held = gate.get().held.saturating_sub(1);
        if gate.get().held == 0 {
            gate.remove();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.slots.free(self.key);
    }
}

impl Waiting {
    /// The slot, once it is this one's turn.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Permit> {
        match Pin::new(&mut self.turn).poll(cx) {
            Poll::Ready(Ok(())) => {
                // The channel is empty now: dropping the place gives nothing back.
                Poll::Ready(Permit { slots: self.slots.clone(), key: self.key })
            }
            _ => Poll::Pending,
        }
    }
}

impl Drop for Waiting {
    /// A slot that was handed over and not taken goes to the next.
    fn drop(&mut self) {
        self.turn.close();
        if self.turn.try_recv().is_ok() {
            self.slots.free(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn held(slots: &Slots) -> Permit {
        match slots.take(7, 2, 2) {
            Taken::Held(permit, _) => permit,
            other => panic!("{other:?}"),
        }
    }

    fn waiting(slots: &Slots) -> Waiting {
        match slots.take(7, 2, 2) {
            Taken::Waiting(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    fn turn(waiting: &mut Waiting) -> Option<Permit> {
        match waiting.poll_turn(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn first_come_first_served() {
        let slots = Slots::default();
        let (one, two) = (held(&slots), held(&slots));
        let (mut first, mut second) = (waiting(&slots), waiting(&slots));
        assert!(matches!(slots.take(7, 2, 2), Taken::Full) && matches!(slots.take(8, 2, 0), Taken::Held(_, 1)));
        assert!(turn(&mut first).is_none());
        drop(one);
        assert!(turn(&mut second).is_none());
        let third = turn(&mut first).unwrap();
        drop((first, third));
        let fourth = turn(&mut second).unwrap();
        assert_eq!(slots.held(7), 2);
        drop((two, second, fourth));
        assert_eq!(slots.held(7), 0);
        assert!(slots.0.lock(7).is_empty(), "nothing is kept for keys that nobody holds");
    }

    #[test]
    fn who_leaves_the_line_takes_no_slot_along() {
        let slots = Slots::default();
        let (one, _two) = (held(&slots), held(&slots));
        let (first, mut second) = (waiting(&slots), waiting(&slots));
        drop(first);
        let third = waiting(&slots);
        drop(one); // handed to the second, which has not looked yet
        drop(third);
        assert!(turn(&mut second).is_some());
        assert_eq!(slots.held(7), 1);
        let _three = held(&slots);
        let fourth = waiting(&slots);
        drop(_three);
        drop(fourth);
        assert_eq!(slots.held(7), 1);
    }

    #[test]
    fn no_more_than_allowed_at_any_time() {
        let slots = Slots::default();
        let most = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Taken::Held(_permit, held) = slots.take(1, 3, 0) {
                            most.fetch_max(held, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(slots.held(1), 0);
    }
}
