//! What the blue-green scenarios need: a service of an environment that is up, another version of
//! it, and on a cluster, both versions and the prober's image on the nodes.

use std::path::PathBuf;
use std::time::Duration;

use base::run::Run;
use base::run::event::Stage;
use blue_green::lock::DeployerIdentity;
use blue_green::objects::ServiceObjects;
use blue_green::{BlueGreenError, Deployer, Operation, Policy, ProbeFrom, ReleaseEvent};
use environments::config::BlueGreenScenarios;
use environments::environment::EnvironmentFolder;
use environments::local::colours;
use kubernetes::Cluster;
use scenarios::blue_green::{Setup, XtaskProgram, release_of};
use scenarios::{Mismatch, Subject};
use tokio_util::sync::CancellationToken;

use crate::invocation::Invocation;
use crate::problem::Problem;
use crate::stages::redeploy::{KindDeployment, cluster_of};

pub struct ReleaseSetup {
    cluster: Cluster,
    config: BlueGreenScenarios,
    release: String,
    policy: Policy,
    smoke: Vec<String>,
    versions: [String; 2],
    prober_image: Option<String>,
    helpers_namespace: String,
    program: XtaskProgram,
}

/// Why the scenarios do not run.
pub enum NotPrepared {
    /// What the configuration or the environment lacks, to complete "skipped, because".
    Lacks(String),
    /// What failed.
    Failed(Mismatch),
}

impl From<Mismatch> for NotPrepared {
    fn from(mismatch: Mismatch) -> Self {
        NotPrepared::Failed(mismatch)
    }
}

impl ReleaseSetup {
    /// Prepares the versions, the images and the configuration.
    pub async fn prepare(
        run: &mut Run,
        invocation: &Invocation,
        subject: &Subject<'_>,
    ) -> Result<Self, NotPrepared> {
        let environment = subject.environment;
        let config = invocation.config.blue_green_scenarios.clone();
        let config = config.ok_or_else(|| {
            NotPrepared::Lacks("harness.toml has no [blue_green.scenarios]".into())
        })?;
        let unprepared = |seen: String| Mismatch {
            expected: "two versions that can be released".into(),
            seen,
            look_at: "the images on the nodes of the cluster".into(),
            next: "cargo xtask images list".into(),
        };
        let shown = |problem: Problem| unprepared(problem.to_string());
        let cluster = cluster_of(environment).await.map_err(shown)?;
        check_colours(&cluster, &config.service).await?;
        let versions = versions(&environment.version);
        let prober_image = match &environment.cluster {
            Some(_) => {
                let deployment = KindDeployment::find(invocation, environment)
                    .await
                    .map_err(shown)?;
                let progress = run.progress_reporter(Stage::Verify);
                let brought = deployment.bring_versions(&versions, &progress).await;
                Some(brought.map_err(|error| unprepared(error.to_string()))?)
            }
            None => {
                let folder = EnvironmentFolder::of(&invocation.home, &environment.name);
                let added = colours::versions::also_as(&folder, &versions[0], &versions[1]);
                added.map_err(|error| unprepared(error.to_string()))?;
                None
            }
        };
        let policy = short(&invocation.config.blue_green);
        let file = write_config(run, invocation, &policy).map_err(unprepared)?;
        let smoke = invocation.config.blue_green.smoke.get(&config.service);
        Ok(ReleaseSetup {
            cluster,
            release: release_of(run.id()),
            policy,
            smoke: smoke.cloned().unwrap_or_default(),
            versions,
            prober_image,
            helpers_namespace: invocation.config.platform.helpers_namespace.clone(),
            program: program(invocation, subject, file).map_err(unprepared)?,
            config,
        })
    }

    /// Returns the setup for one scenario.
    pub fn of<'a>(&'a self, subject: &'a Subject<'a>) -> Setup<'a> {
        Setup {
            subject,
            cluster: &self.cluster,
            config: &self.config,
            release: &self.release,
            policy: &self.policy,
            smoke: &self.smoke,
            versions: &self.versions,
            probe_from: match &self.prober_image {
                Some(image) => ProbeFrom::Pod { image },
                // This machine reaches the addresses of Services.
                None => ProbeFrom::Here,
            },
            helpers_namespace: &self.helpers_namespace,
            program: &self.program,
        }
    }
}

