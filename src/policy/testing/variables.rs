//! What steps have set, looked up by the names that tests write.

use serde_json::Value as Json;

use crate::engine::exchange::Exchange;
use crate::engine::read::{IdentityMember, Read, Reader};
use crate::engine::value::Value;

/// A variable by its dotted name: absent without a value, `None` where no step sets it.
pub(super) fn variable(x: &Exchange, path: &str) -> Option<Option<Json>> {
    let names = &x.compiled(&x.snapshot).names;
    let below = |name: &str| match path.strip_prefix(name)? {
        "" => Some(""),
        rest => rest.strip_prefix('.'),
    };
    let identity = names.identities.iter().find_map(|(name, slot)| Some((*slot, below(name)?)));
    if let Some((slot, members)) = identity {
        let (member, rest) = members.split_once('.').unwrap_or((members, ""));
        let read = Read::Identity(slot, identity_member(member)?);
        let value = x.read(&read).ok()?.into_value();
        return Some(inside(&value, rest));
    }
    // The longest name wins: `hash.value` before `hash`.
    let variables = names.variables.iter().filter_map(|(name, slot)| Some((name.len(), *slot, below(name)?)));
    let (_, slot, rest) = variables.max_by_key(|(length, ..)| *length)?;
    Some(inside(x.var(slot), rest))
}

fn identity_member(word: &str) -> Option<IdentityMember> {
    Some(match word {
        "scheme" => IdentityMember::Scheme,
        "subject" => IdentityMember::Subject,
        "groups" => IdentityMember::Groups,
        "scopes" => IdentityMember::Scopes,
        "client" => IdentityMember::Client,
        "claims" => IdentityMember::Claims,
        "attributes" => IdentityMember::Attributes,
        "expires_at" => IdentityMember::ExpiresAt,
        "credential" => IdentityMember::Credential,
        _ => return None,
    })
}

fn inside(value: &Value, path: &str) -> Option<Json> {
    let mut val = value.view();
    for member in path.split('.').filter(|member| !member.is_empty()) {
        val = match member.parse() {
            Ok(index) => val.element(index),
            Err(_) => val.member(member),
        };
    }
    (!val.is_absent()).then(|| val.to_json())
}
