//! Targets that a name stands for: looked up again and again, once for the whole process.
//!
//! An address that stays is the same target over every look-up, with what is known of its health. Until the first
//! look-up has come back the name itself is the only target, and each worker looks it up; so it is again when nothing
//! was found for [`STALE`].

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::balance::Upstream;
use super::connect::within;
use super::origin::{Host, Origin};
use super::pool::Pool;
use super::resolve::{STALE, look_up};
use super::target::Target;

/// Time for one look-up.
const LOOKUP_TIME: Duration = Duration::from_secs(5);

/// The name that stands for the targets of an upstream.
#[derive(Clone, Debug)]
pub struct Dns {
    /// By its name.
    pub origin: Arc<Origin>,
    /// From look-up to look-up.
    pub refresh: Duration,
}

/// Looks the name up for ever.
pub(super) async fn keep_looking_up(upstream: Arc<Upstream>, dns: Dns, pool: Rc<Pool>) {
    let Host::Name(name) = &dns.origin.host else { return };
    let (next, patience) = (pool.wheel.timer(), pool.wheel.timer());
    let mut found_at_ms = pool.clock.mono_ms();
    loop {
        next.set(dns.refresh);
        patience.set(LOOKUP_TIME);
        let found = within(&patience, look_up(pool.names.ask(), name)).await;
        let now_ms = pool.clock.mono_ms();
        match found.unwrap_or_else(|| Err(format!("looking up {name}: no answer within {LOOKUP_TIME:?}"))) {
            Ok(found) => {
                found_at_ms = now_ms;
                let mut origins: Vec<Origin> = found.iter().map(|address| dns.origin.at(*address)).collect();
                // Resolvers turn their answers: that is no change.
                origins.sort_by_key(Origin::address);
                renew(&upstream, origins);
            }
            Err(why) => {
                tracing::warn!(upstream = %upstream.name, why, "targets are not found: those from before stay");
                if Duration::from_millis(now_ms.saturating_sub(found_at_ms)) >= STALE {
                    renew(&upstream, vec![(*dns.origin).clone()]);
                }
            }
        }
        next.expired().await;
    }
}

/// Makes these the targets; those that are among them already stay what they are.
fn renew(upstream: &Upstream, origins: Vec<Origin>) {
    let before = upstream.targets();
    let target = |origin: Origin| {
        let known = before.iter().find(|known| *known.origin == origin).cloned();
        known.unwrap_or_else(|| Arc::new(Target::new(Arc::new(origin), 1)))
    };
    let now: Vec<Arc<Target>> = origins.into_iter().map(target).collect();
    if now.len() == before.len() && now.iter().zip(before.iter()).all(|(now, before)| Arc::ptr_eq(now, before)) {
        return;
    }
    let count = now.len();
    match upstream.replace_targets(now) {
        Ok(()) => tracing::info!(upstream = %upstream.name, targets = count, "other targets are found"),
        Err(why) => tracing::warn!(upstream = %upstream.name, why, "the targets that are found cannot be used"),
    }
}
