//! Applications and their API keys.
//!
//! A key is at least 128 random bits, so its plain SHA-256 (FIPS 180-4) is stored and the presented value is found by
//! that hash: no byte of a key is ever compared with another, and the store gives no key away. What it does not do: it
//! does not read documents, and it does not count failures; see `throttle`.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use data_encoding::HEXLOWER_PERMISSIVE;
use sha2::Digest;
use sha2::Sha256;

use super::Identity;
use crate::secret::Secret;
use crate::store::recent::HashedKeys;

/// Longest credential that is looked at, in bytes.
pub const KEY_BYTES_MAX: usize = 16 * 1024;

/// SHA-256 of an API key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Reads `sha256:` and 64 hex digits.
    ///
    /// # Errors
    /// Text for the operator. It never repeats the value, which may be the key itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").ok_or(
            "expected sha256: and 64 hex digits, came a value without sha256:; \
             if this is the key itself, replace it by its SHA-256 and issue a new key",
        )?;
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            format!("expected 64 hex digits after sha256:, came {} characters; hash the key again", digits.len())
        })
    }

    /// The hash of a presented value.
    pub fn of(presented: &[u8]) -> Self {
        Self(Sha256::digest(presented).into())
    }
}

/// The first digits only: enough to find the entry in the document.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, ..] = self.0;
        write!(f, "sha256:{first:02x}{second:02x}…")
    }
}

/// Whether a key may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Status {
    /// It may.
    #[default]
    Active,
    /// Not for now.
    Suspended,
    /// Never again.
    Revoked,
}

/// One entry as the document gives it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Name of this key, unique in its resource.
    pub id: Arc<str>,
    /// SHA-256 of the key, unique in its resource.
    pub hash: KeyHash,
    /// The application; several keys may share one.
    pub client: Arc<str>,
    /// Whom the application acts as.
    pub subject: Arc<str>,
    /// Groups of the subject.
    pub groups: Vec<Arc<str>>,
    /// Scopes of this key.
    pub scopes: Vec<Arc<str>>,
    /// Name of the plan that quotas go by.
    pub plan: Option<Arc<str>>,
    /// Further attributes.
    pub attributes: BTreeMap<Arc<str>, Arc<str>>,
    /// First second in which the key is valid, unix time.
    pub not_before_unix_s: Option<i64>,
    /// First second in which the key is no longer valid, unix time.
    pub expires_at_unix_s: Option<i64>,
    /// Whether it may be used.
    pub status: Status,
    /// Secret for signed requests of this client.
    pub signing_secret: Option<Secret>,
}

/// An API key as it is held, with the identity that it proves.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Name of this key.
    pub id: Arc<str>,
    /// Name of the plan that quotas go by.
    pub plan: Option<Arc<str>>,
    /// First second in which the key is valid, unix time.
    pub not_before_unix_s: Option<i64>,
    /// First second in which the key is no longer valid, unix time.
    pub expires_at_unix_s: Option<i64>,
    /// Whether it may be used.
    pub status: Status,
    /// Secret for signed requests of this client.
    pub signing_secret: Option<Secret>,
    /// What `auth.*` is after this key: client, subject, groups, scopes and attributes. Made once, so that a request
    /// clones one pointer.
    pub identity: Arc<Identity>,
}

impl ApiKey {
    /// Whether the key may be used at this moment.
    pub fn is_usable(&self, now_unix_s: i64) -> bool {
        self.status == Status::Active
            && self.not_before_unix_s.is_none_or(|from| now_unix_s >= from)
            && self.expires_at_unix_s.is_none_or(|end| now_unix_s < end)
    }
}

/// An `api_keys` resource.
#[derive(Debug)]
pub struct ApiKeys {
    name: Arc<str>,
    by_hash: HashMap<KeyHash, Arc<ApiKey>, HashedKeys>,
    by_id: HashMap<Arc<str>, Arc<ApiKey>>,
}

impl ApiKeys {
    /// Builds the resource.
    ///
    /// # Errors
    /// Text for the operator: an empty id, an id or a hash that stands twice, or a key that ends before it begins.
    pub fn new(name: &str, entries: impl IntoIterator<Item = Entry>) -> Result<Self, String> {
        let mut keys = Self { name: name.into(), by_hash: HashMap::default(), by_id: HashMap::default() };
        for entry in entries {
            keys.add(entry)?;
        }
        Ok(keys)
    }

    /// Name of the resource.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of keys, usable or not.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The key with this value, if it may be used now. Unknown, revoked, suspended, expired and not yet valid keys are
    /// alike absent. One SHA-256 and one table lookup; allocates nothing.
    pub fn find(&self, presented: &[u8], now_unix_s: i64) -> Option<&Arc<ApiKey>> {
        if presented.is_empty() || presented.len() > KEY_BYTES_MAX {
            return None;
        }
        self.by_hash.get(&KeyHash::of(presented)).filter(|key| key.is_usable(now_unix_s))
    }

    /// The key with this name, by the same rule; for the signing secret of a client that has named itself.
    pub fn find_by_id(&self, id: &str, now_unix_s: i64) -> Option<&Arc<ApiKey>> {
        self.by_id.get(id).filter(|key| key.is_usable(now_unix_s))
    }

