//! Makes runs of load, and compares them with each other or with a baseline.

use std::path::{Path, PathBuf};

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::Run;
use base::run::event::{Failure, Happening, Stage};
use environments::config::load::{Profile, Traffic};
use loadtests::baseline::{self, Baseline};
use loadtests::perf::{self, Side, Turn};
use loadtests::regression::{
    Calibration, Comparison, ComparisonVerdict, FEWEST_OF_HISTORY, FEWEST_RUNS, Settings,
    calibrate, compare_pairs,
};
use loadtests::result::LoadResult;
use miette::Diagnostic;
use serde::Serialize;

use crate::invocation::{Invocation, RunningEnvironment};
use crate::outcome::held;
use crate::output::OutputMessage;
use crate::problem::Problem;
use crate::stages::load::{self, LoadOrder};

/// The purpose of the runs.
pub enum Purpose {
    /// Compares version `b` with version `a`.
    Versions { a: String, b: String, pairs: u32 },
    /// Compares the running version with itself.
    Calibration { pairs: u32 },
    /// Compares one run with the baseline that is stored at `path`.
    Against {
        path: PathBuf,
        baseline: Baseline,
        /// Where to store the run itself.
        save: Option<PathBuf>,
    },
    /// Stores runs at `path`.
    Save { path: PathBuf, runs: u32 },
}

/// Which runs to make, and for what purpose.
pub struct ComparisonOrder<'a> {
    /// The load of each run.
    pub load: LoadOrder<'a>,
    pub purpose: Purpose,
}

/// A comparison as a document, with its verdict first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ComparisonDocument<'a> {
    /// The most urgent verdict of the rows.
    verdict: ComparisonVerdict,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

impl<'a> ComparisonDocument<'a> {
    /// Adds the verdict.
    pub fn of(comparison: &'a Comparison) -> Self {
        ComparisonDocument {
            verdict: comparison.verdict(),
            comparison,
        }
    }
}

impl Purpose {
    fn turns(&self) -> Vec<Turn> {
        match self {
            Purpose::Versions { pairs, .. } | Purpose::Calibration { pairs } => {
                perf::alternating(*pairs)
            }
            Purpose::Against { .. } => perf::one_side(Side::B, 1),
            Purpose::Save { runs, .. } => perf::one_side(Side::A, *runs),
        }
    }

    /// Returns the version to deploy before a run; none for the running version.
    fn version(&self, side: Side) -> Option<&str> {
        match (self, side) {
            (Purpose::Versions { a, .. }, Side::A) => Some(a),
            (Purpose::Versions { b, .. }, Side::B) => Some(b),
            _ => None,
        }
    }

    /// Whether it deploys versions.
    pub fn deploys(&self) -> bool {
        matches!(self, Purpose::Versions { .. })
    }

    /// Describes its runs in a phrase.
    fn describe(&self) -> String {
        match self {
            Purpose::Versions { a, b, pairs } => {
                format!("{pairs} pairs of runs in turn, A is {a} and B is {b}")
            }
            Purpose::Calibration { pairs } => {
                format!("{pairs} pairs of runs of the running version, to compare it with itself")
            }
            Purpose::Against { path, baseline, .. } => {
                let runs = baseline.latest().len();
                format!("1 run, against the latest {runs} of {}", path.display())
            }
            Purpose::Save { path, runs } => format!("{runs} runs, for {}", path.display()),
        }
    }
}

/// Makes each run after `prepare` has deployed its version, and evaluates them.
pub async fn stages(
    run: &mut Run,
    invocation: &Invocation,
    order: &ComparisonOrder<'_>,
    interrupts: &mut Interrupts,
    mut prepare: impl AsyncFnMut(
        &mut Run,
        &mut Interrupts,
        Option<&str>,
    ) -> Result<RunningEnvironment, Problem>,
) -> Result<(), Problem> {
    let turns = order.purpose.turns();
    run.note(Stage::Plan, plan(order, turns.len()))?;
    let mut made = Made::default();
    for turn in &turns {
        let version = order.purpose.version(turn.side);
        let measured = async {
            let running = prepare(run, interrupts, version).await?;
            measure(run, invocation, order, *turn, &running, interrupts).await
        };
        let result = match measured.await {
            Ok((result, code)) => {
                made.codes.extend(code);
                result
            }
            Err(problem) => return Err(cut_short(run, &made, turns.len(), problem)),
        };
        if let Purpose::Save { path, .. } = &order.purpose {
            store(run, path, &result, &made.codes).await?;
        }
        made.ended = perf::obstacle(*turn, version, &result, &Settings::default());
        made.results.push((*turn, result));
        if made.ended.is_some() {
            break;
        }
    }
    evaluate(run, invocation, order, made, interrupts).await
}

