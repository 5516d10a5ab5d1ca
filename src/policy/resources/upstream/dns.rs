//! `dns:` of an upstream: the name that stands for its targets.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::Compile;
use crate::source::{DurationValue, Literal};
use crate::tls::Calling;
use crate::upstream::{Dns, Host, Http2, Origin};

/// What `refresh` may be.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const HELP: &str = "write `dns: { name: orders.local, port: 9000, refresh: 30s }`";
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
    pub(super) fn dns(&self, tls: Option<&Arc<Calling>>, http2: Http2, cx: &mut Compile<'_>) -> Option<Dns> {
        let origin = self.origin(tls.is_some(), cx);
        let refresh = self.refresh.as_ref().map_or(REFRESH_DEFAULT, |refresh| refresh.duration);
        if let Some(written) = self.refresh.filter(|_| !REFRESH.contains(&refresh)) {
            return cx.refuse("policy.bad_value", written.span, "`refresh` is from 1s to 1h", HELP);
        }
        let origin = match tls {
            Some(tls) => origin?.over(tls.clone()),
            None => origin?,
        };
        Some(Dns { origin: Arc::new(origin.speaking(http2)), refresh })
    }

    fn origin(&self, is_tls: bool, cx: &mut Compile<'_>) -> Option<Origin> {
        let name = cx.literal(&self.name)?;
        let scheme = if is_tls { "https" } else { "http" };
        match Origin::parse(&format!("{scheme}://{name}:{}", self.port)) {
            Ok(origin) if matches!(origin.host, Host::Name(_)) && !name.contains(':') => Some(origin),
            Ok(_) => cx.refuse("policy.bad_url", self.name.span(), format!("`{name}` is no name"), HELP),
            Err(why) => cx.refuse("policy.bad_url", self.name.span(), why, HELP),
        }
    }
}
