//! The program, as a pod runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prober::line::{Reader, Said};
use prober::{Lane, Outcome, Spec};
use support::{Manner, Server};
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

fn said(output: &Output) -> Vec<Said> {
    let mut reader = Reader::default();
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
    serde_json::to_string(&Spec { lanes, seconds }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_of_every_answer_and_ends_when_its_time_is_up() {
    let server = Server::start(Manner::Status(200)).await;
    let output = program().env("PROBER_SPEC", spec(&server, 0.4)).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = said(&output);
    assert!(matches!(said[0], Said::Ready(_)));
    let answers = said
        .iter()
        .filter(|it| matches!(it, Said::Answer(answer) if answer.good));
    assert_eq!(answers.count(), 40);
    let Some(Said::End(_, lag)) = said.last() else {
        panic!("{said:?}");
    };
    assert_eq!((lag.due, lag.dropped), (40, 0));
    assert!(lag.cpu_seconds > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigterm_ends_it_after_what_is_in_flight() {
    let server = Server::start(Manner::After(Duration::from_millis(300))).await;
    let mut child = tokio::process::Command::from(program())
        .arg(spec(&server, 600.0))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut reader, mut answers, mut end) = (Reader::default(), Vec::new(), None);
    while let Some(line) = lines.next_line().await.unwrap() {
        match reader.read(&line).unwrap() {
            Said::Answer(answer) => answers.push(answer),
            Said::End(_, lag) => end = Some(lag),
            _ => {}
        }
        if answers.len() == 1 {
            let id = Pid::from_raw(child.id().unwrap().try_into().unwrap());
            kill(id, Signal::SIGTERM).unwrap();
        }
    }
    assert!(child.wait().await.unwrap().success());
    assert!(answers.len() > 10, "{}", answers.len());
    assert!(answers.iter().all(|it| it.outcome == Outcome::Status(200)));
    assert_eq!(end.unwrap().due, answers.len() as u64);
}

#[test]
fn what_is_no_specification_is_refused_with_2() {
    let odd = r#"{"lanes": [], "seconds": 1}"#;
    for (arguments, says) in [
        (vec![], "PROBER_SPEC"),
        (vec!["{"], "no specification"),
        (vec![odd], "lanes has none"),
    ] {
        let output = program().args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(says), "{error}");
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

#[tokio::test(flavor = "multi_thread")]
async fn it_relays_to_one_server_until_its_input_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let mut child = running(&["relay", &server]);
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // Connection 7 is opened, and says "hi".
    let frames = b"\0\0\0\x05o\0\0\0\x07\0\0\0\x07d\0\0\0\x07hi";
    to.write_all(frames).await.unwrap();
    let (mut joined, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let mut said = [0; 2];
    joined.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hi");
    joined.write_all(b"yes").await.unwrap();
    let mut frame = [0; 12];
    from.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame, b"\0\0\0\x08d\0\0\0\x07yes");

    drop(to);
    let ended = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(matches!(joined.read(&mut said).await, Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_cannot_relay_is_a_failure() {
    let mut child = running(&["relay", "127.0.0.1:1"]);
    let mut to = child.stdin.take().unwrap();
    to.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let ended = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_idles_until_it_is_terminated() {
    let mut child = running(&["idle"]);
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = timeout(DEADLINE, lines.next_line()).await.unwrap();
    assert_eq!(said.unwrap().as_deref(), Some("idle"));
    kill(id, Signal::SIGTERM).unwrap();
    let ended = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
}
