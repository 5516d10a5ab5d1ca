//! Sockets that the process was started with (`sd_listen_fds(3)`): `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`.
//!
//! Listening sockets for streams are taken, over TCP or Unix; of others the log tells. Whether they are used is for
//! gateway.yaml to say.

use std::io;
use std::sync::Arc;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::config::Config;
use crate::server::{Address, Bound, Passed};

/// What a socket without a name is called (`sd_listen_fds_with_names(3)`).
const UNNAMED: &str = "unknown";

/// Takes what was passed; none where it was meant for another process. Called twice it finds nothing more.
pub(super) fn sockets() -> Vec<Passed> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    let names = names_of(&names, passed.len());
    let mut sockets = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        match take(&mut passed, index) {
            Ok(socket) => sockets.push(Passed { name, socket }),
            Err(error) => tracing::warn!(socket = %name, %error, "a passed socket cannot be listened on"),
        }
    }
    sockets
}

/// Warns of sockets that no listener takes: their clients would wait for ever.
pub(super) fn tell_unused(passed: &[Passed], config: &Config) {
    for unused in passed {
        let takes = |address: &Address| matches!(address, Address::Passed(name) if *name == unused.name);
        if !config.listeners.iter().any(|listener| takes(&listener.server.address)) {
            let help = format!("write `address: systemd:{}`", unused.name);
            tracing::warn!(socket = %unused.name, help, "no listener of gateway.yaml takes a passed socket");
        }
    }
}

/// A name for each of `count` sockets.
fn names_of(names: &str, count: usize) -> Vec<Arc<str>> {
    let given: Vec<&str> = names.split(':').collect();
    (0..count)
        .map(|index| given.get(index).copied().filter(|name| !name.is_empty()).unwrap_or(UNNAMED).into())
        .collect()
}

fn take(passed: &mut ListenFd, index: usize) -> io::Result<Bound> {
    let socket = match passed.take_unix_listener(index) {
        Ok(Some(unix)) => Bound::Unix(unix),
        // It stays where it is when it is of another kind.
        _ => match passed.take_tcp_listener(index)? {
            Some(tcp) => Bound::Tcp(tcp),
            None => return Err(io::ErrorKind::NotFound.into()),
        },
    };
    let plain = match &socket {
        Bound::Unix(unix) => SockRef::from(unix),
        Bound::Tcp(tcp) => SockRef::from(tcp),
    };
    if !plain.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    plain.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_has_a_name() {
        let named = |names, count| names_of(names, count).join(" ");
        assert_eq!(named("main:local", 2), "main local");
        assert_eq!(named("main:", 3), "main unknown unknown");
        assert_eq!(named("", 1), "unknown");
        assert_eq!(named("main:local", 0), "");
    }
}
