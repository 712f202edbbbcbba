//! The stage `load`: puts the load of a profile on an environment that is up.

mod files;
mod generators;
mod order;
mod versions;

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::event::{Failure, Happening, Stage, StageResult};
use base::run::load::LoadMeasurement;
use base::run::{Run, this_host};
use environments::config::Target;
use environments::config::load::Traffic;
use loadtests::arrivals::{self, ArrivalsError, OpenLoad};
use loadtests::closed::{self, ClosedLoad};
use loadtests::generators::GeneratorsError;
use loadtests::measurement;
use loadtests::outcome;
use loadtests::result::{Fingerprint, LoadResult};
use loadtests::run::{LoadRun as Loaded, Session};
use loadtests::threshold;
use loadtests::users::{PlatformAccess, UserContext};
use tokio_util::sync::CancellationToken;

use crate::invocation::{Invocation, RunningEnvironment};
use crate::outcome::{failed, interrupted};
use crate::problem::Problem;
use files::Files;
use versions::ServedVersions;

pub use generators::{check, check_environment, check_remote};
pub use order::{LoadOrder, ProfileLoad};

/// Puts the load on, as the stage `load` of the run.
pub async fn stage(
    run: &mut Run,
    invocation: &Invocation,
    order: &LoadOrder<'_>,
    running: &RunningEnvironment,
    interrupts: &mut Interrupts,
) -> Result<(), Problem> {
    run.begin(Stage::Load)?;
    let id = order.id(run);
    let users = match UserContext::new(&access(&id, invocation, running)) {
        Ok(users) => Arc::new(users),
        Err(error) => return Err(failed(run, ExitCode::NoEnvironment, [no_client(&error)])),
    };
    let answers = tokio::select! {
        answers = users.answers() => answers,
        signal = interrupts.next() => return Err(interrupted(run, signal)),
    };
    if let Err(seen) = answers {
        let name = &running.environment.name;
        let failure = unanswered(users.base(), seen, &name.to_string());
        return Err(failed(run, ExitCode::NoEnvironment, [failure]));
    }
    let files = match Files::begin(order, run) {
        Ok(files) => files,
        Err(failure) => return Err(failed(run, ExitCode::NoEnvironment, [failure])),
    };
    let traffic = &order.profile.traffic;
    run.note(
        Stage::Load,
        format!("profile {}, {traffic}", order.subject()),
    )?;
    if let Some(rate) = max_rate(invocation) {
        let bound = format!("at most {rate} requests/s, as the target says");
        run.note(Stage::Load, bound)?;
    }
    let session = Session {
        run: order.id(run),
        fingerprint: fingerprint(order, running),
        stop: CancellationToken::new(),
        // Several generators would each have a separate one.
        raw_log: order.generators.is_none().then(|| files.raw_log.clone()),
        begin: None,
    };
    let (environment, sources) = (&running.environment, &invocation.config.versions);
    let mut served = ServedVersions::default();
    tokio::select! {
        () = served.add(environment, sources) => {}
        signal = interrupts.next() => return Err(interrupted(run, signal)),
    }
    let loaded = load(run, invocation, order, running, &users, session, interrupts);
    let (mut loaded, signal) = loaded.await?;
    if signal.is_none() {
        served.add(environment, sources).await;
    }
    for why in &served.unknown {
        run.note(Stage::Load, format!("a version is not known: {why}"))?;
    }
    served.add_to(&mut loaded.result.fingerprint);
    let asked = asked(invocation, order, &loaded.result);
    evaluate(run, order, &loaded, asked, files, signal, interrupts).await
}

/// Returns the arrivals that the profile asks for in each block; none if users set the rate.
fn asked(invocation: &Invocation, order: &LoadOrder<'_>, result: &LoadResult) -> Vec<f64> {
    let Traffic::Open { stages, .. } = &order.profile.traffic else {
        return Vec::new();
    };
    let journeys = &order.profile.journeys;
    let most = arrivals::highest_rate(order.journeys, journeys, max_rate(invocation));
    let block = Duration::from_millis(result.block_millis);
    arrivals::asked(stages, most, block, result.blocks())
}

