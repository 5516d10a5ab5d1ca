//! Health checks over real connections, on a wheel that the test turns.

use super::*;

const EVERY: Duration = Duration::from_secs(1);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

fn checked(server: &Server) -> Arc<Upstream> {
    let mut upstream = Upstream::new("one", vec![Arc::new(Target::new(server.origin.clone(), 1))]).unwrap();
    upstream.check = Some(Check {
        path: "/health?deep".parse().unwrap(),
        every: EVERY,
        timeout: Duration::from_millis(500),
        patience: Patience { healthy_after: 2, unhealthy_after: 2 },
        expect: [http::StatusCode::OK].into(),
    });
    Arc::new(upstream)
}

fn care() -> (Wheel, Care) {
    let wheel = Wheel::new();
    (wheel.clone(), Care::new(wheel, Clock::system()))
}

#[test]
fn a_target_is_asked_again_and_again_and_believed_when_it_has_agreed() {
    run(async {
        let answers = [BROKEN, OK, OK, BROKEN, BROKEN];
        let script = answers.iter().flat_map(|answer| [Read(0), send(answer)]).chain([AwaitClose]);
        let server = server(vec![script.collect()]).await;
        let upstream = checked(&server);
        let (wheel, mut care) = care();
        care.follow(std::slice::from_ref(&upstream));
        for (round, is_unhealthy) in [true, true, false, false, true].into_iter().enumerate() {
            until(|| server.seen.borrow().len() == round + 1 && care.pool.idle() == 1).await;
            assert_eq!(upstream.targets()[0].is_unhealthy(), is_unhealthy, "after {round}");
            turn(&wheel, EVERY);
        }
        assert!(server.seen.borrow()[0].starts_with("GET /health?deep HTTP/1.1\r\n"));
        assert_eq!(upstream.targets()[0].why_unhealthy().as_deref(), Some("answered 500 to /health?deep"));
        assert_eq!(server.connections.get(), 1);
        let refused = pool().send(call(Destination::Upstream(upstream), Method::GET, "/")).await;
        assert_eq!(refused.err(), Some(SendError::NoTarget));
    });
}

#[test]
fn a_target_that_does_not_answer_in_time_or_at_all_is_unhealthy() {
    run(async {
        let (silent, refusing) = (server(vec![vec![Read(0), AwaitClose]]).await, refusing_server());
        let upstreams = [checked(&silent), checked(&refusing)];
        let (wheel, mut care) = care();
        care.follow(&upstreams);
        silent.was_read.notified().await;
        turn(&wheel, Duration::from_millis(500));
        for (upstream, words) in upstreams.iter().zip(["in time", "connecting to"]) {
            until(|| upstream.targets()[0].is_unhealthy()).await;
            let why = upstream.targets()[0].why_unhealthy().unwrap();
            assert!(why.contains(words) || why.contains("total time"), "{why}");
        }
    });
}

#[test]
fn checks_follow_what_serves() {
    run(async {
        let script = || vec![vec![Read(0), AwaitClose]];
        let (stays, goes) = (server(script()).await, server(script()).await);
        let upstreams = [checked(&stays), checked(&goes)];
        let (_wheel, mut care) = care();
        care.follow(&upstreams);
        stays.was_read.notified().await;
        goes.was_read.notified().await;
        care.follow(&upstreams[..1]);
        goes.was_closed.notified().await;
        for _ in 0..1000 {
            tokio::task::yield_now().await; // a second check would have come by now
        }
        assert_eq!((stays.connections.get(), stays.seen.borrow().len()), (1, 1));
        drop(care);
        stays.was_closed.notified().await;
    });
}
