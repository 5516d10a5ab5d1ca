//! Exchanges keys that were made here when they are old enough, while traffic flows.
//!
//! Only keys of what serves are exchanged: what a refused set of files says of a key changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::engine::worker::Shared;
use crate::identity::own_keys::Rotating;

/// Longest time between two looks, in seconds: another set of files may serve, or the clock may have been set.
const LOOK_S: i64 = 30;
/// Shortest time between two looks, in seconds.
const PAUSE_S: i64 = 1;

const EXCHANGES: &str = "gatewright_own_key_exchanges_total";
const EXCHANGES_HELP: &str = "Exchanges of keys that were made here, by what came of them.";
const EXCHANGED: &str = "exchanged";
const FAILED: &str = "failed";

/// Looks for ever.
pub(super) async fn exchange(shared: Arc<Shared>, clock_origin: Instant) {
    // From the start, so that the first failure is a change that an alarm sees.
    for result in [EXCHANGED, FAILED] {
        shared.metrics.add_labelled(EXCHANGES, EXCHANGES_HELP, ("result", result), 0);
    }
    loop {
        let now_s = Clock::System(clock_origin).wall().as_second();
        let keys = shared.current().own_keys.clone();
        let mut wait_s = LOOK_S;
        for own in keys.iter() {
            let due_s = own.key.due_in_s(now_s, own.rotate_s);
            if due_s == Some(0) {
                advance(own.clone(), now_s, &shared).await;
            }
            let next_s = own.key.due_in_s(now_s, own.rotate_s).unwrap_or(LOOK_S);
            // What could not be done now is not tried at once again.
            wait_s = wait_s.min(if next_s == 0 { LOOK_S } else { next_s.max(PAUSE_S) });
        }
        drop(keys);
        tokio::time::sleep(Duration::from_secs(wait_s.unsigned_abs())).await;
    }
}

async fn advance(own: Arc<Rotating>, now_s: i64, shared: &Shared) {
    let working = own.clone();
    let done = tokio::task::spawn_blocking(move || working.key.advance(now_s, working.rotate_s)).await;
    let key = own.key.name();
    let result = match done.map_err(|panic| panic.to_string()).flatten() {
        Ok(false) => return tracing::debug!(key, "the keys of this name are in order"),
        Ok(true) => {
            let kid = own.key.standing().map(|standing| standing.kid).unwrap_or_default();
            tracing::info!(key, kid, "another key signs; the one before counts for a day");
            EXCHANGED
        }
        Err(why) => {
            tracing::error!(key, why, "the key cannot be exchanged: it signs on");
            FAILED
        }
    };
    shared.metrics.add_labelled(EXCHANGES, EXCHANGES_HELP, ("result", result), 1);
}