/// Checks that the service is released blue-green in this environment.
async fn check_colours(cluster: &Cluster, service: &str) -> Result<(), NotPrepared> {
    match (ServiceObjects { cluster, service }).active().await {
        Ok(_) => Ok(()),
        Err(
            error @ (BlueGreenError::UnknownService { .. } | BlueGreenError::NotBlueGreen { .. }),
        ) => Err(NotPrepared::Lacks(error.to_string())),
        Err(error) => Err(NotPrepared::Failed(Mismatch {
            expected: format!("the Service {service}"),
            seen: error.to_string(),
            look_at: format!("{} get services", cluster.kubectl()),
            next: "cargo xtask status".into(),
        })),
    }
}

/// Ends the release of this run's cancelled scenarios. Does not change a release of another run.
pub async fn end(
    invocation: &Invocation,
    cluster: &Cluster,
    run: &str,
) -> Result<(), BlueGreenError> {
    let release = release_of(run);
    let Some(config) = &invocation.config.blue_green_scenarios else {
        return Ok(());
    };
    let deployer = Deployer {
        cluster,
        service: &config.service,
        policy: &invocation.config.blue_green,
        // The version to roll back to was live before.
        smoke: &[],
        probe_from: ProbeFrom::Nowhere,
        helpers_namespace: &invocation.config.platform.helpers_namespace,
        holder: DeployerIdentity::this(&release),
        release,
        cancellation: CancellationToken::new(),
    };
    match deployer
        .run(Operation::End, &mut async |_: &ReleaseEvent| {})
        .await
    {
        Ok(_)
        | Err(
            BlueGreenError::NothingInProgress { .. }
            | BlueGreenError::OfAnother { .. }
            // Its scenarios were skipped.
            | BlueGreenError::UnknownService { .. }
            | BlueGreenError::NotBlueGreen { .. },
        ) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The deployed version, and another name for the same image.
fn versions(deployed: &str) -> [String; 2] {
    [deployed.to_owned(), format!("{deployed}-next")]
}

/// The policy with the configured thresholds, and times for many releases in minutes.
fn short(policy: &Policy) -> Policy {
    Policy {
        lease: Duration::from_secs(5),
        green_ready: Duration::from_secs(30),
        baseline: Duration::from_secs(3),
        watch: Duration::from_secs(6),
        warm_up: Duration::from_secs(2),
        drain: Duration::from_secs(2),
        versions: policy.versions.of_tags(),
        ..policy.clone()
    }
}

/// Writes the configuration with that policy, for a deployer in another process.
fn write_config(run: &Run, invocation: &Invocation, policy: &Policy) -> Result<PathBuf, String> {
    let text =
        std::fs::read_to_string(&invocation.config_path).map_err(|error| error.to_string())?;
    let mut config: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string())?;
    let section = config
        .entry("blue_green")
        .or_insert_with(|| toml::Table::new().into())
        .as_table_mut()
        .ok_or("blue_green is not a table")?;
    let times = [
        ("lease", policy.lease),
        ("green_ready", policy.green_ready),
        ("baseline", policy.baseline),
        ("watch", policy.watch),
        ("warm_up", policy.warm_up),
        ("drain", policy.drain),
    ];
    for (key, time) in times {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        section.insert(key.to_owned(), toml::Value::Integer(seconds));
    }
    // As `VersionSources::of_tags`.
    let services = config.get_mut("services").and_then(|it| it.as_table_mut());
    for (_, service) in services.into_iter().flatten() {
        if let Some(version) = service.get_mut("version") {
            *version = "image".into();
        }
    }
    let path = run.folder().join("blue-green.toml");
    std::fs::write(&path, config.to_string()).map_err(|error| error.to_string())?;
    Ok(path)
}

fn program(
    invocation: &Invocation,
    subject: &Subject<'_>,
    config: PathBuf,
) -> Result<XtaskProgram, String> {
    let path = std::env::current_exe().map_err(|error| error.to_string())?;
    let arguments = [
        "--name".to_owned(),
        subject.environment.name.to_string(),
        "--home".to_owned(),
        invocation.home.root().display().to_string(),
        "--config".to_owned(),
        config.display().to_string(),
    ];
    Ok(XtaskProgram {
        path,
        arguments: arguments.into(),
    })
}
