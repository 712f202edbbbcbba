//! What the scenarios of this family stand on: one service, two versions of it, and the
//! deployer that moves between them.

use std::path::PathBuf;
use std::time::Duration;

use harness::blue_green::colour::TRACK;
use harness::blue_green::lock::Holder;
use harness::blue_green::objects::{Objects, VERSION, as_deployer};
use harness::blue_green::policy::Evidence;
use harness::blue_green::{
    Ask, BlueGreenError, Colour, Conclusion, Deployer, Event, Policy, ProbeFrom, Status,
};
use harness::cluster::{Cluster, rollout};
use harness::release::METRICS_PORT;
use harness::wait::{self, Observation};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Service};
use kube::api::{Api, Patch};
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Mismatch, Subject};

/// The service that is released: it has Postgres, Redis, callers and an ingress route.
pub const SERVICE: &str = "market-data-service";

/// What the ids of the scenarios' releases begin with.
const SCENARIO: &str = "scenario-";

/// The id of all releases that scenarios of this run make.
pub fn release_of(run: &str) -> String {
    format!("{SCENARIO}{run}")
}

/// For pods to come or go.
const PODS: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What the scenarios stand on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The environment, and from where it is looked at.
    pub subject: &'a Subject<'a>,
    /// Where its services are released.
    pub cluster: &'a Cluster,
    /// The id of its releases, by [`release_of`].
    pub release: &'a str,
    /// How releases are made here: the configured thresholds, and times that are short.
    pub policy: &'a Policy,
    /// The paths that the service must answer.
    pub smoke: &'a [String],
    /// Two versions that are there to be started.
    pub versions: &'a [String; 2],
    /// The image of the prober on the nodes, for looking from inside; none where the addresses
    /// of Services are this machine's.
    pub prober_image: Option<&'a str>,
    /// How the command line is called, for a deployer that is to be killed.
    pub program: &'a Program,
}

/// The command line as another process.
pub struct Program {
    /// The binary.
    pub path: PathBuf,
    /// What every command takes: where the home is, which environment.
    pub arguments: Vec<String>,
}

/// What could not be done to the cluster, as a check tells it.
pub type Done<T = ()> = Result<T, Mismatch>;

