//! Programs that other people wrote, through a gateway: gRPC's own client and server, a browser, openssl, h2load.
//!
//! The peers in Python are those of `examples/grpc_and_websocket`, over Debian's packages.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use crate::authority::Authority;
use crate::harness::{Folder, Gateway, PATIENCE, free_address, hello, said};

/// Debian's own, whose modules are Debian's packages.
const PYTHON: &str = "/usr/bin/python3";
/// Longer than a browser takes on a busy machine.
const BROWSER_S: &str = "120";
/// Certificates that are renewed under openssl's eyes; `bench/proof cert_swaps` asks for more.
const SWAPS: usize = 5;

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/grpc_and_websocket").join(name)
}

/// A server in Python, on a port of its own choice.
struct Peer {
    child: Child,
    address: String,
}

impl Peer {
    fn start(script: &str) -> Peer {
        let mut command = Command::new(PYTHON);
        command.arg(example("peers").join(script)).arg("127.0.0.1:0").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on ").expect("are python3-grpcio and python3-websockets there?");
        Peer { child, address: address.to_owned() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example's gateway before these peers, over TLS with a certificate of `authority`. Its port is known before it
/// starts, because the policy names its pages.
fn gateway(orders: &str, chat: &str, authority: Option<&Authority>) -> Gateway {
    let own = free_address().to_string();
    let over_tls = format!("\"{own}\", tls: {{ certificate: gw.pem, key: gw.key }} }}");
    let moved = |name: &str| {
        let text = std::fs::read_to_string(example(name)).unwrap();
        let text = text.replace("127.0.0.1:8089", &own).replace("127.0.0.1:9918", "127.0.0.1:0");
        text.replace("127.0.0.1:9009", orders).replace("127.0.0.1:9010", chat)
    };
    let names = ["gateway.yaml", "policies/orders.yaml", "policies/chat.yaml"];
    let mut texts = names.map(moved);
    if authority.is_some() {
        texts[0] = texts[0].replace(&format!("\"{own}\" }}"), &over_tls);
        assert!(texts[0].contains(&over_tls), "the listener is written otherwise: {}", texts[0]);
    }
    let files: Vec<_> = names.into_iter().zip(texts.iter().map(String::as_str)).collect();
    let folder = Folder::with(&files);
    if let Some(authority) = authority {
        authority.renew(&folder, &["127.0.0.1"]);
        folder.write("ca.pem", &authority.pem());
    }
    Gateway::serve(folder)
}

#[test]
fn grpc_calls_of_every_kind_end_as_their_server_has_said() {
    let server = Peer::start("orders_server.py");
    let gateway = gateway(&server.address, "127.0.0.1:1", None);
    let (client, address) = (example("peers/orders_client.py"), gateway.main.to_string());
    let call = |arguments: &[&str]| {
        let output = Command::new(PYTHON).arg(&client).arg(&address).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text.lines().map(str::to_owned).collect::<Vec<_>>().join("|"))
    };
    assert_eq!(call(&["show", "7"]), (Some(0), "order 7|OK x-cost=7".into()), "one message, and trailers");
    assert_eq!(call(&["watch", "7"]), (Some(0), "7 placed|7 packed|7 sent|OK".into()), "several answers");
    // The client sends a message once the one before it has its answer: nothing on the way may wait for the end.
    assert_eq!(call(&["talk", "a", "b", "c"]), (Some(0), "heard a|heard b|heard c|OK".into()), "both ways");
    assert_eq!(call(&["show", "0"]), (Some(1), "NOT_FOUND no such order".into()), "a status in place of an answer");
    for method in ["Show", "Watch", "Talk", "Show"] {
        let record = gateway.record(&format!("/shop.Orders/{method}"));
        assert_eq!((record["status"].as_u64(), record["outcome"].as_str()), (Some(200), Some("sent")), "{record}");
    }
    drop(server);
    let (code, told) = call(&["show", "7"]);
    assert!(code == Some(1) && told.starts_with("UNAVAILABLE"), "{told}");
    assert_eq!(gateway.record("/shop.Orders/Show")["status"], 502);
}

#[test]
fn grpc_comes_in_over_tls_too() {
    let (server, authority) = (Peer::start("orders_server.py"), Authority::new());
    let gateway = gateway(&server.address, "127.0.0.1:1", Some(&authority));
    let mut client = Command::new(PYTHON);
    client.arg(example("peers/orders_client.py")).arg(gateway.main.to_string()).args(["talk", "a", "b"]);
    let output = client.env("ORDERS_CA", gateway.folder.path("ca.pem")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "heard a\nheard b\nOK\n");
}

/// What chromium makes of the page of a gateway, once its chat is over.
fn browse(gateway: &Gateway, scheme: &str, more: &[&str]) -> String {
    let profile = format!("--user-data-dir={}", gateway.folder.path("profile").display());
    let page = format!("{scheme}://{}/", gateway.main);
    // As root, which a build machine is, chromium has no sandbox.
    let browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", &profile, "--dump-dom"];
    said("timeout", &[&[BROWSER_S][..], &browser, more, &[&page]].concat())
}

#[test]
fn a_page_in_chromium_talks_over_a_websocket() {
    let chat = Peer::start("chat_server.py");
    let gateway = gateway("127.0.0.1:1", &chat.address, None);
    let dom = browse(&gateway, "http", &[]);
    assert!(dom.contains("<p id=\"said\">you said hello</p>"), "{dom}");
    assert!(dom.contains("<title>closed 1000, page by http/1.1</title>"), "the close came through too: {dom}");
    let record = gateway.record("/chat");
    assert_eq!((record["status"].as_u64(), record["outcome"].as_str()), (Some(101), Some("sent")), "{record}");
}

#[test]
fn a_page_that_came_by_http_2_opens_its_websocket_over_http_1() {
    let (chat, authority) = (Peer::start("chat_server.py"), Authority::new());
    let gateway = gateway("127.0.0.1:1", &chat.address, Some(&authority));
    // Whether it trusts our authority is not what is asked here.
    let dom = browse(&gateway, "https", &["--ignore-certificate-errors"]);
    assert!(dom.contains("<p id=\"said\">you said hello</p>"), "{dom}");
    assert!(dom.contains("<title>closed 1000, page by h2</title>"), "{dom}");
    assert_eq!(gateway.record("/chat")["status"], 101);
}

const OVER_TLS: &str = "\
listeners: [{ name: main, address: 127.0.0.1:0, tls: { certificate: gw.pem, key: gw.key } }]
admin: { address: 127.0.0.1:0 }
workers: 2
limits: { requests_per_connection: 100000 }
";

fn gateway_over_tls(authority: &Authority) -> Gateway {
    let folder = Folder::with(&[("gateway.yaml", OVER_TLS), ("policies/hello.yaml", &hello("hello", "hello"))]);
    authority.renew(&folder, &["a.test"]);
    folder.write("ca.pem", &authority.pem());
    Gateway::serve(folder)
}

/// One handshake of openssl after another; of each the certificate that was shown, or what went wrong.
fn shake_hands(address: &str, ca: &Path, stop: &AtomicBool, seen: &Sender<Result<String, String>>) {
    while !stop.load(Ordering::Relaxed) {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", address, "-servername", "a.test", "-verify_return_error", "-CAfile"]);
        let output = client.arg(ca).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let shown =
            said.find("-----BEGIN").zip(said.find("-----END CERTIFICATE-----")).map(|(from, to)| &said[from..to]);
        let outcome = match shown.filter(|_| output.status.success() && said.contains("Verify return code: 0 (ok)")) {
            Some(shown) => Ok(shown.to_owned()),
            None => Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))),
        };
        // Nobody counts any more when the test has failed.
        if seen.send(outcome).is_err() {
            return;
        }
    }
}

