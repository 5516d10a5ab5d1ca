//! A local directory of users for HTTP Basic (RFC 7617).
//!
//! A check is split in three so that no request worker hashes: [`Users::begin`] answers at once where it can, else gives
//! a [`HashJob`] for the pool, and [`Users::finish`] turns the job's outcome into the answer. Unknown and disabled names
//! take the same way and the same work as a wrong password. What it does not do: it reads no YAML, does not parse the
//! header field, and applies no PRECIS profile (RFC 8265): names compare by their bytes, or by their lower case.

pub mod htpasswd;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use zeroize::Zeroizing;

use super::Identity;
use super::password::CostClass;
use super::password::PASSWORD_BYTES_MAX;
use super::password::PasswordHash;
use super::throttle::Throttle;
use crate::secret::keyed_u128;
use crate::store::recent::Recent;

/// How long a right password is remembered, in milliseconds.
pub const POSITIVE_MS: u64 = 60_000;
/// Most right passwords remembered per directory; then the least recently used goes.
pub const POSITIVE_MAX: usize = 10_000;
/// Longest user name, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// One entry as the document gives it.
#[derive(Debug, Clone)]
pub struct User {
    /// The stored password.
    pub password: PasswordHash,
    /// Groups of the user.
    pub groups: Arc<[Arc<str>]>,
    /// Attributes of the user.
    pub attributes: BTreeMap<Arc<str>, Arc<str>>,
    /// A disabled user is refused like a wrong password.
    pub disabled: bool,
}

/// A `users` resource. The passwords that it remembers as right go with it, so a changed document forgets them.
#[derive(Debug)]
pub struct Users {
    name: Arc<str>,
    ignore_case: bool,
    entries: HashMap<String, Entry>,
    dummies: Dummies,
    positive: Mutex<Recent<Positive>>,
}

#[derive(Debug)]
struct Entry {
    password: Arc<PasswordHash>,
    identity: Arc<Identity>,
    disabled: bool,
}

#[derive(Debug)]
struct Positive {
    identity: Arc<Identity>,
    ends_ms: u64,
}

/// Why a name and password were not accepted. For the audit detail: the client hears the same of all of them but those
/// for which [`Denial::is_malformed`] is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// NUL or another control character in name or password (RFC 7617 section 2).
    ControlCharacter,
    /// The user exists and is disabled.
    Disabled,
    /// The name is empty.
    EmptyName,
    /// The password is empty. Never looked up: RFC 4513 section 5.1.2 tells what happens otherwise.
    EmptyPassword,
    /// Name or password is longer than any that can be stored.
    TooLong,
    /// No such user.
    UnknownUser,
    /// The user exists and the password is another.
    WrongPassword,
}

impl Denial {
    /// Whether it follows from the credential alone, without a look into the directory. Only these may be told apart.
    pub fn is_malformed(self) -> bool {
        matches!(self, Self::ControlCharacter | Self::EmptyName | Self::EmptyPassword | Self::TooLong)
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlCharacter => "control character in name or password",
            Self::Disabled => "disabled user",
            Self::EmptyName => "empty name",
            Self::EmptyPassword => "empty password",
            Self::TooLong => "name or password too long",
            Self::UnknownUser => "unknown user",
            Self::WrongPassword => "wrong password",
        })
    }
}

/// What a directory says of somebody whom others have authenticated.
#[derive(Debug, Clone, Copy)]
pub enum Listed<'u> {
    /// With these groups and attributes.
    As(&'u Identity),
    Disabled,
    Unknown,
}

/// What came of a check.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Refused.
    Denied(Denial),
    /// The name and password are right.
    Known(Arc<Identity>),
    /// Name or client is in a pause; nothing about the password is told.
    TooManyFailures {
        /// Seconds until the pause ends, at least 1.
        retry_after_s: u64,
    },
}

/// What [`Users::begin`] gives.
#[derive(Debug)]
pub enum Check {
    /// Decided already.
    Answer(Answer),
    /// To be run on the hash pool, then given to [`Users::finish`]. Where the pool is full nothing is counted.
    Work(HashJob),
}

