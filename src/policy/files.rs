//! The files of a policy set, read as one unit.
//!
//! Names that begin with `.` are not entered (Kubernetes keeps old versions in `..data`), editors' backup
//! files are no `.yaml`, and a symbolic link may not lead out of its folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::source::{Diagnostic, Diagnostics, Sources, Span};

/// Files of one set, at most.
pub const FILES_MAX: usize = 100_000;
/// Folders below each other, at most.
const FOLDER_DEPTH_MAX: usize = 32;
/// Suffixes of policy files, and of the scripts that stand beside them.
const SUFFIXES: [&str; 3] = ["yaml", "yml", SCRIPT_SUFFIX];
/// Files of this suffix are code for `script` steps and hold no documents.
pub const SCRIPT_SUFFIX: &str = "rhai";

/// A folder whose files belong to the set.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    pub path: PathBuf,
    /// It may be missing.
    pub optional: bool,
}

/// One file as it was read.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// As it is shown to people.
    pub name: Arc<str>,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl PolicyFile {
    /// A file, shown to people by its path.
    pub fn new(path: PathBuf, bytes: Vec<u8>) -> PolicyFile {
        let name = path.to_string_lossy().into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).into();
        PolicyFile { name, path, bytes }
    }
}

/// All files of a set, sorted by name.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub list: Vec<PolicyFile>,
    /// What could not be read: message and cure.
    pub problems: Vec<(String, String)>,
}

/// A listing that tells whether anything changed, without reading contents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing(Vec<(PathBuf, u64, Option<std::time::SystemTime>, u64)>);

impl Files {
    /// Reads all files of the folders.
    pub fn read(folders: &[Folder]) -> Files {
        let mut files = Files::default();
        for (root, path) in files.find(folders) {
            match std::fs::read(&path) {
                Ok(bytes) => files.list.push(PolicyFile::new(path, bytes)),
                Err(error) => {
                    let cure = format!("make it readable for the gateway's user, or take it out of {}", root.display());
                    files.problems.push((format!("{}: cannot be read: {error}", path.display()), cure));
                }
            }
        }
        files
    }

    /// A set of one file that stands in memory, such as a tested example.
    pub fn of_text(name: &str, text: &str) -> Files {
        let file = PolicyFile { name: name.into(), path: name.into(), bytes: text.as_bytes().to_vec() };
        Files { list: vec![file], problems: Vec::new() }
    }

    /// What the folders hold now, to see whether something changed and whether it has settled.
    pub fn listing(folders: &[Folder]) -> Listing {
        let mut files = Files::default();
        let found = files.find(folders);
        let mut listing: Vec<_> = found
            .into_iter()
            .map(|(_, path)| match std::fs::metadata(&path) {
                Ok(meta) => {
                    #[cfg(unix)]
                    let inode = std::os::unix::fs::MetadataExt::ino(&meta);
                    #[cfg(not(unix))]
                    let inode = 0;
                    (path, meta.len(), meta.modified().ok(), inode)
                }
                Err(_) => (path, 0, None, 0),
            })
            .collect();
        listing.extend(files.problems.into_iter().map(|(problem, _)| (PathBuf::from(problem), 0, None, 0)));
        Listing(listing)
    }

    /// Hash of all names and contents, 16 hex digits.
    pub fn version(&self) -> String {
        let mut hasher = Sha256::new();
        for file in &self.list {
            hasher.update((file.name.len() as u64).to_le_bytes());
            hasher.update(file.name.as_bytes());
            hasher.update((file.bytes.len() as u64).to_le_bytes());
            hasher.update(&file.bytes);
        }
        data_encoding::HEXLOWER.encode(hasher.finalize().get(..8).unwrap_or_default())
    }

    fn find(&mut self, folders: &[Folder]) -> Vec<(PathBuf, PathBuf)> {
        let mut found = Vec::new();
        for folder in folders {
            if !folder.path.is_dir() {
                if !folder.optional {
                    let cure = "make the folder, or name another one in gateway.yaml: `policies:`".to_owned();
                    self.problems.push((format!("{}: there is no such folder", folder.path.display()), cure));
                }
                continue;
            }
            let root = folder.path.canonicalize().unwrap_or_else(|_| folder.path.clone());
            self.walk(&folder.path, &folder.path, &root, 0, &mut found);
        }
        found.sort();
        found
    }

    fn walk(&mut self, top: &Path, folder: &Path, root: &Path, depth: usize, found: &mut Vec<(PathBuf, PathBuf)>) {
        if depth > FOLDER_DEPTH_MAX || found.len() > FILES_MAX {
            let cure = format!("at most {FOLDER_DEPTH_MAX} folders below each other and {FILES_MAX} files are read");
            self.problems.push((format!("{}: too many folders or files", folder.display()), cure));
            return;
        }
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                let cure = "make it readable for the gateway's user".to_owned();
                self.problems.push((format!("{}: cannot be listed: {error}", folder.display()), cure));
                return;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let wanted = path.extension().and_then(|end| end.to_str()).is_some_and(|end| SUFFIXES.contains(&end));
            let is_folder = path.is_dir();
            if !wanted && !is_folder {
                continue;
            }
            // A link out of the folder could pull any file of the machine into a message.
            match path.canonicalize() {
                Ok(real) if real.starts_with(root) => {}
                Ok(real) => {
                    let cure = format!("copy the file into {}, or link below it", top.display());
                    self.problems.push((
                        format!("{}: the link leads out of the folder to {}", path.display(), real.display()),
                        cure,
                    ));
                    continue;
                }
                Err(error) => {
                    let cure = "remove the link or mend it".to_owned();
                    self.problems.push((format!("{}: cannot be followed: {error}", path.display()), cure));
                    continue;
                }
            }
            match is_folder {
                true => self.walk(top, &path, root, depth + 1, found),
                false => found.push((top.to_owned(), path)),
            }
        }
    }
}

/// Adds the files to the sources of a load; what is no UTF-8 is reported there.
pub fn add_to(files: &Files, sources: &mut Sources, diags: &mut Diagnostics) -> Vec<crate::source::FileId> {
    for (problem, cure) in &files.problems {
        diags.push(Diagnostic::error("policy.unreadable", Span::NOWHERE, problem.clone()).with_help(cure.clone()));
    }
    files.list.iter().filter_map(|file| sources.add_bytes(file.name.clone(), &file.bytes, diags)).collect()
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

    #[test]
    fn a_missing_folder_is_a_problem_unless_it_is_optional() {
        let missing = |optional| Files::read(&[Folder { path: "/nowhere/at/all".into(), optional }]).problems.len();
        assert_eq!((missing(false), missing(true)), (1, 0));
    }
}
