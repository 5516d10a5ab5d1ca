//! Stored password hashes: reading, checking and making them.
//!
//! argon2id (RFC 9106), scrypt (RFC 7914) and PBKDF2-HMAC-SHA-256 (RFC 8018 section 5.2) as PHC strings, bcrypt and
//! sha512-crypt in the modular crypt format. The costs that a stored hash may ask for are capped when it is read, so no
//! directory file can make one login take minutes or gigabytes. What it does not do: no unsalted, MD5 or clear-text
//! form is read, and nothing here runs off the calling thread by itself; see `hash_pool`.

use std::fmt;

use argon2::Argon2;
use data_encoding::BASE64_NOPAD;
use sha_crypt::PasswordVerifier;
use sha_crypt::ShaCrypt;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Most memory that one check may take, in KiB: 64 MiB, for argon2id and scrypt.
pub const MEMORY_KIB_MAX: u32 = 64 * 1024;
/// Most passes of argon2id.
pub const ARGON2_PASSES_MAX: u32 = 10;
/// Most lanes of argon2id and blocks of scrypt. They run one after the other.
pub const LANES_MAX: u32 = 8;
/// Highest cost of bcrypt: 2^14 rounds.
pub const BCRYPT_COST_MAX: u32 = 14;
/// Most rounds of PBKDF2.
pub const PBKDF2_ROUNDS_MAX: u32 = 2_000_000;
/// Most rounds of sha512-crypt.
pub const SHA512_CRYPT_ROUNDS_MAX: u32 = 1_000_000;
/// Fewest rounds of sha512-crypt, by its specification.
const SHA512_CRYPT_ROUNDS_MIN: u32 = 1_000;
/// Rounds of sha512-crypt where the hash does not say.
const SHA512_CRYPT_ROUNDS: u32 = 5_000;
/// Longest salt of sha512-crypt, in characters.
const SHA512_CRYPT_SALT_MAX: usize = 16;
/// Length of the encoded output of sha512-crypt.
const SHA512_CRYPT_OUTPUT: usize = 86;
/// Longest password that is hashed. The work of sha512-crypt grows with it.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// bcrypt reads no more than this of a password.
const BCRYPT_PASSWORD_MAX: usize = 72;
/// Shortest and longest salt and output of a PHC string. A short output could be met by chance.
const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=64;
const OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// What `hash_new` makes: the second choice of the OWASP password storage sheet, 19 MiB and two passes.
const NEW_MEMORY_KIB: u32 = 19_456;
const NEW_PASSES: u32 = 2;
const NEW_SALT_BYTES: usize = 16;
const NEW_OUTPUT_BYTES: usize = 32;

const ACCEPTED: &str = "accepted are $argon2id$, $2a$ $2b$ $2y$ (bcrypt), $scrypt$, $pbkdf2-sha256$ and $6$ \
                        (sha512-crypt); `gatewright secret hash` makes one";

/// A password hash that has been read and whose cost is within bounds. Its `Debug` names the kind only.
#[derive(Clone)]
pub struct PasswordHash {
    stored: Stored,
    /// True for a stand-in that no password fits, see [`PasswordHash::dummy_like`].
    dummy: bool,
}

#[derive(Clone)]
enum Stored {
    Argon2id { memory_kib: u32, passes: u32, lanes: u32, digest: Digest },
    Bcrypt { cost: u32, text: Box<str> },
    Scrypt { log_n: u8, r: u32, p: u32, digest: Digest },
    Pbkdf2Sha256 { rounds: u32, digest: Digest },
    Sha512Crypt { rounds: u32, text: Box<str> },
}

#[derive(Clone)]
struct Digest {
    salt: Box<[u8]>,
    output: Box<[u8]>,
}

/// The kind of a hash and its cost. Hashes of one class take the same time to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CostClass(u8, u32, u32, u32);