/// One password check, without ties to the directory. `Debug` shows neither name nor password.
pub struct HashJob {
    password: Zeroizing<Vec<u8>>,
    hash: Arc<PasswordHash>,
    pending: Pending,
}

/// The outcome of a [`HashJob`].
pub struct Outcome {
    fits: bool,
    pending: Pending,
}

struct Pending {
    name: String,
    client: String,
    positive_key: u128,
    /// The answer if the password fits.
    if_fits: Result<Arc<Identity>, Denial>,
    if_not: Denial,
}

impl HashJob {
    /// Does the work: blocks for as long as the stored hash costs.
    pub fn run(self) -> Outcome {
        Outcome { fits: self.hash.verify(&self.password), pending: self.pending }
    }
}

impl fmt::Debug for HashJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashJob({})", self.hash.kind())
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outcome(fits: {})", self.fits)
    }
}

impl Users {
    /// Builds the directory.
    ///
    /// # Errors
    /// Text for the operator: a name that stands twice (by lower case where case is ignored), or one with which nobody
    /// could log in (empty, too long, with a colon or a control character).
    pub fn new(name: &str, ignore_case: bool, users: impl IntoIterator<Item = (String, User)>) -> Result<Self, String> {
        let mut entries = HashMap::new();
        for (user_name, user) in users {
            check_name(&user_name)?;
            let identity = Identity {
                groups: user.groups,
                attributes: Arc::new(user.attributes),
                ..Identity::new("basic", user_name.as_str().into())
            };
            let entry =
                Entry { password: Arc::new(user.password), identity: Arc::new(identity), disabled: user.disabled };
            if entries.insert(folded(&user_name, ignore_case), entry).is_some() {
                return Err(format!("expected each user name once, came {user_name:?} twice; remove one"));
            }
        }
        let dummies = Dummies::like(entries.values().map(|entry| &*entry.password));
        let positive = Mutex::new(Recent::new(POSITIVE_MAX));
        Ok(Self { name: name.into(), ignore_case, entries, dummies, positive })
    }

    /// Name of the resource.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether an entry has this name, disabled or not. For a list of directories: the first that knows the name
    /// decides; where none does, the last is asked all the same, so that the work is done.
    pub fn knows(&self, name: &str) -> bool {
        self.entries.contains_key(&folded(name, self.ignore_case))
    }

    /// Looks somebody up whom others have authenticated.
    pub fn listed(&self, name: &str) -> Listed<'_> {
        match self.entries.get(&folded(name, self.ignore_case)) {
            Some(entry) if entry.disabled => Listed::Disabled,
            Some(entry) => Listed::As(&entry.identity),
            None => Listed::Unknown,
        }
    }

    /// Begins a check. `client` is the address of the client and `now_ms` a monotonic time; `throttle` is that of the
    /// process.
    ///
    /// A pause comes before the memory of right passwords, or that memory would answer unlimited guesses.
    pub fn begin(&self, throttle: &Throttle, name: &str, password: &str, client: &str, now_ms: u64) -> Check {
        if let Some(denial) = malformed(name, password) {
            return Check::Answer(Answer::Denied(denial));
        }
        let name = folded(name, self.ignore_case);
        if let Some(retry_after_s) = throttle.blocked(&self.name, Some(&name), client, now_ms) {
            return Check::Answer(Answer::TooManyFailures { retry_after_s });
        }
        let positive_key = keyed_u128("basic-positive", &[self.name.as_bytes(), name.as_bytes(), password.as_bytes()]);
        if let Some(identity) = self.remembered(positive_key, now_ms) {
            return Check::Answer(Answer::Known(identity));
        }
        let (hash, if_fits, if_not) = match self.entries.get(&name) {
            Some(entry) if entry.disabled => (&entry.password, Err(Denial::Disabled), Denial::Disabled),
            Some(entry) => (&entry.password, Ok(Arc::clone(&entry.identity)), Denial::WrongPassword),
            None => (self.dummies.of(&self.name, &name), Err(Denial::UnknownUser), Denial::UnknownUser),
        };
        let pending = Pending { name, client: client.to_owned(), positive_key, if_fits, if_not };
        let password = Zeroizing::new(password.as_bytes().to_vec());
        Check::Work(HashJob { password, hash: Arc::clone(hash), pending })
    }

    /// Ends a check that [`Users::begin`] of this same value began.
    ///
    /// A pause that began while the job ran withholds the answer, right or wrong: guesses sent all at once tell no more
    /// than guesses sent one after the other.
    pub fn finish(&self, throttle: &Throttle, outcome: Outcome, now_ms: u64) -> Answer {
        let Pending { name, client, positive_key, if_fits, if_not } = outcome.pending;
        if let Some(retry_after_s) = throttle.blocked(&self.name, Some(&name), &client, now_ms) {
            return Answer::TooManyFailures { retry_after_s };
        }
        let verdict = if outcome.fits { if_fits } else { Err(if_not) };
        match verdict {
            Ok(identity) => {
                throttle.succeeded(&self.name, &name);
                let ends_ms = now_ms.saturating_add(POSITIVE_MS);
                self.positive().insert(positive_key, Positive { identity: Arc::clone(&identity), ends_ms });
                Answer::Known(identity)
            }
            Err(denial) => {
                throttle.failed(&self.name, Some(&name), &client, now_ms);
                Answer::Denied(denial)
            }
        }
    }

    fn remembered(&self, key: u128, now_ms: u64) -> Option<Arc<Identity>> {
        let mut positive = self.positive();
        let found = positive.touch(key)?;
        if found.ends_ms > now_ms {
            return Some(Arc::clone(&found.identity));
        }
        positive.remove(key);
        None
    }

    /// No call that holds this lock can stop half way, so a poisoned one is used on.
    fn positive(&self) -> MutexGuard<'_, Recent<Positive>> {
        self.positive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stand-ins for names that do not exist. There is one for each class of work in the directory, and a name gets them
