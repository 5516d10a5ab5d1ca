//! Who waits for a refresh, who is told of a failure, and when the next one is due.

use super::*;
use crate::broker::request::tests::settings;

const BEFORE: Duration = Duration::from_secs(300);

fn at(unix_s: i64) -> Moment {
    Moment { unix_s, mono_ms: u64::try_from(unix_s).unwrap() * 1000 }
}

fn grant(access: &str, refresh: &str, expires_at_s: i64) -> Grant {
    let text = format!(
        "{{\"access_token\":\"{access}\",\"refresh_token\":\"{refresh}\",\"expires_at\":{expires_at_s},\"refreshed_at\":0}}"
    );
    Grant::read(text.as_bytes()).unwrap()
}

fn state(first: Grant) -> State {
    State::new("x.json".into(), Ok(Some(first)))
}

fn serial(look: &Look) -> u64 {
    match look {
        Look::Good(live) => live.serial,
        other => panic!("{other:?}"),
    }
}

fn waits((look, wakes): (Look, bool)) -> bool {
    assert!(matches!(look, Look::Wait(_)), "{look:?}");
    wakes
}

#[test]
fn a_fresh_token_serves_and_one_that_ends_soon_is_renewed_meanwhile() {
    let state = state(grant("a", "r", 1000));
    let (look, asks) = state.look(at(600), BEFORE);
    assert!(serial(&look) == 1 && !asks);
    let (look, asks) = state.look(at(700), BEFORE);
    assert!(serial(&look) == 1 && asks);
    let (look, asks) = state.look(at(700), BEFORE);
    assert!(serial(&look) == 1 && !asks, "one refresh is enough");
    assert!(state.begin() && !state.begin());
    state.hold(&grant("b", "r2", 5000));
    assert_eq!(serial(&state.look(at(701), BEFORE).0), 1, "the new one serves when it is written");
    state.written(grant("b", "r2", 5000));
    state.end(Ok(()), at(701));
    assert_eq!(serial(&state.look(at(702), BEFORE).0), 2);
}

#[test]
fn whoever_comes_during_a_refresh_waits_for_it() {
    let state = state(grant("a", "r", 1000));
    assert!(waits(state.look(at(2000), BEFORE)));
    assert!(state.begin());
    assert!(!waits(state.look(at(2000), BEFORE)));
}

#[test]
fn a_failure_is_told_for_a_second() {
    let state = state(grant("a", "r", 1000));
    assert!(waits(state.look(at(2000), BEFORE)));
    state.begin();
    state.end(Err(Failure::Refresh("down".into())), at(2000));
    let (look, asks) = state.look(Moment { mono_ms: 2_000_999, ..at(2000) }, BEFORE);
    assert!(matches!(look, Look::Failed { retry_after_s: 1, .. }) && !asks);
    assert!(waits(state.look(at(2001), BEFORE)));
}

#[test]
fn a_token_that_still_serves_is_renewed_again_after_a_pause() {
    let state = state(grant("a", "r", 1000));
    for (fails_at_s, silent_until_s) in [(700, 701), (701, 703), (703, 707)] {
        assert!(state.look(at(fails_at_s), BEFORE).1, "{fails_at_s}");
        state.begin();
        state.end(Err(Failure::Refresh("down".into())), at(fails_at_s));
        let (look, asks) = state.look(at(silent_until_s - 1), BEFORE);
        assert!(serial(&look) == 1 && !asks, "{fails_at_s}");
    }
}

#[test]
fn a_refused_token_serves_nobody_and_is_renewed_once() {
    let state = state(grant("a", "r", 1000));
    assert!(waits(state.refuse(1, at(100))));
    state.begin();
    assert!(!waits(state.refuse(1, at(100))), "the second one finds it under way");
    assert!(!waits(state.look(at(100), BEFORE)), "nobody is given it any more");
    state.written(grant("b", "r", 1000));
    state.end(Ok(()), at(100));
    assert_eq!(serial(&state.refuse(1, at(100)).0), 2, "somebody has renewed it meanwhile");
    assert!(waits(state.refuse(2, at(100))));
}

