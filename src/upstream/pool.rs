//! The connections of one worker, kept by origin (RFC 9112 §9.3).
//!
//! Nothing is shared with other workers: no lock and no wake-up across threads stands in a request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::address::Addresses;
use super::budget::RetryBudget;
use super::connect::{connect, secure, speaks_http2, within};
use super::line::Line;
use super::origin::{Host, Http2, Origin};
use super::resolve::{Ask, Found, Names, system};
use super::trunk::{Stream, Trunk};
use super::{PoolLimits, SendError};
use crate::clock::Clock;
use crate::clock::wheel::Wheel;

/// Calls that wait for a connection to one origin; further ones are told at once that it is busy.
const WAITING_MAX: usize = 1024;

/// The pool of one worker.
pub struct Pool {
    pub(super) wheel: Wheel,
    pub(super) clock: Clock,
    pub(super) names: Names,
    /// For destinations without an upstream of their own.
    pub(super) budget: RetryBudget,
    lanes: Rc<Lanes>,
}

type Lanes = RefCell<HashMap<Arc<Origin>, Rc<Lane>>>;

/// All connections of a worker to one origin.
pub(super) struct Lane {
    origin: Arc<Origin>,
    /// The most recently used is last, and taken first: the others age and are closed.
    idle: RefCell<Vec<Rc<Line>>>,
    /// Connections that calls share, whether any uses them or not.
    trunks: RefCell<Vec<Rc<Trunk>>>,
    /// The origin is known to speak HTTP/2.
    is_shared: Cell<bool>,
    /// Connections that are being opened.
    opening: Cell<usize>,
    /// Connections that exist or are being opened.
    open: Cell<usize>,
    waiting: Cell<usize>,
    freed: Notify,
    lanes: Weak<Lanes>,
}

/// A connection's place in its lane, free again when dropped.
pub(super) struct Place(Rc<Lane>);

/// What carries one call.
pub(super) enum Carrier {
    /// A connection of its own.
    Line(Rc<Line>),
    /// A part of a connection.
    Stream(Rc<Stream>),
}

/// How a call is carried.
pub(super) struct Got {
    pub(super) carrier: Carrier,
    /// The connection was used before.
    pub(super) reused: bool,
    /// It took time.
    pub(super) waited: bool,
}

/// Counts a connection that is being opened.
struct Opening<'a>(&'a Lane);

/// What a call wants of a connection.
pub(super) struct Wanted<'a> {
    pub(super) origin: &'a Arc<Origin>,
    pub(super) limits: PoolLimits,
    pub(super) addresses: &'a Addresses,
    /// Bound on waiting and connecting.
    pub(super) time: Duration,
    /// Not one that was used before.
    pub(super) fresh: bool,
}

impl Pool {
    /// An empty pool. It must be used inside a runtime with local tasks while `wheel` turns.
    pub fn new(wheel: Wheel, clock: Clock) -> Pool {
        Pool::asking(wheel, clock, system())
    }

    /// The same with another resolver.
    pub(super) fn asking(wheel: Wheel, clock: Clock, ask: Ask) -> Pool {
        let names = Names::new(clock.clone(), ask);
        Pool { wheel, clock, names, budget: RetryBudget::default(), lanes: Rc::default() }
    }

    /// Connections that wait for a call.
    pub fn idle(&self) -> usize {
        let shared = |lane: &Lane| lane.trunks.borrow().iter().filter(|trunk| trunk.is_idle()).count();
        self.lanes.borrow().values().map(|lane| lane.idle.borrow().len() + shared(lane)).sum()
    }