#[test]
fn openssl_shakes_hands_while_certificates_are_renewed() {
    let swaps = std::env::var("GATEWRIGHT_CERT_SWAPS").map_or(SWAPS, |swaps| swaps.parse().unwrap());
    let authority = Authority::new();
    let gateway = gateway_over_tls(&authority);
    let (address, ca) = (gateway.main.to_string(), gateway.folder.path("ca.pem"));
    let (stop, mut handshakes) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        // It falls when this closure ends, however it does.
        let _stop = Stop(&stop);
        let (seen_in, seen) = channel();
        for _ in 0..2 {
            let (address, ca, stop, seen_in) = (&address, &ca, &stop, seen_in.clone());
            scope.spawn(move || shake_hands(address, ca, stop, &seen_in));
        }
        for _ in 0..swaps {
            authority.renew(&gateway.folder, &["a.test"]);
            gateway.logged("new certificates serve");
            let renewed = std::fs::read_to_string(gateway.folder.path("gw.pem")).unwrap().replace('\r', "");
            // It is shown soon, and until then nobody is turned away.
            let mut next = || {
                handshakes += 1;
                seen.recv_timeout(PATIENCE).unwrap().expect("a handshake failed")
            };
            while !renewed.starts_with(&next()) {}
        }
    });
    println!("{swaps} swaps, {handshakes} handshakes, none failed");
}

/// Tells the clients to stop.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn many_streams_of_h2load_over_tls_are_all_answered() {
    let gateway = gateway_over_tls(&Authority::new());
    let report = said("h2load", &["-n", "2000", "-c", "4", "-m", "50", &format!("https://{}/hello", gateway.main)]);
    assert!(report.contains("Application protocol: h2"), "{report}");
    assert!(report.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{report}");
}
