//! The last good set of a URL on disk, so that a start needs no network.
//!
//! One file per source below `state/keys`, written beside and renamed over. Public keys only, but whoever could change
//! them could sign: folder and file are for the gateway's user alone.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde_json::{Value as Json, json};

use super::{RemoteKeys, STALE_S};
use crate::jose::KeySet;
use crate::own_file;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Largest file, in bytes: a set has at most 1 MiB.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// A set that was fetched so far in the future came while the clock was wrong, in seconds.
const CLOCKS_APART_S: i64 = 300;

impl RemoteKeys {
    fn path(&self) -> Option<PathBuf> {
        let name = HEXLOWER.encode(self.id.get(..16).unwrap_or_default());
        self.folder.as_ref().map(|folder| folder.join(format!("{name}.json")))
    }

    /// Keeps a set.
    pub(super) fn keep(&self, text: &[u8], fetched_at_s: i64) -> io::Result<()> {
        let (Some(folder), Some(path)) = (&self.folder, self.path()) else { return Ok(()) };
        let keys: Json = serde_json::from_slice(text)?;
        let kept = json!({ "url": self.source.url, "fetched_at": fetched_at_s, "keys": keys }).to_string();
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?;
        file.write_all(kept.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    }

    /// Keeps none any more.
    pub(super) fn forget(&self) -> io::Result<()> {
        match self.path().map(std::fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes what was kept, unless it is too old. A file that cannot be read is as none: the set is fetched anyway.
    pub(super) fn take_kept(&self, now_unix_s: i64) {
        let Some((keys, fetched_at_s)) = self.path().and_then(|path| read(&path).ok()) else { return };
        // One from the future would not grow old.
        let age_s = now_unix_s.saturating_sub(fetched_at_s);
        if !(-CLOCKS_APART_S..STALE_S).contains(&age_s) || keys.keys().is_empty() {
            return;
        }
        let mut inner = self.inner();
        (inner.fetched_at_s, inner.from_disk) = (Some(fetched_at_s), true);
        self.current.store(Some(Arc::new(keys)));
    }
}

fn read(path: &Path) -> io::Result<(KeySet, i64)> {
    // Whoever could have put it there could sign.
    let file =
        own_file::open(path, own_file::OTHERS_WRITE).map_err(|refused| io::Error::other(format!("{refused:?}")))?;
    let mut text = Vec::new();
    file.ok_or(io::ErrorKind::NotFound)?.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    let kept: Json = serde_json::from_slice(&text)?;
    let keys = kept.get("keys").map(Json::to_string).unwrap_or_default();
    let keys = KeySet::parse(keys.as_bytes(), false).map_err(io::Error::other)?;
    Ok((keys, kept.get("fetched_at").and_then(Json::as_i64).unwrap_or_default()))
}
