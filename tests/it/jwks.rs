//! Keys from a URL over real sockets: outage, rotation, floods of unknown keys, and answers that never end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gatewright::jose::{Algorithm, SigningKey};
use serde_json::{Map, json};

use crate::harness::{Answer, Folder, Gateway, PATIENCE, exchange};

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
    let mut line = String::new();
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
    let main = gateway.main;
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
    // A port that nobody listens on, and that nobody else is given: its listener is kept in a drawer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (signing, gateway) = (key("a"), gateway(address));
    assert_eq!(gateway.get("/open").body, "open");
    until_fetched(&gateway, address, |keys| keys["last_error"].is_string());
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
        let provider = Provider::start(behaviour);
        let gateway = gateway(provider.address);
        assert_eq!(gateway.get("/open").body, "open");
        assert_eq!(send(&gateway, &token(&good)).status, 503);
        until_fetched(&gateway, provider.address, |keys| {
            keys["last_error"].as_str().is_some_and(|said| said.contains(why))
        });
        provider.now(keys(&[&good]));
        until_fetched(&gateway, provider.address, |keys| keys["stale"] == false);
        assert_eq!(send(&gateway, &token(&good)).body, "ann", "{why}");
    }
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
