//! Who calls: the identity that a passed `authenticate_*` step sets, and the directories it is looked up in.
//!
//! HTTP Basic (RFC 7617) against a local directory, API keys by their hash, the throttle against guessing that they
//! share, and tokens of others (RFC 7519). What it does not do: it reads no documents and no messages. Plain values come in, plain values go out; hash
//! work is handed to the caller as a job so that no request worker runs it.

pub mod api_keys;
pub mod hash_pool;
pub mod key_sets;
pub mod own_keys;
pub mod password;
pub mod provider;
pub mod throttle;
pub mod users;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::secret::Token;

/// What a policy sees as `auth.*`. Shared between requests, so it is cheap to clone behind its `Arc`.
#[derive(Debug, Clone)]
pub struct Identity {
    /// How it was proven: `basic`, `api_key`, `jwt`, `mtls`, `hmac` and so on.
    pub scheme: &'static str,
    /// Whom it speaks of.
    pub subject: Arc<str>,
    /// Groups of the subject, as the directory or issuer gives them.
    pub groups: Arc<[Arc<str>]>,
    /// Scopes granted to this credential.
    pub scopes: Arc<[Arc<str>]>,
    /// The application that presented the credential, where the scheme knows one.
    pub client: Option<Arc<str>>,
    /// Attributes from the directory.
    pub attributes: Arc<BTreeMap<Arc<str>, Arc<str>>>,
    /// Claims of a token, where the scheme has one.
    pub claims: Option<Arc<serde_json::Value>>,
    /// When the credential ends, in unix seconds.
    pub expires_at_unix_s: Option<i64>,
    /// The credential as presented, without its scheme word. Absent in identities that are shared between requests
    /// (directories keep no passwords and no keys): there the step that read the credential has it.
    pub credential: Option<Token>,
}

impl Identity {
    /// An identity of `scheme` that speaks of `subject` and has nothing else; fill in the rest by struct update.
    pub fn new(scheme: &'static str, subject: Arc<str>) -> Self {
        Self {
            scheme,
            subject,
            groups: Arc::from([]),
            scopes: Arc::from([]),
            client: None,
            attributes: Arc::default(),
            claims: None,
            expires_at_unix_s: None,
            credential: None,
        }
    }
}
