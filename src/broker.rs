//! Stored outbound grants: whose token opens an upstream, how it is kept, and who renews it when.
//!
//! RFC 6749 §5 and §6, RFC 9700 §2.2 and §4.14 (rotation of refresh tokens). A session's tokens live in one file of the
//! gateway's user, which is written anew before a new token is used. What it does not do: no network; somebody above
//! sends what [`request`] makes and hands the answer in.

pub mod file;
pub mod given;
pub mod grant;
pub mod request;
pub mod sessions;
pub mod state;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;

use self::given::{Plan, Played};
use self::grant::Grant;
use self::request::Client;
use self::state::{Look, Moment, State};
use crate::tls::Calling;

/// What is known of a provider beside the standards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    #[default]
    Generic,
    Salesforce,
    Twitter,
    Google,
    Microsoft,
    Github,
}

impl Profile {
    /// Its answers name the instance that the account lives on.
    pub fn has_instance_url(self) -> bool {
        self == Profile::Salesforce
    }
}

/// How a new token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantKind {
    /// With the refresh token (RFC 6749 §6), however the first one was got.
    Refresh,
    /// With the client's own credentials (RFC 6749 §4.4).
    ClientCredentials,
}

/// Where a token may go: an origin, or all below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin {
    pub https: bool,
    /// A name or address in lower case; of a pattern what stands behind the star, with its point.
    pub host: String,
    pub port: u16,
    pub is_pattern: bool,
}

impl AllowedOrigin {
    /// Whether it admits this scheme, host and port.
    pub fn admits(&self, https: bool, host: &str, port: u16) -> bool {
        let fits = match self.is_pattern {
            true => host.len() > self.host.len() && host.to_ascii_lowercase().ends_with(&self.host),
            false => host.eq_ignore_ascii_case(&self.host),
        };
        self.https == https && self.port == port && fits
    }
}

/// A session as its document says.
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: Arc<str>,
    pub profile: Profile,
    pub grant: GrantKind,
    pub token_url: String,
    pub client: Client,
    pub scopes: Vec<String>,
    pub allowed_origins: Vec<AllowedOrigin>,
    pub tls: Option<Arc<Calling>>,
    /// Networks beside the public ones that a host out of an answer may lead to.
    pub allow_private: Arc<[IpNet]>,
    /// So long before its end a token is renewed, while it still serves.
    pub before: Duration,
    /// The whole of one refresh.
    pub timeout: Duration,
    /// Longest time between two refreshes, used or not.
    pub keep_alive: Duration,
    /// How long a token lives whose answer does not say.
    pub lifetime: Duration,
    /// When an answer says that the token is not good: a condition over `answer`. A status of 401 without it.
    pub expired_when: Option<String>,
    /// Where the tokens are kept.
    pub file: PathBuf,
}

/// A stored grant, as one version of its document describes it. Its state outlives the document.
pub struct Session {
    pub settings: Settings,
    keeps: Keeps,
    /// Wakes whoever renews.
    wake: Arc<Notify>,
}

enum Keeps {
    File(Arc<State>),
    /// In a policy test.
    Given(Plan),
}

impl fmt::Debug for Session {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Session").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

impl Session {
    /// One whose tokens are kept in a file.
    pub fn kept(settings: Settings, state: Arc<State>) -> Session {
        Session { settings, keeps: Keeps::File(state), wake: Arc::default() }
    }

    /// One of a policy test.
    pub fn given(settings: Settings, plan: Plan) -> Session {
        Session { settings, keeps: Keeps::Given(plan), wake: Arc::default() }
    }

    /// Its state; in a policy test that of the case, which `played` holds.
    pub fn state(&self, played: &Played, now: Moment) -> Arc<State> {
        match &self.keeps {
            Keeps::File(state) => state.clone(),
            Keeps::Given(plan) => played.state(&self.settings.name, plan, now),
        }
    }

    /// The state that is kept in a file.
    pub fn kept_state(&self) -> Option<&Arc<State>> {
        match &self.keeps {
            Keeps::File(state) => Some(state),
            Keeps::Given(_) => None,
        }
    }

    /// What there is for a request at this moment. A token that ends soon serves, and is renewed meanwhile.
    pub fn look(&self, state: &State, now: Moment) -> Look {
        let (look, asks) = state.look(now, self.settings.before);
        self.asked(state, look, asks, now)
    }

    /// Asks for another token than this one, which an upstream has refused.
    pub fn renew(&self, state: &State, refused_serial: u64, now: Moment) -> Look {
        let (look, asks) = state.refuse(refused_serial, now);
        self.asked(state, look, asks, now)
    }

    fn asked(&self, state: &State, look: Look, asks: bool, now: Moment) -> Look {
        match (&self.keeps, asks) {
            (_, false) => look,
            (Keeps::File(_), true) => {
                self.wake.notify_one();
                look
            }
            (Keeps::Given(plan), true) => {
                plan.refresh(state, &self.settings, now);
                state.look(now, self.settings.before).0
            }
        }
    }

    /// For whoever renews: what wakes it beside the time.
    pub fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// The grant that an answer of the token endpoint makes of the one before.
    ///
    /// # Errors
    /// Why there is none.
    pub fn granted(&self, before: &Grant, answer: &[u8], now_s: i64) -> Result<Grant, request::Refused> {
        request::granted(&self.settings, before, answer, now_s)
    }
}

/// Whoever renews learns that nobody needs the session any more.
impl Drop for Session {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_where_scheme_host_and_port_are_admitted() {
        let exact = AllowedOrigin { https: true, host: "a.example".into(), port: 443, is_pattern: false };
        assert!(exact.admits(true, "A.example", 443));
        for (https, host, port) in [(false, "a.example", 443), (true, "a.example", 444), (true, "b.a.example", 443)] {
            assert!(!exact.admits(https, host, port), "{https} {host} {port}");
        }
        let below = AllowedOrigin { host: ".my.example".into(), is_pattern: true, ..exact };
        assert!(below.admits(true, "acme.my.example", 443) && below.admits(true, "a.b.MY.example", 443));
        for host in ["my.example", ".my.example", "acmemy.example", "acme.my.example.evil.test"] {
            assert!(!below.admits(true, host, 443), "{host}");
        }
    }
}
