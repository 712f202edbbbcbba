//! One of several load generators, as a pod of an indexed Job.
//!
//! Its [order](load_generator::order::Order) (JSON) is in `LOAD_ORDER`, and which of the
//! generators it is in `JOB_COMPLETION_INDEX`, as Kubernetes sets it
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode>). Once it
//! says that it is ready it waits on standard input for a line with the moment (RFC 3339) at
//! which the first arrival of all is due. SIGTERM ends the load; what is in flight drains, and
//! the result is said all the same.
//!
//! Exit code 0 is that it made the load, whatever was answered; 2 that the order is none; 1
//! that it could not begin, or not be heard.

use std::io::{self, BufRead, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use load_engine::open;
use load_engine::run::Session;
use load_generator::order::Order;
use load_generator::said::Said;
use prober::{Lane, Spec};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// For network policies to let a pod through that has just started, in which its connections
/// are refused. What is refused later is measured.
const REACHABLE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (order, number) = match ordered() {
        Ok(ordered) => ordered,
        Err(why) => return failed(2, &why),
    };
    match generate(&order, number).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => failed(1, &why),
    }
}

fn failed(code: u8, why: &str) -> ExitCode {
    // Nothing is to be done about a log that takes no more.
    let _ = writeln!(io::stderr(), "load-generator: {why}");
    ExitCode::from(code)
}

fn ordered() -> Result<(Order, usize), String> {
    let given = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let order = serde_json::from_str(&given("LOAD_ORDER")?);
    let order: Order = order.map_err(|error| format!("LOAD_ORDER is no order: {error}"))?;
    let number = given("JOB_COMPLETION_INDEX")?;
    match number.parse() {
        Ok(number) if number < order.generators => Ok((order, number)),
        _ => Err(format!(
            "JOB_COMPLETION_INDEX is {number:?}: with {} generators it is a number below that",
            order.generators
        )),
    }
}

async fn generate(order: &Order, number: usize) -> Result<(), String> {
    let terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let stop = CancellationToken::new();
    let _ends_with_this = AbortOnDropHandle::new(tokio::spawn(stopped(terminate, stop.clone())));
    reached(order).await?;
    say(&Said::Ready).map_err(unheard)?;
    let begin = tokio::select! {
        told = told() => told?,
        () = stop.cancelled() => return Err("ended before it was told to begin".into()),
    };
    let session = Session {
        begin: Some(begin),
        stop: stop.clone(),
        ..Session::default()
    };
    let plan = order.plan(number);
    let run = open::run(&plan, session, |now| {
        let said = say(&Said::Progress {
            elapsed: now.elapsed,
            endpoints: now.endpoints.clone(),
        });
        // Nobody would hear the result either.
        if said.is_err() {
            stop.cancel();
        }
        ControlFlow::Continue(())
    });
    let run = run.await.map_err(|error| error.to_string())?;
    say(&Said::Ended(Box::new(run.result))).map_err(unheard)
}

async fn stopped(mut terminate: Signal, stop: CancellationToken) {
    terminate.recv().await;
    stop.cancel();
}

async fn reached(order: &Order) -> Result<(), String> {
    let spec = Spec {
        lanes: vec![Lane::new_connection(order.target.clone(), 1.0)],
        seconds: 1.0,
    };
    let reached = prober::reachable(&spec, REACHABLE).await;
    reached.map_err(|error| error.to_string())
}

/// When to begin. A thread of its own waits for that line: the process may end without it.
async fn told() -> Result<Timestamp, String> {
    let (line, told) = oneshot::channel();
    thread::spawn(move || {
        let mut read = String::new();
        let read = io::stdin().lock().read_line(&mut read).map(|_| read);
        // Nobody waits for it any more where the load was ended.
        let _ = line.send(read);
    });
    let line = told.await.map_err(|error| error.to_string())?;
    let line = line.map_err(|error| format!("standard input: {error}"))?;
    let line = line.trim();
    line.parse()
        .map_err(|error| format!("{line:?} on standard input says not when to begin: {error}"))
}

fn say(said: &Said) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let line = serde_json::to_string(said).map_err(io::Error::other)?;
    writeln!(out, "{line}")?;
    out.flush()
}

fn unheard(error: io::Error) -> String {
    format!("standard output: {error}")
}
