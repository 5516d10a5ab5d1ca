//! Connects to one of several addresses: the next is tried where one fails, or is silent for a while (RFC 8305 §5, without
//! its sorting by history).

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::clock::wheel::Wheel;

/// Time that an address has for itself before the next is tried beside it: what RFC 8305 §5 recommends.
const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses that are tried in one go.
const TRIED_MAX: usize = 8;

type Attempt = Pin<Box<dyn Future<Output = (SocketAddr, io::Result<TcpStream>)>>>;

/// The addresses in the order in which they are tried: families in turn (RFC 8305 §4), beginning with the first one's.
pub(super) fn order(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let is_first = |address: &&IpAddr| addresses.first().is_some_and(|first| first.is_ipv4() == address.is_ipv4());
    let mut own = addresses.iter().filter(is_first);
    let mut other = addresses.iter().filter(|address| !is_first(address));
    let mut ordered = Vec::with_capacity(addresses.len().min(TRIED_MAX));
    loop {
        let before = ordered.len();
        ordered.extend(own.next().into_iter().chain(other.next()).map(|address| SocketAddr::new(*address, port)));
        if ordered.len() == before || ordered.len() >= TRIED_MAX {
            ordered.truncate(TRIED_MAX);
            return ordered;
        }
    }
}

/// A connection to the first that takes one; the error is that of the last that failed. The caller bounds the time.
pub(super) async fn dial(
    addresses: &[SocketAddr],
    wheel: &Wheel,
) -> Option<Result<TcpStream, (SocketAddr, io::Error)>> {
    let start = wheel.timer();
    let mut rest = addresses.iter().copied();
    let mut under_way: Vec<Attempt> = Vec::new();
    let mut failure = None;
    poll_fn(|cx| {
        loop {
            let (mut at, mut has_failed) = (0, false);
            while let Some(attempt) = under_way.get_mut(at) {
                match attempt.as_mut().poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready((_, Ok(stream))) => return Poll::Ready(Some(Ok(stream))),
                    Poll::Ready((address, Err(error))) => {
                        (failure, has_failed) = (Some((address, error)), true);
                        drop(under_way.remove(at));
                    }
                }
            }
            let is_due = has_failed || under_way.is_empty() || start.poll_expired(cx).is_ready();
            if is_due && let Some(address) = rest.next() {
                start.set(HEAD_START);
                under_way.push(Box::pin(async move { (address, TcpStream::connect(address).await) }));
            } else if under_way.is_empty() {
                return Poll::Ready(failure.take().map(Err));
            } else {
                return Poll::Pending;
            }
        }
    })
    .await
}