    /// Calls that wait for a connection.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lanes.borrow().values().map(|lane| lane.waiting.get()).sum()
    }

    /// Whether it has neither connections nor calls that wait for one.
    pub fn is_empty(&self) -> bool {
        self.lanes.borrow().is_empty()
    }

    /// Closes the connections that wait for a call.
    pub fn close_idle(&self) {
        for lane in self.lanes.borrow().values() {
            for line in lane.idle.take() {
                line.close();
            }
            for trunk in lane.trunks.borrow().iter().filter(|trunk| trunk.is_idle()) {
                trunk.close();
            }
        }
    }

    fn lane(&self, origin: &Arc<Origin>) -> Rc<Lane> {
        if let Some(lane) = self.lanes.borrow().get(origin) {
            return lane.clone();
        }
        let lane = Rc::new(Lane {
            origin: origin.clone(),
            idle: RefCell::default(),
            trunks: RefCell::default(),
            is_shared: Cell::new(origin.http2 == Http2::Always),
            opening: Cell::new(0),
            open: Cell::new(0),
            waiting: Cell::new(0),
            freed: Notify::new(),
            lanes: Rc::downgrade(&self.lanes),
        });
        self.lanes.borrow_mut().insert(origin.clone(), lane.clone());
        lane
    }

    /// The addresses that the name of an origin has now, where it is one and they are known.
    fn known(&self, origin: &Origin) -> Option<Found> {
        match &origin.host {
            Host::Name(name) if origin.address().is_none() => self.names.known(name),
            _ => None,
        }
    }

    /// What carries the call.
    pub(super) async fn carrier(&self, wanted: Wanted<'_>) -> Result<Got, SendError> {
        let (lane, known) = (self.lane(wanted.origin), self.known(wanted.origin));
        if !wanted.fresh
            && let Some(carrier) = lane.take(&wanted, known.as_deref())
        {
            return Ok(Got { carrier, reused: true, waited: false });
        }
        // In a box, because it is rare and large: whoever sends a call carries a future with room for it.
        let (carrier, reused) = Box::pin(self.wait_or_open(lane, known, wanted)).await?;
        Ok(Got { carrier, reused, waited: true })
    }

    /// A connection that was given back meanwhile, or a new one.
    async fn wait_or_open(
        &self,
        lane: Rc<Lane>,
        known: Option<Found>,
        wanted: Wanted<'_>,
    ) -> Result<(Carrier, bool), SendError> {
        let timer = self.wheel.timer();
        timer.set(wanted.time);
        let deadline = &timer;
        loop {
            if !wanted.fresh
                && let Some(carrier) = lane.take(&wanted, known.as_deref())
            {
                return Ok((carrier, true));
            }
            let is_full = wanted.limits.max > 0 && lane.open.get() >= wanted.limits.max;
            // One connection is enough for many calls: who comes while it is being opened waits for it.
            let is_coming = lane.is_shared.get() && lane.opening.get() > 0;
            if !is_full && !is_coming {
                break;
            }
            match lane.take(&wanted, known.as_deref()) {
                Some(Carrier::Line(line)) => line.close(), // makes room once its task has run
                Some(stream) => return Ok((stream, true)),
                None if is_full => lane.close_oldest(), // what is idle and not to be used takes nobody's place
                None => {}
            }
            if lane.waiting.get() >= WAITING_MAX || within(deadline, lane.wait()).await.is_none() {
                return Err(if is_full { SendError::Busy } else { SendError::TimeoutConnect });
            }
        }
        let opening = Opening::one(&lane);
        let place = Place::take(lane.clone());
        let stream = connect(&self.wheel, &self.names, wanted.origin, wanted.addresses, deadline).await?;
        let refused = |error: &dyn std::fmt::Display| SendError::Connect(format!("{}: {error}", wanted.origin));
        let peer = stream.peer_addr().map_err(|error| refused(&error))?.ip();
        let wire = secure(wanted.origin, stream, deadline).await?;
        lane.is_shared.set(speaks_http2(wanted.origin, &wire)?);
        if !lane.is_shared.get() {
            let line = Line::start(wire, peer, place, &self.wheel).await.map_err(|error| refused(&error))?;
            return Ok((Carrier::Line(line), false));
        }
        let trunk = Trunk::start(wire, peer, place, &self.wheel).await.map_err(|error| refused(&error))?;
        let stream = trunk.stream(wanted.limits);
        lane.trunks.borrow_mut().push(trunk);
        drop(opening); // after there is something to share
        Ok((Carrier::Stream(stream), false))
    }
}

impl<'a> Opening<'a> {
    fn one(lane: &'a Lane) -> Opening<'a> {
        lane.opening.set(lane.opening.get() + 1);
        Opening(lane)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(self.0.opening.get().saturating_sub(1));
        self.0.freed.notify_waiters();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close_idle();
    }
}

impl Lane {
    /// What may be used. What leads to an address that its name no longer has is left to age.
    fn take(&self, wanted: &Wanted<'_>, known: Option<&[IpAddr]>) -> Option<Carrier> {
        let is_known = |peer: IpAddr| known.is_none_or(|known| known.contains(&peer.to_canonical()));
        let may_go_to = |peer: IpAddr| wanted.addresses.allow(peer) && is_known(peer);
        let trunks = self.trunks.borrow();
        match trunks.iter().find(|trunk| may_go_to(trunk.peer) && trunk.has_room()) {
            Some(trunk) => Some(Carrier::Stream(trunk.stream(wanted.limits))),
            None => self.take_idle(may_go_to).map(Carrier::Line),
        }
    }

    fn take_idle(&self, may_go_to: impl Fn(IpAddr) -> bool) -> Option<Rc<Line>> {
        let mut idle = self.idle.borrow_mut();
        let newest = idle.iter().rposition(|line| line.is_ready() && may_go_to(line.peer))?;
        Some(idle.remove(newest))
    }

    fn close_oldest(&self) {
        match self.idle.borrow().first() {
            Some(oldest) => oldest.close(),
            None => self.trunks.borrow().iter().filter(|trunk| trunk.is_idle()).take(1).for_each(|trunk| trunk.close()),
        }
    }

    /// Takes a connection back; false if it is not wanted any more.
    pub(super) fn give_back(&self, line: &Rc<Line>, max_idle: usize) -> bool {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= max_idle || !self.is_wanted() {
            return false;
        }
        idle.push(line.clone());
        self.wake_one();
        true
    }

    /// The connection is gone.
    pub(super) fn forget(&self, line: &Rc<Line>) {
        self.idle.borrow_mut().retain(|idle| !Rc::ptr_eq(idle, line));
    }

    /// The same of one that calls share.
    pub(super) fn forget_trunk(&self, trunk: &Rc<Trunk>) {
        self.trunks.borrow_mut().retain(|known| !Rc::ptr_eq(known, trunk));
    }

    /// Whether there is a pool that connections could be kept for.
    pub(super) fn is_wanted(&self) -> bool {
        self.lanes.strong_count() > 0
    }

    async fn wait(&self) {
        struct Waiting<'a>(&'a Cell<usize>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get().saturating_sub(1));
            }
        }
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = Waiting(&self.waiting);
        self.freed.notified().await;
    }

    pub(super) fn wake_one(&self) {
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }
}

impl Place {
    fn take(lane: Rc<Lane>) -> Place {
        lane.open.set(lane.open.get() + 1);
        Place(lane)
    }

    pub(super) fn lane(&self) -> &Rc<Lane> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let lane = &self.0;
        lane.open.set(lane.open.get().saturating_sub(1));
        lane.wake_one();
        // Origins that a variable names must not pile up.
        if lane.open.get() == 0
            && lane.waiting.get() == 0
            && let Some(lanes) = lane.lanes.upgrade()
        {
            lanes.borrow_mut().remove(&lane.origin);
        }
    }
}
