//! The keys of a verification, and the caller that a key of `api_keys` proves.

use std::sync::Arc;

use crate::assertions::authenticate_api_key::KeySlots;
use crate::compile::hashed::HashKey;
use crate::compile::key::{Key, KeyParam};
use crate::compile::text::TextParam;
use crate::compile::{Compile, Step};
use crate::digest::Algorithm;
use crate::engine::read::Slot;
use crate::identity::api_keys::ApiKeys;
use crate::source::{OneOrMany, Span};

/// Keys of one step: the present one and the one before it, or the next.
const KEYS_MAX: usize = 2;

/// What verifies.
pub(super) enum Keys {
    /// Those of the policy, each tried.
    Own(Vec<HashKey>),
    /// The signing secret of the entry that the caller names.
    Client { keys: Arc<ApiKeys>, id: TextParam, algorithm: Algorithm },
}

/// What is known of the caller once the hash of an API key's entry fits.
#[derive(Debug)]
pub(super) struct Caller {
    /// Where it is set; nothing where the caller is known already.
    pub(super) identity: Option<(Slot, KeySlots)>,
    /// The entry that an earlier step found, which must be the same.
    pub(super) known: Option<Slot>,
}

impl Caller {
    /// Declares it for the step at hand, unless an earlier step did.
    pub(super) fn declare(step: &Step<'_>, cx: &mut Compile<'_>, keys: &ApiKeys) -> Option<Caller> {
        if step.renamed().is_none()
            && let Some(known) = cx.key_of_auth(keys.name())
        {
            return Some(Caller { identity: None, known: Some(known) });
        }
        let slot = cx.identify(step, true)?;
        let slots = KeySlots::declare(step, cx)?;
        cx.proved_by_key(step, keys.name(), slots.id);
        Some(Caller { identity: Some((slot, slots)), known: None })
    }
}

/// Compiles `key:`, one or a list.
pub(super) fn keys(
    cx: &mut Compile<'_>,
    params: Option<OneOrMany<KeyParam>>,
    algorithm: Algorithm,
    step: Span,
) -> Option<Keys> {
    let params = params.map(Vec::from).unwrap_or_default();
    if params.len() > KEYS_MAX {
        let message = format!("{} keys are given, at most {KEYS_MAX} are tried", params.len());
        return cx.refuse("policy.bad_value", step, message, "name the present key and the one before it");
    }
    if params.is_empty() {
        return Some(Keys::Own(vec![cx.hash_key(None, algorithm, step)?]));
    }
    let several = params.len() > 1;
    let mut own = Vec::new();
    for param in params {
        let span = param.span;
        match cx.hash_key(Some(param), algorithm, step)? {
            HashKey::Later(Key::ApiKey { .. }, _) if several => {
                let message = "`api_keys` stands alone: it says who the caller is";
                return cx.refuse("policy.bad_value", span, message, "give the client a second entry to change keys");
            }
            HashKey::Later(Key::ApiKey { keys, id }, _) => return Some(Keys::Client { keys, id, algorithm }),
            key => own.push(key),
        }
    }
    Some(Keys::Own(own))
}
