//! `deploy`, `smoke` and `e2e` on a remote target, which is there and stays.

use std::path::PathBuf;

use harness::config::Target;
use harness::config::remote::Action;
use harness::exit::ExitCode;
use harness::remote::{Remote, RemoteError, Site};
use harness::run::event::{Happening, Stage, StageResult};
use harness::run::{Run, RunFolderError};

use super::deploy::{self, helm};
use super::verify;
use super::workplace::{Workplace, conclude, interrupts, provision_if};
use crate::cli::{Common, Deploy, E2e};
use crate::problem::Problem;

/// What a command does there once it has looked.
struct Work<'a> {
    /// As the run is called.
    verb: &'static str,
    /// Why, for the plan.
    why: String,
    /// The version to deploy, and the helm to do it.
    deploy: Option<(&'a str, PathBuf)>,
    /// Whether the platform is proven.
    prove: bool,
}

/// The remote target that is meant, if it is one.
pub fn site(place: &Workplace) -> Option<Site<'_>> {
    match place.target() {
        Target::Local(_) | Target::Kind(_) => None,
        Target::Remote(target) => Some(Site {
            name: &place.target_name,
            target,
            config: &place.config,
            workspace: &place.workspace,
            home: &place.home,
        }),
    }
}

/// Refuses to stand up, or take down, what is there.
pub fn refuse(place: &Workplace, verb: &'static str) -> Result<(), Problem> {
    match site(place) {
        Some(site) => Err(problem(RemoteError::not_ours(site.name, verb))),
        None => Ok(()),
    }
}

/// Deploys a version, or shows what that would change.
pub async fn deploy(
    place: &Workplace,
    site: Site<'_>,
    arguments: &Deploy,
) -> Result<ExitCode, Problem> {
    let configured = &place.config.platform.version;
    let version = arguments.version.as_ref().unwrap_or(configured);
    if arguments.dry_run {
        let mut interrupts = interrupts()?;
        return tokio::select! {
            shown = show(place, site, version) => shown,
            code = interrupts.next() => Ok(code),
        };
    }
    let work = Work {
        verb: "deploy",
        why: "which is there".into(),
        deploy: Some((version, helm(place)?)),
        prove: false,
    };
    let code = perform(place, site, work, &arguments.named.common).await?;
    if code == ExitCode::Held {
        say!("next:    cargo xtask smoke --target {}", site.name);
    }
    Ok(code)
}

/// No more than reading: the server renders the release, and forgets it.
async fn show(place: &Workplace, site: Site<'_>, version: &str) -> Result<ExitCode, Problem> {
    let helm = helm(place)?;
    let remote = site.open("dry-run").await.map_err(problem)?;
    let difference = remote.difference(&helm, version).await;
    let difference = difference.map_err(|error| Problem::new(error.exit_code(), error))?;
    print_line!("{}", difference.trim_end());
    Ok(ExitCode::Held)
}

/// Proves the platform as it is there.
pub async fn smoke(
    place: &Workplace,
    site: Site<'_>,
    common: &Common,
) -> Result<ExitCode, Problem> {
    let work = Work {
        verb: "smoke",
        why: "which is there".into(),
        deploy: None,
        prove: true,
    };
    perform(place, site, work, common).await
}

/// Deploys the configured version where that is allowed, and proves the platform.
pub async fn e2e(place: &Workplace, site: Site<'_>, arguments: &E2e) -> Result<ExitCode, Problem> {
    let mut interrupts = interrupts()?;
    if let Err(code) = provision_if(arguments.provision, place, &mut interrupts).await? {
        return Ok(code);
    }
    drop(interrupts);
    let version = place.config.platform.version.as_str();
    let work = match site.permits(Action::Deploy) {
        Ok(()) => Work {
            verb: "e2e",
            why: "which is there and stays".into(),
            deploy: Some((version, helm(place)?)),
            prove: true,
        },
        Err(refusal) => Work {
            verb: "e2e",
            why: format!("which is there and stays; proven as it is: {refusal}"),
            deploy: None,
            prove: true,
        },
    };
    perform(place, site, work, &arguments.named.common).await
}

fn problem(error: RemoteError) -> Problem {
    Problem::new(error.exit_code(), error)
}

/// A run there, from its plan to its report.
async fn perform(
    place: &Workplace,
    site: Site<'_>,
    work: Work<'_>,
    common: &Common,
) -> Result<ExitCode, Problem> {
    let mut interrupts = interrupts()?;
    let name = site.name.parse().map_err(Problem::usage)?;
    let mut run = place.start_run_on(work.verb, site.name, &name, &work.why)?;
    let code = tokio::select! {
        code = course(&mut run, place, site, &work) => code.map_err(Problem::no_environment)?,
        code = interrupts.next() => {
            let ended = run.end_stages(StageResult::Interrupted);
            ended.map_err(Problem::no_environment)?;
            code
        }
    };
    run.finish(code).map_err(Problem::no_environment)?;
    conclude(&run, code, common.json)
}

async fn course(
    run: &mut Run,
    place: &Workplace,
    site: Site<'_>,
    work: &Work<'_>,
) -> Result<ExitCode, RunFolderError> {
    run.begin(Stage::Preflight)?;
    let remote = match look_first(site, work, run.id()).await {
        Ok(remote) => remote,
        Err(error) => return fail(run, site.name, &error),
    };
    let found = format!(
        "Kubernetes {} at {}, as the target says; namespace {}",
        remote.kubernetes,
        site.target.server.as_str().trim_end_matches('/'),
        site.target.namespace
    );
    run.note(Stage::Preflight, found)?;
    run.end_stages(StageResult::Done)?;
    if let Some((version, helm)) = &work.deploy {
        let deadline = place.config.deadlines.release;
        let deployed = deploy::stage(run, version, async |progress| {
            let deployed = remote.deploy(helm, version, deadline, progress).await;
            deployed.map_err(|error| (error.exit_code(), error.failure(remote.cluster())))
        });
        if let Err(code) = deployed.await? {
            return Ok(code);
        }
    }
    match work.prove {
        true => prove(run, place, site, &remote).await,
        false => Ok(ExitCode::Held),
    }
}

/// The guard rails, and whether the cluster answers.
async fn look_first<'a>(
    site: Site<'a>,
    work: &Work<'_>,
    run: &str,
) -> Result<Remote<'a>, RemoteError> {
    if work.deploy.is_some() {
        site.permits(Action::Deploy)?;
    }
    site.open(run).await
}

async fn prove(
    run: &mut Run,
    place: &Workplace,
    site: Site<'_>,
    remote: &Remote<'_>,
) -> Result<ExitCode, RunFolderError> {
    let found = async {
        let environment = remote.environment(run.id(), run.folder().to_owned());
        Ok::<_, RemoteError>((environment.await?, remote.credentials().await?))
    };
    let (environment, credentials) = match found.await {
        Ok(found) => found,
        Err(error) => {
            run.begin(Stage::Verify)?;
            return fail(run, site.name, &error);
        }
    };
    verify::prove(run, place, &environment, &credentials).await?;
    run.end_stages(StageResult::of_checks(run.failed_checks()))?;
    Ok(match run.failed_checks() {
        0 => ExitCode::Held,
        _ => ExitCode::CheckFailed,
    })
}

/// Ends the run by this error.
fn fail(run: &mut Run, target: &str, error: &RemoteError) -> Result<ExitCode, RunFolderError> {
    let failure = error.failure(target);
    run.record(Happening::Failed { failure })?;
    run.end_stages(StageResult::Failed)?;
    Ok(error.exit_code())
}
