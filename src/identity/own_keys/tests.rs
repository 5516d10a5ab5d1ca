//! Keys through their lives, and their file through its damages.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Map;

use super::*;
use crate::clock::Frozen;
use crate::jose::{Algorithms, Compact};

const DAY_S: i64 = 24 * 60 * 60;
const ROTATE: Option<i64> = Some(90 * DAY_S);
const BEGIN_S: i64 = 1_772_366_400;

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gatewright-own-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Folder(std::env::temp_dir().join(name).join("signing"))
    }

    /// What a process does that starts.
    fn open(&self, now_s: i64) -> Result<Arc<OwnKey>, String> {
        let all = OwnKeys::default();
        all.keep_in(self.0.clone());
        all.of("ours", Algorithm::Es256, now_s)
    }

    fn file(&self) -> PathBuf {
        self.0.join("ours.ES256.key")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn signing(key: &OwnKey) -> Arc<SigningKey> {
    key.signing(&Clock::system(), ROTATE).unwrap()
}

fn kids(keys: &KeySet) -> Vec<String> {
    keys.keys().iter().map(|key| key.kid().unwrap().to_owned()).collect()
}

fn token(key: &OwnKey) -> String {
    signing(key).sign(Algorithm::Es256, Map::new(), b"{}").unwrap()
}

fn counts(key: &OwnKey, token: &str) -> bool {
    key.verifying().unwrap().verify(&Compact::parse(token).unwrap(), Algorithms::all()).is_ok()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_key_is_made_once_and_outlives_the_process() {
    let folder = Folder::new();
    let first = folder.open(BEGIN_S).unwrap();
    let kid = signing(&first).kid().to_owned();
    assert_eq!((mode(&folder.0), mode(&folder.file())), (0o700, 0o600));
    assert_eq!(signing(&first).algorithms().to_string(), "ES256");
    let second = folder.open(BEGIN_S + 1).unwrap();
    assert_eq!(signing(&second).kid(), kid);
    assert!(counts(&second, &token(&first)));
    assert_eq!(second.standing().unwrap().since_s, BEGIN_S);
    // Two loads of one process share it; two names and two algorithms do not.
    let all = OwnKeys::default();
    all.keep_in(folder.0.clone());
    let [one, other] = [0, 1].map(|_| all.of("ours", Algorithm::Es256, BEGIN_S).unwrap());
    assert!(Arc::ptr_eq(&one, &other));
    assert_ne!(signing(&all.of("theirs", Algorithm::Es256, BEGIN_S).unwrap()).kid(), kid);
    let edwards = all.of("ours", Algorithm::EdDsa, BEGIN_S).unwrap();
    assert_eq!(signing(&edwards).algorithms().to_string(), "EdDSA");
    assert!(!format!("{one:?} {all:?}").contains(&kid));
}

#[test]
fn who_only_looks_leaves_nothing_behind() {
    let all = OwnKeys::default();
    let key = all.of("ours", Algorithm::Es256, BEGIN_S).unwrap();
    assert!(key.standing().is_none(), "made when it is asked for");
    assert_eq!(signing(&key).kid(), signing(&key).kid());
    assert!(counts(&key, &token(&key)));
    assert!(!key.advance(BEGIN_S + 1000 * DAY_S, ROTATE).unwrap());
}

#[test]
fn a_key_is_published_before_it_signs_and_after_it_has_signed() {
    let folder = Folder::new();
    let key = folder.open(BEGIN_S).unwrap();
    let old = signing(&key).kid().to_owned();
    let early = token(&key);
    let turn_s = BEGIN_S + 90 * DAY_S;
    assert!(!key.advance(turn_s - AHEAD_S - 1, ROTATE).unwrap());
    assert_eq!(kids(&key.verifying().unwrap()), [&*old]);
    assert_eq!(key.due_in_s(turn_s - AHEAD_S - 1, ROTATE), Some(1));
    assert!(!key.advance(turn_s - AHEAD_S, ROTATE).unwrap(), "published, and the old one still signs");
    let published = kids(&key.verifying().unwrap());
    assert_eq!((published.len(), signing(&key).kid()), (2, &*old));
    // A restart between the two finds the one that was published.
    let key = folder.open(turn_s - 1).unwrap();
    assert!(!key.advance(turn_s - 1, ROTATE).unwrap());
    assert!(key.advance(turn_s, ROTATE).unwrap());
    assert_eq!(signing(&key).kid(), published[1]);
    let late = token(&key);
    assert_eq!(kids(&key.verifying().unwrap()), [&*published[1], &*old]);
    assert!(counts(&key, &early) && counts(&key, &late));
    let kept = std::fs::read_to_string(folder.file()).unwrap();
    assert_eq!(kept.matches("pkcs8").count(), 1, "of the old one nothing can sign any more");
    // A restart after it, up to the last second.
    let key = folder.open(turn_s + DAY_S - 1).unwrap();
    assert!(!key.advance(turn_s + DAY_S - 1, ROTATE).unwrap());
    assert!(counts(&key, &early));
    key.advance(turn_s + DAY_S, ROTATE).unwrap();
    assert!(!counts(&key, &early) && counts(&key, &late));
    assert_eq!(kids(&key.verifying().unwrap()), [&*published[1]]);
}

#[test]
fn a_key_that_is_long_overdue_is_still_published_ahead_of_the_next() {
    let folder = Folder::new();
    let key = folder.open(BEGIN_S).unwrap();
    let now_s = BEGIN_S + 1000 * DAY_S;
    assert!(!key.advance(now_s, ROTATE).unwrap());
    assert!(!key.advance(now_s + AHEAD_S - 1, ROTATE).unwrap());
    assert!(key.advance(now_s + AHEAD_S, ROTATE).unwrap());
    assert_eq!(key.verifying().unwrap().keys().len(), 2);
    assert_eq!(key.standing().unwrap().since_s, now_s + AHEAD_S);
}

#[test]
fn without_an_age_a_key_signs_for_ever() {
    let folder = Folder::new();
    let key = folder.open(BEGIN_S).unwrap();
    assert!(!key.advance(i64::MAX, None).unwrap());
    assert_eq!((key.due_in_s(BEGIN_S, None), key.verifying().unwrap().keys().len()), (None, 1));
}

#[test]
fn a_clock_that_is_set_back_changes_nothing() {
    let folder = Folder::new();
    let key = folder.open(BEGIN_S).unwrap();
    let turn_s = BEGIN_S + 90 * DAY_S;
    key.advance(turn_s - AHEAD_S, ROTATE).unwrap();
    key.advance(turn_s, ROTATE).unwrap();
    let before = (std::fs::read(folder.file()).unwrap(), kids(&key.verifying().unwrap()));
    for now_s in [turn_s - 1, BEGIN_S, 0, i64::MIN] {
        assert!(!key.advance(now_s, ROTATE).unwrap());
        let again = folder.open(now_s).unwrap();
        assert!(!again.advance(now_s, ROTATE).unwrap());
        assert_eq!((std::fs::read(folder.file()).unwrap(), kids(&again.verifying().unwrap())), before, "{now_s}");
    }
}

#[test]
fn the_keys_stay_few_whatever_the_clock_does() {
    let folder = Folder::new();
    let key = folder.open(BEGIN_S).unwrap();
    let rotate = Some(*ROTATE_S.start());
    for step in 0..200 {
        // Forward by half an hour, and every tenth time back by a day: nothing becomes old.
        let now_s = BEGIN_S + step * 30 * 60 - if step % 10 == 9 { DAY_S } else { 0 };
        key.advance(now_s, rotate).unwrap();
        assert!(key.verifying().unwrap().keys().len() <= ring::FORMER_MAX + 2);
    }
    assert!(key.verifying().unwrap().keys().len() > 10);
    assert!(folder.open(BEGIN_S).is_ok(), "all of them fit into the file");
}

#[test]
fn a_damaged_file_is_told_of_and_never_written_over() {
    let folder = Folder::new();
    folder.open(BEGIN_S).unwrap();
    let good = std::fs::read(folder.file()).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..good.len()).step_by(37).map(|length| good[..length].to_vec()).collect();
    damaged.extend((0..good.len() - 1).step_by(29).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    }));
    damaged.extend([vec![0; 64 * 1024 + 1], vec![0xff; 9]]);
    for bytes in damaged {
        std::fs::write(folder.file(), &bytes).unwrap();
        let told = folder.open(BEGIN_S).unwrap_err();
        assert!(told.contains("ours.ES256.key") && told.contains("restore it from a backup, or remove it"), "{told}");
        assert!(!told.contains("pkcs8"), "{told}");
        assert_eq!(std::fs::read(folder.file()).unwrap(), bytes);
    }
    std::fs::write(folder.file(), &good).unwrap();
    assert!(folder.open(BEGIN_S).is_ok());
}

