//! The open-model engine on whatever answers at a URL, by one worker, until SIGTERM: what
//! `cargo xtask bench load` measures. Prints what it measured, as JSON.

use std::error::Error;
use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use load_engine::open::{Plan, Session, Stage, Template, run};
use prober::Target;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: arrivals URL PER_SECOND SECONDS IN_FLIGHT";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, per_second, seconds, in_flight] = &arguments[..] else {
        return Err(USAGE.into());
    };
    let lasts = Duration::from_secs(seconds.parse()?);
    let stage = Stage::constant(per_second.parse()?, lasts);
    let mut plan = Plan::of(Target::of(url), vec![stage], vec![Template::get("/")]);
    plan.max_in_flight = in_flight.parse()?;
    let mut terminated = signal(SignalKind::terminate())?;
    let session = Session::default();
    let stop = session.stop.clone();
    let mut running = pin!(run(&plan, session, |_| ControlFlow::Continue(())));
    let ended = tokio::select! {
        ended = &mut running => ended,
        _ = terminated.recv() => {
            stop.cancel();
            running.await
        }
    };
    println!("{}", serde_json::to_string(&ended?.result)?);
    Ok(())
}
