//! The open-model engine.

use std::error::Error;
use std::ops::ControlFlow;
use std::time::Duration;

use loadtests::open::{Plan, Session, Stage, Template, run};
use loadtests::result::LoadResult;
use prober::Target;
use tokio::runtime::Builder;

/// Puts arrivals on `url` by one worker, at most `in_flight` of them at once.
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
    let running = run(&plan, Session::default(), |_| ControlFlow::Continue(()));
    Ok(runtime.block_on(running)?.result)
}
