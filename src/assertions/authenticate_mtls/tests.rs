//! Whom certificates name, whom they let in, and what is refused, over certificates that were really signed.

use super::*;
use crate::assertions::trial::{Trial, codes};
use crate::tls::testing::{Authority, Folder};

#[test]
fn a_star_is_one_label() {
    for (wanted, name, fits) in [
        ("a.test", "a.test", true),
        ("a.test", "b.a.test", false),
        ("*.a.test", "b.a.test", true),
        ("*.a.test", "a.test", false),
        ("*.a.test", "c.b.a.test", false),
        ("*.a.test", ".a.test", false),
    ] {
        assert_eq!(dns_fits(wanted, name), fits, "{wanted} {name}");
    }
}

/// A certificate that has one name of each kind.
fn full() -> ClientCertificate {
    ClientCertificate {
        subject: Dn::parse("CN=app,O=Example").unwrap(),
        issuer: Dn::parse("CN=clients").unwrap(),
        serial: "4d".to_owned(),
        san_dns: vec!["app.example.com".to_owned(), "b.internal.example".to_owned()],
        san_uri: vec!["spiffe://example/app".to_owned()],
        san_email: vec!["app@example.com".to_owned()],
        not_before: NOW_S - 10,
        not_after: NOW_S + 10,
        fingerprint_sha256: "ab".repeat(32),
        ..ClientCertificate::default()
    }
}

/// The clock of a trial: 2026-03-01T12:00:00Z.
const NOW_S: i64 = 1_772_366_400;

fn set(params: &str) -> String {
    format!(
        "service: trial\nmatch: {{ path: \"/{{*rest}}\" }}\npolicy:\n  - authenticate_mtls{params}\n  - respond: {{ status: 204 }}\n"
    )
}

/// The code of what is said to a certificate.
fn judged(params: &str, certificate: ClientCertificate) -> Option<String> {
    let trial = Trial::of_set(&set(params));
    trial.certificate.replace(Some(certificate));
    let outcome = trial.get("/");
    assert_eq!(outcome.status, if outcome.fault.is_some() { 403 } else { 204 }, "{outcome:?}");
    outcome.fault.map(|code| code.strip_prefix("authenticate_mtls.").unwrap().to_owned())
}

#[test]
fn one_match_of_allow_suffices_and_names_are_compared_whole() {
    let cases = [
        ("dn: \"CN=app,O=Example\"", true),
        ("dn: \"O=Example,CN=app\"", false),
        ("dn: \"CN=app\"", false),
        ("san_dns: App.Example.com", true),
        ("san_dns: \"*.example.com\"", true),
        ("san_dns: \"*.com\"", false),
        ("san_uri: spiffe://example/app", true),
        ("san_uri: spiffe://example/app/", false),
        ("san_email: app@example.com", true),
        ("san_email: other@example.com", false),
        ("fingerprint_sha256: FINGER", true),
        ("san_email: other@example.com, san_uri: [x, spiffe://example/app]", true),
    ];
    let finger = vec!["AB"; 32].join(":");
    for (allow, passes) in cases {
        let params = format!(": {{ allow: {{ {} }} }}", allow.replace("FINGER", &format!("\"{finger}\"")));
        let fault = judged(&params, full());
        assert_eq!(fault.as_deref(), (!passes).then_some("not_allowed"), "{allow}");
    }
}

#[test]
fn its_time_counts_at_each_request() {
    for (from_s, to_s, fault) in [(0, 10, None), (-10, 0, None), (1, 10, Some("expired")), (-10, -1, Some("expired"))] {
        let certificate = ClientCertificate { not_before: NOW_S + from_s, not_after: NOW_S + to_s, ..full() };
        assert_eq!(judged("", certificate).as_deref(), fault, "{from_s} {to_s}");
    }
}

