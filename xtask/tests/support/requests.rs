//! One table of requests that every way in answers alike: the local target's router and the kind
//! target's ingress.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use harness::entry::Entry;
use harness::environment::Environment;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// For one answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// A service; and the path that it was asked for, where it tells (`no route /x`).
    Service(&'static str, &'static str),
    /// The way in itself, without asking a service.
    Itself(&'static [u16]),
}
use Answer::{Itself, Service};

const FRONTEND: &str = "frontend-app";
const GATEWAY: &str = "api-gateway";
const MARKET: &str = "market-data-service";

/// What is asked ({site} and {api} are the hosts), and who answers it.
const REQUESTS: &[(&str, Answer)] = &[
    // Routes, by whole segments and the longest first.
    ("GET / HTTP/1.1|Host: {site}", Service(FRONTEND, "")),
    ("HEAD / HTTP/1.1|Host: {site}", Service(FRONTEND, "")),
    ("GET /?x=%2F HTTP/1.1|Host: {site}", Service(FRONTEND, "")),
    (
        "GET /apis HTTP/1.1|Host: {site}",
        Service(FRONTEND, "/apis"),
    ),
    (
        "GET /API/x HTTP/1.1|Host: {site}",
        Service(FRONTEND, "/API/x"),
    ),
    ("GET /api/x HTTP/1.1|Host: {site}", Service(GATEWAY, "")),
    ("GET /x HTTP/1.1|Host: {api}", Service(GATEWAY, "/x")),
    (
        "GET /market-data HTTP/1.1|Host: {api}",
        Service(MARKET, "/"),
    ),
    (
        "GET /market-data/ HTTP/1.1|Host: {api}",
        Service(MARKET, "/"),
    ),
    (
        "GET /market-data/x?a=b%2Fc HTTP/1.1|Host: {api}",
        Service(MARKET, "/x"),
    ),
    (
        "GET /MARKET-DATA/x HTTP/1.1|Host: {api}",
        Service(MARKET, "/x"),
    ),
    (
        "GET /market-database HTTP/1.1|Host: {api}",
        Service(GATEWAY, "/market-database"),
    ),
    // Paths in their normal form.
    ("GET /%61pi/x HTTP/1.1|Host: {site}", Service(GATEWAY, "")),
    (
        "GET /api%2Fx HTTP/1.1|Host: {site}",
        Service(FRONTEND, "/api%2Fx"),
    ),
    ("GET //api//x HTTP/1.1|Host: {site}", Service(GATEWAY, "")),
    (
        "GET /x/../api/./x HTTP/1.1|Host: {site}",
        Service(GATEWAY, ""),
    ),
    ("GET /../api/x HTTP/1.1|Host: {site}", Service(GATEWAY, "")),
    ("GET // HTTP/1.1|Host: {site}", Service(FRONTEND, "")),
    ("GET /.. HTTP/1.1|Host: {site}", Service(FRONTEND, "")),
    (
        "GET /market%2Ddata/x HTTP/1.1|Host: {api}",
        Service(MARKET, "/x"),
    ),
    (
        "GET /market-data%2Fx HTTP/1.1|Host: {api}",
        Service(GATEWAY, "/market-data%2Fx"),
    ),
    (
        "GET /market-data/a%2fb HTTP/1.1|Host: {api}",
        Service(MARKET, "/a%2Fb"),
    ),
    (
        "GET /market-data//x HTTP/1.1|Host: {api}",
        Service(MARKET, "/x"),
    ),
    (
        "GET /market-data/../x HTTP/1.1|Host: {api}",
        Service(GATEWAY, "/x"),
    ),
    (
        "GET /market-data/%2e%2E/x HTTP/1.1|Host: {api}",
        Service(GATEWAY, "/x"),
    ),
    (
        "GET /market-data/a%20b HTTP/1.1|Host: {api}",
        Service(MARKET, "/a%20b"),
    ),
    (
        "GET /market-data/%c3%b1 HTTP/1.1|Host: {api}",
        Service(MARKET, "/%C3%B1"),
    ),
    (
        "GET /market-data/%ff HTTP/1.1|Host: {api}",
        Service(MARKET, "/%FF"),
    ),
    (
        "GET /market-data/%00 HTTP/1.1|Host: {api}",
        Service(MARKET, "/%00"),
    ),
    (
        "GET /market-data/x;y=1 HTTP/1.1|Host: {api}",
        Service(MARKET, "/x;y=1"),
    ),
    (
        "GET /market-data/x%23y%3Fz%5C HTTP/1.1|Host: {api}",
        Service(MARKET, "/x%23y%3Fz%5C"),
    ),
    ("GET /market-data/%zz HTTP/1.1|Host: {api}", Itself(&[400])),
    ("GET api HTTP/1.1|Host: {site}", Itself(&[400])),
    // Hosts.
    ("GET / HTTP/1.1|Host: {site}:8443", Service(FRONTEND, "")),
    ("GET / HTTP/1.1|Host: {site}.", Service(FRONTEND, "")),
    (
        "GET http://{api}/x HTTP/1.1|Host: {site}",
        Service(GATEWAY, "/x"),
    ),
    ("GET / HTTP/1.0|Host: {site}", Service(FRONTEND, "")),
    ("GET / HTTP/1.1|Host: www.{site}", Itself(&[404])),
    ("GET / HTTP/1.1|Host: other.example", Itself(&[404])),
    ("GET / HTTP/1.1|Host:", Itself(&[404])),
    ("GET / HTTP/1.1|Host: a/b", Itself(&[400])),
    ("GET / HTTP/1.1|Host: user@{site}", Itself(&[400])),
    ("GET / HTTP/1.1|X: y", Itself(&[400])),
    ("GET / HTTP/1.1|Host: {site}|Host: {api}", Itself(&[400])),
    // Methods and versions.
    ("OPTIONS /x HTTP/1.1|Host: {api}", Service(GATEWAY, "/x")),
    ("PURGE /x HTTP/1.1|Host: {api}", Service(GATEWAY, "/x")),
    ("OPTIONS * HTTP/1.1|Host: {site}", Itself(&[200])),
    ("CONNECT {site}:443 HTTP/1.1|Host: {site}", Itself(&[501])),
    ("GET / HTTP/2.0|Host: {site}", Itself(&[400, 505])),
    ("GET  / HTTP/1.1|Host: {site}", Itself(&[400])),
    // Headers and bodies.
    ("GET /x HTTP/1.1|Host: {api}|X Y: 1", Itself(&[400])),
    ("GET /x HTTP/1.1|Host: {api}|X : 1", Itself(&[400])),
    ("GET /x HTTP/1.1|Host: {api}|MANY", Service(GATEWAY, "/x")),
    ("GET /x HTTP/1.1|Host: {api}|LONG", Service(GATEWAY, "/x")),
    (
        "POST /x HTTP/1.1|Host: {api}|Content-Length: 3||abc",
        Service(GATEWAY, "/x"),
    ),
    (
        "POST /x HTTP/1.1|Host: {api}|Transfer-Encoding: chunked||3|abc|0||",
        Service(GATEWAY, "/x"),
    ),
    (
        "POST /x HTTP/1.1|Host: {api}|Content-Length: 2|Content-Length: 3||abc",
        Itself(&[400]),
    ),
    (
        "POST /x HTTP/1.1|Host: {api}|Content-Length: x||abc",
        Itself(&[400]),
    ),
    (
        "POST /x HTTP/1.1|Host: {api}|Transfer-Encoding: x||abc",
        Itself(&[400, 501]),
    ),
    (
        "POST /x HTTP/1.1|Host: {api}|Expect: x|Content-Length: 3||abc",
        Itself(&[417]),
    ),
    (
        "GET /x HTTP/1.1|Host: {api}|Connection: Upgrade|Upgrade: h2c",
        Service(GATEWAY, "/x"),
    ),
];

