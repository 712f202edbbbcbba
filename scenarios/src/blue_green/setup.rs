//! The setup of the scenarios of this family: one service, two versions of it, and the deployer
//! that moves traffic between them.

use std::path::PathBuf;
use std::time::Duration;

use base::wait::{self, Observation};
use blue_green::colour::TRACK;
use blue_green::lock::DeployerIdentity;
use blue_green::naming::as_deployer;
use blue_green::objects::{ServiceObjects, VERSION, request_port};
use blue_green::policy::Evidence;
use blue_green::{
    BlueGreenError, Colour, Deployer, Operation, Policy, ProbeFrom, ReleaseEvent, ServiceStatus,
};
use environments::config::{BlueGreenScenarios, PodFault, PodFaults};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, Patch};
use kube::client::Body;
use kubernetes::{Cluster, rollout};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Mismatch, Subject, Unmet};

/// The prefix of the ids of the scenarios' releases.
const PREFIX: &str = "scenario-";

/// Returns the id of all releases of the scenarios in this run.
pub fn release_of(run: &str) -> String {
    format!("{PREFIX}{run}")
}

/// For pods to start or terminate.
const PODS_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_EVERY: Duration = Duration::from_millis(300);

/// The subject of the scenarios.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The environment, and the address for requests.
    pub subject: &'a Subject<'a>,
    /// The cluster in which its services are released.
    pub cluster: &'a Cluster,
    /// The service, the requests to it, and the faults of its pods.
    pub config: &'a BlueGreenScenarios,
    /// The id of its releases, from [`release_of`].
    pub release: &'a str,
    /// The configured thresholds, with short times.
    pub policy: &'a Policy,
    /// The paths that the service must answer.
    pub smoke: &'a [String],
    /// Two versions whose images are available.
    pub versions: &'a [String; 2],
    /// Where requests directly to the Service come from.
    pub probe_from: ProbeFrom<'a>,
    /// The namespace of the prober's pod.
    pub helpers_namespace: &'a str,
    /// The command line, for a deployer that a scenario kills.
    pub program: &'a XtaskProgram,
}

/// The command line, to run as another process.
pub struct XtaskProgram {
    /// The binary.
    pub path: PathBuf,
    /// The arguments of every command: the home, the environment.
    pub arguments: Vec<String>,
}

