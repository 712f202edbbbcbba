//! Runs against a server on this machine.

use std::ops::ControlFlow;
use std::time::Duration;

use prober::ProbeTarget;
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::keep_running;
use super::test_server::Server;
use crate::journey::WrittenJourney;
use crate::open::{ConnectionMode, LoadPlan, Progress, RateStage, Session, run};
use crate::raw_log::{RawLogReader, RawOutcome, RawRecord};
use crate::result::{Ended, Endpoint};

/// 100/s for 400 ms.
const ARRIVALS: u64 = 40;

/// The timeout is long, as the machine may be busy.
fn plan(target: ProbeTarget, journeys: Vec<WrittenJourney>) -> LoadPlan {
    let stage = RateStage::constant(100.0, Duration::from_millis(400));
    let mut plan = LoadPlan::of(target, vec![stage], journeys);
    plan.timeout = Duration::from_secs(60);
    plan
}

fn target(server: &Server) -> ProbeTarget {
    match &server.authority {
        None => ProbeTarget::of(format!("http://{}", server.address)),
        Some(authority) => ProbeTarget {
            url: format!("https://localhost:{}", server.address.port()),
            connect: Some(server.address.to_string()),
            authority: Some(authority.clone()),
        },
    }
}

async fn send(server: &Server, connections: ConnectionMode) -> Endpoint {
    let mut plan = plan(target(server), vec![WrittenJourney::get("/quotes")]);
    plan.connections = connections;
    let mut run = run(&plan, Session::default(), keep_running).await.unwrap();
    assert_eq!(run.result.ended, Ended::Whole);
    let endpoint = run.result.endpoints.remove("GET /quotes").unwrap();
    let whole = endpoint.whole();
    assert_eq!((whole.requests, whole.dropped), (ARRIVALS, 0));
    assert_eq!(endpoint.failures, Default::default());
    assert_eq!(endpoint.statuses, [(200, ARRIVALS)].into());
    assert_eq!(whole.received, 5 * ARRIVALS);
    assert_eq!(run.result.generator.lag.count(), ARRIVALS);
    endpoint
}

#[tokio::test]
async fn connections_are_kept_alive() {
    for server in [Server::plain().await, Server::tls().await] {
        send(&server, ConnectionMode::KeepAlive).await;
        assert!(server.connections() < ARRIVALS, "{}", server.connections());
    }
}

/// A server may close a connection at any time between requests (RFC 9112, section 9.5).
#[tokio::test]
async fn a_connection_that_the_server_closes_between_requests_fails_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let closing = tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let read = connection.read(&mut [0; 1000]).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
            assert!(read > 0);
            connection.write_all(answer).await.unwrap();
        }
    });
    let _closing = AbortOnDropHandle::new(closing);
    let plan = plan(
        ProbeTarget::of(format!("http://{address}")),
        vec![WrittenJourney::get("/quotes")],
    );
    let run = run(&plan, Session::default(), keep_running).await.unwrap();
    let endpoint = &run.result.endpoints["GET /quotes"];
    assert_eq!(endpoint.failures, Default::default());
    assert_eq!(endpoint.whole().requests, ARRIVALS);
}

#[tokio::test]
async fn each_request_has_a_new_connection() {
    for server in [Server::plain().await, Server::tls().await] {
        send(&server, ConnectionMode::New).await;
        assert_eq!(server.connections(), ARRIVALS);
    }
}

