//! Keys from a URL over real sockets: outage, rotation, floods of unknown keys, and answers that never end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gatewright::jose::{Algorithm, SigningKey};
use serde_json::{Map, json};

use crate::harness::{Answer, Folder, Gateway, PATIENCE, exchange, free_address};

/// What the provider does with a request for its keys.
#[derive(Clone)]
enum Behaviour {
    Keys(String),
    /// It takes the request and says nothing.
    Hang,
    /// So many bytes of keys, and more.
    Endless(usize),
    Redirect,
    Status(u16),
    /// A description (OpenID Connect Discovery §4), and keys at `/jwks`.
    Described(String, String),
}

/// A provider on a port of its own.
struct Provider {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    fetches: Arc<AtomicUsize>,
}

impl Provider {
    fn start(behaviour: Behaviour) -> Provider {
        Provider::on(TcpListener::bind("127.0.0.1:0").unwrap(), behaviour)
    }

    fn on(listener: TcpListener, behaviour: Behaviour) -> Provider {
        let address = listener.local_addr().unwrap();
        let (behaviour, fetches) = (Arc::new(Mutex::new(behaviour)), Arc::new(AtomicUsize::new(0)));
        let (shared, count) = (behaviour.clone(), fetches.clone());
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (shared, count) = (shared.clone(), count.clone());
                std::thread::spawn(move || answer(tcp, &shared, &count));
            }
        });
        Provider { address, behaviour, fetches }
    }

    fn now(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

fn answer(mut tcp: TcpStream, behaviour: &Mutex<Behaviour>, fetches: &AtomicUsize) {
    let mut reader = BufReader::new(tcp.try_clone().unwrap());
    let (mut first, mut line) = (String::new(), String::new());
    let _ = reader.read_line(&mut first);
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        line.clear();
    }
    fetches.fetch_add(1, Ordering::SeqCst);
    let behaviour = behaviour.lock().unwrap().clone();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let sent = match behaviour {
        Behaviour::Keys(keys) => write!(tcp, "{head}content-length: {}\r\n\r\n{keys}", keys.len()),
        Behaviour::Endless(bytes) => {
            let begun = write!(tcp, "{head}content-length: {}\r\n\r\n{{\"keys\":[\"", bytes + 1);
            begun.and_then(|()| tcp.write_all(&vec![b'x'; bytes]))
        }
        Behaviour::Redirect => write!(tcp, "HTTP/1.1 302 Found\r\nlocation: /jwks\r\ncontent-length: 0\r\n\r\n"),
        Behaviour::Status(status) => write!(tcp, "HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n"),
        Behaviour::Described(description, keys) => {
            let text = if first.starts_with("GET /jwks ") { keys } else { description };
            write!(tcp, "{head}content-length: {}\r\n\r\n{text}", text.len())
        }
        Behaviour::Hang => tcp.read_to_end(&mut Vec::new()).map(drop), // until the gateway has had enough
    };
    drop(sent);
}

fn key(kid: &str) -> SigningKey {
    SigningKey::generate(Algorithm::Es256).unwrap().named(kid)
}

fn keys(all: &[&SigningKey]) -> Behaviour {
    Behaviour::Keys(json!({ "keys": all.iter().map(|key| key.to_public_jwk()).collect::<Vec<_>>() }).to_string())
}

fn token(key: &SigningKey) -> String {
    let claims = json!({ "iss": "https://idp", "aud": "orders", "sub": "ann", "exp": 4_000_000_000_u64 });
    key.sign(Algorithm::Es256, Map::new(), claims.to_string().as_bytes()).unwrap()
}

fn gateway(provider: SocketAddr) -> Gateway {
    Gateway::start(&[("policies/orders.yaml", &policy(provider))])
}

fn policy(provider: SocketAddr) -> String {
    format!(
        "identity_provider: corp\nkind: jwt\nissuer: https://idp\nkeys: {{ url: \"http://{provider}/jwks\" }}\n\
         audience: orders\n---\nservice: orders\nmatch: {{ path: /orders }}\npolicy:\n  - authenticate_jwt: corp\n  \
         - respond: {{ text: \"${{auth.subject}}\" }}\n---\nservice: open\nmatch: {{ path: /open }}\npolicy:\n  \
         - respond: {{ text: open }}\n"
    )
}

fn send(gateway: &Gateway, token: &str) -> Answer {
    ask(gateway.main, token)
}

