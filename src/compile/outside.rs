//! Files that documents name: lists of users and words, bodies, secrets. Read while compiling, never later.
//!
//! What was read is noted with its state, so that a document is compiled again when a file that it names
//! has changed. It does not watch files: a change is found at the next reload.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Contents that stand in for files of the machine: those of a kept set. By [`normal`] path.
pub type Kept = Arc<BTreeMap<PathBuf, Bytes>>;

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideFile {
    /// [`normal`] path.
    pub path: PathBuf,
    /// SHA-256 of its contents; `None` where it could not be read.
    pub digest: Option<[u8; 32]>,
    /// It holds a secret: its contents are never copied.
    pub is_secret: bool,
}

/// The files outside of the policies, and a note of what was read of them.
#[derive(Clone, Default)]
pub struct Outside {
    /// Folder of gateway.yaml: relative names start from it.
    base: PathBuf,
    kept: Kept,
    read: RefCell<Vec<OutsideFile>>,
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

    /// The same files, with nothing read yet.
    pub fn afresh(&self) -> Outside {
        Outside::new(self.base.clone(), self.kept.clone())
    }

    /// Notes what was read elsewhere.
    pub fn add_read(&self, read: Vec<OutsideFile>) {
        self.read.borrow_mut().extend(read);
    }

    fn note(&self, path: &Path, bytes_max: u64, is_secret: bool) -> Result<Bytes, String> {
        let path = normal(path);
        let contents = match self.kept.get(&path) {
            Some(kept) => Ok(kept.clone()),
            None => read_file(&path, bytes_max),
        };
        let digest = contents.as_ref().ok().map(|bytes| Sha256::digest(bytes).into());
        self.read.borrow_mut().push(OutsideFile { path, digest, is_secret });
        contents
    }
}

impl OutsideFile {
    /// Whether the file still holds what was read.
    pub fn still_holds(&self, bytes_max: u64) -> bool {
        let now: Option<[u8; 32]> = read_file(&self.path, bytes_max).ok().map(|bytes| Sha256::digest(bytes).into());
        now == self.digest
    }
}

fn read_file(path: &Path, bytes_max: u64) -> Result<Bytes, String> {
    let words = |error: io::Error| error.to_string();
    if std::fs::metadata(path).map_err(words)?.len() > bytes_max {
        return Err(format!("larger than {bytes_max} bytes"));
    }
    std::fs::read(path).map(Bytes::from).map_err(words)
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
        assert!(read[1].digest.is_none() && read[1].is_secret && read[1].still_holds(9));
        assert!(outside.take_read().is_empty());
    }
}