#[test]
fn trust_narrows_whom_the_listener_lets_in() {
    let (folder, own, other) = (Folder::new(), Authority::new("own"), Authority::new("other"));
    let path = folder.write("own.pem", &own.pem());
    let key = format!("key: own\nkind: certificates\nfrom: {{ file: {} }}\n---\n", path.display());
    for params in [": own", ": { trust: own }"] {
        let trial = Trial::of_set(&(key.clone() + &set(params)));
        for (authority, fault) in [(&own, None), (&other, Some("authenticate_mtls.untrusted"))] {
            trial.certificate.replace(Some(authority.certificate("app", &["app.test"])));
            let outcome = trial.get("/");
            assert_eq!((outcome.status, outcome.fault.as_deref()), (if fault.is_some() { 403 } else { 204 }, fault));
        }
    }
    assert_eq!(codes(&set(": nobodys")), ["policy.unknown_name"]);
}

#[test]
fn all_that_is_set_can_be_read() {
    let steps = "service: trial
match: { path: \"/{*rest}\" }
policy:
  - authenticate_mtls
  - respond: { text: \"${auth.scheme}|${auth.subject}|${auth.groups}|${cert.subject}|${cert.issuer}|${cert.serial}|${cert.san_dns}|${cert.san_uri}|${cert.san_email}|${unix(cert.not_before ?? now())}|${unix(cert.not_after ?? now())}|${cert.fingerprint_sha256}\" }";
    let trial = Trial::of_set(steps);
    trial.certificate.replace(Some(full()));
    let wanted = format!(
        "mtls|spiffe://example/app||CN=app,O=Example|CN=clients|4d|app.example.com, b.internal.example|spiffe://example/app|\
         app@example.com|{}|{}|{}",
        NOW_S - 10,
        NOW_S + 10,
        "ab".repeat(32)
    );
    assert_eq!(trial.get("/").body, wanted);
}

#[test]
fn without_a_certificate_one_is_asked_for() {
    let trial = Trial::of_set(&set(": { realm: Orders }"));
    let outcome = trial.get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (401, Some("authenticate_mtls.missing")));
    assert_eq!(outcome.header("www-authenticate"), Some("ClientCertificate realm=\"Orders\""));
}

#[test]
fn who_is_revoked_is_not_let_in_and_an_old_list_lets_nobody_in() {
    let (folder, own, other) = (Folder::new(), Authority::new("own"), Authority::new("other"));
    let ca = folder.write("own.pem", &own.pem());
    let said = |list: &str, more: &str| {
        let crl = folder.write("own.crl", list);
        let key = format!(
            "key: own\nkind: certificates\nfrom: {{ file: {} }}\ncrls: {}\n{more}---\n",
            ca.display(),
            crl.display()
        );
        let trial = Trial::of_set(&(key + &set(": own")));
        trial.certificate.replace(Some(own.certificate("app", &["app.test"])));
        let outcome = trial.get("/");
        (outcome.status, outcome.fault.map(|code| code.strip_prefix("authenticate_mtls.").unwrap().to_owned()))
    };
    let denied = |status, reason: &str| (status, Some(reason.to_owned()));
    assert_eq!(said(&own.revocation_list(false), ""), (204, None));
    assert_eq!(said(&own.revocation_list(true), ""), denied(403, "revoked"));
    assert_eq!(said(&other.revocation_list(false), ""), denied(403, "untrusted"), "it covers nobody of these");
    assert_eq!(said(&own.revocation_list_until(false, 2021), ""), denied(503, "revocation_unavailable"));
    assert_eq!(said(&own.revocation_list_until(false, 2021), "stale_crl: accept\n"), (204, None));
    assert_eq!(said(&own.revocation_list_until(true, 2021), "stale_crl: accept\n"), denied(403, "revoked"));
}

#[test]
fn revocation_lists_stand_where_they_are_looked_at() {
    let (folder, own) = (Folder::new(), Authority::new("own"));
    let (ca, crl) = (folder.write("own.pem", &own.pem()), folder.write("own.crl", &own.revocation_list(false)));
    let certificates =
        |crls: &str| format!("key: own\nkind: certificates\nfrom: {{ file: {} }}\ncrls: {crls}\n---\n", ca.display());
    let good = certificates(&crl.display().to_string());
    assert!(codes(&(good.clone() + &set(": own"))).is_empty());
    for wrong in [&ca.display().to_string(), "/nowhere/own.crl"] {
        assert_eq!(codes(&(certificates(wrong) + &set(": own"))), ["policy.bad_key"], "{wrong}");
    }
    let private = format!("key: ours\nkind: private\nfrom: {{ generate: ES256 }}\ncrls: {}\n---\n", crl.display());
    assert_eq!(codes(&(private + &set(""))), ["policy.bad_key"]);
    let upstream = "upstream: inner\ntargets: [\"https://127.0.0.1:9000\"]\ntls: { ca: own }\n---\n";
    assert_eq!(codes(&(good + upstream + &set(""))), ["policy.bad_tls"], "an upstream's are not looked at");
}

#[test]
fn behind_a_trusted_proxy_the_certificate_comes_in_a_field_and_goes_no_further() {
    let (folder, own, other) = (Folder::new(), Authority::new("own"), Authority::new("other"));
    let path = folder.write("own.pem", &own.pem());
    let key = format!("key: own\nkind: certificates\nfrom: {{ file: {} }}\n---\n", path.display());
    let steps = "  - authenticate_mtls: { trust: own, from_header: client_cert, subject: common_name }
  - set_headers: { x-who: \"${auth.subject}\" }
  - route: http://127.0.0.1:9000";
    let trial = Trial::of_set(&format!("{key}service: trial\nmatch: {{ path: \"/{{*rest}}\" }}\npolicy:\n{steps}\n"));
    let field = |certificate: &ClientCertificate| format!(":{}:", data_encoding::BASE64.encode(&certificate.chain[0]));
    let (ours, theirs) =
        (field(&own.certificate("app", &["app.test"])), field(&other.certificate("eve", &["eve.test"])));
    let asked = |fields: &[(&str, &str)]| {
        let outcome = trial.send("GET", "/", fields, "");
        (outcome.status, outcome.fault.clone().unwrap_or_default(), outcome)
    };

    // Who is no trusted proxy says nothing with the field, and shows a certificate of its own or none.
    let (status, fault, outcome) = asked(&[("client-cert", &ours)]);
    assert_eq!((status, &*fault), (401, "authenticate_mtls.missing"));
    assert_eq!(outcome.header("www-authenticate"), Some(r#"ClientCertificate realm="trial""#));
    trial.certificate.replace(Some(own.certificate("direct", &["direct.test"])));
    let (_, _, outcome) = asked(&[("client-cert", &theirs), ("client-cert-chain", &theirs)]);
    assert_eq!((outcome.status, outcome.sent_header("x-who")), (200, Some("direct")));
    assert_eq!((outcome.sent_header("client-cert"), outcome.sent_header("client-cert-chain")), (None, None));

    // Behind a proxy the connection's certificate is the proxy's.
    trial.client.set("203.0.113.7".parse().unwrap());
    let (_, _, outcome) = asked(&[("client-cert", &ours)]);
    assert_eq!((outcome.status, outcome.sent_header("x-who")), (200, Some("app")));
    assert_eq!(outcome.sent_header("client-cert"), None);
    let nine = [theirs.as_str(); 8].join(", ");
    for (fields, status, code) in [
        (&[][..], 401, "authenticate_mtls.missing"),
        (&[("client-cert", theirs.as_str())], 403, "authenticate_mtls.untrusted"),
        (&[("client-cert", ours.as_str()), ("client-cert", ours.as_str())], 403, "authenticate_mtls.untrusted"),
        (&[("client-cert", "MIIB")], 403, "authenticate_mtls.untrusted"),
        (&[("client-cert", "::")], 403, "authenticate_mtls.untrusted"),
        (&[("client-cert", ":AAAA:")], 403, "authenticate_mtls.untrusted"),
        (&[("client-cert", ours.as_str()), ("client-cert-chain", nine.as_str())], 403, "authenticate_mtls.untrusted"),
    ] {
        let (seen, fault, _) = asked(fields);
        assert_eq!((seen, &*fault), (status, code), "{fields:?}");
    }
    let chained = [theirs.as_str(); 7].join(",");
    assert_eq!(asked(&[("client-cert", &ours), ("client-cert-chain", &chained)]).0, 200);
}

#[test]
fn what_a_proxy_passes_on_needs_authorities_of_its_own() {
    assert_eq!(codes(&set(": { from_header: client_cert }")), ["policy.missing_parameter"]);
}
