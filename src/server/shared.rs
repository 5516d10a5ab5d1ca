//! What all workers of a server count together, and the limits judged on it.
//!
//! Connections are counted when they are accepted, requests when their head has been read; both counts
//! fall when the permit is dropped, however the work ended.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::Limits;

/// Shards of the map of client addresses, so that workers seldom wait for each other.
const SHARDS: usize = 16;

/// The counts of one server, shared by its workers.
pub struct Shared {
    max_connections: usize,
    max_per_client: usize,
    max_in_flight: usize,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    tunnels: AtomicUsize,
    workers_alive: AtomicUsize,
    worker_restarts: AtomicU64,
    cut: AtomicUsize,
    hasher: RandomState,
    clients: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Process,
    Client,
}

/// One open connection.
pub(super) struct ConnectionPermit {
    shared: Arc<Shared>,
    client: Option<IpAddr>,
}

/// One connection that has become a tunnel.
pub(super) struct TunnelPermit(Arc<Shared>);

/// One request in flight.
pub(super) struct RequestPermit(Arc<Shared>);

impl Shared {
    pub(super) fn new(limits: &Limits) -> Shared {
        Shared {
            max_connections: limits.connections,
            max_per_client: limits.connections_per_client,
            max_in_flight: limits.in_flight,
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            workers_alive: AtomicUsize::new(0),
            worker_restarts: AtomicU64::new(0),
            cut: AtomicUsize::new(0),
            hasher: RandomState::new(),
            clients: std::array::from_fn(|_| Mutex::new(HashMap::new())),
        }
    }

    /// Open client connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests whose answer has not been written to its end.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Connections that have become tunnels; they are among the open ones.
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Workers that serve at this moment.
    pub fn workers_alive(&self) -> usize {
        self.workers_alive.load(Ordering::Relaxed)
    }

    /// Workers that died and were started again.
    pub fn worker_restarts(&self) -> u64 {
        self.worker_restarts.load(Ordering::Relaxed)
    }

    /// Connections that were cut with a request in flight because a drain took too long.
    pub(super) fn cut(&self) -> usize {
        self.cut.load(Ordering::Relaxed)
    }

    pub(super) fn count_cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn worker_started(&self) {
        self.workers_alive.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn worker_ended(&self, died: bool) {
        self.workers_alive.fetch_sub(1, Ordering::Relaxed);
        if died {
            self.worker_restarts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a connection, counted for `client` unless that is `None` (a trusted proxy).
    pub(super) fn connect(self: &Arc<Shared>, client: Option<IpAddr>) -> Result<ConnectionPermit, Full> {
        if !enter(&self.connections, self.max_connections) {
            return Err(Full::Process);
        }
        // From here on the permit's drop gives back what was taken.
        let mut permit = ConnectionPermit { shared: self.clone(), client: None };
        if let Some(ip) = client {
            permit.count_for(ip)?;
        }
        Ok(permit)
    }

    /// Takes a request; `None` when too many are in flight.
    pub(super) fn begin(self: &Arc<Shared>) -> Option<RequestPermit> {
        enter(&self.in_flight, self.max_in_flight).then(|| RequestPermit(self.clone()))
    }

    /// Counts a tunnel.
    pub(super) fn tunnel(self: &Arc<Shared>) -> TunnelPermit {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
        TunnelPermit(self.clone())
    }

    fn shard(&self, ip: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let index = self.hasher.hash_one(ip) % SHARDS as u64;
        let [first, ..] = &self.clients;
        let shard = self.clients.get(index as usize).unwrap_or(first);
        // A count is whole between any two statements: a panic elsewhere does not spoil it.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one more unless there are `max` already.
fn enter(count: &AtomicUsize, max: usize) -> bool {
    if count.fetch_add(1, Ordering::Relaxed) < max {
        return true;
    }
    count.fetch_sub(1, Ordering::Relaxed);
    false
}

impl ConnectionPermit {
    /// Counts it for a client, who was not known before.
    pub(super) fn count_for(&mut self, ip: IpAddr) -> Result<(), Full> {
        let mut clients = self.shared.shard(ip);
        let count = clients.entry(ip).or_default();
        if *count >= self.shared.max_per_client {
            if *count == 0 {
                clients.remove(&ip);
            }
            return Err(Full::Client);
        }
        *count += 1;
        self.client = Some(ip);
        Ok(())
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(ip) = self.client {
            let mut clients = self.shared.shard(ip);
            if let Some(count) = clients.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    clients.remove(&ip);
                }
            }
        }
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for TunnelPermit {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_and_given_back() {
        let limits = Limits { connections: 3, connections_per_client: 2, in_flight: 1, ..Limits::default() };
        let shared = Arc::new(Shared::new(&limits));
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let first = shared.connect(Some(one)).ok().unwrap();
        let second = shared.connect(Some(one)).ok().unwrap();
        assert_eq!(shared.connect(Some(one)).err(), Some(Full::Client));
        let proxy = shared.connect(None).ok().unwrap();
        assert_eq!(shared.connect(None).err(), Some(Full::Process));
        assert_eq!(shared.connections(), 3);
        drop((first, second, proxy));
        assert_eq!(shared.connections(), 0);
        assert!(shared.clients.iter().all(|shard| shard.lock().unwrap().is_empty()), "no address is remembered");

        let request = shared.begin().unwrap();
        assert!(shared.begin().is_none());
        drop(request);
        assert!(shared.begin().is_some());
    }
}
