//! Targets by name: all addresses are tried, changed ones are followed, and a name can stand for many targets.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use crate::clock::Frozen;
use crate::upstream::dial::{dial, order};
use crate::upstream::resolve::{Ask, FRESH};

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// Each look-up takes the next answer, and the last one for ever; empty is a failure.
fn answering(answers: &[&[IpAddr]]) -> Ask {
    let answers: RefCell<VecDeque<Vec<IpAddr>>> = RefCell::new(answers.iter().map(|answer| answer.to_vec()).collect());
    Rc::new(move |_| {
        let mut answers = answers.borrow_mut();
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let next = next.unwrap_or_default();
        Box::pin(async move { if next.is_empty() { Err(std::io::Error::other("SERVFAIL")) } else { Ok(next) } })
    })
}

fn frozen() -> (Rc<Frozen>, Clock) {
    let frozen = Frozen::at(jiff::Timestamp::UNIX_EPOCH);
    (frozen.clone(), Clock::Frozen(frozen))
}

/// A server at an address of its own with the port of another one.
async fn beside(server: &Server, last: u8, script: Vec<Step>) -> Server {
    let listener = TcpListener::bind((loopback(last), server.origin.port)).await.unwrap();
    let other = Server::at(listener.local_addr().unwrap());
    let serving = other.clone();
    tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serving.connections.set(1);
        play(serving, stream, script).await;
        std::future::pending::<()>().await;
    });
    other
}

fn named(server: &Server) -> Arc<Origin> {
    Arc::new(Origin::parse(&format!("http://orders.test:{}", server.origin.port)).unwrap())
}

fn one_call() -> Vec<Step> {
    vec![Read(0), send(OK), AwaitClose]
}

#[test]
fn families_take_turns() {
    let addresses = ["10.0.0.1", "10.0.0.2", "::1", "10.0.0.3", "::2"].map(|text| text.parse::<IpAddr>().unwrap());
    let ordered: Vec<String> = order(&addresses, 80).iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(ordered, ["10.0.0.1", "::1", "10.0.0.2", "::2", "10.0.0.3"]);
    assert_eq!(order(&[loopback(1); 20], 80).len(), 8);
}

#[test]
fn all_addresses_of_a_name_are_tried() {
    run(async {
        let server = server(vec![one_call()]).await;
        let names = answering(&[&[loopback(9), loopback(8), loopback(1)]]);
        let pool = Pool::asking(Wheel::new(), Clock::system(), names);
        let call = call(Destination::Origin(named(&server)), Method::GET, "/");
        assert_eq!(text(pool.send(call).await.unwrap()).await.unwrap(), "ok");
        let seen = server.seen.borrow();
        assert!(seen[0].contains(&format!("host: orders.test:{}\r\n", server.origin.port)), "{}", seen[0]);
    });
}

#[test]
fn a_silent_address_has_a_head_start_and_no_more() {
    run(async {
        let server = server(vec![one_call()]).await;
        // Nobody takes its connections, and it has room for one: the next gets no answer.
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::new(loopback(2), server.origin.port).into()).unwrap();
        silent.listen(0).unwrap();
        let silent_at = SocketAddr::new(loopback(2), server.origin.port);
        let _first = TcpStream::connect(silent_at).await.unwrap();
        let wheel = Wheel::new();
        let dialling = tokio::task::spawn_local({
            let (wheel, at) = (wheel.clone(), [silent_at, SocketAddr::new(loopback(1), server.origin.port)]);
            async move { dial(&at, &wheel).await.unwrap().unwrap().peer_addr().unwrap() }
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!dialling.is_finished());
        turn(&wheel, Duration::from_millis(250));
        assert_eq!(dialling.await.unwrap().ip(), loopback(1));
    });
}