/// Writes and reports the results, and evaluates them.
async fn evaluate(
    run: &mut Run,
    order: &LoadOrder<'_>,
    loaded: &Loaded,
    asked: Vec<f64>,
    files: Files<'_>,
    signal: Option<ExitCode>,
    interrupts: &mut Interrupts,
) -> Result<(), Problem> {
    let verdicts = threshold::evaluate_all(order.thresholds, &loaded.result);
    let mut unwritten = files.write(loaded, &verdicts);
    let file = files.result.clone();
    for line in outcome::lines(&loaded.result) {
        run.note(Stage::Load, line)?;
    }
    let measured = LoadMeasurement {
        of: order.subject(),
        side: order.turn.map(|turn| turn.side.to_string()),
        ..measurement::of(&loaded.result, asked, &verdicts)
    };
    let load = Box::new(measured);
    run.record(Happening::LoadMeasured { load })?;
    for verdict in &verdicts {
        let threshold = verdict.report(&order.subject());
        run.record(Happening::ThresholdJudged { threshold })?;
    }
    if file.exists() {
        run.note(Stage::Load, format!("result: {}", file.display()))?;
    }
    if let Some(out) = order.out {
        run.progress(Stage::Load, &format!("writing {}", out.display()));
    }
    tokio::select! {
        streamed = files.stream() => unwritten.extend(streamed.err()),
        later = interrupts.next() => return Err(interrupted(run, signal.unwrap_or(later))),
    }
    let not_all = !unwritten.is_empty();
    for failure in unwritten {
        run.record(Happening::Failed { failure })?;
    }
    // A failed threshold is more important than a file that could not be written.
    match (signal, outcome::evaluate(&loaded.result, &verdicts, &file)) {
        (Some(signal), _) => Err(interrupted(run, signal)),
        (None, Err((ExitCode::Inconclusive, failure))) => {
            run.record(Happening::Failed { failure })?;
            run.end_stages(StageResult::Inconclusive)?;
            Err(Problem::ended(ExitCode::Inconclusive))
        }
        (None, Err((code, failure))) => Err(failed(run, code, [failure])),
        (None, Ok(())) if not_all => Err(failed(run, ExitCode::NoEnvironment, [])),
        (None, Ok(())) => Ok(run.end_stages(StageResult::Done)?),
    }
}

/// Returns the results, and the signal that stopped the load early. A second signal does not wait
/// for results.
async fn load(
    run: &mut Run,
    invocation: &Invocation,
    order: &LoadOrder<'_>,
    running: &RunningEnvironment,
    users: &Arc<UserContext>,
    session: Session,
    interrupts: &mut Interrupts,
) -> Result<(Loaded, Option<ExitCode>), Problem> {
    let stop = session.stop.clone();
    let ended = {
        let progress = run.progress_reporter(Stage::Load);
        let mut loading = pin!(put_on(
            invocation, order, running, users, session, &progress
        ));
        tokio::select! {
            loaded = &mut loading => Ok((loaded, None)),
            signal = interrupts.next() => {
                progress("cancelled: waiting for requests in flight; a second signal exits immediately");
                stop.cancel();
                tokio::select! {
                    loaded = loading => Ok((loaded, Some(signal))),
                    _ = interrupts.next() => Err(signal),
                }
            }
        }
    };
    match ended {
        Ok((Ok(loaded), signal)) => Ok((loaded, signal)),
        Ok((Err(failure), None)) => Err(failed(run, ExitCode::NoEnvironment, [failure])),
        Ok((Err(failure), Some(signal))) => {
            run.record(Happening::Failed { failure })?;
            Err(interrupted(run, signal))
        }
        Err(signal) => {
            if order.generators.is_some() {
                generators::stop(&running.environment).await;
            }
            Err(interrupted(run, signal))
        }
    }
}

