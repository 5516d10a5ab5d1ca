//! The TLS handshake of one connection: bounded by the time for the first head, of which it is a part.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{Wait, Watch, linger};
use super::refusal::Refusal;
use super::socket::Noted;
use super::stream::ConnState;
use super::worker::{Stage, Worker};
use crate::tls::{Listening, Session};

const TOO_SLOW: Refusal = Refusal::silent("request.tls_timeout", "the TLS handshake was not complete in time");

/// Shakes hands, or says why there is no connection; nothing, where the client left without a word.
pub(super) async fn shake_hands(
    bare: Noted,
    state: &Rc<ConnState>,
    tls: &Listening,
    watch: &mut Watch,
    worker: &Worker,
) -> Result<(TlsStream<Noted>, Session), Option<Refusal>> {
    let mut accept = TlsAcceptor::from(tls.config()).accept(bare).into_fallible();
    let ended = poll_fn(|cx| {
        let stage = worker.stage.get();
        if stage == Stage::Cut {
            return Poll::Ready(None);
        }
        if let Poll::Ready(ended) = Pin::new(&mut accept).poll(cx) {
            return Poll::Ready(Some(ended));
        }
        match watch.is_over(Wait::First, stage, &worker.limits, cx) {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    })
    .await;
    match ended {
        Some(Ok(stream)) => match Session::of(stream.get_ref().1) {
            Ok(session) => Ok((stream, session)),
            Err(why) => Err(Some(failed(why))),
        },
        // A probe that only opens the connection is no failed handshake.
        Some(Err(_)) if !state.heard.get() => Err(None),
        Some(Err((error, bare))) => {
            // The alert that says why is in the socket: closing it now could lose it.
            linger(bare, watch.timer(), worker).await;
            Err(Some(failed(error.to_string())))
        }
        None if worker.stage.get() == Stage::Serving => Err(Some(TOO_SLOW)),
        None => Err(None),
    }
}

fn failed(why: String) -> Refusal {
    Refusal { code: "request.tls_handshake", status: None, detail: why.into() }
}