impl PasswordHash {
    /// Reads a stored hash.
    ///
    /// # Errors
    /// Text for the operator that never repeats the hash: an unknown kind (with the list of accepted ones), a form that
    /// does not fit its kind, or a cost out of bounds.
    pub fn parse(text: &str) -> Result<Self, String> {
        let kind = text.strip_prefix('$').and_then(|rest| rest.split_once('$'));
        let stored = match kind {
            Some(("argon2id", rest)) => parse_argon2id(rest)?,
            Some(("2a" | "2b" | "2y", _)) => parse_bcrypt(text)?,
            Some(("scrypt", rest)) => parse_scrypt(rest)?,
            Some(("pbkdf2-sha256", rest)) => parse_pbkdf2(rest)?,
            Some(("6", rest)) => parse_sha512_crypt(text, rest)?,
            Some(_) => return Err(format!("expected a password hash, came one of another kind; {ACCEPTED}")),
            None => return Err(format!("expected a password hash, came something else; {ACCEPTED}")),
        };
        Ok(Self { stored, dummy: false })
    }

    /// Whether the password fits. Blocks for the time that the hash costs, whatever the password; to be run off the
    /// workers. A password above [`PASSWORD_BYTES_MAX`] never fits and costs nothing. For bcrypt one above 72 bytes
    /// never fits, though it costs the same, because bcrypt would ignore the rest of it.
    pub fn verify(&self, password: &[u8]) -> bool {
        if password.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        let fits = match &self.stored {
            Stored::Argon2id { memory_kib, passes, lanes, digest } => {
                digest.fits(|salt, out| argon2id(*memory_kib, *passes, *lanes, password, salt, out))
            }
            Stored::Scrypt { log_n, r, p, digest } => digest.fits(|salt, out| {
                let params = scrypt::Params::new(*log_n, *r, *p).map_err(|e| e.to_string())?;
                scrypt::scrypt(password, salt, &params, out).map_err(|e| e.to_string())
            }),
            Stored::Pbkdf2Sha256 { rounds, digest } => digest.fits(|salt, out| {
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, *rounds, out);
                Ok(())
            }),
            Stored::Bcrypt { text, .. } => {
                let fits = bcrypt::verify(password, text).unwrap_or(false);
                fits & (password.len() <= BCRYPT_PASSWORD_MAX)
            }
            Stored::Sha512Crypt { text, .. } => ShaCrypt::SHA512.verify_password(password, &**text).is_ok(),
        };
        fits & !self.dummy
    }

    /// A hash that a policy test can afford on every run: one round, for passwords that stand in the test itself.
    /// No file can hold one, because [`PasswordHash::parse`] is the only way in.
    pub fn for_test(password: &[u8]) -> Self {
        let (salt, mut output) = (b"policy test".to_vec(), vec![0; NEW_OUTPUT_BYTES]);
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt.as_slice(), 1, output.as_mut_slice());
        Self {
            stored: Stored::Pbkdf2Sha256 { rounds: 1, digest: Digest { salt: salt.into(), output: output.into() } },
            dummy: false,
        }
    }

    /// A hash of the same kind and cost that no password fits, for checking names that do not exist.
    pub fn dummy_like(&self) -> Self {
        Self { stored: self.stored.clone(), dummy: true }
    }

    /// The dummy of a directory without entries: of the kind that [`hash_new`] makes.
    pub fn dummy() -> Self {
        let digest = Digest { salt: Box::from([0; NEW_SALT_BYTES]), output: Box::from([0; NEW_OUTPUT_BYTES]) };
        let stored = Stored::Argon2id { memory_kib: NEW_MEMORY_KIB, passes: NEW_PASSES, lanes: 1, digest };
        Self { stored, dummy: true }
    }

    /// The class of work of this hash.
    pub fn cost_class(&self) -> CostClass {
        match &self.stored {
            Stored::Argon2id { memory_kib, passes, lanes, .. } => CostClass(0, *memory_kib, *passes, *lanes),
            Stored::Bcrypt { cost, .. } => CostClass(1, *cost, 0, 0),
            Stored::Scrypt { log_n, r, p, .. } => CostClass(2, u32::from(*log_n), *r, *p),
            Stored::Pbkdf2Sha256 { rounds, digest } => CostClass(3, *rounds, digest.output.len() as u32, 0),
            Stored::Sha512Crypt { rounds, .. } => CostClass(4, *rounds, 0, 0),
        }
    }

    /// Name of the kind, for listings.
    pub fn kind(&self) -> &'static str {
        match &self.stored {
            Stored::Argon2id { .. } => "argon2id",
            Stored::Bcrypt { .. } => "bcrypt",
            Stored::Scrypt { .. } => "scrypt",
            Stored::Pbkdf2Sha256 { .. } => "pbkdf2-sha256",
            Stored::Sha512Crypt { .. } => "sha512-crypt",
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({})", self.kind())
    }
}

