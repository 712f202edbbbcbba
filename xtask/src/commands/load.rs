//! `cargo xtask load`.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use harness::config::Target;
use harness::config::load::{Profile, Traffic};
use harness::environment::{Credentials, Environment};
use harness::exit::ExitCode;
use harness::interrupts::Interrupts;
use harness::run::event::{Failure, Happening, Stage, StageResult};
use harness::run::{Run, RunFolderError, this_host};
use loadtests::arrivals::{self, ArrivalsError, Asked};
use loadtests::closed::{self, Attack, Reach};
use loadtests::generators::GeneratorsError;
use loadtests::perf::Turn;
use loadtests::result::Fingerprint;
use loadtests::run::{Run as Loaded, Session};
use loadtests::threshold::{self, Threshold};
use loadtests::{outcome, profile};
use tokio_util::sync::CancellationToken;

use super::load_files::Files;
use super::workplace::{Workplace, conclude, interrupts};
use super::{load_crew, remote};
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
    /// Where k6's stream is wanted as well.
    pub out: Option<&'a Path>,
    /// Where k6's summary is wanted as well.
    pub summary_export: Option<&'a Path>,
    /// How many generators of the cluster make it; none is this process.
    pub generators: Option<u16>,
    /// Which of several it is in its run.
    pub turn: Option<Turn>,
}

impl Order<'_> {
    /// Where its result is kept; or, with another ending, what is kept beside it.
    pub fn file(&self, run: &Run, ending: &str) -> PathBuf {
        let (folder, name) = (run.folder(), self.name);
        match self.turn {
            None => folder.join(format!("load-{name}.{ending}")),
            Some(Turn { side, number }) => {
                let file = format!("load-{name}-{number}.{ending}");
                folder.join(side.folder()).join(file)
            }
        }
    }

    /// The run's id, or one of its own where there are several in it: its result and its
    /// investors are named so.
    fn id(&self, run: &Run) -> String {
        match self.turn {
            None => run.id().to_owned(),
            Some(Turn { side, number }) => format!("{}-{}{number}", run.id(), side.folder()),
        }
    }

    /// What its thresholds are of.
    fn of(&self) -> String {
        match self.turn {
            None => self.name.to_owned(),
            Some(turn) => format!("{}, {turn}", self.name),
        }
    }
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
    load_crew::check(&arguments, profile)?;
    let order = Order {
        name: profile_name,
        profile,
        thresholds: &thresholds,
        out: arguments.out.as_deref(),
        summary_export: arguments.summary_export.as_deref(),
        generators: arguments.generators,
        turn: None,
    };
    closed::keep_sigint().map_err(|error| Problem::system("listen for signals", error))?;
    if let Some(site) = remote::site(&place) {
        if order.generators.is_some() {
            load_crew::check_remote(site)?;
        }
        return remote::load(&place, site, &order, common).await;
    }
    let (environment, secrets) = place.environment(&arguments.named)?;
    if order.generators.is_some() {
        load_crew::check_environment(&environment)?;
    }
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
    let id = order.id(run);
    let users = match closed::Ground::new(&reach(&id, place, ground)) {
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
    let files = match Files::begin(order, run) {
        Ok(files) => files,
        Err(failure) => return fail(run, ExitCode::NoEnvironment, failure),
    };
    let traffic = &order.profile.traffic;
    run.note(Stage::Load, format!("profile {}, {traffic}", order.of()))?;
    if let Some(rate) = max_rate(place) {
        let bound = format!("at most {rate} requests/s, as the target says");
        run.note(Stage::Load, bound)?;
    }
    let session = Session {
        run: order.id(run),
        fingerprint: fingerprint(place, order, ground),
        stop: CancellationToken::new(),
        // Each of several generators would have one of its own.
        raw_log: order.generators.is_none().then(|| files.raw_log.clone()),
        begin: None,
    };
    let (loaded, interrupted) = load(run, place, order, ground, &users, session, interrupts).await;
    let loaded = match (loaded, interrupted) {
        (Some(Ok(loaded)), _) => loaded,
        (Some(Err(failure)), None) => return fail(run, ExitCode::NoEnvironment, failure),
        (Some(Err(failure)), Some(code)) => {
            run.record(Happening::Failed { failure })?;
            return called_off(run, code);
        }
        (None, Some(code)) => return called_off(run, code),
        (None, None) => unreachable!("only a signal cuts it short"),
    };
    judge(run, order, &loaded, files, interrupted, interrupts).await
}

