//! Commands on a remote target, which exists before and after them.

use std::path::{Path, PathBuf};
use std::pin::pin;

use base::interrupts::Interrupts;
use base::run::Run;
use base::run::event::{Stage, StageResult};
use environments::remote::{Remote, RemoteError, Site};
use kubernetes::Action;
use tokio_util::sync::CancellationToken;

use crate::comparison::{self, ComparisonOrder};
use crate::invocation::{Invocation, RunningEnvironment};
use crate::outcome::{CommandOutcome, failed, interrupted};
use crate::problem::Problem;
use crate::stages::load::{self, LoadOrder};
use crate::stages::redeploy::{self, NotDone};
use crate::stages::verify::{self, Selection};

/// The work of a command on a remote target.
struct Work<'a> {
    /// The name of the command.
    verb: &'static str,
    /// Why this environment, for the plan.
    why: String,
    /// The version to deploy first, and the path of helm.
    deploy: Option<(&'a str, PathBuf)>,
    /// The work after the deployment.
    then: Option<Then<'a>>,
}

/// The work on a deployed platform.
#[derive(Clone, Copy)]
pub enum Then<'a> {
    Prove(&'a Selection),
    Load(&'a LoadOrder<'a>),
    /// Runs load several times. If versions are deployed, with the path of helm.
    Compare(&'a ComparisonOrder<'a>, Option<&'a Path>),
}

impl Work<'_> {
    /// Returns what the target must permit.
    fn actions(&self) -> Vec<Action> {
        let deploys = match self.then {
            Some(Then::Compare(order, _)) => order.purpose.deploys(),
            _ => self.deploy.is_some(),
        };
        let loads = matches!(self.then, Some(Then::Load(_) | Then::Compare(..)));
        let deploy = deploys.then_some(Action::Deploy);
        let load = loads.then_some(Action::Load);
        deploy.into_iter().chain(load).collect()
    }
}

/// Deploys a version.
pub async fn deploy(
    invocation: &Invocation,
    site: Site<'_>,
    version: &str,
) -> Result<CommandOutcome, Problem> {
    let work = Work {
        verb: "deploy",
        why: "which is there".into(),
        deploy: Some((version, invocation.helm_with_charts().await?)),
        then: None,
    };
    perform(invocation, site, work).await
}

/// Returns what deploying a version would change, by a dry run on the server.
pub async fn difference(
    invocation: &Invocation,
    site: Site<'_>,
    version: &str,
) -> Result<String, Problem> {
    let helm = invocation.helm_with_charts().await?;
    let remote = site.open("dry-run", &[]).await?;
    let difference = remote.difference(&helm, version).await;
    difference.map_err(|error| Problem::new(error.exit_code(), error))
}

/// Works on the platform that is deployed already. The run is called `verb`.
pub async fn work_as_it_is(
    invocation: &Invocation,
    site: Site<'_>,
    verb: &'static str,
    then: Then<'_>,
) -> Result<CommandOutcome, Problem> {
    let work = Work {
        verb,
        why: "which is there".into(),
        deploy: None,
        then: Some(then),
    };
    perform(invocation, site, work).await
}

/// Compares runs of load.
pub async fn compare(
    invocation: &Invocation,
    site: Site<'_>,
    order: &ComparisonOrder<'_>,
) -> Result<CommandOutcome, Problem> {
    let helm = match order.purpose.deploys() {
        true => Some(invocation.helm_with_charts().await?),
        false => None,
    };
    let compare = Then::Compare(order, helm.as_deref());
    work_as_it_is(invocation, site, "perf", compare).await
}

/// Deploys the configured version if the target allows it, and proves the platform.
pub async fn e2e(
    invocation: &Invocation,
    site: Site<'_>,
    provision: bool,
    selection: &Selection,
) -> Result<CommandOutcome, Problem> {
    invocation.prepare(provision).await?;
    let version = invocation.config.platform.version.as_str();
    let (why, deploy) = match site.permits(Action::Deploy) {
        Ok(()) => (
            "which is there and stays".to_owned(),
            Some((version, invocation.helm_with_charts().await?)),
        ),
        Err(refusal) => (
            format!("which is there and stays; proven as it is: {refusal}"),
            None,
        ),
    };
    let work = Work {
        verb: "e2e",
        why,
        deploy,
        then: Some(Then::Prove(selection)),
    };
    perform(invocation, site, work).await
}

/// Makes a run, from its plan to its report.
async fn perform(
    invocation: &Invocation,
    site: Site<'_>,
    work: Work<'_>,
) -> Result<CommandOutcome, Problem> {
    let name = site.name.parse().map_err(Problem::usage)?;
    let stages = async |run: &mut Run, interrupts: &mut Interrupts| {
        let stages = Stages {
            run,
            invocation,
            site,
            interrupts,
        };
        stages.all(&work).await
    };
    invocation
        .perform_on(work.verb, (site.name, &name), &work.why, stages)
        .await
}

