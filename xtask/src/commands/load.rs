//! `cargo xtask load`.

use std::num::NonZeroU32;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use harness::config::Target;
use harness::config::load::{Profile, Traffic};
use harness::environment::{Credentials, Environment};
use harness::exit::ExitCode;
use harness::interrupts::Interrupts;
use harness::run::event::{Failure, Happening, Stage, StageResult};
use harness::run::{Run, RunFolderError, this_host};
use loadtests::closed::{self, Attack, Reach};
use loadtests::outcome;
use loadtests::result::{Fingerprint, LoadResult};
use miette::Diagnostic;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::remote;
use super::workplace::{Workplace, conclude, interrupts};
use crate::cli::{LoadRun, Named};
use crate::problem::Problem;

/// What load is to be put on.
pub struct Order<'a> {
    /// The profile's name.
    pub name: &'a str,
    /// The profile.
    pub profile: &'a Profile,
}

/// What it is put on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// What users log in with.
    pub credentials: &'a Credentials,
}

/// Until the open engine is here.
#[derive(Debug, Error, Diagnostic)]
#[error("the profile {0:?} is of arrivals, which are not made yet")]
#[diagnostic(help("a profile with engine = \"closed\": smoke, average, soak"))]
struct NotClosed(String);

/// Runs a profile against an environment that is up.
pub async fn run(arguments: LoadRun) -> Result<ExitCode, Problem> {
    let Named { name, common } = &arguments.named;
    let place = Workplace::find(common).await?;
    let profile = place.config.profile(&arguments.profile);
    let (profile_name, profile) = profile.map_err(Problem::usage)?;
    // THRESHOLDS: here each `Threshold` of each profile is to be judged, and refused by
    // `Config::refuse` at its place, once there is what judges them.
    if let Traffic::Open { .. } = profile.traffic {
        return Err(Problem::usage(NotClosed(profile_name.to_owned())));
    }
    let order = Order {
        name: profile_name,
        profile,
    };
    closed::keep_sigint().map_err(|error| Problem::system("listen for signals", error))?;
    if let Some(site) = remote::site(&place) {
        return remote::load(&place, site, &order, common).await;
    }
    let (environment, secrets) = place.environment(&arguments.named)?;
    let mut interrupts = interrupts()?;
    let why = "which is up";
    let mut run = place.start_run_on("load", &environment.target, name, why)?;
    let ground = Ground {
        environment: &environment,
        credentials: &secrets.credentials(),
    };
    let ended = stage(&mut run, &place, &order, ground, &mut interrupts).await?;
    let code = ended.err().unwrap_or(ExitCode::Held);
    run.finish(code)?;
    conclude(&run, code, common.json)
}

/// The stage `load` of a run. What the run ends with, where not everything held.
pub async fn stage(
    run: &mut Run,
    place: &Workplace,
    order: &Order<'_>,
    ground: Ground<'_>,
    interrupts: &mut Interrupts,
) -> Result<Result<(), ExitCode>, RunFolderError> {
    run.begin(Stage::Load)?;
    let users = match closed::Ground::new(&reach(run, place, ground)) {
        Ok(users) => Arc::new(users),
        Err(error) => return fail(run, ExitCode::NoEnvironment, unprepared(&error)),
    };
    let answers = tokio::select! {
        answers = users.answers() => answers,
        code = interrupts.next() => return called_off(run, code),
    };
    if let Err(seen) = answers {
        let name = &ground.environment.name;
        let failure = silent(users.base(), seen, &name.to_string());
        return fail(run, ExitCode::NoEnvironment, failure);
    }
    let traffic = &order.profile.traffic;
    run.note(Stage::Load, format!("profile {}, {traffic}", order.name))?;
    if let Some(rate) = max_rate(place) {
        let bound = format!("at most {rate} requests/s, as the target says");
        run.note(Stage::Load, bound)?;
    }
    let (loaded, interrupted) = load(run, place, order, ground, &users, interrupts).await;
    let result = match (loaded, interrupted) {
        (Some(Ok(result)), _) => result,
        (Some(Err(failure)), None) => return fail(run, ExitCode::NoEnvironment, failure),
        (_, Some(code)) => return called_off(run, code),
        (None, None) => unreachable!("only a signal cuts it short"),
    };
    let file = run.folder().join(format!("load-{}.json", order.name));
    if let Err(error) = result.write(&file) {
        return fail(run, ExitCode::NoEnvironment, unwritten(&error, &file));
    }
    for line in outcome::lines(&result) {
        run.note(Stage::Load, line)?;
    }
    run.note(Stage::Load, format!("result: {}", file.display()))?;
    match (interrupted, outcome::of(&result, &file)) {
        (Some(code), _) => called_off(run, code),
        (None, Ok(())) => {
            run.end_stages(StageResult::Done)?;
            Ok(Ok(()))
        }
        (None, Err((code, failure))) => fail(run, code, failure),
    }
}

