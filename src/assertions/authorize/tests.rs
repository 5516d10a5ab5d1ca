//! Each rule of `authorize`, over the running engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;

fn step() -> AuthorizeStep {
    AuthorizeStep {
        identity: Slot(0),
        groups: None,
        all_groups: None,
        users: None,
        clients: None,
        scopes: None,
        any_scopes: None,
        by_method: Vec::new(),
        is_by_method: false,
        attributes: Vec::new(),
        condition: None,
        ignore_case: false,
    }
}

fn texts(words: &[&str]) -> Words {
    words.iter().map(|word| Text::from(*word)).collect()
}

fn scopes(words: &[&str]) -> Scopes {
    Scopes {
        scopes: texts(words),
        challenge: HeaderValue::from_static("Bearer error=\"insufficient_scope\", scope=\"s\""),
    }
}

fn ann(scheme: &'static str) -> Identity {
    Identity {
        groups: Arc::from(texts(&["Managers", "staff"])),
        scopes: Arc::from(texts(&["orders.read"])),
        attributes: Arc::new(BTreeMap::from([("site".into(), "North".into())])),
        ..Identity::new(scheme, "ann".into())
    }
}

fn code(step: &AuthorizeStep, method: &Method) -> Option<String> {
    step.refusal(&ann("basic"), method).map(|fault| fault.code.to_string())
}

#[test]
fn every_given_parameter_must_hold_exactly() {
    let get = &Method::GET;
    let of = |change: fn(&mut AuthorizeStep)| {
        let mut step = step();
        change(&mut step);
        code(&step, get)
    };
    assert_eq!(of(|_| {}), None);
    assert_eq!(of(|step| step.groups = Some(texts(&["x", "staff"]))), None);
    assert_eq!(of(|step| step.groups = Some(texts(&["managers"]))).as_deref(), Some("authorize.group"));
    assert_eq!(of(|step| step.all_groups = Some(texts(&["x", "staff"]))).as_deref(), Some("authorize.group"));
    assert_eq!(of(|step| step.users = Some(texts(&["Ann"]))).as_deref(), Some("authorize.user"));
    assert_eq!(of(|step| step.clients = Some(texts(&["ann"]))).as_deref(), Some("authorize.client"));
    assert_eq!(of(|step| step.any_scopes = Some(scopes(&["orders.write"]))).as_deref(), Some("authorize.scope"));
    let attributes = |value: &str| vec![(Text::from("site"), texts(&[value]))];
    let mut folding = AuthorizeStep { ignore_case: true, groups: Some(texts(&["managers"])), ..step() };
    folding.attributes = attributes("north");
    assert_eq!(code(&folding, get), None);
    let exact = AuthorizeStep { attributes: attributes("north"), ..step() };
    assert_eq!(code(&exact, get).as_deref(), Some("authorize.attribute"));
}

#[test]
fn head_counts_as_get_and_a_method_without_an_entry_is_denied() {
    let mut step = AuthorizeStep { is_by_method: true, ..step() };
    step.by_method = vec![(Some(Method::GET), scopes(&["orders.read"]))];
    assert_eq!(code(&step, &Method::HEAD), None);
    assert_eq!(code(&step, &Method::POST).as_deref(), Some("authorize.scope"));
    step.by_method.push((None, scopes(&["orders.write"])));
    assert_eq!(code(&step, &Method::GET), None);
    assert_eq!(code(&step, &Method::POST).as_deref(), Some("authorize.scope"));
}

#[test]
fn only_bearer_schemes_are_challenged() {
    let step = AuthorizeStep { scopes: Some(scopes(&["orders.write"])), ..step() };
    let challenges = |scheme| step.refusal(&ann(scheme), &Method::GET).unwrap().challenges;
    assert!(challenges("basic").is_empty());
    assert_eq!(challenges("jwt"), ["Bearer error=\"insufficient_scope\", scope=\"s\""]);
}