/// Hashes a password for storage: argon2id, version 19, `m=19456,t=2,p=1`, a random salt of 16 bytes.
///
/// # Errors
/// When the password is empty or longer than [`PASSWORD_BYTES_MAX`], or the system gives no random bytes.
pub fn hash_new(password: &[u8]) -> Result<String, String> {
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        let length = password.len();
        return Err(format!("expected a password of 1 to {PASSWORD_BYTES_MAX} bytes, came {length}; choose another"));
    }
    let mut salt = [0; NEW_SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|e| format!("the system gave no random bytes: {e}"))?;
    let mut output = Zeroizing::new([0; NEW_OUTPUT_BYTES]);
    argon2id(NEW_MEMORY_KIB, NEW_PASSES, 1, password, &salt, output.as_mut_slice())?;
    let (salt, output) = (BASE64_NOPAD.encode(&salt), BASE64_NOPAD.encode(output.as_slice()));
    Ok(format!("$argon2id$v=19$m={NEW_MEMORY_KIB},t={NEW_PASSES},p=1${salt}${output}"))
}

fn argon2id(m_kib: u32, t: u32, p: u32, password: &[u8], salt: &[u8], out: &mut [u8]) -> Result<(), String> {
    let params = argon2::Params::new(m_kib, t, p, Some(out.len())).map_err(|e| e.to_string())?;
    Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(password, salt, out)
        .map_err(|e| e.to_string())
}

impl Digest {
    /// Derives anew with `derive(salt, out)` and compares in constant time.
    fn fits(&self, derive: impl FnOnce(&[u8], &mut [u8]) -> Result<(), String>) -> bool {
        let mut derived = Zeroizing::new(vec![0; self.output.len()]);
        match derive(&self.salt, &mut derived) {
            Ok(()) => derived.ct_eq(&self.output).into(),
            Err(_) => false,
        }
    }

    fn parse(kind: &str, salt: &str, output: &str) -> Result<Self, String> {
        let salt = BASE64_NOPAD
            .decode(salt.as_bytes())
            .map_err(|_| format!("expected a salt in base64 without padding in a {kind} hash; make the hash anew"))?;
        let output = BASE64_NOPAD.decode(output.as_bytes()).map_err(|_| {
            format!("expected an output in base64 without padding in a {kind} hash; make the hash anew")
        })?;
        in_bounds(kind, "bytes of salt", salt.len(), SALT_BYTES)?;
        in_bounds(kind, "bytes of output", output.len(), OUTPUT_BYTES)?;
        Ok(Self { salt: salt.into(), output: output.into() })
    }
}

fn parse_argon2id(rest: &str) -> Result<Stored, String> {
    let kind = "argon2id";
    let [version, costs, salt, output] = fields(kind, "$argon2id$v=19$m=…,t=…,p=…$salt$output", rest)?;
    if version != "v=19" {
        return Err("expected version v=19 in an argon2id hash, came another; make the hash anew".to_owned());
    }
    let [memory_kib, passes, lanes] = costs_of(kind, ["m", "t", "p"], costs)?;
    in_bounds(kind, "lanes (p)", lanes, 1..=LANES_MAX)?;
    in_bounds(kind, "KiB of memory (m)", memory_kib, 8 * lanes..=MEMORY_KIB_MAX)?;
    in_bounds(kind, "passes (t)", passes, 1..=ARGON2_PASSES_MAX)?;
    Ok(Stored::Argon2id { memory_kib, passes, lanes, digest: Digest::parse(kind, salt, output)? })
}

