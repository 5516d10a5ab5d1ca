//! The last good set: a restart with broken files serves it, says so, and lets mended files take over.
//!
//! `bench/proof kept_set` kills the gateway in the middle of writing it, as often as
//! `GATEWRIGHT_KILL_ROUNDS` says; the suite does so a few times.

use std::time::{Duration, Instant};

use crate::harness::{ANY_PORT, Folder, Gateway, gatewright, hello};

/// Rounds where nobody asks for more.
const ROUNDS: u64 = 4;
/// Longest time from a swap to the kill, in microseconds: well past the end of writing.
const KILL_US_MAX: u64 = 30_000;
const BROKEN: &str = "service: b\nmatch: { path: /b }\npolicy:\n  - respnd: 200\n";

#[test]
fn a_restart_with_broken_files_serves_the_last_good_set() {
    let listed = "service: listed\nmatch: { path: /listed }\npolicy:\n  - respond: { json: \"${list('words')}\" }\n";
    let words = "list: words\nfile: policies/words.txt\n";
    let gateway = Gateway::start(&[
        ("policies/a.yaml", &hello("a", "one")),
        ("policies/listed.yaml", &format!("{listed}---\n{words}")),
        ("policies/words.txt", "kept\n"),
    ]);
    gateway.logged("the set is kept");
    let version = gateway.ask_admin("GET", "/readyz").json()["snapshot"].clone();
    let folder = gateway.kill();
    folder.write("policies/a.yaml", BROKEN);
    std::fs::remove_file(folder.path("policies/words.txt")).unwrap();

    let gateway = Gateway::serve(folder);
    let said = gateway.begun.iter().find(|line| line["message"] == "the files do not load: the last good set serves");
    let said = said.expect("the log says so")["diagnostics"].as_str().unwrap();
    assert!(said.contains("policies/a.yaml:4:5") && said.contains("words.txt"), "{said}");
    assert_eq!(gateway.get("/a").body, "one");
    assert_eq!(gateway.get("/listed").body, "[\"kept\"]");
    let ready = gateway.ask_admin("GET", "/readyz");
    let json = ready.json();
    assert_eq!((ready.status, &json["reload_failing"], &json["serving_last_good"]), (200, &true.into(), &true.into()));
    assert_eq!(json["snapshot"], version, "under the version it had");
    assert_eq!(
        gateway.ask_admin("GET", "/api/snapshot").json()["last_reload"]["diagnostics"][0]["code"],
        "policy.unknown_assertion"
    );
    assert!(gateway.ask_admin("GET", "/metrics").body.contains("\ngatewright_serving_last_good 1\n"));

    // The very files that serve: they are taken all the same, with what they name as it is now.
    gateway.folder.write("policies/words.txt", "new\n");
    gateway.folder.write("policies/a.yaml", &hello("a", "one"));
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/listed").body, "[\"new\"]");
    let json = gateway.ask_admin("GET", "/readyz").json();
    assert_eq!((&json["reload_failing"], &json["serving_last_good"]), (&false.into(), &false.into()));
    assert!(gateway.ask_admin("GET", "/metrics").body.contains("\ngatewright_serving_last_good 0\n"));
}

#[test]
fn a_reload_that_is_refused_leaves_the_kept_set_alone() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    gateway.logged("the set is kept");
    let failing = "tests:\n  - name: t\n    request: { path: /a }\n    expect: { status: 200, text: three }\n";
    gateway.folder.write("policies/a.yaml", &format!("{}{failing}", hello("a", "two")));
    gateway.logged("the changed files are not taken");
    // What failed its tests before a restart does not serve after it.
    let gateway = Gateway::serve(gateway.kill());
    assert_eq!(gateway.get("/a").body, "one");
}