/// The stages of a run.
struct Stages<'a> {
    run: &'a mut Run,
    invocation: &'a Invocation,
    site: Site<'a>,
    interrupts: &'a mut Interrupts,
}

impl<'a> Stages<'a> {
    async fn all(mut self, work: &Work<'_>) -> Result<(), Problem> {
        let remote = self.preflight(work).await?;
        if let Some((version, helm)) = &work.deploy {
            self.deploy(&remote, version, helm).await?;
        }
        match work.then {
            None => Ok(()),
            Some(Then::Prove(selection)) => {
                let running = self.find(&remote, Stage::Verify).await?;
                let (run, interrupts) = (self.run, self.interrupts);
                verify::stage(run, self.invocation, &running, selection, interrupts).await
            }
            Some(Then::Load(order)) => {
                let running = self.find(&remote, Stage::Load).await?;
                let (run, interrupts) = (self.run, self.interrupts);
                load::stage(run, self.invocation, order, &running, interrupts).await
            }
            Some(Then::Compare(order, helm)) => self.compare(&remote, order, helm).await,
        }
    }

    /// Checks the guard rails, and whether the cluster answers.
    async fn preflight(&mut self, work: &Work<'_>) -> Result<Remote<'a>, Problem> {
        self.run.begin(Stage::Preflight)?;
        let site = self.site;
        let actions = work.actions();
        let opened = tokio::select! {
            opened = site.open(self.run.id(), &actions) => opened,
            signal = self.interrupts.next() => return Err(interrupted(self.run, signal)),
        };
        let remote = opened.map_err(|error| self.failed(&error))?;
        let found = format!(
            "Kubernetes {} at {}, as the target says; namespace {}",
            remote.kubernetes,
            site.target.server.as_str().trim_end_matches('/'),
            site.target.namespace
        );
        self.run.note(Stage::Preflight, found)?;
        self.run.end_stages(StageResult::Done)?;
        Ok(remote)
    }

    /// Deploys a version. The first signal cancels helm and waits for it; a second one does not
    /// wait.
    async fn deploy(
        &mut self,
        remote: &Remote<'_>,
        version: &str,
        helm: &Path,
    ) -> Result<(), Problem> {
        let interrupts = &mut *self.interrupts;
        let deploying = async |progress: &(dyn Fn(&str) + Sync)| {
            let cancel = CancellationToken::new();
            let mut deploying = pin!(remote.deploy(helm, version, &cancel, progress));
            let signal = tokio::select! {
                deployed = &mut deploying => return deployed.map_err(|(code, failure)| {
                    NotDone::Failed(code, *failure)
                }),
                signal = interrupts.next() => signal,
            };
            cancel.cancel();
            tokio::select! {
                _ = deploying => {}
                _ = interrupts.next() => {}
            }
            Err(NotDone::Cancelled(signal))
        };
        redeploy::stage(self.run, version, deploying).await
    }

    /// Finds the deployed platform. For load, also checks that the site is served by the cluster.
    /// An error is recorded in `stage`.
    async fn find(
        &mut self,
        remote: &Remote<'_>,
        stage: Stage,
    ) -> Result<RunningEnvironment, Problem> {
        let found = async {
            let environment = remote.environment(self.run.id(), self.run.folder().to_owned());
            let environment = environment.await?;
            if stage == Stage::Load {
                remote.must_serve(&environment).await?;
            }
            Ok::<_, RemoteError>(RunningEnvironment {
                environment,
                credentials: remote.credentials().await?,
            })
        };
        match found.await {
            Ok(found) => Ok(found),
            Err(error) => {
                self.run.begin(stage)?;
                Err(self.failed(&error))
            }
        }
    }

    /// Deploys the version of each run before it. The last version stays.
    async fn compare(
        self,
        remote: &Remote<'_>,
        order: &ComparisonOrder<'_>,
        helm: Option<&Path>,
    ) -> Result<(), Problem> {
        let (invocation, site) = (self.invocation, self.site);
        let mut deployed = None;
        let prepare = async |run: &mut Run, interrupts: &mut Interrupts, version: Option<&str>| {
            let mut stages = Stages {
                run,
                invocation,
                site,
                interrupts,
            };
            if let (Some(version), Some(helm)) = (version, helm) {
                stages.deploy(remote, version, helm).await?;
                deployed = Some(version.to_owned());
            }
            stages.find(remote, Stage::Load).await
        };
        let interrupts = self.interrupts;
        let ended = comparison::stages(self.run, invocation, order, interrupts, prepare).await;
        if let Some(version) = deployed {
            let text = format!(
                "the last version that was fully deployed to {}: {version}",
                site.name
            );
            self.run.note(Stage::Deploy, text)?;
        }
        ended
    }

    fn failed(&mut self, error: &RemoteError) -> Problem {
        let failure = error.failure(self.site.name);
        failed(self.run, error.exit_code(), [failure])
    }
}
