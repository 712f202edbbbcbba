//! Measures the figures that the README states on this machine.
//!
//! Every environment is started in a separate harness home ([`scratch_home`]), so that the user's
//! environments are not changed, and what a killed benchmark left can be found.

mod blue_green;
mod cargo_build;
mod cores;
mod error;
mod hello;
mod kind;
mod load;
mod local;
mod memory;
mod prober;
mod quotes;
mod rendering;
mod results;
mod scratch;
mod series;
mod stated_figure;
mod wrk;

use std::path::{Path, PathBuf};

use base::exit::ExitCode;
use base::home::Home;
use base::interrupts::Interrupts;
use jiff::Timestamp;
use serde::Serialize;

pub use error::BenchError;
pub use load::{GooseLoop, VerdictRates};
pub use rendering::write_load_record;
pub use results::{BenchResults, Machine, Measured};
pub use scratch::{TARGET, scratch_home};
pub use series::{Series, SeriesSummary, Unit};
pub use stated_figure::{Bound, FigureOutcome, FigureVerdict, RoundStatistic, StatedFigure};

use cores::Cores;
use kind::KindBench;
use load::LoadBench;
use quotes::QuotesBench;
use scratch::Scratch;

/// A figure that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// From `up` to all services ready, by step; a whole `e2e`; the harness's memory.
    Local,
    /// Cached quote reads compared with a bare HTTP server on the same core.
    Quotes,
    /// The kind target compared with the same steps by hand, and loading images into its nodes.
    Kind,
    /// The prober's CPU time at 2,000 requests/s, and its lag.
    Prober,
    /// A blue-green release by our deployer, by Argo Rollouts and by the guide's script.
    BlueGreen,
    /// The open-model engine compared with other load generators, and the regression verdicts.
    Load,
    /// The report of a load of a million requests, rendered and opened in a browser.
    Report,
}

impl Figure {
    /// Every figure, in the order they are measured.
    pub const ALL: [Figure; 7] = [
        Figure::Local,
        Figure::Quotes,
        Figure::Kind,
        Figure::Prober,
        Figure::BlueGreen,
        Figure::Load,
        Figure::Report,
    ];
}

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct BenchPlan {
    /// The figures.
    pub figures: Vec<Figure>,
    /// The number of rounds for each figure.
    pub rounds: u32,
    /// The harness home: results go to its `bench` folder.
    pub home: Home,
    /// The repository.
    pub workspace: PathBuf,
    /// The configuration of the environments.
    pub config: PathBuf,
}

/// Receives the progress, one line each.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// The folder of the benchmarks' files.
pub fn folder(home: &Home) -> PathBuf {
    home.root().join("bench")
}

/// Measures, tears everything down, and writes the results to `<home>/bench/<time>.json`. Returns
/// them, and the file.
///
/// # Errors
/// If something that is needed is missing, if a measurement does not count, if it is cancelled, or
/// if something could not be torn down.
pub async fn run(
    plan: &BenchPlan,
    interrupts: &mut Interrupts,
    progress: Progress<'_>,
) -> Result<(BenchResults, PathBuf), BenchError> {
    let wants = |figure| plan.figures.contains(&figure);
    // First, so that missing programs are found before minutes of other measurements.
    let needs = Needs {
        quotes: wants(Figure::Quotes)
            .then(QuotesBench::prepare)
            .transpose()?,
        prober: wants(Figure::Prober).then(Cores::choose).transpose()?,
        load: wants(Figure::Load).then(LoadBench::prepare).transpose()?,
        kind: match wants(Figure::Kind) {
            true => Some(KindBench::prepare(plan).await),
            false => None,
        },
        blue_green: match wants(Figure::BlueGreen) {
            true => Some(KindBench::prepare(plan).await),
            false => None,
        },
    };
    let scratch = Scratch::take(plan)?;
    let measured = tokio::select! {
        done = measure(plan, &needs, &scratch, progress) => done,
        code = interrupts.next() => Err(BenchError::Interrupted(code)),
    };
    let torn_down = tokio::select! {
        done = tear_down(&needs, &scratch) => done,
        code = interrupts.next() => Err(BenchError::ExitedImmediately { code, home: scratch.root() }),
    };
    // An incomplete cleanup is the more important error.
    torn_down?;
    let results = measured?;
    scratch.remove_files()?;
    let file = write(&results, &folder(&plan.home))?;
    Ok((results, file))
}

/// What the figures need on this machine. Without the needs of a cluster, the other figures are
/// still measured.
struct Needs {
    quotes: Option<QuotesBench>,
    prober: Option<Cores>,
    load: Option<LoadBench>,
    kind: Option<Result<KindBench, String>>,
    blue_green: Option<Result<KindBench, String>>,
}

async fn tear_down(needs: &Needs, scratch: &Scratch) -> Result<(), BenchError> {
    scratch.tear_down().await?;
    match &needs.kind {
        Some(Ok(kind)) => kind.tidy().await,
        _ => Ok(()),
    }
}

async fn measure(
    plan: &BenchPlan,
    needs: &Needs,
    scratch: &Scratch,
    progress: Progress<'_>,
) -> Result<BenchResults, BenchError> {
    // A killed benchmark may have left resources.
    scratch.tear_down().await?;
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
    if let Some(cores) = &needs.prober {
        measured.push(prober::measure(cores, plan, scratch, progress).await?);
    }
    match &needs.blue_green {
        Some(Ok(kind)) => {
            let measurement = blue_green::measure(kind, plan, scratch, progress);
            measured.push(Box::pin(measurement).await?);
        }
        Some(Err(why)) => measured.push(blue_green::not_measured(why)),
        None => {}
    }
    if let Some(load) = &needs.load {
        measured.extend(load.measure(plan, scratch, progress).await?);
    }
    if plan.figures.contains(&Figure::Report) {
        measured.push(rendering::measure(plan, scratch, progress).await?);
    }
    Ok(BenchResults::new(at, machine, plan.rounds, measured))
}

fn write(results: &BenchResults, folder: &Path) -> Result<PathBuf, BenchError> {
    let file = folder.join(format!("{}.json", results.at.strftime("%Y%m%d-%H%M%S")));
    let json = serde_json::to_string_pretty(results).map_err(std::io::Error::other);
    json.and_then(|json| std::fs::write(&file, json + "\n"))
        .map_err(BenchError::file("write", &file))?;
    Ok(file)
}

/// The exit code of a benchmark.
pub fn exit_code(results: &BenchResults) -> ExitCode {
    let any = |outcome| results.verdicts().any(|verdict| verdict.outcome == outcome);
    match (any(FigureOutcome::Failed), any(FigureOutcome::NotMeasured)) {
        (true, _) => ExitCode::ThresholdFailed,
        (false, true) => ExitCode::Inconclusive,
        (false, false) => ExitCode::Held,
    }
}
