//! One coarse timer wheel per worker.
//!
//! A timer per request in the runtime costs a system call each (arming one wakes the driver), so all
//! timeouts of a worker hang on one wheel that turns every [`TICK`]. A timeout therefore fires up to two
//! ticks late and never early. Moving a deadline later, the common case, only stores a number.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How often the wheel turns: the granularity of every timeout.
pub const TICK: Duration = Duration::from_millis(50);
/// Slots of the wheel; a deadline further away is queued again when its slot comes round.
const SLOTS: u64 = 1024;

/// The wheel. Cloning gives another handle to the same wheel.
#[derive(Clone)]
pub struct Wheel(Rc<Inner>);

struct Inner {
    now: Cell<u64>,
    slots: RefCell<Vec<Vec<Weak<Entry>>>>,
    /// Entries of dropped timers. They are used again, so that a busy worker queues nothing anew: an
    /// entry that stands in a slot only moves its due tick.
    spares: RefCell<Vec<Rc<Entry>>>,
}

struct Entry {
    /// Tick at which it expires; `NEVER` while it is not armed.
    due: Cell<u64>,
    /// Earliest slot in which it stands, `NEVER` if in none.
    queued: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

const NEVER: u64 = u64::MAX;
/// Entries kept for use again.
const SPARES_MAX: usize = 4096;

/// One deadline that can be set, moved and cleared any number of times.
pub struct Timer {
    wheel: Wheel,
    entry: Rc<Entry>,
}

impl Default for Wheel {
    fn default() -> Self {
        Wheel::new()
    }
}

impl Wheel {
    /// A wheel that stands still until [`Wheel::run`] turns it.
    pub fn new() -> Wheel {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Wheel(Rc::new(Inner { now: Cell::new(0), slots: RefCell::new(slots), spares: RefCell::default() }))
    }

    /// Turns the wheel for ever: one runtime timer for all timeouts of the worker.
    pub async fn run(&self) {
        let mut every = tokio::time::interval(TICK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        loop {
            every.tick().await;
            self.turn();
        }
    }

    /// A timer that is not armed.
    pub fn timer(&self) -> Timer {
        let spare = self.0.spares.borrow_mut().pop();
        let entry = spare.unwrap_or_else(|| {
            Rc::new(Entry { due: Cell::new(NEVER), queued: Cell::new(NEVER), waker: RefCell::new(None) })
        });
        Timer { wheel: self.clone(), entry }
    }

    /// Moves time on by one tick and wakes what is due.
    pub fn turn(&self) {
        let now = self.0.now.get() + 1;
        self.0.now.set(now);
        let slot = (now % SLOTS) as usize;
        let standing = match self.0.slots.borrow_mut().get_mut(slot) {
            Some(entries) => std::mem::take(entries),
            None => return,
        };
        for entry in standing.iter().filter_map(Weak::upgrade) {
            if entry.queued.get() > now {
                continue; // stands again in a later slot
            }
            entry.queued.set(NEVER);
            let due = entry.due.get();
            if due <= now {
                if let Some(waker) = entry.waker.borrow_mut().take() {
                    waker.wake();
                }
            } else if due != NEVER {
                self.queue(&entry, due);
            }
        }
    }

    fn queue(&self, entry: &Rc<Entry>, due: u64) {
        let at = due.min(self.0.now.get() + SLOTS - 1);
        entry.queued.set(at);
        if let Some(slot) = self.0.slots.borrow_mut().get_mut((at % SLOTS) as usize) {
            slot.push(Rc::downgrade(entry));
        }
    }
}

impl Timer {
    /// Expires `after` from now, rounded up to the wheel's granularity.
    pub fn set(&self, after: Duration) {
        let ticks = after.as_nanos().div_ceil(TICK.as_nanos());
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX / 2);
        let due = self.wheel.0.now.get().saturating_add(ticks).saturating_add(1);
        self.entry.due.set(due);
        if due < self.entry.queued.get() {
            self.wheel.queue(&self.entry, due);
        }
    }

    /// Disarms the timer.
    pub fn clear(&self) {
        self.entry.due.set(NEVER);
    }

    /// Whether the deadline has passed.
    pub fn is_expired(&self) -> bool {
        self.entry.due.get() <= self.wheel.0.now.get()
    }

    /// Ready once the deadline has passed; otherwise the task is woken when it does.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_expired() {
            return Poll::Ready(());
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|held| held.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits for the deadline.
    pub async fn expired(&self) {
        poll_fn(|cx| self.poll_expired(cx)).await;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.clear();
        self.entry.waker.borrow_mut().take();
        let mut spares = self.wheel.0.spares.borrow_mut();
        if spares.len() < SPARES_MAX {
            spares.push(self.entry.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn turns_until_expiry(wheel: &Wheel, timer: &Timer) -> u64 {
        (1..5000)
            .find(|_| {
                wheel.turn();
                timer.poll_expired(&mut Context::from_waker(Waker::noop())).is_ready()
            })
            .unwrap()
    }

    #[test]
    fn fires_never_early_and_at_most_two_ticks_late() {
        let wheel = Wheel::new();
        for ticks in [1u32, 2, 10, 1023, 1024, 3000] {
            let timer = wheel.timer();
            timer.set(TICK * ticks);
            let turns = turns_until_expiry(&wheel, &timer);
            assert!(turns >= u64::from(ticks) && turns <= u64::from(ticks) + 2, "{ticks}: {turns}");
        }
    }

    #[test]
    fn a_deadline_can_move_later_and_earlier() {
        let wheel = Wheel::new();
        let timer = wheel.timer();
        timer.set(TICK * 5);
        timer.set(TICK * 100);
        for _ in 0..90 {
            wheel.turn();
        }
        assert!(!timer.is_expired());
        timer.set(TICK * 2);
        assert!(turns_until_expiry(&wheel, &timer) <= 4);
        timer.clear();
        assert!(!timer.is_expired());
    }

    #[test]
    fn a_dropped_timer_is_used_again_and_not_queued_twice() {
        let wheel = Wheel::new();
        for _ in 0..1000 {
            wheel.timer().set(TICK * 100);
        }
        let queued: usize = wheel.0.slots.borrow().iter().map(Vec::len).sum();
        assert_eq!(queued, 1);
        assert!(!wheel.timer().is_expired());
    }

    #[test]
    fn wakes_the_task_that_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let wheel = Wheel::new();
        let timer = wheel.timer();
        timer.set(TICK * 3);
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let waiting = tokio::task::spawn_local(async move { timer.expired().await });
            for _ in 0..6 {
                tokio::task::yield_now().await;
                wheel.turn();
            }
            waiting.await.unwrap();
        });
    }
}
