//! Resends on connections that had died, retries, failover, balance and ejection.

use bytes::Bytes;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

fn upstream(servers: &[&Server]) -> Upstream {
    let targets = servers.iter().map(|server| Arc::new(Target::new(server.origin.clone(), 1))).collect();
    Upstream::new("many", targets).unwrap()
}

fn through(upstream: &Arc<Upstream>, method: Method, attempts: u32) -> Call {
    let retry = Retry { attempts, backoff: Duration::ZERO, ..Retry::default() };
    Call { retry, ..call(Destination::Upstream(upstream.clone()), method, "/") }
}

/// A server whose first connection serves one call and dies inside the second.
async fn dying(last: Vec<Step>) -> (Server, Pool) {
    let mut first = vec![Read(0), send(OK), Read(0)];
    first.extend(last);
    let server = server(vec![first, vec![Read(0), send(OK), AwaitClose]]).await;
    let pool = pool();
    text(pool.send(to(&server, Method::GET)).await.unwrap()).await.unwrap();
    until(|| pool.idle() == 1).await;
    (server, pool)
}

#[test]
fn a_dead_reused_connection_is_replaced_without_notice() {
    run(async {
        for last in [vec![], vec![Reset]] {
            let (server, pool) = dying(last).await;
            let answer = pool.send(to(&server, Method::DELETE)).await.unwrap();
            assert_eq!((answer.attempts, answer.reused), (1, false));
            assert_eq!(text(answer).await.unwrap(), "ok");
            assert_eq!(server.connections.get(), 2);
            assert_eq!(server.seen.borrow()[1], server.seen.borrow()[2], "the same request again");
        }
    });
}

#[test]
fn the_resend_takes_no_second_idle_connection() {
    run(async {
        let twice = || vec![Read(0), Hold, send(OK), Read(0)];
        let server = server(vec![twice(), twice(), vec![Read(0), send(OK), AwaitClose]]).await;
        let pool = Rc::new(pool());
        let ask = || {
            let (pool, call) = (pool.clone(), to(&server, Method::GET));
            tokio::task::spawn_local(async move { text(pool.send(call).await.unwrap()).await.unwrap() })
        };
        let both = [ask(), ask()];
        until(|| server.seen.borrow().len() == 2).await;
        server.release.notify_waiters();
        for one in both {
            assert_eq!(one.await.unwrap(), "ok");
        }
        until(|| pool.idle() == 2).await;
        assert_eq!(ask().await.unwrap(), "ok");
        assert_eq!((server.connections.get(), server.seen.borrow().len()), (3, 4));
    });
}

#[test]
fn failover_retries_on_the_next_target() {
    run(async {
        let busy = server(vec![vec![Read(0), send(BUSY)]]).await;
        let good = server(vec![vec![Read(0), send(OK)]]).await;
        let mut upstream = upstream(&[&busy, &good]);
        upstream.balance = Balance::Failover;
        let answer = pool().send(through(&Arc::new(upstream), Method::GET, 2)).await.unwrap();
        assert_eq!(answer.target, *good.origin.text());
    });
}

#[test]
fn what_may_have_been_done_is_not_done_again() {
    run(async {
        let (server, pool) = dying(vec![]).await;
        assert!(matches!(pool.send(to(&server, Method::POST)).await, Err(SendError::BadAnswer(_))));
        assert_eq!(server.connections.get(), 1);
        // Half an answer is an answer.
        let (server, pool) = dying(vec![send("HTTP/1.1 2")]).await;
        assert!(matches!(pool.send(to(&server, Method::GET)).await, Err(SendError::BadAnswer(_))));
        assert_eq!(server.connections.get(), 1);
    });
}

#[test]
fn a_connection_that_was_closed_while_idle_is_not_used() {
    run(async {
        let server = server(vec![vec![Read(0), send(OK)], vec![Read(0), send(OK)]]).await;
        let pool = pool();
        text(pool.send(to(&server, Method::GET)).await.unwrap()).await.unwrap();
        until(|| pool.is_empty()).await;
        let answer = pool.send(to(&server, Method::POST)).await.unwrap();
        assert!(!answer.reused);
    });
}

#[test]
fn a_new_connection_that_dies_is_not_asked_again_without_retry() {
    run(async {
        let server = server(vec![vec![Read(0)], vec![Read(0), send(OK)]]).await;
        assert!(matches!(pool().send(to(&server, Method::GET)).await, Err(SendError::BadAnswer(_))));
        assert_eq!(server.connections.get(), 1);
    });
}

