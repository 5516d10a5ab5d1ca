//! Opens one connection to an origin: lookup, addresses in turn, TLS, all within the connect timeout.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::SendError;
use super::address::Addresses;
use super::origin::{Host, Http2, Origin};
use crate::clock::wheel::{Timer, Wheel};
use crate::tls::Wire;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Waits for `future`, but not past the timer.
pub(super) async fn within<F: Future>(timer: &Timer, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.poll_expired(cx).map(|()| None),
    })
    .await
}

/// Connects before `deadline`, which was set to `time` from now.
pub(super) async fn connect(
    wheel: &Wheel,
    origin: &Origin,
    allowed: &Addresses,
    deadline: &Timer,
    time: Duration,
) -> Result<TcpStream, SendError> {
    let addresses = match within(deadline, resolve(origin)).await {
        None => return Err(SendError::TimeoutConnect),
        Some(Err(error)) => return Err(SendError::Dns(format!("looking up {}: {error}", origin.host))),
        Some(Ok(addresses)) if addresses.is_empty() => {
            return Err(SendError::Dns(format!("{} has no address", origin.host)));
        }
        Some(Ok(addresses)) => addresses,
    };
    // One silent address must not use up the time of the others.
    let share = time / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut failure = SendError::TimeoutConnect;
    for address in &addresses {
        if !allowed.allow(address.ip()) {
            failure = SendError::AddressRefused(address.ip());
            continue;
        }
        let turn = wheel.timer();
        turn.set(share);
        match within(deadline, within(&turn, TcpStream::connect(address))).await {
            None => return Err(SendError::TimeoutConnect),
            Some(None) => failure = SendError::TimeoutConnect,
            Some(Some(Err(error))) => failure = SendError::Connect(format!("connecting to {address}: {error}")),
            Some(Some(Ok(stream))) => {
                let set = stream.set_nodelay(true);
                return set.map(|()| stream).map_err(|error| SendError::Connect(format!("TCP_NODELAY: {error}")));
            }
        }
    }
    Err(failure)
}

/// Shakes hands where the origin is spoken to over TLS, before `deadline`. The certificate is always verified.
pub(super) async fn secure(origin: &Origin, stream: TcpStream, deadline: &Timer) -> Result<Wire<TcpStream>, SendError> {
    let Some(tls) = &origin.tls else { return Ok(Wire::Clear(stream)) };
    let failed = |why: &dyn std::fmt::Display| SendError::Tls(format!("{origin}: {why}"));
    let name = tls.server_name(&origin.host.to_string()).map_err(|why| failed(&why))?;
    match within(deadline, TlsConnector::from(tls.config(origin.http2.offer())).connect(name, stream)).await {
        None => Err(SendError::TimeoutConnect),
        Some(Err(error)) => Err(failed(&error)),
        Some(Ok(stream)) => Ok(Wire::Tls(Box::new(stream.into()))),
    }
}

/// Whether HTTP/2 is what is spoken over a connection that has just been made.
pub(super) fn speaks_http2(origin: &Origin, wire: &Wire<TcpStream>) -> Result<bool, SendError> {
    let is_agreed = match wire {
        Wire::Clear(_) => return Ok(origin.http2 == Http2::Always),
        Wire::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
    };
    match origin.http2 {
        Http2::Always if !is_agreed => Err(SendError::Tls(format!("{origin}: it does not speak HTTP/2"))),
        Http2::Never => Ok(false),
        Http2::Always | Http2::Auto => Ok(is_agreed),
    }
}

async fn resolve(origin: &Origin) -> io::Result<SmallVec<[SocketAddr; ADDRESSES_MAX]>> {
    match &origin.host {
        Host::Ip(address) => Ok(smallvec![SocketAddr::new(*address, origin.port)]),
        Host::Name(name) => {
            let found = tokio::net::lookup_host((&**name, origin.port)).await?;
            Ok(found.take(ADDRESSES_MAX).collect())
        }
    }
}
