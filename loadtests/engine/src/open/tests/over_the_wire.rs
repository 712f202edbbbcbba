//! Against a server on this machine.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prober::Target;
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::server::Server;
use crate::open::{Check, Connections, Plan, Progress, Session, Stage, Template, run};
use crate::raw_log::{Outcome, Reader, Record};
use crate::result::{Ended, Endpoint};

/// As many as 100/s for 400 ms are.
const ARRIVALS: u64 = 40;

/// With all the time that a machine with much else to do may take.
fn plan(target: Target, templates: Vec<Template>) -> Plan {
    let stage = Stage::constant(100.0, Duration::from_millis(400));
    let mut plan = Plan::of(target, vec![stage], templates);
    plan.timeout = Duration::from_secs(60);
    plan
}

fn target(server: &Server) -> Target {
    match &server.authority {
        None => Target::of(format!("http://{}", server.address)),
        Some(authority) => Target {
            url: format!("https://localhost:{}", server.address.port()),
            connect: Some(server.address.to_string()),
            authority: Some(authority.clone()),
        },
    }
}

fn go_on(_: Progress<'_>) -> ControlFlow<String> {
    ControlFlow::Continue(())
}

async fn asked(server: &Server, connections: Connections) -> Endpoint {
    let mut plan = plan(target(server), vec![Template::get("/quotes")]);
    plan.connections = connections;
    let mut run = run(&plan, Session::default(), go_on).await.unwrap();
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
async fn connections_are_kept() {
    for server in [Server::plain().await, Server::tls().await] {
        asked(&server, Connections::Kept).await;
        assert!(server.connections() < ARRIVALS, "{}", server.connections());
    }
}

/// A server may close a kept connection at any time between requests (RFC 9112, section 9.5).
#[tokio::test]
async fn a_kept_connection_that_the_server_closes_costs_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let closing = tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let asked = connection.read(&mut [0; 1000]).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
            assert!(asked > 0);
            connection.write_all(answer).await.unwrap();
        }
    });
    let _closing = AbortOnDropHandle::new(closing);
    let plan = plan(
        Target::of(format!("http://{address}")),
        vec![Template::get("/quotes")],
    );
    let run = run(&plan, Session::default(), go_on).await.unwrap();
    let endpoint = &run.result.endpoints["GET /quotes"];
    assert_eq!(endpoint.failures, Default::default());
    assert_eq!(endpoint.whole().requests, ARRIVALS);
}

/// The thread stands still for a fifth of a second: what was due meanwhile goes by the
/// connections there are, instead of each by a new one.
#[tokio::test]
async fn a_generator_that_is_behind_makes_no_connections() {
    let server = Server::plain().await;
    let answered = AtomicU64::new(0);
    let slow_once = Check {
        claim: "anything".into(),
        holds: Arc::new(move |_| {
            if answered.fetch_add(1, Relaxed) == 50 {
                std::thread::sleep(Duration::from_millis(200));
            }
            true
        }),
    };
    let template = Template {
        check: Some(slow_once),
        ..Template::get("/quotes")
    };
    let mut plan = plan(target(&server), vec![template]);
    plan.stages = vec![Stage::constant(1000.0, Duration::from_millis(500))];
    let run = run(&plan, Session::default(), go_on).await.unwrap();
    let whole = run.result.whole();
    assert_eq!((whole.requests, whole.failed, whole.dropped), (500, 0, 0));
    assert!(server.connections() < 100, "{}", server.connections());
}

#[tokio::test]
async fn each_request_has_a_new_connection() {
    for server in [Server::plain().await, Server::tls().await] {
        asked(&server, Connections::New).await;
        assert_eq!(server.connections(), ARRIVALS);
    }
}

#[tokio::test]
async fn requests_share_connections_of_http_2() {
    for server in [Server::plain().await, Server::tls().await] {
        asked(&server, Connections::Http2 { streams: 1000 }).await;
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn workers_divide_the_arrivals() {
    let server = Server::plain().await;
    let mut plan = plan(target(&server), vec![Template::get("/quotes")]);
    plan.workers = 3;
    plan.max_in_flight = 400;
    let mut told = 0;
    let on_progress = |progress: Progress<'_>| {
        let endpoints = progress.endpoints.values();
        told += endpoints.map(|one| one.whole().requests).sum::<u64>();
        ControlFlow::Continue(())
    };
    let run = run(&plan, Session::default(), on_progress).await.unwrap();
    assert_eq!(run.result.whole().requests, ARRIVALS);
    assert_eq!(told, ARRIVALS);
}

#[tokio::test]
async fn answers_are_checked() {
    let server = Server::plain().await;
    let checked = |path: &str, good: &[u16], body: &'static [u8]| Template {
        good: good.to_vec(),
        check: Some(Check {
            claim: "a greeting".into(),
            holds: Arc::new(move |seen| seen == body),
        }),
        ..Template::get(path)
    };
    let templates = vec![
        checked("/200", &[], b"hello"),
        checked("/201", &[], b"hola"),
        checked("/404", &[404], b"hello"),
        checked("/503", &[], b"hello"),
    ];
    let plan = plan(target(&server), templates);
    let run = run(&plan, Session::default(), go_on).await.unwrap();
    let endpoints = &run.result.endpoints;
    let failed = |name: &str| endpoints[name].whole().failed;
    assert_eq!((failed("GET /200"), failed("GET /404")), (0, 0));
    let wrong = &endpoints["GET /201"];
    assert_eq!(wrong.failures["check: a greeting"], wrong.whole().requests);
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
    let templates = vec![Template::get("/quotes"), Template::get("/500")];
    let run = run(&plan(target(&server), templates), session, go_on).await;
    let run = run.unwrap();
    assert_eq!(run.raw_log.unwrap().unwrap().records, ARRIVALS);
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(
        reader.begun().as_microsecond(),
        run.result.begun.as_microsecond()
    );
    let names = reader.names().to_vec();
    let records: Vec<Record> = reader.by_ref().collect::<Result<_, _>>().unwrap();
    for (name, endpoint) in &run.result.endpoints {
        let of = records
            .iter()
            .filter(|one| names[usize::from(one.name)] == *name);
        assert_eq!(of.clone().count() as u64, endpoint.whole().requests);
        let good = name == "GET /quotes";
        let status = if good { 200 } else { 500 };
        assert!(
            of.clone()
                .all(|one| one.outcome == Outcome::Status { status, good })
        );
    }
    let mut intended: Vec<u64> = records.iter().map(|one| one.intended).collect();
    intended.sort_unstable();
    let due: Vec<u64> = (0..ARRIVALS).map(|number| number * 10_000).collect();
    assert_eq!(intended, due);
}