#[test]
fn retries_go_to_another_target_until_one_answers() {
    run(async {
        let refusing = refusing_server();
        let dying = server(vec![vec![Read(3)]]).await;
        let busy = server(vec![vec![Read(3), send(BUSY)]]).await;
        let good = server(vec![vec![Read(3), send(OK)]]).await;
        let upstream = Arc::new(upstream(&[&refusing, &dying, &busy, &good]));
        let mut put = through(&upstream, Method::PUT, 4);
        put.body = Body::Buffered(Bytes::from_static(b"abc"));
        let answer = pool().send(put).await.unwrap();
        assert_eq!((answer.attempts, answer.target.clone()), (4, good.origin.text().clone()));
        assert_eq!(text(answer).await.unwrap(), "ok");
        assert!(good.seen.borrow()[0].contains(&format!("host: {}\r\n", good.origin.authority().to_str().unwrap())));
        assert!(good.seen.borrow()[0].ends_with("\r\n\r\nabc"));
    });
}

#[test]
fn the_last_attempt_counts_as_it_is() {
    run(async {
        let busy = || vec![Read(0), send(BUSY), Read(0), send(BUSY), AwaitClose];
        let (first, second) = (server(vec![busy()]).await, server(vec![busy()]).await);
        let upstream = Arc::new(upstream(&[&first, &second]));
        let answer = pool().send(through(&upstream, Method::GET, 2)).await.unwrap();
        assert_eq!((answer.status, answer.attempts), (StatusCode::SERVICE_UNAVAILABLE, 2));
        assert_eq!((first.seen.borrow().len(), second.seen.borrow().len()), (1, 1));
    });
}

#[test]
fn only_what_is_safe_is_retried() {
    run(async {
        let busy = server(vec![vec![Read(0), send(BUSY)]]).await;
        let good = server(vec![vec![Read(0), send(OK)]]).await;
        let refusing = refusing_server();
        let one = Arc::new(upstream(&[&busy, &good]));
        let answer = pool().send(through(&one, Method::POST, 2)).await.unwrap();
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        // Where nothing was sent, every method is.
        let two = Arc::new(upstream(&[&refusing, &good]));
        let answer = pool().send(through(&two, Method::POST, 2)).await.unwrap();
        assert_eq!((answer.status, answer.attempts), (StatusCode::OK, 2));
    });
}

#[test]
fn a_spent_budget_ends_the_retries() {
    run(async {
        let refusing = refusing_server();
        let upstream = Arc::new(upstream(&[&refusing]));
        while upstream.budget.take(0, 20) {}
        let pool = Pool::new(Wheel::new(), Clock::Frozen(crate::clock::Frozen::at(jiff::Timestamp::UNIX_EPOCH)));
        assert!(matches!(pool.send(through(&upstream, Method::GET, 3)).await, Err(SendError::Connect(_))));
    });
}

#[test]
fn failover_returns_to_the_first_when_it_may_be_tried_again() {
    run(async {
        let first = server(vec![vec![Read(0), send(BUSY), Read(0), send(OK), AwaitClose]]).await;
        let second = server(vec![vec![Read(0), send(OK), AwaitClose]]).await;
        let mut upstream = upstream(&[&first, &second]);
        upstream.balance = Balance::Failover;
        upstream.eject = Some(Eject { failures: 1, for_: Duration::from_secs(5), at_most_percent: 50 });
        let upstream = Arc::new(upstream);
        let frozen = crate::clock::Frozen::at(jiff::Timestamp::UNIX_EPOCH);
        let pool = Pool::new(Wheel::new(), Clock::Frozen(frozen.clone()));
        let mut targets = Vec::new();
        for kept in 1..=2 {
            targets.push(pool.send(through(&upstream, Method::GET, 1)).await.unwrap().target);
            until(|| pool.idle() == kept).await;
        }
        frozen.advance(Duration::from_secs(5));
        targets.push(pool.send(through(&upstream, Method::GET, 1)).await.unwrap().target);
        let [one, two] = [&first, &second].map(|server| server.origin.text().clone());
        assert_eq!(targets, [one.clone(), two, one]);
    });
}

#[test]
fn turns_are_exact_over_connections() {
    run(async {
        let script = || vec![(0..3).flat_map(|_| [Read(0), send(OK)]).chain([AwaitClose]).collect::<Vec<_>>()];
        let (first, second) = (server(script()).await, server(script()).await);
        let upstream = Arc::new(upstream(&[&first, &second]));
        let pool = pool();
        for sent in 1..=6usize {
            text(pool.send(through(&upstream, Method::GET, 1)).await.unwrap()).await.unwrap();
            until(|| pool.idle() == sent.min(2)).await;
        }
        assert_eq!((first.seen.borrow().len(), second.seen.borrow().len()), (3, 3));
    });
}

#[test]
fn with_all_targets_ejected_there_is_none() {
    run(async {
        let refusing = refusing_server();
        let mut upstream = upstream(&[&refusing]);
        upstream.eject = Some(Eject { failures: 1, for_: Duration::from_secs(60), at_most_percent: 100 });
        let upstream = Arc::new(upstream);
        let pool = pool();
        assert!(matches!(pool.send(through(&upstream, Method::GET, 1)).await, Err(SendError::Connect(_))));
        assert_eq!(pool.send(through(&upstream, Method::GET, 1)).await.err(), Some(SendError::NoTarget));
    });
}
