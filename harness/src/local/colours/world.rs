//! What is wanted, what there is, and what has to be done about the difference: the part of
//! Kubernetes' controllers that a release uses, without anything that takes time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod::{Pod, State};
use crate::api_server::store::{REVISION, Store, name_of as name, revision};
use crate::router::Backends;

/// The objects that are written, the pods, and where Services lead.
#[derive(Default)]
pub(super) struct World {
    pub store: Store,
    pub pods: Vec<Pod>,
    /// Of each Service; they follow by themselves.
    pub backends: BTreeMap<String, Behind>,
    born: u64,
}

/// The pods behind a Service, by what they are asked for.
#[derive(Clone, Default)]
pub(super) struct Behind {
    pub http: Backends,
    pub metrics: Backends,
}

impl World {
    /// Has the pods and the Services follow what is wanted. Tells the pods that have come into
    /// being: their processes are to be started.
    pub fn settle(&mut self) -> Vec<Pod> {
        let deployments: Vec<Value> = self.store.list("deployments").cloned().collect();
        let born = deployments.iter().flat_map(|it| self.follow(it)).collect();
        for (service, backends) in &self.backends {
            let ready = self.behind(service).filter_map(Pod::endpoint);
            let (http, metrics) = ready.map(|it| (it.address, it.metrics)).unzip();
            backends.http.set(http);
            backends.metrics.set(metrics);
        }
        born
    }

    /// New pods first; those of an earlier template end once there are enough that are ready.
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
        // The youngest first, and before them what does not serve.
        let mut surplus = newest;
        surplus.reverse();
        surplus.sort_by_key(|it| ready(it));
        surplus.truncate(has.saturating_sub(wanted));
        let old = old.into_iter().filter(|_| enough);
        for pod in surplus.into_iter().chain(old) {
            pod.ending = Some(Timestamp::now());
            pod.end.cancel();
        }
        let born: Vec<Pod> = (has..wanted).map(|_| self.bear(deployment)).collect();
        self.pods.extend(born.iter().cloned());
        born
    }

    fn bear(&mut self, deployment: &Value) -> Pod {
        self.born += 1;
        Pod::of(deployment, self.born)
    }

    /// The pod of this name.
    pub fn pod(&mut self, name: &str) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.name == name)
    }

    /// The pods that a Service selects and that are not on their way out.
    pub fn behind(&self, service: &str) -> impl Iterator<Item = &Pod> {
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

    /// What there is of a resource; none where the resource is not known here.
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
            "events" => self.pods.iter().filter_map(Pod::event).collect(),
            // A release asks whether there are any.
            "jobs" | "resourcequotas" | "horizontalpodautoscalers" => Vec::new(),
            _ => return None,
        })
    }

    /// A Deployment, with how far its rollout is.
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

    /// One for each template that has pods, and for the newest.
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
        let listening = self.behind(service).filter(|it| it.listening().is_some());
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

    /// Whether nothing but the deployer's own affairs hangs on the pod.
    pub fn may_end(&self, pod: &Pod, service: &str) -> bool {
        pod.ending.is_some() || !self.behind(service).any(|it| it.name == pod.name)
    }

    /// What keeps the pods of a Service from serving, where waiting is of no use.
    pub fn hopeless(&self, service: &str) -> Option<String> {
        self.behind(service).find_map(|pod| match &pod.state {
            State::Waiting { message, .. } => Some(message.clone()),
            State::Ended { how, .. } => Some(format!("it ended with {how}")),
            State::Starting | State::Running { .. } => None,
        })
    }
}

fn wanted(deployment: &Value) -> usize {
    // Kubernetes' own default.
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    usize::try_from(wanted).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
