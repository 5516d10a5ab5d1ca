//! The admin interface: health, numbers, what serves, and a reload on demand.
//!
//! It listens on loopback only and asks for no credential, so it must keep out web pages that a browser on
//! this machine has open: the Host has to be a loopback name (DNS rebinding, CVE-2025-64443) and a foreign
//! Origin is refused (cross-site requests, CVE-2025-66414). It shows no secrets and takes no bodies.

mod api;
mod trace;
mod upstreams;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::trace::Page;
use crate::audit::metrics::family::Family;
use crate::audit::sink::Sink;
use crate::broker::sessions::Sessions;
use crate::clock::Clock;
use crate::engine::worker::Shared;
use crate::identity::key_sets::KeySets;
use crate::reload::{Asking, Status};
use crate::server::{Running, split_host};
use crate::tls::Listening;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Time for a client to send a request's head.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Wait after an accept that failed, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Port that a Host without one means.
const HTTP_PORT: u16 = 80;

/// What the admin interface looks at.
pub struct Admin {
    pub address: SocketAddr,
    pub shared: Arc<Shared>,
    pub running: Arc<Running>,
    pub status: Arc<Status>,
    pub asking: Asking,
    pub records: Sink,
    /// What the listeners with TLS present, by their names.
    pub certificates: Vec<(Arc<str>, Arc<Listening>)>,
    /// Keys that are fetched.
    pub key_sets: Arc<KeySets>,
    pub sessions: Arc<Sessions>,
    pub draining: AtomicBool,
    /// Where monotonic time begins.
    pub clock_origin: Instant,
}

/// What there is.
const PATHS: &str = "there are /healthz /readyz /metrics /api/snapshot /api/reload /api/trace /api/trace/failed\n";

type Answer = Response<Full<Bytes>>;

