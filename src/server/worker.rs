//! One worker: a thread with a runtime of its own, its own listening sockets and all its connections.
//!
//! A request lives and dies on the core that accepted it. A worker that panics loses its connections, is
//! counted and starts again on the same sockets, so that what waits in their queues is not lost.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::bare::{Bare, Bound, Listener};
use super::client_ip::is_trusted;
use super::connection::{self, http, refuse};
use super::refusal::Refusal;
use super::shared::{Full, Shared};
use super::{Handler, ListenerConfig, Peer};
use crate::clock::Clock;
use crate::clock::wheel::Wheel;
use crate::limits::Limits;

/// Wait after an accept that failed for want of something (`EMFILE`), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Wait before a worker that died starts again; it doubles each time, up to the longest.
const RESTART_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Refused connections that one worker still says good-bye to; more are closed at once.
const MAX_REFUSING: usize = 64;

const FULL: Refusal = Refusal::busy("too many connections");
pub(super) const CLIENT_FULL: Refusal = Refusal::busy("too many connections from one address");

/// The life of a server, as its workers follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Serving,
    /// Nothing new; what is there ends by itself.
    Draining,
    /// Everything ends now.
    Cut,
}

/// What a handler is made with, inside the thread that it will serve.
pub struct Seat {
    /// Number of the worker, from 0.
    pub index: usize,
    /// The worker's timeouts.
    pub wheel: Wheel,
    pub clock: Clock,
}

/// What the connections of a worker share.
pub(super) struct Worker {
    pub(super) wheel: Wheel,
    pub(super) limits: Arc<Limits>,
    pub(super) shared: Arc<Shared>,
    pub(super) http: http1::Builder,
    pub(super) stage: Cell<Stage>,
    /// The tasks that have to look at the stage when it changes.
    tasks: RefCell<HashMap<u64, Waker>>,
    next_task: Cell<u64>,
    refusing: Cell<usize>,
    /// The last task has ended.
    empty: Notify,
}

/// A task that is woken when the stage changes.
struct Enrolled {
    worker: Rc<Worker>,
    id: u64,
}

/// What a worker's thread needs.
pub(super) struct Plan {
    pub(super) index: usize,
    pub(super) limits: Arc<Limits>,
    pub(super) shared: Arc<Shared>,
    pub(super) clock_origin: Instant,
    pub(super) stage: watch::Receiver<Stage>,
    pub(super) sockets: Vec<(ListenerConfig, Bound)>,
}

/// The sockets of a worker; what it clones of them for one life is lost with that life.
type Sockets = Rc<RefCell<Vec<(Rc<ListenerConfig>, Bound)>>>;

/// Runs a worker until it is drained or cut, however often it dies before.
pub(super) fn run<H: Handler>(mut plan: Plan, make_handler: &dyn Fn(Seat) -> Rc<H>) {
    let sockets = std::mem::take(&mut plan.sockets);
    let sockets = sockets.into_iter().map(|(config, socket)| (Rc::new(config), socket)).collect();
    let sockets: Sockets = Rc::new(RefCell::new(sockets));
    let mut pause = RESTART_PAUSE;
    loop {
        plan.shared.worker_started();
        // Nothing of a life that panicked is used again but the sockets and the shared counts.
        let life = catch_unwind(AssertUnwindSafe(|| live(&plan, &sockets, make_handler)));
        let died = !matches!(life, Ok(Ok(())));
        plan.shared.worker_ended(died);
        if let Ok(Err(error)) = &life {
            tracing::error!(worker = plan.index, %error, "a worker could not start");
        }
        if !died || *plan.stage.borrow() != Stage::Serving {
            return;
        }
        tracing::error!(worker = plan.index, "a worker died and is started again");
        std::thread::sleep(pause); // a worker that dies at once must not spin
        pause = (pause * 2).min(LONGEST_RESTART_PAUSE);
    }
}

/// One life: ends with `Ok` when the server is drained or cut.
fn live<H: Handler>(plan: &Plan, sockets: &Sockets, make_handler: &dyn Fn(Seat) -> Rc<H>) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build_local(Default::default())?;
    let wheel = Wheel::new();
    let worker = Rc::new(Worker {
        wheel: wheel.clone(),
        limits: plan.limits.clone(),
        shared: plan.shared.clone(),
        http: http(&plan.limits),
        stage: Cell::new(Stage::Serving),
        tasks: RefCell::default(),
        next_task: Cell::new(0),
        refusing: Cell::new(0),
        empty: Notify::new(),
    });
    runtime.block_on(async {
        let mut own = JoinSet::new();
        own.spawn_local({
            let wheel = wheel.clone();
            async move { wheel.run().await }
        });
        let handler = make_handler(Seat { index: plan.index, wheel, clock: Clock::System(plan.clock_origin) });
        for (config, socket) in sockets.borrow().iter() {
            let listener = Listener::new(socket.try_clone()?)?;
            let accepting =
                Accepting { config: config.clone(), handler: handler.clone(), worker: worker.clone(), sockets: sockets.clone() };
            own.spawn_local(accepting.run(listener));
        }
        let mut stage = plan.stage.clone();
        loop {
            let now = *stage.borrow_and_update();
            if now == Stage::Cut {
                handler.cut();
            }
            worker.enter(now);
            if now != Stage::Serving && worker.tasks.borrow().is_empty() {
                return Ok(());
            }
            tokio::select! {
                // The server was dropped without a word: nobody can drain it any more.
                changed = stage.changed() => if changed.is_err() { return Ok(()) },
                () = worker.empty.notified() => {}
                Some(Err(ended)) = own.join_next() => if ended.is_panic() { std::panic::resume_unwind(ended.into_panic()) },
            }
        }
    })
}