#[tokio::test]
async fn requests_share_connections_of_http_2() {
    for server in [Server::plain().await, Server::tls().await] {
        send(&server, ConnectionMode::Http2 { streams: 1000 }).await;
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn workers_divide_the_arrivals() {
    let server = Server::plain().await;
    let mut plan = plan(target(&server), vec![WrittenJourney::get("/quotes")]);
    plan.workers = 3;
    plan.max_in_flight = 400;
    let mut reported = 0;
    let on_progress = |progress: Progress<'_>| {
        let endpoints = progress.endpoints.values();
        reported += endpoints
            .map(|endpoint| endpoint.whole().requests)
            .sum::<u64>();
        ControlFlow::Continue(())
    };
    let run = run(&plan, Session::default(), on_progress).await.unwrap();
    assert_eq!(run.result.whole().requests, ARRIVALS);
    assert_eq!(reported, ARRIVALS);
}

#[tokio::test]
async fn answers_are_checked() {
    let server = Server::plain().await;
    let checked = |path: &str, status: u16, body: &str| {
        let text = format!("GET {{{{api}}}}{path}\nHTTP {status}\n[Asserts]\nbody == \"{body}\"\n");
        WrittenJourney::of(path, &text)
    };
    let journeys = vec![
        checked("/200", 200, "hello"),
        checked("/201", 201, "hola"),
        checked("/404", 404, "hello"),
        checked("/503", 200, "hello"),
    ];
    let plan = plan(target(&server), journeys);
    let run = run(&plan, Session::default(), keep_running).await.unwrap();
    let endpoints = &run.result.endpoints;
    let failed = |name: &str| endpoints[name].whole().failed;
    assert_eq!((failed("GET /200"), failed("GET /404")), (0, 0));
    let wrong = &endpoints["GET /201"];
    assert_eq!(
        wrong.failures["check: body == \"hola\""],
        wrong.whole().requests
    );
    assert_eq!(wrong.statuses[&201], wrong.whole().requests);
    let refused = &endpoints["GET /503"];
    assert_eq!(refused.failures["status 503"], refused.whole().requests);
}

#[tokio::test]
async fn the_raw_log_has_every_request() {
    let (server, folder) = (Server::plain().await, tempdir().unwrap());
    let path = folder.path().join("raw.log");
    let session = Session {
        raw_log: Some(path.clone()),
        ..Session::default()
    };
    let journeys = vec![WrittenJourney::get("/quotes"), WrittenJourney::get("/500")];
    let run = run(&plan(target(&server), journeys), session, keep_running).await;
    let run = run.unwrap();
    assert_eq!(run.raw_log.unwrap().unwrap().records, ARRIVALS);
    let mut reader = RawLogReader::open(&path).unwrap();
    assert_eq!(
        reader.begun().as_microsecond(),
        run.result.begun.as_microsecond()
    );
    let names = reader.names().to_vec();
    let records: Vec<RawRecord> = reader.by_ref().collect::<Result<_, _>>().unwrap();
    for (name, endpoint) in &run.result.endpoints {
        let is_of = |record: &&RawRecord| names[usize::from(record.name)] == *name;
        let of_endpoint: Vec<&RawRecord> = records.iter().filter(is_of).collect();
        assert_eq!(of_endpoint.len() as u64, endpoint.whole().requests);
        let good = name == "GET /quotes";
        let status = if good { 200 } else { 500 };
        let expected = RawOutcome::Status { status, good };
        assert!(of_endpoint.iter().all(|record| record.outcome == expected));
    }
    let mut intended: Vec<u64> = records.iter().map(|record| record.intended).collect();
    intended.sort_unstable();
    let due: Vec<u64> = (0..ARRIVALS).map(|number| number * 10_000).collect();
    assert_eq!(intended, due);
}

#[tokio::test]
async fn the_requests_of_an_arrival_are_sent_one_after_the_other() {
    let server = Server::plain().await;
    let text = "
POST {{api}}/201
`{{unique}}`
HTTP 201
[Captures]
greeting: body

GET {{api}}/quotes
HTTP 200
[Asserts]
body == \"{{greeting}}\"

GET {{api}}/503
HTTP 200
[Captures]
never: body

GET {{api}}/{{never}}
HTTP 200
";
    for connections in [
        ConnectionMode::KeepAlive,
        ConnectionMode::Http2 { streams: 9 },
    ] {
        let mut plan = plan(target(&server), vec![WrittenJourney::of("greets", text)]);
        plan.connections = connections;
        let endpoints = run(&plan, Session::default(), keep_running).await.unwrap();
        let endpoints = endpoints.result.endpoints;
        let counts = endpoints.iter().map(|(name, endpoint)| {
            let whole = endpoint.whole();
            (name.as_str(), whole.requests, whole.failed, whole.arrivals)
        });
        let expected = [
            ("GET /503", ARRIVALS, ARRIVALS, 0),
            ("GET /quotes", ARRIVALS, 0, 0),
            ("POST /201", ARRIVALS, 0, ARRIVALS),
        ];
        assert_eq!(counts.collect::<Vec<_>>(), expected);
    }
}
