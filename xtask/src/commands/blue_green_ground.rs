//! What the blue-green scenarios stand on: a service of an environment that is up, another
//! version of it where versions are, and a prober's image on the nodes.

use std::path::PathBuf;
use std::time::Duration;

use harness::blue_green::lock::Holder;
use harness::blue_green::{Ask, BlueGreenError, Deployer, Event, Policy, ProbeFrom};
use harness::cluster::Cluster;
use harness::environment::EnvironmentFolder;
use harness::images::{self, ForNodes, Supply};
use harness::kind::release;
use harness::local::colours;
use harness::run::Run;
use harness::run::event::Stage;
use harness::service::Service;
use scenarios::blue_green::{Ground, Program, SERVICE, release_of};
use scenarios::{Mismatch, Subject};
use tokio_util::sync::CancellationToken;

use super::deploy::{Site, cluster_of};
use super::prober_image;
use super::workplace::Workplace;

/// What is done once for all scenarios of the family.
pub struct Prepared {
    cluster: Cluster,
    release: String,
    policy: Policy,
    smoke: Vec<String>,
    versions: [String; 2],
    prober_image: Option<String>,
    program: Program,
}

impl Prepared {
    /// Brings what the scenarios need to where it is needed.
    pub async fn of(
        run: &mut Run,
        place: &Workplace,
        subject: &Subject<'_>,
    ) -> Result<Prepared, Mismatch> {
        let environment = subject.environment;
        let unprepared = |seen: String| Mismatch {
            expected: "two versions that can be released".into(),
            seen,
            look_at: "the images on the nodes of the cluster".into(),
            next: "cargo xtask images list".into(),
        };
        let told = |problem: crate::problem::Problem| unprepared(problem.to_string());
        let cluster = cluster_of(environment).await.map_err(told)?;
        let versions = versions(&environment.version);
        let prober_image = match &environment.cluster {
            Some(_) => {
                let site = Site::find(place, environment).await.map_err(told)?;
                let brought = bring(&site, &versions, &run.teller(Stage::Verify)).await;
                Some(brought.map_err(|error| unprepared(error.to_string()))?)
            }
            None => {
                let folder = EnvironmentFolder::of(&place.home, &environment.name);
                let kept = colours::versions::also_as(&folder, &versions[0], &versions[1]);
                kept.map_err(|error| unprepared(error.to_string()))?;
                None
            }
        };
        let policy = short(&place.config.blue_green);
        let config = write_config(run, place, &policy).map_err(unprepared)?;
        let service = SERVICE.parse::<Service>().ok();
        let smoke = service.and_then(|it| place.config.blue_green.smoke.get(&it).cloned());
        Ok(Prepared {
            cluster,
            release: release_of(run.id()),
            policy,
            smoke: smoke.unwrap_or_default(),
            versions,
            prober_image,
            program: program(place, subject, config).map_err(unprepared)?,
        })
    }

    /// For one scenario.
    pub fn ground<'a>(&'a self, subject: &'a Subject<'a>) -> Ground<'a> {
        Ground {
            subject,
            cluster: &self.cluster,
            release: &self.release,
            policy: &self.policy,
            smoke: &self.smoke,
            versions: &self.versions,
            prober_image: self.prober_image.as_deref(),
            program: &self.program,
        }
    }
}

/// Ends what the scenarios of this run, which were called off, have under way: a release of
/// anybody else's is left as it is.
pub async fn end(place: &Workplace, cluster: &Cluster, run: &str) -> Result<(), BlueGreenError> {
    let release = release_of(run);
    let deployer = Deployer {
        cluster,
        service: SERVICE,
        policy: &place.config.blue_green,
        // What it goes back to was live before.
        smoke: &[],
        probe_from: ProbeFrom::Nowhere,
        holder: Holder::this(&release),
        release,
        called_off: CancellationToken::new(),
    };
    match deployer.run(Ask::End, &mut async |_: &Event| {}).await {
        Ok(_) | Err(BlueGreenError::NothingUnderWay { .. } | BlueGreenError::Anothers { .. }) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The version that is deployed, and the same image under another name.
fn versions(deployed: &str) -> [String; 2] {
    [deployed.to_owned(), format!("{deployed}-next")]
}

async fn bring(
    site: &Site<'_>,
    versions: &[String; 2],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<String, images::ImageError> {
    let (engine, workshop, cluster) = site.images();
    let platform = images::ensure(engine, workshop, "platform", Supply::Auto, progress).await?;
    let named = versions.each_ref().map(|version| ForNodes {
        image: platform.to_string(),
        known_as: release::image(version),
    });
    images::load(engine, cluster, &named, progress).await?;
    prober_image::brought(site, progress).await
}

/// The configured thresholds, and times that let many releases be made in minutes.
fn short(policy: &Policy) -> Policy {
    Policy {
        lease: Duration::from_secs(5),
        green_ready: Duration::from_secs(30),
        baseline: Duration::from_secs(3),
        watch: Duration::from_secs(6),
        warm_up: Duration::from_secs(2),
        drain: Duration::from_secs(2),
        ..policy.clone()
    }
}

/// The configuration with that policy, for a deployer that is another process.
fn write_config(run: &Run, place: &Workplace, policy: &Policy) -> Result<PathBuf, String> {
    let text = std::fs::read_to_string(&place.config_path).map_err(|error| error.to_string())?;
    let mut config: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string())?;
    let section = config
        .get_mut("blue_green")
        .and_then(toml::Value::as_table_mut);
    let section = section.ok_or("the configuration has no [blue_green]")?;
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
    let path = run.folder().join("blue-green.toml");
    std::fs::write(&path, config.to_string()).map_err(|error| error.to_string())?;
    Ok(path)
}

fn program(place: &Workplace, subject: &Subject<'_>, config: PathBuf) -> Result<Program, String> {
    let path = std::env::current_exe().map_err(|error| error.to_string())?;
    let arguments = [
        "--name".to_owned(),
        subject.environment.name.to_string(),
        "--home".to_owned(),
        place.home.root().display().to_string(),
        "--config".to_owned(),
        config.display().to_string(),
    ];
    Ok(Program {
        path,
        arguments: arguments.into(),
    })
}
