//! `cargo xtask load`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use harness::config::Target;
use harness::config::load::{Profile, Traffic};
use harness::environment::{Credentials, Environment};
use harness::exit::ExitCode;
use harness::interrupts::Interrupts;
use harness::run::event::{Failure, Happening, Stage, StageResult};
use harness::run::{Run, RunFolderError, this_host};
use loadtests::arrivals::{self, Asked};
use loadtests::closed::{self, Attack, Reach};
use loadtests::k6::Summary;
use loadtests::open::Session;
use loadtests::result::{Fingerprint, LoadResult};
use loadtests::threshold::{self, Threshold};
use loadtests::{outcome, profile};
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
    /// What must hold of the result.
    pub thresholds: &'a [Threshold],
    /// Where k6's summary is wanted as well.
    pub summary_export: Option<&'a Path>,
}

/// What it is put on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// What users log in with.
    pub credentials: &'a Credentials,
}

/// Runs a profile against an environment that is up.
pub async fn run(arguments: LoadRun) -> Result<ExitCode, Problem> {
    let Named { name, common } = &arguments.named;
    let place = Workplace::find(common).await?;
    let profile = place.config.profile(&arguments.profile);
    let (profile_name, profile) = profile.map_err(Problem::usage)?;
    let thresholds = profile::thresholds(&place.config, profile).map_err(Problem::usage)?;
    let order = Order {
        name: profile_name,
        profile,
        thresholds: &thresholds,
        summary_export: arguments.summary_export.as_deref(),
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
    let users = match closed::Ground::new(&reach(run.id(), place, ground)) {
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
    let verdicts = threshold::judge_all(order.thresholds, &result);
    if let Some(file) = order.summary_export
        && let Err(error) = Summary::of(&result, &verdicts).write_export(file)
    {
        return fail(run, ExitCode::NoEnvironment, unwritten(&error, file));
    }
    for line in outcome::lines(&result) {
        run.note(Stage::Load, line)?;
    }
    for verdict in &verdicts {
        run.note(Stage::Load, verdict.to_string())?;
    }
    run.note(Stage::Load, format!("result: {}", file.display()))?;
    match (interrupted, outcome::of(&result, &verdicts, &file)) {
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
    let stop = CancellationToken::new();
    let session = Session {
        run: run.id().to_owned(),
        fingerprint: Fingerprint {
            target: ground.environment.target.clone(),
            profile: order.name.to_owned(),
            plan: format!("{}; {}", order.profile.traffic, place.config.load),
            machine: this_host().to_string(),
            ..Fingerprint::default()
        },
        stop: stop.clone(),
        raw_log: Some(run.folder().join(format!("load-{}.log", order.name))),
    };
    let progress = run.teller(Stage::Load);
    let mut loading = pin!(put_on(place, order, ground, users, session, &progress));
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

/// By the engine that the profile names.
async fn put_on(
    place: &Workplace,
    order: &Order<'_>,
    ground: Ground<'_>,
    users: &Arc<closed::Ground>,
    session: Session,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<LoadResult, Failure> {
    let load = &place.config.load;
    match &order.profile.traffic {
        Traffic::Closed { stages } => {
            let attack = Attack {
                run: &session.run,
                load,
                stages,
                fingerprint: session.fingerprint,
            };
            // Else a document on standard output would begin with what Goose says.
            let _muted = closed::Muted::begin();
            let loaded = closed::run(attack, users, &session.stop, progress).await;
            loaded.map_err(|error| ended_badly(&error))
        }
        Traffic::Open {
            stages,
            max_in_flight,
        } => {
            let run = session.run.clone();
            let asked = Asked {
                reach: &reach(&run, place, ground),
                load,
                stages,
                max_in_flight: *max_in_flight,
                thresholds: order.thresholds,
            };
            let fingerprint = Fingerprint {
                versions: versions(ground.environment),
                ..session.fingerprint
            };
            let session = Session {
                fingerprint,
                ..session
            };
            let loaded = arrivals::run(asked, session, progress).await;
            loaded.map_err(|error| ended_badly(&error))
        }
    }
}

fn reach<'a>(run: &'a str, place: &Workplace, ground: Ground<'a>) -> Reach<'a> {
    Reach {
        entry: &ground.environment.entry,
        api_host: &ground.environment.api_host,
        credentials: ground.credentials,
        max_rate: max_rate(place),
        timeout: place.config.load.request_timeout,
        run,
    }
}

/// What was deployed: arrivals do not look who answers.
fn versions(environment: &Environment) -> BTreeMap<String, String> {
    let version = environment.version.to_string();
    BTreeMap::from([("platform".to_owned(), version)])
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

fn ended_badly(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure {
        what: error.to_string(),
        expected: "load to its end".into(),
        seen: harness::chain(error),
        look_at: "harness.toml".into(),
        next: "docs/load.md".into(),
    }
}

fn unwritten(error: &(dyn std::error::Error + 'static), file: &Path) -> Failure {
    Failure {
        what: error.to_string(),
        expected: "the result, whole".into(),
        seen: harness::chain(error),
        look_at: file.display().to_string(),
        next: "df -h".into(),
    }
}