fn ask(main: SocketAddr, token: &str) -> Answer {
    let fields = format!("host: {main}\r\nauthorization: Bearer {token}\r\nconnection: close");
    exchange(main, &format!("GET /orders HTTP/1.1\r\n{fields}\r\n\r\n"))
}

/// Waits until so many fetches have ended, and says how the keys stand.
fn until_fetched(gateway: &Gateway, provider: SocketAddr, wanted: impl Fn(&serde_json::Value) -> bool) {
    let url = format!("http://{provider}/jwks");
    gateway.admin_until("/readyz", |answer| wanted(&answer.json()["keys"][url.as_str()]));
}

/// Keys serve before they are on disk; this waits until they are there too.
fn until_kept(gateway: &Gateway) {
    let begun = Instant::now();
    let is_kept = |folder: &Path| {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.map(|file| file.file_name()).any(|name| !name.to_string_lossy().ends_with(".new"))
    };
    while !is_kept(&gateway.folder.0.join("state/keys")) {
        assert!(begun.elapsed() < PATIENCE, "the keys are not kept");
        std::thread::sleep(Duration::from_millis(5)); // another process writes: nothing wakes us
    }
}

#[test]
fn a_provider_that_is_not_there_holds_nobody_up_and_is_asked_again() {
    let address = free_address();
    let (signing, begun, gateway) = (key("a"), Instant::now(), gateway(address));
    assert_eq!(gateway.get("/open").body, "open");
    until_fetched(&gateway, address, |keys| keys["last_error"].is_string());
    // A second time by itself, and not all the time.
    until_fetched(&gateway, address, |keys| keys["fetches"].as_u64() >= Some(2));
    let standing = gateway.ask_admin("GET", "/readyz").json();
    let fetches = standing["keys"][format!("http://{address}/jwks").as_str()]["fetches"].as_u64().unwrap();
    let elapsed_s = begun.elapsed().as_secs();
    println!("unreachable: {fetches} fetches in {elapsed_s} s");
    assert!(elapsed_s >= 1 && fetches <= 2 + u64::from((elapsed_s + 1).ilog2()), "{fetches} in {elapsed_s} s");
    let refused = send(&gateway, &token(&signing));
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.body.contains("authenticate_jwt.keys_unavailable"));
    assert!(refused.header("retry-after").is_some());
    let provider = Provider::on(TcpListener::bind(address).unwrap(), keys(&[&signing]));
    until_fetched(&gateway, address, |keys| keys["stale"] == false);
    assert_eq!(send(&gateway, &token(&signing)).body, "ann");
    assert_eq!(provider.fetches(), 1);
}

#[test]
fn rotated_keys_are_fetched_once_and_old_ones_are_gone() {
    let (old, new) = (key("old"), key("new"));
    let provider = Provider::start(keys(&[&old]));
    let gateway = gateway(provider.address);
    assert_eq!(send(&gateway, &token(&old)).body, "ann", "the first request waits for the first fetch");
    provider.now(keys(&[&new]));
    assert_eq!(send(&gateway, &token(&new)).body, "ann");
    let gone = send(&gateway, &token(&old));
    assert!(gone.status == 401 && gone.body.contains("authenticate_jwt.unknown_key"), "{}", gone.body);
    assert_eq!(provider.fetches(), 2);
}

#[test]
fn another_key_under_the_same_name_is_found() {
    let (old, new) = (key("same"), key("same"));
    let provider = Provider::start(keys(&[&old]));
    let gateway = gateway(provider.address);
    assert_eq!(send(&gateway, &token(&old)).body, "ann");
    provider.now(keys(&[&new]));
    assert_eq!(send(&gateway, &token(&new)).body, "ann");
    let gone = send(&gateway, &token(&old));
    assert!(gone.status == 401 && gone.body.contains("authenticate_jwt.signature"), "{}", gone.body);
    assert_eq!(provider.fetches(), 2);
}