impl<'a> Setup<'a> {
    /// Returns the service's name.
    pub fn service(&self) -> &'a str {
        &self.config.service
    }

    /// Returns how the pods of the service are made faulty.
    pub fn faults(&self) -> Result<&'a PodFaults, Mismatch> {
        let faults = self.config.faults.as_ref();
        faults.ok_or_else(|| self.mismatch("pods that can be made faulty", lacks_key("faults")))
    }

    /// Returns a deployer of this service. `name` distinguishes two in one process.
    pub fn deployer<'d>(&'d self, name: &str, cancelled: CancellationToken) -> Deployer<'d> {
        Deployer {
            cluster: self.cluster,
            service: self.service(),
            policy: self.policy,
            smoke: self.smoke,
            probe_from: self.probe_from,
            helpers_namespace: self.helpers_namespace,
            holder: DeployerIdentity::this(name),
            release: self.release.to_owned(),
            cancellation: cancelled,
        }
    }

    /// Returns this setup with another policy.
    pub fn with_policy<'b>(&'b self, policy: &'b Policy) -> Setup<'b> {
        Setup { policy, ..*self }
    }

    /// Returns this setup. With sabotage, its deployer has this policy, from [`without_analysis`],
    /// and sends no smoke requests.
    pub fn or_without_analysis<'b>(&'b self, policy: &'b Policy) -> Setup<'b> {
        match self.subject.sabotage {
            true => Setup {
                smoke: &[],
                ..self.with_policy(policy)
            },
            false => *self,
        }
    }

    /// Returns the status of both colours, and the release in progress.
    pub async fn status(&self) -> Result<ServiceStatus, Mismatch> {
        let status = ServiceStatus::of(self.cluster, self.service()).await;
        status.map_err(|error| self.mismatch("a service that is released blue-green", error))
    }

    /// Returns the version that is not live.
    pub fn next_version(&self, now: &ServiceStatus) -> &str {
        let [deployed, other] = self.versions;
        match now.colours[0].version == *other {
            true => deployed,
            false => other,
        }
    }

    /// Ends a release that a scenario left in progress, even if its deployer was killed, and waits
    /// for the [steady](Setup::steady) state. A release of another owner is an error.
    pub async fn end_leftover_release(&self) -> Result<ServiceStatus, Mismatch> {
        if let Some(leftover) = self.status().await?.under_way {
            let mut deployer = self.deployer(self.release, CancellationToken::new());
            if leftover.release.starts_with(PREFIX) {
                deployer.release = leftover.release;
            }
            let ignore = &mut async |_: &ReleaseEvent| {};
            match deployer.run(Operation::End, ignore).await {
                Ok(_) | Err(BlueGreenError::NothingInProgress { .. }) => {}
                Err(error) => return Err(self.mismatch("no release of another owner", error)),
            }
        }
        self.steady().await
    }

    /// Waits for the state in which every scenario starts and ends: one colour is live and ready,
    /// the other is at 0, and no release is in progress.
    pub async fn steady(&self) -> Result<ServiceStatus, Mismatch> {
        let what = "one colour is live, the other at rest";
        let steady = wait::until(what, PODS_TIMEOUT, POLL_EVERY, async || {
            match self.status().await {
                Ok(status) => {
                    let [live, idle] = &status.colours;
                    let is_steady = status.live.is_some()
                        && status.under_way.is_none()
                        && live.ready >= live.wanted.max(1)
                        && idle.wanted == 0
                        && idle.ready == 0;
                    match is_steady {
                        true => Observation::Ready(status),
                        false => Observation::NotYet(summary(&status)),
                    }
                }
                Err(mismatch) => Observation::NotYet(mismatch.seen),
            }
        });
        let expected = "one live colour, the other at 0";
        steady.await.map_err(|error| self.mismatch(expected, error))
    }

    /// Returns the service's objects.
    pub fn objects(&self) -> ServiceObjects<'_> {
        ServiceObjects {
            cluster: self.cluster,
            service: self.service(),
        }
    }

    /// Returns the pods of a colour.
    pub async fn pods(&self, colour: Colour) -> Result<Vec<Pod>, Mismatch> {
        let pods = self.objects().pods(colour).await;
        pods.map_err(|error| self.mismatch("a list of pods", error))
    }

    /// Makes new pods of a colour start with this fault.
    pub async fn start_with(&self, colour: Colour, fault: PodFault) -> Result<(), Mismatch> {
        let faults = self.faults()?;
        let variable = json!({"name": faults.variable, "value": faults.text(fault)});
        self.patch_container(colour, json!({"env": [variable]}))
            .await
    }

    /// Changes the first container of a colour's pod template.
    pub async fn patch_container(&self, colour: Colour, change: Value) -> Result<(), Mismatch> {
        let original = self.deployment(colour).await?;
        let mut container = change;
        container["name"] = json!(self.container_of(&original)?);
        self.patch_template(colour, json!({"spec": {"containers": [container]}}))
            .await
    }

    /// Returns the name of the first container, which serves the requests.
    pub fn container_of<'d>(&self, deployment: &'d Deployment) -> Result<&'d str, Mismatch> {
        let pod = deployment.spec.template.spec.as_ref();
        let first = pod.and_then(|it| it.containers.first());
        let name = first.map(|it| it.name.as_str());
        name.ok_or_else(|| self.mismatch("a Deployment with a container", "none"))
    }

    /// Returns the pods behind the active Service.
    pub async fn endpoints(&self) -> Result<Vec<(String, bool)>, Mismatch> {
        let endpoints = self.objects().endpoints(self.service()).await;
        endpoints.map_err(|error| self.mismatch("endpoints", error))
    }

    /// Makes a running pod faulty.
    pub async fn put_fault(&self, pod: &str, fault: PodFault) -> Result<(), Mismatch> {
        let (namespace, faults) = (&self.cluster.namespace, self.faults()?);
        let PodFaults { port, path, .. } = faults;
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        let text = faults.text(fault);
        let content_type = match serde_json::from_str::<Value>(text) {
            Ok(_) => "application/json",
            Err(_) => "text/plain",
        };
        let request = hyper::Request::put(uri)
            .header("content-type", content_type)
            .body(Body::from(text.as_bytes().to_vec()));
        let request = request.map_err(|error| self.mismatch("a request", error))?;
        let answer = self.cluster.client().send(request).await;
        let answer = answer.map_err(|error| self.mismatch("a pod that accepts faults", error))?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(self.mismatch("a pod that accepts faults", answer.status())),
        }
    }

    /// Makes every pod of a colour faulty.
    pub async fn put_fault_on_all(&self, colour: Colour, fault: PodFault) -> Result<(), Mismatch> {
        for pod in self.pods(colour).await? {
            let name = pod.metadata.name.unwrap_or_default();
            self.put_fault(&name, fault).await?;
        }
        Ok(())
    }

    /// Returns a colour's Deployment.
    pub async fn deployment(&self, colour: Colour) -> Result<Deployment, Mismatch> {
        let api: Api<Deployment> = self.api();
        let found = api.get(&self.objects().deployment(colour)).await;
        found.map_err(|error| self.mismatch("a Deployment", error))
    }

    /// Changes the pod template of a colour's Deployment.
    pub async fn patch_template(&self, colour: Colour, template: Value) -> Result<(), Mismatch> {
        let patch = Patch::Strategic(json!({"spec": {"template": template}}));
        self.patch_deployment(colour, &patch).await
    }

    /// Restores the template of a colour's Deployment, except for its version.
    pub async fn restore(&self, colour: Colour, original: &Deployment) -> Result<(), Mismatch> {
        let now = self.deployment(colour).await?;
        let template = with_version_of(original.spec.template.clone(), &now.spec.template);
        // A merge replaces the list of containers as a whole.
        let patch = Patch::Merge(json!({"spec": {"template": template}}));
        self.patch_deployment(colour, &patch).await
    }

    /// Scales a colour, and waits until all its pods are ready.
    pub async fn scale(&self, colour: Colour, replicas: i32) -> Result<(), Mismatch> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.patch_deployment(colour, &patch).await?;
        self.complete(colour).await
    }

    async fn patch_deployment(&self, colour: Colour, patch: &Patch<Value>) -> Result<(), Mismatch> {
        let api: Api<Deployment> = self.api();
        let name = self.objects().deployment(colour);
        let patched = api.patch(&name, &as_deployer(), patch).await;
        let patched = patched.map(drop);
        patched.map_err(|error| self.mismatch("a Deployment that can be changed", error))
    }

    /// Waits until a colour's rollout is complete.
    pub async fn complete(&self, colour: Colour) -> Result<(), Mismatch> {
        let selector = self.objects().selector(colour);
        let complete = rollout::complete(self.cluster, &selector, PODS_TIMEOUT, &|_| {}).await;
        complete.map_err(|error| self.mismatch("a rollout that ends", error))
    }

    /// Scales a colour to 0, without waiting for the end of its pods.
    pub async fn empty(&self, colour: Colour) -> Result<(), Mismatch> {
        let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
        self.patch_deployment(colour, &patch).await
    }

    /// Makes the active Service select this colour, or both.
    pub async fn select(&self, track: Option<Colour>) -> Result<(), Mismatch> {
        let track = track.map(Colour::name);
        self.patch_service(json!({"selector": {TRACK: track}}))
            .await
    }

    /// Returns the port of the pods that the active Service sends requests to.
    pub async fn target_port(&self) -> Result<IntOrString, Mismatch> {
        let active = self.named_service(self.service()).await?;
        let port = self.port_of(&active)?;
        let target = port.target_port.clone();
        Ok(target.unwrap_or(IntOrString::Int(port.port)))
    }

    /// Makes the active Service send requests to this port of its pods.
    pub async fn set_target_port(&self, target_port: &IntOrString) -> Result<(), Mismatch> {
        let active = self.named_service(self.service()).await?;
        let changed = self.port_of(&active)?.port;
        let mut ports = active.spec.and_then(|it| it.ports).unwrap_or_default();
        for port in ports.iter_mut().filter(|it| it.port == changed) {
            port.target_port = Some(target_port.clone());
        }
        self.patch_service(json!({"ports": ports})).await
    }

    /// Returns a Service.
    pub async fn named_service(&self, name: &str) -> Result<Service, Mismatch> {
        let found = self.api::<Service>().get(name).await;
        found.map_err(|error| self.mismatch(&format!("the Service {name}"), error))
    }

    /// Returns the port of a Service for requests, as the deployer chooses it.
    pub fn port_of<'s>(&self, service: &'s Service) -> Result<&'s ServicePort, Mismatch> {
        let port = service.spec.as_ref().and_then(request_port);
        port.ok_or_else(|| self.mismatch("a Service with a port", "none"))
    }

    async fn patch_service(&self, spec: Value) -> Result<(), Mismatch> {
        let (api, patch) = (self.api::<Service>(), Patch::Merge(json!({"spec": spec})));
        let patched = api.patch(self.service(), &as_deployer(), &patch).await;
        let patched = patched.map(drop);
        patched.map_err(|error| self.mismatch("a Service that can be changed", error))
    }

    /// Returns the client for objects in the release's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace)
    }

    /// Returns a mismatch of the service's state in the cluster.
    pub fn mismatch(&self, expected: &str, seen: impl std::fmt::Display) -> Mismatch {
        Mismatch {
            expected: expected.to_owned(),
            seen: seen.to_string(),
            look_at: format!("{} get pods,services", self.cluster.kubectl()),
            next: self.next(),
        }
    }

    /// Returns an unmet claim about the service's state in the cluster.
    pub fn fail<T>(&self, expected: &str, seen: impl std::fmt::Display) -> Result<T, Unmet> {
        Err(self.mismatch(expected, seen).into())
    }

    /// Returns the command that shows more.
    pub fn next(&self) -> String {
        let (service, name) = (self.service(), &self.subject.environment.name);
        format!("cargo xtask blue-green status --service {service} --name {name}")
    }
}