fn parse_bcrypt(text: &str) -> Result<Stored, String> {
    let parts: bcrypt::HashParts =
        text.parse().map_err(|e| format!("expected a bcrypt hash of 60 characters: {e}; make the hash anew"))?;
    let cost = parts.get_cost();
    in_bounds("bcrypt", "cost", cost, 4..=BCRYPT_COST_MAX)?;
    Ok(Stored::Bcrypt { cost, text: text.into() })
}

fn parse_scrypt(rest: &str) -> Result<Stored, String> {
    let kind = "scrypt";
    let [costs, salt, output] = fields(kind, "$scrypt$ln=…,r=…,p=…$salt$output", rest)?;
    let [log_n, r, p] = costs_of(kind, ["ln", "r", "p"], costs)?;
    in_bounds(kind, "doublings (ln)", log_n, 1..=20)?;
    in_bounds(kind, "block size (r)", r, 1..=64)?;
    in_bounds(kind, "lanes (p)", p, 1..=LANES_MAX)?;
    // 128 * r * N bytes, RFC 7914 section 2.
    let memory_kib = ((128 * u64::from(r)) << log_n) / 1024;
    in_bounds(kind, "KiB of memory (128 * r * 2^ln)", memory_kib, 0..=u64::from(MEMORY_KIB_MAX))?;
    let digest = Digest::parse(kind, salt, output)?;
    Ok(Stored::Scrypt { log_n: log_n as u8, r, p, digest })
}

fn parse_pbkdf2(rest: &str) -> Result<Stored, String> {
    let kind = "pbkdf2-sha256";
    let [costs, salt, output] = fields(kind, "$pbkdf2-sha256$i=…$salt$output", rest)?;
    let (costs, length) = match costs.split_once(",l=") {
        Some((costs, length)) => (costs, Some(length)),
        None => (costs, None),
    };
    let [rounds] = costs_of(kind, ["i"], costs)?;
    in_bounds(kind, "rounds (i)", rounds, 1..=PBKDF2_ROUNDS_MAX)?;
    let digest = Digest::parse(kind, salt, output)?;
    if length.is_some_and(|length| length != digest.output.len().to_string()) {
        return Err("expected l to be the length of the output in a pbkdf2-sha256 hash; make the hash anew".to_owned());
    }
    Ok(Stored::Pbkdf2Sha256 { rounds, digest })
}

fn parse_sha512_crypt(text: &str, rest: &str) -> Result<Stored, String> {
    let kind = "sha512-crypt";
    let (rounds, rest) = match rest.strip_prefix("rounds=").and_then(|rest| rest.split_once('$')) {
        Some((rounds, rest)) => (number(kind, "rounds", rounds)?, rest),
        None => (SHA512_CRYPT_ROUNDS, rest),
    };
    in_bounds(kind, "rounds", rounds, SHA512_CRYPT_ROUNDS_MIN..=SHA512_CRYPT_ROUNDS_MAX)?;
    let [salt, output] = fields(kind, "$6$rounds=…$salt$output", rest)?;
    in_bounds(kind, "characters of salt", salt.len(), 1..=SHA512_CRYPT_SALT_MAX)?;
    in_bounds(kind, "characters of output", output.len(), SHA512_CRYPT_OUTPUT..=SHA512_CRYPT_OUTPUT)?;
    let crypt_alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    if !salt.bytes().chain(output.bytes()).all(crypt_alphabet) {
        return Err(format!("expected only letters, digits, . and / in a {kind} hash; make the hash anew"));
    }
    Ok(Stored::Sha512Crypt { rounds, text: text.into() })
}

fn fields<'a, const N: usize>(kind: &str, form: &str, rest: &'a str) -> Result<[&'a str; N], String> {
    let parts: Vec<&str> = rest.split('$').collect();
    let came = parts.len();
    parts
        .try_into()
        .map_err(|_| format!("expected {N} parts as in {form} in a {kind} hash, came {came}; make the hash anew"))
}

