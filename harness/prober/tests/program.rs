//! The program `prober`.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

mod support;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober::output_line::{LineReader, ProberMessage};
use prober::{Lane, RequestOutcome, Spec};
use support::{Manner, Server, headers};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_prober"));
    program.env_clear();
    program
}

fn messages(output: &Output) -> Vec<ProberMessage> {
    let mut reader = LineReader::default();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .map(|line| reader.read(line).unwrap())
        .collect()
}

fn spec(server: &Server, seconds: f64) -> String {
    let lanes = vec![
        Lane::new_connection(server.target(), 50.0),
        Lane::pooled(server.target(), 50.0, 1),
    ];
    let spec = Spec {
        lanes,
        seconds,
        headers: headers(),
    };
    serde_json::to_string(&spec).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_prints_every_answer_and_exits_when_its_time_is_over() {
    let server = Server::start(Manner::Status(200)).await;
    let output = program().env("PROBER_SPEC", spec(&server, 0.4)).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let messages = messages(&output);
    assert!(matches!(messages[0], ProberMessage::Ready(_)));
    let answers = messages
        .iter()
        .filter(|it| matches!(it, ProberMessage::Answer(answer) if answer.good));
    assert_eq!(answers.count(), 40);
    let Some(ProberMessage::End(_, lag)) = messages.last() else {
        panic!("{messages:?}");
    };
    assert_eq!((lag.due, lag.dropped), (40, 0));
    assert!(lag.cpu_seconds > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_exits_on_sigterm_after_the_requests_in_flight() {
    let server = Server::start(Manner::After(Duration::from_millis(300))).await;
    let mut child = running(&[spec(&server, 600.0).as_str()]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut reader, mut answers, mut end) = (LineReader::default(), Vec::new(), None);
    while let Some(line) = lines.next_line().await.unwrap() {
        match reader.read(&line).unwrap() {
            ProberMessage::Answer(answer) => answers.push(answer),
            ProberMessage::End(_, lag) => end = Some(lag),
            _ => {}
        }
        if answers.len() == 1 {
            terminate(&child);
        }
    }
    assert!(child.wait().await.unwrap().success());
    assert!(answers.len() > 10, "{}", answers.len());
    assert!(
        answers
            .iter()
            .all(|it| it.outcome == RequestOutcome::Status(200))
    );
    assert_eq!(end.unwrap().due, answers.len() as u64);
}

#[test]
fn an_invalid_specification_is_refused_with_2() {
    let no_lanes = r#"{"lanes": [], "seconds": 1}"#;
    for (arguments, message) in [
        (vec![], "PROBER_SPEC"),
        (vec!["{"], "invalid specification"),
        (vec![no_lanes], "lanes has none"),
    ] {
        let output = program().args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(message), "{error}");
        assert!(output.stdout.is_empty());
    }
}

fn running(arguments: &[&str]) -> Child {
    tokio::process::Command::from(program())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn terminate(child: &Child) {
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    kill(id, Signal::SIGTERM).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_relays_to_one_server_until_its_input_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let mut child = running(&["relay", &server]);
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // Opens the connection 7, and sends "hi".
    let frames = b"\0\0\0\x05o\0\0\0\x07\0\0\0\x07d\0\0\0\x07hi";
    to.write_all(frames).await.unwrap();
    let (mut relayed, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let mut data = [0; 2];
    relayed.read_exact(&mut data).await.unwrap();
    assert_eq!(&data, b"hi");
    relayed.write_all(b"yes").await.unwrap();
    let mut frame = [0; 12];
    from.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame, b"\0\0\0\x08d\0\0\0\x07yes");

    drop(to);
    let ended = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(matches!(relayed.read(&mut data).await, Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fails_on_input_that_it_cannot_relay() {
    let mut child = running(&["relay", "127.0.0.1:1"]);
    let mut to = child.stdin.take().unwrap();
    to.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let ended = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_idles_until_it_is_terminated() {
    let mut child = running(&["idle"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.unwrap();
    assert_eq!(line.unwrap().as_deref(), Some("idle"));
    terminate(&child);
    let ended = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
}
