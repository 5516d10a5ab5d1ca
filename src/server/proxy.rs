//! The head that a proxy sends in front of a connection to say for whom it is: PROXY protocol, version 2
//! (HAProxy's `proxy-protocol.txt`, §2.2). Version 1 is not taken, and the fields behind the addresses are skipped.
//!
//! Only listed proxies are asked for one, and each of their connections has to begin with it: whoever could leave it
//! out, or send it without being asked, would choose its own address.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, ReadBuf};

use super::connection::{Wait, Watch};
use super::refusal::Refusal;
use super::worker::{Stage, Worker};

/// What it begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length of the rest.
const FIXED: usize = 16;
/// Longest rest that is taken: addresses, and what proxies say behind them.
const REST_MAX: usize = 4 * 1024;
/// Version 2 with the command LOCAL: the proxy speaks for itself. With PROXY: for a client.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// TCP over IPv4, over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

const MISSING: Refusal =
    Refusal::silent("request.proxy_header", "a connection of a listed proxy did not begin with a PROXY header v2");
const BROKEN: Refusal = Refusal::silent("request.proxy_header", "a PROXY header v2 was not whole, or not for TCP");
const LATE: Refusal = Refusal::silent("request.proxy_header", "a PROXY header was not complete in time");

/// For whom a connection is: the client's end, and the one that it has reached. `None` where the proxy itself is
/// the client.
pub(super) type Ends = Option<(SocketAddr, SocketAddr)>;

/// Reads the head and nothing behind it; within the time for a first head. No refusal is told of a drain.
pub(super) async fn read<S: AsyncRead + Unpin>(
    socket: &mut S,
    watch: &mut Watch,
    worker: &Worker,
) -> Result<Ends, Option<Refusal>> {
    let mut fixed = [0; FIXED];
    fill(socket, &mut fixed, watch, worker, &MISSING).await?;
    let [signature @ .., command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if signature != SIGNATURE {
        return Err(Some(MISSING));
    }
    if length > REST_MAX {
        return Err(Some(BROKEN));
    }
    let mut rest = vec![0; length];
    fill(socket, &mut rest, watch, worker, &BROKEN).await?;
    ends(command, family, &rest).ok_or(Some(BROKEN))
}

fn ends(command: u8, family: u8, rest: &[u8]) -> Option<Ends> {
    match (command, family) {
        (LOCAL, _) => Some(None),
        (PROXY, TCP4) => {
            let (from, rest) = rest.split_first_chunk::<4>()?;
            let (to, rest) = rest.split_first_chunk::<4>()?;
            two(Ipv4Addr::from(*from).into(), Ipv4Addr::from(*to).into(), rest)
        }
        (PROXY, TCP6) => {
            let (from, rest) = rest.split_first_chunk::<16>()?;
            let (to, rest) = rest.split_first_chunk::<16>()?;
            two(Ipv6Addr::from(*from).into(), Ipv6Addr::from(*to).into(), rest)
        }
        _ => None,
    }
}

fn two(from: IpAddr, to: IpAddr, ports: &[u8]) -> Option<Ends> {
    let (from_port, rest) = ports.split_first_chunk::<2>()?;
    let to_port = rest.first_chunk::<2>()?;
    let end = |ip: IpAddr, port: &[u8; 2]| SocketAddr::new(ip, u16::from_be_bytes(*port));
    Some(Some((end(from, from_port), end(to, to_port))))
}

/// Fills `space`, or says why not.
async fn fill<S: AsyncRead + Unpin>(
    socket: &mut S,
    space: &mut [u8],
    watch: &mut Watch,
    worker: &Worker,
    short: &Refusal,
) -> Result<(), Option<Refusal>> {
    let mut space = ReadBuf::new(space);
    poll_fn(|cx| {
        while space.remaining() > 0 {
            let stage = worker.stage.get();
            if stage == Stage::Cut {
                return Poll::Ready(Err(None));
            }
            let before = space.filled().len();
            match Pin::new(&mut *socket).poll_read(cx, &mut space) {
                Poll::Ready(Ok(())) if space.filled().len() > before => {}
                // A probe that only opens the connection is nothing to tell of.
                Poll::Ready(_) => return Poll::Ready(Err((before > 0).then(|| short.clone()))),
                Poll::Pending if watch.is_over(Wait::First, stage, &worker.limits, cx) => {
                    return Poll::Ready(Err((stage == Stage::Serving).then_some(LATE)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_of_tcp_only() {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 1, 0xbb, 4, 0, 0]; // and a field behind them
        let read = ends(PROXY, TCP4, &four).unwrap().unwrap();
        assert_eq!((read.0.to_string(), read.1.to_string()), ("192.0.2.7:4660".into(), "10.0.0.1:443".into()));
        let six = [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 11], &[7], &[0; 15], &[1, 0, 80, 1, 0xbb]].concat();
        let read = ends(PROXY, TCP6, &six).unwrap().unwrap();
        assert_eq!((read.0.to_string(), read.1.to_string()), ("[2001:db8::7]:80".into(), "[::1]:443".into()));
        assert_eq!(ends(LOCAL, 0, &[]), Some(None));
        for (command, family, rest) in [
            (PROXY, TCP4, &four[..11]),
            (PROXY, TCP6, &six[..35]),
            (PROXY, 0x12, &four), // UDP
            (PROXY, 0, &[]),
            (0x11, TCP4, &four),
            (0x22, TCP4, &four),
        ] {
            assert_eq!(ends(command, family, rest), None, "{command:x} {family:x} {rest:?}");
        }
    }
}