/// Completes "skipped, because".
pub fn lacks_key(key: &str) -> String {
    format!("harness.toml has no blue_green.scenarios.{key}")
}

/// Returns this policy without any analysis of the traffic.
pub fn without_analysis(policy: &Policy) -> Policy {
    Policy {
        analysis: Evidence::None,
        watch: Duration::ZERO,
        drain: Duration::ZERO,
        ..policy.clone()
    }
}

/// Returns the template with the image and the version label of `now`, which the deployer has set.
fn with_version_of(mut template: PodTemplateSpec, now: &PodTemplateSpec) -> PodTemplateSpec {
    let labels = now.metadata.as_ref().and_then(|it| it.labels.as_ref());
    let version = labels.and_then(|it| it.get(VERSION)).cloned();
    if let (Some(metadata), Some(version)) = (template.metadata.as_mut(), version) {
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(VERSION.to_owned(), version);
    }
    let container = now.spec.as_ref().and_then(|it| it.containers.first());
    let image = container.and_then(|it| it.image.clone());
    let mut containers = template.spec.iter_mut().flat_map(|it| &mut it.containers);
    if let Some(container) = containers.next() {
        container.image = image;
    }
    template
}

/// Formats both colours on one line.
pub fn summary(status: &ServiceStatus) -> String {
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