impl Admin {
    /// Serves connections for ever.
    pub async fn serve(self: Arc<Admin>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // A closed semaphore is never made here: the loop lives as long as the runtime.
        while let Ok(place) = places.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((tcp, _)) => {
                    let admin = self.clone();
                    tokio::spawn(async move {
                        admin.connection(tcp).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin interface cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Admin>, tcp: TcpStream) {
        let service = service_fn(|request| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.respond(request).await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
        // An error here is a client that left or sent something that is no HTTP: nothing to do about either.
        let _ = http.serve_connection(TokioIo::new(tcp), service).await;
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Page> {
        match admitted(&request, self.address) {
            Err(answer) => answer.map(Page::Whole),
            Ok(()) if request.uri().path() == "/api/trace" && request.method() == Method::GET => {
                trace::follow(&self.shared.watchers, request.uri().query().unwrap_or_default())
            }
            Ok(()) => self.answer(request).await.map(Page::Whole),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let (wanted, allow) = match path {
            "/api/reload" => (request.method() == Method::POST, "POST"),
            "/api/trace" => (false, "GET"), // `respond` has taken the GET
            "/healthz" | "/readyz" | "/metrics" | "/api/snapshot" | "/api/trace/failed" => {
                (matches!(*request.method(), Method::GET | Method::HEAD), "GET, HEAD")
            }
            _ => return text(StatusCode::NOT_FOUND, PATHS),
        };
        if !wanted {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "another method\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            return answer;
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.numbers(),
            "/api/trace/failed" => trace::failed(&self.shared.watchers),
            "/api/snapshot" => api::json(StatusCode::OK, &api::snapshot(&self.shared.current(), &self.status)),
            _ => self.reload().await,
        }
    }

    fn ready(&self) -> Answer {
        let draining = self.draining.load(Ordering::Relaxed);
        let (current, last) = (self.shared.current(), self.status.last());
        let refused = self.certificates.iter().filter_map(|(listener, tls)| Some((listener, tls.refused()?)));
        let refused: serde_json::Map<String, serde_json::Value> =
            refused.map(|(listener, problem)| (listener.to_string(), problem.to_string().into())).collect();
        let detail = serde_json::json!({
            "ready": !draining,
            "draining": draining,
            "snapshot": *current.version,
            // The old set serves on: a broken reload takes nobody out of service.
            "reload_failing": last.outcome.is_refused(),
            "serving_last_good": self.status.serves_kept(),
            // The same holds for certificates: what served before serves on.
            "certificates_refused": refused,
            // Targets that get no calls: as long as one is left, or the answer is 503 `route.no_target`.
            "upstreams": upstreams::counts(&current, self.now_ms()),
            "targets_out": upstreams::out(&current, self.now_ms()),
            // And for keys: those that were good serve on.
            "keys": api::key_sets(&self.key_sets.standings(), Clock::system().wall().as_second()),
            // Keys of our own: one that cannot be exchanged signs on.
            "own_keys": api::own_keys(&current),
            "sessions": api::sessions(&self.sessions.standings(Clock::system().wall().as_second())),
            "reload": api::reload(&current.version, &self.status),
            "workers": self.running.workers_alive(),
        });
        let status = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        api::json(status, &detail)
    }

    /// All numbers of the process, those that are looked up at this moment too.
    pub fn families(&self) -> Vec<Family> {
        let metrics = &self.shared.metrics;
        let gauge = |name, help, value| metrics.set(name, "gauge", help, value);
        gauge("gatewright_connections", "Open client connections.", self.running.connections() as u64);
        gauge(
            "gatewright_in_flight",
            "Requests whose answer is not complete.",
            self.running.shared().in_flight() as u64,
        );
        let tunnels = self.running.shared().tunnels() as u64;
        gauge("gatewright_tunnels", "Connections that have become tunnels after an upgrade.", tunnels);
        gauge("gatewright_workers", "Workers that serve.", self.running.workers_alive() as u64);
        let loaded_at = u64::try_from(self.status.loaded_at().as_second()).unwrap_or(0);
        gauge("gatewright_snapshot_loaded_seconds", "When what serves began to serve, Unix time.", loaded_at);
        let restarts = self.running.shared().worker_restarts();
        metrics.set("gatewright_worker_restarts_total", "counter", "Workers that died and started again.", restarts);
        let help = "Records that could not be written.";
        metrics.set("gatewright_records_lost_total", "counter", help, self.records.lost());
        if let Some(tracing) = &self.shared.tracing {
            let help = "Spans that were recorded and not taken by a collector.";
            metrics.set("gatewright_otlp_spans_dropped_total", "counter", help, tracing.dropped());
        }
        metrics.state("gatewright_build_info", "This program.", ("version", env!("CARGO_PKG_VERSION")));
        metrics.state("gatewright_snapshot_info", "What serves.", ("version", &self.shared.current().version));
        upstreams::count(&self.shared.current(), metrics, self.now_ms());
        metrics.families()
    }

    fn numbers(&self) -> Answer {
        let mut page = String::new();
        self.families().iter().for_each(|family| family.render(&mut page));
        let mut answer = text(StatusCode::OK, page);
        let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, format);
        answer
    }

    /// Monotonic milliseconds, as workers count them.
    fn now_ms(&self) -> u64 {
        Clock::System(self.clock_origin).mono_ms()
    }

    async fn reload(&self) -> Answer {
        match self.asking.reload().await {
            Some(report) if report.outcome.is_refused() => {
                api::json(StatusCode::UNPROCESSABLE_ENTITY, &report.to_json())
            }
            Some(report) => api::json(StatusCode::OK, &report.to_json()),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "too many reloads wait already\n"),
        }
    }
}

/// Keeps out what no program of this machine's operator sends.
fn admitted<B: hyper::body::Body>(request: &Request<B>, own: SocketAddr) -> Result<(), Box<Answer>> {
    let refuse = |status, why: &'static str| Err(Box::new(text(status, why)));
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let (host, further) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let Some(host) = host.filter(|host| further.is_none() && is_own(host, own)) else {
        return refuse(
            StatusCode::MISDIRECTED_REQUEST,
            "Host has to be localhost or a loopback address, with the port\n",
        );
    };
    if authority.is_some_and(|authority| !is_own(authority, own)) {
        return refuse(StatusCode::MISDIRECTED_REQUEST, "the request names another host\n");
    }
    let own_origin = format!("http://{host}");
    if headers.get_all(ORIGIN).iter().any(|origin| *origin != *own_origin) {
        return refuse(StatusCode::FORBIDDEN, "requests of other web sites are refused\n");
    }
    // What a form of a web page can send without asking first is never JSON.
    let is_json = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.starts_with("application/json"));
    if headers.get(CONTENT_TYPE).is_some_and(|value| !is_json(value)) {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "only application/json\n");
    }
    if !request.body().is_end_stream() {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "no body is taken here\n");
    }
    Ok(())
}

/// Whether a host is a name of the loopback, with the port of the admin interface.
fn is_own(host: &str, own: SocketAddr) -> bool {
    let Some((name, port)) = split_host(host) else { return false };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    port.unwrap_or(HTTP_PORT) == own.port() && (is_loopback || name.eq_ignore_ascii_case("localhost"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&'static str, &str)], uri: &str) -> u16 {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        admitted(&request, "127.0.0.1:9901".parse().unwrap()).err().map_or(200, |answer| answer.status().as_u16())
    }

    #[test]
    fn only_loopback_names_with_the_port_are_answered() {
        for host in ["localhost:9901", "LocalHost:9901", "127.0.0.1:9901", "127.9.9.9:9901", "[::1]:9901"] {
            assert_eq!(asked(&[("host", host)], "/healthz"), 200, "{host}");
        }
        for host in [
            "evil.test",
            "evil.test:9901",
            "localhost",
            "localhost:80",
            "10.0.0.1:9901",
            "localhost.evil.test:9901",
            "",
        ] {
            assert_eq!(asked(&[("host", host)], "/healthz"), 421, "{host}");
        }
        assert_eq!(asked(&[], "/healthz"), 421);
        assert_eq!(asked(&[("host", "localhost:9901"), ("host", "evil.test")], "/healthz"), 421);
        assert_eq!(asked(&[("host", "localhost:9901")], "http://evil.test/healthz"), 421);
    }

    #[test]
    fn requests_of_other_sites_are_refused() {
        let host = ("host", "localhost:9901");
        assert_eq!(asked(&[host, ("origin", "http://localhost:9901")], "/api/reload"), 200);
        for origin in ["http://evil.test", "null", "https://localhost:9901", "http://localhost:1"] {
            assert_eq!(asked(&[host, ("origin", origin)], "/api/reload"), 403, "{origin}");
        }
        assert_eq!(asked(&[host, ("content-type", "text/plain")], "/api/reload"), 415);
        assert_eq!(asked(&[host, ("content-type", "application/json")], "/api/reload"), 200);
    }
}