/// The runs that were made.
#[derive(Default)]
struct Made {
    results: Vec<(Turn, LoadResult)>,
    /// The exit codes of those that failed.
    codes: Vec<ExitCode>,
    /// The obstacle that prevents further runs.
    ended: Option<Comparison>,
}

fn plan(order: &ComparisonOrder<'_>, runs: usize) -> String {
    let Profile { traffic, .. } = order.load.profile;
    let (Traffic::Closed { stages } | Traffic::Open { stages, .. }) = traffic;
    let seconds: u64 = stages.iter().map(|stage| stage.lasts.as_secs()).sum();
    let all = base::duration::human(1000 * seconds * runs as u64);
    let (purpose, profile) = (order.purpose.describe(), order.load.name);
    format!("{purpose}; of the profile {profile}, {seconds} s each: {all} of load")
}

/// Makes one run. Returns its result, and the exit code if something failed.
async fn measure(
    run: &mut Run,
    invocation: &Invocation,
    order: &ComparisonOrder<'_>,
    turn: Turn,
    running: &RunningEnvironment,
    interrupts: &mut Interrupts,
) -> Result<(LoadResult, Option<ExitCode>), Problem> {
    let load = LoadOrder {
        turn: Some(turn),
        ..order.load
    };
    let folder = run.folder().join(turn.side.folder());
    std::fs::create_dir_all(&folder)
        .map_err(|error| Problem::system(&format!("make {}", folder.display()), error))?;
    let code = match load::stage(run, invocation, &load, running, interrupts).await {
        Ok(()) => None,
        Err(problem) => match problem.exit_code() {
            // This is reported at the end, after the other runs.
            code @ (ExitCode::CheckFailed | ExitCode::ThresholdFailed | ExitCode::Inconclusive) => {
                Some(code)
            }
            _ => return Err(problem),
        },
    };
    let result = LoadResult::read(&load.file(run, "json"));
    Ok((result.map_err(Problem::no_environment)?, code))
}

/// Notes which runs were made before `problem`.
fn cut_short(run: &mut Run, made: &Made, total: usize, problem: Problem) -> Problem {
    if problem.report().is_some() {
        return problem;
    }
    let complete = made.results.len();
    let folder = run.folder().display();
    let text =
        format!("{complete} of {total} runs were made, and are stored in {folder}; no verdict");
    match run.note(Stage::Load, text) {
        Ok(()) => problem,
        Err(error) => error.into(),
    }
}

/// The result of the runs.
enum ComparedRuns {
    Compared(Comparison),
    Calibrated(Calibration),
    /// The runs are only stored.
    Stored,
}

async fn evaluate(
    run: &mut Run,
    invocation: &Invocation,
    order: &ComparisonOrder<'_>,
    made: Made,
    interrupts: &mut Interrupts,
) -> Result<(), Problem> {
    let Made {
        results,
        codes,
        ended,
    } = made;
    let last = results.last().map(|(_, result)| result.clone());
    let verdict = match ended {
        Some(comparison) => ComparedRuns::Compared(comparison),
        None => compare(&order.purpose, results, interrupts).await?,
    };
    let code = match &verdict {
        ComparedRuns::Compared(comparison) => compared(run, invocation, order, comparison)?,
        ComparedRuns::Calibrated(calibration) => calibrated(run, invocation, calibration)?,
        ComparedRuns::Stored => ExitCode::Held,
    };
    let all = [&codes[..], &[code]].concat();
    match (&order.purpose, last) {
        (Purpose::Against { path, save, .. }, Some(result)) => {
            match save {
                Some(save) if code == ExitCode::Regression && save == path => {
                    let text =
                        "not stored: it regressed, and the baseline is what is known to be good";
                    run.note(Stage::Load, text)?;
                }
                Some(save) => store(run, save, &result, &all).await?,
                None => {}
            }
            report_history(run, save.as_deref().unwrap_or(path))?;
        }
        (Purpose::Save { path, .. }, _) => report_history(run, path)?,
        _ => {}
    }
    held(perf::exit_code(code, &codes))
}

/// Compares the runs on a separate thread, as it takes a while and can be cancelled.
async fn compare(
    purpose: &Purpose,
    results: Vec<(Turn, LoadResult)>,
    interrupts: &mut Interrupts,
) -> Result<ComparedRuns, Problem> {
    let settings = Settings::default();
    let work: Box<dyn FnOnce() -> ComparedRuns + Send> = match purpose {
        Purpose::Versions { .. } => Box::new(move || {
            ComparedRuns::Compared(compare_pairs(&perf::paired(results), &settings))
        }),
        Purpose::Calibration { .. } => {
            Box::new(move || ComparedRuns::Calibrated(calibrate(&perf::paired(results), &settings)))
        }
        Purpose::Against { baseline, .. } => {
            let baseline = baseline.clone();
            Box::new(move || match results.first() {
                Some((_, run)) => ComparedRuns::Compared(baseline.compare(run, &settings)),
                None => ComparedRuns::Stored,
            })
        }
        Purpose::Save { .. } => return Ok(ComparedRuns::Stored),
    };
    tokio::select! {
        verdict = tokio::task::spawn_blocking(work) => {
            verdict.map_err(|error| Problem::system("compare runs", error))
        }
        signal = interrupts.next() => Err(Problem::ended(signal)),
    }
}

