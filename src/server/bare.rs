//! Sockets of either kind, TCP or Unix, as the rest of the room sees them: one that listens, and one to a client.
//!
//! A client on a Unix socket is a process of this machine and has no address: it counts as 127.0.0.1 with port 0.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::address::Address;

/// The address that a client on a Unix socket has for everything that asks for one.
const NEAR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A listening socket, outside of any runtime.
#[derive(Debug)]
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Bound {
    pub(super) fn try_clone(&self) -> io::Result<Bound> {
        match self {
            Bound::Tcp(socket) => socket.try_clone().map(Bound::Tcp),
            Bound::Unix(socket) => socket.try_clone().map(Bound::Unix),
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> io::Result<Address> {
        match self {
            Bound::Tcp(socket) => socket.local_addr().map(Address::Tcp),
            Bound::Unix(socket) => {
                let path = socket.local_addr()?.as_pathname().map(ToOwned::to_owned).unwrap_or_default();
                let mode = std::fs::metadata(&path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
                Ok(Address::Unix { path, mode })
            }
        }
    }

    /// The next connection that waits; must be called inside a runtime.
    pub(super) fn accept(&self) -> io::Result<Bare> {
        match self {
            Bound::Tcp(socket) => {
                let (tcp, _) = socket.accept()?;
                tcp.set_nonblocking(true)?;
                TcpStream::from_std(tcp).map(Bare::Tcp)
            }
            Bound::Unix(socket) => {
                let (unix, _) = socket.accept()?;
                unix.set_nonblocking(true)?;
                UnixStream::from_std(unix).map(Bare::Unix)
            }
        }
    }
}

/// A listening socket inside a runtime.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(super) fn new(bound: Bound) -> io::Result<Listener> {
        match bound {
            Bound::Tcp(socket) => TcpListener::from_std(socket).map(Listener::Tcp),
            Bound::Unix(socket) => UnixListener::from_std(socket).map(Listener::Unix),
        }
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bare>> {
        Poll::Ready(match self {
            Listener::Tcp(socket) => ready!(socket.poll_accept(cx)).map(|(tcp, _)| Bare::Tcp(tcp)),
            Listener::Unix(socket) => ready!(socket.poll_accept(cx)).map(|(unix, _)| Bare::Unix(unix)),
        })
    }

    pub(super) fn into_bound(self) -> io::Result<Bound> {
        match self {
            Listener::Tcp(socket) => socket.into_std().map(Bound::Tcp),
            Listener::Unix(socket) => socket.into_std().map(Bound::Unix),
        }
    }
}

/// A connection to a client, before anything is spoken over it.
pub(super) enum Bare {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Bare {
    /// The client's end and this one; an error where the client has left already.
    pub(super) fn ends(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        match self {
            Bare::Tcp(tcp) => Ok((tcp.peer_addr()?, tcp.local_addr()?)),
            Bare::Unix(_) => Ok((NEAR, NEAR)),
        }
    }

    /// Whoever drops it resets the connection. A Unix socket has nothing of that kind.
    pub(super) fn reset_at_close(&self) {
        if let Bare::Tcp(tcp) = self {
            // Where it fails there is no connection any more.
            let _ = tcp.set_zero_linger();
        }
    }

    /// Lets small writes leave at once: without it an answer in two writes waits for the client's delayed
    /// acknowledgement.
    pub(super) fn send_at_once(&self) -> io::Result<()> {
        match self {
            Bare::Tcp(tcp) => tcp.set_nodelay(true),
            Bare::Unix(_) => Ok(()),
        }
    }
}

impl AsyncRead for Bare {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Bare::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Bare::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Bare {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Bare::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Bare::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Bare::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Bare::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Bare::Tcp(tcp) => tcp.is_write_vectored(),
            Bare::Unix(unix) => unix.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Bare::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Bare::Unix(unix) => Pin::new(unix).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Bare::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Bare::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}
