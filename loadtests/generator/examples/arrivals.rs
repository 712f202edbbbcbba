//! The open-model engine.

use std::error::Error;
use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use loadtests::open::{Plan, Session, Stage, Template, run};
use loadtests::result::LoadResult;
use prober::Target;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Puts arrivals on `url` by one worker, at most `in_flight` of them at once, until SIGTERM.
pub fn made(
    url: &str,
    per_second: f64,
    seconds: u64,
    in_flight: usize,
) -> Result<LoadResult, Box<dyn Error>> {
    let stage = Stage::constant(per_second, Duration::from_secs(seconds));
    let mut plan = Plan::of(Target::of(url), vec![stage], vec![Template::get("/")]);
    plan.max_in_flight = in_flight;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let run = runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let session = Session::default();
        let stop = session.stop.clone();
        let mut running = pin!(run(&plan, session, |_| ControlFlow::Continue(())));
        tokio::select! {
            run = &mut running => return Ok::<_, Box<dyn Error>>(run?),
            _ = terminated.recv() => stop.cancel(),
        }
        Ok(running.await?)
    })?;
    Ok(run.result)
}
