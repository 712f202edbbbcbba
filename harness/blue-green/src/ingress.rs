//! Error responses of the ingress itself, 502, 503 or 504: it reaches no pod, so no pod counts
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Deserialize;

use super::objects::ServiceObjects;
use super::traffic::exposition::{self, Sample};
use super::traffic::{self, Refusals};

/// The metrics of an ingress controller: `[blue_green.ingress]` of `harness.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressMetrics {
    /// The namespace of its pods.
    pub namespace: String,
    /// The labels that select them.
    pub pods: String,
    /// The port of their `/metrics`.
    pub port: u16,
    /// The counter of responses by `code` or `status`.
    pub requests: String,
    /// The labels of requests to a service. `{namespace}` and `{service}` are replaced by its own;
    /// a `*` at the end matches any suffix.
    pub labels: BTreeMap<String, String>,
}

/// Reads the metrics of all pods of the controller concurrently, for `timeout` at most. A pod that
/// does not answer is left out.
///
/// # Errors
/// Why no pod could be read.
pub(super) async fn refusals(
    objects: &ServiceObjects<'_>,
    metrics: &IngressMetrics,
    timeout: Duration,
) -> Result<Refusals, String> {
    let client = objects.cluster.client();
    let api: Api<Pod> = Api::namespaced(client.clone(), &metrics.namespace);
    let selected = ListParams::default().labels(&metrics.pods);
    let listed = tokio::time::timeout(timeout, api.list(&selected)).await;
    let listed = listed.map_err(|_| format!("no answer within {timeout:?}"))?;
    let pods = listed.map_err(|error| base::chain(&error))?.items;
    if pods.is_empty() {
        let (namespace, pods) = (&metrics.namespace, &metrics.pods);
        return Err(format!(
            "no pod has the labels {pods:?} in namespace {namespace}"
        ));
    }
    let read = pods.iter().map(async |pod| {
        let (namespace, name) = (&metrics.namespace, pod.name_any());
        let page = traffic::page(client, namespace, &name, i32::from(metrics.port), timeout);
        let refused = counted(&page.await?, objects, metrics)?;
        Ok::<_, String>((pod.uid().unwrap_or(name), refused))
    });
    let (read, failed): (Vec<_>, Vec<_>) =
        join_all(read).await.into_iter().partition(Result::is_ok);
    match (read.is_empty(), failed.into_iter().find_map(Result::err)) {
        (true, Some(why)) => Err(why),
        _ => Ok(read.into_iter().flatten().collect()),
    }
}

/// Returns how many of its own error responses a page counts.
fn counted(
    page: &str,
    objects: &ServiceObjects<'_>,
    metrics: &IngressMetrics,
) -> Result<u64, String> {
    let samples = exposition::samples(page, |name| name == metrics.requests);
    let samples = samples.map_err(|error| error.to_string())?;
    let own = samples.iter().filter(|it| is_own_answer(it));
    let refused = own.filter(|it| is_for_service(it, objects, metrics));
    refused.map(traffic::count).sum()
}

/// RFC 9110, 15.6.3 to 15.6.5: the responses of a gateway.
fn is_own_answer(sample: &Sample<'_>) -> bool {
    let status = sample.label("code").or_else(|| sample.label("status"));
    matches!(status, Some("502" | "503" | "504"))
}

fn is_for_service(
    sample: &Sample<'_>,
    objects: &ServiceObjects<'_>,
    metrics: &IngressMetrics,
) -> bool {
    let (namespace, service) = (&objects.cluster.namespace, objects.service);
    metrics.labels.iter().all(|(name, pattern)| {
        let wanted = pattern.replace("{namespace}", namespace);
        let wanted = wanted.replace("{service}", service);
        let label = sample.label(name);
        label.is_some_and(|value| match wanted.strip_suffix('*') {
            Some(prefix) => value.starts_with(prefix),
            None => value == wanted,
        })
    })
}
