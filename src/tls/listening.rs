//! What a listener presents now, and the look at its files that may change it.
//!
//! A handshake takes what is there when it begins; one that has begun is not touched. Files that make no whole are
//! not taken: what served before serves on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::material::{ListenerFiles, Made};
use super::pem::Problem;

/// A listener's TLS.
pub struct Listening {
    files: ListenerFiles,
    current: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
}

/// What is known of the files.
struct Seen {
    /// Of what serves.
    serving: [u8; 32],
    not_after: i64,
    /// Why the files do not serve, where they do not.
    refused: Option<Problem>,
}

/// What a look at the files came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    Unchanged,
    /// New handshakes see the new files.
    Swapped,
    /// The files make no whole; what served before serves on.
    Refused(Problem),
    /// For the same reason as at the last look.
    StillRefused,
}

impl Listening {
    /// Reads the files for the first time.
    pub fn open(files: ListenerFiles) -> Result<Listening, Problem> {
        let material = files.read()?;
        let Made { config, not_after } = files.make(&material)?;
        let seen = Seen { serving: material.digest, not_after, refused: None };
        Ok(Listening { files, current: ArcSwap::new(config), seen: Mutex::new(seen) })
    }

    /// What a handshake that begins now is made with.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Looks at the files, and takes them if they changed and make a whole.
    pub fn look(&self) -> Look {
        // Reading may take its time on a network's file system: nobody waits for the lock meanwhile.
        let material = self.files.read();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match &material {
            Ok(material) if material.digest == seen.serving => Ok(None),
            Ok(material) => self.files.make(material).map(|made| Some((made, material.digest))),
            Err(problem) => Err(problem.clone()),
        };
        match made {
            Ok(None) => {
                seen.refused = None;
                Look::Unchanged
            }
            Ok(Some((made, digest))) => {
                self.current.store(made.config);
                *seen = Seen { serving: digest, not_after: made.not_after, refused: None };
                Look::Swapped
            }
            Err(problem) if seen.refused.as_ref() == Some(&problem) => Look::StillRefused,
            Err(problem) => {
                seen.refused = Some(problem.clone());
                Look::Refused(problem)
            }
        }
    }

    /// Whether clients are asked for certificates.
    pub fn asks_clients(&self) -> bool {
        self.files.clients.is_some()
    }

    /// Why the files as they are now do not serve.
    pub fn refused(&self) -> Option<Problem> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    /// When the first of the certificates that serve ends, Unix seconds.
    pub fn not_after(&self) -> i64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).not_after
    }

    /// The keys that everybody on this machine may read.
    pub fn open_keys(&self) -> Vec<PathBuf> {
        self.files.open_keys().map(Path::to_path_buf).collect()
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(out)
    }
}
