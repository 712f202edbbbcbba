//! The desired and the actual state: the part of Kubernetes' controllers that a release uses.
//! Nothing here waits.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod::{Pod, State};
use crate::router::Backends;
use kubernetes::in_memory_api::store::{REVISION, Store, name_of as name, revision};

/// The written objects, the pods, and the endpoints of Services.
#[derive(Default)]
pub(super) struct LocalCluster {
    pub store: Store,
    pub pods: Vec<Pod>,
    /// The endpoints of each Service.
    pub backends: BTreeMap<String, Endpoints>,
    created: u64,
}

/// The pods behind a Service, by port.
#[derive(Clone, Default)]
pub(super) struct Endpoints {
    pub http: Backends,
    pub metrics: Backends,
}

impl LocalCluster {
    /// Updates the pods and the Services to the desired state. Returns the new pods, whose
    /// processes must be started.
    pub fn settle(&mut self) -> Vec<Pod> {
        let deployments: Vec<Value> = self.store.list("deployments").cloned().collect();
        let created = deployments.iter().flat_map(|it| self.follow(it)).collect();
        for (service, backends) in &self.backends {
            let ready = self.selected(service).filter_map(Pod::endpoint);
            let (http, metrics): (_, Vec<_>) = ready.map(|it| (it.address, it.metrics)).unzip();
            backends.http.set(http);
            backends
                .metrics
                .set(metrics.into_iter().flatten().collect());
        }
        created
    }

    /// Creates missing pods. Pods of an earlier template end once enough new ones are ready.
    fn follow(&mut self, deployment: &Value) -> Vec<Pod> {
        let name = name(deployment);
        let wanted = wanted(deployment);
        let (newest, old): (Vec<&mut Pod>, Vec<&mut Pod>) = self
            .pods
            .iter_mut()
            .filter(|pod| pod.deployment == name && pod.ending.is_none())
            .partition(|pod| pod.revision == revision(deployment));
        let ready = |pod: &Pod| pod.endpoint().is_some();
        let has = newest.len();
        let enough = newest.iter().filter(|it| ready(it)).count() >= wanted;
        // Unready pods first, then the youngest.
        let mut surplus = newest;
        surplus.reverse();
        surplus.sort_by_key(|it| ready(it));
        surplus.truncate(has.saturating_sub(wanted));
        let old = old.into_iter().filter(|_| enough);
        for pod in surplus.into_iter().chain(old) {
            pod.ending = Some(Timestamp::now());
            pod.end.cancel();
        }
        let created: Vec<Pod> = (has..wanted).map(|_| self.create(deployment)).collect();
        self.pods.extend(created.iter().cloned());
        created
    }

    fn create(&mut self, deployment: &Value) -> Pod {
        self.created += 1;
        Pod::of(deployment, self.created)
    }

