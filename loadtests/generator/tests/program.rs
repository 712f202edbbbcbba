//! The program, as pods of an indexed Job run it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use jiff::Timestamp;
use load_engine::open::Stage;
use load_engine::result::{Ended, LoadResult};
use load_generator::order::Order;
use load_generator::said::Said;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober::Target;
use tokio_util::task::AbortOnDropHandle;

const QUOTES: &str = r#"[{"symbol": "ISA", "price": "118.80"}]"#;
const QUOTE: &str = r#"{"symbol": "ISA", "price": "118.80"}"#;

/// A platform that has quotes, and counts who asks.
struct Platform {
    address: SocketAddr,
    asked: Arc<AtomicU64>,
    _serving: AbortOnDropHandle<()>,
}

impl Platform {
    async fn start() -> Platform {
        let asked = Arc::new(AtomicU64::new(0));
        let counted = |body: &'static str| {
            get(async move |State(asked): State<Arc<AtomicU64>>| {
                asked.fetch_add(1, Relaxed);
                body
            })
        };
        let routes = Router::new()
            .route("/market-data/quotes", counted(QUOTES))
            .route("/market-data/quotes/{symbol}", counted(QUOTE))
            .route("/market-data/quotes/{symbol}/history", counted(QUOTES))
            .with_state(asked.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Platform {
            address: listener.local_addr().unwrap(),
            asked,
            _serving: AbortOnDropHandle::new(tokio::spawn(async move {
                axum::serve(listener, routes).await.unwrap();
            })),
        }
    }

    fn order(&self, seconds: u64, generators: usize) -> Order {
        Order {
            target: Target::of(format!("http://{}/market-data", self.address)),
            stages: vec![Stage::constant(100.0, Duration::from_secs(seconds))],
            timeout: Duration::from_secs(60),
            drain: Duration::from_secs(60),
            max_in_flight: 500,
            generators,
        }
    }
}

/// One of the generators. It is killed where a test does not hear it to its end.
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
    fn start(order: &Order, number: usize) -> Generator {
        let order = serde_json::to_string(order).unwrap();
        let mut child = program(&order, &number.to_string());
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Generator {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        }
    }

    fn says(&mut self) -> Said {
        let line = self.lines.next().expect("it says more").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn is_told(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    fn result(&mut self) -> LoadResult {
        loop {
            if let Said::Ended(result) = self.says() {
                return *result;
            }
        }
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    fn complaint(&mut self) -> String {
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn together_they_make_every_arrival_once() {
    let platform = Platform::start().await;
    let order = platform.order(1, 3);
    let mut generators = [0, 1, 2].map(|number| Generator::start(&order, number));
    for generator in &mut generators {
        assert_eq!(generator.says(), Said::Ready);
    }
    let begin = Timestamp::now() + Duration::from_millis(300);
    for generator in &mut generators {
        generator.is_told(&begin.to_string());
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
    let whole = LoadResult::together(results).unwrap();
    assert_eq!(whole.ended, Ended::Whole);
    let all = whole.whole();
    assert_eq!((all.requests, all.failed, all.dropped), (100, 0, 0));
    assert_eq!(all.latency.count(), 100);
    assert_eq!(platform.asked.load(Relaxed), 100);
}

/// The arrivals of one are those of several, name by name.
#[tokio::test(flavor = "multi_thread")]
async fn what_they_ask_is_what_one_would() {
    let platform = Platform::start().await;
    let mut names = Vec::new();
    for count in [1, 4] {
        let order = platform.order(1, count);
        let results: Vec<LoadResult> = (0..count)
            .map(|number| {
                let mut generator = Generator::start(&order, number);
                generator.is_told(&Timestamp::now().to_string());
                generator.result()
            })
            .collect();
        let whole = LoadResult::together(results).unwrap();
        let by_name = whole.endpoints.iter();
        let by_name = by_name.map(|(name, endpoint)| (name.clone(), endpoint.whole().requests));
        names.push(by_name.collect::<Vec<_>>());
    }
    assert_eq!(names[0], names[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigterm_ends_it_and_the_result_is_said_all_the_same() {
    let platform = Platform::start().await;
    let mut generator = Generator::start(&platform.order(600, 1), 0);
    generator.is_told(&Timestamp::now().to_string());
    assert_eq!(generator.says(), Said::Ready);
    let told = generator.says();
    assert!(matches!(told, Said::Progress { .. }), "{told:?}");
    let pid = Pid::from_raw(i32::try_from(generator.child.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let result = generator.result();
    assert_eq!(result.ended, Ended::Interrupted);
    assert!(result.whole().requests > 0);
    assert_eq!(generator.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn called_off_before_its_begin_it_ends_without_a_result() {
    let platform = Platform::start().await;
    let mut generator = Generator::start(&platform.order(1, 1), 0);
    assert_eq!(generator.says(), Said::Ready);
    let pid = Pid::from_raw(i32::try_from(generator.child.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(generator.code(), Some(1));
    let said = generator.complaint();
    assert!(said.contains("ended before it was told to begin"), "{said}");
    assert_eq!(platform.asked.load(Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_standard_input_is_quoted() {
    let platform = Platform::start().await;
    for (line, quoted) in [("soon", "\"soon\""), ("", "\"\"")] {
        let mut generator = Generator::start(&platform.order(1, 1), 0);
        generator.is_told(line);
        assert_eq!(generator.code(), Some(1));
        let said = generator.complaint();
        assert!(said.contains(quoted), "{said}");
    }
}

#[test]
fn an_order_that_is_none_is_exit_code_2() {
    let order = Order {
        target: Target::of("http://127.0.0.1:1"),
        stages: Vec::new(),
        timeout: Duration::from_secs(1),
        drain: Duration::from_secs(1),
        max_in_flight: 1,
        generators: 2,
    };
    let order = serde_json::to_string(&order).unwrap();
    for (order, number, said) in [
        ("{}", "0", "LOAD_ORDER is no order: missing field `target`"),
        (&order, "2", "with 2 generators it is a number below that"),
        (&order, "first", "JOB_COMPLETION_INDEX is \"first\""),
    ] {
        let output = program(order, number).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{order} {number}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(said), "{stderr}");
    }
}