/// The result, or why there is none, and the signal by which it was called off. After a
/// second one nothing is waited for.
async fn load(
    run: &mut Run,
    place: &Workplace,
    order: &Order<'_>,
    ground: Ground<'_>,
    users: &Arc<closed::Ground>,
    interrupts: &mut Interrupts,
) -> (Option<Result<LoadResult, Failure>>, Option<ExitCode>) {
    let id = run.id().to_owned();
    let attack = Attack {
        run: &id,
        load: &place.config.load,
        stages: order.profile.traffic.stages(),
        fingerprint: Fingerprint {
            target: ground.environment.target.clone(),
            profile: order.name.to_owned(),
            plan: format!("{}; {}", order.profile.traffic, place.config.load),
            machine: this_host().to_string(),
            ..Fingerprint::default()
        },
    };
    let told = Mutex::new(run);
    let progress = |text: &str| {
        if let Ok(mut run) = told.lock() {
            run.progress(Stage::Load, text);
        }
    };
    let stop = CancellationToken::new();
    let loading = closed::run(attack, users, &stop, &progress);
    let mut loading = pin!(async {
        let loaded = loading.await;
        loaded.map_err(|error| ended_badly(&error))
    });
    let code = tokio::select! {
        loaded = &mut loading => return (Some(loaded), None),
        code = interrupts.next() => code,
    };
    progress("called off: what is in flight is waited for; once more leaves at once");
    stop.cancel();
    tokio::select! {
        loaded = loading => (Some(loaded), Some(code)),
        _ = interrupts.next() => (None, Some(code)),
    }
}

fn reach<'a>(run: &'a Run, place: &Workplace, ground: Ground<'a>) -> Reach<'a> {
    Reach {
        entry: &ground.environment.entry,
        api_host: &ground.environment.api_host,
        credentials: ground.credentials,
        max_rate: max_rate(place),
        timeout: place.config.load.request_timeout,
        run: run.id(),
    }
}

/// What the target bounds the rate to: only what others use, too, is bounded.
fn max_rate(place: &Workplace) -> Option<NonZeroU32> {
    match place.target() {
        Target::Local(_) | Target::Kind(_) => None,
        Target::Remote(target) => target.max_rate,
    }
}

fn called_off(run: &mut Run, code: ExitCode) -> Result<Result<(), ExitCode>, RunFolderError> {
    run.end_stages(StageResult::Interrupted)?;
    Ok(Err(code))
}

fn fail(
    run: &mut Run,
    code: ExitCode,
    failure: Failure,
) -> Result<Result<(), ExitCode>, RunFolderError> {
    run.record(Happening::Failed { failure })?;
    run.end_stages(match code {
        ExitCode::Inconclusive => StageResult::Inconclusive,
        _ => StageResult::Failed,
    })?;
    Ok(Err(code))
}

fn unprepared(error: &std::io::Error) -> Failure {
    Failure {
        what: "no HTTP client can be made".into(),
        expected: "one that trusts the environment's authority".into(),
        seen: harness::chain(error),
        look_at: "this machine".into(),
        next: "cargo xtask doctor".into(),
    }
}

fn silent(base: &str, seen: String, name: &str) -> Failure {
    Failure {
        what: "the platform does not answer".into(),
        expected: "any answer, before load is put on it".into(),
        seen,
        look_at: base.to_owned(),
        next: format!("cargo xtask status --name {name}"),
    }
}

fn ended_badly(error: &closed::ClosedError) -> Failure {
    Failure {
        what: error.to_string(),
        expected: "load to its end".into(),
        seen: harness::chain(error),
        look_at: "harness.toml".into(),
        next: "docs/load.md".into(),
    }
}

fn unwritten(error: &loadtests::result::Unwritten, file: &Path) -> Failure {
    Failure {
        what: error.to_string(),
        expected: "the result, whole".into(),
        seen: harness::chain(error),
        look_at: file.display().to_string(),
        next: "df -h".into(),
    }
}