/// The properties that comparable results share. The load adds the versions that answer.
fn fingerprint(order: &LoadOrder<'_>, running: &RunningEnvironment) -> Fingerprint {
    Fingerprint {
        target: running.environment.target.clone(),
        profile: order.name.to_owned(),
        plan: format!(
            "{}; {}{}",
            order.profile.traffic,
            order.profile.mix(),
            order.journeys.digests(&order.profile.journeys)
        ),
        machine: this_host().to_string(),
        ..Fingerprint::default()
    }
}

/// Sends the load with the engine that the profile names.
async fn put_on(
    invocation: &Invocation,
    order: &LoadOrder<'_>,
    running: &RunningEnvironment,
    users: &Arc<UserContext>,
    session: Session,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Loaded, Failure> {
    let load = &invocation.config.load;
    match &order.profile.traffic {
        Traffic::Closed { stages } => {
            let load = ClosedLoad {
                load,
                journeys: &order.profile.journeys,
                files: order.journeys,
                stages,
                thresholds: order.thresholds,
            };
            // Goose prints to standard output, which may be for a JSON document.
            let _muted = closed::Muted::begin();
            let loaded = closed::run(load, session, users, progress).await;
            loaded.map_err(|error| load_failed(&error))
        }
        Traffic::Open {
            stages,
            max_in_flight,
        } => {
            let run = session.run.clone();
            let preparing = async {
                let environment = &running.environment;
                let count = order.generators?;
                Some(generators::prepare(invocation, environment, count, progress).await)
            };
            let prepared = session.stop.run_until_cancelled(preparing).await;
            let Some(generators) = prepared else {
                return Err(load_failed(&GeneratorsError::Cancelled));
            };
            let generators = generators.transpose()?;
            let load = OpenLoad {
                reach: &access(&run, invocation, running),
                load,
                journeys: &order.profile.journeys,
                files: order.journeys,
                stages,
                max_in_flight: *max_in_flight,
                thresholds: order.thresholds,
                generators: generators.as_ref(),
            };
            let loaded = arrivals::run(load, session, progress).await;
            loaded.map_err(|error| match (&error, &generators) {
                (ArrivalsError::Generators(_), Some(generators)) => {
                    generators::failed(generators, &error)
                }
                _ => load_failed(&error),
            })
        }
    }
}

fn access<'a>(
    run: &'a str,
    invocation: &'a Invocation,
    running: &'a RunningEnvironment,
) -> PlatformAccess<'a> {
    PlatformAccess {
        entry: &running.environment.entry,
        api_host: &running.environment.api_host,
        credentials: &running.credentials,
        max_rate: max_rate(invocation),
        timeout: invocation.config.load.request_timeout,
        run,
        headers: &invocation.config.versions.headers,
    }
}

/// The highest rate that the target allows. Only a remote target, which others also use, has one.
fn max_rate(invocation: &Invocation) -> Option<NonZeroU32> {
    match invocation.target() {
        Target::Local(_) | Target::Kind(_) => None,
        Target::Remote(target) => target.max_rate,
    }
}

fn no_client(error: &std::io::Error) -> Failure {
    Failure {
        what: "no HTTP client can be made".into(),
        expected: "one that trusts the environment's authority".into(),
        seen: base::chain(error),
        look_at: "this machine".into(),
        next: "cargo xtask doctor".into(),
    }
}

fn unanswered(base: &str, seen: String, name: &str) -> Failure {
    Failure {
        what: "the platform does not answer".into(),
        expected: "any answer, before load is put on it".into(),
        seen,
        look_at: base.to_owned(),
        next: format!("cargo xtask status --name {name}"),
    }
}

fn load_failed(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure {
        what: error.to_string(),
        expected: "a load that runs to its end".into(),
        seen: base::chain(error),
        look_at: "harness.toml".into(),
        next: "docs/load.md".into(),
    }
}
