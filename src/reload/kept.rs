//! The last good set of files, kept on disk: a restart with broken files serves it and says so.
//!
//! One file below `state:`, written beside and renamed over, so that a crash at any moment leaves the old one
//! or the new one. It holds the policy files and what they name below their folders, never a secret. A file
//! that is damaged, of another format or of other folders, or that others could have written, is not used, and the
//! log says why.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::compile::outside::{Kept as KeptFiles, OutsideFile, normal};
use crate::config::Config;
use crate::own_file::{self, Refused};
use crate::policy::files::{Files, Folder, PolicyFile};
use crate::regular_file;

/// Name of the file below `state:`.
const FILE_NAME: &str = "last-good-set";
/// First line of the file. Another format begins with another line.
const FORMAT: &[u8] = b"gatewright: last good set, format 1\n";
/// Contents of a set, in bytes; a larger one is not kept.
pub const KEPT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What names and lengths add to the contents, at most.
const FRAME_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// SHA-256 at the end, over all that stands before it.
const DIGEST_BYTES: usize = 32;
/// A set is not readable for others: it may hold hashes of passwords.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A set that has served.
pub struct Kept {
    pub files: Files,
    /// Contents of the files that its documents name.
    pub outside: KeptFiles,
    pub about: About,
}

/// What is said of a kept set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of the set.
    pub version: String,
    /// Version of the program that wrote it.
    pub gatewright: String,
    /// Absolute paths of the folders that it was read from.
    folders: Vec<PathBuf>,
}

/// Where the set of a process is kept.
#[derive(Clone, Debug)]
pub struct Shelf {
    state: PathBuf,
    folders: Vec<Folder>,
}

/// One file of a set as it is written: its name below one of the folders.
struct Part<'p> {
    folder: usize,
    name: &'p Path,
    bytes: &'p [u8],
    is_policy: bool,
}

impl Shelf {
    /// The place that a configuration names.
    pub fn of(config: &Config) -> Shelf {
        Shelf { state: config.state.clone(), folders: config.folders().to_vec() }
    }

    fn path(&self) -> PathBuf {
        self.state.join(FILE_NAME)
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| normal(&folder.path)).collect()
    }

    /// Writes a set in the place of the one before. A file that has changed since it was compiled is an
    /// error: the reload that follows keeps the new one.
    ///
    /// # Errors
    /// Why it was not written, in words.
    pub fn write(&self, files: &Files, outside: &[OutsideFile]) -> Result<(), String> {
        let folders = self.folders();
        let about = About {
            version: files.version().to_owned(),
            gatewright: env!("CARGO_PKG_VERSION").to_owned(),
            folders: folders.clone(),
        };
        let mut text = FORMAT.to_vec();
        text.extend(serde_json::to_vec(&about).map_err(|error| error.to_string())?);
        text.push(b'\n');
        let mut contents = 0;
        for (path, bytes, is_policy) in parts(files, outside)? {
            let inside =
                folders.iter().enumerate().find_map(|(at, folder)| Some((at, path.strip_prefix(folder).ok()?)));
            // What lies elsewhere is read from there.
            let Some((folder, name)) = inside else { continue };
            contents += bytes.len() as u64;
            if contents > KEPT_BYTES_MAX {
                return Err(format!("it is larger than {KEPT_BYTES_MAX} bytes"));
            }
            Part { folder, name, bytes: &bytes, is_policy }.write(&mut text);
        }
        let digest = Sha256::digest(&text);
        text.extend_from_slice(&digest);
        self.replace(&text).map_err(|error| format!("{}: {error}", self.path().display()))
    }

    /// Beside, to the disk, renamed over, the folder to the disk: at every moment one whole set is there.
    fn replace(&self, text: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.state)?;
        let new = self.state.join(format!("{FILE_NAME}.new"));
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Made new: a link that somebody put there is not followed.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&new, self.path())?;
        File::open(&self.state)?.sync_all()
    }

    /// The kept set; `None` where there never was one.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub fn read(&self) -> Result<Option<Kept>, String> {
        let words = |why: String| format!("{}: {why}", self.path().display());
        let Some(file) = open_own(&self.path()).map_err(words)? else { return Ok(None) };
        let mut text = Vec::new();
        let most = KEPT_BYTES_MAX + FRAME_BYTES_MAX;
        file.take(most + 1).read_to_end(&mut text).map_err(|error| words(error.to_string()))?;
        if text.len() as u64 > most {
            return Err(words(format!("it is larger than {most} bytes")));
        }
        self.parse(&text).map(Some).map_err(words)
    }

    fn parse(&self, text: &[u8]) -> Result<Kept, String> {
        let damaged = || "it is damaged: not all that was written is there".to_owned();
        let rest = text.strip_prefix(FORMAT).ok_or("it is no last good set of this format")?;
        let whole = text.len().checked_sub(DIGEST_BYTES).and_then(|end| text.split_at_checked(end));
        if whole.is_none_or(|(text, digest)| Sha256::digest(text)[..] != *digest) {
            return Err(damaged());
        }
        let rest = rest.get(..rest.len().saturating_sub(DIGEST_BYTES)).ok_or_else(damaged)?;
        let end = memchr::memchr(b'\n', rest).ok_or_else(damaged)?;
        let (about, mut rest) = rest.split_at_checked(end).ok_or_else(damaged)?;
        rest = rest.get(1..).ok_or_else(damaged)?;
        let about: About = serde_json::from_slice(about).map_err(|_| damaged())?;
        if about.folders != self.folders() {
            return Err("it is of other policies: their folders are not those of this gateway.yaml".to_owned());
        }
        let mut kept = Kept { files: Files::default(), outside: Arc::default(), about };
        let mut outside = BTreeMap::new();
        while !rest.is_empty() {
            let (part, behind) = Part::read(rest).ok_or_else(damaged)?;
            rest = behind;
            let folder = self.folders.get(part.folder).ok_or_else(damaged)?;
            let path = folder.path.join(part.name);
            match part.is_policy {
                true => {
                    let file = PolicyFile::new(&path, part.bytes.to_vec());
                    kept.files.list.push(file.within(part.folder, part.name));
                }
                false => drop(outside.insert(normal(&path), Bytes::copy_from_slice(part.bytes))),
            }
        }
        kept.outside = Arc::new(outside);
        if kept.files.version() != kept.about.version {
            return Err("its files are not those of its version".to_owned());
        }
        Ok(kept)
    }
}

