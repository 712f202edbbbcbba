//! What releases are measured on: one service of an environment of the benchmark's own, and
//! two versions of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::blue_green::colour::TRACK;
use harness::blue_green::objects::{LIVE, Objects, as_deployer};
use harness::blue_green::{Colour, Policy, Status};
use harness::environment::{ClusterPlace, Environment};
use harness::images::{self, ForNodes, Supply, Workshop};
use harness::kind::cluster::control_plane;
use harness::kind::release;
use harness::subprocess;
use harness::wait::{self, Observation};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::Patch;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::argo::Argo;
use super::killed::{self, Killed};
use super::site::Site;
use super::told::Told;
use super::traffic::{PER_SECOND, Traffic};
use super::{Attempt, By, Quality, Release, SERVICE, guide, ours, planting};
use crate::bench::Plan;
use crate::bench::error::BenchError;
use crate::bench::kind::{self, Bench as KindBench};
use crate::bench::scratch::Scratch;

/// What every release begins with; an autoscaler may have more of them, where traffic asks for
/// it. It keeps as many at least.
pub const PODS: i32 = 2;

/// The path that a release is smoked on.
const PATH: &str = "/market-data/quotes";

/// Of what is done between releases.
const BETWEEN: &str = "the environment between releases";

/// For pods to come or go, their grace period included.
const REST: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Of one release: it has deadlines of its own for all it waits for.
const LONGEST: Duration = Duration::from_secs(600);

/// A command in the node.
const COMMAND: Duration = Duration::from_secs(120);

/// What releases are measured on.
pub struct Ground<'a> {
    pub kind: &'a KindBench,
    pub scratch: &'a Scratch,
    pub workspace: PathBuf,
    pub config: PathBuf,
    pub environment: Environment,
    pub place: ClusterPlace,
    /// Where our deployer and the script release.
    pub ours: Site,
    /// Argo Rollouts, where it can be had.
    pub argo: Option<Argo>,
    /// Both on the nodes, and the same image.
    versions: [String; 2],
}