impl Worker {
    fn enter(&self, stage: Stage) {
        if self.stage.replace(stage) != stage {
            for waker in self.tasks.borrow().values() {
                waker.wake_by_ref();
            }
        }
    }

    /// Counts a task in, and wakes it when the stage changes: to be called once, before it is first polled.
    fn enrol(self: &Rc<Worker>) -> Enrolled {
        let id = self.next_task.get();
        self.next_task.set(id + 1);
        self.tasks.borrow_mut().insert(id, Waker::noop().clone());
        Enrolled { worker: self.clone(), id }
    }
}

impl Enrolled {
    /// Keeps the waker of the task that awaits this.
    async fn listen(&self) {
        poll_fn(|cx| {
            self.worker.tasks.borrow_mut().insert(self.id, cx.waker().clone());
            Poll::Ready(())
        })
        .await;
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        let mut tasks = self.worker.tasks.borrow_mut();
        tasks.remove(&self.id);
        if tasks.is_empty() && self.worker.stage.get() != Stage::Serving {
            self.worker.empty.notify_one();
        }
    }
}

/// The accept loop of one listener.
struct Accepting<H> {
    config: Rc<ListenerConfig>,
    handler: Rc<H>,
    worker: Rc<Worker>,
    sockets: Sockets,
}

impl<H: Handler> Accepting<H> {
    async fn run(self, listener: Listener) {
        let enrolled = self.worker.enrol();
        enrolled.listen().await;
        let pause = self.worker.wheel.timer();
        let mut failing = false;
        loop {
            let accepted = poll_fn(|cx| match self.worker.stage.get() {
                Stage::Serving => listener.poll_accept(cx).map(Some),
                Stage::Draining | Stage::Cut => Poll::Ready(None),
            });
            match accepted.await {
                Some(Ok(bare)) => {
                    failing = false;
                    self.take(bare);
                }
                Some(Err(error)) if is_of_one_connection(&error) => {}
                Some(Err(error)) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(listener = %self.config.name, %error, "connections cannot be accepted");
                    }
                    pause.set(ACCEPT_PAUSE);
                    poll_fn(|cx| match self.worker.stage.get() {
                        Stage::Serving => pause.poll_expired(cx),
                        Stage::Draining | Stage::Cut => Poll::Ready(()),
                    })
                    .await;
                }
                None => return self.close(listener),
            }
        }
    }

    /// Stops listening without losing what the kernel has already accepted for this socket. A connection
    /// that completes between the last accept and the close is reset by the kernel: nothing here can help it.
    fn close(&self, listener: Listener) {
        self.sockets.borrow_mut().retain(|(config, _)| !Rc::ptr_eq(config, &self.config));
        // The runtime's own readiness may lag behind the queue; the socket itself knows.
        let Ok(listener) = listener.into_bound() else { return };
        loop {
            match listener.accept() {
                Ok(bare) => self.take(bare),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn take(&self, bare: Bare) {
        // Both fail only when the client has left already.
        let (Ok((address, local)), Ok(())) = (bare.ends(), bare.send_at_once()) else { return };
        let peer = Peer::new(&self.config, address, local);
        // A trusted proxy brings many clients over few addresses.
        let is_of_many =
            |ip| is_trusted(ip, &self.config.trusted_proxies) || is_trusted(ip, &self.config.announcing_proxies);
        let counted = Some(peer.client_ip).filter(|ip| !is_of_many(*ip));
        let enrolled = self.worker.enrol();
        let worker = self.worker.clone();
        match self.worker.shared.connect(counted) {
            Ok(permit) => {
                let (config, handler) = (self.config.clone(), self.handler.clone());
                tokio::task::spawn_local(async move {
                    let mut permit = permit;
                    enrolled.listen().await;
                    connection::serve(bare, config, peer, handler, worker, &mut permit).await;
                    drop((permit, enrolled));
                });
            }
            Err(full) => {
                let refusal = if full == Full::Process { FULL } else { CLIENT_FULL };
                self.handler.refused(&peer, refusal.clone());
                let refusing = worker.refusing.get();
                if refusing < MAX_REFUSING {
                    let over_tls = self.config.tls.is_some();
                    worker.refusing.set(refusing + 1);
                    tokio::task::spawn_local(async move {
                        enrolled.listen().await;
                        refuse(bare, over_tls, refusal, worker.clone()).await;
                        worker.refusing.set(worker.refusing.get() - 1);
                    });
                }
            }
        }
    }
}

/// Whether an accept failed because of the connection that was next, and not for want of something.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
