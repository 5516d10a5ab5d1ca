//! Somebody else's identities: who issues tokens, with which keys, and what their claims mean here.
//!
//! RFC 7519 §7.2 and RFC 8725 in this order: form, algorithm, key, signature; then issuer and the types of claims.
//! Audience, times and whatever one step asks for are checked for each request, also for a token that was verified
//! before. What it does not do: no network; it reads no documents and no messages.

mod verified;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use self::verified::VerifiedTokens;
use super::Identity;
use super::key_sets::RemoteKeys;
use super::own_keys::OwnKey;
use crate::jose::{Algorithms, Claims, Compact, Flaw, Header, KeySet, Refusal};

/// Where an identity's parts stand among the claims: a name, or a JSON pointer (RFC 6901) that begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    pub subject: String,
    pub groups: String,
    pub scopes: String,
    /// The first that is there counts.
    pub client: Vec<String>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        ClaimNames {
            subject: "sub".into(),
            groups: "groups".into(),
            scopes: "scope".into(),
            client: vec!["azp".into(), "client_id".into()],
        }
    }
}

/// A provider's keys.
#[derive(Clone, Debug)]
pub enum Keys {
    /// As they stand in files.
    Fixed(Arc<KeySet>),
    /// As their URL has them.
    Remote(Arc<RemoteKeys>),
    /// Ours, as they are exchanged.
    Own(Arc<OwnKey>),
}

/// Why a token is not taken.
#[derive(Clone, Debug)]
pub enum Unverified {
    Refused(Refusal),
    /// There are no keys, and have never been any.
    NoKeys,
}

impl From<Refusal> for Unverified {
    fn from(refusal: Refusal) -> Self {
        Unverified::Refused(refusal)
    }
}

impl Unverified {
    /// Whether other keys could have verified the token: one that is not there yet, or another under its name.
    pub fn wants_keys(&self) -> bool {
        match self {
            Unverified::NoKeys => true,
            Unverified::Refused(refusal) => matches!(refusal.flaw, Flaw::UnknownKey | Flaw::Signature),
        }
    }
}

/// What makes a provider.
#[derive(Debug)]
pub struct Settings {
    pub name: Arc<str>,
    /// Compared with `iss` letter for letter.
    pub issuer: Arc<str>,
    pub keys: Keys,
    pub algorithms: Algorithms,
    /// What tokens for us name; a step may say its own.
    pub audiences: Arc<[Arc<str>]>,
    pub claims: ClaimNames,
}

/// An `identity_provider` resource. The tokens that it remembers as verified go with it, so that a changed document
/// forgets them.
#[derive(Debug)]
pub struct Provider {
    settings: Settings,
    verified: VerifiedTokens,
}

/// A token whose signature, issuer and types have been found right.
#[derive(Debug)]
pub struct Verified {
    pub header: Header,
    /// The whole header, shared with whoever reads it.
    pub shown_header: Arc<Json>,
    pub claims: Claims,
    pub identity: Arc<Identity>,
    /// Which key verified it.
    key: [u8; 32],
}

impl Provider {
    /// A provider that has verified nothing yet.
    pub fn new(settings: Settings) -> Provider {
        Provider { settings, verified: VerifiedTokens::default() }
    }

    /// Name of the resource.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Who issues its tokens.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// What tokens for us name.
    pub fn audiences(&self) -> &Arc<[Arc<str>]> {
        &self.settings.audiences
    }

    /// What its tokens may be signed with.
    pub fn algorithms(&self) -> Algorithms {
        self.settings.algorithms
    }

    /// Where the parts of an identity stand.
    pub fn claim_names(&self) -> &ClaimNames {
        &self.settings.claims
    }

    /// The keys as they are now; `None` where none were ever had.
    pub fn keys(&self) -> Option<Arc<KeySet>> {
        match &self.settings.keys {
            Keys::Fixed(keys) => Some(keys.clone()),
            Keys::Remote(keys) => keys.current(),
            Keys::Own(key) => key.verifying(),
        }
    }

