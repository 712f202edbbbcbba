//! `cargo xtask perf`: makes runs of load, and holds them against each other.

use std::path::{Path, PathBuf};

use harness::config::load::{Profile, Traffic};
use harness::environment::{Credentials, Environment};
use harness::exit::ExitCode;
use harness::interrupts::Interrupts;
use harness::run::Run;
use harness::run::event::{Failure, Happening, Stage};
use loadtests::baseline::{self, Baseline, BaselineError};
use loadtests::perf::{self, Side, Turn};
use loadtests::regression::{
    Calibration, Comparison, FEWEST_OF_HISTORY, FEWEST_RUNS, Settings, calibrate, compare_pairs,
};
use loadtests::result::LoadResult;
use loadtests::{closed, profile};
use miette::Diagnostic;
use thiserror::Error;

use super::workplace::Workplace;
use super::{load, perf_ground, remote};
use crate::cli;
use crate::problem::Problem;

/// Two versions that are one.
#[derive(Debug, Error, Diagnostic)]
#[error("{0} cannot be held against itself by --ab")]
#[diagnostic(help("--calibrate holds what is up against itself"))]
struct SameVersion(String);

/// What runs are made for.
pub enum Purpose {
    /// One version is held against another one.
    Versions {
        /// What is held against.
        a: String,
        /// What is judged.
        b: String,
        /// How many pairs of runs.
        pairs: u32,
    },
    /// What is up is held against itself.
    Calibration {
        /// How many pairs of runs.
        pairs: u32,
    },
    /// One run is held against stored ones.
    Against {
        /// Where those are.
        path: PathBuf,
        /// Those.
        baseline: Baseline,
        /// Where it is stored itself.
        save: Option<PathBuf>,
    },
    /// Runs are stored.
    Save {
        /// Where.
        path: PathBuf,
        /// How many.
        runs: u32,
    },
}

/// What runs are to be made, and for what.
pub struct Order<'a> {
    /// Each of them.
    pub load: load::Order<'a>,
    /// What they are made for.
    pub purpose: Purpose,
    /// Whether standard output is for one JSON document.
    pub json: bool,
}

/// A version that answers, to be put under load.
#[derive(Clone)]
pub struct Ready {
    /// The environment that it is in.
    pub environment: Environment,
    /// What users log in with.
    pub credentials: Credentials,
}

/// What a step yields; or the code that the run ends with, its reason recorded.
pub type Step<T> = Result<Result<T, ExitCode>, Problem>;

/// Makes the runs, and holds them against each other.
pub async fn run(arguments: cli::Perf) -> Result<ExitCode, Problem> {
    let common = &arguments.named.common;
    let place = Workplace::find(common).await?;
    let profile = place.config.profile(&arguments.profile);
    let (name, profile) = profile.map_err(Problem::usage)?;
    let thresholds = profile::thresholds(&place.config, profile).map_err(Problem::usage)?;
    let order = Order {
        load: load::Order {
            name,
            profile,
            thresholds: &thresholds,
            out: None,
            summary_export: None,
            generators: None,
            turn: None,
        },
        purpose: Purpose::of(&arguments, &place.workspace)?,
        json: common.json,
    };
    closed::keep_sigint().map_err(|error| Problem::system("listen for signals", error))?;
    match remote::site(&place) {
        Some(site) => remote::perf(&place, site, &order, common).await,
        None => perf_ground::run(&place, &order, &arguments).await,
    }
}

impl Purpose {
    fn of(arguments: &cli::Perf, workspace: &Path) -> Result<Purpose, Problem> {
        let pairs = arguments.pairs;
        let find = |said: &String| baseline::find(workspace, said);
        let save = arguments.save.as_ref().map(find);
        match (arguments.ab.as_deref(), &arguments.against, save) {
            (Some([a, b]), ..) if a == b => Err(Problem::usage(SameVersion(a.clone()))),
            (Some([a, b]), ..) => Ok(Purpose::Versions {
                a: a.clone(),
                b: b.clone(),
                pairs,
            }),
            (_, Some(said), save) => {
                let path = find(said);
                let baseline = Baseline::read(&path);
                let problem = |error: BaselineError| Problem::new(error.exit_code(), error);
                let baseline = baseline.map_err(problem)?;
                Ok(Purpose::Against {
                    path,
                    baseline,
                    save,
                })
            }
            (_, None, Some(path)) => Ok(Purpose::Save {
                path,
                runs: arguments.runs,
            }),
            (_, None, None) => Ok(Purpose::Calibration { pairs }),
        }
    }

