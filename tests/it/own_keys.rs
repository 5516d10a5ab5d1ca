//! Keys that the gateway makes itself, over real sockets: restarts, exchanges under load, kills, damage, publication.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use data_encoding::{BASE64, HEXLOWER};
use gatewright::jose::{Algorithm, Algorithms, Compact, KeySet, SigningKey};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::harness::{Folder, Gateway, PATIENCE, exchange, gatewright};

const POLICY: &str = r#"
key: ours
kind: private
from: { generate: ES256, rotate: 90d }
publish: /.well-known/jwks.json
---
identity_provider: ourselves
kind: jwt
issuer: https://gw
keys: { key: ours }
audience: orders
---
service: issue
match: { path: /issue }
policy:
  - issue_jwt: { key: ours, issuer: "https://gw", audience: orders, subject: ann, lifetime: 24h }
  - respond: { text: "${issued.token}" }
---
service: use
match: { path: /use }
policy:
  - authenticate_jwt: { issuer: ourselves, cache: false }
  - respond: { text: "${auth.subject}" }
---
service: wild
match: { host: a.example.com, path: "/.well-known/{name}" }
policy:
  - respond: { text: "${path.name}" }
"#;

const FILE: &str = "state/signing/ours.ES256.key";
const DAY_S: i64 = 24 * 60 * 60;
const HOUR_S: i64 = 60 * 60;
/// Kills in the suite; more by `GATEWRIGHT_KILL_ROUNDS`.
const ROUNDS: u32 = 10;
/// Longest time between a start and its kill, in microseconds.
const KILL_US_MAX: u64 = 20_000;

fn folder() -> Folder {
    Folder::with(&[("policies/tokens.yaml", POLICY)])
}

