//! The process: from a [`Config`] to a gateway that serves, is told to stop, and drains.
//!
//! Workers serve on threads of their own; one services runtime beside them waits for signals and owns
//! whatever needs a general runtime.

mod certificates;
mod keys;
#[cfg(feature = "otlp")]
mod otlp;
mod own_keys;
mod passed;
mod services;
mod sessions;
mod upstreams;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

pub use self::services::Services;
use self::upstreams::{LookingAfter, look_after};
use crate::admin::Admin;
use crate::audit::metrics::Metrics;
use crate::audit::sink::Writer;
use crate::audit::spans::{Span, Tracing};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::snapshot::Snapshot;
use crate::engine::worker::Shared;
use crate::gateway::Gateway;
use crate::identity::hash_pool::HashPool;
use crate::identity::throttle::Throttle;
use crate::reload::{Asking, First, Reloader};
use crate::server::{Passed, Running, Server, ServerConfig, StartError};

/// Connections that the kernel holds for the admin interface until they are accepted.
const ADMIN_BACKLOG: i32 = 64;
/// Longest wait for workers that were told to cut what they serve.
const CUT_MAX: Duration = Duration::from_secs(2);
/// How often memory of what is over (rates, replays, pauses) is given back.
const SWEEP: Duration = Duration::from_secs(30);

/// Why the process did not start.
#[derive(Debug)]
pub enum Failed {
    Listen(StartError),
    Admin(SocketAddr, io::Error),
    Records(io::Error),
    System(io::Error),
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Listen(error) => error.fmt(out),
            Failed::Admin(address, error) => {
                write!(out, "the admin interface cannot listen on {address}: {error}; choose an address that is free")
            }
            Failed::Records(error) => {
                write!(out, "records cannot be written: {error}; mend `audit:` in gateway.yaml")
            }
            Failed::System(error) => write!(out, "the system gives no thread or signal: {error}"),
        }
    }
}

impl std::error::Error for Failed {}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Failed {
        Failed::Listen(error)
    }
}

/// A gateway at work.
pub struct Process {
    drain: Duration,
    running: Arc<Running>,
    admin: Arc<Admin>,
    asking: Asking,
    services: Services,
    writer: Writer,
    #[cfg(feature = "otlp")]
    exporting: Option<otlp::Exporting>,
    _upstreams: LookingAfter,
}

impl Process {
    /// Binds, starts the workers and serves `first`, which was compiled with `metrics`.
    pub fn start(services: Services, config: Config, metrics: Metrics, first: First) -> Result<Process, Failed> {
        let passed = passed::sockets(); // before anything else could read the environment
        let admin_failed = |error| Failed::Admin(config.admin, error);
        let admin_socket = bind_admin(config.admin).map_err(admin_failed)?;
        let writer = Writer::start(config.audit.clone()).map_err(Failed::Records)?;
        let runtime = services.runtime.handle().clone();
        let hashes = HashPool::for_this_machine().map_err(Failed::System)?;
        let throttle = Throttle::new(config.guessing);
        let snapshot = first.set.snapshot.clone();
        let served = snapshot.clone();
        let (tracing, spans) = tracing(&config).unzip();
        let shared = Shared::counting(config.limits.clone(), metrics, throttle, hashes, snapshot);
        let shared = Arc::new(shared.traced(tracing));
        let clock_origin = Instant::now();
        let running = Arc::new(serve(&config, passed, &shared, &writer, clock_origin)?);
        let status = Arc::new(first.status(Clock::system().wall()));
        let (drain, admin_failed) = (config.drain, |error| Failed::Admin(config.admin, error));
        let (reloader, asking) = Reloader::new(config.clone(), shared.clone(), status.clone(), first);
        let certificates = certificates::of(&config);
        let admin_address = admin_socket.local_addr().map_err(admin_failed)?;
        let admin_address = admin_address.as_socket().unwrap_or(config.admin);
        let admin = Arc::new(Admin {
            address: admin_address,
            shared: shared.clone(),
            running: running.clone(),
            status,
            asking: asking.clone(),
            records: writer.sink(),
            certificates: certificates.clone(),
            clock_origin,
            key_sets: config.key_sets.clone(),
            sessions: config.sessions.clone(),
            draining: AtomicBool::new(false),
        });
        // Only now does it take connections: whoever gets through to it finds the listeners open.
        admin_socket.listen(ADMIN_BACKLOG).map_err(admin_failed)?;
        {
            let _inside = runtime.enter();
            let socket = tokio::net::TcpListener::from_std(admin_socket.into()).map_err(admin_failed)?;
            runtime.spawn(admin.clone().serve(socket));
        }
        keys::start(config.key_sets.clone(), shared.clone(), clock_origin).map_err(Failed::System)?;
        #[cfg(feature = "otlp")]
        let exporting = config.otlp.clone().map(|otlp| otlp::start(otlp, spans, admin.clone()));
        #[cfg(feature = "otlp")]
        let exporting = exporting.transpose().map_err(Failed::System)?;
        #[cfg(not(feature = "otlp"))]
        drop(spans); // there are none: the configuration would have been refused
        sessions::start(config.sessions.clone(), shared.clone(), clock_origin).map_err(Failed::System)?;
        runtime.spawn(own_keys::exchange(shared.clone(), clock_origin));
        runtime.spawn(reloader.run());
        runtime.spawn(certificates::follow(certificates, shared.clone()));
        let upstreams = look_after(shared.clone(), clock_origin).map_err(Failed::System)?;
        runtime.spawn(sweep(shared, clock_origin));
        announce(&running, &admin, &served);
        Ok(Process {
            drain,
            running,
            admin,
            asking,
            services,
            writer,
            #[cfg(feature = "otlp")]
            exporting,
            _upstreams: upstreams,
        })
    }

