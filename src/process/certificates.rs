//! Looks at the certificates' files, and lets changed ones serve while traffic flows.
//!
//! Files are compared by their contents, at short intervals: that also works where the file system reports nothing,
//! and where a pair is renewed in two steps. A pair of which only one half is new is looked at once more before
//! anybody is told.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::metrics::Metrics;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::worker::Shared;
use crate::tls::{Listening, Look};

/// Time between two looks: a renewed certificate serves within two of them.
const EVERY: Duration = Duration::from_secs(1);

const SWAPS: &str = "gatewright_certificate_swaps_total";
const SWAPS_HELP: &str = "Changed certificates that were taken or refused.";
const REFUSED: &str = "gatewright_certificates_refused";
const REFUSED_HELP: &str = "Listeners whose certificates' files cannot serve as they are.";
const NOT_AFTER: &str = "gatewright_certificate_not_after_seconds";
const NOT_AFTER_HELP: &str = "When the first certificate that serves ends, Unix time.";

/// A listener with TLS, by its name.
pub(super) type Named = (Arc<str>, Arc<Listening>);

/// The listeners that have TLS.
pub(super) fn of(config: &Config) -> Vec<Named> {
    let listeners = config.listeners.iter().map(|listener| &listener.server);
    listeners.filter_map(|server| Some((server.name.clone(), server.tls.clone()?))).collect()
}

/// Looks for ever.
pub(super) async fn follow(listeners: Vec<Named>, shared: Arc<Shared>) {
    if listeners.is_empty() {
        return;
    }
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut doubted = vec![false; listeners.len()];
    let mut expired = vec![false; listeners.len()];
    loop {
        every.tick().await;
        for ((name, tls), doubted) in listeners.iter().zip(&mut doubted) {
            let looking = tls.clone();
            // A panic of the look is of that look alone.
            if let Ok(look) = tokio::task::spawn_blocking(move || looking.look()).await {
                tell(name, tls, look, doubted, &shared.metrics);
            }
        }
        let now_s = Clock::system().wall().as_second();
        for ((name, tls), expired) in listeners.iter().zip(&mut expired) {
            let is_over = tls.not_after() <= now_s;
            if is_over && !std::mem::replace(expired, is_over) {
                tracing::error!(
                    listener = &**name,
                    "a certificate that serves has expired: clients refuse it; put a renewed one in its place"
                );
            }
            *expired = is_over;
        }
        let refused = listeners.iter().filter(|(_, tls)| tls.refused().is_some()).count();
        shared.metrics.set(REFUSED, "gauge", REFUSED_HELP, refused as u64);
        let not_after = listeners.iter().map(|(_, tls)| tls.not_after()).min().unwrap_or_default();
        shared.metrics.set(NOT_AFTER, "gauge", NOT_AFTER_HELP, u64::try_from(not_after).unwrap_or_default());
    }
}

fn tell(listener: &str, tls: &Listening, look: Look, doubted: &mut bool, metrics: &Metrics) {
    match look {
        Look::Unchanged => *doubted = false,
        Look::Swapped => {
            *doubted = false;
            metrics.add_labelled(SWAPS, SWAPS_HELP, ("result", "swapped"), 1);
            tracing::info!(listener, "new certificates serve");
            for key in tls.open_keys() {
                tracing::warn!(listener, key = %key.display(), "everybody on this machine may read this key");
            }
        }
        Look::Refused(_) => *doubted = true,
        Look::StillRefused if std::mem::take(doubted) => {
            metrics.add_labelled(SWAPS, SWAPS_HELP, ("result", "refused"), 1);
            let why = tls.refused().map(|problem| problem.to_string()).unwrap_or_default();
            tracing::error!(listener, why, "changed certificates cannot serve: those from before serve on");
        }
        Look::StillRefused => {}
    }
}