    fn turns(&self) -> Vec<Turn> {
        match self {
            Purpose::Versions { pairs, .. } | Purpose::Calibration { pairs } => {
                perf::in_turn(*pairs)
            }
            Purpose::Against { .. } => perf::alone(Side::B, 1),
            Purpose::Save { runs, .. } => perf::alone(Side::A, *runs),
        }
    }

    /// The version that is to be there first; none is what is there.
    fn version(&self, side: Side) -> Option<&str> {
        match (self, side) {
            (Purpose::Versions { a, .. }, Side::A) => Some(a),
            (Purpose::Versions { b, .. }, Side::B) => Some(b),
            _ => None,
        }
    }

    /// Whether versions are deployed for it.
    pub fn deploys(&self) -> bool {
        matches!(self, Purpose::Versions { .. })
    }

    /// What each of its runs is for, in a phrase.
    fn in_words(&self) -> String {
        match self {
            Purpose::Versions { a, b, pairs } => {
                format!("{pairs} pairs of runs in turn, A is {a} and B is {b}")
            }
            Purpose::Calibration { pairs } => {
                format!("{pairs} pairs of runs of what is up, to be held against itself")
            }
            Purpose::Against { path, baseline, .. } => {
                let runs = baseline.latest().len();
                format!("1 run, against the latest {runs} of {}", path.display())
            }
            Purpose::Save { path, runs } => format!("{runs} runs, for {}", path.display()),
        }
    }
}

/// Makes each run once `there` has brought its version, and says what they come to.
pub async fn course(
    run: &mut Run,
    place: &Workplace,
    order: &Order<'_>,
    interrupts: &mut Interrupts,
    mut there: impl AsyncFnMut(&mut Run, &mut Interrupts, Option<&str>) -> Step<Ready>,
) -> Step<()> {
    let turns = order.purpose.turns();
    run.note(Stage::Plan, plan(order, turns.len()))?;
    let mut made = Made::default();
    for turn in &turns {
        let version = order.purpose.version(turn.side);
        let ready = match there(run, interrupts, version).await? {
            Ok(ready) => ready,
            Err(code) => return cut_short(run, &made, turns.len(), code),
        };
        let result = match one(run, place, order, *turn, &ready, interrupts).await? {
            Ok((result, code)) => {
                made.codes.extend(code);
                result
            }
            Err(code) => return cut_short(run, &made, turns.len(), code),
        };
        if let Purpose::Save { path, .. } = &order.purpose
            && let Err(code) = store(run, path, &result).await?
        {
            return Ok(Err(perf::comes_to(code, &made.codes)));
        }
        made.ended = perf::ends_it(*turn, version, &result, &Settings::default());
        made.results.push((*turn, result));
        if made.ended.is_some() {
            break;
        }
    }
    judge(run, order, made, interrupts).await
}

/// The runs that were made.
#[derive(Default)]
struct Made {
    results: Vec<(Turn, LoadResult)>,
    /// What of them did not hold.
    codes: Vec<ExitCode>,
    /// Why it ended before all were.
    ended: Option<Comparison>,
}

fn plan(order: &Order<'_>, runs: usize) -> String {
    let Profile { traffic, .. } = order.load.profile;
    let (Traffic::Closed { stages } | Traffic::Open { stages, .. }) = traffic;
    let seconds: u64 = stages.iter().map(|stage| stage.lasts.as_secs()).sum();
    let all = harness::duration::human(1000 * seconds * runs as u64);
    let (purpose, profile) = (order.purpose.in_words(), order.load.name);
    format!("{purpose}; of the profile {profile}, {seconds} s each: {all} of load")
}

