//! A server for tests that speaks HTTP/1.1 well or badly, to the byte, as the path asks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::PATIENCE;

/// How a connection goes on once the bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Close,
    /// Closes so that the other end sees a reset.
    Reset,
    /// Says nothing until the other end closes.
    Hang,
    /// Waits for the next request.
    Serve,
}

/// Which bytes a path is answered with.
pub type Play = Arc<dyn Fn(&str, usize) -> (Vec<u8>, Then) + Send + Sync>;

/// Serves for as long as the test runs. `play` is given the path and the number of the connection.
pub fn serve(play: Play) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = AtomicUsize::new(0);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let number = connections.fetch_add(1, Ordering::Relaxed);
            let play = play.clone();
            std::thread::spawn(move || connection(stream, number, &play));
        }
    });
    address
}

/// An answer that is as it should be, with the number of its connection.
pub fn good(connection: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nx-connection: {connection}\r\ncontent-length: 4\r\n\r\ngood").into_bytes()
}

fn connection(mut stream: TcpStream, number: usize, play: &Play) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while let Some(path) = request(&mut stream) {
        let (bytes, then) = play(&path, number);
        // The other end may have closed before it had taken everything: that is what some are about.
        let _ = stream.write_all(&bytes);
        match then {
            Then::Serve => continue,
            Then::Close => {}
            Then::Reset => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
            Then::Hang => while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {},
        }
        return;
    }
}

/// The path of the next request, which has no body.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8_lossy(&head).split(' ').nth(1).map(str::to_owned)
}