/// Reports and stores the verdicts. Returns their exit code.
fn compared(
    run: &mut Run,
    invocation: &Invocation,
    order: &ComparisonOrder<'_>,
    comparison: &Comparison,
) -> Result<ExitCode, Problem> {
    show(invocation, comparison);
    let file = run.folder().join("comparison.json");
    write(&file, &ComparisonDocument::of(comparison))?;
    run.record(Happening::Compared {
        comparison: comparison.report(),
    })?;
    let next = match &order.purpose {
        Purpose::Against { path, .. } => again(run, path, Side::B),
        _ => again(run, &run.folder().join(Side::A.folder()), Side::B),
    };
    if let Some(failure) = perf::failure(comparison, &file, next) {
        run.record(Happening::Failed { failure })?;
    }
    Ok(comparison.exit_code())
}

/// Returns the command that repeats the comparison.
fn again(run: &Run, a: &Path, b: Side) -> String {
    let b = run.folder().join(b.folder());
    format!("cargo xtask load compare {} {}", a.display(), b.display())
}

fn calibrated(
    run: &mut Run,
    invocation: &Invocation,
    calibration: &Calibration,
) -> Result<ExitCode, Problem> {
    show(invocation, calibration);
    let file = run.folder().join("calibration.json");
    write(&file, calibration)?;
    for line in calibration.to_string().lines() {
        run.note(Stage::Load, line)?;
    }
    let code = calibration.exit_code();
    if code != ExitCode::Held {
        let failure = Failure {
            what: "some metrics have no smallest change that can be detected".into(),
            expected: "runs that can be compared, and no false change".into(),
            seen: match &calibration.comparison.obstacles[..] {
                [] => "see the table for each metric".into(),
                obstacles => obstacles.join("; "),
            },
            look_at: file.display().to_string(),
            next: "more requests: a longer profile, or a higher rate, in harness.toml".into(),
        };
        run.record(Happening::Failed { failure })?;
    }
    Ok(code)
}

fn show(invocation: &Invocation, answer: &impl std::fmt::Display) {
    let text = format!("\n{answer}");
    let output = &invocation.context.output;
    output.send(OutputMessage::Answer(text.trim_end()));
}

fn write(file: &Path, value: &impl Serialize) -> Result<(), Problem> {
    let written = serde_json::to_string_pretty(value)
        .map_err(std::io::Error::from)
        .and_then(|text| std::fs::write(file, text + "\n"));
    written.map_err(|error| Problem::system(&format!("write {}", file.display()), error))
}

/// Adds a run to a baseline. If that fails, the exit code also depends on those of `others`.
async fn store(
    run: &mut Run,
    path: &Path,
    result: &LoadResult,
    others: &[ExitCode],
) -> Result<(), Problem> {
    let warm_up = Settings::default().warm_up_blocks;
    let stored = baseline::append(path, result, warm_up, baseline::KEEP).await;
    let error = match stored {
        Ok(baseline) => {
            let file = path.display();
            let lacking = match baseline.latest().len() {
                few @ ..FEWEST_RUNS => {
                    format!(": {few} runs of this version, {FEWEST_RUNS} are needed")
                }
                _ => String::new(),
            };
            return Ok(run.note(Stage::Load, format!("stored in {file}{lacking}"))?);
        }
        Err(error) => error,
    };
    let help = error.help().map(|help| help.to_string());
    let failure = Failure {
        what: error.to_string(),
        expected: "a run that is stored".into(),
        seen: base::chain(&error),
        look_at: path.display().to_string(),
        next: help.unwrap_or_default(),
    };
    run.record(Happening::Failed { failure })?;
    let code = perf::exit_code(error.exit_code(), others);
    Err(Problem::ended(code))
}

/// Reports what changed over all stored runs, if there are enough.
fn report_history(run: &mut Run, path: &Path) -> Result<(), Problem> {
    let baseline = Baseline::read(path);
    let baseline = baseline.map_err(|error| Problem::new(error.exit_code(), error))?;
    if baseline.runs.len() < FEWEST_OF_HISTORY {
        return Ok(());
    }
    let history = baseline.history(&Settings::default()).to_string();
    for line in history.lines() {
        run.note(Stage::Load, format!("history: {line}"))?;
    }
    Ok(())
}