/// One run: its result, and what of it did not hold.
async fn one(
    run: &mut Run,
    place: &Workplace,
    order: &Order<'_>,
    turn: Turn,
    ready: &Ready,
    interrupts: &mut Interrupts,
) -> Step<(LoadResult, Option<ExitCode>)> {
    let load = load::Order {
        turn: Some(turn),
        ..order.load
    };
    let folder = run.folder().join(turn.side.folder());
    std::fs::create_dir_all(&folder)
        .map_err(|error| Problem::system(&format!("make {}", folder.display()), error))?;
    let ground = load::Ground {
        environment: &ready.environment,
        credentials: &ready.credentials,
    };
    let ended = load::stage(run, place, &load, ground, interrupts).await?;
    match ended {
        // What did not hold is told at the end: the others are made all the same.
        Ok(())
        | Err(ExitCode::CheckFailed | ExitCode::ThresholdFailed | ExitCode::Inconclusive) => {
            let result = LoadResult::read(&load.file(run, "json"));
            let result = result.map_err(Problem::no_environment)?;
            Ok(Ok((result, ended.err())))
        }
        Err(code) => Ok(Err(code)),
    }
}

/// What is there of a course that ends here.
fn cut_short(run: &mut Run, made: &Made, of: usize, code: ExitCode) -> Step<()> {
    let whole = made.results.len();
    let folder = run.folder().display();
    let text = format!("{whole} of {of} runs were made, and are kept in {folder}; no verdict");
    run.note(Stage::Load, text)?;
    Ok(Err(code))
}

/// What runs that were made come to.
enum Judged {
    Compared(Comparison),
    Calibrated(Calibration),
    /// They were only to be stored.
    Stored,
}

async fn judge(
    run: &mut Run,
    order: &Order<'_>,
    made: Made,
    interrupts: &mut Interrupts,
) -> Step<()> {
    let Made {
        results,
        codes,
        ended,
    } = made;
    let last = results.last().map(|(_, result)| result.clone());
    let judged = match ended {
        Some(comparison) => Ok(Judged::Compared(comparison)),
        None => hold_against(&order.purpose, results, interrupts).await?,
    };
    let judged = match judged {
        Ok(judged) => judged,
        Err(code) => return Ok(Err(code)),
    };
    let code = match &judged {
        Judged::Compared(comparison) => compared(run, order, comparison)?,
        Judged::Calibrated(calibration) => calibrated(run, order, calibration)?,
        Judged::Stored => ExitCode::Held,
    };
    if let (Purpose::Against { path, save, .. }, Some(result)) = (&order.purpose, last) {
        let save = save.as_deref();
        match save {
            Some(save) if code == ExitCode::Regression && save == path => {
                let text = "not stored: it regressed, and the baseline is what is known to be good";
                run.note(Stage::Load, text)?;
            }
            Some(save) => {
                if let Err(unstored) = store(run, save, &result).await? {
                    return Ok(Err(perf::comes_to(
                        code,
                        &[&codes[..], &[unstored]].concat(),
                    )));
                }
            }
            None => {}
        }
        tell_history(run, save.unwrap_or(path))?;
    }
    if let Purpose::Save { path, .. } = &order.purpose {
        tell_history(run, path)?;
    }
    match perf::comes_to(code, &codes) {
        ExitCode::Held => Ok(Ok(())),
        code => Ok(Err(code)),
    }
}