/// Opens what nobody but us (or the administrator) can have written; `None` where nothing is there. What serves after
/// a restart decides who gets through, so that a file which others could have put there is no set of ours.
fn open_own(path: &Path) -> Result<Option<File>, String> {
    own_file::open(path, own_file::OTHERS_WRITE).map_err(|refused| match refused {
        Refused::Open(mode) => {
            format!("others may write it (mode {mode:04o}); it is written with mode {FILE_MODE:04o}")
        }
        Refused::Other(why) => why,
    })
}

/// A file with its absolute path, and whether it is one of the policies.
type Whole<'f> = (PathBuf, Cow<'f, [u8]>, bool);

/// All files of a set.
fn parts<'f>(files: &'f Files, outside: &'f [OutsideFile]) -> Result<Vec<Whole<'f>>, String> {
    let mut parts: Vec<Whole<'f>> =
        files.list.iter().map(|file| (normal(&file.path), (&*file.bytes).into(), true)).collect();
    let named = outside.iter().filter(|file| !file.is_secret && file.digest.is_some());
    let mut seen: HashSet<PathBuf> = parts.iter().map(|(path, ..)| path.clone()).collect();
    for file in named {
        if !seen.insert(file.path.clone()) {
            continue;
        }
        let bytes = regular_file::read(&file.path, KEPT_BYTES_MAX);
        let bytes = bytes.map_err(|why| format!("{}: {why}", file.path.display()))?;
        let digest: [u8; DIGEST_BYTES] = Sha256::digest(&bytes).into();
        if Some(digest) != file.digest {
            return Err(format!("{} has changed meanwhile", file.path.display()));
        }
        parts.push((file.path.clone(), bytes.into(), false));
    }
    Ok(parts)
}

impl<'p> Part<'p> {
    fn write(&self, text: &mut Vec<u8>) {
        use std::os::unix::ffi::OsStrExt;
        let name = self.name.as_os_str().as_bytes();
        text.push(u8::from(self.is_policy));
        text.push(u8::try_from(self.folder).unwrap_or(u8::MAX));
        text.extend_from_slice(&(name.len() as u64).to_le_bytes());
        text.extend_from_slice(name);
        text.extend_from_slice(&(self.bytes.len() as u64).to_le_bytes());
        text.extend_from_slice(self.bytes);
    }

    fn read(text: &'p [u8]) -> Option<(Part<'p>, &'p [u8])> {
        use std::os::unix::ffi::OsStrExt;
        let (head, rest) = text.split_at_checked(2)?;
        let (name, rest) = counted(rest)?;
        let (bytes, rest) = counted(rest)?;
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        // Nothing outside of the folder is ever meant, whoever wrote the file.
        let is_below = name.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let part = Part { folder: usize::from(*head.get(1)?), name, bytes, is_policy: *head.first()? == 1 };
        is_below.then_some((part, rest))
    }
}

