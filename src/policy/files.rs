//! The files of a policy set, read as one unit.
//!
//! Names that begin with `.` are not entered (Kubernetes keeps old versions in `..data`), editors' backup
//! files are no `.yaml`, and a symbolic link may not lead out of its folder. Each folder is read once, whatever links
//! lead to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::compile::outside::FileState;
use crate::regular_file;
use crate::source::{Diagnostic, Diagnostics, FILE_BYTES_MAX, Span};

/// Files of one set, at most.
pub const FILES_MAX: usize = 100_000;
/// Folders below each other, at most.
const FOLDER_DEPTH_MAX: usize = 32;
/// Suffixes of policy files, and of the scripts that stand beside them.
const SUFFIXES: [&str; 3] = ["yaml", "yml", SCRIPT_SUFFIX];
/// Files of this suffix are code for `script` steps and hold no documents.
const SCRIPT_SUFFIX: &str = "rhai";

/// Whether a file holds code for `script` steps and no documents.
pub fn is_script(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == SCRIPT_SUFFIX)
}

/// A folder whose files belong to the set.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    pub path: PathBuf,
    /// It may be missing.
    pub optional: bool,
}

/// One file as it was read.
#[derive(Clone)]
pub struct PolicyFile {
    /// As it is shown to people.
    pub name: Arc<str>,
    pub path: Arc<Path>,
    /// Which of the folders it is in, and its name there: the same however the folder is spelled.
    within: (usize, Arc<Path>),
    /// The contents. Of a file that is too large to be read only so much that this shows.
    pub bytes: Bytes,
    /// SHA-256 of `bytes`.
    pub digest: [u8; 32],
    /// How it was before it was read; `None` where that does not tell whether it has changed.
    state: Option<FileState>,
}

impl PolicyFile {
    /// A file, shown to people by its path.
    pub fn new(path: &Path, bytes: impl Into<Bytes>) -> PolicyFile {
        let (name, bytes) = (path.to_string_lossy(), bytes.into());
        let digest = Sha256::digest(&bytes).into();
        let name = name.strip_prefix("./").unwrap_or(&name).into();
        PolicyFile { name, path: path.into(), within: (0, path.into()), bytes, digest, state: None }
    }

    /// The same, as the file of this name in a folder of the set.
    pub fn within(self, folder: usize, name: &Path) -> PolicyFile {
        PolicyFile { within: (folder, name.into()), ..self }
    }
}

impl fmt::Debug for PolicyFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({} bytes)", self.name, self.bytes.len())
    }
}

/// All files of a set, sorted by name.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub list: Vec<PolicyFile>,
    /// What could not be read: message and cure.
    pub problems: Vec<(String, String)>,
    /// What the folders held just before it was read.
    pub listing: Listing,
    /// Made when it is first asked for; the list does not change after that.
    version: OnceLock<String>,
}

/// A listing that tells whether anything changed, without reading contents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing(Vec<(OsString, Option<FileState>)>);

/// A file that was found in a folder.
struct Found {
    folder: usize,
    top: PathBuf,
    path: PathBuf,
    /// Absent where it cannot be looked at: reading it says why.
    state: Option<FileState>,
}

/// A folder on the way.
struct Place {
    path: PathBuf,
    /// Without links.
    real: PathBuf,
    /// How many folders it lies below.
    depth: usize,
}

/// What a walk through folders has found so far.
#[derive(Default)]
struct Walk {
    found: Vec<Found>,
    /// Folders that were entered, by their real paths: each is read once, or two links to the same folder would double
    /// it on every level.
    seen: HashSet<PathBuf>,
    /// Links to folders, which come after all that is no link: where they lead and how deep.
    linked: BTreeMap<PathBuf, (PathBuf, usize)>,
}

impl Files {
    /// Reads all files of the folders.
    pub fn read(folders: &[Folder]) -> Files {
        Files::read_again(folders, &Files::default())
    }

