//! One request on its way to the handler and back: permits, the client's address, panics, the last answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::client_ip::client_ip;
use super::head::name_host;
use super::leftover::Leftover;
use super::refusal::Refusal;
use super::shared::RequestPermit;
use super::stream::ConnState;
use super::worker::Worker;
use super::{Handler, ListenerConfig, Peer};
use crate::body::{Arriving, BodyFault, Outgoing, Rest};

pub(super) const IN_FLIGHT: Refusal = Refusal::busy("too many requests in flight");
const PANICKED: Refusal =
    Refusal::new("gateway.panic", StatusCode::INTERNAL_SERVER_ERROR, "the handler of a request panicked");

/// What all requests of one connection have in common.
pub(super) struct Client<H> {
    pub(super) handler: Rc<H>,
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Rc<ListenerConfig>,
    pub(super) peer: Rc<Peer>,
    pub(super) state: Rc<ConnState>,
}

/// The body of an answer; while it lives the request is in flight.
pub(super) struct Sent {
    body: Outgoing,
    /// What is left of the request's body, where the connection goes on after the answer.
    rest: Option<Rest>,
    state: Rc<ConnState>,
    _permit: Option<RequestPermit>,
}

impl<H: Handler> Client<H> {
    /// Answers one request.
    pub(super) async fn answer(self: Rc<Self>, mut request: Request<Incoming>) -> Result<Response<Sent>, Infallible> {
        let taken = self.state.taken.get() + 1;
        self.state.taken.set(taken);
        name_host(&mut request);
        let peer = self.peer_of(&request);
        let Some(permit) = self.worker.shared.begin() else {
            self.handler.refused(&peer, IN_FLIGHT);
            return Ok(self.sent(IN_FLIGHT.response().map(Outgoing::new), None, None));
        };
        let (parts, incoming) = request.into_parts();
        let (arriving, rest) = Arriving::shared(incoming);
        let mut response = self.handle(peer, Request::from_parts(parts, arriving)).await;
        if let Some(tunnel) = response.body_mut().take_tunnel() {
            self.state.agreed.replace(Some(tunnel));
            return Ok(self.sent(response, None, Some(permit)));
        }
        let last = taken >= self.worker.limits.requests_per_connection || self.state.closing.get();
        // A body that is left unread ends the connection: say so before. An answer that is a success may well be sent
        // while its body is still being read, and what is left of that is thrown away; where it is chunked, its end
        // is not known.
        let unread = {
            let gate = self.state.gate.borrow();
            gate.is_in_chunks() || (!response.status().is_success() && gate.is_in_body())
        };
        if last || unread {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let rest = rest.filter(|_| !response.headers().contains_key(CONNECTION));
        Ok(self.sent(response, rest, Some(permit)))
    }

    pub(super) async fn handle(&self, peer: Rc<Peer>, request: Request<Arriving>) -> Response<Outgoing> {
        let (handler, seen_as) = (self.handler.clone(), peer.clone());
        // In a block of its own, so that a panic before the first wait is caught as well.
        let mut handling = std::pin::pin!(async { handler.handle(peer, request).await });
        let outcome = std::future::poll_fn(|cx| {
            // A handler that panicked is never polled again, and what it shared is behind cells that are whole.
            match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(response)) => Poll::Ready(Some(response)),
                Err(_) => Poll::Ready(None),
            }
        })
        .await;
        outcome.unwrap_or_else(|| {
            self.handler.refused(&seen_as, PANICKED);
            PANICKED.response().map(Outgoing::new)
        })
    }

    pub(super) fn peer_of<B>(&self, request: &Request<B>) -> Rc<Peer> {
        let trusted = &self.listener.trusted_proxies;
        if trusted.is_empty() {
            return self.peer.clone();
        }
        let ip: IpAddr = client_ip(request.headers(), self.peer.address.ip(), trusted);
        if ip == self.peer.client_ip { self.peer.clone() } else { Rc::new(self.peer.seen_as(ip)) }
    }

    fn sent(&self, response: Response<Outgoing>, rest: Option<Rest>, permit: Option<RequestPermit>) -> Response<Sent> {
        self.state.sending.set(true);
        response.map(|body| Sent { body, rest, state: self.state.clone(), _permit: permit })
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let frame = std::task::ready!(Pin::new(&mut self.get_mut().body).poll_frame(cx));
        // HTTP/1.1 would want trailers named in the head, and nobody knows them then.
        Poll::Ready(frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.state.sending.set(false);
        self.state.leftover.replace(self.rest.take().map(Leftover::new));
        self.state.answered.set(self.state.answered.get() + 1);
    }
}
