//! Certificates and keys out of PEM files (RFC 7468), with what is wrong with them in words.
//!
//! Files are read whole and bounded. What stands between the sections is skipped, as RFC 7468 §2 allows.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::regular_file;

/// Largest file of certificates or keys, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Permissions under which others than the owner and the group read a file.
const OTHERS_READ: u32 = 0o004;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    /// What was expected and what came.
    pub text: String,
}

impl Problem {
    pub(super) fn new(path: &Path, text: impl Into<String>) -> Problem {
        Problem { path: path.to_path_buf(), text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.path.display(), self.text)
    }
}

/// The bytes of a file; overwritten when they are dropped, because they may be a key.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = regular_file::open(path).map_err(|error| Problem::new(path, format!("it cannot be read: {error}")))?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let read = read.map_err(|error| Problem::new(path, format!("it cannot be read: {error}")))?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(Problem::new(path, format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// The library's own words show lines as lists of bytes.
fn said(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { .. } => {
            "it ends within a section, without its END line: it seems cut off".to_owned()
        }
        Error::IllegalSectionStart { .. } => "it is no PEM file: a BEGIN line is malformed".to_owned(),
        other => format!("it is no PEM file: {other}"),
    }
}

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, Error> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| Problem::new(path, said(&error)))?;
    if found.is_empty() {
        return Err(Problem::new(path, "a certificate in PEM form was expected, and there is none"));
    }
    Ok(found)
}

/// All revocation lists of a file, at least one.
pub(super) fn revocation_lists(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, Problem> {
    let found: Result<Vec<_>, Error> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| Problem::new(path, said(&error)))?;
    if found.is_empty() {
        return Err(Problem::new(path, "a revocation list in PEM form was expected, and there is none"));
    }
    Ok(found)
}

/// The first private key of a file.
pub(super) fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        Error::NoItemsFound => {
            Problem::new(path, "a private key in PEM form without a passphrase was expected, and there is none")
        }
        // The text of other errors may quote lines of the file.
        _ => Problem::new(path, "its PEM form is broken"),
    })
}

/// All certificates of a PEM text, at least one; the error says what was expected.
pub fn certificates_of(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates(Path::new(""), bytes).map_err(|problem| problem.text)
}

/// All revocation lists of a PEM text, at least one.
pub fn revocation_lists_of(bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    revocation_lists(Path::new(""), bytes).map_err(|problem| problem.text)
}

/// The first private key of a PEM text; the error says what was expected, and nothing of the text.
pub fn private_key_of(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    private_key(Path::new(""), bytes).map_err(|problem| problem.text)
}

/// Whether everybody on the machine may read a file.
pub fn is_readable_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & OTHERS_READ != 0)
}
