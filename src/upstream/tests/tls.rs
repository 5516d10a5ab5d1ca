//! Calls over TLS against real servers: whose certificate is taken, and which connections are used again.

use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::testing::{Authority, Folder, listening};
use crate::tls::{Calling, CallingSettings, MinVersion};

/// A server for `localhost` that answers every request on every connection; how many connections it saw.
async fn secure_server(authority: &Authority) -> (SocketAddr, Rc<Cell<usize>>) {
    let folder = Folder::new();
    let tls = listening(&folder.0, authority, &["localhost"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Rc::new(Cell::new(0));
    let seen = connections.clone();
    tokio::task::spawn_local(async move {
        let _folder = folder;
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            seen.set(seen.get() + 1);
            let acceptor = TlsAcceptor::from(tls.config());
            tokio::task::spawn_local(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                let mut head = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    head.push(byte);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecure").await.unwrap();
                        stream.flush().await.unwrap();
                    }
                }
            });
        }
    });
    (address, connections)
}

fn trusting(authority: &Authority, server_name: Option<&str>) -> Arc<Calling> {
    let server_name = server_name.map(str::to_owned);
    let settings = CallingSettings { authorities: Some(vec![authority.der()]), server_name, ..Default::default() };
    Arc::new(Calling::new(settings).unwrap())
}

fn over(address: SocketAddr, tls: Arc<Calling>) -> Call {
    let origin = Origin::parse(&format!("https://{address}")).unwrap().over(tls).speaking(Http2::Never);
    call(Destination::Origin(Arc::new(origin)), Method::GET, "/")
}

#[test]
fn a_trusted_certificate_for_the_right_name_is_taken() {
    run(async {
        let authority = Authority::new("test authority");
        let (address, connections) = secure_server(&authority).await;
        let pool = pool();
        for _ in 0..3 {
            let answer = pool.send(over(address, trusting(&authority, Some("localhost")))).await.unwrap();
            assert_eq!(text(answer).await.unwrap(), "secure");
        }
        assert_eq!(connections.get(), 1, "equal settings share a connection");
    });
}

#[test]
fn whoever_cannot_prove_its_name_is_not_asked() {
    run(async {
        let authority = Authority::new("test authority");
        let (address, _) = secure_server(&authority).await;
        let pool = pool();
        let another = trusting(&Authority::new("another authority"), Some("localhost"));
        let usual = Calling::usual().unwrap();
        for tls in [another, usual, trusting(&authority, Some("other.test")), trusting(&authority, None)] {
            let error = pool.send(over(address, tls)).await.err().unwrap();
            assert!(matches!(&error, SendError::Tls(why) if why.contains("invalid peer certificate")), "{error}");
        }
    });
}

#[test]
fn another_identity_has_connections_of_its_own() {
    run(async {
        let authority = Authority::new("test authority");
        let (address, connections) = secure_server(&authority).await;
        let pool = pool();
        let strict = CallingSettings {
            authorities: Some(vec![authority.der()]),
            server_name: Some("localhost".to_owned()),
            min: Some(MinVersion::Tls13),
            ..Default::default()
        };
        for tls in [trusting(&authority, Some("localhost")), Arc::new(Calling::new(strict).unwrap())] {
            text(pool.send(over(address, tls)).await.unwrap()).await.unwrap();
        }
        assert_eq!((connections.get(), pool.idle()), (2, 2));
    });
}

#[test]
fn a_server_that_speaks_no_tls_or_not_at_all_is_told_apart() {
    run(async {
        let plain = server(vec![vec![send("HTTP/1.1 400 Bad Request\r\n\r\n"), AwaitClose]]).await;
        let silent = server(vec![vec![AwaitClose]]).await;
        let pool = Pool::new(Wheel::new(), Clock::system());
        let address = |server: &Server| SocketAddr::from(([127, 0, 0, 1], server.origin.port));
        let tls = Calling::usual().unwrap();
        let error = pool.send(over(address(&plain), tls.clone())).await.err().unwrap();
        assert!(matches!(error, SendError::Tls(_)), "{error}");
        let wheel = pool.wheel.clone();
        let waiting = tokio::task::spawn_local(async move {
            let mut late = over(address(&silent), tls);
            late.timeouts.connect = Duration::from_millis(100);
            pool.send(late).await.err().unwrap()
        });
        until(|| {
            wheel.turn();
            waiting.is_finished()
        })
        .await;
        assert_eq!(waiting.await.unwrap(), SendError::TimeoutConnect);
    });
}
