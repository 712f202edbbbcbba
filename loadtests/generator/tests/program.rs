//! Runs the program as pods of an indexed Job do.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderName;
use axum::routing::get;
use jiff::Timestamp;
use load_engine::journey::{Rows, WrittenJourney};
use load_engine::open::RateStage;
use load_engine::result::{Ended, LoadResult};
use load_generator::message::GeneratorMessage;
use load_generator::order::{LoadOrder, LoadStart};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober::{IdentityHeaders, ProbeTarget};
use tokens::TokenClaims;
use tokio_util::task::AbortOnDropHandle;

/// A platform with quotes that counts requests, and answers any token.
struct Platform {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    _serving: AbortOnDropHandle<()>,
}

impl Platform {
    async fn start() -> Platform {
        let requests = Arc::new(AtomicU64::new(0));
        let counted = |body: &'static str| {
            get(async move |State(requests): State<Arc<AtomicU64>>| {
                requests.fetch_add(1, Relaxed);
                ([("x-version", "v2")], body)
            })
        };
        let routes = Router::new()
            .route("/api/quotes/{symbol}", counted(r#"{"price": "118.80"}"#))
            .route("/api/accounts", counted(r#"{"account": 7}"#))
            .route("/api/accounts/{account}", counted("{}"))
            .with_state(requests.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Platform {
            address: listener.local_addr().unwrap(),
            requests,
            _serving: AbortOnDropHandle::new(tokio::spawn(async move {
                axum::serve(listener, routes).await.unwrap();
            })),
        }
    }

    fn order(&self, seconds: u64, generators: usize) -> LoadOrder {
        LoadOrder {
            target: ProbeTarget::of(format!("http://{}/api", self.address)),
            stages: vec![RateStage::constant(100.0, Duration::from_secs(seconds))],
            timeout: Duration::from_secs(60),
            drain: Duration::from_secs(60),
            max_in_flight: 500,
            generators,
            headers: IdentityHeaders {
                version: Some(HeaderName::from_static("x-version")),
                ..IdentityHeaders::default()
            },
        }
    }
}

/// A start now, of a journey of one request.
fn quotes() -> LoadStart {
    let text = "
        GET {{api}}/quotes/{{symbol}}
        HTTP 200
        [Asserts]
        jsonpath \"$.price\" toFloat > 0
    ";
    let mut quotes = WrittenJourney::of("quotes", &text.replace("        ", ""));
    quotes.rows = Some(Rows {
        columns: vec!["symbol".into()],
        values: vec![vec!["ISA".into()], vec!["GEB".into()]],
    });
    LoadStart {
        begin: Some(Timestamp::now()),
        journeys: vec![quotes],
        ..LoadStart::default()
    }
}

/// The same, and a journey with a capture and a token.
fn quotes_and_accounts() -> LoadStart {
    let text = "
        GET {{api}}/accounts
        Authorization: Bearer {{visitor}}
        HTTP 200
        [Captures]
        account: jsonpath \"$.account\"

        GET {{api}}/accounts/{{account}}
        HTTP 200
    ";
    let mut start = quotes();
    let accounts = WrittenJourney::of("accounts", &text.replace("        ", ""));
    start.journeys.push(accounts);
    let visitor = TokenClaims {
        subject: "{unique}".into(),
        role: "investor".into(),
    };
    start.users.tokens = [("visitor".to_owned(), visitor)].into();
    start
}

/// A running generator. It is killed when it is dropped.
struct Generator {
    child: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(order: &str, number: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_load-generator"))
        .env_clear()
        .env("LOAD_ORDER", order)
        .env("JOB_COMPLETION_INDEX", number)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

impl Generator {
    fn start(order: &LoadOrder, number: usize) -> Generator {
        let order = serde_json::to_string(order).unwrap();
        let mut child = program(&order, &number.to_string());
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Generator {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        }
    }

    fn next_message(&mut self) -> GeneratorMessage {
        let line = self.lines.next().expect("a further line").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn send(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    fn begin(&mut self, start: &LoadStart) {
        self.send(&serde_json::to_string(start).unwrap());
    }

    fn result(&mut self) -> LoadResult {
        loop {
            if let GeneratorMessage::Ended(result) = self.next_message() {
                return *result;
            }
        }
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    fn stderr(&mut self) -> String {
        let stderr = self.child.stderr.take().unwrap();
        std::io::read_to_string(stderr).unwrap()
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_generators_send_every_arrival_once() {
    let platform = Platform::start().await;
    let order = platform.order(1, 3);
    let mut generators = [0, 1, 2].map(|number| Generator::start(&order, number));
    for generator in &mut generators {
        assert_eq!(generator.next_message(), GeneratorMessage::Ready);
    }
    let begin = Timestamp::now() + Duration::from_millis(300);
    let start = LoadStart {
        begin: Some(begin),
        ..quotes()
    };
    for generator in &mut generators {
        generator.begin(&start);
    }
    let results = generators.each_mut().map(|generator| {
        let result = generator.result();
        assert_eq!(generator.code(), Some(0));
        result
    });
    for (number, result) in results.iter().enumerate() {
        let expected = [34, 33, 33][number];
        assert_eq!(result.whole().requests, expected, "generator {number}");
        assert_eq!(result.begun, begin);
    }
    let whole = LoadResult::merge(results).unwrap();
    assert_eq!(whole.ended, Ended::Whole);
    let all = whole.whole();
    assert_eq!((all.requests, all.failed, all.dropped), (100, 0, 0));
    assert_eq!(all.latency.count(), 100);
    assert_eq!(platform.requests.load(Relaxed), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_generators_send_the_same_requests_as_one() {
    let platform = Platform::start().await;
    let mut names = Vec::new();
    for count in [1, 4] {
        let order = platform.order(1, count);
        let results: Vec<LoadResult> = (0..count)
            .map(|number| {
                let mut generator = Generator::start(&order, number);
                generator.begin(&quotes_and_accounts());
                generator.result()
            })
            .collect();
        let whole = LoadResult::merge(results).unwrap();
        let by_name = whole.endpoints.iter();
        let by_name = by_name.map(|(name, endpoint)| (name.clone(), endpoint.whole().requests));
        names.push(by_name.collect::<Vec<_>>());
        assert_eq!(whole.whole().failed, 0);
    }
    assert_eq!(names[0], names[1]);
    let expected = [
        ("GET /accounts", 50),
        ("GET /accounts/{account}", 50),
        ("GET /quotes/{symbol}", 50),
    ];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(names[0], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigterm_stops_it_and_the_result_is_printed() {
    let platform = Platform::start().await;
    let mut generator = Generator::start(&platform.order(600, 1), 0);
    generator.begin(&quotes());
    assert_eq!(generator.next_message(), GeneratorMessage::Ready);
    let second = generator.next_message();
    assert!(
        matches!(second, GeneratorMessage::Progress { .. }),
        "{second:?}"
    );
    generator.terminate();
    let result = generator.result();
    assert_eq!(result.ended, Ended::Interrupted);
    assert!(result.whole().requests > 0);
    assert_eq!(generator.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_cancelled_before_its_start_has_no_result() {
    let platform = Platform::start().await;
    let mut generator = Generator::start(&platform.order(1, 1), 0);
    assert_eq!(generator.next_message(), GeneratorMessage::Ready);
    generator.terminate();
    assert_eq!(generator.code(), Some(1));
    let message = generator.stderr();
    assert!(
        message.contains("ended before it got a time to begin"),
        "{message}"
    );
    assert_eq!(platform.requests.load(Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_line_on_standard_input_is_located_and_not_quoted() {
    let platform = Platform::start().await;
    let secret = r#"{"users": {"jwt_secret": "hush"}, "hush": 1}"#;
    for (line, place) in [
        ("soon", "byte 1 of 4"),
        ("", "byte 0 of 0"),
        (secret, "of 44"),
    ] {
        let mut generator = Generator::start(&platform.order(1, 1), 0);
        generator.send(line);
        assert_eq!(generator.code(), Some(1));
        let message = generator.stderr();
        assert!(
            message.contains(place) && !message.contains("hush"),
            "{message}"
        );
    }
}

#[test]
fn an_invalid_order_is_exit_code_2() {
    let order = LoadOrder {
        target: ProbeTarget::of("http://127.0.0.1:1"),
        stages: Vec::new(),
        timeout: Duration::from_secs(1),
        drain: Duration::from_secs(1),
        max_in_flight: 1,
        generators: 2,
        headers: IdentityHeaders::default(),
    };
    let order = serde_json::to_string(&order).unwrap();
    for (order, number, message) in [
        ("{}", "0", "LOAD_ORDER is invalid: missing field `target`"),
        (&order, "2", "with 2 generators it is a number below that"),
        (&order, "first", "JOB_COMPLETION_INDEX is \"first\""),
    ] {
        let output = program(order, number).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{order} {number}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(message), "{stderr}");
    }
}
