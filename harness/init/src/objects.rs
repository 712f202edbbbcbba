//! The Kubernetes objects of a platform: from a chart's manifests, or from a namespace.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{PodTemplateSpec, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;

/// The objects that a platform is described by.
#[derive(Clone, Debug, Default)]
pub struct PlatformObjects {
    /// What makes pods.
    pub workloads: Vec<Workload>,
    /// The Services.
    pub services: Vec<Service>,
    /// The Ingresses.
    pub ingresses: Vec<Ingress>,
    /// The HorizontalPodAutoscalers.
    pub autoscalers: Vec<HorizontalPodAutoscaler>,
    /// The names of the Secrets that come with the platform.
    pub own_secrets: BTreeSet<String>,
    /// The kinds that a cluster has only with their definitions: `ServiceMonitor
    /// (monitoring.coreos.com)`.
    pub custom_kinds: BTreeSet<String>,
}

/// An object that makes pods.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its kind: `Deployment`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The number of its pods, if it has one.
    pub replicas: Option<i32>,
    /// Its pods.
    pub template: PodTemplateSpec,
}

impl Workload {
    /// Returns whether its pods stay, so that a Service can select them.
    pub fn serves(&self) -> bool {
        !matches!(self.kind, "Job" | "CronJob")
    }
}

impl From<Deployment> for Workload {
    fn from(object: Deployment) -> Workload {
        Workload {
            kind: "Deployment",
            name: object.name_any(),
            replicas: Some(object.spec.replicas.unwrap_or(1)),
            template: object.spec.template,
        }
    }
}

impl From<StatefulSet> for Workload {
    fn from(object: StatefulSet) -> Workload {
        Workload {
            kind: "StatefulSet",
            name: object.name_any(),
            replicas: Some(object.spec.replicas.unwrap_or(1)),
            template: object.spec.template,
        }
    }
}

impl From<DaemonSet> for Workload {
    fn from(object: DaemonSet) -> Workload {
        Workload {
            kind: "DaemonSet",
            name: object.name_any(),
            replicas: None,
            template: object.spec.template,
        }
    }
}

impl From<Job> for Workload {
    fn from(object: Job) -> Workload {
        Workload {
            kind: "Job",
            name: object.name_any(),
            replicas: None,
            template: object.spec.map(|it| it.template).unwrap_or_default(),
        }
    }
}

impl From<CronJob> for Workload {
    fn from(object: CronJob) -> Workload {
        let name = object.name_any();
        let job = object.spec.job_template.spec;
        Workload {
            kind: "CronJob",
            name,
            replicas: None,
            template: job.map(|it| it.template).unwrap_or_default(),
        }
    }
}
