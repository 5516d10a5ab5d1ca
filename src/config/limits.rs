//! `limits:` of gateway.yaml, each by the name it has in `src/limits.rs`.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::Deserialize;

use super::document::not_supported;
use crate::limits::Limits;
use crate::source::{Diagnostic, Diagnostics, DurationValue, Node, Size, Span, Spanned, units};

/// Most requests that a connection may have open.
const H2_STREAMS_MAX: u64 = 10_000;
/// What the window of one request may be, in bytes.
const H2_WINDOW: RangeInclusive<u64> = 1024..=16 * 1024 * 1024;
/// What the window of a connection may be: it begins with 64 KiB less one byte and can only grow (RFC 9113 §6.9.2).
const H2_CONNECTION_WINDOW: RangeInclusive<u64> = 64 * 1024..=1024 * 1024 * 1024;

/// Bounds; what is not written keeps its default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsDoc {
    /// Request line and header fields together.
    #[serde(default)]
    head: Option<Size>,
    /// Request target.
    #[serde(default)]
    url: Option<Size>,
    /// Number of header fields.
    #[serde(default)]
    headers: Option<Spanned<u64>>,
    /// One header field, name and value.
    #[serde(default)]
    header: Option<Size>,
    /// A body that a step has to see whole.
    #[serde(default)]
    body_buffered: Option<Size>,
    /// A body that streams through.
    #[serde(default)]
    body_streamed: Option<Size>,
    /// Time for a client to send one request head.
    #[serde(default)]
    head_time: Option<DurationValue>,
    /// Longest silence inside a body.
    #[serde(default)]
    body_idle: Option<DurationValue>,
    /// Slowest body, per second; `0B` for none.
    #[serde(default)]
    body_rate: Option<Size>,
    /// One request from its first byte to the last byte of its answer.
    #[serde(default)]
    request_time: Option<DurationValue>,
    /// Idle time of a client connection between two requests.
    #[serde(default)]
    keep_alive: Option<DurationValue>,
    /// Requests on one client connection before it is closed.
    #[serde(default)]
    requests_per_connection: Option<Spanned<u64>>,
    /// Client connections of the whole process.
    #[serde(default)]
    connections: Option<Spanned<u64>>,
    /// Client connections from one address.
    #[serde(default)]
    connections_per_client: Option<Spanned<u64>>,
    /// Requests in flight in the whole process.
    #[serde(default)]
    in_flight: Option<Spanned<u64>>,
    /// Nesting of a JSON text.
    #[serde(default)]
    json_depth: Option<Spanned<u64>>,
    /// Silence of a connection that was upgraded, before it is closed.
    #[serde(default)]
    tunnel_idle: Option<DurationValue>,
    /// Requests that one HTTP/2 connection may have open at a time, at most 10000; above, REFUSED_STREAM.
    #[serde(default)]
    h2_streams: Option<Spanned<u64>>,
    /// Bytes of one HTTP/2 request that may be on their way before they are read, from 1KiB to 16MiB.
    #[serde(default)]
    h2_window: Option<Size>,
    /// The same for all requests of a connection together, from 64KiB to 1GiB.
    #[serde(default)]
    h2_connection_window: Option<Size>,
    /// Comes with a later version; `decompress` has bounds of its own.
    #[serde(default)]
    inflate: Option<Node>,
    /// Comes with a later version; `decompress` has bounds of its own.
    #[serde(default)]
    inflate_ratio: Option<Node>,
    /// Operations of one script or interpreted expression.
    #[serde(default)]
    script_operations: Option<Spanned<u64>>,
    /// Time of one script or interpreted expression; a script may set a `time_limit` of its own.
    #[serde(default)]
    script_time: Option<DurationValue>,
}