fn token(gateway: &Gateway) -> String {
    let answer = gateway.get("/issue");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

fn is_taken(gateway: &Gateway, token: &str) -> bool {
    let main = gateway.main;
    let fields = format!("host: {main}\r\nauthorization: Bearer {token}\r\nconnection: close");
    let answer = exchange(main, &format!("GET /use HTTP/1.1\r\n{fields}\r\n\r\n"));
    assert!(answer.status == 200 || answer.status == 401, "{}", answer.body);
    answer.body == "ann"
}

fn published(gateway: &Gateway) -> Json {
    gateway.get("/.well-known/jwks.json").json()
}

fn kid(token: &str) -> String {
    Compact::parse(token).unwrap().header.kid.unwrap()
}

fn now_s() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Changes what is kept, as if time had passed: the file is the seam by which keys are old in a test.
fn age(folder: &Path, change: impl FnOnce(&mut Json)) {
    let path = folder.join(FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    let (format, json) = (lines.next().unwrap(), lines.next().unwrap());
    let mut kept: Json = serde_json::from_str(json).unwrap();
    change(&mut kept);
    let json = kept.to_string();
    let digest = HEXLOWER.encode(&Sha256::digest(&json));
    std::fs::write(&path, format!("{format}\n{json}\n{digest}\n")).unwrap();
}

#[test]
fn a_restart_signs_with_the_same_key() {
    let gateway = Gateway::serve(folder());
    let early = token(&gateway);
    assert_eq!(published(&gateway)["keys"][0]["kid"], kid(&early));
    let mode = |name: &str| std::fs::metadata(gateway.folder.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("state/signing"), mode(FILE)), (0o700, 0o600));
    let standing = gateway.ask_admin("GET", "/readyz").json()["own_keys"]["ours"].clone();
    assert_eq!((&standing["kid"], &standing["last_error"]), (&json!(kid(&early)), &Json::Null));
    // A reload, also one with another age, keeps it too.
    gateway.folder.write("policies/tokens.yaml", &POLICY.replace("90d", "30d"));
    gateway.logged("reloaded");
    assert_eq!(kid(&token(&gateway)), kid(&early));
    let gateway = Gateway::serve(gateway.kill());
    assert_eq!(kid(&token(&gateway)), kid(&early));
    assert!(is_taken(&gateway, &early));
}

#[test]
fn an_exchange_under_load_refuses_nobody() {
    let gateway = Gateway::serve(folder());
    let early = token(&gateway);
    let folder = gateway.kill();
    let next = SigningKey::generate(Algorithm::Es256).unwrap();
    let turn_s = now_s() + 2;
    age(&folder.0, |kept| {
        kept["current"]["since"] = json!(turn_s - 90 * DAY_S);
        kept["next"] = json!({ "since": turn_s - HOUR_S, "pkcs8": BASE64.encode(&next.to_pkcs8().unwrap()) });
    });
    let gateway = Gateway::serve(folder);
    // Somebody who has asked for the keys before, and will not again.
    let known = KeySet::parse(published(&gateway).to_string().as_bytes(), false).unwrap();
    let (begun, mut sent) = (Instant::now(), 0);
    let late = loop {
        let token = token(&gateway);
        assert!(known.verify(&Compact::parse(&token).unwrap(), Algorithms::all()).is_ok(), "after {sent}");
        assert!(is_taken(&gateway, &token) && is_taken(&gateway, &early), "after {sent}");
        sent += 1;
        if kid(&token) != kid(&early) {
            break token;
        }
        assert!(begun.elapsed() < PATIENCE, "never exchanged");
    };
    println!("{sent} tokens made and verified, and none refused");
    assert_eq!(kid(&late), next.kid());
    assert_eq!(gateway.logged("another key signs")["kid"], next.kid());
    let kids: Vec<Json> =
        published(&gateway)["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(kids, [json!(next.kid()), json!(kid(&early))]);
    gateway.admin_until("/metrics", |answer| {
        answer.body.contains("gatewright_own_key_exchanges_total{result=\"exchanged\"} 1")
    });
    // A restart finds both, and of the old one only what is public.
    let folder = gateway.kill();
    let kept = std::fs::read_to_string(folder.path(FILE)).unwrap();
    assert_eq!(kept.matches("pkcs8").count(), 1, "the next is not made yet");
    let gateway = Gateway::serve(folder);
    assert!(is_taken(&gateway, &early) && is_taken(&gateway, &late));
    let folder = gateway.kill();
    age(&folder.0, |kept| kept["former"][0]["ended"] = json!(now_s() - DAY_S));
    let gateway = Gateway::serve(folder);
    let begun = Instant::now();
    while is_taken(&gateway, &early) {
        assert!(begun.elapsed() < PATIENCE, "a day has passed, and the old key still counts");
    }
    assert!(is_taken(&gateway, &late));
}

#[test]
fn a_kill_at_an_exchange_leaves_keys_that_sign() {
    let rounds = std::env::var("GATEWRIGHT_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let gateway = Gateway::serve(folder());
    let mut last = token(&gateway);
    let mut folder = gateway.kill();
    let mut seed = u64::from(std::process::id()) | 1;
    let (mut exchanged, mut left) = (0, 0);
    for round in 1..=rounds {
        // The next key is made, or signs, as soon as the process looks.
        age(&folder.0, |kept| {
            kept["current"]["since"] = json!(0);
            if kept["next"].is_object() {
                kept["next"]["since"] = json!(0);
            }
        });
        let gateway = Gateway::serve(folder);
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let (serving, wait) = (Instant::now(), Duration::from_micros(seed % KILL_US_MAX));
        while serving.elapsed() < wait {
            std::hint::spin_loop();
        }
        folder = gateway.kill();
        left += u32::from(folder.path("state/signing/ours.ES256.new").exists());
        // As it was left: the last token counts, and so does a new one.
        let gateway = Gateway::serve(folder);
        assert!(is_taken(&gateway, &last), "round {round}");
        let token = token(&gateway);
        assert!(is_taken(&gateway, &token), "round {round}");
        exchanged += u32::from(kid(&token) != kid(&last));
        last = token;
        folder = gateway.kill();
    }
    println!("{rounds} kills: {exchanged} exchanges, {left} halves of a file left beside, 0 keys lost");
    // However early all the kills came: left in peace, keys are exchanged.
    let (next, turn_s) = (SigningKey::generate(Algorithm::Es256).unwrap(), now_s() - 1);
    age(&folder.0, |kept| {
        kept["current"]["since"] = json!(turn_s - 90 * DAY_S);
        kept["next"] = json!({ "since": turn_s - HOUR_S, "pkcs8": BASE64.encode(&next.to_pkcs8().unwrap()) });
    });
    let (gateway, begun) = (Gateway::serve(folder), Instant::now());
    while kid(&token(&gateway)) == kid(&last) {
        assert!(begun.elapsed() < PATIENCE, "keys are never exchanged");
    }
    assert!(is_taken(&gateway, &last));
}

#[test]
fn a_damaged_key_is_told_of_and_not_replaced() {
    let gateway = Gateway::serve(folder());
    let early = token(&gateway);
    let folder = gateway.kill();
    let good = std::fs::read(folder.path(FILE)).unwrap();
    std::fs::remove_file(folder.path("state/last-good-set")).unwrap_or_default();
    for damage in [&good[..good.len() / 2], b""] {
        std::fs::write(folder.path(FILE), damage).unwrap();
        let said = gatewright(&folder.0, &["run"]);
        assert_eq!(said.code, 3, "{}", said.err);
        for part in ["policy.unusable_key", FILE, "or remove it: then a new key is made"] {
            assert!(said.err.contains(part), "{part}: {}", said.err);
        }
        assert_eq!(std::fs::read(folder.path(FILE)).unwrap(), damage);
    }
    std::fs::write(folder.path(FILE), &good).unwrap();
    let gateway = Gateway::serve(folder);
    assert!(is_taken(&gateway, &early) && kid(&token(&gateway)) == kid(&early));
}

#[test]
fn who_only_checks_makes_no_key() {
    let folder = folder();
    let said = gatewright(&folder.0, &["check"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(!folder.path("state").exists());
}

#[test]
fn public_halves_are_served_whatever_the_host() {
    let gateway = Gateway::serve(folder());
    let main = gateway.main;
    let ask = |method: &str, host: &str, path: &str| {
        exchange(main, &format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
    };
    assert_eq!(ask("GET", "a.example.com", "/.well-known/jwks.json").status, 200);
    let record = gateway.record("/.well-known/jwks.json");
    assert_eq!((&record["status"], &record["service"]), (&json!(200), &json!("/.well-known/jwks.json")));
    for host in ["a.example.com", "b.example.com"] {
        let answer = ask("GET", host, "/.well-known/jwks.json?x=1");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/jwk-set+json")));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=900"));
        let key = &answer.json()["keys"][0];
        let mut names: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"], "and nothing private");
        assert!(KeySet::parse(answer.body.as_bytes(), false).unwrap().ignored().is_empty());
        let head = ask("HEAD", host, "/.well-known/jwks.json");
        assert_eq!((head.status, &*head.body), (200, ""));
        assert_eq!(head.header("content-length"), Some(&*answer.body.len().to_string()));
        for method in ["POST", "DELETE", "OPTIONS"] {
            let refused = ask(method, host, "/.well-known/jwks.json");
            assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")), "{method}");
        }
    }
    assert_eq!(ask("GET", "a.example.com", "/.well-known/other").body, "other");
}