#[test]
fn ten_thousand_unknown_keys_cost_one_fetch() {
    let good = key("good");
    let provider = Provider::start(keys(&[&good]));
    let gateway = gateway(provider.address);
    assert_eq!(send(&gateway, &token(&good)).body, "ann");
    let (main, begun) = (gateway.main, Instant::now());
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            std::thread::spawn(move || {
                let unknown = key(&format!("unknown-{sender}"));
                let token = token(&unknown);
                let request = format!("GET /orders HTTP/1.1\r\nhost: {main}\r\nauthorization: Bearer {token}\r\n\r\n");
                let mut denied = 0;
                // A connection carries 1,000 requests at most.
                for _ in 0..5 {
                    let mut tcp = TcpStream::connect(main).unwrap();
                    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut answers = BufReader::new(tcp.try_clone().unwrap());
                    for _ in 0..10 {
                        tcp.write_all(request.repeat(50).as_bytes()).unwrap();
                        for _ in 0..50 {
                            denied += usize::from(read_answer(&mut answers).contains("authenticate_jwt.unknown_key"));
                        }
                    }
                }
                denied
            })
        })
        .collect();
    let denied: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    assert_eq!(denied, 10_000);
    // One for the first keys, and one for each ten seconds that the flood took.
    let allowed = 2 + begun.elapsed().as_secs() / 10;
    println!("10,000 unknown keys in {:?}: {} fetches", begun.elapsed(), provider.fetches());
    assert!(provider.fetches() as u64 <= allowed, "{} fetches in {:?}", provider.fetches(), begun.elapsed());
    assert_eq!(send(&gateway, &token(&good)).body, "ann");
}

/// Head and body of one answer.
fn read_answer(from: &mut impl BufRead) -> String {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        from.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn an_answer_that_never_comes_or_never_ends_is_given_up() {
    let good = key("good");
    for (behaviour, why) in [
        (Behaviour::Hang, "no answer within 5 s"),
        (Behaviour::Endless(10 * 1024 * 1024), "the answer:"),
        (Behaviour::Redirect, "redirects are not followed"),
        (Behaviour::Status(500), "500"),
        (Behaviour::Keys("{\"keys\":[]}".into()), "no key"),
        (Behaviour::Keys("<html>".into()), "no JWK Set"),
    ] {
        let (provider, begun) = (Provider::start(behaviour), Instant::now());
        let gateway = gateway(provider.address);
        assert_eq!(gateway.get("/open").body, "open");
        // All who come meanwhile wait for the one fetch, or are told at once.
        let (main, token_of_all) = (gateway.main, token(&good));
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let token = token_of_all.clone();
                std::thread::spawn(move || ask(main, &token).status)
            })
            .collect();
        assert!(asking.into_iter().all(|asking| asking.join().unwrap() == 503), "{why}");
        // By itself after 1, 2, 4 s and so on; once more for those who asked, and then not for 10 s.
        let (fetches, elapsed_s) = (provider.fetches() as u64, begun.elapsed().as_secs());
        let allowed = 3 + u64::from((elapsed_s + 1).ilog2()) + elapsed_s / 10;
        println!("{why}: {fetches} fetches for 20 requests in {:?}", begun.elapsed());
        assert!((1..=allowed).contains(&fetches), "{why}: {fetches} fetches in {elapsed_s} s");
        until_fetched(&gateway, provider.address, |keys| {
            keys["last_error"].as_str().is_some_and(|said| said.contains(why))
        });
        provider.now(keys(&[&good]));
        until_fetched(&gateway, provider.address, |keys| keys["stale"] == false);
        assert_eq!(send(&gateway, &token(&good)).body, "ann", "{why}");
    }
}

#[test]
fn a_set_without_keys_withdraws_those_there_were() {
    let good = key("good");
    let provider = Provider::start(keys(&[&good]));
    let gateway = gateway(provider.address);
    assert_eq!(send(&gateway, &token(&good)).body, "ann");
    until_kept(&gateway);
    provider.now(Behaviour::Keys("{\"keys\":[]}".into()));
    // An unknown key has it fetched.
    assert_eq!(send(&gateway, &token(&key("unknown"))).status, 503);
    assert_eq!(send(&gateway, &token(&good)).status, 503, "the token was good a moment ago");
    // A restart finds none either.
    let again = Gateway::serve(gateway.kill());
    assert_eq!(send(&again, &token(&good)).status, 503);
    provider.now(keys(&[&good]));
    until_fetched(&again, provider.address, |keys| keys["stale"] == false);
    assert_eq!(send(&again, &token(&good)).body, "ann");
}

