//! Runs the open-model engine with one worker against the server at a URL, until SIGTERM. Prints
//! the result as JSON. `cargo xtask bench load` measures it.

use std::error::Error;
use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use load_engine::journey::WrittenJourney;
use load_engine::open::{LoadPlan, RateStage, Session, run};
use prober::ProbeTarget;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: arrivals URL PER_SECOND SECONDS IN_FLIGHT";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, per_second, seconds, in_flight] = &arguments[..] else {
        return Err(USAGE.into());
    };
    let lasts = Duration::from_secs(seconds.parse()?);
    let stage = RateStage::constant(per_second.parse()?, lasts);
    let journeys = vec![WrittenJourney::get("/")];
    let mut plan = LoadPlan::of(ProbeTarget::of(url), vec![stage], journeys);
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
