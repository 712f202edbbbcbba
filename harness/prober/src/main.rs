//! Sends requests by a specification, and prints a [line](prober::line) for each answer. It runs in
//! a pod. It stops when its time is over or on SIGTERM, after the requests in flight.
//!
//! The specification ([`prober::Spec`], JSON) is its argument, or in `PROBER_SPEC`. Exit code 0:
//! it sent the requests; 1: it could not send them; 2: the specification is invalid.
//!
//! Other commands: `relay HOST:PORT` [relays](mod@prober::relay) connections until its standard
//! input ends. `idle` waits for SIGTERM, in a pod in which a relay will run.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use prober::output_line::LineWriter;
use prober::{ProberError, Spec};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The most answers that are printed before the output is flushed.
const BATCH: usize = 1024;

/// The time for network policies to accept a new pod. Until then its connections are refused.
/// Connections that are refused later are reported.
const REACHABLE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["relay", server] => relay(server).await,
        ["idle"] => idle().await,
        ref arguments => run(arguments.first().copied()).await,
    }
}

/// Exits immediately: the runtime would wait for a read of standard input that never ends.
async fn relay(server: &str) -> ! {
    let relayed = prober::relay(server, tokio::io::stdin(), tokio::io::stdout()).await;
    if let Err(error) = &relayed {
        failed(1, &format!("cannot relay: {error}"));
    }
    std::process::exit(relayed.is_err().into())
}

async fn idle() -> ExitCode {
    match signals() {
        Ok((mut terminate, mut interrupt)) => {
            // This fails if nobody reads the log.
            let _ = writeln!(io::stdout(), "idle");
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(1, &error.to_string()),
    }
}

async fn run(argument: Option<&str>) -> ExitCode {
    let spec = match spec(argument) {
        Ok(spec) => spec,
        Err(why) => return failed(2, &why),
    };
    match probe(&spec).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ ProbeError::Start(ProberError::Spec(_))) => failed(2, &error.to_string()),
        Err(error) => failed(1, &error.to_string()),
    }
}

fn failed(code: u8, why: &str) -> ExitCode {
    // This fails if nobody reads the log.
    let _ = writeln!(io::stderr(), "prober: {why}");
    ExitCode::from(code)
}

fn spec(argument: Option<&str>) -> Result<Spec, String> {
    let json = argument
        .map(str::to_owned)
        .or_else(|| std::env::var("PROBER_SPEC").ok());
    let json = json.ok_or("give a specification (JSON) as argument, or in PROBER_SPEC")?;
    serde_json::from_str(&json).map_err(|error| format!("invalid specification: {error}"))
}

#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Start(#[from] ProberError),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

async fn probe(spec: &Spec) -> Result<(), ProbeError> {
    let (mut terminate, mut interrupt) = signals()?;
    prober::reachable(spec, REACHABLE).await?;
    let (probing, mut answers) = prober::start(spec).await?;
    let names = spec.lanes.iter().map(|lane| lane.name.as_str().into());
    let out = BufWriter::new(io::stdout().lock());
    let mut writer = LineWriter::ready(out, probing.began(), names.collect())?;
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            received = answers.recv_many(&mut batch, BATCH) => {
                if received == 0 {
                    break;
                }
                for answer in batch.drain(..) {
                    writer.answer(&answer)?;
                }
                writer.flush()?;
            }
            _ = terminate.recv() => probing.stop(),
            _ = interrupt.recv() => probing.stop(),
        }
    }
    let at = probing.now();
    let mut lag = probing.ended().await;
    // Includes the cost of printing.
    lag.cpu_seconds = prober::cpu_of_this_process();
    Ok(writer.end(at, lag)?)
}

fn signals() -> io::Result<(Signal, Signal)> {
    Ok((
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    ))
}
