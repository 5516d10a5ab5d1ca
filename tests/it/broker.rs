//! Stored tokens and side calls over real sockets: refreshes, replays, outages, and a kill while tokens are written.

mod cloud;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use self::cloud::{Cloud, Login};
use crate::harness::{Answer, Folder, Gateway, PATIENCE, exchange, free_address, get};

const SECRET: &str = "client-canary-0123456789";
const FILE: &str = "state/sessions/crm.json";

fn policy(cloud: SocketAddr, more: &str) -> String {
    format!(
        "secret: crm\nfrom: {{ file: crm.secret }}\n---\noauth_session: crm\nkind: oauth2\ngrant: refresh_token\n\
         token_url: http://{cloud}/token\nclient: {{ id: gw, secret: {{ secret: crm }} }}\n\
         allowed_origins: [\"http://{cloud}\"]\nrefresh: {{ before: 1m, timeout: 10s }}\n{more}---\n\
         service: crm\nmatch: {{ path: \"/{{*rest}}\" }}\npolicy:\n  - inject_oauth_token: crm\n  \
         - route: {{ to: \"http://{cloud}\" }}\n"
    )
}

fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// A folder whose session has the tokens `a0` and `r0`.
fn folder(cloud: &Cloud, expires_in_s: i64) -> Folder {
    let tokens =
        format!("{{\"access_token\":\"a0\",\"refresh_token\":\"r0\",\"expires_at\":{}}}", in_seconds(expires_in_s));
    let policy = policy(cloud.address, "");
    Folder::with(&[("policies/crm.yaml", &policy), ("crm.secret", SECRET), (FILE, &tokens)])
}

/// The same, and a login that says nothing is given up after a second.
fn impatient(cloud: &Cloud, expires_in_s: i64) -> Folder {
    let folder = folder(cloud, expires_in_s);
    folder.write("policies/crm.yaml", &policy(cloud.address, "").replace("timeout: 10s", "timeout: 1s"));
    folder
}

fn kept(folder: &Folder) -> Json {
    serde_json::from_slice(&std::fs::read(folder.path(FILE)).unwrap()).unwrap()
}

fn post(main: SocketAddr, path: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: {main}\r\nconnection: close\r\ncontent-length: {length}");
    exchange(main, &format!("{head}\r\n\r\n{body}"))
}

