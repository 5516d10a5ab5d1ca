//! TLS of a whole process: listeners, what policies see of it, and certificates that change while it serves.

use gatewright::jose::{Algorithm, SigningKey};
use rcgen::KeyPair;
use serde_json::json;

use crate::authority::Authority;
use crate::harness::{Folder, Gateway, gatewright};

const GATEWAY: &str = "\
listeners:
  - { name: main, address: 127.0.0.1:0, tls: { certificate: gw.pem, key: gw.key } }
admin: { address: 127.0.0.1:0 }
workers: 2
";

const TELL: &str = "\
service: tell
match: { path: /tell }
policy:
  - respond:
      text: \"${request.scheme} ${request.tls.version ?? ''} ${request.tls.server_name ?? ''} ${request.tls.alpn ?? ''}\"
";

fn gateway(authority: &Authority) -> Gateway {
    let folder = Folder::with(&[("gateway.yaml", GATEWAY), ("policies/tell.yaml", TELL)]);
    authority.renew(&folder, &["a.test"]);
    Gateway::serve(folder)
}

#[test]
fn policies_see_the_tls_that_a_request_came_over() {
    let authority = Authority::new();
    let gateway = gateway(&authority);
    let (answer, _) = authority.ask(&gateway, "a.test", "/tell");
    assert!(answer.ends_with("https 1.3 a.test http/1.1"), "{answer}");
    assert_eq!(gateway.record("/tell")["status"], 200);
    let (answer, _) = authority.ask(&gateway, "b.test", "/tell");
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("request.misdirected"), "{answer}");
    assert_eq!(gateway.record("/tell")["fault"], "request.misdirected");
}

#[test]
fn renewed_certificates_serve_and_broken_ones_are_told_of() {
    let authority = Authority::new();
    let gateway = gateway(&authority);
    let (_, first) = authority.ask(&gateway, "a.test", "/tell");
    gateway.folder.write("gw.pem", "half of a certificate");
    gateway.logged("changed certificates cannot serve");
    let ready = gateway.ask_admin("GET", "/readyz");
    assert_eq!(ready.status, 200, "what served before serves on");
    let why = ready.json()["certificates_refused"]["main"].as_str().unwrap().to_owned();
    assert!(why.contains("gw.pem: a certificate in PEM form was expected"), "{why}");
    gateway.admin_until("/metrics", |answer| answer.body.contains("\ngatewright_certificates_refused 1\n"));
    assert_eq!(authority.ask(&gateway, "a.test", "/tell").1, first);
    authority.renew(&gateway.folder, &["a.test"]);
    gateway.logged("new certificates serve");
    let (answer, second) = authority.ask(&gateway, "a.test", "/tell");
    assert!(answer.ends_with("https 1.3 a.test http/1.1") && second != first, "{answer}");
    assert_eq!(gateway.ask_admin("GET", "/readyz").json()["certificates_refused"], serde_json::json!({}));
}

#[test]
fn a_certificate_that_has_expired_is_told_of() {
    let authority = Authority::new();
    let gateway = gateway(&authority);
    authority.renew_with_an_old_one(&gateway.folder, &["a.test"]);
    assert_eq!(gateway.logged("a certificate that serves has expired")["listener"], "main");
    // At a start too; and renewed, it is told of again should it expire.
    let gateway = Gateway::serve(gateway.kill());
    assert_eq!(gateway.logged("a certificate that serves has expired")["level"], "ERROR");
    authority.renew(&gateway.folder, &["a.test"]);
    gateway.logged("new certificates serve");
    authority.renew_with_an_old_one(&gateway.folder, &["a.test"]);
    gateway.logged("a certificate that serves has expired");
}

#[test]
fn upstreams_are_spoken_to_over_tls_with_the_certificate_verified() {
    let authority = Authority::new();
    let upstream = gateway(&authority);
    let port = upstream.main.port();
    let folder = Folder::with(&[
        ("policies/keys.yaml", "key: corp_ca\nkind: certificates\nfrom: { file: ca.pem }\n"),
        (
            "policies/named.yaml",
            &format!(
                "upstream: tell\ntargets: [\"https://127.0.0.1:{port}\"]\nhost: a.test\ntls: {{ ca: corp_ca, server_name: a.test }}\n"
            ),
        ),
        ("policies/a.yaml", "service: a\nmatch: { path: /a }\npolicy: [{ route: { upstream: tell, path: /tell } }]\n"),
        (
            "policies/b.yaml",
            &format!("service: b\nmatch: {{ path: /b }}\npolicy: [{{ route: \"https://127.0.0.1:{port}/tell\" }}]\n"),
        ),
    ]);
    folder.write("ca.pem", &authority.pem());
    let gateway = Gateway::serve(folder);
    let answer = gateway.get("/a");
    assert_eq!((answer.status, answer.body.as_str()), (200, "https 1.3 a.test h2"), "what both speak");
    // Nobody said that this authority may be trusted.
    assert_eq!(gateway.get("/b").status, 502);
    let record = gateway.record("/b");
    assert_eq!(record["fault"], "route.tls");
    assert!(record["detail"].as_str().unwrap().contains("invalid peer certificate"), "{record}");
}

