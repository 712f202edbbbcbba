//! The proxy between a raw client and a raw service, byte for byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::Config;
use crate::service::Service;

/// A service that reads one request with a body of `length` bytes, hands its head over,
/// and answers with `answer`.
async fn service(
    length: usize,
    answer: &'static str,
) -> (SocketAddr, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
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
        tell.send(request.to_ascii_lowercase()).unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Held open: what ends the exchange is in the answer, or the proxy's own timeout.
        let _ = stream.read(&mut [0; 1]).await;
    });
    (address, told)
}

/// The shipped routes, all leading to `upstream`.
fn proxy(upstream: SocketAddr, read_timeout: Duration) -> Arc<Proxy> {
    let text = include_str!("../../../../harness.toml");
    let config = Config::parse(std::path::Path::new("harness.toml"), text).unwrap();
    let table = RouteTable::new(&config.routes).unwrap();
    let upstreams = Service::ALL
        .map(|service| (service, Backends::one(upstream)))
        .into();
    Arc::new(Proxy {
        read_timeout,
        ..Proxy::new(&config.platform, table, upstreams)
    })
}

/// What the router says to these bytes, each part sent when `pause` has passed.
async fn ask(proxy: Arc<Proxy>, request: &[&str], pause: Duration) -> String {
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
const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test]
async fn a_request_arrives_as_the_ingress_would_pass_it_on() {
    let (upstream, seen) = service(0, OK).await;
    let request = "GET /market-data/quotes/A%20B?x=%2F HTTP/1.1\r\nHost: API.trii.co:8080\r\n\
        Connection: close, x-secret\r\nX-Secret: hop\r\nX-Forwarded-For: 6.6.6.6\r\nX-Own: kept\r\n\r\n";
    let answer = ask(proxy(upstream, READ), &[request], AT_ONCE).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("hi"), "{answer}");
    assert!(answer.contains("x-trii-service: s"), "{answer}");
    assert!(!answer.contains("keep-alive:"), "{answer}");
    let seen = seen.await.unwrap();
    assert!(
        seen.starts_with("get /quotes/a%20b?x=%2f http/1.1\r\n"),
        "{seen}"
    );
    let there = [
        "host: api.trii.co:8080",
        "x-forwarded-host: api.trii.co:8080",
        "x-own: kept",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
    ];
    for header in there {
        assert!(seen.contains(header), "{header} is not in {seen}");
    }
    for header in [
        "x-secret",
        "6.6.6.6",
        "transfer-encoding",
        "connection: close",
    ] {
        assert!(!seen.contains(header), "{header} is in {seen}");
    }
}

#[tokio::test]
async fn a_path_is_matched_and_passed_on_in_its_normal_form() {
    let (upstream, seen) = service(0, OK).await;
    let request = "GET /x/../%61pi/a%2Fb HTTP/1.1\r\nHost: trii.co\r\nConnection: close\r\n\r\n";
    ask(proxy(upstream, READ), &[request], AT_ONCE).await;
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("get /api/a%2fb http/1.1"), "{seen}");
}

#[tokio::test]
async fn what_no_route_can_serve_is_refused_by_the_router_itself() {
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
        let answer = ask(proxy(nowhere, READ), &request, AT_ONCE).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request:?}: {answer}"
        );
        assert!(!answer.contains("x-trii"), "{answer}");
    }
}

#[tokio::test]
async fn a_service_that_falls_silent_is_given_up() {
    let request = "GET / HTTP/1.1\r\nHost: trii.co\r\nConnection: close\r\n\r\n";
    let (silent, _seen) = service(0, "").await;
    let answer = ask(proxy(silent, SHORT), &[request], AT_ONCE).await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    let (stalls, _seen) = service(0, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    let answer = ask(proxy(stalls, SHORT), &[request], AT_ONCE).await;
    assert!(answer.ends_with("half"), "{answer}");
}

#[tokio::test]
async fn an_upload_is_not_cut_while_it_moves() {
    let head =
        "POST /api HTTP/1.1\r\nHost: trii.co\r\nConnection: close\r\ncontent-length: 10\r\n\r\n";
    let mut request = vec![head];
    request.extend(["x"; 10]);
    let (upstream, _seen) = service(10, OK).await;
    let answer = ask(proxy(upstream, SHORT), &request, SHORT / 3).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_changes_its_protocol_is_passed_on() {
    let (upstream, seen) = service(
        0,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello",
    )
    .await;
    let request = "GET /api HTTP/1.1\r\nHost: trii.co\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: echo\r\n\r\n";
    // The service goes when it has heard one byte more.
    let answer = ask(proxy(upstream, READ), &[request, "!"], AT_ONCE).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("upgrade: echo"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
    let seen = seen.await.unwrap();
    assert!(seen.contains("upgrade: echo"), "{seen}");
    assert!(!seen.contains("keep-alive"), "{seen}");
}
