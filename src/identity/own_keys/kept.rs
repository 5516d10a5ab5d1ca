//! Keys of our own on disk, so that a restart signs with the same key.
//!
//! One file per name and algorithm below `state/signing`, written beside, put through to the disk and renamed over: a
//! crash at any moment leaves the old one or the new one. Folder and file are for the gateway's user alone; a file that
//! others can read, that is damaged, or of another key is never used and never written over. Of keys that sign no more
//! only the public half is kept. Processes that share the folder take turns.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::OwnKey;
use super::ring::{Former, Made, Ring};
use crate::jose::{Algorithm, SigningKey, parse_jwk};
use crate::own_file::{self, Refused};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Largest file, in bytes: some RSA keys and their forerunners.
const FILE_BYTES_MAX: usize = 64 * 1024;
/// First line of the file. Another format begins with another line.
const FORMAT: &str = "gatewright: keys that sign, format 1\n";
/// Name of the file by which processes take turns.
const LOCK_NAME: &str = "lock";

/// Where the keys of one name and algorithm are kept.
#[derive(Clone, Debug)]
pub(super) struct Place {
    folder: PathBuf,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptRing<'k> {
    key: &'k str,
    algorithm: &'k str,
    #[serde(borrow)]
    current: KeptMade<'k>,
    #[serde(borrow)]
    next: Option<KeptMade<'k>>,
    former: Vec<KeptFormer>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptMade<'k> {
    since: i64,
    pkcs8: &'k str,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptFormer {
    ended: i64,
    jwk: Json,
}

impl Place {
    pub fn of(folder: &Path, name: &str, algorithm: Algorithm) -> Place {
        // Names of documents hold no slash.
        Place { folder: folder.to_owned(), path: folder.join(format!("{name}.{algorithm}.key")) }
    }

    /// Reads what is kept, lets it be changed, and keeps what came of it; nobody else does meanwhile. What is kept
    /// already is not written again.
    ///
    /// # Errors
    /// With the file, and what to do.
    pub fn change(
        &self,
        key: &OwnKey,
        change: impl FnOnce(Option<Arc<Ring>>) -> Result<Option<Arc<Ring>>, String>,
    ) -> Result<Option<Arc<Ring>>, String> {
        let unkept = |error: io::Error| {
            format!("{}: {error}; let the gateway's user write there, or name another `state:`", self.path.display())
        };
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.folder).map_err(unkept)?;
        let lock = self.folder.join(LOCK_NAME);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(lock);
        let lock = lock.map_err(unkept)?;
        lock.lock().map_err(unkept)?; // given back where it goes out of scope
        let kept = self.read(key).map_err(|why| {
            let cure = "restore it from a backup, or remove it: then a new key is made, and tokens of the old one count no more";
            format!("{}: {why}; {cure}", self.path.display())
        })?;
        let changed = change(kept.clone())?;
        if let Some(ring) = &changed
            && !kept.is_some_and(|kept| Arc::ptr_eq(&kept, ring))
        {
            self.write(key, ring).map_err(unkept)?;
        }
        Ok(changed)
    }

    fn read(&self, key: &OwnKey) -> Result<Option<Arc<Ring>>, String> {
        let Some(file) = open_own(&self.path)? else { return Ok(None) };
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
        file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(&bytes).map_err(|_| "it is damaged".to_owned())?;
        let rest = text.strip_prefix(FORMAT).ok_or("it is damaged, or was written by another version")?;
        let (json, digest) = rest.trim_end_matches('\n').rsplit_once('\n').ok_or("it is cut off")?;
        if digest != HEXLOWER.encode(&Sha256::digest(json)) {
            return Err("it is damaged: its digest is another".to_owned());
        }
        let kept: KeptRing<'_> = serde_json::from_str(json).map_err(|_| "it is damaged".to_owned())?;
        if kept.key != key.name() || kept.algorithm != key.algorithm().word() {
            return Err(format!("it holds a key of `{}` for {}", kept.key, kept.algorithm));
        }
        let made = |kept: &KeptMade<'_>| {
            let der = Zeroizing::new(BASE64.decode(kept.pkcs8.as_bytes()).map_err(|_| "it is damaged".to_owned())?);
            let signing = SigningKey::from_der(&der)?.only([key.algorithm()].as_slice().into())?;
            Ok::<_, String>(Made { key: Arc::new(signing), since_s: kept.since })
        };
        let former = kept
            .former
            .iter()
            .map(|former| Ok::<_, String>(Former { key: Arc::new(parse_jwk(&former.jwk)?), ended_s: former.ended }));
        let next = kept.next.as_ref().map(made).transpose()?;
        let ring = Ring::of(made(&kept.current)?, next, former.collect::<Result<_, _>>()?)?;
        Ok(Some(Arc::new(ring)))
    }

    fn write(&self, key: &OwnKey, ring: &Ring) -> io::Result<()> {
        let pkcs8 = |made: &Made| {
            let der = made.key.to_pkcs8().ok_or_else(|| io::Error::other("the key cannot be written"))?;
            Ok::<_, io::Error>(Zeroizing::new(BASE64.encode(&der)))
        };
        let current = pkcs8(&ring.current)?;
        let next = ring.next.as_ref().map(pkcs8).transpose()?;
        let next = ring.next.as_ref().zip(next.as_ref());
        let former = ring
            .former
            .iter()
            .filter_map(|former| Some(KeptFormer { ended: former.ended_s, jwk: former.key.to_public_jwk()? }));
        let kept = KeptRing {
            key: key.name(),
            algorithm: key.algorithm().word(),
            current: KeptMade { since: ring.current.since_s, pkcs8: &current },
            next: next.map(|(made, pkcs8)| KeptMade { since: made.since_s, pkcs8 }),
            former: former.collect(),
        };
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
        text.extend_from_slice(FORMAT.as_bytes());
        serde_json::to_writer(&mut *text, &kept)?;
        let digest = HEXLOWER.encode(&Sha256::digest(text.get(FORMAT.len()..).unwrap_or_default()));
        text.extend_from_slice(format!("\n{digest}\n").as_bytes());
        let new = self.path.with_extension("new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {} // what a crash has left
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        File::open(&self.folder)?.sync_all()
    }
}

/// Opens a file that nobody but us (or the administrator) can have read or written; `None` where nothing is there.
fn open_own(path: &Path) -> Result<Option<File>, String> {
    own_file::open(path, own_file::OTHERS).map_err(|refused| match refused {
        Refused::Open(mode) => {
            format!("others may use it (mode {mode:04o}): `chmod 600` it where nobody can have copied the key")
        }
        Refused::Other(why) => why,
    })
}
