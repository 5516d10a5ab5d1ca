//! What authentication steps declare beside the identity itself: the credential as presented, and
//! variables of their own below a renamed identity.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::compile::Compile;
use crate::compile::credential::Credential;
use crate::compile::flow::{IdentityRoot, Root};
use crate::compile::kind::Output;
use crate::compile::scope::{no_member, read, segment};
use crate::compile::steps::Step;
use crate::engine::exchange::Exchange;
use crate::engine::read::{IdentityMember, Read, Slot};
use crate::engine::value::{Element, Facts, Mark, Type, Value};
use crate::expr::{Resolved, Segment, Unresolved};

const AUTH_MEMBERS: [&str; 9] =
    ["scheme", "subject", "groups", "scopes", "client", "claims", "attributes", "expires_at", "credential"];

/// Where the credential as presented is kept for `auth.credential`, where anybody reads that.
#[derive(Debug)]
pub struct Presented {
    slot: Slot,
    is_read: Arc<AtomicBool>,
}

impl Presented {
    /// The value to keep; nothing is copied while no text of the service reads it.
    pub fn value(&self, credential: &str) -> Option<Value> {
        self.is_read.load(Ordering::Relaxed).then(|| Value::text(credential))
    }

    /// Keeps what [`Presented::value`] gave.
    pub fn keep(&self, x: &mut Exchange, value: Option<Value>) {
        if let Some(value) = value {
            x.set(self.slot, value);
        }
    }
}

/// The root of an identity: `auth`, or the step's `as:`.
fn root_of<'s>(step: &'s Step<'_>) -> &'s str {
    step.renamed().unwrap_or("auth")
}

impl Compile<'_> {
    /// Declares the credential of the identity that the step at hand has just declared, and that what it was
    /// read from is there after it.
    pub fn presented(&mut self, step: &Step<'_>, credential: &Credential) -> Presented {
        let root = root_of(step);
        let slot = self.slot(root, "credential");
        let put = credential.proves().map_or(Mark::None, |read| self.flow.carried.mark_of(&read));
        let facts = Facts::client(Type::Text).marked(Mark::Token).marked(put).marked(credential.mark());
        if let Some(Root::Identity(identity)) = self.flow.roots.get_mut(root) {
            identity.credential = Some((slot, facts));
        }
        self.mark(slot, facts);
        self.made_at(slot, credential.places());
        if let Some(read) = credential.proves() {
            self.flow.prove(read);
        }
        Presented { slot, is_read: self.credential_read.clone() }
    }

    /// Says which set of API keys proved the identity just declared; `id` is the variable with the entry's id.
    pub fn proved_by_key(&mut self, step: &Step<'_>, set: &str, id: Slot) {
        if let Some(Root::Identity(identity)) = self.flow.roots.get_mut(root_of(step)) {
            identity.key_of = Some((set.into(), id));
        }
    }

    /// The variable with the id of the API key that every way here has proved `auth` with, if it is of this set.
    pub fn key_of_auth(&self, set: &str) -> Option<Slot> {
        match self.flow.roots.get("auth") {
            Some(Root::Identity(identity)) if !identity.absent => {
                identity.key_of.as_ref().filter(|(known, _)| **known == *set).map(|(_, id)| *id)
            }
            _ => None,
        }
    }

    /// Declares an output that is not of the step's first root: it keeps its name, and stands below the new
    /// one where the step has `as:` (`second.api_key.id`).
    pub fn out_below(&mut self, output: &Output, step: &Step<'_>) -> Slot {
        let root = output.name.split('.').next().unwrap_or_default();
        let renamed = step.renamed().map(|name| format!("{name}.{root}"));
        self.out(output, renamed.as_deref())
    }
}

/// A member of an identity.
pub(super) fn identity_member(
    root: &str,
    identity: &IdentityRoot,
    path: &[Segment<'_>],
) -> Result<Resolved, Unresolved> {
    let facts = |ty, absent| Facts { absent: absent || identity.absent, ..Facts::client(ty) };
    let member = |member, facts| read(Read::Identity(identity.slot, member), facts, 2);
    match segment(path, 1) {
        "scheme" => member(IdentityMember::Scheme, facts(Type::Text, false)),
        "subject" => member(IdentityMember::Subject, facts(Type::Text, false)),
        "groups" => member(IdentityMember::Groups, facts(Type::List(Element::Text), false)),
        "scopes" => member(IdentityMember::Scopes, facts(Type::List(Element::Text), false)),
        "client" => member(IdentityMember::Client, facts(Type::Text, !identity.has_client)),
        "claims" => member(IdentityMember::Claims, facts(Type::Map(Element::Json), true)),
        "attributes" => member(IdentityMember::Attributes, facts(Type::Map(Element::Text), false)),
        "expires_at" => member(IdentityMember::ExpiresAt, facts(Type::Time, true)),
        "credential" => match identity.credential {
            Some((slot, facts)) => {
                read(Read::Slot(slot), Facts { absent: facts.absent || identity.absent, ..facts }, 2)
            }
            None => member(IdentityMember::Credential, facts(Type::Text, true).marked(Mark::Token)),
        },
        other => Err(no_member(root, 1, other, &AUTH_MEMBERS)),
    }
}
