//! What the scenarios of rolling upgrades need: the releases of an environment that is up, another
//! version of them on the nodes, and a version that is nowhere.

use std::path::PathBuf;
use std::time::Duration;

use base::run::Run;
use base::run::event::Stage;
use environments::config::RollingConfig;
use environments::environment::Environment;
use helm::Release;
use kubernetes::Cluster;
use scenarios::rolling::{Setup, remove_leftovers};
use scenarios::{Mismatch, Subject};

use crate::invocation::Invocation;
use crate::problem::Problem;
use crate::stages::redeploy::KindDeployment;

pub struct UpgradeSetup {
    cluster: Cluster,
    helm: PathBuf,
    releases: Vec<Release>,
    next: Vec<Release>,
    absent: Vec<Release>,
    unready: Option<Vec<Release>>,
    second: Option<Release>,
    probes: RollingConfig,
    prober_image: String,
    helpers_namespace: String,
    deadline: Duration,
}

impl UpgradeSetup {
    /// Prepares the versions and the images.
    pub async fn prepare(
        run: &mut Run,
        invocation: &Invocation,
        subject: &Subject<'_>,
    ) -> Result<Self, Mismatch> {
        let unprepared = |seen: String| Mismatch {
            expected: "two versions that can be deployed".into(),
            seen,
            look_at: "the images on the nodes of the cluster".into(),
            next: "cargo xtask images list".into(),
        };
        let shown = |problem: Problem| unprepared(problem.to_string());
        let found = KindDeployment::find(invocation, subject.environment).await;
        let deployment = found.map_err(shown)?;
        let now = subject.environment.version.as_str();
        let next = format!("{now}-next");
        let brought = {
            let progress = run.progress_reporter(Stage::Verify);
            let versions = [now.to_owned(), next.clone()];
            deployment.bring_versions(&versions, &progress).await
        };
        let cluster = deployment.open().await;
        Ok(UpgradeSetup {
            cluster: cluster.map_err(|error| unprepared(error.to_string()))?,
            helm: deployment.helm().to_owned(),
            releases: deployment.releases(now),
            next: deployment.releases(&next),
            absent: deployment.releases(&format!("{now}-absent")),
            unready: deployment.unready_releases(now),
            second: deployment.second_release(&next),
            probes: invocation.config.rolling.clone(),
            prober_image: brought.map_err(|error| unprepared(error.to_string()))?,
            helpers_namespace: invocation.config.platform.helpers_namespace.clone(),
            deadline: invocation.config.deadlines.release,
        })
    }

    /// Returns the setup for one scenario.
    pub fn of<'a>(&'a self, subject: &'a Subject<'a>) -> Setup<'a> {
        Setup {
            subject,
            cluster: &self.cluster,
            helm: &self.helm,
            releases: &self.releases,
            next: &self.next,
            absent: &self.absent,
            unready: self.unready.as_deref(),
            second: self.second.as_ref(),
            probes: &self.probes,
            prober_image: &self.prober_image,
            helpers_namespace: &self.helpers_namespace,
            deadline: self.deadline,
        }
    }
}

/// Removes what cancelled scenarios have made, and deploys the environment's version again.
pub async fn end(
    invocation: &Invocation,
    environment: &Environment,
    cluster: &Cluster,
) -> Result<(), Problem> {
    let deployment = KindDeployment::find(invocation, environment).await?;
    let second = deployment.second_release(&environment.version);
    let (helm, deadline) = (deployment.helm(), invocation.config.deadlines.release);
    let removed = remove_leftovers(cluster, helm, second.as_ref(), deadline).await;
    removed.map_err(Problem::no_environment)?;
    let output = &invocation.context.output;
    let progress = |text: &str| output.progress(Stage::Verify, text);
    deployment
        .deploy_again(&environment.version, &progress)
        .await
}
