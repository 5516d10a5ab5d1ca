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

/// The trial's own API key, with a scope.
const SET: &str = r#"
api_keys: partners
entries:
  - { id: acme, hash: "sha256:7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b", client: app, groups: [gold], scopes: [a] }
  - { id: other, hash: "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", client: other }
---
service: trial
match: { path: "/{*rest}" }
policy:
  - authenticate_api_key: partners
"#;

fn asked(steps: &str, headers: &[(&str, &str)]) -> crate::assertions::trial::Outcome {
    let set = format!("{SET}{steps}\n  - respond: {{ status: 204 }}\n");
    crate::assertions::trial::Trial::of_set(&set).send("GET", "/", headers, "")
}

#[test]
fn it_looks_at_the_identity_that_is_named() {
    let both = [("x-api-key", "k-1"), ("x-other-key", "abc")];
    let second = "  - as: second\n    authenticate_api_key: { keys: partners, from: { header: x-other-key } }\n";
    let of = |params: &str| asked(&format!("{second}  - authorize: {{ {params} }}"), &both).fault;
    assert_eq!(of("clients: app"), None);
    assert_eq!(of("clients: app, identity: second").as_deref(), Some("authorize.client"));
    assert_eq!(of("clients: [x, other], identity: second"), None);
    let unknown = format!("{SET}  - authorize: {{ clients: app, identity: nobody }}\n  - respond: {{ status: 204 }}\n");
    assert_eq!(crate::assertions::trial::codes(&unknown), ["policy.no_identity"]);
}

#[test]
fn the_answer_does_not_tell_what_would_do() {
    for (params, code) in [
        ("groups: [platinum]", "authorize.group"),
        ("users: [platinum]", "authorize.user"),
        ("clients: [platinum]", "authorize.client"),
        ("scopes: [platinum]", "authorize.scope"),
        ("attributes: { site: platinum }", "authorize.attribute"),
        ("condition: \"auth.subject == 'platinum'\"", "authorize.condition"),
    ] {
        let outcome = asked(&format!("  - authorize: {{ {params} }}"), &[("x-api-key", "k-1")]);
        assert_eq!((outcome.status, outcome.fault.as_deref()), (403, Some(code)));
        assert!(!outcome.body.contains("platinum") && outcome.headers.get("www-authenticate").is_none(), "{outcome:?}");
    }
}

#[test]
fn a_condition_that_cannot_be_evaluated_is_nobodys_denial() {
    let steps = "  - authorize: { condition: \"10 / int(request.headers.x_n ?? '1') > 1\" }";
    let of = |n: &str| asked(steps, &[("x-api-key", "k-1"), ("x-n", n)]);
    assert_eq!(of("2").status, 204);
    assert_eq!(of("10").fault.as_deref(), Some("authorize.condition"));
    let failed = of("0");
    assert_eq!((failed.status, failed.fault.as_deref()), (500, Some("authorize.condition_failed")));
}

#[test]
fn every_other_word_folds_case_where_it_is_asked_for_and_scopes_never_do() {
    let of =
        |params: &str| asked(&format!("  - authorize: {{ {params}, ignore_case: true }}"), &[("x-api-key", "k-1")]);
    for params in ["groups: GOLD", "all_groups: [Gold]", "users: APP"] {
        assert_eq!(of(params).fault, None, "{params}");
    }
    assert_eq!(of("scopes: A").fault.as_deref(), Some("authorize.scope"));
    assert_eq!(of("clients: APP").fault.as_deref(), Some("authorize.client"));
}

#[test]
fn challenges_name_the_scopes_that_are_missing() {
    let key = crate::jose::SigningKey::generate(crate::jose::Algorithm::Es256).unwrap();
    let jwks = serde_json::json!({ "keys": [key.to_public_jwk()] });
    let set = format!(
        "identity_provider: corp\nkind: jwt\nissuer: https://idp\nkeys: {{ inline: {jwks} }}\naudience: orders\n---\n\
         service: trial\nmatch: {{ path: \"/{{*rest}}\" }}\npolicy:\n  - authenticate_jwt: corp\n  - authorize: \
         {{ by_method: {{ GET: [orders.read, orders.list], PUT: [] }} }}\n  - respond: {{ status: 204 }}\n"
    );
    let trial = crate::assertions::trial::Trial::of_set(&set);
    let claims = serde_json::json!({ "iss": "https://idp", "aud": "orders", "sub": "ann", "exp": 4_000_000_000_u64, "scope": "orders.read" });
    let token = key.sign(crate::jose::Algorithm::Es256, serde_json::Map::new(), claims.to_string().as_bytes()).unwrap();
    let field = format!("Bearer {token}");
    let challenge = |method| {
        let outcome = trial.send(method, "/", &[("authorization", &field)], "");
        outcome.header("www-authenticate").map(str::to_owned)
    };
    let wanted = "Bearer error=\"insufficient_scope\", scope=\"orders.read orders.list\"";
    assert_eq!(challenge("GET").as_deref(), Some(wanted));
    assert_eq!(challenge("PUT"), None);
    assert_eq!(challenge("POST").as_deref(), Some("Bearer error=\"insufficient_scope\""));
}
