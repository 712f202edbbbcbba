//! What an ingress answers by itself: 502, 503 or 504, where no pod takes a request. The pods
//! have counted nothing of it then.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Deserialize;

use super::objects::Objects;
use super::traffic;
use super::traffic::exposition::{self, Sample};

/// Where an ingress controller counts its answers: `[blue_green.ingress]` of `harness.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressMetrics {
    /// The namespace of its pods.
    pub namespace: String,
    /// The labels that select them.
    pub pods: String,
    /// The port of their `/metrics`.
    pub port: u16,
    /// The counter of answers by `code` or `status`.
    pub requests: String,
    /// The labels of what leads to a service; `{namespace}` and `{service}` stand for its own,
    /// and a `*` at the end for any more.
    pub labels: BTreeMap<String, String>,
}

/// By the uid of the controller's pods, how many such answers each has counted.
pub(super) type Refusals = BTreeMap<String, u64>;

/// Asks each pod of the controller at once, for `timeout` at most. One that does not tell is left
/// out.
///
/// # Errors
/// Why nobody could be asked.
pub(super) async fn refusals(
    objects: &Objects<'_>,
    metrics: &IngressMetrics,
    timeout: Duration,
) -> Result<Refusals, String> {
    let client = objects.cluster.client();
    let api: Api<Pod> = Api::namespaced(client.clone(), &metrics.namespace);
    let its = ListParams::default().labels(&metrics.pods);
    let listed = tokio::time::timeout(timeout, api.list(&its)).await;
    let listed = listed.map_err(|_| format!("no answer within {timeout:?}"))?;
    let pods = listed.map_err(|error| crate::chain(&error))?.items;
    if pods.is_empty() {
        let (namespace, pods) = (&metrics.namespace, &metrics.pods);
        return Err(format!("no pod is {pods:?} in the namespace {namespace}"));
    }
    let asked = pods.iter().map(async |pod| {
        let (namespace, name) = (&metrics.namespace, pod.name_any());
        let page = traffic::page(client, namespace, &name, i32::from(metrics.port), timeout);
        let refused = counted(&page.await?, objects, metrics)?;
        Ok::<_, String>((pod.uid().unwrap_or(name), refused))
    });
    let (told, silent): (Vec<_>, Vec<_>) =
        join_all(asked).await.into_iter().partition(Result::is_ok);
    match (told.is_empty(), silent.into_iter().find_map(Result::err)) {
        (true, Some(why)) => Err(why),
        _ => Ok(told.into_iter().flatten().collect()),
    }
}

/// How many answers of its own a page tells of.
fn counted(page: &str, objects: &Objects<'_>, metrics: &IngressMetrics) -> Result<u64, String> {
    let samples = exposition::samples(page, |name| name == metrics.requests);
    let samples = samples.map_err(|error| error.to_string())?;
    let refused = samples
        .iter()
        .filter(|it| is_own_answer(it) && leads_to(it, objects, metrics));
    refused.map(traffic::count).sum()
}

/// RFC 9110, 15.6.3 to 15.6.5: said by whoever stands before a server.
fn is_own_answer(sample: &Sample<'_>) -> bool {
    let status = sample.label("code").or_else(|| sample.label("status"));
    matches!(status, Some("502" | "503" | "504"))
}

fn leads_to(sample: &Sample<'_>, objects: &Objects<'_>, metrics: &IngressMetrics) -> bool {
    let (namespace, service) = (&objects.cluster.namespace, objects.service);
    metrics.labels.iter().all(|(name, pattern)| {
        let wanted = pattern
            .replace("{namespace}", namespace)
            .replace("{service}", service);
        sample
            .label(name)
            .is_some_and(|is| match wanted.strip_suffix('*') {
                Some(start) => is.starts_with(start),
                None => is == wanted,
            })
    })
}