#[test]
fn a_file_that_others_can_use_or_that_is_another_key_is_none_of_ours() {
    let folder = Folder::new();
    folder.open(BEGIN_S).unwrap();
    for open in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(folder.file(), std::fs::Permissions::from_mode(open)).unwrap();
        assert!(folder.open(BEGIN_S).unwrap_err().contains("`chmod 600`"), "{open:o}");
    }
    std::fs::set_permissions(folder.file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let all = OwnKeys::default();
    all.keep_in(folder.0.clone());
    std::fs::copy(folder.file(), folder.0.join("theirs.ES256.key")).unwrap();
    assert!(all.of("theirs", Algorithm::Es256, BEGIN_S).unwrap_err().contains("key of `ours`"));
    std::fs::rename(folder.file(), folder.0.join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", folder.file()).unwrap();
    assert!(folder.open(BEGIN_S).unwrap_err().contains("symbolic link"));
}

#[test]
fn a_file_that_is_damaged_while_we_serve_stops_the_exchange_and_not_the_signing() {
    let folder = Folder::new();
    let key = folder.open(BEGIN_S).unwrap();
    let kid = signing(&key).kid().to_owned();
    std::fs::write(folder.file(), "x").unwrap();
    let told = key.advance(BEGIN_S + 91 * DAY_S, ROTATE).unwrap_err();
    assert_eq!(key.standing().unwrap().last_error.as_ref(), Some(&told));
    assert_eq!((signing(&key).kid(), &*std::fs::read(folder.file()).unwrap()), (&*kid, &b"x"[..]));
    // Removed as the message says, it comes back with the key that serves.
    std::fs::remove_file(folder.file()).unwrap();
    key.advance(BEGIN_S + 91 * DAY_S, ROTATE).unwrap();
    assert_eq!(key.standing().unwrap().last_error, None);
    assert_eq!(signing(&folder.open(BEGIN_S).unwrap()).kid(), kid);
}

#[test]
fn processes_that_share_a_folder_share_the_exchange() {
    let folder = Folder::new();
    let [one, other] = [0, 1].map(|_| folder.open(BEGIN_S).unwrap());
    let turn_s = BEGIN_S + 90 * DAY_S;
    for now_s in [turn_s - AHEAD_S, turn_s] {
        assert_eq!(one.advance(now_s, ROTATE).unwrap(), other.advance(now_s, ROTATE).unwrap());
        assert_eq!(kids(&one.verifying().unwrap()), kids(&other.verifying().unwrap()));
    }
    assert_eq!(signing(&one).kid(), signing(&other).kid());
    // And of many that start at once one makes the key.
    let fresh = Folder::new();
    let kids = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(|| signing(&fresh.open(BEGIN_S).unwrap()).kid().to_owned())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(kids.iter().all(|kid| *kid == kids[0]), "{kids:?}");
}

#[test]
fn in_a_policy_test_the_time_says_which_key_signs() {
    let first = Arc::new(SigningKey::generate(Algorithm::Es256).unwrap());
    let key = OwnKey::given("ours", Algorithm::Es256, first.clone());
    let frozen = Frozen::at("2026-03-01T12:00:00Z".parse().unwrap());
    let clock = Clock::Frozen(frozen.clone());
    let at = |days: u64, more_s: u64| {
        let frozen = Frozen::at("2026-03-01T12:00:00Z".parse().unwrap());
        frozen.advance(std::time::Duration::from_secs(days * DAY_S as u64 + more_s));
        Clock::Frozen(frozen)
    };
    let signs = |clock: &Clock| key.signing(clock, ROTATE).unwrap().kid().to_owned();
    let published = |clock: &Clock| key.published(clock, ROTATE).unwrap().keys().len();
    assert_eq!((signs(&clock), published(&clock)), (first.kid().to_owned(), 1));
    assert_eq!((signs(&at(89, 83_000)), published(&at(89, 83_000))), (first.kid().to_owned(), 2));
    assert_ne!(signs(&at(90, 0)), first.kid());
    assert_eq!((signs(&at(90, 0)), published(&at(90, 0))), (signs(&at(179, 0)), 2));
    assert_eq!(published(&at(91, 0)), 1);
    assert_eq!(key.verifying().unwrap().keys().len(), 2);
    assert_eq!(key.signing(&at(3000, 0), None).unwrap().kid(), first.kid());
    assert_eq!(signs(&clock), first.kid(), "another case begins anew");
}
