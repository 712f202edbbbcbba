//! One of several load generators, as a pod of an indexed Job.
//!
//! Its [order](load_generator::order::LoadOrder) (JSON) is in `LOAD_ORDER`, and its number in
//! `JOB_COMPLETION_INDEX`, which Kubernetes sets
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode>). It prints
//! that it is ready, and waits on standard input for a line with its
//! [start](load_generator::order::LoadStart) (JSON). SIGTERM stops the load: requests in flight drain, and the result is still
//! printed.
//!
//! Exit code 0: it generated the load, even if requests failed; 2: the order is invalid; 1: it
//! could not start, or not print.

use std::io::{self, BufRead, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use load_engine::open;
use load_engine::run::Session;
use load_generator::message::GeneratorMessage;
use load_generator::order::{LoadOrder, LoadStart};
use prober::{Lane, Spec};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The time for network policies to accept a new pod: until then its connections are refused.
/// Connections that are refused later are measured.
const REACHABLE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (order, number) = match read_order() {
        Ok(order) => order,
        Err(why) => return failed(2, &why),
    };
    match generate(&order, number).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => failed(1, &why),
    }
}

fn failed(code: u8, why: &str) -> ExitCode {
    // An error of standard error cannot be reported.
    let _ = writeln!(io::stderr(), "load-generator: {why}");
    ExitCode::from(code)
}

fn read_order() -> Result<(LoadOrder, usize), String> {
    let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let order = serde_json::from_str(&variable("LOAD_ORDER")?);
    let order: LoadOrder = order.map_err(|error| format!("LOAD_ORDER is invalid: {error}"))?;
    let number = variable("JOB_COMPLETION_INDEX")?;
    match number.parse() {
        Ok(number) if number < order.generators => Ok((order, number)),
        _ => Err(format!(
            "JOB_COMPLETION_INDEX is {number:?}: with {} generators it is a number below that",
            order.generators
        )),
    }
}

async fn generate(order: &LoadOrder, number: usize) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let stop = CancellationToken::new();
    let at_signal = stop.clone();
    let _stopping = AbortOnDropHandle::new(tokio::spawn(async move {
        terminate.recv().await;
        at_signal.cancel();
    }));
    reach_target(order).await?;
    write(&GeneratorMessage::Ready).map_err(not_written)?;
    let start = tokio::select! {
        start = read_start() => start?,
        () = stop.cancelled() => return Err("ended before it got a time to begin".into()),
    };
    let session = Session {
        begin: start.begin,
        stop: stop.clone(),
        ..Session::default()
    };
    let plan = order.plan(number, start);
    let run = open::run(&plan, session, |progress| {
        let written = write(&GeneratorMessage::Progress {
            elapsed: progress.elapsed,
            endpoints: progress.endpoints.clone(),
        });
        // The result cannot be printed either.
        if written.is_err() {
            stop.cancel();
        }
        ControlFlow::Continue(())
    });
    let run = run.await.map_err(|error| error.to_string())?;
    write(&GeneratorMessage::Ended(Box::new(run.result))).map_err(not_written)
}

async fn reach_target(order: &LoadOrder) -> Result<(), String> {
    let spec = Spec {
        lanes: vec![Lane::new_connection(order.target.clone(), 1.0)],
        seconds: 1.0,
        headers: order.headers.clone(),
    };
    let reachable = prober::reachable(&spec, REACHABLE).await;
    reachable.map_err(|error| error.to_string())
}

/// Reads the start. A separate thread waits for the line: the process can exit without it.
async fn read_start() -> Result<LoadStart, String> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let line = io::stdin().lock().read_line(&mut line).map(|_| line);
        // Sending fails if the load has ended.
        let _ = sender.send(line);
    });
    let line = receiver.await.map_err(|error| error.to_string())?;
    let line = line.map_err(|error| format!("standard input: {error}"))?;
    // The line has secrets, and serde's message may quote it.
    serde_json::from_str(&line).map_err(|error| {
        let (at, of) = (error.column(), line.trim_end().len());
        format!("standard input has no start of a load: byte {at} of {of} is wrong")
    })
}

fn write(message: &GeneratorMessage) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let line = serde_json::to_string(message).map_err(io::Error::other)?;
    writeln!(out, "{line}")?;
    out.flush()
}

fn not_written(error: io::Error) -> String {
    format!("standard output: {error}")
}