/// Writes what was measured, tells of it, and says what it comes to.
async fn judge(
    run: &mut Run,
    order: &Order<'_>,
    loaded: &Loaded,
    files: Files<'_>,
    interrupted: Option<ExitCode>,
    interrupts: &mut Interrupts,
) -> Result<Result<(), ExitCode>, RunFolderError> {
    let verdicts = threshold::judge_all(order.thresholds, &loaded.result);
    let mut unwritten = files.write(loaded, &verdicts);
    let file = files.result.clone();
    for line in outcome::lines(&loaded.result) {
        run.note(Stage::Load, line)?;
    }
    for verdict in &verdicts {
        let threshold = verdict.told(&order.of());
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
        code = interrupts.next() => return called_off(run, interrupted.unwrap_or(code)),
    }
    let not_all = !unwritten.is_empty();
    for failure in unwritten {
        run.record(Happening::Failed { failure })?;
    }
    // What was measured counts more than that not all of it could be written.
    match (interrupted, outcome::of(&loaded.result, &verdicts, &file)) {
        (Some(code), _) => called_off(run, code),
        (None, Err((code, failure))) => fail(run, code, failure),
        (None, Ok(())) if not_all => end(run, ExitCode::NoEnvironment),
        (None, Ok(())) => {
            run.end_stages(StageResult::Done)?;
            Ok(Ok(()))
        }
    }
}

/// The run, or why there is none, and the signal by which it was called off. After a second
/// one nothing is waited for.
async fn load(
    run: &mut Run,
    place: &Workplace,
    order: &Order<'_>,
    ground: Ground<'_>,
    users: &Arc<closed::Ground>,
    session: Session,
    interrupts: &mut Interrupts,
) -> (Option<Result<Loaded, Failure>>, Option<ExitCode>) {
    let stop = session.stop.clone();
    let progress = run.teller(Stage::Load);
    let mut loading = pin!(put_on(place, order, ground, users, session, &progress));
    let code = tokio::select! {
        loaded = &mut loading => return (Some(loaded), None),
        code = interrupts.next() => code,
    };
    progress("called off: what is in flight is waited for; once more leaves at once");
    stop.cancel();
    let loaded = tokio::select! {
        loaded = loading => return (Some(loaded), Some(code)),
        _ = interrupts.next() => None,
    };
    if order.generators.is_some() {
        load_crew::dismiss(ground.environment).await;
    }
    (loaded, Some(code))
}

/// What its result can be compared with; the versions are those that answer.
fn fingerprint(place: &Workplace, order: &Order<'_>, ground: Ground<'_>) -> Fingerprint {
    Fingerprint {
        target: ground.environment.target.clone(),
        profile: order.name.to_owned(),
        plan: format!("{}; {}", order.profile.traffic, place.config.load),
        machine: this_host().to_string(),
        ..Fingerprint::default()
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
) -> Result<Loaded, Failure> {
    let load = &place.config.load;
    match &order.profile.traffic {
        Traffic::Closed { stages } => {
            let attack = Attack {
                load,
                stages,
                thresholds: order.thresholds,
            };
            // Else a document on standard output would begin with what Goose says.
            let _muted = closed::Muted::begin();
            let loaded = closed::run(attack, session, users, progress).await;
            loaded.map_err(|error| ended_badly(&error))
        }
        Traffic::Open {
            stages,
            max_in_flight,
        } => {
            let run = session.run.clone();
            let gathering = async {
                let environment = ground.environment;
                let count = order.generators?;
                Some(load_crew::gather(place, environment, count, progress).await)
            };
            let gathered = session.stop.run_until_cancelled(gathering).await;
            let Some(crew) = gathered else {
                return Err(ended_badly(&GeneratorsError::CalledOff));
            };
            let crew = crew.transpose()?;
            let asked = Asked {
                reach: &reach(&run, place, ground),
                load,
                stages,
                max_in_flight: *max_in_flight,
                thresholds: order.thresholds,
                crew: crew.as_ref(),
            };
            let loaded = arrivals::run(asked, session, progress).await;
            loaded.map_err(|error| match (&error, &crew) {
                (ArrivalsError::Generators(_), Some(crew)) => load_crew::failed(crew, &error),
                _ => ended_badly(&error),
            })
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
    end(run, code)
}

fn end(run: &mut Run, code: ExitCode) -> Result<Result<(), ExitCode>, RunFolderError> {
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