/// On a thread of its own: it takes a while, and can be called off.
async fn hold_against(
    purpose: &Purpose,
    results: Vec<(Turn, LoadResult)>,
    interrupts: &mut Interrupts,
) -> Step<Judged> {
    let settings = Settings::default();
    let work: Box<dyn FnOnce() -> Judged + Send> = match purpose {
        Purpose::Versions { .. } => {
            Box::new(move || Judged::Compared(compare_pairs(&perf::paired(results), &settings)))
        }
        Purpose::Calibration { .. } => {
            Box::new(move || Judged::Calibrated(calibrate(&perf::paired(results), &settings)))
        }
        Purpose::Against { baseline, .. } => {
            let baseline = baseline.clone();
            Box::new(move || match results.first() {
                Some((_, run)) => Judged::Compared(baseline.compare(run, &settings)),
                None => Judged::Stored,
            })
        }
        Purpose::Save { .. } => return Ok(Ok(Judged::Stored)),
    };
    tokio::select! {
        judged = tokio::task::spawn_blocking(work) => {
            judged.map(Ok).map_err(|error| Problem::system("hold runs against each other", error))
        }
        code = interrupts.next() => Ok(Err(code)),
    }
}

/// Tells the verdicts, and keeps them; what they come to.
fn compared(
    run: &mut Run,
    order: &Order<'_>,
    comparison: &Comparison,
) -> Result<ExitCode, Problem> {
    show(order, comparison);
    let file = run.folder().join("comparison.json");
    keep(&file, comparison)?;
    run.record(Happening::Compared {
        comparison: comparison.told(),
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

/// The command that compares again.
fn again(run: &Run, a: &Path, b: Side) -> String {
    let b = run.folder().join(b.folder());
    format!("cargo xtask load compare {} {}", a.display(), b.display())
}

fn calibrated(
    run: &mut Run,
    order: &Order<'_>,
    calibration: &Calibration,
) -> Result<ExitCode, Problem> {
    show(order, calibration);
    let file = run.folder().join("calibration.json");
    keep(&file, calibration)?;
    for line in calibration.to_string().lines() {
        run.note(Stage::Load, line)?;
    }
    let code = calibration.exit_code();
    if code != ExitCode::Held {
        let failure = Failure {
            what: "not every metric tells what can be seen of it".into(),
            expected: "runs that bear a comparison, and no change that is none".into(),
            seen: match &calibration.comparison.obstacles[..] {
                [] => "what the table says of each".into(),
                obstacles => obstacles.join("; "),
            },
            look_at: file.display().to_string(),
            next: "more requests: a longer profile, or a higher rate, in harness.toml".into(),
        };
        run.record(Happening::Failed { failure })?;
    }
    Ok(code)
}

/// The answer is for standard output, unless that has one document.
fn show(order: &Order<'_>, answer: &impl std::fmt::Display) {
    let text = answer.to_string();
    match order.json {
        true => say!("\n{}", text.trim_end()),
        false => print_line!("\n{}", text.trim_end()),
    }
}

fn keep(file: &Path, value: &impl serde::Serialize) -> Result<(), Problem> {
    let written = serde_json::to_string_pretty(value)
        .map_err(std::io::Error::from)
        .and_then(|text| std::fs::write(file, text + "\n"));
    written.map_err(|error| Problem::system(&format!("write {}", file.display()), error))
}

/// Adds a run to a baseline.
async fn store(run: &mut Run, path: &Path, result: &LoadResult) -> Step<()> {
    let warm_up = Settings::default().warm_up_blocks;
    match baseline::append(path, result, warm_up, baseline::KEEP).await {
        Ok(baseline) => {
            let (alike, file) = (baseline.latest().len(), path.display());
            let text = match alike {
                few @ ..FEWEST_RUNS => {
                    format!(
                        "stored in {file}: {few} runs of this version, {FEWEST_RUNS} are needed"
                    )
                }
                _ => format!("stored in {file}"),
            };
            run.note(Stage::Load, text)?;
            Ok(Ok(()))
        }
        Err(error) => {
            let failure = Failure {
                what: error.to_string(),
                expected: "a run that is stored".into(),
                seen: harness::chain(&error),
                look_at: path.display().to_string(),
                next: error
                    .help()
                    .map(|help| help.to_string())
                    .unwrap_or_default(),
            };
            run.record(Happening::Failed { failure })?;
            Ok(Err(error.exit_code()))
        }
    }
}

/// What changed over all stored runs, where there are enough.
fn tell_history(run: &mut Run, path: &Path) -> Result<(), Problem> {
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
