//! `pool:` of an upstream: its connections. No value of it turns keep-alive off.

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::source::{Diagnostic, Diagnostics, DurationValue, Span, Spanned};
use crate::upstream::{Http2, PoolLimits};

/// What `idle` may be: below it connections are opened for almost every call, above it most upstreams have closed them.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// What `max_idle` may be.
const MAX_IDLE: RangeInclusive<usize> = 1..=4096;
/// What `max` may be; 0 is no bound.
const MAX: RangeInclusive<usize> = 0..=65_535;

/// Connections to a target, by each worker. They are always kept alive.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PoolDoc {
    /// How long an unused connection is kept, from 1s to 1h: `30s`.
    idle: Option<DurationValue>,
    /// Unused connections that are kept, from 1 to 4096: 512.
    max_idle: Option<Spanned<usize>>,
    /// Connections at all, 0 for no bound; calls above it wait, within their `connect`, then they are 503 `route.busy`.
    max: Option<Spanned<usize>>,
    /// Whether HTTP/2 is spoken.
    http2: Http2Word,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum Http2Word {
    /// To `https://` targets that want it.
    #[default]
    Auto,
    /// To `http://` targets too, without asking.
    Always,
    /// HTTP/1.1 is spoken.
    Never,
}

impl PoolDoc {
    /// The bounds; those that would close each connection after its call are refused.
    pub(super) fn limits(&self, diags: &mut Diagnostics) -> Option<PoolLimits> {
        let mut refuse = |span: Span, message: &str| {
            let help = "write `pool: { idle: 60s, max_idle: 64, max: 100 }`, or leave it out";
            diags.push(Diagnostic::error("policy.bad_value", span, message).with_help(help));
            None
        };
        if let Some(idle) = self.idle.filter(|idle| !IDLE.contains(&idle.duration)) {
            return refuse(idle.span, "`idle` is from 1s to 1h: connections are always kept alive");
        }
        if let Some(most) = self.max_idle.filter(|most| !MAX_IDLE.contains(&most.value)) {
            return refuse(most.span, "`max_idle` is from 1 to 4096: connections are always kept alive");
        }
        if let Some(max) = self.max.filter(|max| !MAX.contains(&max.value)) {
            return refuse(max.span, "`max` is at most 65535, or 0 for no bound");
        }
        let usual = PoolLimits::default();
        Some(PoolLimits {
            idle: self.idle.map_or(usual.idle, |idle| idle.duration),
            max_idle: self.max_idle.map_or(usual.max_idle, |most| most.value),
            max: self.max.map_or(usual.max, |max| max.value),
        })
    }

    pub(super) fn http2(&self) -> Http2 {
        match self.http2 {
            Http2Word::Auto => Http2::Auto,
            Http2Word::Always => Http2::Always,
            Http2Word::Never => Http2::Never,
        }
    }
}
