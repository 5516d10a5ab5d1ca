//! Where a server listens: over TCP, on a Unix socket, or on sockets that it was started with.
//!
//! Unix sockets are files: one that a process left behind is taken away where nobody answers on it, anything else that
//! stands in the place is left alone. Abstract names are not taken, because no file mode guards them. Who passes
//! sockets, and how, is not known here.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::bare::Bound;
use super::{ListenerConfig, StartError};

/// Connections that the kernel holds for a listening socket until they are accepted.
const BACKLOG: i32 = 4096;
/// The bits of a file mode that say who may do what.
const MODE_BITS: u32 = 0o777;

/// Where a listener takes connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Port 0 takes any free one; [`super::Running::addresses`] tells which.
    Tcp(SocketAddr),
    /// A Unix socket, and the mode of its file.
    Unix { path: PathBuf, mode: u32 },
    /// Every socket that was passed under this name.
    Passed(Arc<str>),
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(out),
            Address::Unix { path, .. } => write!(out, "unix:{}", path.display()),
            Address::Passed(name) => write!(out, "systemd:{name}"),
        }
    }
}

/// A listening socket that the process was started with.
#[derive(Debug)]
pub struct Passed {
    pub name: Arc<str>,
    pub socket: Bound,
}

/// The file of a Unix socket. Dropped, it takes the file away, unless another one stands there by now.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever was started in our place has put its own there, and keeps it.
        // Its inode cannot be of a new file either: the socket is still open, which holds it.
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // A file that cannot be taken away is one that the next start finds stale.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Everything that a server listens on.
pub(super) struct BoundAll {
    /// The sockets of each worker.
    pub(super) sockets: Vec<Vec<(ListenerConfig, Bound)>>,
    /// The name of each listener, once for each of its sockets.
    pub(super) addresses: Vec<(Arc<str>, Address)>,
    pub(super) files: Vec<SocketFile>,
}

/// Binds all listeners, with sockets for so many workers.
pub(super) fn bind_all(
    listeners: &[ListenerConfig],
    passed: &[Passed],
    workers: usize,
) -> Result<BoundAll, StartError> {
    let sockets = (0..workers).map(|_| Vec::new()).collect();
    let mut all = BoundAll { sockets, addresses: Vec::new(), files: Vec::new() };
    let failed = |listener: &ListenerConfig, error| StartError::Bind {
        listener: listener.name.clone(),
        address: listener.address.clone(),
        error,
    };
    // Before the first of our own is bound: `0.0.0.0:80` and `[::]:80` beside each other are no strangers.
    for listener in listeners {
        if let Address::Tcp(address) = &listener.address {
            refuse_taken(*address).map_err(|error| failed(listener, error))?;
        }
    }
    for listener in listeners {
        let failed = |error| failed(listener, error);
        match &listener.address {
            Address::Tcp(address) => all.bind_tcp(listener, *address).map_err(failed)?,
            Address::Unix { path, mode } => {
                let (socket, file) = bind_unix(path, *mode).map_err(failed)?;
                all.files.push(file);
                all.share(listener, &socket).map_err(failed)?;
            }
            Address::Passed(name) => {
                let mut own = passed.iter().filter(|passed| passed.name == *name).peekable();
                if own.peek().is_none() {
                    let passed = passed.iter().map(|passed| passed.name.clone()).collect();
                    return Err(StartError::NotPassed { listener: listener.name.clone(), name: name.clone(), passed });
                }
                for passed in own {
                    all.share(listener, &passed.socket).map_err(failed)?;
                }
            }
        }
    }
    Ok(all)
}

impl BoundAll {
    /// A socket of its own for each worker: the kernel spreads connections over them.
    fn bind_tcp(&mut self, listener: &ListenerConfig, mut address: SocketAddr) -> io::Result<()> {
        for of_worker in &mut self.sockets {
            let socket = bind_tcp(address)?;
            // The first socket decides the port that the others share.
            address = socket.local_addr()?;
            of_worker.push((listener.clone(), Bound::Tcp(socket)));
        }
        self.addresses.push((listener.name.clone(), Address::Tcp(address)));
        Ok(())
    }

    /// One socket for all workers: whoever is free takes the next connection.
    fn share(&mut self, listener: &ListenerConfig, socket: &Bound) -> io::Result<()> {
        for of_worker in &mut self.sockets {
            of_worker.push((listener.clone(), socket.try_clone()?));
        }
        self.addresses.push((listener.name.clone(), socket.address()?));
        Ok(())
    }
}

/// The kernel would share an address with any process of this user that shares it: half of the connections would go to
/// a gateway that somebody has forgotten. Who does not share learns that it is taken.
fn refuse_taken(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // old connections in TIME_WAIT are nobody
    socket.bind(&address.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(Bound, SocketFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_path_buf(), identity: identity(path)? };
    // Nobody gets in before the socket listens, so that no one slips through the mode of the process's umask.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & MODE_BITS))?;
    socket.listen(BACKLOG)?;
    Ok((Bound::Unix(UnixListener::from(socket)), file))
}

/// Takes away what a process has left that ended without doing so.
fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket stands there"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there")),
        // Only this says that nobody listens: a full queue or a missing permission does not.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Folder;

    #[test]
    fn a_socket_that_nobody_answers_on_is_replaced_and_nothing_else() {
        let folder = Folder::new();
        let path = folder.0.join("gw.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a socket outlives its process");
        let (first, file) = bind_unix(&path, 0o640).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(first.address().unwrap(), Address::Unix { path: path.clone(), mode: 0o640 });
        let taken = bind_unix(&path, 0o600).unwrap_err();
        assert_eq!(taken.to_string(), "another process answers there");
        UnixStream::connect(&path).unwrap();
        // Somebody else's socket stays where it is.
        std::fs::remove_file(&path).unwrap();
        let (_second, other) = bind_unix(&path, 0o600).unwrap();
        drop(file);
        assert!(path.exists());
        drop(other);
        assert!(!path.exists());

        std::fs::write(&path, "a note").unwrap();
        let refused = bind_unix(&path, 0o600).unwrap_err();
        assert_eq!(refused.to_string(), "something that is no socket stands there");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(folder.0.join("elsewhere"), &path).unwrap();
        assert!(bind_unix(&path, 0o600).is_err(), "a link is not followed");
    }
}
