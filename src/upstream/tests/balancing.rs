//! Load and keys as calls over real connections see them, and the bounds of a pool.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn upstream(balance: Balance, servers: &[&Server]) -> Upstream {
    let targets = servers.iter().map(|server| Arc::new(Target::new(server.origin.clone(), 1))).collect();
    let mut upstream = Upstream::new("many", targets).unwrap();
    upstream.balance = balance;
    upstream
}

fn through(upstream: &Arc<Upstream>) -> Call {
    call(Destination::Upstream(upstream.clone()), Method::GET, "/")
}

fn answering(times: usize) -> Vec<Vec<Step>> {
    vec![(0..times).flat_map(|_| [Read(0), send(OK)]).chain([AwaitClose]).collect()]
}

#[test]
fn a_call_is_load_until_the_last_byte_of_its_answer() {
    run(async {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no";
        let slow = server(vec![vec![Read(0), send(head), Hold, send("k"), AwaitClose]]).await;
        let quick = server(answering(3)).await;
        let upstream = Arc::new(upstream(Balance::LeastRequests, &[&slow, &quick]));
        let pool = pool();
        let loads = || upstream.targets().iter().map(|target| target.in_flight()).collect::<Vec<_>>();
        let long = pool.send(through(&upstream)).await.unwrap();
        assert_eq!((&*long.target, loads()), (&**slow.origin.text(), vec![1, 0]));
        for _ in 0..3 {
            let answer = pool.send(through(&upstream)).await.unwrap();
            assert_eq!(answer.target, *quick.origin.text());
            text(answer).await.unwrap();
        }
        slow.release.notify_one();
        assert_eq!(text(long).await.unwrap(), "ok");
        assert_eq!(loads(), [0, 0]);
    });
}

#[test]
fn a_call_that_fails_or_is_given_up_is_no_load() {
    run(async {
        let (refusing, silent) = (refusing_server(), server(vec![vec![Read(0), AwaitClose]]).await);
        let pool = Rc::new(pool());
        let refused = Arc::new(upstream(Balance::Random, &[&refusing]));
        assert!(pool.send(through(&refused)).await.is_err());
        assert_eq!(refused.targets()[0].in_flight(), 0);
        let given_up = Arc::new(upstream(Balance::Random, &[&silent]));
        let call = through(&given_up);
        let sending = tokio::task::spawn_local({
            let pool = pool.clone();
            async move { pool.send(call).await.map(|_| ()) }
        });
        silent.was_read.notified().await;
        assert_eq!(given_up.targets()[0].in_flight(), 1);
        sending.abort();
        assert!(sending.await.unwrap_err().is_cancelled());
        assert_eq!(given_up.targets()[0].in_flight(), 0);
    });
}

#[test]
fn equal_keys_come_to_the_same_target() {
    run(async {
        let servers = [server(answering(20)).await, server(answering(20)).await, server(answering(20)).await];
        let upstream = Arc::new(upstream(Balance::Hash, &[&servers[0], &servers[1], &servers[2]]));
        let pool = pool();
        let mut reached = Vec::new();
        for name in ["ann", "bob", "cem", "ann", "bob", "cem"] {
            let answer = pool.send(Call { key: Some(number_of(name)), ..through(&upstream) }).await.unwrap();
            reached.push(answer.target.clone());
            text(answer).await.unwrap();
        }
        assert_eq!(reached[..3], reached[3..]);
    });
}

/// An upstream of one target whose only connection is in use, and the call that uses it.
async fn occupied(
    wheel: &Wheel,
) -> (Server, Rc<Pool>, Destination, tokio::task::JoinHandle<Result<Answer, SendError>>) {
    let server = server(vec![vec![Read(0), Hold, send(OK), AwaitClose]]).await;
    let mut upstream = upstream(Balance::RoundRobin, &[&server]);
    upstream.pool.max = 1;
    let destination = Destination::Upstream(Arc::new(upstream));
    let pool = Rc::new(Pool::new(wheel.clone(), Clock::system()));
    let first = ask(&pool, &destination);
    server.was_read.notified().await;
    (server, pool, destination, first)
}

fn ask(pool: &Rc<Pool>, destination: &Destination) -> tokio::task::JoinHandle<Result<Answer, SendError>> {
    let (pool, call) = (pool.clone(), call(destination.clone(), Method::GET, "/"));
    tokio::task::spawn_local(async move { pool.send(call).await })
}

#[test]
fn waiting_for_a_connection_ends_with_the_connect_timeout() {
    run(async {
        let wheel = Wheel::new();
        let (server, pool, destination, first) = occupied(&wheel).await;
        let second = ask(&pool, &destination);
        until(|| pool.waiting() == 1).await;
        turn(&wheel, Duration::from_secs(3));
        assert_eq!(second.await.unwrap().err(), Some(SendError::Busy));
        server.release.notify_one();
        assert_eq!(text(first.await.unwrap().unwrap()).await.unwrap(), "ok");
        assert_eq!(server.connections.get(), 1);
        until(|| pool.idle() == 1).await;
    });
}

#[test]
fn only_so_many_calls_wait() {
    run(async {
        let (_server, pool, destination, _first) = occupied(&Wheel::new()).await;
        let _waiting: Vec<_> = (0..1024).map(|_| ask(&pool, &destination)).collect();
        until(|| pool.waiting() == 1024).await;
        let further = call(destination.clone(), Method::GET, "/");
        assert_eq!(pool.send(further).await.err(), Some(SendError::Busy));
    });
}

#[test]
fn idle_connections_above_the_bound_are_closed() {
    run(async {
        let script = || vec![Read(0), Hold, send(OK), AwaitClose];
        let server = server(vec![script(), script()]).await;
        let mut upstream = upstream(Balance::RoundRobin, &[&server]);
        upstream.pool.max_idle = 1;
        let destination = Destination::Upstream(Arc::new(upstream));
        let pool = Rc::new(pool());
        let (first, second) = (ask(&pool, &destination), ask(&pool, &destination));
        until(|| server.seen.borrow().len() == 2).await;
        server.release.notify_one();
        until(|| first.is_finished() || second.is_finished()).await;
        server.release.notify_one();
        for answer in [first, second] {
            assert_eq!(text(answer.await.unwrap().unwrap()).await.unwrap(), "ok");
        }
        server.was_closed.notified().await;
        assert_eq!(pool.idle(), 1);
    });
}
