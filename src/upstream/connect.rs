//! Opens one connection to an origin: lookup, addresses in turn, TLS, all within the connect timeout.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::SendError;
use super::address::Addresses;
use super::dial::{dial, order};
use super::origin::{Host, Http2, Origin};
use super::resolve::{Found, Names};
use crate::clock::wheel::{Timer, Wheel};
use crate::tls::Wire;

/// Waits for `future`, but not past the timer.
pub(super) async fn within<F: Future>(timer: &Timer, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.poll_expired(cx).map(|()| None),
    })
    .await
}

/// Connects before `deadline`.
pub(super) async fn connect(
    wheel: &Wheel,
    names: &Names,
    origin: &Origin,
    allowed: &Addresses,
    deadline: &Timer,
) -> Result<TcpStream, SendError> {
    let found: Found = match (&origin.host, origin.address()) {
        (_, Some(address)) => Rc::new([address]),
        (Host::Ip(address), None) => Rc::new([*address]),
        (Host::Name(name), None) => {
            let looking = within(deadline, names.addresses(name)).await;
            looking.ok_or(SendError::TimeoutConnect)?.map_err(SendError::Dns)?
        }
    };
    let open: Vec<IpAddr> = found.iter().copied().filter(|address| allowed.allow(*address)).collect();
    if let (true, Some(refused)) = (open.is_empty(), found.first()) {
        return Err(SendError::AddressRefused(*refused));
    }
    match within(deadline, dial(&order(&open, origin.port), wheel)).await {
        None => Err(SendError::TimeoutConnect),
        Some(None) => Err(SendError::Dns(format!("{} has no address", origin.host))),
        Some(Some(Err((address, error)))) => Err(SendError::Connect(format!("connecting to {address}: {error}"))),
        Some(Some(Ok(stream))) => {
            let set = stream.set_nodelay(true);
            set.map(|()| stream).map_err(|error| SendError::Connect(format!("TCP_NODELAY: {error}")))
        }
    }
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
