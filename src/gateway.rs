//! What the server's workers answer with: each request goes through the engine, each refusal is recorded.
//!
//! It joins the two rooms and decides nothing itself.

use std::future::Future;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};

use crate::audit::metrics::{Outcome, ServiceMetrics};
use crate::audit::record::Record;
use crate::audit::sink::Sink;
use crate::body::{Arriving, Body, BodyLimits, Inbound, Outgoing, Trailers};
use crate::engine::exchange::Client;
use crate::engine::random::Random;
use crate::engine::serve::serve;
use crate::engine::trace::line;
use crate::engine::worker::{Records, Shared, Transport, Worker};
use crate::fault::Kind;
use crate::server::{Handler, Peer, Refusal, Seat, check_head, check_server_name};
use crate::upstream::Pool;

/// How long a record waits for others before they are handed to the writer together.
pub const FLUSH_RECORDS: Duration = Duration::from_millis(100);

/// The handler of one worker.
pub struct Gateway {
    worker: Rc<Worker>,
    limits: BodyLimits,
    unmatched: Arc<ServiceMetrics>,
}

impl Gateway {
    /// A handler for the worker that sits there; to be called inside the worker's runtime.
    pub fn new(seat: Seat, shared: Arc<Shared>, records: Sink) -> Rc<Gateway> {
        let limits = BodyLimits {
            bytes: shared.limits.body_streamed,
            idle: shared.limits.body_idle,
            rate: shared.limits.body_rate,
        };
        let unmatched = shared.metrics.service(&"none".into());
        let pool = Pool::new(seat.wheel.clone(), seat.clock.clone());
        let (transport, records) = (Transport::Pool(Box::new(pool)), Records::Sink(records));
        let worker =
            Rc::new(Worker::new(seat.index, shared, seat.clock, seat.wheel, Random::System, transport, records));
        tokio::task::spawn_local(flush_records(Rc::downgrade(&worker)));
        Rc::new(Gateway { worker, limits, unmatched })
    }

    fn client(peer: &Peer) -> Client {
        Client {
            listener: peer.listener.clone(),
            scheme: peer.scheme,
            ip: peer.client_ip,
            peer_ip: peer.address.ip().to_canonical(),
            port: peer.local.port(),
            is_proxy: peer.is_proxy,
            tls: peer.tls.clone(),
        }
    }
}

/// Hands over what was recorded, for as long as the worker lives.
async fn flush_records(worker: Weak<Worker>) {
    let Some(timer) = worker.upgrade().map(|worker| worker.wheel.timer()) else { return };
    while let Some(worker) = worker.upgrade() {
        worker.flush_records();
        worker.snapshot(); // an idle worker too lets go of a snapshot that no longer serves
        drop(worker);
        timer.set(FLUSH_RECORDS);
        timer.expired().await;
    }
}

impl Handler for Gateway {
    fn handle(self: Rc<Self>, peer: Rc<Peer>, request: Request<Arriving>) -> impl Future<Output = Response<Outgoing>> {
        let (parts, incoming) = request.into_parts();
        let body = match incoming.is_end_stream() {
            true => Body::Empty,
            false => {
                let inbound = Inbound::new(incoming, self.limits, &self.worker.wheel);
                Body::Stream(Box::new(inbound.with_trailers(Trailers::OfRequest)))
            }
        };
        let checked = check_head(&parts, &self.worker.shared.limits).and_then(|()| check_server_name(&parts, &peer));
        serve(self.worker.clone(), Gateway::client(&peer), parts, body, checked.err())
    }

    fn cut(&self) {
        self.worker.is_cut.set(true);
    }

    /// There is no request to speak of: what is known of it is recorded and counted for no service.
    fn refused(&self, peer: &Peer, refusal: Refusal) {
        let status = refusal.status.map_or(0, |status| status.as_u16());
        let word = match status {
            0 => "gone",
            500.. => "broken",
            _ => "denied",
        };
        let (worker, snapshot) = (&self.worker, self.worker.snapshot());
        self.unmatched.count(worker.index, Outcome { status, word, bytes_in: 0, bytes_out: 0, duration_us: 0 });
        worker.shared.metrics.fault(worker.index, &"none".into(), refusal.code);
        let record = Record {
            time: Some(worker.clock.wall()),
            request_id: worker.request_id(),
            listener: Some(peer.listener.clone()),
            snapshot: Some(snapshot.version.clone()),
            client_ip: Some(peer.client_ip),
            status,
            outcome: word,
            fault: Some(refusal.code.to_owned()),
            detail: Some(refusal.detail.into_owned()),
            ..Record::default()
        };
        let kind = match word {
            "broken" => Some(Kind::Broken),
            "denied" => Some(Kind::Denied),
            _ => None,
        };
        if let Some(kind) = kind {
            let failed = &worker.shared.watchers.failed;
            failed.keep(worker.index, kind, worker.clock.mono_ns(), || line::refused(&record));
        }
        worker.record(record);
    }
}