#[test]
fn connections_to_an_address_that_has_gone_are_not_used() {
    run(async {
        let old = server(vec![one_call()]).await;
        let new = beside(&old, 2, one_call()).await;
        let (clock, time) = frozen();
        let pool = Pool::asking(Wheel::new(), time, answering(&[&[loopback(1)], &[loopback(2)]]));
        let origin = named(&old);
        let ask = || pool.send(call(Destination::Origin(origin.clone()), Method::GET, "/"));
        assert_eq!(text(ask().await.unwrap()).await.unwrap(), "ok");
        until(|| pool.idle() == 1).await;
        clock.advance(FRESH);
        until(|| pool.names.known("orders.test").is_some_and(|found| *found == [loopback(2)])).await;
        assert_eq!(text(ask().await.unwrap()).await.unwrap(), "ok");
        assert_eq!((old.seen.borrow().len(), new.seen.borrow().len()), (1, 1));
    });
}

#[test]
fn a_name_that_is_not_found_says_so() {
    run(async {
        let pool = Pool::asking(Wheel::new(), Clock::system(), answering(&[&[]]));
        let origin = Arc::new(Origin::parse("http://orders.test:9000").unwrap());
        let failed = pool.send(call(Destination::Origin(origin), Method::GET, "/")).await.err().unwrap();
        assert_eq!(failed, SendError::Dns("looking up orders.test: SERVFAIL".to_owned()));
    });
}

#[test]
fn a_name_stands_for_its_addresses_and_keeps_the_last_good_ones() {
    run(async {
        const REFRESH: Duration = Duration::from_secs(10);
        let origin = Arc::new(Origin::parse("http://orders.test:9000").unwrap());
        let mut upstream = Upstream::new("orders", vec![Arc::new(Target::new(origin.clone(), 1))]).unwrap();
        upstream.dns = Some(Dns { origin, refresh: REFRESH });
        let upstream = Arc::new(upstream);
        let (clock, time) = frozen();
        let wheel = Wheel::new();
        let answers = [&[loopback(2), loopback(1)][..], &[loopback(1), loopback(2)], &[loopback(3), loopback(2)], &[]];
        let mut care = Care::asking(wheel.clone(), time, answering(&answers));
        care.follow(std::slice::from_ref(&upstream));
        let texts = || upstream.targets().iter().map(|target| target.origin.text().to_string()).collect::<Vec<_>>();
        let pass = |time: Duration| {
            clock.advance(time);
            turn(&wheel, time);
        };
        until(|| upstream.targets().len() == 2).await;
        assert_eq!(texts(), ["http://127.0.0.1:9000", "http://127.0.0.2:9000"]);
        let first = upstream.targets();
        assert_eq!(first[0].origin.authority(), "orders.test:9000");
        pass(REFRESH);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(Arc::ptr_eq(&first, &upstream.targets()), "another order is no change");
        pass(REFRESH);
        until(|| texts() == ["http://127.0.0.2:9000", "http://127.0.0.3:9000"]).await;
        assert!(Arc::ptr_eq(&first[1], &upstream.targets()[0]), "what stays is the same target");
        for _ in 0..29 {
            pass(REFRESH);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(upstream.targets().len(), 2, "the last good ones stay");
        }
        pass(REFRESH);
        until(|| texts() == ["http://orders.test:9000"]).await;
    });
}

#[test]
fn only_addresses_that_a_call_may_reach_are_tried() {
    run(async {
        let open = server(vec![one_call()]).await;
        let private = beside(&open, 2, one_call()).await;
        let names = answering(&[&[loopback(2), loopback(1)]]);
        let pool = Pool::asking(Wheel::new(), Clock::system(), names);
        let allowed = |networks: &[&str]| {
            let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
            let origin = Destination::Origin(named(&open));
            Call { addresses: Addresses::Public(networks), ..call(origin, Method::GET, "/") }
        };
        let refused = pool.send(allowed(&[])).await.err();
        assert_eq!(refused, Some(SendError::AddressRefused(loopback(2))), "a name gains nothing");
        assert_eq!(text(pool.send(allowed(&["127.0.0.1/32"])).await.unwrap()).await.unwrap(), "ok");
        assert_eq!((open.connections.get(), private.connections.get()), (1, 0));
    });
}