    /// Why `find` gave nothing, for the audit detail only.
    pub fn refusal(&self, presented: &[u8], now_unix_s: i64) -> &'static str {
        let Some(key) = self.by_hash.get(&KeyHash::of(presented)) else {
            return "unknown key";
        };
        match key.status {
            Status::Revoked => "revoked key",
            Status::Suspended => "suspended key",
            Status::Active if key.not_before_unix_s.is_some_and(|from| now_unix_s < from) => "key not yet valid",
            Status::Active if !key.is_usable(now_unix_s) => "expired key",
            Status::Active => "usable key",
        }
    }

    fn add(&mut self, entry: Entry) -> Result<(), String> {
        let Entry { id, hash, not_before_unix_s, expires_at_unix_s, .. } = &entry;
        if id.is_empty() {
            return Err("expected an id for each key, came an empty one; name the key".to_owned());
        }
        if self.by_id.contains_key(id) {
            return Err(format!("expected each id once, came {id:?} twice; rename one"));
        }
        if let Some(other) = self.by_hash.get(hash) {
            let other = &other.id;
            return Err(format!("expected each hash once, came that of {other:?} at {id:?} too; issue a new key"));
        }
        if let (Some(from), Some(end)) = (not_before_unix_s, expires_at_unix_s)
            && from >= end
        {
            return Err(format!("expected {id:?} to expire after its not_before, came the reverse; correct one"));
        }
        let (id, hash) = (Arc::clone(id), *hash);
        let key = Arc::new(entry.into_key());
        self.by_hash.insert(hash, Arc::clone(&key));
        self.by_id.insert(id, key);
        Ok(())
    }
}

impl Entry {
    fn into_key(self) -> ApiKey {
        let identity = Identity {
            groups: self.groups.into(),
            scopes: self.scopes.into(),
            client: Some(self.client),
            attributes: Arc::new(self.attributes),
            expires_at_unix_s: self.expires_at_unix_s,
            ..Identity::new("api_key", self.subject)
        };
        ApiKey {
            id: self.id,
            plan: self.plan,
            not_before_unix_s: self.not_before_unix_s,
            expires_at_unix_s: self.expires_at_unix_s,
            status: self.status,
            signing_secret: self.signing_secret,
            identity: Arc::new(identity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, value: &str) -> Entry {
        Entry {
            id: id.into(),
            hash: KeyHash::of(value.as_bytes()),
            client: "acme-app".into(),
            subject: "acme".into(),
            groups: vec!["gold".into()],
            scopes: vec!["orders.read".into()],
            plan: Some("gold".into()),
            attributes: BTreeMap::from([("tier".into(), "1".into())]),
            not_before_unix_s: Some(100),
            expires_at_unix_s: Some(200),
            status: Status::Active,
            signing_secret: Some(Secret::new(b"hunter2".to_vec())),
        }
    }

    #[test]
    fn a_key_is_found_by_its_value_and_by_its_id() {
        let keys = ApiKeys::new("partners", [entry("acme", "k-1"), entry("acme-2", "k-2")]).unwrap();
        let key = keys.find(b"k-1", 150).unwrap();
        assert_eq!((&*key.id, key.plan.as_deref()), ("acme", Some("gold")));
        let identity = &key.identity;
        assert_eq!((identity.scheme, &*identity.subject), ("api_key", "acme"));
        assert_eq!(identity.client.as_deref(), Some("acme-app"));
        assert_eq!((&*identity.groups[0], &*identity.scopes[0]), ("gold", "orders.read"));
        assert_eq!(identity.attributes.get("tier").map(|v| &**v), Some("1"));
        assert_eq!(identity.expires_at_unix_s, Some(200));
        assert!(identity.credential.is_none());
        assert!(Arc::ptr_eq(key, keys.find_by_id("acme", 150).unwrap()));
        assert!(!format!("{keys:?}").contains("hunter2"));
    }

    #[test]
    fn whatever_may_not_be_used_is_absent() {
        let (mut revoked, mut suspended) = (entry("r", "revoked"), entry("s", "suspended"));
        (revoked.status, suspended.status) = (Status::Revoked, Status::Suspended);
        let keys = ApiKeys::new("partners", [entry("acme", "k-1"), revoked, suspended]).unwrap();
        let absent: [(&[u8], i64, &str); 6] = [
            (b"k-1", 99, "key not yet valid"),
            (b"k-1", 200, "expired key"),
            (b"k-2", 150, "unknown key"),
            (b"", 150, "unknown key"),
            (b"revoked", 150, "revoked key"),
            (b"suspended", 150, "suspended key"),
        ];
        for (presented, now_unix_s, why) in absent {
            assert!(keys.find(presented, now_unix_s).is_none(), "{why}");
            assert_eq!(keys.refusal(presented, now_unix_s), why);
        }
        assert!(keys.find(b"k-1", 100).is_some() && keys.find(b"k-1", 199).is_some());
        assert!(keys.find_by_id("r", 150).is_none());
    }

    #[test]
    fn entries_that_clash_are_named() {
        let error = |entries: [Entry; 2]| ApiKeys::new("partners", entries).unwrap_err();
        assert!(error([entry("a", "1"), entry("a", "2")]).contains("\"a\" twice"));
        let same_hash = error([entry("a", "1"), entry("b", "1")]);
        assert!(same_hash.contains("\"a\"") && same_hash.contains("\"b\""));
        assert!(error([entry("a", "1"), entry("", "2")]).contains("empty"));
        let reversed = Entry { not_before_unix_s: Some(300), ..entry("b", "2") };
        assert!(error([entry("a", "1"), reversed]).contains("not_before"));
    }

    #[test]
    fn a_hash_is_read_and_a_clear_key_is_not_repeated() {
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyHash::parse(text), Ok(KeyHash::of(b"abc")));
        assert_eq!(KeyHash::parse(&text.to_uppercase().replace("SHA256", "sha256")), Ok(KeyHash::of(b"abc")));
        assert_eq!(format!("{:?}", KeyHash::of(b"abc")), "sha256:ba78…");
        for bad in ["hunter2", "sha256:hunter2", "sha256:", &text[..70], &format!("{text}00")] {
            assert!(!KeyHash::parse(bad).unwrap_err().contains("hunter2"));
        }
    }
}