fn fault(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

/// Asks until the answer is a success.
fn until_opened(gateway: &Gateway) {
    let begun = Instant::now();
    while gateway.get("/x").status != 200 {
        assert!(begun.elapsed() < PATIENCE, "it never opened");
        std::thread::sleep(Duration::from_millis(20)); // a failure is told for a second: nothing wakes us
    }
}

#[test]
fn a_token_that_has_ended_is_renewed_and_written_before_it_is_used() {
    let cloud = Cloud::start(Login::Gives(3600));
    let gateway = Gateway::serve(folder(&cloud, -10));
    let answer = gateway.get("/x");
    assert_eq!((answer.status, answer.body.as_str(), answer.header("set-cookie")), (200, "opened", None));
    assert_eq!(cloud.calls(), [("/x".into(), "Bearer a1".into(), String::new())]);
    let seen = cloud.seen.lock().unwrap().refreshes.clone();
    assert_eq!(seen, ["grant_type=refresh_token&refresh_token=r0"]);
    let tokens = kept(&gateway.folder);
    assert_eq!((&tokens["access_token"], &tokens["refresh_token"]), (&"a1".into(), &"r1".into()));
    let mode = std::fs::metadata(gateway.folder.path(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    gateway.get("/x");
    assert_eq!(cloud.refreshes(), 1, "the new one serves");
}

#[test]
fn a_token_that_ends_soon_serves_while_it_is_renewed() {
    let cloud = Cloud::start(Login::Hangs);
    *cloud.opens.lock().unwrap() = Some("a0".into());
    let gateway = Gateway::serve(impatient(&cloud, 30));
    assert_eq!(gateway.get("/x").status, 200);
    cloud.login(Login::Gives(3600));
    *cloud.opens.lock().unwrap() = None;
    gateway.admin_until("/readyz", |answer| answer.json()["sessions"]["crm"]["state"] == "connected");
    until_opened(&gateway);
}

#[test]
fn a_refused_token_is_renewed_and_the_call_sent_once_more() {
    let cloud = Cloud::start(Login::Gives(3600));
    let gateway = Gateway::serve(folder(&cloud, 3600));
    *cloud.opens.lock().unwrap() = Some("a1".into());
    let answer = post(gateway.main, "/x", "{\"a\":1}");
    assert_eq!((answer.status, answer.body.as_str()), (200, "opened"));
    let call = |token: &str| ("/x".to_owned(), format!("Bearer {token}"), "{\"a\":1}".to_owned());
    assert_eq!((cloud.calls(), cloud.refreshes()), (vec![call("a0"), call("a1")], 1));
    let record = gateway.record("/x");
    assert_eq!(record["upstream_attempts"], 2);
}

#[test]
fn a_service_that_refuses_everything_is_asked_twice() {
    let cloud = Cloud::start(Login::Gives(3600));
    *cloud.opens.lock().unwrap() = Some("nothing".into());
    let gateway = Gateway::serve(folder(&cloud, 3600));
    let answer = gateway.get("/x");
    assert_eq!(fault(&answer), (502, "inject_oauth_token.rejected".into()));
    assert_eq!((answer.header("www-authenticate"), answer.header("set-cookie")), (None, None));
    assert_eq!((cloud.calls().len(), cloud.refreshes()), (2, 1));
}

#[test]
fn a_body_that_is_not_held_is_not_sent_twice() {
    let cloud = Cloud::start(Login::Gives(3600));
    let gateway = Gateway::serve(folder(&cloud, 3600));
    *cloud.opens.lock().unwrap() = Some("a1".into());
    let large = "x".repeat(2 * 1024 * 1024);
    let answer = post(gateway.main, "/x", &large);
    assert_eq!(fault(&answer), (503, "inject_oauth_token.not_replayable".into()));
    assert_eq!((answer.header("retry-after"), cloud.calls().len()), (Some("1"), 1));
    assert_eq!(post(gateway.main, "/x", &large).status, 200, "the token was renewed for whoever comes next");
}

#[test]
fn a_hundred_requests_share_one_refresh() {
    let cloud = Cloud::start(Login::Slow(3600, Duration::from_millis(300)));
    let gateway = Gateway::serve(folder(&cloud, -10));
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let main = gateway.main;
            std::thread::spawn(move || get(main, "/x").status)
        })
        .collect();
    let statuses: Vec<u16> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!((cloud.refreshes(), cloud.calls().len()), (1, 100));
    let numbers = gateway.ask_admin("GET", "/metrics").body;
    assert!(numbers.contains("gatewright_oauth_refreshes_total{result=\"ok\"} 1"), "{numbers}");
}

#[test]
fn a_hundred_refused_requests_share_one_refresh() {
    let cloud = Cloud::start(Login::Slow(3600, Duration::from_millis(300)));
    *cloud.opens.lock().unwrap() = Some("a1".into());
    let gateway = Gateway::serve(folder(&cloud, 3600));
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let main = gateway.main;
            std::thread::spawn(move || post(main, "/x", "{}").status)
        })
        .collect();
    assert!(asking.into_iter().all(|asking| asking.join().unwrap() == 200));
    assert_eq!(cloud.refreshes(), 1);
}

#[test]
fn a_login_that_fails_in_any_way_is_503_and_asked_again() {
    let nowhere = free_address();
    let away = Cloud::start(Login::Gives(3600));
    let ways = [
        Login::Status(500),
        Login::Error("temporarily_unavailable"),
        Login::Hangs,
        Login::Endless(10 * 1024 * 1024),
        Login::Redirect(away.address),
    ];
    for login in ways {
        let cloud = Cloud::start(login);
        let gateway = Gateway::serve(impatient(&cloud, -10));
        let begun = Instant::now();
        let answer = gateway.get("/x");
        assert_eq!(fault(&answer), (503, "inject_oauth_token.refresh_failed".into()));
        assert!(answer.header("retry-after").is_some() && begun.elapsed() < PATIENCE / 2);
        assert!(cloud.calls().is_empty(), "nothing goes out without a token");
        cloud.login(Login::Gives(3600));
        until_opened(&gateway);
        // On a busy machine the gateway may give up an answer as well, and ask once more.
        assert_eq!(kept(&gateway.folder)["refresh_token"], cloud.last_refresh_token());
    }
    assert!(away.seen.lock().unwrap().refreshes.is_empty(), "redirects are not followed");
    let cloud = Cloud::start(Login::Gives(3600));
    let folder = folder(&cloud, -10);
    let elsewhere = policy(cloud.address, "").replace(&format!("{}/token", cloud.address), &format!("{nowhere}/token"));
    folder.write("policies/crm.yaml", &elsewhere);
    let answer = Gateway::serve(folder).get("/x");
    assert_eq!(fault(&answer), (503, "inject_oauth_token.refresh_failed".into()));
}