impl Ground<'_> {
    /// A deployer of this service; `name` tells two of one process apart.
    pub fn deployer<'d>(&'d self, name: &str, called_off: CancellationToken) -> Deployer<'d> {
        Deployer {
            cluster: self.cluster,
            service: SERVICE,
            policy: self.policy,
            smoke: self.smoke,
            probe_from: match self.prober_image {
                Some(image) => ProbeFrom::Pod { image },
                None => ProbeFrom::Here,
            },
            holder: Holder::this(name),
            release: self.release.to_owned(),
            called_off,
        }
    }

    /// With a deployer that goes by another policy.
    pub fn with_policy<'b>(&'b self, policy: &'b Policy) -> Ground<'b> {
        Ground { policy, ..*self }
    }

    /// This; sabotaged, with a deployer that does not look at what users get. It goes by a policy
    /// of its own, [`careless`], and asks for nothing.
    pub fn or_careless<'b>(&'b self, careless: &'b Policy) -> Ground<'b> {
        match self.subject.sabotage {
            true => Ground {
                smoke: &[],
                ..self.with_policy(careless)
            },
            false => *self,
        }
    }

    /// Releases `version`, until it is called off.
    ///
    /// # Errors
    /// As [`Deployer::run`].
    pub async fn release(
        &self,
        version: &str,
        called_off: CancellationToken,
        observe: &mut impl AsyncFnMut(&Event),
    ) -> Result<Conclusion, BlueGreenError> {
        let deployer = self.deployer(self.release, called_off);
        let manual = false;
        deployer.run(Ask::Deploy { version, manual }, observe).await
    }

    /// What is live, and what is under way.
    pub async fn status(&self) -> Done<Status> {
        let status = Status::of(self.cluster, SERVICE).await;
        status.map_err(|error| self.trouble("a service that is released blue-green", error))
    }

    /// The version that is not live.
    pub fn next_version(&self, now: &Status) -> &str {
        let [deployed, other] = self.versions;
        match now.colours[0].version == *other {
            true => deployed,
            false => other,
        }
    }

    /// What a scenario left under way, one that was killed too, is ended first. A release of
    /// anybody else's is left alone, and stands in the way.
    pub async fn brought_to_rest(&self) -> Done<Status> {
        if let Some(left) = self.status().await?.under_way {
            let mut deployer = self.deployer(self.release, CancellationToken::new());
            if left.release.starts_with(SCENARIO) {
                deployer.release = left.release;
            }
            match deployer.run(Ask::End, &mut async |_: &Event| {}).await {
                Ok(_) | Err(BlueGreenError::NothingUnderWay { .. }) => {}
                Err(error) => return Err(self.trouble("no release of anybody else's", error)),
            }
        }
        self.at_rest().await
    }

    /// One colour is live and well, the other at 0, and nothing under way: what every scenario
    /// begins and ends with.
    pub async fn at_rest(&self) -> Done<Status> {
        let mut seen = None;
        let rest = wait::until(
            "one colour is live, the other at rest",
            PODS,
            LOOK_EVERY,
            async || match self.status().await {
                Ok(status) => {
                    let [live, idle] = &status.colours;
                    let rests = status.live.is_some()
                        && status.under_way.is_none()
                        && live.ready >= live.wanted.max(1)
                        && idle.wanted == 0
                        && idle.ready == 0;
                    let text = in_words(&status);
                    seen = Some(status);
                    match rests {
                        true => Observation::Ready(()),
                        false => Observation::NotYet(text),
                    }
                }
                Err(mismatch) => Observation::NotYet(mismatch.seen),
            },
        );
        match (rest.await, seen) {
            (Ok(()), Some(status)) => Ok(status),
            (Err(error), _) => Err(self.trouble("one live colour, the other at 0", error)),
            (Ok(()), None) => Err(self.trouble("a status", "none")),
        }
    }

    /// The service's objects.
    pub fn objects(&self) -> Objects<'_> {
        Objects {
            cluster: self.cluster,
            service: SERVICE,
        }
    }

    /// The pods of a colour.
    pub async fn pods(&self, colour: Colour) -> Done<Vec<Pod>> {
        let pods = self.objects().pods(colour).await;
        pods.map_err(|error| self.trouble("a list of pods", error))
    }

    /// Has a colour's pods begin with these faults, by the platform's `FAULTS`; with none.
    pub async fn begin_with(&self, colour: Colour, faults: Option<Value>) -> Done {
        let variable = match faults {
            Some(faults) => json!({"name": "FAULTS", "value": faults.to_string()}),
            None => json!({"name": "FAULTS", "$patch": "delete"}),
        };
        let container = json!({"name": SERVICE, "env": [variable]});
        self.patch_template(colour, json!({"spec": {"containers": [container]}}))
            .await
    }

    /// The pods behind the active Service.
    pub async fn endpoints(&self) -> Done<Vec<(String, bool)>> {
        let endpoints = self.objects().endpoints(SERVICE).await;
        endpoints.map_err(|error| self.trouble("endpoints", error))
    }

    /// Has a pod be at fault from now on, as `PUT /faults` does.
    pub async fn put_faults(&self, pod: &str, faults: &Value) -> Done {
        let namespace = &self.cluster.namespace;
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{METRICS_PORT}/proxy/faults");
        let request = hyper::Request::put(uri)
            .header("content-type", "application/json")
            .body(Body::from(faults.to_string().into_bytes()));
        let request = request.map_err(|error| self.trouble("a request", error))?;
        let answer = self.cluster.client().send(request).await;
        let answer = answer.map_err(|error| self.trouble("a pod that takes faults", error))?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(self.trouble("a pod that takes faults", answer.status())),
        }
    }

    /// The same for every pod of a colour.
    pub async fn put_faults_on_all(&self, colour: Colour, faults: &Value) -> Done {
        for pod in self.pods(colour).await? {
            let name = pod.metadata.name.unwrap_or_default();
            self.put_faults(&name, faults).await?;
        }
        Ok(())
    }

    /// A colour's Deployment.
    pub async fn deployment(&self, colour: Colour) -> Done<Deployment> {
        let api: Api<Deployment> = self.api();
        let found = api.get(&self.objects().deployment(colour)).await;
        found.map_err(|error| self.trouble("a Deployment", error))
    }

    /// Changes the pod template of a colour's Deployment.
    pub async fn patch_template(&self, colour: Colour, template: Value) -> Done {
        let patch = Patch::Strategic(json!({"spec": {"template": template}}));
        self.patch_deployment(colour, &patch).await
    }

    /// Gives a colour's Deployment back the template that it had, its version excepted.
    pub async fn restore(&self, colour: Colour, was: &Deployment) -> Done {
        let now = self.deployment(colour).await?;
        let template = with_version_of(was.spec.template.clone(), &now.spec.template);
        // Its containers are a list, which a merge replaces as a whole.
        let patch = Patch::Merge(json!({"spec": {"template": template}}));
        self.patch_deployment(colour, &patch).await
    }

    /// Has a colour have so many pods, all of them ready.
    pub async fn scale(&self, colour: Colour, replicas: i32) -> Done {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.patch_deployment(colour, &patch).await?;
        self.complete(colour).await
    }

    async fn patch_deployment(&self, colour: Colour, patch: &Patch<Value>) -> Done {
        let api: Api<Deployment> = self.api();
        let name = self.objects().deployment(colour);
        let patched = api.patch(&name, &as_deployer(), patch).await;
        let patched = patched.map(drop);
        patched.map_err(|error| self.trouble("a Deployment that can be changed", error))
    }

    /// Waits until a colour's rollout is complete.
    pub async fn complete(&self, colour: Colour) -> Done {
        let selector = self.objects().selector(colour);
        let complete = rollout::complete(self.cluster, &selector, PODS, &|_| {}).await;
        complete.map_err(|error| self.trouble("a rollout that ends", error))
    }

    /// Has a colour be wanted with no pods; they have not ended yet.
    pub async fn empty(&self, colour: Colour) -> Done {
        let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
        self.patch_deployment(colour, &patch).await
    }

    /// Has the active Service select by these labels and no track, or by one.
    pub async fn select(&self, track: Option<Colour>) -> Done {
        let track = track.map(Colour::name);
        let patch = Patch::Merge(json!({"spec": {"selector": {TRACK: track}}}));
        let patched = self
            .api::<Service>()
            .patch(SERVICE, &as_deployer(), &patch)
            .await;
        patched.map_err(|error| self.trouble("a Service that can be changed", error))?;
        Ok(())
    }

    /// Has the active Service send requests to this port of its pods.
    pub async fn set_target_port(&self, target_port: Value) -> Done {
        let api = self.api::<Service>();
        let found = api.get(SERVICE).await;
        let found = found.map_err(|error| self.trouble("the active Service", error))?;
        let mut ports = json!(found.spec.and_then(|it| it.ports));
        ports[0]["targetPort"] = target_port;
        let patch = Patch::Merge(json!({"spec": {"ports": ports}}));
        let patched = api.patch(SERVICE, &as_deployer(), &patch).await;
        patched.map_err(|error| self.trouble("a Service that can be changed", error))?;
        Ok(())
    }

    /// Objects of the release's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace)
    }

    /// Something that a scenario needs was not to be had.
    pub fn trouble(&self, expected: &str, seen: impl std::fmt::Display) -> Mismatch {
        Mismatch {
            expected: expected.to_owned(),
            seen: seen.to_string(),
            look_at: format!("{} get pods,services", self.cluster.kubectl()),
            next: self.next(),
        }
    }

    /// The command that shows more.
    pub fn next(&self) -> String {
        let name = &self.subject.environment.name;
        format!("cargo xtask blue-green status --service {SERVICE} --name {name}")
    }
}

