//! The proxy between a raw client and a raw service.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::Config;

/// A service that reads one request with a body of `length` bytes and sends `answer`. The receiver
/// gets the request.
async fn service(
    length: usize,
    answer: &'static str,
) -> (SocketAddr, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = String::new();
        while request
            .split_once("\r\n\r\n")
            .is_none_or(|(_, body)| body.len() < length)
        {
            let mut more = [0; 1024];
            let length = stream.read(&mut more).await.unwrap();
            request += std::str::from_utf8(&more[..length]).unwrap();
        }
        sender.send(request.to_ascii_lowercase()).unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        // The connection stays open: the answer or the proxy's timeout ends the exchange.
        let _ = stream.read(&mut [0; 1]).await;
    });
    (address, received)
}

/// A proxy with the shipped routes, all to `upstream`.
fn proxy(upstream: SocketAddr, read_timeout: Duration) -> Arc<Proxy> {
    let text = include_str!("../../../../../harness.toml");
    let config = Config::parse(std::path::Path::new("harness.toml"), text).unwrap();
    let table = RouteTable::new(&config.routes).unwrap();
    let services = config.service_names();
    let upstreams = services
        .map(|service| (service.to_owned(), Backends::one(upstream)))
        .collect();
    Arc::new(Proxy {
        read_timeout,
        ..Proxy::new(&config.platform, table, upstreams)
    })
}

/// Sends each part of a request, with a pause after it. Returns the router's answer.
async fn send(proxy: Arc<Proxy>, request: &[&str], pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(crate::router::accept(listener, proxy, stop.clone()));
    let mut client = TcpStream::connect(address).await.unwrap();
    for part in request {
        client.write_all(part.as_bytes()).await.unwrap();
        tokio::time::sleep(pause).await;
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    stop.cancel();
    serving.await.unwrap();
    answer
}

const OK: &str =
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nkeep-alive: timeout=9\r\nx-trii-service: s\r\n\r\nhi";
const SHORT: Duration = Duration::from_millis(300);
const NO_PAUSE: Duration = Duration::ZERO;

#[tokio::test]
async fn a_request_is_forwarded_as_by_the_ingress() {
    let (upstream, received) = service(0, OK).await;
    let request = "GET /market-data/quotes/A%20B?x=%2F HTTP/1.1\r\nHost: API.trii.co:8080\r\n\
        Connection: close, x-secret\r\nX-Secret: hop\r\nX-Forwarded-For: 6.6.6.6\r\nX-Own: kept\r\n\r\n";
    let answer = send(proxy(upstream, READ), &[request], NO_PAUSE).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("hi"), "{answer}");
    assert!(answer.contains("x-trii-service: s"), "{answer}");
    assert!(!answer.contains("keep-alive:"), "{answer}");
    let received = received.await.unwrap();
    assert!(
        received.starts_with("get /quotes/a%20b?x=%2f http/1.1\r\n"),
        "{received}"
    );
    let expected = [
        "host: api.trii.co:8080",
        "x-forwarded-host: api.trii.co:8080",
        "x-own: kept",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
    ];
    for header in expected {
        assert!(received.contains(header), "{header} is not in {received}");
    }
    for header in [
        "x-secret",
        "6.6.6.6",
        "transfer-encoding",
        "connection: close",
    ] {
        assert!(!received.contains(header), "{header} is in {received}");
    }
}

#[tokio::test]
async fn a_path_is_matched_and_forwarded_in_its_normal_form() {
    let (upstream, received) = service(0, OK).await;
    let request = "GET /x/../%61pi/a%2Fb HTTP/1.1\r\nHost: trii.co\r\nConnection: close\r\n\r\n";
    send(proxy(upstream, READ), &[request], NO_PAUSE).await;
    let received = received.await.unwrap();
    assert!(
        received.starts_with("get /api/a%2fb http/1.1"),
        "{received}"
    );
}

#[tokio::test]
async fn the_router_refuses_requests_without_a_route() {
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let cases = [
        ("GET / HTTP/1.1\r\nHost: other.example\r\n", "404"),
        ("GET /%zz HTTP/1.1\r\nHost: trii.co\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: u@trii.co\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: trii.co\r\nExpect: luck\r\n", "417"),
        ("GET / HTTP/1.1\r\n", "400"),
        (
            "GET / HTTP/1.1\r\nHost: trii.co\r\nHost: api.trii.co\r\n",
            "400",
        ),
        ("CONNECT trii.co:443 HTTP/1.1\r\nHost: trii.co\r\n", "501"),
        ("GET / HTTP/1.1\r\nHost: trii.co\r\n", "502"),
    ];
    for (request, status) in cases {
        let request = [request, "Connection: close\r\n\r\n"];
        let answer = send(proxy(nowhere, READ), &request, NO_PAUSE).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request:?}: {answer}"
        );
        assert!(!answer.contains("x-trii"), "{answer}");
    }
}

#[tokio::test]
async fn a_service_that_stops_answering_times_out() {
    let request = "GET / HTTP/1.1\r\nHost: trii.co\r\nConnection: close\r\n\r\n";
    let (silent, _received) = service(0, "").await;
    let answer = send(proxy(silent, SHORT), &[request], NO_PAUSE).await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    let (stalls, _received) = service(0, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    let answer = send(proxy(stalls, SHORT), &[request], NO_PAUSE).await;
    assert!(answer.ends_with("half"), "{answer}");
}

#[tokio::test]
async fn a_slow_upload_does_not_time_out() {
    let head =
        "POST /api HTTP/1.1\r\nHost: trii.co\r\nConnection: close\r\ncontent-length: 10\r\n\r\n";
    let mut request = vec![head];
    request.extend(["x"; 10]);
    let (upstream, _received) = service(10, OK).await;
    let answer = send(proxy(upstream, SHORT), &request, SHORT / 3).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_changes_its_protocol_is_forwarded() {
    let (upstream, received) = service(
        0,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello",
    )
    .await;
    let request = "GET /api HTTP/1.1\r\nHost: trii.co\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: echo\r\n\r\n";
    // The service closes the connection after one more byte.
    let answer = send(proxy(upstream, READ), &[request, "!"], NO_PAUSE).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("upgrade: echo"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
    let received = received.await.unwrap();
    assert!(received.contains("upgrade: echo"), "{received}");
    assert!(!received.contains("keep-alive"), "{received}");
}