#[test]
fn a_dead_grant_is_not_asked_for_again_until_somebody_connects_it() {
    let cloud = Cloud::start(Login::Error("invalid_grant"));
    let gateway = Gateway::serve(folder(&cloud, -10));
    assert_eq!(fault(&gateway.get("/x")), (503, "inject_oauth_token.exhausted".into()));
    gateway.logged("a stored session is exhausted");
    cloud.login(Login::Gives(3600));
    // The next attempt, a second later, looks into the file and finds the same dead token.
    gateway.admin_until("/readyz", |answer| {
        assert_eq!(fault(&gateway.get("/x")), (503, "inject_oauth_token.exhausted".into()));
        answer.json()["sessions"]["crm"]["refreshes"].as_u64() >= Some(2)
    });
    assert_eq!(cloud.refreshes(), 1);
    gateway.folder.write(FILE, "{\"refresh_token\":\"connected-anew\"}");
    until_opened(&gateway);
    assert!(cloud.seen.lock().unwrap().refreshes.last().unwrap().ends_with("refresh_token=connected-anew"));
}

#[test]
fn a_grant_that_somebody_has_replaced_meanwhile_is_not_dead() {
    let cloud = Cloud::start(Login::Gives(3600));
    let folder = folder(&cloud, -10);
    cloud.login(Login::Replaced(folder.path(FILE)));
    let gateway = Gateway::serve(folder);
    assert_eq!(gateway.get("/x").status, 200);
    let seen = cloud.seen.lock().unwrap().refreshes.clone();
    let tokens: Vec<&str> = seen.iter().filter_map(|body| body.rsplit('=').next()).collect();
    assert_eq!(tokens, ["r0", "connected-meanwhile"]);
}

#[test]
fn a_session_that_nobody_has_connected_waits_for_its_file() {
    let cloud = Cloud::start(Login::Gives(3600));
    let policy = policy(cloud.address, "");
    let gateway = Gateway::start(&[("policies/crm.yaml", &policy), ("crm.secret", SECRET)]);
    assert_eq!(fault(&gateway.get("/x")), (503, "inject_oauth_token.no_session".into()));
    gateway.folder.write(FILE, "{\"refresh_token\":\"r0\"}");
    until_opened(&gateway);
}

#[test]
fn a_reload_keeps_the_tokens() {
    let cloud = Cloud::start(Login::Gives(3600));
    let gateway = Gateway::serve(folder(&cloud, -10));
    assert_eq!(gateway.get("/x").status, 200);
    let changed = policy(cloud.address, "lifetime_default: 2h\n");
    gateway.folder.write("policies/crm.yaml", &changed);
    assert_eq!(gateway.ask_admin("POST", "/api/reload").status, 200);
    assert_eq!((gateway.get("/x").status, cloud.refreshes()), (200, 1));
    // A token that came just now is not renewed because it is refused, and goes on serving whoever is not.
    *cloud.opens.lock().unwrap() = Some("a2".into());
    let refused: Vec<_> = (0..5).map(|_| fault(&gateway.get("/x"))).collect();
    assert!(refused.iter().all(|fault| *fault == (502, "inject_oauth_token.rejected".into())), "{refused:?}");
    *cloud.opens.lock().unwrap() = Some("a1".into());
    assert_eq!((gateway.get("/x").status, cloud.refreshes()), (200, 1));
}

#[test]
fn a_document_renews_with_the_tokens_of_the_one_before() {
    let cloud = Cloud::start(Login::Gives(12)); // each is renewed after a second
    let gateway = Gateway::serve(folder(&cloud, -10));
    assert_eq!(gateway.get("/x").status, 200);
    gateway.folder.write("policies/crm.yaml", &policy(cloud.address, "lifetime_default: 2h\n"));
    assert_eq!(gateway.ask_admin("POST", "/api/reload").status, 200);
    let (before, begun) = (cloud.refreshes(), Instant::now());
    while cloud.refreshes() == before {
        assert_eq!(gateway.get("/x").status, 200);
        assert!(begun.elapsed() < PATIENCE, "it is never renewed");
    }
    let asked = cloud.seen.lock().unwrap().refreshes.clone();
    let of_the_one_before = |(n, body): (usize, &String)| body.ends_with(&format!("refresh_token=r{n}"));
    assert!(asked.iter().enumerate().all(of_the_one_before), "{asked:?}");
}