/// Bytes behind their number.
fn counted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = text.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*count)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(name: &str) -> (PathBuf, Shelf) {
        let top = std::env::temp_dir().join(format!("gatewright-kept-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&top);
        std::fs::create_dir_all(top.join("policies")).unwrap();
        let folders = vec![Folder { path: top.join("policies"), optional: false }];
        (top.clone(), Shelf { state: top.join("a/state"), folders })
    }

    fn outside(path: &Path, bytes: &[u8], is_secret: bool) -> OutsideFile {
        std::fs::write(path, bytes).unwrap();
        OutsideFile { path: normal(path), digest: Some(Sha256::digest(bytes).into()), is_secret, state: None }
    }

    #[test]
    fn what_was_kept_comes_back_without_secrets() {
        let (top, shelf) = shelf("round");
        assert!(shelf.read().unwrap().is_none());
        std::fs::write(top.join("policies/a.yaml"), "service: a").unwrap();
        let files = Files::read(&shelf.folders);
        let named = [
            outside(&top.join("policies/words.txt"), b"one\n", false),
            outside(&top.join("policies/key"), b"canary", true),
            outside(&top.join("elsewhere.txt"), b"two\n", false),
        ];
        shelf.write(&files, &named).unwrap();
        let kept = shelf.read().unwrap().unwrap();
        assert_eq!(kept.about.version, files.version());
        assert_eq!(kept.files.list[0].name, files.list[0].name);
        let names: Vec<_> = kept.outside.keys().cloned().collect();
        assert_eq!(names, [top.join("policies/words.txt")]);
        let text = std::fs::read(shelf.path()).unwrap();
        assert!(memchr::memmem::find(&text, b"canary").is_none());
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&shelf.state), mode(&shelf.path())), (FOLDER_MODE, FILE_MODE));
        std::fs::write(top.join("policies/words.txt"), "three\n").unwrap();
        assert!(shelf.write(&files, &named).unwrap_err().contains("has changed meanwhile"));
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn a_damaged_or_foreign_set_is_refused_with_a_reason() {
        let (top, shelf) = shelf("damage");
        std::fs::write(top.join("policies/a.yaml"), "service: a").unwrap();
        shelf.write(&Files::read(&shelf.folders), &[]).unwrap();
        let whole = std::fs::read(shelf.path()).unwrap();
        for end in 0..whole.len() {
            assert!(shelf.parse(&whole[..end]).is_err(), "cut at {end}");
            let mut turned = whole.clone();
            turned[end] ^= 1;
            assert!(shelf.parse(&turned).is_err(), "bit of {end}");
        }
        assert!(shelf.parse(&whole).is_ok());
        let other = Shelf { folders: vec![Folder { path: top.join("others"), optional: false }], ..shelf.clone() };
        assert!(other.parse(&whole).err().unwrap().contains("other policies"));
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn what_others_could_have_written_is_no_set_of_ours() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let (top, shelf) = shelf("others");
        std::fs::write(top.join("policies/a.yaml"), "service: a").unwrap();
        let files = Files::read(&shelf.folders);
        let write = || shelf.write(&files, &[]).unwrap();
        let path = shelf.path();
        let mode = |mode: u32| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let why = || shelf.read().err().unwrap_or_else(|| panic!("it was read"));
        write();
        assert!(shelf.read().unwrap().is_some());
        for (bits, says) in [(0o620, "mode 0620"), (0o602, "mode 0602"), (0o666, "mode 0666")] {
            mode(bits);
            assert!(why().contains(says) && why().contains("others may write it"), "{}", why());
        }
        mode(0o644);
        assert!(shelf.read().unwrap().is_some(), "who may read it decides nothing");
        // The same bytes behind a link.
        std::fs::rename(&path, top.join("elsewhere")).unwrap();
        symlink(top.join("elsewhere"), &path).unwrap();
        assert!(why().contains("symbolic link"), "{}", why());
        write();
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file(), "the link is replaced, not followed");
        assert!(shelf.read().unwrap().is_some());
        // A pipe would be waited for.
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success() && why().contains("no regular file"), "{}", why());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(why().contains("no regular file"), "{}", why());
        std::fs::remove_dir(&path).unwrap();
        write();
        // Only the administrator can give a file away; to him every owner but himself is a stranger.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert!(why().contains("belongs to user 65534"), "{}", why());
        }
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn lengths_that_lie_and_names_that_climb_are_no_parts() {
        let mut part = Vec::new();
        Part { folder: 0, name: Path::new("../../etc/passwd"), bytes: b"x", is_policy: true }.write(&mut part);
        assert!(Part::read(&part).is_none());
        let lying = [&[1, 0][..], &u64::MAX.to_le_bytes(), b"x"].concat();
        assert!(Part::read(&lying).is_none());
    }
}