/// Asks each of them of the environment's way in. Yields those that are answered otherwise.
pub fn answered_otherwise(environment: &Environment) -> Vec<String> {
    let mut otherwise = Vec::new();
    for (request, expected) in REQUESTS {
        let text = ask(environment, &whole(environment, request));
        let service = text
            .lines()
            .find_map(|line| line.strip_prefix("x-trii-service: "));
        let holds = match expected {
            Service(name, path) => {
                service.is_some_and(|it| it.trim() == *name)
                    && (path.is_empty() || text.contains(&format!("no route {path}\"")))
            }
            Itself(codes) => {
                let status = text.split(' ').nth(1).and_then(|it| it.parse().ok());
                service.is_none() && status.is_some_and(|it| codes.contains(&it))
            }
        };
        if !holds {
            otherwise.push(format!(
                "{request}\n  expected {expected:?}\n  seen {text:?}"
            ));
        }
    }
    otherwise
}

/// The request as it is sent: it is the last of its connection.
fn whole(environment: &Environment, request: &str) -> Vec<u8> {
    let (head, body) = request.split_once("||").unwrap_or((request, ""));
    let many: Vec<String> = (0..80).map(|number| format!("X-{number}: y")).collect();
    let head = head
        .replace("{site}", &environment.site_host)
        .replace("{api}", &environment.api_host)
        .replace("MANY", &many.join("|"))
        .replace("LONG", &format!("X: {}", "y".repeat(40_000)));
    let close = match head.contains("Upgrade") {
        true => "",
        false => "|Connection: close",
    };
    let text = format!("{head}{close}||{body}").replace('|', "\r\n");
    text.into_bytes()
}

/// What comes back until the other side closes, header names in lower case.
fn ask(environment: &Environment, request: &[u8]) -> String {
    let entry = &environment.entry;
    let stream = TcpStream::connect(entry.address.unwrap()).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    let answer = match entry.tls {
        false => exchange(stream, request),
        true => {
            let name = ServerName::try_from(environment.site_host.clone()).unwrap();
            let connection = ClientConnection::new(Arc::new(trusting(entry)), name).unwrap();
            exchange(StreamOwned::new(connection, stream), request)
        }
    };
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let (status, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    format!("{status}\n{}\n\n{body}", headers.to_ascii_lowercase())
}

/// Reads until the head says that more is not to come, or nothing more comes.
fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Vec<u8> {
    // One that is refused before it was read whole may be cut off.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut part = [0; 16 << 10];
    while !is_whole(&answer) {
        match stream.read(&mut part) {
            Ok(length @ 1..) => answer.extend_from_slice(&part[..length]),
            Ok(0) | Err(_) => break,
        }
    }
    answer
}

/// Whether a body of the length that the head states is there.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    length
        .and_then(|it| it.trim().parse().ok())
        .is_some_and(|it: usize| body.len() >= it)
}

fn trusting(entry: &Entry) -> ClientConfig {
    harness::tls::use_ring();
    let pem = fs::read(entry.authority.as_ref().unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
