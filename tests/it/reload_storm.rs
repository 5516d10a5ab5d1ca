//! Reloads, good and broken, in every manner in which files are replaced, under load: no request fails, no
//! request sees two sets of files, and nothing that is broken ever serves.
//!
//! A set is two files that name each other's generation, so that a torn set does not load. The suite runs a
//! few rounds; `bench/proof reload_storm` runs 200 by `GATEWRIGHT_STORM_ROUNDS`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::harness::{Folder, Gateway, PATIENCE};

/// Rounds where nobody asks for more: each manner twice, good and broken.
const ROUNDS: u64 = 12;
/// Generations from here on are broken and must never be seen.
const BROKEN: u64 = 1_000_000;
/// Connections that ask all the time.
const CLIENTS: usize = 3;

const MANNERS: [Manner; 6] = [
    Manner::InPlace,
    Manner::Rename,
    Manner::HalfWritten,
    Manner::DeleteAndRestore,
    Manner::SymlinkSwap,
    Manner::FailingTest,
];

#[derive(Clone, Copy, Debug)]
enum Manner {
    InPlace,
    Rename,
    HalfWritten,
    DeleteAndRestore,
    SymlinkSwap,
    /// Broken only in that its own test fails.
    FailingTest,
}

/// The two files of a generation.
struct Set {
    service: String,
    list: String,
}

fn set(generation: u64, expected: &str, step: &str) -> Set {
    Set {
        service: format!(
            "service: generation\nmatch: {{ path: /generation }}\npolicy:\n  - {step}:\n      json: \
             {{ said: \"{generation}\", listed: \"${{list('of_{generation}')}}\" }}\ntests:\n  - name: says which\n    \
             request: {{ path: /generation }}\n    expect: {{ status: 200, json_has: {{ said: \"{expected}\" }} }}\n"
        ),
        list: format!("list: of_{generation}\nentries: [\"{generation}\"]\n"),
    }
}

fn good(generation: u64) -> Set {
    set(generation, &generation.to_string(), "respond")
}

fn broken(generation: u64, manner: Manner) -> Set {
    match manner {
        Manner::FailingTest => set(BROKEN + generation, "another", "respond"),
        _ => set(BROKEN + generation, &(BROKEN + generation).to_string(), "respnd"),
    }
}

/// The folder under change.
struct Place<'g> {
    gateway: &'g Gateway,
    folder: PathBuf,
}

impl Place<'_> {
    fn refused(&self) {
        self.gateway.logged("the changed files are not taken");
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    fn rename_over(&self, name: &str, text: &str) {
        let new = self.folder.join(format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.join(name)).unwrap();
    }

    fn change(&self, manner: Manner, generation: u64, set: &Set) {
        match manner {
            Manner::InPlace | Manner::FailingTest => {
                self.put("service.yaml", &set.service);
                self.put("list.yaml", &set.list);
            }
            Manner::Rename => {
                self.rename_over("list.yaml", &set.list);
                self.rename_over("service.yaml", &set.service);
            }
            Manner::HalfWritten => {
                self.put("list.yaml", &set.list);
                // Inside a mapping: a half that happens to be whole would rightly serve.
                let (half, rest) = set.service.split_at(set.service.find("said:").unwrap());
                self.put("service.yaml", half);
                self.refused();
                let mut file = std::fs::OpenOptions::new().append(true).open(self.folder.join("service.yaml")).unwrap();
                file.write_all(rest.as_bytes()).unwrap();
            }
            Manner::DeleteAndRestore => {
                std::fs::remove_file(self.folder.join("list.yaml")).unwrap();
                self.refused();
                self.put("service.yaml", &set.service);
                self.put("list.yaml", &set.list);
            }
            Manner::SymlinkSwap => self.swap_link(generation, set),
        }
    }

    /// As Kubernetes replaces a mounted ConfigMap: a new folder beside the old one, and one rename of a link.
    fn swap_link(&self, generation: u64, set: &Set) {
        let data = self.folder.join("..data");
        let old = std::fs::read_link(&data).ok();
        let new = format!("..{generation}");
        std::fs::create_dir(self.folder.join(&new)).unwrap();
        std::fs::write(self.folder.join(&new).join("service.yaml"), &set.service).unwrap();
        std::fs::write(self.folder.join(&new).join("list.yaml"), &set.list).unwrap();
        symlink(&new, self.folder.join("..data_new")).unwrap();
        std::fs::rename(self.folder.join("..data_new"), &data).unwrap();
        for name in ["service.yaml", "list.yaml"] {
            let link = self.folder.join(name);
            if std::fs::read_link(&link).is_err() {
                symlink(format!("..data/{name}"), self.folder.join("link_new")).unwrap();
                std::fs::rename(self.folder.join("link_new"), &link).unwrap();
            }
        }
        if let Some(old) = old {
            std::fs::remove_dir_all(self.folder.join(old)).unwrap();
        }
    }
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    requests: AtomicU64,
    newest: AtomicU64,
}

