//! Who says that files may have changed: the file system's own events.
//!
//! Folders are watched, not files: editors rename over a file, and Kubernetes swaps a `..data` link beside
//! it. The folder above is watched too, for a folder that is itself deleted, restored or swapped. An event
//! is only a hint that sets a look in motion; what has really changed is told by reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::policy::files::Folder;

/// A folder as it is told apart from another one of the same name.
type Identity = (PathBuf, Option<(u64, u64)>);

/// The watch on all folders.
pub(super) struct Watch {
    changed: Arc<Notify>,
    file: Option<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    watched: Vec<Identity>,
}

impl Watch {
    /// Watches the folders, and the file of the configuration. Where the system cannot, polling has to do.
    pub(super) fn new(folders: &[Folder], file: Option<&Path>, changed: Arc<Notify>) -> Watch {
        let mut watch = Watch { changed, file: file.map(Path::to_path_buf), watcher: None, watched: Vec::new() };
        watch.renew(folders);
        watch
    }

    /// Watches anew where a folder is no longer the one that was watched; says whether it did.
    pub(super) fn renew(&mut self, folders: &[Folder]) -> bool {
        let now: Vec<Identity> = folders.iter().map(|folder| identity(&folder.path)).collect();
        if now == self.watched && self.watcher.is_some() {
            return false;
        }
        // The old watch ends only when the new one stands, so that no event falls between them.
        match start(folders, self.file.as_deref(), self.changed.clone()) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => tracing::warn!(%error, "the file system reports no changes: only polling notices them"),
        }
        let renewed = now != self.watched;
        self.watched = now;
        renewed
    }
}

fn identity(path: &Path) -> Identity {
    use std::os::unix::fs::MetadataExt;
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let inode = std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    (real, inode)
}

fn start(folders: &[Folder], file: Option<&Path>, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut around: Vec<PathBuf> = folders.iter().map(|folder| absolute(&folder.path)).collect();
    around.extend(file.map(absolute));
    let inside: Vec<PathBuf> = folders.iter().filter_map(|folder| folder.path.canonicalize().ok()).collect();
    let (names, below) = (around.clone(), inside.clone());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if matters(&event, &names, &below) {
            changed.notify_one();
        }
    })?;
    for path in &inside {
        watcher.watch(path, RecursiveMode::Recursive)?;
    }
    for parent in around.iter().filter_map(|path| path.parent()) {
        // Without it only the swap of a whole folder goes unseen, until the next poll.
        if !inside.iter().any(|path| path == parent) {
            let _ = watcher.watch(parent, RecursiveMode::NonRecursive);
        }
    }
    Ok(watcher)
}

/// Paths that events are compared with: notify speaks of what it was given to watch.
fn absolute(path: &Path) -> PathBuf {
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parent.canonicalize().map_or_else(|_| path.to_path_buf(), |parent| parent.join(name))
}

/// Whether something may have changed: reads do not count, least of all our own.
fn matters(event: &notify::Result<Event>, names: &[PathBuf], below: &[PathBuf]) -> bool {
    let Ok(event) = event else { return true };
    if event.need_rescan() || event.paths.is_empty() {
        return true;
    }
    let is_read = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
    !is_read
        && event.paths.iter().any(|path| names.contains(path) || below.iter().any(|folder| path.starts_with(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_no_change_and_neighbours_do_not_count() {
        let (names, below) = (vec!["/g/policies".into(), "/g/gateway.yaml".into()], vec!["/g/policies".into()]);
        let event = |kind, path: &str| Ok(Event::new(kind).add_path(path.into()));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert!(matters(&event(written, "/g/policies/a.yaml"), &names, &below));
        assert!(matters(&event(EventKind::Any, "/g/gateway.yaml"), &names, &below));
        assert!(!matters(&event(EventKind::Any, "/g/audit.jsonl"), &names, &below));
        assert!(!matters(&event(read, "/g/policies/a.yaml"), &names, &below));
        assert!(matters(&Err(notify::Error::generic("overflow")), &names, &below));
    }
}
