//! HTTP/2 of a running gateway: real clients on both kinds of listeners, and gRPC passed through to an upstream.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Folder, Gateway, PATIENCE, said};

const TELL: &str = "service: tell\nmatch: { path: /tell }\npolicy:\n  - respond: { text: \"${request.http_version} ${request.host} ${request.cookies.b ?? ''}\" }\n";

#[test]
fn curl_speaks_http_2_in_clear_and_over_tls() {
    let gateway = Gateway::start(&[("policies/tell.yaml", TELL)]);
    let url = format!("http://{}/tell", gateway.main);
    let form = "|%{http_version} %{http_code}";
    let got = said("curl", &["-s", "--http2-prior-knowledge", "-b", "a=1; b=2", "-w", form, &url]);
    assert_eq!(got, "2 127.0.0.1 2|2 200");
    assert_eq!(gateway.record("/tell")["status"], 200);
    // The upgrade from HTTP/1.1 is not done: curl is answered as it has asked.
    assert_eq!(said("curl", &["-s", "--http2", "-w", form, &url]), "1.1 127.0.0.1 |1.1 200");
    let large = "x".repeat(9000);
    let got = said(
        "curl",
        &["-s", "-o", "/dev/null", "--http2-prior-knowledge", "-H", &format!("x: {large}"), "-w", form, &url],
    );
    assert_eq!(got, "|2 431");
}

#[test]
fn many_streams_of_h2load_are_all_answered() {
    let wide = "listeners: [{ name: main, address: 127.0.0.1:0 }]\nadmin: { address: 127.0.0.1:0 }\nworkers: 2\nlimits: { requests_per_connection: 100000 }\n";
    let gateway = Gateway::start(&[("gateway.yaml", wide), ("policies/tell.yaml", TELL)]);
    let url = format!("http://{}/tell", gateway.main);
    let report = said("h2load", &["-n", "5000", "-c", "4", "-m", "50", &url]);
    assert!(report.contains("5000 succeeded, 0 failed, 0 errored, 0 timeout"), "{report}");
    assert!(report.contains("status codes: 5000 2xx"), "{report}");
}

/// A gRPC server: it answers a message with the same, and its status in the trailers.
async fn grpc_server(listener: TcpListener) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(tcp).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    let is_grpc = request.headers().get("te").is_some_and(|te| te == "trailers");
                    let mut answer = Response::builder().header("content-type", "application/grpc");
                    if request.uri().path() == "/shop.Orders/Fail" {
                        // Trailers only: the status stands in the head.
                        answer = answer.header("grpc-status", "5").header("grpc-message", "no such order");
                        respond.send_response(answer.body(()).unwrap(), true).unwrap();
                        return;
                    }
                    let mut body = respond.send_response(answer.body(()).unwrap(), false).unwrap();
                    let mut sent = request.into_body();
                    // Each message is answered before the next one comes.
                    while let Some(data) = sent.data().await {
                        let data = data.unwrap();
                        sent.flow_control().release_capacity(data.len()).unwrap();
                        body.send_data(data, false).unwrap();
                    }
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static(if is_grpc { "0" } else { "13" }));
                    trailers.insert("x-cost", HeaderValue::from_static("7"));
                    body.send_trailers(trailers).unwrap();
                });
            }
        });
    }
}

#[test]
fn grpc_passes_through_message_by_message() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(grpc_server(listener));
    let upstream = format!("upstream: orders\ntargets: [\"http://{address}\"]\npool: {{ http2: always }}\n");
    let service = "service: orders\nmatch: { path: \"/shop.Orders/{method}\" }\npolicy: [{ route: orders }]\n";
    let files = [("policies/upstream.yaml", upstream.as_str()), ("policies/orders.yaml", service)];
    let gateway = Gateway::serve(Folder::with(&files));
    let talk = async {
        let tcp = TcpStream::connect(gateway.main).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let ask = |method: &str| {
            let request = Request::post(format!("http://shop.test/shop.Orders/{method}"));
            request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap()
        };
        let (answer, mut messages) = sender.send_request(ask("Watch"), false).unwrap();
        messages.send_data(Bytes::from_static(b"one"), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        // The answer to a message is here while the request still goes on.
        assert_eq!(body.data().await.unwrap().unwrap(), "one");
        messages.send_data(Bytes::from_static(b"two"), true).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "two");
        while body.data().await.is_some() {}
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!((trailers["grpc-status"].as_bytes(), trailers["x-cost"].as_bytes()), (&b"0"[..], &b"7"[..]));

        let (answer, _) = sender.send_request(ask("Fail"), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["grpc-status"].as_bytes()), (200, &b"5"[..]));
        assert!(answer.into_body().is_end_stream());
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, talk).await }).unwrap();
    let record = gateway.record("/shop.Orders/Watch");
    assert_eq!((record["status"].as_u64(), record["outcome"].as_str()), (Some(200), Some("sent")), "{record}");
}