    /// The URL that the keys come from, where they come from one.
    pub fn remote(&self) -> Option<&Arc<RemoteKeys>> {
        match &self.settings.keys {
            Keys::Fixed(_) | Keys::Own(_) => None,
            Keys::Remote(keys) => Some(keys),
        }
    }

    /// A token that was verified before, if the key that did so still is one of the provider's. One keyed hash and one
    /// lookup; allocates nothing.
    pub fn remembered(&self, token: &str, now_s: i64) -> Option<Arc<Verified>> {
        let verified = self.verified.find(token, now_s)?;
        let is_there = match &self.settings.keys {
            Keys::Fixed(keys) => keys.has(&verified.key),
            Keys::Remote(keys) => keys.has(&verified.key),
            Keys::Own(key) => key.has(&verified.key),
        };
        is_there.then_some(verified)
    }

    /// Verifies form, signature, issuer and types. `remember` keeps a token that is right.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(
        &self,
        token: &str,
        allowed: Algorithms,
        remember: bool,
        now_s: i64,
    ) -> Result<Arc<Verified>, Unverified> {
        let compact = Compact::parse(token)?;
        let keys = self.keys().ok_or(Unverified::NoKeys)?;
        let key = *keys.verify(&compact, allowed.and(self.settings.algorithms))?.identity();
        let claims = Claims::parse(&compact.payload)?;
        claims.check_issuer(&self.settings.issuer)?;
        let identity = Arc::new(self.identity(&claims)?);
        let shown_header = Arc::new(compact.header.all.clone());
        let verified = Arc::new(Verified { header: compact.header, shown_header, claims, identity, key });
        if remember && let Some(end) = verified.claims.expires_at_s {
            self.verified.keep(token, verified.clone(), end, now_s);
        }
        Ok(verified)
    }

    /// The claims as an identity.
    fn identity(&self, claims: &Claims) -> Result<Identity, Refusal> {
        let names = &self.settings.claims;
        let text = |name: &str| match claim(&claims.all, name) {
            None => Ok(None),
            Some(Json::String(text)) if !text.is_empty() => Ok(Some(Arc::from(text.as_str()))),
            Some(_) => Err(wrong(name, "a text")),
        };
        let Some(subject) = text(&names.subject)? else {
            return Err(Refusal::new(Flaw::Claim, format!("there is no `{}`", names.subject)));
        };
        let mut client = None;
        for name in &names.client {
            client = client.or(text(name)?);
        }
        let groups = match claim(&claims.all, &names.groups) {
            None => Vec::new(),
            Some(Json::String(one)) => vec![Arc::from(one.as_str())],
            Some(list) => texts(list).ok_or_else(|| wrong(&names.groups, "a list of texts"))?,
        };
        let scopes = match claim(&claims.all, &names.scopes) {
            None => Vec::new(),
            // RFC 6749 §3.3: words between spaces.
            Some(Json::String(words)) => words.split(' ').filter(|word| !word.is_empty()).map(Arc::from).collect(),
            Some(list) => texts(list).ok_or_else(|| wrong(&names.scopes, "words or a list of texts"))?,
        };
        Ok(Identity {
            groups: groups.into(),
            scopes: scopes.into(),
            client,
            attributes: Arc::new(BTreeMap::new()),
            claims: Some(claims.all.clone()),
            expires_at_unix_s: claims.expires_at_s,
            ..Identity::new("jwt", subject)
        })
    }
}

/// A claim by its name or pointer; `null` is absent.
pub fn claim<'c>(all: &'c Json, name: &str) -> Option<&'c Json> {
    let found = if name.starts_with('/') { all.pointer(name) } else { all.get(name) };
    found.filter(|value| !value.is_null())
}

fn texts(list: &Json) -> Option<Vec<Arc<str>>> {
    list.as_array()?.iter().map(|item| item.as_str().map(Arc::from)).collect()
}

fn wrong(name: &str, expected: &str) -> Refusal {
    Refusal::new(Flaw::Claim, format!("`{name}` is not {expected}"))
}

#[cfg(test)]
#[path = "provider/tests.rs"]
mod tests;
