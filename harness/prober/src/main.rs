//! Asks as its specification says and prints a [line](prober::line) for each answer. For a pod:
//! it reads nothing, keeps nothing, and ends when its time is up or on SIGTERM, after what was
//! in flight.
//!
//! The specification ([`prober::Spec`], JSON) is its argument, or else in `PROBER_SPEC`. Exit
//! code 0 is that it asked, whatever was answered; 2 that the specification is none; 1 that it
//! could not ask.
//!
//! Two words are no specification: `relay HOST:PORT` [relays](mod@prober::relay) connections that
//! come by its standard input, until that ends; `idle` waits for SIGTERM, in a pod that such a
//! relay is to be run in.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use prober::line::Writer;
use prober::{Spec, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// As many answers are printed before the output is flushed.
const BATCH: usize = 1024;

/// For network policies to let a pod through that has just started: that takes a moment, in
/// which its connections are refused. What is refused later is told of.
const REACHABLE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["relay", server] => relay(server).await,
        ["idle"] => idle().await,
        ref given => asks(given.first().copied()).await,
    }
}

/// Leaves at once: the runtime would wait for a read of standard input that nothing ends.
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
            // Nothing is to be done about a log that takes no more.
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

async fn asks(given: Option<&str>) -> ExitCode {
    let spec = match spec(given) {
        Ok(spec) => spec,
        Err(why) => return failed(2, &why),
    };
    match probe(&spec).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Start(error @ StartError::Spec(_))) => failed(2, &error.to_string()),
        Err(Failed::Start(error)) => failed(1, &error.to_string()),
        Err(Failed::Print(error)) => failed(1, &format!("cannot print: {error}")),
    }
}

fn failed(code: u8, why: &str) -> ExitCode {
    // Nothing is to be done about a log that takes no more.
    let _ = writeln!(io::stderr(), "prober: {why}");
    ExitCode::from(code)
}

fn spec(given: Option<&str>) -> Result<Spec, String> {
    let given = given
        .map(str::to_owned)
        .or_else(|| std::env::var("PROBER_SPEC").ok());
    let json = given.ok_or("give a specification (JSON) as argument, or in PROBER_SPEC")?;
    serde_json::from_str(&json).map_err(|error| format!("that is no specification: {error}"))
}

enum Failed {
    Start(StartError),
    Print(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Print(error)
    }
}

async fn probe(spec: &Spec) -> Result<(), Failed> {
    let (mut terminate, mut interrupt) = signals()?;
    prober::reachable(spec, REACHABLE)
        .await
        .map_err(Failed::Start)?;
    let (probing, mut answers) = prober::start(spec).await.map_err(Failed::Start)?;
    let names = spec.lanes.iter().map(|lane| lane.name.as_str().into());
    let out = BufWriter::new(io::stdout().lock());
    let mut writer = Writer::ready(out, probing.began(), names.collect())?;
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            told = answers.recv_many(&mut batch, BATCH) => {
                if told == 0 {
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
    // Printing is part of what it costs.
    lag.cpu_seconds = prober::cpu_of_this_process();
    Ok(writer.end(at, lag)?)
}

fn signals() -> io::Result<(Signal, Signal)> {
    Ok((
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    ))
}