/// The numbers of `a=1,b=2`, in the order that the kind writes them.
fn costs_of<const N: usize>(kind: &str, names: [&str; N], text: &str) -> Result<[u32; N], String> {
    let mut costs = [0; N];
    let mut pairs = text.split(',');
    for (cost, name) in costs.iter_mut().zip(names) {
        let value = pairs.next().and_then(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let value = value.ok_or_else(|| format!("expected {name}= in a {kind} hash; make the hash anew"))?;
        *cost = number(kind, name, value)?;
    }
    match pairs.next() {
        None => Ok(costs),
        Some(_) => Err(format!("expected only {} in a {kind} hash, came more; make the hash anew", names.join(", "))),
    }
}

/// A decimal number without sign or leading zero.
fn number(kind: &str, name: &str, text: &str) -> Result<u32, String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !(text.len() > 1 && text.starts_with('0'));
    text.parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| format!("expected a decimal number for {name} in a {kind} hash; make the hash anew"))
}

fn in_bounds<T>(kind: &str, what: &str, came: T, bounds: std::ops::RangeInclusive<T>) -> Result<(), String>
where
    T: PartialOrd + fmt::Display,
{
    if bounds.contains(&came) {
        return Ok(());
    }
    let (least, most) = bounds.into_inner();
    Err(format!("expected {least} to {most} {what} in a {kind} hash, came {came}; make the hash anew"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by other programs (the argon2 reference tests, Python's hashlib, libxcrypt).
    const CORRECT_HORSE: [&str; 5] = [
        "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$A9lBa6RTbfBovWqamVIqXKovIl4Vk6OZyVojLJmYmSI",
        "$pbkdf2-sha256$i=1000,l=32$c2FsdHNhbHRzYWx0c2FsdA$BBs+1+PaslLtBPULUr8/lQicvVuHiEPMz0i8MjLCbzM",
        "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
        "$6$saltsalt$hRM5XZ86KXEw9UOmjigeVqFgULtFB2sgpC9lXQDfMib3Zgw7mEiUvBJI2EplzfAqxL5Vvwp2scFtv/uamSo5z0",
        "$6$rounds=1000$saltsalt$\
         4GMtaIz3E1AdDi2SmCokEW0ehi.HdxNDcL3fGE1XXuzvo6kbx7UOloZKONqEk5H3JrQA4NOfU8BmqFPrpGqwA1",
    ];
    const ARGON2: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    const SALT_AND_OUTPUT: &str = "$c2FsdHNhbHRzYWx0c2FsdA$A9lBa6RTbfBovWqamVIqXKovIl4Vk6OZyVojLJmYmSI";

    fn check(text: &str, password: &str) {
        let hash = PasswordHash::parse(text).unwrap();
        assert!(hash.verify(password.as_bytes()), "{text}");
        assert!(!hash.verify(b"correct horsf"), "{text}");
        assert!(!hash.verify(b""), "{text}");
        let dummy = hash.dummy_like();
        assert!(!dummy.verify(password.as_bytes()), "{text}");
        assert_eq!(dummy.cost_class(), hash.cost_class());
        assert!(!format!("{hash:?}").contains('$'));
    }

    #[test]
    fn hashes_of_other_programs_fit() {
        check(ARGON2, "password");
        for text in CORRECT_HORSE {
            check(text, "correct horse");
        }
        let prefixes = ["$2a$", "$2y$"].map(|prefix| CORRECT_HORSE[2].replace("$2b$", prefix));
        for text in prefixes {
            check(&text, "correct horse");
        }
    }

    #[test]
    fn a_new_hash_fits_and_is_salted() {
        let (one, two) = (hash_new(b"correct horse").unwrap(), hash_new(b"correct horse").unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(one, two);
        check(&one, "correct horse");
        assert_eq!(PasswordHash::parse(&one).unwrap().cost_class(), PasswordHash::dummy().cost_class());
        assert!(!PasswordHash::dummy().verify(b"correct horse"));
        assert!(hash_new(b"").is_err());
        assert!(hash_new(&[b'a'; PASSWORD_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn bcrypt_does_not_ignore_the_end_of_a_long_password() {
        let long = "a".repeat(BCRYPT_PASSWORD_MAX);
        let hash = PasswordHash::parse(&bcrypt::hash(&long, 4).unwrap()).unwrap();
        assert!(hash.verify(long.as_bytes()));
        assert!(!hash.verify(format!("{long}b").as_bytes()));
    }

    #[test]
    fn other_kinds_are_refused_with_the_accepted_ones_and_without_the_value() {
        let other = ["hunter2", "", "$", "$1$salt$hunter2", "$apr1$salt$hunter2", "{SHA}hunter2", "$argon2i$hunter2"];
        for text in other.into_iter().chain(["$2x$05$hunter2", "$5$salt$hunter2", "$argon2d$v=19$hunter2"]) {
            let error = PasswordHash::parse(text).unwrap_err();
            assert!(error.contains("$argon2id$") && error.contains("bcrypt"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn costs_out_of_bounds_and_broken_forms_are_refused() {
        let broken = [
            ("$argon2id$v=19$m=65537,t=2,p=1", "memory"),
            ("$argon2id$v=19$m=7,t=2,p=1", "memory"),
            ("$argon2id$v=19$m=19456,t=11,p=1", "passes"),
            ("$argon2id$v=19$m=19456,t=0,p=1", "passes"),
            ("$argon2id$v=19$m=19456,t=2,p=9", "lanes"),
            ("$argon2id$v=19$m=19456,t=2,p=0", "lanes"),
            ("$argon2id$v=16$m=19456,t=2,p=1", "v=19"),
            ("$argon2id$m=19456,t=2,p=1", "parts"),
            ("$argon2id$v=19$m=19456,t=2,p=1,data=AAAA", "came more"),
            ("$argon2id$v=19$m=+9456,t=2,p=1", "decimal"),
            ("$argon2id$v=19$m=019456,t=2,p=1", "decimal"),
            ("$argon2id$v=19$m=99999999999,t=2,p=1", "decimal"),
            ("$argon2id$v=19$t=2,m=19456,p=1", "m="),
            ("$scrypt$ln=17,r=8,p=1", "memory"),
            ("$scrypt$ln=21,r=8,p=1", "doublings"),
            ("$scrypt$ln=10,r=65,p=1", "block"),
            ("$scrypt$ln=10,r=8,p=9", "lanes"),
            ("$pbkdf2-sha256$i=2000001", "rounds"),
            ("$pbkdf2-sha256$i=0", "rounds"),
            ("$pbkdf2-sha256$i=1000,l=31", "length"),
        ];
        for (head, reason) in broken {
            let error = PasswordHash::parse(&format!("{head}{SALT_AND_OUTPUT}")).unwrap_err();
            assert!(error.contains(reason), "{head}: {error}");
        }
        let whole = [
            ("$pbkdf2-sha256$i=1000$c2FsdHNhbHRzYWx0c2FsdA$AAAA", "bytes of output"),
            ("$pbkdf2-sha256$i=1000$AAAA$A9lBa6RTbfBovWqamVIqXKovIl4Vk6OZyVojLJmYmSI", "bytes of salt"),
            ("$pbkdf2-sha256$i=1000$c2FsdHNhbHRzYWx0c2FsdA==$AAAA", "base64"),
            ("$2b$15$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", "cost"),
            ("$2b$03$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", "cost"),
            ("$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy", "60"),
            ("$6$saltsalt$AAAA", "characters of output"),
            ("$6$saltsalt", "parts"),
        ];
        for (text, reason) in whole {
            let error = PasswordHash::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        for rounds in ["999", "1000001", "1e3", ""] {
            let text = CORRECT_HORSE[4].replace("1000", rounds);
            assert!(PasswordHash::parse(&text).unwrap_err().contains("rounds"), "{text}");
        }
    }
}
