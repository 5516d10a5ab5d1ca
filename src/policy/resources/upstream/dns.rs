//! `dns:` of an upstream: the name that stands for its targets.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::Compile;
use crate::source::{DurationValue, Literal, Span};
use crate::tls::Calling;
use crate::upstream::{Dns, Host, Http2, Origin};

/// What `refresh` may be.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const REFRESH_DEFAULT: Duration = Duration::from_secs(30);

/// A name of which every address is a target, spoken to over TLS where the upstream has `tls`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DnsDoc {
    /// Such as `orders.local`: what `Host` and the certificate are of, too.
    name: Literal,
    /// Port of all targets.
    port: u16,
    /// How often it is looked up, from 1s to 1h; 30s without it. When that fails the last addresses stay for 5 minutes.
    #[serde(default)]
    refresh: Option<DurationValue>,
}

impl DnsDoc {
    pub(super) fn dns(
        &self,
        span: Span,
        tls: Option<&Arc<Calling>>,
        http2: Http2,
        cx: &mut Compile<'_>,
    ) -> Option<Dns> {
        const HELP: &str = "write `dns: { name: orders.local, port: 9000, refresh: 30s }`";
        let name = cx.literal(&self.name)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let origin = match Origin::parse(&format!("{scheme}://{name}:{}", self.port)) {
            Ok(origin) if matches!(origin.host, Host::Name(_)) && !name.contains(':') => origin,
            Ok(_) => return cx.refuse("policy.bad_url", self.name.span(), format!("`{name}` is no name"), HELP),
            Err(why) => return cx.refuse("policy.bad_url", self.name.span(), why, HELP),
        };
        let refresh = self.refresh.as_ref().map_or(REFRESH_DEFAULT, |refresh| refresh.duration);
        if !REFRESH.contains(&refresh) {
            return cx.refuse("policy.bad_value", span, "`refresh` is from 1s to 1h", HELP);
        }
        let origin = match tls {
            Some(tls) => origin.over(tls.clone()),
            None => origin,
        };
        Some(Dns { origin: Arc::new(origin.speaking(http2)), refresh })
    }
}