impl<'a> Ground<'a> {
    /// Brings it up, and both versions to its node.
    pub async fn stand_up(
        kind: &'a KindBench,
        plan: &Plan,
        scratch: &'a Scratch,
    ) -> Result<Ground<'a>, BenchError> {
        scratch.rehearse("up", kind::TARGET, &plan.config).await?;
        let environment = scratch.environment()?;
        let place = environment.cluster.clone();
        let place = place.ok_or_else(|| scratch.report_lacks("up", "a cluster"))?;
        let cluster = place.open().await;
        let deployed = environment.version.clone();
        let ground = Ground {
            kind,
            scratch,
            workspace: plan.workspace.clone(),
            config: plan.config.clone(),
            ours: Site {
                cluster: cluster.map_err(BenchError::release("the cluster"))?,
                label: TRACK,
                path: PATH,
            },
            argo: None,
            versions: [format!("{deployed}-next"), deployed],
            environment,
            place,
        };
        ground.bring_images(plan).await?;
        Ok(ground)
    }

    async fn bring_images(&self, plan: &Plan) -> Result<(), BenchError> {
        let engine = &self.kind.engine;
        let workshop = Workshop::of(&plan.workspace, &plan.home);
        let platform = images::ensure(engine, &workshop, "platform", Supply::Auto, &|_| ());
        let platform = platform.await?.to_string();
        let named = self.versions.each_ref().map(|version| ForNodes {
            image: platform.clone(),
            known_as: release::image(version),
        });
        images::load(engine, &self.place.name, &named, &|_| ()).await?;
        Ok(())
    }

    /// Who releases here.
    pub fn contenders(&self) -> impl Iterator<Item = By> {
        By::ALL
            .into_iter()
            .filter(|by| *by != By::Argo || self.argo.is_some())
    }

    /// One release under traffic, from rest to rest.
    pub async fn release(&self, attempt: Attempt) -> Result<Release, BenchError> {
        let Attempt {
            by,
            quality,
            per_second,
        } = attempt;
        let site = self.site(by)?;
        let old = self.brought_to_rest(by).await?;
        let (new, before) = (self.other_than(&old), site.selected().await?);
        let traffic = Traffic::begin(&self.environment, site.path, per_second).await?;
        let whole = async {
            let begun = Instant::now();
            let releasing = self.released(by, new, quality);
            let made_of = match quality.error_share() {
                None => releasing.await?,
                Some(share) => planting::once_switched(site, &before, share, releasing).await?,
            };
            let millis = begun.elapsed().as_secs_f64() * 1000.0;
            self.ends_live(site, &before, quality).await?;
            traffic.for_seconds(5).await?;
            Ok((made_of, millis))
        };
        let (MadeOf { spans, memory }, millis) = self.told_of(&traffic, whole).await?;
        let allowed = self.policy().thresholds.max_error_share;
        Ok(Release {
            attempt,
            millis,
            spans,
            memory,
            told: Told::of(&traffic.end().await, &old, new, allowed),
        })
    }

    /// One release of a good version under traffic, whose deployer is killed right after the
    /// switch.
    pub async fn killed(&self, by: By) -> Result<Killed, BenchError> {
        let site = self.site(by)?;
        let old = self.brought_to_rest(by).await?;
        let (new, before) = (self.other_than(&old), site.selected().await?);
        let traffic = Traffic::begin(&self.environment, site.path, PER_SECOND).await?;
        let whole = async {
            match by {
                By::Ours => ours::killed(self, new, &before).await?,
                By::Script => guide::killed(self, new, &before).await?,
                By::Argo => self.argo()?.killed(new, &before).await?,
            }
            let at_once = site.pods().await?;
            Ok((at_once, killed::ended(self, by, site, new).await?))
        };
        let (at_once, ended) = self.told_of(&traffic, whole).await?;
        let so_far = traffic.so_far();
        traffic.end().await;
        Ok(Killed {
            by,
            new: new.to_owned(),
            at_once,
            ended,
            requests: so_far.good + so_far.failed,
            failed: so_far.failed,
        })
    }

    /// One release of `version` alone.
    pub async fn released(
        &self,
        by: By,
        version: &str,
        quality: Quality,
    ) -> Result<MadeOf, BenchError> {
        let released = async {
            let (spans, memory) = match by {
                By::Ours => ours::release(self, version, quality).await?,
                By::Script => (None, guide::release(self, version, quality).await?),
                By::Argo => (None, self.argo()?.release(version, quality).await?),
            };
            Ok(MadeOf { spans, memory })
        };
        let late = |_| BenchError::release("a release")(format!("no end within {LONGEST:?}"));
        timeout(LONGEST, released).await.map_err(late)?
    }

    /// `work`, while Argo Rollouts can ask what users see.
    async fn told_of<T>(
        &self,
        traffic: &Traffic,
        work: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        match &self.argo {
            Some(argo) => argo.error_share.told_during(traffic, work).await,
            None => work.await,
        }
    }

    /// Sees that the right one is live, and with a good release sees the old pods off: they are
    /// part of it, whoever waited for them.
    async fn ends_live(
        &self,
        site: &Site,
        before: &str,
        quality: Quality,
    ) -> Result<(), BenchError> {
        let is_back = site.selected().await? == before;
        match (quality, is_back) {
            (Quality::Good, false) => site.at_rest().await.map(drop),
            (Quality::Bad | Quality::OneInTen, true) => Ok(()),
            _ => Err(BenchError::release("a release")(format!(
                "after a {quality} the wrong version is live"
            ))),
        }
    }

    /// One version is live and well, and nothing else is there; that version.
    async fn brought_to_rest(&self, by: By) -> Result<String, BenchError> {
        match by {
            By::Argo => self.argo()?.brought_to_rest().await,
            By::Ours | By::Script => self.colours_brought_to_rest().await,
        }
    }

    /// One colour is live and well and marked so, the other is shown by the preview and has no
    /// pods: what a deployer accepts, and what the script leaves undone.
    async fn colours_brought_to_rest(&self) -> Result<String, BenchError> {
        let objects = self.objects();
        let [live, idle] = self.status().await?.colours.map(|it| it.colour);
        self.set(live, true, PODS).await?;
        self.set(idle, false, 0).await?;
        let preview = json!({"spec": {"selector": {TRACK: idle.name()}}});
        let services = self.ours.api::<Service>();
        let shown = services
            .patch(&objects.preview(), &as_deployer(), &Patch::Merge(preview))
            .await;
        shown.map_err(BenchError::release(BETWEEN))?;
        let what = "the live colour is well, and alone";
        let well = wait::until(what, REST, LOOK_EVERY, async || {
            let (status, pods) = match (self.status().await, self.ours.pods().await) {
                (Ok(status), Ok(pods)) => (status, pods),
                (Err(error), _) | (_, Err(error)) => return Observation::NotYet(error.to_string()),
            };
            let live = &status.colours[0];
            let wanted = usize::try_from(live.wanted).unwrap_or(0);
            match live.ready == live.wanted && pods.selected == wanted && pods.at_rest() {
                true => Observation::Ready(live.version.clone()),
                false => Observation::NotYet(format!("{wanted} wanted, {pods:?}")),
            }
        });
        Ok(well.await?)
    }

    async fn status(&self) -> Result<Status, BenchError> {
        let status = Status::of(&self.ours.cluster, SERVICE).await;
        status.map_err(BenchError::release(BETWEEN))
    }

    /// Marks a colour as live, or as not, and has it have so many pods.
    async fn set(&self, colour: Colour, live: bool, pods: i32) -> Result<(), BenchError> {
        let mark = if live { json!("true") } else { Value::Null };
        let patch = Patch::Merge(json!({
            "metadata": {"annotations": {LIVE: mark}},
            "spec": {"replicas": pods},
        }));
        let name = self.objects().deployment(colour);
        let deployments = self.ours.api::<Deployment>();
        let set = deployments.patch(&name, &as_deployer(), &patch).await;
        set.map(drop).map_err(BenchError::release(BETWEEN))
    }

    /// Runs a command in the cluster's node.
    pub async fn in_node(&self, words: &[&str]) -> Result<(), BenchError> {
        let node = control_plane(&self.place.name);
        let exec = ["docker", "exec", &node];
        let command = self.kind.command(&[&exec, words].concat());
        Ok(subprocess::run(&command, COMMAND, &|_| ()).await?)
    }

    fn site(&self, by: By) -> Result<&Site, BenchError> {
        match by {
            By::Argo => Ok(&self.argo()?.site),
            By::Ours | By::Script => Ok(&self.ours),
        }
    }

    fn argo(&self) -> Result<&Argo, BenchError> {
        let argo = self.argo.as_ref();
        argo.ok_or_else(|| BenchError::release("Argo Rollouts")("it is not there"))
    }

    fn other_than(&self, version: &str) -> &str {
        let [next, deployed] = &self.versions;
        match version == next {
            true => deployed,
            false => next,
        }
    }

    /// How our deployer releases: as `harness.toml` says.
    pub fn policy(&self) -> &Policy {
        &self.kind.config.blue_green
    }

    fn objects(&self) -> Objects<'_> {
        Objects {
            cluster: &self.ours.cluster,
            service: SERVICE,
        }
    }
}

/// What a release took.
pub struct MadeOf {
    /// Of our deployer alone.
    pub spans: Option<ours::Spans>,
    /// The most that whoever released held, MiB.
    pub memory: Option<f64>,
}