    /// Serves until SIGTERM or SIGINT, then drains; a second signal ends at once. SIGHUP reloads. Returns the
    /// exit code.
    pub fn serve(self) -> u8 {
        let Services { runtime, mut signals } = self.services;
        runtime.block_on(signals.stop_or_reload(&self.asking));
        self.admin.draining.store(true, Ordering::Relaxed);
        let drain = self.drain;
        tracing::info!(?drain, "draining: no new connections, what has begun may end");
        let running = self.running.clone();
        let mut draining = runtime.spawn_blocking(move || running.drain(drain));
        let report = runtime.block_on(async {
            tokio::select! {
                report = &mut draining => return report.ok(),
                () = signals.stop() => {}
            }
            tracing::warn!("a second signal: requests in flight are cut");
            self.running.cut();
            // Their records are written, too.
            tokio::time::timeout(CUT_MAX, draining).await.ok()?.ok()
        });
        // Nothing that still runs there is worth waiting for.
        runtime.shutdown_background();
        match report {
            Some(report) => {
                self.writer.stop();
                #[cfg(feature = "otlp")]
                self.exporting.into_iter().for_each(otlp::Exporting::stop);
                tracing::info!(cut = report.cut, took = ?report.took, "drained");
            }
            None => tracing::error!("the workers have not ended: records of what they served may be missing"),
        }
        DRAINED
    }
}

/// Says in the log where it listens and what it serves.
fn announce(running: &Running, admin: &Admin, served: &Snapshot) {
    for (name, address) in running.addresses() {
        tracing::info!(listener = %name, %address, "listening");
    }
    tracing::info!(listener = "admin", address = %admin.address, "listening");
    tracing::info!(snapshot = %served.version, services = served.services.len(), "serving");
}

/// Takes the address and does not listen yet.
fn bind_admin(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait until the old connections' TIME_WAIT is over.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What is recorded of requests and where it comes out, where traces are sent anywhere.
fn tracing(config: &Config) -> Option<(Tracing, mpsc::Receiver<Vec<Span>>)> {
    let otlp = config.otlp.as_ref().filter(|otlp| otlp.traces)?;
    Some(Tracing::new(otlp.trust, otlp.share))
}

fn serve(
    config: &Config,
    passed: Vec<Passed>,
    shared: &Arc<Shared>,
    writer: &Writer,
    clock_origin: Instant,
) -> Result<Running, Failed> {
    passed::tell_unused(&passed, config);
    let server = ServerConfig {
        listeners: config.listeners.iter().map(|listener| listener.server.clone()).collect(),
        passed,
        workers: config.workers,
        limits: Arc::new(config.limits.clone()),
        clock_origin,
    };
    let (sink, shared) = (writer.sink(), shared.clone());
    Ok(Server::start(server, move |seat| Gateway::new(seat, shared.clone(), sink.clone()))?)
}

/// Exit code of a gateway that was told to stop.
pub const DRAINED: u8 = 0;
/// Exit code of one that could not start.
pub const FAILED: u8 = 1;

/// Gives back memory of what is over. It is only memory: every store judges by the time itself.
async fn sweep(shared: Arc<Shared>, clock_origin: Instant) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        let clock = Clock::System(clock_origin);
        shared.rates.drop_idle(clock.mono_ns());
        shared.throttle.drop_idle(clock.mono_ms());
        shared.answers.drop_old(clock.mono_ms());
    }
}