#[test]
fn files_that_are_no_pair_keep_the_gateway_from_starting() {
    let authority = Authority::new();
    let folder = Folder::with(&[("gateway.yaml", GATEWAY), ("policies/tell.yaml", TELL)]);
    authority.renew(&folder, &["a.test"]);
    folder.write("gw.key", &KeyPair::generate().unwrap().serialize_pem());
    let said = gatewright(&folder.0, &["check"]);
    assert_eq!(said.code, 3, "{}", said.out);
    assert!(said.out.contains("config.bad_certificate") && said.out.contains("gateway.yaml:2:"), "{}", said.out);
    assert!(said.out.contains("it is not the key of the certificate in"), "{}", said.out);
}

#[test]
fn a_service_that_wants_certificates_needs_a_listener_that_asks() {
    let authority = Authority::new();
    let jwks = json!({ "keys": [SigningKey::generate(Algorithm::Es256).unwrap().to_public_jwk()] });
    let provider = format!(
        "identity_provider: corp\nkind: jwt\nissuer: https://idp\nkeys: {{ inline: {jwks} }}\naudience: orders\n---\n"
    );
    let asking = GATEWAY.replace("gw.key", "gw.key, client_certificates: optional, client_ca: ca.pem");
    let other = GATEWAY.replace("listeners:\n", "listeners:\n  - { name: other, address: 127.0.0.1:0 }\n");
    let both = asking.replace("listeners:\n", "listeners:\n  - { name: other, address: 127.0.0.1:0 }\n");
    for (step, wants) in [
        ("authenticate_mtls", true),
        ("authenticate_jwt: { issuer: corp, bound: mtls }", true),
        ("authenticate_jwt: corp", false),
    ] {
        for (config, listeners, refused) in [
            (GATEWAY, "", wants),
            (&asking, "", false),
            (&other, "", wants),
            (&both, "", false),
            (&both, "listeners: [other]\n", wants),
        ] {
            let policy = format!(
                "{provider}service: a\nmatch: {{ path: /a }}\n{listeners}policy:\n  - if: request.method == 'PUT'\n    \
                 then:\n      - {step}\n  - respond: 204\n"
            );
            let folder = Folder::with(&[("gateway.yaml", config), ("policies/a.yaml", &policy)]);
            authority.renew(&folder, &["a.test"]);
            folder.write("ca.pem", &authority.pem());
            let said = gatewright(&folder.0, &["check"]);
            assert_eq!(
                said.out.contains("policy.no_certificates"),
                refused,
                "{step} {config} {listeners}: {}",
                said.out
            );
            let named = format!("`{}` at ", step.split(':').next().unwrap());
            assert!(!refused || said.out.contains(&named), "{}", said.out);
        }
    }
}

#[test]
fn files_that_do_not_load_are_the_one_mistake() {
    let folder = Folder::with(&[
        (
            "gateway.yaml",
            &GATEWAY.replace("key: gw.key", "key: gw.key, client_certificates: optional, client_ca: ca.pem"),
        ),
        ("policies/a.yaml", "service: a\nmatch: { path: /a }\npolicy:\n  - authenticate_mtls\n  - respond: 204\n"),
    ]);
    let authority = Authority::new();
    authority.renew(&folder, &["a.test"]);
    folder.write("ca.pem", &authority.pem());
    assert_eq!(gatewright(&folder.0, &["check"]).code, 0);
    let whole = std::fs::read_to_string(folder.path("gw.pem")).unwrap();
    folder.write("gw.pem", &whole[..whole.len() / 2]);
    let said = gatewright(&folder.0, &["check"]);
    assert!(said.out.contains("it seems cut off") && !said.out.contains("no_certificates"), "{}{}", said.out, said.err);
}
