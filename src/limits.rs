//! Every bound on what a client or an upstream may make the gateway hold, by the name operators use.
//!
//! `gateway.yaml: limits` overrides them one by one; a policy can only tighten them (`limit_size`).
//! The reasons stand beside the defaults; what happens past a bound is a fault code, never a surprise.

use std::time::Duration;

/// Bounds of one gateway process. Sizes are bytes, times are durations.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Request line and header fields together (`431 request.head_too_large`).
    pub head: usize,
    /// Request target (`414 request.url_too_long`).
    pub url: usize,
    /// Number of header fields (`431 request.too_many_headers`).
    pub headers: usize,
    /// One header field, name and value (`431 request.header_too_large`).
    pub header: usize,
    /// A body that a step has to see whole (`413 body.too_large`).
    pub body_buffered: u64,
    /// A body that streams through (`413 body.too_large`).
    pub body_streamed: u64,
    /// Time for a client to send one request head (`408`, connection closed).
    pub head_time: Duration,
    /// Longest silence inside a body (`408 body.timeout`).
    pub body_idle: Duration,
    /// Slowest body, bytes per second, judged after [`BODY_RATE_GRACE`] (`408 body.timeout`).
    pub body_rate: u64,
    /// One request from its head to the head of its answer, the pipeline and `on_fault` together, which has
    /// a second at least (`504 deadline.exceeded`). Writing the answer is not in it: a client that reads
    /// slowly is bounded by `body_idle` for each write.
    pub request_time: Duration,
    /// Idle time of a client connection between two requests.
    pub keep_alive: Duration,
    /// Requests on one client connection before it is closed.
    pub requests_per_connection: u64,
    /// Client connections of the whole process.
    pub connections: usize,
    /// Client connections from one address.
    pub connections_per_client: usize,
    /// Requests in flight in the whole process (above: `503 gateway.busy`).
    pub in_flight: usize,
    /// Silence of a connection that was upgraded, before it is closed.
    pub tunnel_idle: Duration,
    /// Requests that one HTTP/2 connection may have open at a time (above: the stream is refused with REFUSED_STREAM).
    pub h2_streams: usize,
    /// Bytes of one HTTP/2 request that may be on their way before somebody has read them.
    pub h2_window: usize,
    /// The same for all requests of a connection together.
    pub h2_connection_window: usize,
    /// Nesting of a JSON text (`json.too_deep`).
    pub json_depth: usize,
    /// Operations of one run of a script or interpreted expression (`500 script.limit`).
    pub script_operations: u64,
    /// Time of one run of an interpreted expression, and of a script that sets no `time_limit`.
    pub script_time: Duration,
}

/// A body is judged by its rate only after this time, so that a slow start is forgiven.
pub const BODY_RATE_GRACE: Duration = Duration::from_secs(10);

/// Operations of one run of a script.
pub const SCRIPT_OPERATIONS: u64 = 500_000;
/// Time of one run of a script: it stands on a worker, and everyone else there waits for it.
pub const SCRIPT_TIME: Duration = Duration::from_millis(5);
/// Longest time of one run of a script that has a thread of its own meanwhile.
pub const SCRIPT_TIME_MAX: Duration = Duration::from_secs(1);

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head: 32 * 1024,
            url: 8 * 1024,
            headers: 100,
            header: 8 * 1024,
            body_buffered: 1024 * 1024,
            body_streamed: 10 * 1024 * 1024,
            head_time: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            body_rate: 500,
            request_time: Duration::from_secs(300),
            keep_alive: Duration::from_secs(60),
            requests_per_connection: 1000,
            connections: 10_000,
            connections_per_client: 256,
            in_flight: 4096,
            tunnel_idle: Duration::from_secs(300),
            h2_streams: 100,
            h2_window: 64 * 1024,
            h2_connection_window: 1024 * 1024,
            json_depth: 64,
            script_operations: SCRIPT_OPERATIONS,
            script_time: SCRIPT_TIME,
        }
    }
}