#[test]
fn without_a_usable_kept_set_nothing_serves() {
    let folder = Folder::with(&[("policies/a.yaml", BROKEN)]);
    let said = gatewright(&folder.0, &["run"]);
    assert_eq!(said.code, 3);
    assert!(
        said.err.contains("no last good set is kept") && said.err.contains("policy.unknown_assertion"),
        "{}",
        said.err
    );

    folder.write("policies/a.yaml", &hello("a", "one"));
    let gateway = Gateway::serve(folder);
    gateway.logged("the set is kept");
    let folder = gateway.kill();
    folder.write("policies/a.yaml", BROKEN);
    let kept = std::fs::read(folder.path("state/last-good-set")).unwrap();
    for (damage, bytes) in [
        ("it is damaged", kept[..kept.len() - 7].to_vec()),
        ("it is damaged", kept.iter().map(|byte| if *byte == b'/' { b'_' } else { *byte }).collect()),
        ("no last good set of this format", b"something else".to_vec()),
        ("no last good set of this format", Vec::new()),
    ] {
        std::fs::write(folder.path("state/last-good-set"), bytes).unwrap();
        let said = gatewright(&folder.0, &["run"]);
        assert!(said.code == 3 && said.err.contains(damage), "{damage}: {}", said.err);
    }
    std::fs::write(folder.path("state/last-good-set"), &kept).unwrap();
    // Whole, but not where nobody else could have put it.
    std::fs::rename(folder.path("state/last-good-set"), folder.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(folder.path("elsewhere"), folder.path("state/last-good-set")).unwrap();
    let said = gatewright(&folder.0, &["run"]);
    assert!(said.code == 3 && said.err.contains("it is a symbolic link"), "{}", said.err);
    std::fs::rename(folder.path("elsewhere"), folder.path("state/last-good-set")).unwrap();
    std::fs::rename(folder.path("policies"), folder.path("others")).unwrap();
    folder.write("gateway.yaml", &format!("{ANY_PORT}policies: others\n"));
    let said = gatewright(&folder.0, &["run"]);
    assert!(said.code == 3 && said.err.contains("it is of other policies"), "{}", said.err);
}

#[test]
fn the_state_folder_is_where_the_configuration_says() {
    let config = format!("{ANY_PORT}state: kept/here\n");
    let gateway = Gateway::start(&[("gateway.yaml", &config), ("policies/a.yaml", &hello("a", "one"))]);
    gateway.logged("the set is kept");
    assert!(gateway.folder.path("kept/here/last-good-set").exists());
    assert!(!gateway.folder.path("state").exists());
}

#[test]
fn a_kill_while_a_set_is_written_leaves_one_that_serves() {
    let rounds = std::env::var("GATEWRIGHT_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    // Large enough that writing takes its time.
    let ballast = format!("list: ballast\nentries:\n{}", "  - a word that takes room on the disk\n".repeat(20_000));
    let folder = Folder::with(&[("policies/a.yaml", &hello("a", "0")), ("policies/ballast.yaml", &ballast)]);
    let mut gateway = Gateway::serve(folder);
    gateway.logged("the set is kept");
    let mut seed = u64::from(std::process::id()) | 1;
    let mut old = 0;
    for round in 1..=rounds {
        gateway.folder.write("policies/a.yaml", &hello("a", &round.to_string()));
        gateway.logged("reloaded");
        let swapped = Instant::now();
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let wait = Duration::from_micros(seed % KILL_US_MAX);
        while swapped.elapsed() < wait {
            std::hint::spin_loop();
        }
        let folder = gateway.kill();
        folder.write("policies/a.yaml", BROKEN);
        gateway = Gateway::serve(folder);
        assert_eq!(gateway.ask_admin("GET", "/readyz").json()["serving_last_good"], true, "round {round}");
        let body = gateway.get("/a").body;
        assert!(
            [round, round - 1].iter().any(|one| body == one.to_string()),
            "the new set or the old one, not {body}, in round {round}"
        );
        old += u64::from(body != round.to_string());
        gateway.folder.write("policies/a.yaml", &hello("a", &round.to_string()));
        gateway.logged("reloaded");
        gateway.logged("the set is kept");
    }
    println!("{rounds} kills, {} left the new set, {old} the one before, 0 none", rounds - old);
}