/// Asks on one connection until it is told to stop; panics at the first answer that should not be.
fn ask(address: SocketAddr, seen: &Seen) {
    let mut tcp = BufReader::new(TcpStream::connect(address).unwrap());
    tcp.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let mut last = 0;
    let mut on_connection = 0;
    while !seen.stop.load(Ordering::Relaxed) {
        // The gateway closes a connection after its thousandth request.
        if on_connection == 900 {
            tcp = BufReader::new(TcpStream::connect(address).unwrap());
            on_connection = 0;
        }
        on_connection += 1;
        tcp.get_mut().write_all(b"GET /generation HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let (status, body) = answer(&mut tcp);
        assert_eq!(status, 200, "{body}");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["said"], json["listed"][0], "two sets in one answer: {body}");
        let generation: u64 = json["said"].as_str().unwrap().parse().unwrap();
        assert!(generation < BROKEN, "a broken set serves: {body}");
        assert!(generation >= last, "an old set came back: {generation} after {last}");
        last = generation;
        seen.requests.fetch_add(1, Ordering::Relaxed);
        seen.newest.fetch_max(generation, Ordering::Relaxed);
    }
}

fn answer(tcp: &mut BufReader<TcpStream>) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(tcp.read_line(&mut head).unwrap() > 0, "the connection was closed: {head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    tcp.read_exact(&mut body).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
}

#[test]
fn no_request_notices_a_reload() {
    let rounds = std::env::var("GATEWRIGHT_STORM_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let first = good(0);
    let folder = Folder::with(&[("policies/service.yaml", &first.service), ("policies/list.yaml", &first.list)]);
    let gateway = Gateway::serve(folder);
    let place = Place { gateway: &gateway, folder: gateway.folder.path("policies") };
    let seen = Arc::new(Seen::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (seen, address) = (seen.clone(), gateway.main);
            std::thread::spawn(move || ask(address, &seen))
        })
        .collect();
    let mut swapped = 0;
    for round in 1..=rounds {
        let manner = MANNERS[(round / 2) as usize % MANNERS.len()];
        if round % 2 == 0 {
            place.change(manner, round, &broken(round, manner));
            place.refused();
        } else {
            place.change(manner, round, &good(round));
            gateway.logged("reloaded");
            swapped += 1;
            assert_eq!(gateway.get("/generation").json()["said"], round.to_string(), "{manner:?}");
        }
    }
    seen.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let requests = seen.requests.load(Ordering::Relaxed);
    assert!(requests > rounds, "{requests} requests");
    let numbers = gateway.ask_admin("GET", "/metrics").body;
    let line = format!("gatewright_reloads_total{{result=\"swapped\"}} {swapped}");
    assert!(numbers.contains(&line), "no {line} in\n{numbers}");
    println!("{rounds} reloads, {swapped} of them good, {requests} requests, 0 failed, 0 mixed");
}
