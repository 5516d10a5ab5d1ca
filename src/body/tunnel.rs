//! What remains of an exchange when both of its ends have agreed to speak something else (RFC 9110 §7.8): bytes.

use std::any::Any;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection that nobody speaks HTTP over any more.
pub trait Duplex: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> Duplex for T {}

/// The upstream's end.
pub struct Tunnel {
    pub io: Pin<Box<dyn Duplex>>,
    /// Came right behind the upstream's agreement.
    pub read: Bytes,
    /// What is held until the end, such as a place in a pool.
    pub held: Box<dyn Any>,
}