#[test]
fn a_kill_while_tokens_are_written_leaves_a_file_that_can_be_used() {
    let cloud = Cloud::start(Login::Gives(1));
    let mut folder = folder(&cloud, -10);
    for round in 0..8 {
        let gateway = Gateway::serve(folder);
        let begun = cloud.refreshes();
        // Tokens of a second are renewed with each request, so that the file is written all the time.
        let main = gateway.main;
        let asking = std::thread::spawn(move || while std::panic::catch_unwind(|| get(main, "/x")).is_ok() {});
        let patience = Instant::now();
        while cloud.refreshes() < begun + 3 + round {
            assert!(patience.elapsed() < PATIENCE, "nothing is renewed");
            std::thread::yield_now();
        }
        folder = gateway.kill();
        asking.join().unwrap();
        let tokens = kept(&folder);
        let number = |name: &str, letter: &str| tokens[name].as_str().unwrap().trim_start_matches(letter).to_owned();
        assert_eq!(number("access_token", "a"), number("refresh_token", "r"), "both are of one answer");
    }
    until_opened(&Gateway::serve(folder));
}

#[test]
fn no_token_goes_where_a_redirect_points_or_is_written_anywhere() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = elsewhere.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for _ in elsewhere.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let cloud = Cloud::start(Login::Gives(3600));
    let folder = folder(&cloud, 3600);
    let canary = "token-canary";
    let tokens = format!("{{\"access_token\":\"{canary}\",\"refresh_token\":\"refresh-canary\"}}");
    folder.write(FILE, &tokens);
    let gateway = Gateway::serve(folder);
    let answer = gateway.get(&format!("/away/{address}"));
    assert_eq!((answer.status, connections.load(Ordering::SeqCst)), (307, 0));
    assert_eq!(cloud.calls()[0].1, format!("Bearer {canary}"));
    cloud.login(Login::Error("invalid_grant"));
    let failed = gateway.get("/x");
    let told = [
        gateway.record("/x").to_string(),
        gateway.logged("a stored session is exhausted").to_string(),
        gateway.ask_admin("GET", "/readyz").body,
        gateway.ask_admin("GET", "/api/snapshot").body,
        gateway.ask_admin("GET", "/api/trace/failed").body,
        gateway.ask_admin("GET", "/metrics").body,
        failed.head,
        failed.body,
        gateway.begun.iter().map(Json::to_string).collect(),
    ];
    for text in told {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn a_side_call_follows_no_redirect_and_has_bounds() {
    let cloud = Cloud::start(Login::Gives(1));
    let away = Cloud::start(Login::Gives(1));
    // Only what never answers has a short time: a busy machine needs longer for the rest.
    let policy = |name: &str, path: &str, to: &str, total: &str| {
        format!(
            "service: {name}\nmatch: {{ path: \"{path}\" }}\npolicy:\n  - call_http: {{ to: \"http://{}/{to}\", \
             timeouts: {{ total: {total} }} }}\n  - respond: {{ json: {{ status: \"${{called.status}}\", location: \
             \"${{called.headers.location}}\" }} }}\n",
            cloud.address
        )
    };
    let rest = policy("rest", "/{*rest}", "${path.rest}", "20s");
    let silent = policy("silent", "/silent", "silent", "500ms");
    let gateway = Gateway::start(&[("policies/a.yaml", &format!("{rest}---\n{silent}"))]);
    let answer = gateway.get(&format!("/away/{}", away.address));
    assert_eq!((answer.status, &answer.json()["status"]), (200, &307.into()));
    assert!(away.calls().is_empty() && answer.body.contains(&away.address.port().to_string()));
    let large = gateway.get(&format!("/large/{}", 10 * 1024 * 1024));
    assert_eq!(fault(&large), (502, "call_http.answer_too_large".into()));
    let begun = Instant::now();
    assert_eq!(fault(&gateway.get("/silent")), (504, "call_http.timeout_total".into()));
    assert!(begun.elapsed() < PATIENCE / 2);
    assert_eq!(fault(&gateway.get("/x")), (502, "call_http.unsuccessful".into()));
}