    /// The same, where files that have not changed since an earlier time are taken from there.
    pub fn read_again(folders: &[Folder], before: &Files) -> Files {
        let mut files = Files::default();
        let begun = SystemTime::now();
        let known: HashMap<&OsStr, &PolicyFile> =
            before.list.iter().map(|file| (file.path.as_os_str(), file)).collect();
        let found = files.find(folders);
        // As whoever only looks has it: what cannot be read is told by reading.
        let listed = files.problems.clone();
        for Found { folder, top, path, state } in &found {
            let same = known.get(path.as_os_str()).filter(|known| known.state.is_some() && known.state == *state);
            if let Some(same) = same {
                files.list.push(PolicyFile::clone(same));
                continue;
            }
            match regular_file::read_start(path, FILE_BYTES_MAX as u64 + 1) {
                Ok(bytes) => {
                    let state = state.filter(|state| state.is_settled(begun));
                    let name = path.strip_prefix(top).unwrap_or(path);
                    files.list.push(PolicyFile { state, ..PolicyFile::new(path, bytes).within(*folder, name) });
                }
                Err(error) => {
                    let cure =
                        format!("make it a file that the gateway's user can read, or take it out of {}", top.display());
                    files.problems.push((format!("{}: cannot be read: {error}", path.display()), cure));
                }
            }
        }
        files.listing = listing(found, &listed);
        files
    }

    /// A set of files that were read, sorted by name.
    pub fn of(list: Vec<PolicyFile>) -> Files {
        Files { list, ..Files::default() }
    }

    /// A set of one file that stands in memory, such as a tested example.
    pub fn of_text(name: &str, text: &str) -> Files {
        Files::of(vec![PolicyFile::new(Path::new(name), text.as_bytes().to_vec())])
    }

    /// What the folders hold now, to see whether something changed and whether it has settled.
    pub fn listing(folders: &[Folder]) -> Listing {
        let mut files = Files::default();
        let found = files.find(folders);
        listing(found, &files.problems)
    }

    /// Hash of all names and contents, 16 hex digits; wherever the folders lie, and however they are spelled.
    pub fn version(&self) -> &str {
        self.version.get_or_init(|| {
            let mut all: Vec<_> = self.list.iter().map(|file| (&file.within, file.digest)).collect();
            all.sort_unstable_by(|one, other| one.0.cmp(other.0));
            let mut hasher = Sha256::new();
            for ((folder, name), digest) in all {
                let name = name.as_os_str().as_encoded_bytes();
                hasher.update((*folder as u64).to_le_bytes());
                hasher.update((name.len() as u64).to_le_bytes());
                hasher.update(name);
                hasher.update(digest);
            }
            data_encoding::HEXLOWER.encode(hasher.finalize().get(..8).unwrap_or_default())
        })
    }

    fn find(&mut self, folders: &[Folder]) -> Vec<Found> {
        let mut walk = Walk::default();
        for (index, folder) in folders.iter().enumerate() {
            if !folder.path.is_dir() {
                if !folder.optional {
                    let cure = "make the folder, or name another one in gateway.yaml: `policies:`".to_owned();
                    self.problems.push((format!("{}: there is no such folder", folder.path.display()), cure));
                }
                continue;
            }
            let root = folder.path.canonicalize().unwrap_or_else(|_| folder.path.clone());
            let before = walk.found.len();
            self.walk(
                &folder.path,
                &root,
                Place { path: folder.path.clone(), real: root.clone(), depth: 0 },
                &mut walk,
            );
            // Links come last and in order: files have the same names whatever the order of a listing.
            while let Some((path, (real, depth))) = walk.linked.pop_first() {
                self.walk(&folder.path, &root, Place { path, real, depth }, &mut walk);
            }
            walk.found.iter_mut().skip(before).for_each(|found| found.folder = index);
        }
        let mut found = walk.found;
        // As bytes: comparing paths part by part takes longer than all else here.
        found.sort_by(|one, other| one.path.as_os_str().cmp(other.path.as_os_str()));
        found
    }

