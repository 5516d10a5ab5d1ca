//! Files that documents name: lists of users and words, bodies, secrets. Read while compiling, never later.
//!
//! What was read is noted with its state, so that a document is compiled again when a file that it names
//! has changed. It does not watch files: a change is found at the next reload.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::regular_file;

/// Contents that stand in for files of the machine: those of a kept set. By [`normal`] path.
pub type Kept = Arc<BTreeMap<PathBuf, Bytes>>;

/// A change within this time of a look at a file may not show in its time stamps: clocks of file systems tick.
const TICK: Duration = Duration::from_secs(2);

/// A file as the file system describes it: where this stays the same, so do its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    bytes: u64,
    device: u64,
    inode: u64,
    modified_ns: i128,
    /// Also moves where a time of modification is set by hand.
    changed_ns: i128,
}

impl FileState {
    /// The state of a file, links followed.
    pub fn of(meta: &Metadata) -> FileState {
        use std::os::unix::fs::MetadataExt;
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        FileState {
            bytes: meta.len(),
            device: meta.dev(),
            inode: meta.ino(),
            modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
            changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether any later change shows in the state: the last one is old enough at this time.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let last = self.modified_ns.max(self.changed_ns).saturating_add_unsigned(TICK.as_nanos());
        i128::try_from(now).is_ok_and(|now| last < now)
    }
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideFile {
    /// [`normal`] path.
    pub path: PathBuf,
    /// SHA-256 of its contents; `None` where it could not be read.
    pub digest: Option<[u8; 32]>,
    /// It holds a secret: its contents are never copied.
    pub is_secret: bool,
    /// How it was before it was read; `None` where that does not tell whether it has changed.
    pub state: Option<FileState>,
}

/// The files outside of the policies, and a note of what was read of them.
#[derive(Default)]
pub struct Outside {
    /// Folder of gateway.yaml: relative names start from it.
    base: PathBuf,
    kept: Kept,
    read: RefCell<Vec<OutsideFile>>,
}

/// A clone has noted nothing.
impl Clone for Outside {
    fn clone(&self) -> Self {
        Outside::new(self.base.clone(), self.kept.clone())
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Outside").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Outside {
    /// Files whose relative names start from `base`; those in `kept` are read from there.
    pub fn new(base: PathBuf, kept: Kept) -> Outside {
        Outside { base, kept, read: RefCell::default() }
    }

    /// Folder of gateway.yaml.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The contents of a file that documents may show, at most so many bytes.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    pub fn read(&self, path: &Path, bytes_max: u64) -> Result<Bytes, String> {
        self.note(path, bytes_max, false)
    }

    /// The same for one that holds a secret.
    ///
    /// # Errors
    /// As [`Outside::read`].
    pub fn read_secret(&self, path: &Path, bytes_max: u64) -> Result<Bytes, String> {
        self.note(path, bytes_max, true)
    }

    /// The same, of UTF-8.
    ///
    /// # Errors
    /// As [`Outside::read`].
    pub fn read_text(&self, path: &Path, bytes_max: u64) -> Result<String, String> {
        let bytes = self.read(path, bytes_max)?;
        String::from_utf8(bytes.into()).map_err(|_| "it is no UTF-8".to_owned())
    }

    /// What has been read since this was last asked.
    pub fn take_read(&self) -> Vec<OutsideFile> {
        self.read.take()
    }

    fn note(&self, path: &Path, bytes_max: u64, is_secret: bool) -> Result<Bytes, String> {
        let path = normal(path);
        let state = state(&path).filter(|state| state.is_settled(SystemTime::now()));
        let contents = match self.kept.get(&path) {
            Some(kept) => Ok(kept.clone()),
            None => regular_file::read(&path, bytes_max).map(Bytes::from),
        };
        let digest = contents.as_ref().ok().map(|bytes| Sha256::digest(bytes).into());
        self.read.borrow_mut().push(OutsideFile { path, digest, is_secret, state });
        contents
    }
}

impl OutsideFile {
    /// Whether the file still holds what was read. One that could not be read is always worth another try.
    pub fn still_holds(&self) -> bool {
        let Some(digest) = self.digest else { return false };
        if self.state.is_some() && self.state == state(&self.path) {
            return true;
        }
        let mut hasher = Sha256::new();
        let copied = regular_file::open(&self.path).and_then(|mut file| io::copy(&mut file, &mut Hashing(&mut hasher)));
        copied.is_ok() && <[u8; 32]>::from(hasher.finalize()) == digest
    }
}

/// Digests what is written to it.
struct Hashing<'h>(&'h mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn state(path: &Path) -> Option<FileState> {
    std::fs::metadata(path).ok().map(|meta| FileState::of(&meta))
}

/// An absolute path without `.` and `..`, whether or not there is a file.
pub fn normal(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut normal = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_contents_stand_in_for_files_and_what_was_read_is_noted() {
        let kept = BTreeMap::from([(normal(Path::new("lists/a.txt")), Bytes::from_static(b"kept"))]);
        let outside = Outside::new(PathBuf::new(), Arc::new(kept));
        assert_eq!(outside.read_text(Path::new("./x/../lists/a.txt"), 9).unwrap(), "kept");
        assert!(outside.read_secret(Path::new("nowhere/b"), 9).is_err());
        let read = outside.take_read();
        assert!(read[0].digest.is_some() && !read[0].is_secret && read[0].path.is_absolute());
        assert!(read[1].digest.is_none() && read[1].is_secret && !read[1].still_holds());
        assert!(outside.take_read().is_empty());
    }

    #[test]
    fn a_pipe_is_refused_and_never_waited_for() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        let path = std::env::temp_dir().join(format!("gatewright-outside-pipe-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let outside = Outside::default();
        outside.read(&path, 9).unwrap();
        assert_eq!(outside.read(&path, 2).unwrap_err(), "larger than 2 bytes");
        std::fs::remove_file(&path).unwrap();
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(outside.read_secret(&path, 9).unwrap_err().contains("it is a pipe"));
        assert!(!outside.take_read()[0].still_holds());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_has_just_changed_is_looked_into_again() {
        let path = std::env::temp_dir().join(format!("gatewright-outside-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let outside = Outside::default();
        outside.read(&path, 9).unwrap();
        let [read]: [OutsideFile; 1] = outside.take_read().try_into().unwrap();
        assert!(read.state.is_none(), "its time stamps tell nothing yet");
        assert!(read.still_holds());
        std::fs::write(&path, "two").unwrap();
        assert!(!read.still_holds());
        std::fs::remove_file(path).unwrap();
    }
}