#[test]
fn keys_serve_on_through_an_outage_and_over_a_restart() {
    let good = key("good");
    let provider = Provider::start(keys(&[&good]));
    let gateway = gateway(provider.address);
    assert_eq!(send(&gateway, &token(&good)).body, "ann");
    until_kept(&gateway);
    provider.now(Behaviour::Status(503));
    let folder: Folder = gateway.kill();
    let again = Gateway::serve(folder);
    until_fetched(&again, provider.address, |keys| keys["stale"] == true && keys["last_error"].is_string());
    assert_eq!(send(&again, &token(&good)).body, "ann");
    // Nobody knows whether this one is a new key: that is no reason to say no.
    let unknown = send(&again, &token(&key("unknown")));
    assert!(unknown.status == 503 && unknown.body.contains("authenticate_jwt.keys_unavailable"), "{}", unknown.body);
}

/// A provider of kind `oidc`, whose description names the keys.
fn discovering(issuer: &str, more: &str) -> Gateway {
    let keys = format!("keys: {{ url: \"http://{}/jwks\" }}\n", issuer.trim_start_matches("http://"));
    let policy = policy(issuer.trim_start_matches("http://").parse().unwrap());
    let policy = policy.replace(&keys, more).replace("kind: jwt", "kind: oidc");
    Gateway::start(&[("policies/orders.yaml", &policy.replace("issuer: https://idp", &format!("issuer: {issuer}")))])
}

fn standing(gateway: &Gateway, issuer: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
    let url = format!("{issuer}/.well-known/openid-configuration");
    gateway.admin_until("/readyz", |answer| wanted(&answer.json()["keys"][url.as_str()]));
}

fn token_of(key: &SigningKey, issuer: &str) -> String {
    let claims = json!({ "iss": issuer, "aud": "orders", "sub": "ann", "exp": 4_000_000_000_u64 });
    key.sign(Algorithm::Es256, Map::new(), claims.to_string().as_bytes()).unwrap()
}

#[test]
fn a_description_says_where_the_keys_are_and_whose() {
    let good = key("good");
    let Behaviour::Keys(text) = keys(&[&good]) else { unreachable!() };
    let provider = Provider::start(Behaviour::Hang);
    let issuer = format!("http://{}", provider.address);
    let described = |issuer: &str, uri: String| {
        Behaviour::Described(json!({ "issuer": issuer, "jwks_uri": uri }).to_string(), text.clone())
    };
    provider.now(described(&issuer, format!("{issuer}/jwks")));
    let gateway = discovering(&issuer, "");
    assert_eq!(send(&gateway, &token_of(&good, &issuer)).body, "ann");
    assert_eq!(provider.fetches(), 2, "the description and the keys");
    for (behaviour, why) in [
        (described("https://idp.example.com", format!("{issuer}/jwks")), "is of the issuer `https://idp.example.com`"),
        (described(&format!("{issuer}/"), format!("{issuer}/jwks")), "is of the issuer"),
        (described(&issuer, "http://idp.example.com/jwks".to_owned()), "is not https"),
        (described(&issuer, "file:///etc/passwd".to_owned()), "is no URL"),
        (Behaviour::Described(json!({ "issuer": issuer }).to_string(), String::new()), "has no `jwks_uri`"),
        (Behaviour::Described("{".into(), String::new()), "the description"),
    ] {
        provider.now(behaviour);
        let gateway = discovering(&issuer, "");
        standing(&gateway, &issuer, |keys| keys["last_error"].as_str().is_some_and(|said| said.contains(why)));
        assert_eq!(send(&gateway, &token_of(&good, &issuer)).status, 503, "{why}");
    }
}

#[test]
fn a_description_leads_to_a_private_address_only_where_that_is_allowed() {
    let good = key("good");
    let Behaviour::Keys(text) = keys(&[&good]) else { unreachable!() };
    let (provider, inside) = (Provider::start(Behaviour::Hang), Provider::start(keys(&[&good])));
    let issuer = format!("http://{}", provider.address);
    let description = json!({ "issuer": issuer, "jwks_uri": format!("http://{}/jwks", inside.address) });
    provider.now(Behaviour::Described(description.to_string(), text));
    for (more, allowed) in [
        ("", false),
        ("allow_private: false\n", false),
        ("allow_private: [10.0.0.0/8]\n", false),
        ("allow_private: [127.0.0.0/8]\n", true),
        ("allow_private: true\n", true),
    ] {
        let (gateway, before) = (discovering(&issuer, more), inside.fetches());
        standing(&gateway, &issuer, |keys| keys["last_error"].is_string() || keys["stale"] == false);
        let status = send(&gateway, &token_of(&good, &issuer)).status;
        assert_eq!((status, inside.fetches() > before), (if allowed { 200 } else { 503 }, allowed), "{more}");
    }
}