/// Releases as this policy does, without a look at what users get: its pods stay, and that is all.
pub fn careless(policy: &Policy) -> Policy {
    Policy {
        analysis: Evidence::None,
        watch: Duration::ZERO,
        drain: Duration::ZERO,
        ..policy.clone()
    }
}

/// A template with the image and the label that the deployer has set since.
fn with_version_of(mut template: PodTemplateSpec, now: &PodTemplateSpec) -> PodTemplateSpec {
    let labels = now.metadata.as_ref().and_then(|it| it.labels.as_ref());
    let version = labels.and_then(|it| it.get(VERSION)).cloned();
    if let (Some(metadata), Some(version)) = (template.metadata.as_mut(), version) {
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(VERSION.to_owned(), version);
    }
    let image = now
        .spec
        .as_ref()
        .and_then(|it| it.containers.first()?.image.clone());
    let container = template
        .spec
        .as_mut()
        .and_then(|it| it.containers.first_mut());
    if let Some(container) = container {
        container.image = image;
    }
    template
}

/// Both colours on one line.
pub fn in_words(status: &Status) -> String {
    let [live, idle] = &status.colours;
    let under_way = match &status.under_way {
        None => String::new(),
        Some(record) => format!("; {} is at {}", record.version, record.step),
    };
    format!(
        "{} is live in {}, {}/{} ready; {} has {}{under_way}",
        live.colour, live.version, live.ready, live.wanted, idle.colour, idle.ready
    )
}
