//! The room that clients enter: listeners, connections, HTTP/1.1 (RFC 9112), HTTP/2 (RFC 9113), and leaving in order.
//!
//! It accepts connections, in clear or over TLS, and hands each request to a [`Handler`]. It knows nothing of
//! policies. HTTP/2 is agreed on in the TLS handshake, or begun by a client that knows of it; the upgrade from
//! HTTP/1.1 to it is not done.
//!
//! One thread, one runtime and one set of listening sockets per worker; the kernel spreads TCP connections
//! over the sockets (`SO_REUSEPORT`). Unix sockets, and those that the process was started with, are shared. What hyper lets through is refused in two places: on the bytes by
//! `gate.rs` and `frames.rs`, on the parsed head by [`check_head`].

mod address;
mod bare;
mod client_ip;
mod connection;
mod exchange;
mod frames;
mod gate;
mod handshake;
mod head;
mod http2;
mod leftover;
mod proxy;
mod refusal;
mod shared;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod tunnel;
mod worker;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::{Request, Response};
use ipnet::IpNet;
use tokio::sync::watch;

pub use address::{Address, Passed};
pub use bare::Bound;
pub use client_ip::client_ip;
pub use head::{METHOD_MAX, check_head, check_server_name, split_host};
pub use refusal::{BUSY_RETRY_S, Refusal};
pub use shared::Shared;
pub use worker::Seat;

use crate::body::{Arriving, Outgoing};
use crate::limits::Limits;
use crate::tls::{Listening, Session};
use address::{BoundAll, SocketFile, bind_all};
use client_ip::is_trusted;
use worker::{Plan, Stage};

/// Where connections come in.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    pub name: Arc<str>,
    pub address: Address,
    /// Proxies whose word about the client counts.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Proxies that begin each connection with a PROXY header, which says for whom it is.
    pub announcing_proxies: Arc<[IpNet]>,
    /// Clients reach this listener over TLS that something in front of it ends.
    pub behind_tls_proxy: bool,
    /// Connections begin with a TLS handshake.
    pub tls: Option<Arc<Listening>>,
}

/// Who sent a request, and where it came in.
#[derive(Clone, Debug)]
pub struct Peer {
    pub listener: Arc<str>,
    /// The other end of the connection: 127.0.0.1 with port 0 on a Unix socket.
    pub address: SocketAddr,
    /// This end of the connection: the same.
    pub local: SocketAddr,
    /// The client, seen through trusted proxies; IPv4-mapped IPv6 as IPv4.
    pub client_ip: IpAddr,
    /// What the client spoke: `https` over TLS, and on a listener that is `behind_tls_proxy`.
    pub scheme: &'static str,
    /// The other end of the connection is a trusted proxy.
    pub is_proxy: bool,
    /// The TLS that the connection came over.
    pub tls: Option<Arc<Session>>,
}

impl Peer {
    fn new(config: &ListenerConfig, address: SocketAddr, local: SocketAddr) -> Peer {
        Peer {
            listener: config.name.clone(),
            address,
            local,
            client_ip: address.ip().to_canonical(),
            scheme: if config.behind_tls_proxy || config.tls.is_some() { "https" } else { "http" },
            is_proxy: is_trusted(address.ip().to_canonical(), &config.trusted_proxies),
            tls: None,
        }
    }

    fn seen_as(&self, client_ip: IpAddr) -> Peer {
        Peer { client_ip, ..self.clone() }
    }
}

/// What answers requests. Each worker has its own.
pub trait Handler: 'static {
    /// Answers one request. Dropped when the client leaves; a panic ends only this connection.
    ///
    /// [`check_head`] is the handler's to call, so that its fault is answered and recorded like any other.
    fn handle(self: Rc<Self>, peer: Rc<Peer>, request: Request<Arriving>) -> impl Future<Output = Response<Outgoing>>;

    /// What is dropped from now on was cut because a drain took too long: no client has left it.
    fn cut(&self) {}

    /// Notes what never became a request, or was answered without the handler.
    fn refused(&self, peer: &Peer, refusal: Refusal);
}

/// What a server is started with.
#[derive(Debug)]
pub struct ServerConfig {
    pub listeners: Vec<ListenerConfig>,
    /// Sockets that the process was started with.
    pub passed: Vec<Passed>,
    /// Threads that serve; at least one is started.
    pub workers: usize,
    pub limits: Arc<Limits>,
    /// Origin of monotonic time, shared with everything else in the process.
    pub clock_origin: Instant,
}