    fn walk(&mut self, top: &Path, root: &Path, place: Place, walk: &mut Walk) {
        let Place { path: folder, real, depth } = place;
        if depth > FOLDER_DEPTH_MAX || walk.found.len() > FILES_MAX {
            let cure = format!("at most {FOLDER_DEPTH_MAX} folders below each other and {FILES_MAX} files are read");
            self.problems.push((format!("{}: too many folders or files", folder.display()), cure));
            return;
        }
        if !walk.seen.insert(real.clone()) {
            return;
        }
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let cure = "make it readable for the gateway's user".to_owned();
                self.problems.push((format!("{}: cannot be listed: {error}", folder.display()), cure));
                return;
            }
        };
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let kind = entry.file_type().ok();
            let is_link = kind.is_none_or(|kind| kind.is_symlink());
            let is_folder = if is_link { path.is_dir() } else { kind.is_some_and(|kind| kind.is_dir()) };
            let wanted = path.extension().and_then(|end| end.to_str()).is_some_and(|end| SUFFIXES.contains(&end));
            if !(wanted || is_folder) {
                continue;
            }
            // Only a link can lead out of a folder that was found within.
            let linked = if is_link { self.within(top, &path, root) } else { Some(PathBuf::new()) };
            match linked {
                None => {}
                Some(linked) if is_folder && is_link => drop(walk.linked.insert(path, (linked, depth + 1))),
                Some(_) if is_folder => {
                    let real = real.join(entry.file_name());
                    self.walk(top, root, Place { path, real, depth: depth + 1 }, walk);
                }
                Some(_) => {
                    let meta = if is_link { std::fs::metadata(&path) } else { entry.metadata() };
                    let state = meta.ok().map(|meta| FileState::of(&meta));
                    walk.found.push(Found { folder: 0, top: top.to_owned(), path, state });
                }
            }
        }
    }

    /// A link out of the folder could pull any file of the machine into a message.
    fn within(&mut self, top: &Path, path: &Path, root: &Path) -> Option<PathBuf> {
        let (problem, cure) = match path.canonicalize() {
            Ok(real) if real.starts_with(root) => return Some(real),
            Ok(real) => (
                format!("{}: the link leads out of the folder to {}", path.display(), real.display()),
                format!("copy the file into {}, or link below it", top.display()),
            ),
            Err(error) => {
                (format!("{}: cannot be followed: {error}", path.display()), "remove the link or mend it".to_owned())
            }
        };
        self.problems.push((problem, cure));
        None
    }
}

fn listing(found: Vec<Found>, problems: &[(String, String)]) -> Listing {
    let problems = problems.iter().map(|(problem, _)| (OsString::from(problem), None));
    Listing(found.into_iter().map(|found| (found.path.into_os_string(), found.state)).chain(problems).collect())
}