#[test]
fn a_token_that_came_just_now_is_not_renewed_for_a_refusal() {
    let state = state(grant("a", "r", 1000));
    for now in [0, FRESH_S - 1] {
        let (look, asks) = state.refuse(1, at(now));
        assert!(matches!(look, Look::Fresh) && !asks, "{look:?}");
        assert_eq!(serial(&state.look(at(now), BEFORE).0), 1, "it still serves everybody else");
    }
    assert!(state.begin());
    assert!(!waits(state.refuse(1, at(0))), "another one is on its way, and this one perhaps over by that");
    state.end(Err(Failure::Refresh("down".into())), at(0));
    assert!(waits(state.refuse(1, at(FRESH_S))));
    // A clock that was set back keeps nobody from a new one.
    let state = State::new("x.json".into(), Ok(Some(Grant { refreshed_at_s: Some(500), ..grant("a", "r", 1000) })));
    assert!(waits(state.refuse(1, at(100))));
}

#[test]
fn the_same_token_is_no_other_one() {
    let state = state(grant("a", "r", 1000));
    waits(state.refuse(1, at(100)));
    state.begin();
    assert!(!state.adopt(&grant("a", "r", 2000), at(100)), "the file holds nothing new");
    assert!(!state.adopt(&grant("a", "r2", 2000), at(100)), "its refresh token is new, and what is needed");
    assert!(state.current().unwrap().grant.is_same(&grant("a", "r2", 2000)));
    state.end(Ok(()), at(100));
    assert!(waits(state.look(at(100), BEFORE)), "its access token was refused");
}

#[test]
fn what_is_on_the_disk_serves_where_it_is_another_one() {
    let state = state(grant("a", "r", 1000));
    assert!(state.adopt(&grant("b", "r", 2000), at(1500)));
    assert!(!state.adopt(&grant("c", "r", 1000), at(1500)), "it has ended, and is renewed");
    assert!(state.current().unwrap().grant.is_same(&grant("c", "r", 1000)));
}

#[test]
fn it_is_renewed_ahead_of_its_end_where_it_is_used_and_now_and_then_where_it_is_not() {
    let settings = settings();
    let state = state(grant("a", "r", 1000));
    assert_eq!(state.due_in_ms(&settings, at(100)), 86_300_000);
    state.look(at(100), BEFORE);
    assert_eq!(state.due_in_ms(&settings, at(100)), 600_000);
    assert_eq!(state.due_in_ms(&settings, at(900)), 0);
    waits(state.look(at(2000), BEFORE));
    assert_eq!(state.due_in_ms(&settings, at(100)), 0);
    state.begin();
    assert_eq!(state.due_in_ms(&settings, at(2000)), u64::from(u32::MAX), "one is under way");
    state.end(Err(Failure::Refresh("down".into())), at(2000));
    assert_eq!(state.due_in_ms(&settings, at(2000)), 1000);
}

#[test]
fn it_is_told_how_it_stands() {
    let state = state(grant("a", "r", 1000));
    assert_eq!(state.standing(0).word, "connected");
    assert_eq!(state.standing(1000).word, "expired");
    state.begin();
    assert_eq!(state.standing(0).word, "refreshing");
    state.end(Err(Failure::Exhausted("dead".into())), at(0));
    let standing = state.standing(0);
    assert_eq!((standing.word, standing.last_error.as_deref()), ("exhausted", Some("dead")));
    state.begin();
    state.end(Err(Failure::NoSession("gone".into())), at(0));
    assert_eq!((state.standing(0).word, state.current().is_none()), ("none", true));
}

#[test]
fn of_many_threads_one_is_told_to_renew() {
    for _ in 0..200 {
        let state = Arc::new(state(grant("a", "r", 0)));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let state = state.clone();
                std::thread::spawn(move || {
                    waits(state.refuse(1, at(100)));
                    usize::from(state.begin())
                })
            })
            .collect();
        assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 1);
    }
}