impl LimitsDoc {
    /// The limits with what the file says; what makes no sense is reported.
    pub(super) fn over(self, defaults: Limits, diags: &mut Diagnostics) -> Limits {
        for (name, node) in [("limits.inflate", &self.inflate), ("limits.inflate_ratio", &self.inflate_ratio)] {
            if let Some(node) = node {
                not_supported(name, node.span(), diags);
            }
        }
        let mut take = Taking(diags);
        Limits {
            head: take.size(self.head, defaults.head),
            url: take.size(self.url, defaults.url),
            headers: take.count(self.headers, defaults.headers),
            header: take.size(self.header, defaults.header),
            body_buffered: take.bytes(self.body_buffered, defaults.body_buffered),
            body_streamed: take.bytes(self.body_streamed, defaults.body_streamed),
            head_time: take.time(self.head_time, defaults.head_time),
            body_idle: take.time(self.body_idle, defaults.body_idle),
            body_rate: self.body_rate.map_or(defaults.body_rate, |rate| rate.bytes),
            request_time: take.time(self.request_time, defaults.request_time),
            keep_alive: take.time(self.keep_alive, defaults.keep_alive),
            requests_per_connection: take.number(self.requests_per_connection, defaults.requests_per_connection),
            connections: take.count(self.connections, defaults.connections),
            connections_per_client: take.count(self.connections_per_client, defaults.connections_per_client),
            in_flight: take.count(self.in_flight, defaults.in_flight),
            tunnel_idle: take.time(self.tunnel_idle, defaults.tunnel_idle),
            h2_streams: take.streams(self.h2_streams, defaults.h2_streams),
            h2_window: take.window(self.h2_window, defaults.h2_window, H2_WINDOW),
            h2_connection_window: take.window(
                self.h2_connection_window,
                defaults.h2_connection_window,
                H2_CONNECTION_WINDOW,
            ),
            json_depth: take.count(self.json_depth, defaults.json_depth),
            script_operations: take.number(self.script_operations, defaults.script_operations),
            script_time: take.time(self.script_time, defaults.script_time),
        }
    }
}

/// Takes values out of a document; zero would let nothing through and is never meant.
struct Taking<'d>(&'d mut Diagnostics);

impl Taking<'_> {
    fn above_zero(&mut self, is_zero: bool, span: Span, example: &str) {
        if is_zero {
            let message = "a limit of zero lets nothing through";
            let help = format!("leave it out for the default `{example}`, or write what you can bear");
            self.0.push(Diagnostic::error("config.zero", span, message).with_help(help));
        }
    }

    fn bytes(&mut self, given: Option<Size>, default: u64) -> u64 {
        let Some(size) = given else { return default };
        self.above_zero(size.bytes == 0, size.span, &units::write_size(default));
        size.bytes
    }

    fn size(&mut self, given: Option<Size>, default: usize) -> usize {
        usize::try_from(self.bytes(given, default as u64)).unwrap_or(usize::MAX)
    }

    fn streams(&mut self, given: Option<Spanned<u64>>, default: usize) -> usize {
        if let Some(given) = given.filter(|given| given.value > H2_STREAMS_MAX) {
            let message = format!("one connection has at most {H2_STREAMS_MAX} requests open, not {}", given.value);
            let help = "each costs memory that one client could take: the default is 100";
            self.0.push(Diagnostic::error("config.out_of_range", given.span, message).with_help(help));
        }
        self.count(given, default)
    }

    fn window(&mut self, given: Option<Size>, default: usize, range: RangeInclusive<u64>) -> usize {
        let Some(size) = given.filter(|size| !range.contains(&size.bytes)) else { return self.size(given, default) };
        let (least, most) = (units::write_size(*range.start()), units::write_size(*range.end()));
        let message = format!("a window is from {least} to {most}, not {}", units::write_size(size.bytes));
        let usual = units::write_size(default as u64);
        let help = format!("less makes every byte a message of its own, more lets clients fill the memory: `{usual}`");
        self.0.push(Diagnostic::error("config.out_of_range", size.span, message).with_help(help));
        default
    }

    fn time(&mut self, given: Option<DurationValue>, default: std::time::Duration) -> std::time::Duration {
        let Some(time) = given else { return default };
        self.above_zero(time.duration.is_zero(), time.span, &units::write_duration(default));
        time.duration
    }

    fn number(&mut self, given: Option<Spanned<u64>>, default: u64) -> u64 {
        let Some(number) = given else { return default };
        self.above_zero(number.value == 0, number.span, &default.to_string());
        number.value
    }

    fn count(&mut self, given: Option<Spanned<u64>>, default: usize) -> usize {
        usize::try_from(self.number(given, default as u64)).unwrap_or(usize::MAX)
    }
}
