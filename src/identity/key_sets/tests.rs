//! When keys are fetched, and what serves meanwhile.

use std::os::unix::fs::PermissionsExt;

use super::*;

const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn source(url: &str) -> Source {
    Source { url: url.to_owned(), discovery: None, tls: None, allow_private: Arc::from([]) }
}

fn set(kid: &str, max_age_s: Option<u64>) -> Fetched {
    let text = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{X}"}}]}}"#);
    Fetched { text: text.into_bytes(), max_age_s }
}

fn fetch(keys: &RemoteKeys, outcome: Result<Fetched, String>, now_ms: u64) {
    keys.begin();
    let _ = keys.end(outcome, now_ms, 1000 + (now_ms / 1000) as i64);
}

fn kids(keys: &RemoteKeys) -> Vec<String> {
    let current = keys.current();
    current.iter().flat_map(|set| set.keys()).filter_map(|key| key.kid().map(str::to_owned)).collect()
}

#[test]
fn freshness_is_what_the_answer_says_within_bounds() {
    for (max_age_s, due_s) in [(None, 720), (Some(0), 48), (Some(600), 480), (Some(10_000_000), 69_120)] {
        let keys = RemoteKeys::new(source("https://a/jwks"), None);
        assert_eq!(keys.due_in_ms(5), 0, "at once at first");
        fetch(&keys, Ok(set("a", max_age_s)), 0);
        assert_eq!(keys.due_in_ms(0), due_s * 1000, "{max_age_s:?}");
    }
}

#[test]
fn failures_pause_longer_and_longer_and_keep_what_was_good_for_a_day() {
    let keys = RemoteKeys::new(source("https://a/jwks"), None);
    fetch(&keys, Err("refused".into()), 0);
    assert!(keys.current().is_none() && keys.failing(0) == Some(1));
    fetch(&keys, Ok(set("a", None)), 1000);
    assert_eq!((kids(&keys), keys.failing(0), keys.standing().stale), (vec!["a".to_owned()], None, false));
    let mut at_ms = 1000;
    for pause_s in [1, 2, 4, 8, 16, 32, 60, 60] {
        fetch(&keys, Err("refused".into()), at_ms);
        assert_eq!(keys.due_in_ms(at_ms), pause_s * 1000);
        at_ms += pause_s * 1000;
    }
    for broken in ["", "[]", "<html>", r#"{"keys":7}"#] {
        fetch(&keys, Ok(Fetched { text: broken.into(), max_age_s: None }), at_ms);
        assert!(keys.standing().stale && kids(&keys) == ["a"], "{broken}");
    }
    fetch(&keys, Err("refused".into()), 24 * 3600 * 1000 + 999);
    assert_eq!(kids(&keys), ["a"]);
    fetch(&keys, Err("refused".into()), 24 * 3600 * 1000 + 1000);
    assert!(keys.current().is_none(), "a day is the most");
}

#[test]
fn a_good_answer_without_a_key_takes_it_away() {
    let keys = RemoteKeys::new(source("https://a/jwks"), None);
    fetch(&keys, Ok(set("a", None)), 0);
    fetch(&keys, Ok(set("b", None)), 1);
    assert_eq!(kids(&keys), ["b"]);
    // And one without any takes all, though it is no good answer.
    for none in [r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#] {
        fetch(&keys, Ok(Fetched { text: none.into(), max_age_s: None }), 2);
        assert!(keys.current().is_none() && keys.failing(2).is_some(), "{none}");
        fetch(&keys, Ok(set("b", None)), 3);
        assert_eq!(kids(&keys), ["b"]);
    }
}

