//! What is done for upstreams beside their calls, once for the whole process: health checks, and look-ups of names.
//!
//! Upstreams are told apart by identity and not by name: one whose document is unchanged over a reload is the
//! same, and so are its checks; one that has vanished or become another is left alone at once.

use std::rc::Rc;
use std::sync::Arc;

use tokio::task::{AbortHandle, spawn_local};

use super::balance::Upstream;
use super::dns::keep_looking_up;
use super::health::keep_checking;
use super::pool::Pool;
use super::resolve::{Ask, system};
use crate::clock::Clock;
use crate::clock::wheel::Wheel;

/// Looks after the upstreams of a process, on one thread with local tasks.
pub struct Care {
    pub(super) pool: Rc<Pool>,
    cared: Vec<Cared>,
}

/// An upstream that is looked after, until this is dropped.
struct Cared {
    upstream: Arc<Upstream>,
    tasks: Vec<AbortHandle>,
}

impl Care {
    /// Looks after nothing yet. It must be used inside a runtime with local tasks while `wheel` turns.
    pub fn new(wheel: Wheel, clock: Clock) -> Care {
        Care::asking(wheel, clock, system())
    }

    /// The same with another resolver.
    pub(super) fn asking(wheel: Wheel, clock: Clock, ask: Ask) -> Care {
        Care { pool: Rc::new(Pool::asking(wheel, clock, ask)), cared: Vec::new() }
    }

    /// From now on looks after these, and after no others.
    pub fn follow(&mut self, upstreams: &[Arc<Upstream>]) {
        let mut before = std::mem::take(&mut self.cared);
        self.cared = upstreams
            .iter()
            .map(|upstream| {
                let known = before.iter().position(|known| Arc::ptr_eq(&known.upstream, upstream));
                known.map_or_else(|| self.begin(upstream), |known| before.swap_remove(known))
            })
            .collect();
    }

    fn begin(&self, upstream: &Arc<Upstream>) -> Cared {
        let checks = upstream.check.iter().map(|check| {
            let checking = keep_checking(upstream.clone(), check.clone(), self.pool.clone());
            spawn_local(checking).abort_handle()
        });
        let look_ups = upstream.dns.iter().map(|dns| {
            let looking = keep_looking_up(upstream.clone(), dns.clone(), self.pool.clone());
            spawn_local(looking).abort_handle()
        });
        Cared { upstream: upstream.clone(), tasks: checks.chain(look_ups).collect() }
    }
}

impl Drop for Cared {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
