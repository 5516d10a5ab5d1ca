//! What a worker owns: its view of the snapshot, time, randomness, upstream connections and records.
//!
//! A worker is one thread with one runtime; a request lives and dies on it. What all workers share
//! stands in [`Shared`] and is sharded or atomic.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use data_encoding::HEXLOWER;
use tokio::sync::Notify;

use crate::audit::metrics::Metrics;
use crate::audit::record::Record;
use crate::audit::sink::{BATCH_BYTES, Sink};
use crate::audit::spans::Tracing;
use crate::audit::trace_context::SpanId;
use crate::broker::given::Played;
use crate::clock::Clock;
use crate::clock::wheel::Wheel;
use crate::engine::random::{Random, scramble};
use crate::engine::snapshot::Snapshot;
use crate::engine::value::Value;
use crate::engine::watch::Watchers;
use crate::identity::hash_pool::HashPool;
use crate::identity::throttle::Throttle;
use crate::limits::Limits;
use crate::store::answers::Answers;
use crate::store::counters::Counters;
use crate::store::seen::Seen;
use crate::store::slots::Slots;
use crate::upstream::{Answer, Call, Pool, SendError, Watching};

/// Variable lists kept for the next requests.
const SPARES_MAX: usize = 256;

/// What all workers of a process share.
pub struct Shared {
    pub limits: Limits,
    pub metrics: Metrics,
    pub rates: Counters,
    pub seen: Seen,
    pub slots: Slots,
    pub answers: Answers,
    /// Stored tokens of a policy test; empty in life.
    pub played: Played,
    pub throttle: Throttle,
    pub hashes: HashPool,
    pub watchers: Arc<Watchers>,
    /// Where requests are traced, what of them is recorded.
    pub tracing: Option<Tracing>,
    current: ArcSwap<Snapshot>,
    generation: AtomicU64,
    swapped: Notify,
}

impl Shared {
    /// The state of a process that serves `first`.
    pub fn new(limits: Limits, workers: usize, throttle: Throttle, hashes: HashPool, first: Arc<Snapshot>) -> Shared {
        Shared::counting(limits, Metrics::new(workers), throttle, hashes, first)
    }

    /// The same, with the numbers that `first` was compiled with.
    pub fn counting(
        limits: Limits,
        metrics: Metrics,
        throttle: Throttle,
        hashes: HashPool,
        first: Arc<Snapshot>,
    ) -> Shared {
        Shared {
            limits,
            watchers: Arc::new(Watchers::new(metrics.workers())),
            metrics,
            rates: Counters::default(),
            seen: Seen::default(),
            slots: Slots::default(),
            answers: Answers::default(),
            played: Played::default(),
            throttle,
            hashes,
            tracing: None,
            current: ArcSwap::new(first),
            generation: AtomicU64::new(0),
            swapped: Notify::new(),
        }
    }

    /// The same, and requests are traced.
    pub fn traced(self, tracing: Option<Tracing>) -> Shared {
        Shared { tracing, ..self }
    }

    /// Swaps the snapshot: requests that arrive from now on see it, those in flight keep theirs.
    pub fn swap(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot);
        self.generation.fetch_add(1, Ordering::Release);
        self.swapped.notify_one();
    }

    /// Returns when another snapshot serves than at the last return. For one who waits.
    pub async fn swapped(&self) {
        self.swapped.notified().await;
    }

    /// What serves now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

/// How a worker sends upstream.
pub enum Transport {
    Pool(Box<Pool>),
    /// Answers given by a policy test; no socket is opened.
    Given(Rc<dyn GivenTransport>),
}

/// Stand-ins for upstreams.
pub trait GivenTransport {
    fn send<'a>(&'a self, call: Call) -> Pin<Box<dyn Future<Output = Result<Answer, SendError>> + 'a>>;
}

/// Where a worker's records go.
pub enum Records {
    Sink(Sink),
    /// Kept for a policy test to look at.
    Kept(RefCell<Vec<Record>>),
}

/// A worker's own hold on a snapshot: requests count their references here, on their own core, and not on
/// the counter that all workers share.
pub struct Live(Arc<Snapshot>);