#[test]
fn ten_thousand_who_ask_share_one_fetch_and_then_wait_out_the_pause() {
    let keys = RemoteKeys::new(source("https://a/jwks"), None);
    assert!(matches!(keys.ask(0, 0), Ask::Wait(_)), "the first one comes by itself, and costs no pause");
    fetch(&keys, Ok(set("a", None)), 0);
    assert!(matches!(keys.ask(0, 100), Ask::Done), "who has looked before it ended looks again, and costs no pause");
    let waiting = (0..5000).filter(|_| matches!(keys.ask(1, 100), Ask::Wait(_))).count();
    assert_eq!((waiting, keys.due_in_ms(100)), (5000, 0));
    fetch(&keys, Ok(set("a", None)), 200);
    assert!((0..5000).all(|_| matches!(keys.ask(2, 900), Ask::Cooling)));
    assert_eq!(keys.standing().fetches, 2);
    assert!(matches!(keys.ask(2, 100 + COOLDOWN_MS), Ask::Wait(_)));
    fetch(&keys, Err("refused".into()), 100 + COOLDOWN_MS);
    assert!(matches!(keys.ask(3, 101 + COOLDOWN_MS), Ask::Failing { retry_after_s: 10 }));
}

#[test]
fn equal_sources_share_their_keys_and_the_one_who_fetches_is_told() {
    let sets = KeySets::default();
    let first = sets.of(&source("https://a/jwks"), 0);
    let (sender, mut told) = mpsc::unbounded_channel();
    sets.fetch_with(sender);
    assert!(Arc::ptr_eq(&first, &sets.of(&source("https://a/jwks"), 0)));
    let other = Source { discovery: Some("https://a".into()), ..source("https://a/jwks") };
    let other = sets.of(&other, 0);
    assert!(!Arc::ptr_eq(&first, &other));
    assert_eq!(told.try_recv().unwrap().as_ptr(), Arc::as_ptr(&first));
    assert_eq!(told.try_recv().unwrap().as_ptr(), Arc::as_ptr(&other));
    assert!(told.try_recv().is_err());
    drop(first);
    assert_eq!(sets.standings().len(), 1);
}

#[test]
fn the_last_good_set_is_there_at_the_next_start_and_marked() {
    let folder = std::env::temp_dir().join(format!("gatewright-keys-{}", std::process::id()));
    let sets = || {
        let sets = KeySets::default();
        sets.keep_in(folder.join("keys"));
        sets
    };
    let keys = sets().of(&source("https://a/jwks"), 0);
    fetch(&keys, Ok(set("a", None)), 0); // at 1000 s
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = std::fs::read_dir(folder.join("keys")).unwrap().next().unwrap().unwrap().path();
    assert_eq!((mode(&folder.join("keys")), mode(&path)), (0o700, 0o600));
    let again = sets().of(&source("https://a/jwks"), 2000);
    assert_eq!(
        (kids(&again), again.standing().stale, again.standing().fetched_at_s),
        (vec!["a".into()], true, Some(1000))
    );
    assert!(sets().of(&source("https://b/jwks"), 2000).current().is_none());
    assert!(sets().of(&source("https://a/jwks"), 1000 + STALE_S).current().is_none(), "too old");
    std::fs::write(path, "{").unwrap();
    assert!(sets().of(&source("https://a/jwks"), 2000).current().is_none(), "broken");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn keys_come_over_tls_or_from_this_machine() {
    for url in ["https://a/jwks", "https://10.0.0.1", "http://127.0.0.1:9/x", "http://[::1]/x", "http://localhost/x"] {
        assert!(check_url(url).is_ok(), "{url}");
    }
    for url in
        ["http://a/jwks", "http://10.0.0.1/", "http://localhost.evil/", "file:///etc/passwd", "a/b", "", "https:///x"]
    {
        assert!(check_url(url).is_err(), "{url}");
    }
}

#[test]
fn withdrawn_keys_that_stay_on_the_disk_are_told_of() {
    let folder = std::env::temp_dir().join(format!("gatewright-withdrawn-{}", std::process::id()));
    let keys = RemoteKeys::new(source("https://a/jwks"), Some(folder.clone()));
    fetch(&keys, Ok(set("a", None)), 0);
    let kept = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let end = || {
        keys.begin();
        keys.end(Ok(Fetched { text: br#"{"keys":[]}"#.to_vec(), max_age_s: None }), 1, 1000).unwrap_err()
    };
    assert!(!end().contains("a restart would take them") && !kept.exists());
    // What even the administrator cannot remove as a file.
    std::fs::create_dir(&kept).unwrap();
    assert!(end().contains("a restart would take them"));
    std::fs::remove_dir_all(folder).unwrap();
}
