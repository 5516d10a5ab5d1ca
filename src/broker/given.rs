//! Sessions of policy tests: their tokens and what a refresh brings are written in the test.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value as Json;

use super::Settings;
use super::grant::Grant;
use super::request::{Refused, granted};
use super::state::{Failure, Moment, State};
use crate::secret::Secret;

/// What a refresh brings in a test.
#[derive(Clone, Debug, PartialEq)]
pub enum GivenRefresh {
    /// The provider does not answer.
    Fails,
    InvalidGrant,
    /// The members of the token endpoint's answer.
    Answer(Json),
}

/// A session of a test.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Somebody has connected it.
    pub is_connected: bool,
    pub access_token: Option<String>,
    pub expires_in_s: Option<i64>,
    pub instance_url: Option<String>,
    pub account: Option<String>,
    pub refresh: GivenRefresh,
}

impl Default for Plan {
    fn default() -> Plan {
        let (access_token, expires_in_s, instance_url, account) = (None, None, None, None);
        let refresh = GivenRefresh::Fails;
        Plan { is_connected: false, access_token, expires_in_s, instance_url, account, refresh }
    }
}

/// The sessions of one case, as they stand.
#[derive(Debug, Default)]
pub struct Played(Mutex<HashMap<Arc<str>, Arc<State>>>);

impl Played {
    /// The state of a session, which began with the case.
    pub(super) fn state(&self, name: &Arc<str>, plan: &Plan, now: Moment) -> Arc<State> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = all.entry(name.clone()).or_insert_with(|| Arc::new(State::new("".into(), Ok(plan.first(now)))));
        state.clone()
    }
}

impl Plan {
    fn first(&self, now: Moment) -> Option<Grant> {
        // On the clock of a test, monotonic time begins with the case.
        let began_s = now.unix_s.saturating_sub(i64::try_from(now.mono_ms / 1000).unwrap_or(0));
        self.is_connected.then(|| Grant {
            access_token: self.access_token.clone().map(Secret::from),
            refresh_token: Some(Secret::from("given".to_owned())),
            expires_at_s: self.expires_in_s.map(|expires_in_s| began_s.saturating_add(expires_in_s)),
            instance_url: self.instance_url.as_deref().map(Arc::from),
            account: self.account.as_deref().map(Arc::from),
            refreshed_at_s: None,
        })
    }

    /// Refreshes at once, as the test says.
    pub(super) fn refresh(&self, state: &State, settings: &Settings, now: Moment) {
        state.begin();
        let outcome = match (state.current(), &self.refresh) {
            (None, _) => Err(Failure::NoSession("the test does not give it".to_owned())),
            (Some(_), GivenRefresh::Fails) => Err(Failure::Refresh("down in this test".to_owned())),
            (Some(_), GivenRefresh::InvalidGrant) => Err(Failure::Exhausted("invalid_grant in this test".to_owned())),
            (Some(live), GivenRefresh::Answer(answer)) => {
                match granted(settings, &live.grant, answer.to_string().as_bytes(), now.unix_s) {
                    Ok(grant) => {
                        state.written(grant);
                        Ok(())
                    }
                    Err(Refused::Dead(why)) => Err(Failure::Exhausted(why)),
                    Err(Refused::Failed(why)) => Err(Failure::Refresh(why)),
                    Err(Refused::Unusable(grant, why)) => {
                        state.written(*grant);
                        Err(Failure::Refresh(why))
                    }
                }
            }
        };
        state.end(outcome, now);
    }
}
