//! The figures that the README states, measured on this machine.
//!
//! Every environment is stood up in a harness home of the benchmark's own
//! ([`scratch_home`]), so nothing a user has up is touched, and whatever a killed
//! benchmark left is found there.

mod blue_green;
mod cores;
mod error;
mod hello;
mod kind;
mod load;
mod local;
mod machine;
mod memory;
mod prober;
mod quotes;
mod release;
mod results;
mod scratch;
mod series;
mod threshold;
mod wrk;

use std::path::{Path, PathBuf};

use harness::exit::ExitCode;
use harness::home::Home;
use harness::interrupts::Interrupts;
use jiff::Timestamp;
use serde::Serialize;

pub use error::BenchError;
pub use load::{GooseLoop, VerdictRates};
pub use machine::Machine;
pub use results::{Measured, Results};
pub use scratch::{TARGET, scratch_home};
pub use series::{Series, Summary, Unit};
pub use threshold::{Bound, Outcome, Statistic, Threshold, Verdict};

use blue_green::Bench as BlueGreenBench;
use kind::Bench as KindBench;
use load::Bench as LoadBench;
use prober::Bench as ProberBench;
use quotes::Bench as QuotesBench;
use scratch::Scratch;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// From `up` to all services ready, by step; a whole `e2e`; the harness's memory.
    Local,
    /// Cached quote reads against a bare HTTP server on the same core.
    Quotes,
    /// The kind target against the same steps by hand, and images into its nodes.
    Kind,
    /// What the prober costs at 2,000 requests/s, and how late it is then.
    Prober,
    /// A service released blue-green, by our deployer, by Argo Rollouts and by the guide's script.
    BlueGreen,
    /// The open-model engine beside other load generators, and its verdicts.
    Load,
}

impl Figure {
    /// Every figure, in the order they are measured.
    pub const ALL: [Figure; 6] = [
        Figure::Local,
        Figure::Quotes,
        Figure::Kind,
        Figure::Prober,
        Figure::BlueGreen,
        Figure::Load,
    ];
}

/// What is to be measured, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which figures.
    pub figures: Vec<Figure>,
    /// How often each.
    pub rounds: u32,
    /// The harness home: results go to its `bench` folder.
    pub home: Home,
    /// The repository.
    pub workspace: PathBuf,
    /// The configuration that the environments are stood up with.
    pub config: PathBuf,
}

/// Is told what goes on, a line each.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// The folder of all that the benchmarks write.
pub fn folder(home: &Home) -> PathBuf {
    home.root().join("bench")
}

/// Measures, takes down all that was stood up, and writes the results to
/// `<home>/bench/<time>.json`. Returns them, and the file.
///
/// # Errors
/// When something that is needed is missing, when a measurement cannot count, when called
/// off, and when something is left that could not be taken down.
pub async fn run(
    plan: &Plan,
    interrupts: &mut Interrupts,
    progress: Progress<'_>,
) -> Result<(Results, PathBuf), BenchError> {
    // First, so that it is not found missing after minutes of measuring something else.
    let quotes = match plan.figures.contains(&Figure::Quotes) {
        true => Some(QuotesBench::prepare()?),
        false => None,
    };
    let prober = match plan.figures.contains(&Figure::Prober) {
        true => Some(ProberBench::prepare()?),
        false => None,
    };
    let load = match plan.figures.contains(&Figure::Load) {
        true => Some(LoadBench::prepare()?),
        false => None,
    };
    let kind = match plan.figures.contains(&Figure::Kind) {
        true => Some(KindBench::prepare(plan).await),
        false => None,
    };
    let blue_green = match plan.figures.contains(&Figure::BlueGreen) {
        true => Some(BlueGreenBench::prepare(plan).await),
        false => None,
    };
    let scratch = Scratch::take(plan)?;
    let needs = Needs {
        quotes,
        kind,
        prober,
        blue_green,
        load,
    };
    let measured = tokio::select! {
        done = measure(plan, &needs, &scratch, progress) => done,
        code = interrupts.next() => Err(BenchError::Interrupted(code)),
    };
    let taken_down = tokio::select! {
        done = take_down(&needs, &scratch) => done,
        code = interrupts.next() => Err(BenchError::LeftAtOnce { code, home: scratch.root() }),
    };
    // What is left is the graver of the two.
    taken_down?;
    let results = measured?;
    scratch.remove_files()?;
    let file = write(&results, &folder(&plan.home))?;
    Ok((results, file))
}

/// What the wanted figures need of this machine. One that lacks a cluster's is still
/// measured for the others.
struct Needs {
    quotes: Option<QuotesBench>,
    kind: Option<Result<KindBench, String>>,
    prober: Option<ProberBench>,
    blue_green: Option<Result<BlueGreenBench, String>>,
    load: Option<LoadBench>,
}

async fn take_down(needs: &Needs, scratch: &Scratch) -> Result<(), BenchError> {
    scratch.take_down().await?;
    match &needs.kind {
        Some(Ok(kind)) => kind.tidy().await,
        _ => Ok(()),
    }
}

async fn measure(
    plan: &Plan,
    needs: &Needs,
    scratch: &Scratch,
    progress: Progress<'_>,
) -> Result<Results, BenchError> {
    // What a killed benchmark left would be in the way.
    scratch.take_down().await?;
    scratch.remove_files()?;
    let at = Timestamp::now();
    let machine = Machine::this();
    let mut measured = Vec::new();
    if plan.figures.contains(&Figure::Local) {
        measured.push(local::measure(plan, scratch, progress).await?);
    }
    if let Some(quotes) = &needs.quotes {
        measured.push(quotes.measure(plan, scratch, progress).await?);
    }
    match &needs.kind {
        Some(Ok(kind)) => measured.push(kind.measure(plan, scratch, progress).await?),
        Some(Err(why)) => measured.push(kind::not_measured(why)),
        None => {}
    }
    if let Some(prober) = &needs.prober {
        measured.push(prober.measure(plan, scratch, progress).await?);
    }
    match &needs.blue_green {
        Some(Ok(bench)) => measured.push(bench.measure(plan, scratch, progress).await?),
        Some(Err(why)) => measured.push(blue_green::not_measured(why)),
        None => {}
    }
    if let Some(load) = &needs.load {
        measured.extend(load.measure(plan, scratch, progress).await?);
    }
    Ok(Results::new(at, machine, plan.rounds, measured))
}

fn write(results: &Results, folder: &Path) -> Result<PathBuf, BenchError> {
    let file = folder.join(format!("{}.json", results.at.strftime("%Y%m%d-%H%M%S")));
    let json = serde_json::to_string_pretty(results).map_err(std::io::Error::other);
    json.and_then(|json| std::fs::write(&file, json + "\n"))
        .map_err(BenchError::file("write", &file))?;
    Ok(file)
}

/// How a benchmark ended.
pub fn exit_code(results: &Results) -> ExitCode {
    let any = |outcome| results.verdicts().any(|verdict| verdict.outcome == outcome);
    match (any(Outcome::Failed), any(Outcome::NotMeasured)) {
        (true, _) => ExitCode::ThresholdFailed,
        (false, true) => ExitCode::Inconclusive,
        (false, false) => ExitCode::Held,
    }
}