/// as often as the entries have them, always the same for the same name: its time tells nothing.
#[derive(Debug)]
struct Dummies {
    /// With the number of entries up to and including this class.
    classes: Vec<(u128, Arc<PasswordHash>)>,
    fallback: Arc<PasswordHash>,
}

impl Dummies {
    fn like<'a>(hashes: impl Iterator<Item = &'a PasswordHash>) -> Self {
        let mut counts: BTreeMap<CostClass, (u128, Arc<PasswordHash>)> = BTreeMap::new();
        for hash in hashes {
            counts.entry(hash.cost_class()).or_insert_with(|| (0, Arc::new(hash.dummy_like()))).0 += 1;
        }
        let mut up_to = 0;
        let classes = counts.into_values().map(|(count, dummy)| {
            up_to += count;
            (up_to, dummy)
        });
        Self { classes: classes.collect(), fallback: Arc::new(PasswordHash::dummy()) }
    }

    fn of(&self, directory: &str, name: &str) -> &Arc<PasswordHash> {
        let total = self.classes.last().map_or(1, |(up_to, _)| *up_to);
        let at = keyed_u128("basic-dummy", &[directory.as_bytes(), name.as_bytes()]) % total.max(1);
        self.classes.iter().find(|(up_to, _)| at < *up_to).map_or(&self.fallback, |(_, dummy)| dummy)
    }
}

fn malformed(name: &str, password: &str) -> Option<Denial> {
    if name.is_empty() {
        Some(Denial::EmptyName)
    } else if password.is_empty() {
        Some(Denial::EmptyPassword)
    } else if name.len() > NAME_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
        Some(Denial::TooLong)
    } else if name.chars().chain(password.chars()).any(char::is_control) {
        Some(Denial::ControlCharacter)
    } else {
        None
    }
}

/// Whether someone could log in by this name.
fn check_name(name: &str) -> Result<(), String> {
    let fault = match malformed(name, "-") {
        Some(fault) => fault.to_string(),
        None if name.contains(':') => "a colon, which ends the name in HTTP Basic".to_owned(),
        None => return Ok(()),
    };
    Err(format!("expected a user name of 1 to {NAME_BYTES_MAX} bytes, came {name:?} ({fault}); rename the user"))
}

fn folded(name: &str, ignore_case: bool) -> String {
    if ignore_case { name.to_lowercase() } else { name.to_owned() }
}

#[cfg(test)]
mod tests;
