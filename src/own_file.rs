//! Opens a file of the gateway's own state: one that nobody but its user, or the administrator, can have put there.
//!
//! Links are not followed and pipes are not waited for (open(2): O_NOFOLLOW, O_NONBLOCK). What is in the file is for
//! the caller to judge.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Bits that let the group or others write.
pub const OTHERS_WRITE: u32 = 0o022;
/// Bits that let the group or others do anything.
pub const OTHERS: u32 = 0o077;
/// User id of the administrator.
const ROOT: u32 = 0;

/// Why a file is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// Others have rights that they must not have; the mode.
    Open(u32),
    Other(String),
}

/// Opens it for reading; `None` where nothing is there. `forbidden` are the mode bits that it must not have.
pub fn open(path: &Path, forbidden: u32) -> Result<Option<File>, Refused> {
    let other = |why: String| Err(Refused::Other(why));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return other("it is a symbolic link, and none is followed here".to_owned()),
        Err(error) => return other(error.to_string()),
    };
    let facts = file.metadata().map_err(|error| Refused::Other(error.to_string()))?;
    let us = rustix::process::geteuid().as_raw();
    if !facts.is_file() {
        return other("it is no regular file".to_owned());
    }
    if facts.uid() != us && facts.uid() != ROOT {
        return other(format!("it belongs to user {}, not to user {us} that this process runs as", facts.uid()));
    }
    match facts.mode() & forbidden {
        0 => Ok(Some(file)),
        _ => Err(Refused::Open(facts.mode() & 0o7777)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_a_file_of_ours_that_others_cannot_use_is_opened() {
        let folder = std::env::temp_dir().join(format!("gatewright-own-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, link) = (folder.join("file"), folder.join("link"));
        assert!(open(&file, OTHERS).unwrap().is_none());
        std::fs::write(&file, "x").unwrap();
        for (mode, forbidden, refused) in [
            (0o600, OTHERS, None),
            (0o644, OTHERS_WRITE, None),
            (0o644, OTHERS, Some(0o644)),
            (0o620, OTHERS_WRITE, Some(0o620)),
        ] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open(&file, forbidden).map(|file| file.is_some()).err(), refused.map(Refused::Open), "{mode:o}");
        }
        symlink(&file, &link).unwrap();
        assert!(matches!(open(&link, 0), Err(Refused::Other(why)) if why.contains("symbolic link")));
        assert!(matches!(open(&folder, 0), Err(Refused::Other(why)) if why.contains("no regular file")));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