impl std::ops::Deref for Live {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// One worker.
pub struct Worker {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub clock: Clock,
    pub wheel: Wheel,
    pub random: Random,
    pub transport: Transport,
    pub records: Records,
    /// The process ends, and what is still under way is dropped: no client has left it.
    pub is_cut: Cell<bool>,
    live: RefCell<Rc<Live>>,
    generation: Cell<u64>,
    batch: RefCell<String>,
    spares: RefCell<Vec<Vec<Value>>>,
    id_seed: u64,
    id_count: Cell<u64>,
}

impl Worker {
    /// A worker that has served nothing yet.
    pub fn new(
        index: usize,
        shared: Arc<Shared>,
        clock: Clock,
        wheel: Wheel,
        random: Random,
        transport: Transport,
        records: Records,
    ) -> Worker {
        let generation = shared.generation.load(Ordering::Acquire);
        let live = RefCell::new(Rc::new(Live(shared.current())));
        let id_seed = random.number();
        Worker {
            index,
            shared,
            clock,
            wheel,
            random,
            transport,
            records,
            is_cut: Cell::new(false),
            live,
            generation: Cell::new(generation),
            batch: RefCell::default(),
            spares: RefCell::default(),
            id_seed,
            id_count: Cell::new(0),
        }
    }

    /// The snapshot for a request that arrives now: one atomic read while nothing changes, and no counter
    /// that workers contend for.
    pub fn snapshot(&self) -> Rc<Live> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation.replace(generation) {
            *self.live.borrow_mut() = Rc::new(Live(self.shared.current()));
        }
        self.live.borrow().clone()
    }

    /// An id no other request of this process has: the worker's random half and a scrambled count.
    pub fn request_id(&self) -> String {
        let count = self.id_count.get().wrapping_add(1);
        self.id_count.set(count);
        HEXLOWER.encode(&(u128::from(self.id_seed) << 64 | u128::from(scramble(self.id_seed ^ count))).to_be_bytes())
    }

    /// Room for the variables of a request.
    pub fn vars(&self, slots: usize) -> Vec<Value> {
        let mut vars = self.spares.borrow_mut().pop().unwrap_or_default();
        vars.resize(slots, Value::Absent);
        vars
    }

    /// Takes the room back.
    pub fn spare(&self, mut vars: Vec<Value>) {
        vars.clear();
        let mut spares = self.spares.borrow_mut();
        if spares.len() < SPARES_MAX {
            spares.push(vars);
        }
    }

    /// Keeps a record; lines are handed over in batches.
    pub fn record(&self, record: Record) {
        match &self.records {
            Records::Kept(kept) => kept.borrow_mut().push(record),
            Records::Sink(_) => {
                let mut batch = self.batch.borrow_mut();
                record.write_line(&mut batch);
                let full = batch.len() >= BATCH_BYTES;
                drop(batch);
                if full {
                    self.flush_records();
                }
            }
        }
    }

    /// Hands collected records to the writer.
    pub fn flush_records(&self) {
        if let Records::Sink(sink) = &self.records {
            let mut batch = self.batch.borrow_mut();
            if !batch.is_empty() {
                sink.write(std::mem::replace(&mut batch, String::with_capacity(BATCH_BYTES + 4096)));
            }
        }
    }

    /// The name of a part of a trace, which no other of this process has.
    pub fn span_id(&self) -> SpanId {
        let count = self.id_count.get().wrapping_add(1);
        self.id_count.set(count);
        SpanId::of(scramble(!self.id_seed ^ count))
    }

    /// Sends a call, with somebody who hears of each attempt; those of a policy test are none.
    pub async fn send_watched(&self, call: Box<Call>, watching: Option<&dyn Watching>) -> Result<Answer, SendError> {
        match &self.transport {
            Transport::Pool(pool) => pool.send_watched(call, watching).await,
            Transport::Given(given) => given.send(*call).await,
        }
    }
}

impl Drop for Worker {
    /// What was recorded last is not lost when a worker is drained, cut or dies.
    fn drop(&mut self) {
        self.flush_records();
    }
}
