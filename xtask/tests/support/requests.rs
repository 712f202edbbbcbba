//! Requests that the local target's router and the kind target's ingress answer alike.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use base::entry_point::EntryPoint;
use environments::environment::Environment;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The timeout of one answer.
const ANSWER: Duration = Duration::from_secs(20);

/// What answers a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// A service, and the path in its answer (`no route /x`); empty if the answer has none.
    Service(&'static str, &'static str),
    /// The router or the ingress itself, with one of these codes.
    Itself(&'static [u16]),
}
use Answer::{Itself, Service};

const FRONTEND: &str = "frontend-app";
const GATEWAY: &str = "api-gateway";
const MARKET: &str = "market-data-service";

/// GET requests: the path, the host ({site} and {api} are the environment's), and the answer.
const PATHS: &[(&str, &str, Answer)] = &[
    // Routes, by whole segments and the longest first.
    ("/", "{site}", Service(FRONTEND, "")),
    ("/?x=%2F", "{site}", Service(FRONTEND, "")),
    ("/apis", "{site}", Service(FRONTEND, "/apis")),
    ("/API/x", "{site}", Service(FRONTEND, "/API/x")),
    ("/api/x", "{site}", Service(GATEWAY, "")),
    ("/x", "{api}", Service(GATEWAY, "/x")),
    ("/market-data", "{api}", Service(MARKET, "/")),
    ("/market-data/", "{api}", Service(MARKET, "/")),
    ("/market-data/x?a=b%2Fc", "{api}", Service(MARKET, "/x")),
    ("/MARKET-DATA/x", "{api}", Service(MARKET, "/x")),
    (
        "/market-database",
        "{api}",
        Service(GATEWAY, "/market-database"),
    ),
    // Paths in their normal form.
    ("/%61pi/x", "{site}", Service(GATEWAY, "")),
    ("/api%2Fx", "{site}", Service(FRONTEND, "/api%2Fx")),
    ("//api//x", "{site}", Service(GATEWAY, "")),
    ("/x/../api/./x", "{site}", Service(GATEWAY, "")),
    ("/../api/x", "{site}", Service(GATEWAY, "")),
    ("//", "{site}", Service(FRONTEND, "")),
    ("/..", "{site}", Service(FRONTEND, "")),
    ("/market%2Ddata/x", "{api}", Service(MARKET, "/x")),
    (
        "/market-data%2Fx",
        "{api}",
        Service(GATEWAY, "/market-data%2Fx"),
    ),
    ("/market-data/a%2fb", "{api}", Service(MARKET, "/a%2Fb")),
    ("/market-data//x", "{api}", Service(MARKET, "/x")),
    ("/market-data/../x", "{api}", Service(GATEWAY, "/x")),
    ("/market-data/%2e%2E/x", "{api}", Service(GATEWAY, "/x")),
    ("/market-data/a%20b", "{api}", Service(MARKET, "/a%20b")),
    ("/market-data/%c3%b1", "{api}", Service(MARKET, "/%C3%B1")),
    ("/market-data/%ff", "{api}", Service(MARKET, "/%FF")),
    ("/market-data/%00", "{api}", Service(MARKET, "/%00")),
    ("/market-data/x;y=1", "{api}", Service(MARKET, "/x;y=1")),
    (
        "/market-data/x%23y%3Fz%5C",
        "{api}",
        Service(MARKET, "/x%23y%3Fz%5C"),
    ),
    ("/market-data/%zz", "{api}", Itself(&[400])),
    ("api", "{site}", Itself(&[400])),
    // Hosts.
    ("/", "{site}:8443", Service(FRONTEND, "")),
    ("/", "{site}.", Service(FRONTEND, "")),
];

/// Other requests; `|` is a line break, and MANY and LONG are headers.
const REQUESTS: &[(&str, Answer)] = &[
    // Hosts.
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
    ("HEAD / HTTP/1.1|Host: {site}", Service(FRONTEND, "")),
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

/// Sends each request to the environment. Returns those with another answer.
pub fn unexpected_answers(environment: &Environment) -> Vec<String> {
    let mut unexpected = Vec::new();
    let paths = PATHS.iter().map(|(path, host, answer)| {
        let request = format!("GET {path} HTTP/1.1|Host: {host}");
        (request, answer)
    });
    let others = REQUESTS.iter();
    let others = others.map(|(request, answer)| ((*request).to_owned(), answer));
    for (request, expected) in paths.chain(others) {
        let text = send(environment, &encode(environment, &request));
        let service = text
            .lines()
            .find_map(|line| line.strip_prefix("x-trii-service: "));
        let holds = match expected {
            Service(name, path) => {
                service.is_some_and(|service| service.trim() == *name)
                    && (path.is_empty() || text.contains(&format!("no route {path}\"")))
            }
            Itself(codes) => {
                let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
                service.is_none() && status.is_some_and(|code| codes.contains(&code))
            }
        };
        if !holds {
            unexpected.push(format!(
                "{request}\n  expected {expected:?}\n  received {text:?}"
            ));
        }
    }
    unexpected
}

/// Returns the bytes of a request, which is the last of its connection.
fn encode(environment: &Environment, request: &str) -> Vec<u8> {
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

/// Sends a request. Returns its answer, with header names in lower case.
fn send(environment: &Environment, request: &[u8]) -> String {
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

/// Reads until the body has the length that the head states, or the other side closes.
fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Vec<u8> {
    // The other side may refuse the request and close before it has read all of it.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut part = [0; 16 << 10];
    while !is_complete(&answer) {
        match stream.read(&mut part) {
            Ok(length @ 1..) => answer.extend_from_slice(&part[..length]),
            Ok(0) | Err(_) => break,
        }
    }
    answer
}

fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    length
        .and_then(|length| length.trim().parse().ok())
        .is_some_and(|length: usize| body.len() >= length)
}

fn trusting(entry: &EntryPoint) -> ClientConfig {
    base::tls::use_ring();
    let pem = fs::read(entry.authority.as_ref().unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