    pub fn pod(&mut self, name: &str) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.name == name)
    }

    /// The pods that a Service selects and that are not terminating.
    pub fn selected(&self, service: &str) -> impl Iterator<Item = &Pod> {
        let service = self.store.get("services", service);
        let selector = service.and_then(|it| it["spec"]["selector"].as_object());
        let staying = self.pods.iter().filter(|pod| pod.ending.is_none());
        staying.filter(move |pod| {
            selector.is_some_and(|it| {
                it.iter()
                    .all(|(key, value)| pod.labels()[key.as_str()] == *value)
            })
        })
    }

    /// The objects of a resource; `None` for a resource that is not served.
    pub fn list(&self, resource: &str) -> Option<Vec<Value>> {
        Some(match resource {
            "services" | "configmaps" | "leases" => self.store.list(resource).cloned().collect(),
            "deployments" => {
                let all = self.store.list(resource);
                all.map(|it| self.with_status(it)).collect()
            }
            "replicasets" => {
                let all = self.store.list("deployments");
                all.flat_map(|it| self.replica_sets(it)).collect()
            }
            "pods" => self.pods.iter().map(Pod::object).collect(),
            "endpointslices" => {
                let all = self.store.list("services");
                all.map(|it| self.endpoint_slice(name(it))).collect()
            }
            "endpoints" => {
                let all = self.store.list("services");
                all.map(|it| self.service_endpoints(name(it))).collect()
            }
            "events" => self.pods.iter().filter_map(Pod::event).collect(),
            // A release lists them.
            "statefulsets"
            | "daemonsets"
            | "jobs"
            | "resourcequotas"
            | "horizontalpodautoscalers" => Vec::new(),
            _ => return None,
        })
    }

    /// A Deployment with its status.
    pub fn with_status(&self, deployment: &Value) -> Value {
        let staying = self.staying(deployment);
        let count = |which: &dyn Fn(&Pod) -> bool| staying.iter().filter(|it| which(it)).count();
        let ready = count(&|pod| pod.endpoint().is_some());
        let updated = count(&|pod| pod.revision == revision(deployment));
        let mut deployment = deployment.clone();
        deployment["status"] = json!({
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": staying.len(), "updatedReplicas": updated,
            "readyReplicas": ready, "availableReplicas": ready,
        });
        deployment
    }

    fn staying(&self, deployment: &Value) -> Vec<&Pod> {
        let its = |pod: &&Pod| pod.deployment == name(deployment) && pod.ending.is_none();
        self.pods.iter().filter(its).collect()
    }

    /// A ReplicaSet for each template with pods, and for the newest template.
    fn replica_sets(&self, deployment: &Value) -> Vec<Value> {
        let staying = self.staying(deployment);
        let mut revisions: Vec<u64> = staying.iter().map(|pod| pod.revision).collect();
        revisions.push(revision(deployment));
        revisions.sort_unstable();
        revisions.dedup();
        let sets = revisions.into_iter().map(|revision| {
            let its = staying.iter().filter(|pod| pod.revision == revision);
            let ready = its.clone().filter(|pod| pod.endpoint().is_some()).count();
            let set = format!("{}-{revision}", name(deployment));
            json!({
                "metadata": {
                    "name": set, "uid": set, "labels": deployment["metadata"]["labels"],
                    "annotations": {REVISION: revision.to_string()},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment",
                        "name": name(deployment), "uid": deployment["metadata"]["uid"]}],
                },
                "spec": {"selector": deployment["spec"]["selector"]},
                "status": {"replicas": its.count(), "readyReplicas": ready},
            })
        });
        sets.collect()
    }

    fn endpoint_slice(&self, service: &str) -> Value {
        let listening = self.selected(service).filter(|it| it.listening().is_some());
        let endpoints: Vec<Value> = listening
            .map(|pod| {
                json!({"addresses": ["127.0.0.1"],
                    "conditions": {"ready": pod.endpoint().is_some()},
                    "targetRef": {"kind": "Pod", "name": pod.name}})
            })
            .collect();
        json!({
            "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [],
        })
    }

    fn service_endpoints(&self, service: &str) -> Value {
        let listening = self.selected(service).filter(|it| it.listening().is_some());
        let (ready, others): (Vec<&Pod>, Vec<&Pod>) =
            listening.partition(|it| it.endpoint().is_some());
        let addresses = |pods: Vec<&Pod>| -> Vec<Value> {
            let its = |pod: &Pod| json!({"kind": "Pod", "name": pod.name});
            let addresses = pods.into_iter();
            addresses
                .map(|it| json!({"ip": "127.0.0.1", "targetRef": its(it)}))
                .collect()
        };
        json!({
            "metadata": {"name": service},
            "subsets": [{"addresses": addresses(ready), "notReadyAddresses": addresses(others)}],
        })
    }

    /// Whether the pod serves no traffic, so that its end is not a loss.
    pub fn may_end(&self, pod: &Pod, service: &str) -> bool {
        pod.ending.is_some() || !self.selected(service).any(|it| it.name == pod.name)
    }

    /// Why the pods of a Service will not become ready.
    pub fn permanent_problem(&self, service: &str) -> Option<String> {
        self.selected(service).find_map(|pod| match &pod.state {
            State::Waiting { message, .. } => Some(message.clone()),
            State::Ended { how, .. } => Some(format!("it ended with {how}")),
            State::Starting | State::Running { .. } => None,
        })
    }
}

fn wanted(deployment: &Value) -> usize {
    // Kubernetes' default.
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    usize::try_from(wanted).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
