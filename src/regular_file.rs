//! Opens and reads files that others name or put into a folder: regular ones only, and of them no more than a bound.
//!
//! A pipe that nobody writes to would be waited for for ever, a device need not end, and a file with holes is as large
//! as its maker likes. So a file is opened without waiting (open(2): O_NONBLOCK) and looked at once it is open:
//! nobody can put another in its place in between. Links are followed. Whose a file is, is not looked at: `own_file`
//! does that.

use std::fs::{File, FileType, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

/// Opens a regular file for reading.
///
/// # Errors
/// What the system says, or what the file is instead of a regular one.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path).map(|(file, _)| file)
}

/// The first bytes of a regular file, at most so many.
///
/// # Errors
/// As [`open`].
pub fn read_start(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let (file, facts) = open_with(path)?;
    take(file, &facts, bytes_max)
}

/// A whole regular file of at most so many bytes.
///
/// # Errors
/// In words: as [`open`], or that it is larger.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let words = |error: io::Error| error.to_string();
    let too_large = || Err(format!("larger than {bytes_max} bytes"));
    let (file, facts) = open_with(path).map_err(words)?;
    if facts.len() > bytes_max {
        return too_large();
    }
    // It may have grown meanwhile.
    let bytes = take(file, &facts, bytes_max.saturating_add(1)).map_err(words)?;
    if bytes.len() as u64 > bytes_max { too_large() } else { Ok(bytes) }
}

fn open_with(path: &Path) -> io::Result<(File, Metadata)> {
    // Nor is a terminal taken as the one that controls this process.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())) {
        Ok(file) => File::from(file),
        Err(Errno::NXIO) => return Err(refused("a socket, or a device that is not there")),
        Err(error) => return Err(error.into()),
    };
    let facts = file.metadata()?;
    match facts.is_file() {
        true => Ok((file, facts)),
        false => Err(refused(what(facts.file_type()))),
    }
}

fn take(file: File, facts: &Metadata, bytes_max: u64) -> io::Result<Vec<u8>> {
    let expected = facts.len().min(bytes_max);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn what(kind: FileType) -> &'static str {
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, and only regular files are read"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, mkfifoat};

    use super::*;

    #[test]
    fn only_a_regular_file_is_read_and_no_more_of_it_than_may_be() {
        let folder = std::env::temp_dir().join(format!("gatewright-regular-file-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (file, pipe, socket) = (folder.join("file"), folder.join("pipe"), folder.join("socket"));
        std::fs::write(&file, "four").unwrap();
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"four");
        assert_eq!(read(&file, 3).unwrap_err(), "larger than 3 bytes");
        assert_eq!(read_start(&file, 3).unwrap(), b"fou");
        assert_eq!(read_start(&file, u64::MAX).unwrap(), b"four");
        std::os::unix::fs::symlink(&pipe, folder.join("link")).unwrap();
        for (path, what) in [
            (folder.as_path(), "it is a folder,"),
            (&pipe, "it is a pipe,"),
            (&folder.join("link"), "it is a pipe,"),
            (&socket, "it is a socket,"),
            (Path::new("/dev/zero"), "it is a device,"),
        ] {
            let why = read(path, 9).unwrap_err();
            assert!(why.starts_with(what), "{}: {why}", path.display());
        }
        assert_eq!(open(&folder.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_with_holes_costs_no_more_than_the_bound() {
        let path = std::env::temp_dir().join(format!("gatewright-holes-{}", std::process::id()));
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read_start(&path, 100).unwrap(), [0; 100]);
        assert_eq!(read(&path, 100).unwrap_err(), "larger than 100 bytes");
        std::fs::remove_file(path).unwrap();
    }
}
