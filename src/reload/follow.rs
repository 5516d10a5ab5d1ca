//! Waiting for the next change of a set of files, for whoever reads it anew by himself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::list;
use super::settle::settled;
use super::watch::Watch;
use crate::policy::files::{Folder, Listing};

/// Files are looked at so often where the file system reports no changes.
const POLL: Duration = Duration::from_secs(2);

/// Folders that are followed.
pub struct Follow {
    folders: Vec<Folder>,
    quiet: Duration,
    changed: Arc<Notify>,
    watch: Watch,
    seen: Listing,
}

impl Follow {
    /// Follows folders from now on. Changes count when nothing has happened for `quiet`.
    pub async fn new(folders: Vec<Folder>, quiet: Duration) -> Follow {
        let changed = Arc::new(Notify::new());
        let watch = Watch::new(&folders, None, changed.clone());
        let seen = list(&folders).await;
        Follow { folders, quiet, changed, watch, seen }
    }

    /// Returns when the files are at rest and others than at the last time.
    pub async fn changed(&mut self) {
        loop {
            // Nothing was reported: look all the same.
            let _ = timeout(POLL, self.changed.notified()).await;
            let now = settled(&self.folders, self.quiet, &self.changed).await;
            self.watch.renew(&self.folders);
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}