/// What could not be read.
pub fn report(files: &Files, diags: &mut Diagnostics) {
    for (problem, cure) in &files.problems {
        diags.push(Diagnostic::error("policy.unreadable", Span::NOWHERE, problem.clone()).with_help(cure.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gatewright-files-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        folder
    }

    #[test]
    fn files_are_found_below_and_the_version_follows_their_contents() {
        let path = folder("version");
        for name in ["a.yaml", "sub/b.yml", ".hidden.yaml", "notes.md", "c.yaml~"] {
            std::fs::write(path.join(name), name).unwrap();
        }
        let folders = [Folder { path: path.clone(), optional: false }];
        let files = Files::read(&folders);
        assert_eq!(files.list.len(), 2, "{files:?}");
        assert!(files.problems.is_empty());
        let (before, listing) = (files.version(), Files::listing(&folders));
        std::fs::write(path.join("a.yaml"), "changed").unwrap();
        assert_ne!(Files::read(&folders).version(), before);
        assert_ne!(Files::listing(&folders), listing);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_is_refused_and_one_within_is_not() {
        let path = folder("links");
        std::fs::write(path.join("sub/real.yaml"), "x").unwrap();
        std::os::unix::fs::symlink(path.join("sub/real.yaml"), path.join("inside.yaml")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", path.join("outside.yaml")).unwrap();
        let files = Files::read(&[Folder { path: path.clone(), optional: false }]);
        assert_eq!(files.list.len(), 2);
        assert_eq!(files.problems.len(), 1);
        assert!(files.problems[0].0.contains("leads out of the folder"), "{:?}", files.problems);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_a_problem_and_nobody_waits_for_it() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        let path = folder("pipe");
        std::fs::write(path.join("sub/real.yaml"), "x").unwrap();
        mkfifoat(CWD, path.join("pipe.yaml"), Mode::RUSR | Mode::WUSR).unwrap();
        let folders = [Folder { path: path.clone(), optional: false }];
        let files = Files::read(&folders);
        assert_eq!((files.list.len(), files.problems.len()), (1, 1), "{:?}", files.problems);
        assert!(files.problems[0].0.contains("pipe.yaml: cannot be read: it is a pipe"), "{:?}", files.problems);
        assert_eq!(Files::listing(&folders), files.listing, "the folders are at rest all the same");
        std::fs::remove_file(path.join("pipe.yaml")).unwrap();
        assert!(Files::read_again(&folders, &files).problems.is_empty());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn no_more_of_a_file_is_read_than_tells_that_it_is_too_large() {
        let path = folder("sparse");
        std::fs::File::create(path.join("sparse.yaml")).unwrap().set_len(1 << 33).unwrap();
        let files = Files::read(&[Folder { path: path.clone(), optional: false }]);
        assert_eq!(files.list[0].bytes.len(), FILE_BYTES_MAX + 1);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn each_folder_is_read_once_whatever_links_lead_to_it() {
        use std::os::unix::fs::symlink;
        let path = folder("circles");
        std::fs::create_dir_all(path.join(".kept/deep")).unwrap();
        for name in ["a.yaml", "sub/b.yaml", ".kept/deep/c.yaml"] {
            std::fs::write(path.join(name), name).unwrap();
        }
        for (to, name) in [(".", "l1"), (".", "l2"), ("..", "sub/up"), ("sub", "again"), (".kept", "kept")] {
            symlink(to, path.join(name)).unwrap();
        }
        let files = Files::read(&[Folder { path: path.clone(), optional: false }]);
        let found: Vec<_> = files.list.iter().map(|file| file.path.strip_prefix(&path).unwrap().to_owned()).collect();
        assert_eq!(found, ["a.yaml", "kept/deep/c.yaml", "sub/b.yaml"].map(PathBuf::from), "{:?}", files.problems);
        assert!(files.problems.is_empty(), "{:?}", files.problems);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_told_and_at_rest() {
        let path = folder("unreadable");
        let _socket = std::os::unix::net::UnixListener::bind(path.join("s.yaml")).unwrap(); // nobody can read one
        let folders = [Folder { path: path.clone(), optional: false }];
        let files = Files::read(&folders);
        assert!(files.problems[0].0.contains("s.yaml: cannot be read"), "{:?}", files.problems);
        assert_eq!(files.listing, Files::listing(&folders));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_version_is_the_same_however_folders_are_spelled() {
        let path = folder("spelled");
        std::fs::write(path.join("a.yaml"), "x").unwrap();
        std::fs::write(path.join("sub/a.yaml"), "y").unwrap();
        let version = |path: PathBuf| Files::read(&[Folder { path, optional: false }]).version().to_owned();
        let first = version(path.clone());
        assert_eq!(version(path.join("sub/..")), first);
        std::fs::rename(path.join("sub/a.yaml"), path.join("sub/b.yaml")).unwrap();
        assert_ne!(version(path.clone()), first);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_missing_folder_is_a_problem_unless_it_is_optional() {
        let missing = |optional| Files::read(&[Folder { path: "/nowhere/at/all".into(), optional }]).problems.len();
        assert_eq!((missing(false), missing(true)), (1, 0));
    }
}
