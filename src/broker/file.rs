//! The file of a session: read whole, written beside and renamed over, and leased while its tokens are renewed.
//!
//! Whoever renews holds a lock on `NAME.lock`, so that of several processes, such as an old and a new one during a
//! restart, one does (flock; it ends with its holder). Blocking: for threads that may wait for a disk.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::grant::Grant;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A lock that lasts until it is dropped.
#[derive(Debug)]
pub struct Lease {
    _locked: File,
}

/// The tokens in a file; `None` where there is no such file.
///
/// # Errors
/// Why it cannot be read, without anything of what stands in it.
pub fn read(path: &Path) -> Result<Option<Grant>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    Grant::read(&text).map(Some)
}

/// Writes the tokens: when this returns they are on the disk, and at each moment before the old or the new ones are.
///
/// # Errors
/// What the file system said; the old file is still there.
pub fn write(path: &Path, grant: &Grant) -> io::Result<()> {
    let folder = folder_of(path)?;
    let new = beside(path, "new");
    // Left by one who was killed while writing; its mode may be another.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&new)?;
    file.write_all(grant.write().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// The right to renew; `None` while somebody else has it.
///
/// # Errors
/// What the file system said.
pub fn lease(path: &Path) -> io::Result<Option<Lease>> {
    folder_of(path)?;
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(beside(path, "lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(Lease { _locked: lock })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether somebody beside the owner and the group may read it.
pub fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0)
}

/// The folder of the file, which is made where it is not there.
fn folder_of(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    Ok(folder)
}

/// A file beside another: its whole name and one more ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let folder = std::env::temp_dir().join(format!("gatewright-session-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            Place(folder)
        }

        fn file(&self) -> PathBuf {
            self.0.join("below/one.json")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn grant(token: &str) -> Grant {
        Grant::read(format!("{{\"access_token\":\"{token}\"}}").as_bytes()).unwrap()
    }

    #[test]
    fn what_is_written_is_for_the_owner_alone() {
        let place = Place::new("mode");
        assert!(read(&place.file()).unwrap().is_none());
        write(&place.file(), &grant("a")).unwrap();
        // What somebody left who was killed while writing is no obstacle.
        std::fs::write(beside(&place.file(), "new"), "{").unwrap();
        write(&place.file(), &grant("b")).unwrap();
        assert!(read(&place.file()).unwrap().unwrap().is_same(&grant("b")));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&place.file()), mode(place.file().parent().unwrap())), (FILE_MODE, FOLDER_MODE));
        assert!(!is_open(&place.file()) && !beside(&place.file(), "new").exists());
    }

    #[test]
    fn one_at_a_time_has_the_lease() {
        let place = Place::new("lease");
        let first = lease(&place.file()).unwrap();
        assert!(first.is_some() && lease(&place.file()).unwrap().is_none());
        drop(first);
        assert!(lease(&place.file()).unwrap().is_some());
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let place = Place::new("large");
        write(&place.file(), &grant("a")).unwrap();
        std::fs::write(place.file(), vec![b' '; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(read(&place.file()).unwrap_err().contains("larger"));
    }
}
