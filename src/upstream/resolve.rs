//! Names of hosts and their addresses, as one thread has looked them up (RFC 1034 §3.6).
//!
//! The system's resolver tells no lifetime: a name counts as fresh for [`FRESH`]. After that it is looked up again
//! beside the calls, which go on with the addresses from before for at most [`STALE`]; so a resolver that fails or is
//! slow is not noticed for so long. Only one look-up of a name is under way at a time. It says nothing of which
//! addresses a call may reach.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;

/// Time after which a name is looked up again.
pub(super) const FRESH: Duration = Duration::from_secs(30);
/// Time after which addresses that could not be looked up again are no longer used.
pub(super) const STALE: Duration = Duration::from_secs(300);
/// Time after a failure in which a name is not looked up again.
const COOL_DOWN: Duration = Duration::from_secs(1);
/// Names that are remembered; with so many, those that are not fresh are forgotten, and then all.
const NAMES_MAX: usize = 1024;
/// Look-ups under way at the same time: each holds a thread until the system's resolver returns.
const LOOKUPS_MAX: usize = 64;
/// Addresses of one name that are used.
const ADDRESSES_MAX: usize = 64;

/// Addresses of a name; never none.
pub(super) type Found = Rc<[IpAddr]>;
type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>>>>;
/// Asks for the addresses of a name.
pub(super) type Ask = Rc<dyn Fn(Box<str>) -> Looking>;

/// The names of one thread.
pub(super) struct Names {
    clock: Clock,
    ask: Ask,
    known: RefCell<HashMap<Box<str>, Rc<Name>>>,
    under_way: Rc<Cell<usize>>,
}

#[derive(Default)]
struct Name {
    /// With the monotonic time of the look-up, milliseconds.
    found: RefCell<Option<(Found, u64)>>,
    /// The last look-up, where it failed.
    failed: RefCell<Option<(String, u64)>>,
    is_looked_up: Cell<bool>,
    done: Notify,
}

/// Asks the system.
pub(super) fn system() -> Ask {
    Rc::new(|name| {
        Box::pin(async move {
            // The port means nothing to the look-up of a name.
            let found = tokio::net::lookup_host((&*name, 0)).await?;
            Ok(found.map(|address| address.ip().to_canonical()).collect())
        })
    })
}

/// Asks once; a name without an address is an error.
pub(super) async fn look_up(ask: &Ask, name: &str) -> Result<Found, String> {
    match ask(name.into()).await {
        Err(error) => Err(format!("looking up {name}: {error}")),
        Ok(found) if found.is_empty() => Err(format!("{name} has no address")),
        Ok(mut found) => {
            let mut seen = Vec::new();
            found.retain(|address| {
                !seen.contains(address) && seen.len() < ADDRESSES_MAX && {
                    seen.push(*address);
                    true
                }
            });
            Ok(found.into())
        }
    }
}

impl Names {
    pub(super) fn new(clock: Clock, ask: Ask) -> Names {
        Names { clock, ask, known: RefCell::default(), under_way: Rc::default() }
    }

    /// Asks past everything that is remembered.
    pub(super) fn ask(&self) -> &Ask {
        &self.ask
    }

    /// What is known of a name and may be used, without waiting. A look-up begins where it is due.
    pub(super) fn known(&self, name: &str) -> Option<Found> {
        let known = self.known.borrow().get(name).cloned()?;
        self.refresh(name, &known);
        self.usable(&known)
    }

    /// The addresses of a name: at once where they are known, else after a look-up, for which the caller bounds
    /// the wait.
    pub(super) async fn addresses(&self, name: &str) -> Result<Found, String> {
        let entry = self.entry(name);
        loop {
            self.refresh(name, &entry);
            if let Some(found) = self.usable(&entry) {
                return Ok(found);
            }
            if !entry.is_looked_up.get() {
                let failed = entry.failed.borrow();
                return Err(failed.as_ref().map_or_else(too_many, |(why, _)| why.clone()));
            }
            entry.done.notified().await;
        }
    }

    fn entry(&self, name: &str) -> Rc<Name> {
        let mut known = self.known.borrow_mut();
        if let Some(entry) = known.get(name) {
            return entry.clone();
        }
        if known.len() >= NAMES_MAX {
            known.retain(|_, entry| self.age(&entry.found).is_some_and(|age| age < FRESH));
        }
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        known.entry(name.into()).or_default().clone()
    }

    /// Begins a look-up where the name is not fresh, none is under way and the last has not just failed.
    fn refresh(&self, name: &str, entry: &Rc<Name>) {
        let is_fresh = self.age(&entry.found).is_some_and(|age| age < FRESH);
        let has_failed = self.age(&entry.failed).is_some_and(|age| age < COOL_DOWN);
        if is_fresh || has_failed || entry.is_looked_up.get() || self.under_way.get() >= LOOKUPS_MAX {
            return;
        }
        entry.is_looked_up.set(true);
        let place = Place::take(&self.under_way);
        let (name, entry, ask, clock) = (name.to_owned(), entry.clone(), self.ask.clone(), self.clock.clone());
        // A task of its own: whoever waits for it may leave.
        tokio::task::spawn_local(async move {
            let _place = place;
            let found = look_up(&ask, &name).await;
            let now_ms = clock.mono_ms();
            match found {
                Ok(found) => {
                    *entry.failed.borrow_mut() = None;
                    *entry.found.borrow_mut() = Some((found, now_ms));
                }
                Err(why) => {
                    tracing::warn!(why, "a name is not found");
                    *entry.failed.borrow_mut() = Some((why, now_ms));
                }
            }
            entry.is_looked_up.set(false);
            entry.done.notify_waiters();
        });
    }

    fn usable(&self, entry: &Name) -> Option<Found> {
        let is_usable = self.age(&entry.found).is_some_and(|age| age < STALE);
        entry.found.borrow().as_ref().filter(|_| is_usable).map(|(found, _)| found.clone())
    }

    fn age<T>(&self, of: &RefCell<Option<(T, u64)>>) -> Option<Duration> {
        let at_ms = of.borrow().as_ref().map(|(_, at_ms)| *at_ms)?;
        Some(Duration::from_millis(self.clock.mono_ms().saturating_sub(at_ms)))
    }
}

fn too_many() -> String {
    "too many names are being looked up at the moment".to_owned()
}

/// One look-up under way.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(all: &Rc<Cell<usize>>) -> Place {
        all.set(all.get() + 1);
        Place(all.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