/// Why a server did not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address cannot be bound: taken, not of this machine, or not permitted.
    Bind { listener: Arc<str>, address: Address, error: io::Error },
    /// A listener waits for a socket that the process was not started with.
    NotPassed { listener: Arc<str>, name: Arc<str>, passed: Vec<Arc<str>> },
    /// No thread could be started.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { listener, address, error } => {
                write!(
                    out,
                    "listener \"{listener}\" cannot listen on {address}: {error}; choose an address that is free"
                )
            }
            StartError::NotPassed { listener, name, passed } => write!(
                out,
                "listener \"{listener}\" expects a socket called \"{name}\" from systemd, and was passed {}; \
                 start it by a .socket unit with `FileDescriptorName={name}`",
                if passed.is_empty() { "none".to_owned() } else { format!("only \"{}\"", passed.join("\", \"")) }
            ),
            StartError::Thread(error) => write!(out, "a worker thread cannot be started: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Bind { error, .. } | StartError::Thread(error) => Some(error),
            StartError::NotPassed { .. } => None,
        }
    }
}

/// Starts servers.
pub struct Server;

impl Server {
    /// Binds all listeners and starts the workers; `make_handler` is called inside each worker's thread,
    /// and again when a worker died and is started anew.
    pub fn start<H: Handler>(
        config: ServerConfig,
        make_handler: impl Fn(Seat) -> Rc<H> + Send + Sync + 'static,
    ) -> Result<Running, StartError> {
        let workers = config.workers.max(1);
        let BoundAll { sockets, addresses, files } = bind_all(&config.listeners, &config.passed, workers)?;
        let shared = Arc::new(Shared::new(&config.limits));
        let (stage, follow) = watch::channel(Stage::Serving);
        let (ended, ends) = mpsc::channel();
        let make_handler = Arc::new(make_handler);
        let mut threads = Vec::with_capacity(workers);
        for (index, sockets) in sockets.into_iter().enumerate() {
            let plan = Plan {
                index,
                limits: config.limits.clone(),
                shared: shared.clone(),
                clock_origin: config.clock_origin,
                stage: follow.clone(),
                sockets,
            };
            let (ended, make_handler) = (ended.clone(), make_handler.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                worker::run(plan, &*make_handler);
                // Nobody listens any more when the server was dropped.
                let _ = ended.send(());
            });
            threads.push(thread.map_err(StartError::Thread)?);
        }
        Ok(Running { addresses, shared, stage, workers: Mutex::new(Workers { threads, ends, files }) })
    }
}

/// A server at work. Dropping it cuts every connection.
pub struct Running {
    addresses: Vec<(Arc<str>, Address)>,
    shared: Arc<Shared>,
    stage: watch::Sender<Stage>,
    workers: Mutex<Workers>,
}

struct Workers {
    threads: Vec<JoinHandle<()>>,
    ends: mpsc::Receiver<()>,
    files: Vec<SocketFile>,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Requests that were cut because they outlasted the time given.
    pub cut: usize,
    pub took: Duration,
}

impl Running {
    /// The bound address of each listener, in the order of the configuration; one for each socket passed to it.
    pub fn addresses(&self) -> &[(Arc<str>, Address)] {
        &self.addresses
    }

    /// What the workers count together.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Open client connections.
    pub fn connections(&self) -> usize {
        self.shared.connections()
    }

    /// Workers that serve at this moment.
    pub fn workers_alive(&self) -> usize {
        self.shared.workers_alive()
    }

    /// Stops listening, lets what has begun come to its end for at most `timeout`, cuts the rest.
    ///
    /// Blocks the calling thread, which must not be one of a runtime. A second call finds nothing to do.
    pub fn drain(&self, timeout: Duration) -> DrainReport {
        let begun = Instant::now();
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        // First nobody finds the way any more, then what has found it is taken.
        workers.files.clear();
        // One that was told to cut meanwhile stays with that.
        self.stage.send_if_modified(|stage| {
            let serves = *stage == Stage::Serving;
            if serves {
                *stage = Stage::Draining;
            }
            serves
        });
        for _ in &workers.threads {
            let left = timeout.saturating_sub(begun.elapsed());
            if workers.ends.recv_timeout(left).is_err() {
                break;
            }
        }
        self.stage.send_replace(Stage::Cut);
        for thread in workers.threads.drain(..) {
            // A worker catches its panics; what is left of one that did not is nothing to wait for.
            let _ = thread.join();
        }
        DrainReport { cut: self.shared.cut(), took: begun.elapsed() }
    }

    /// Ends a drain at once: what has not come to its end is cut.
    pub fn cut(&self) {
        self.stage.send_replace(Stage::Cut);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stage.send_replace(Stage::Cut);
    }
}
