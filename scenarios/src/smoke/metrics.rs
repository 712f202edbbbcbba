//! Requests are counted, as Prometheus and releases read them.

use std::collections::BTreeMap;
use std::time::Duration;

use blue_green::traffic::{MetricNames, Reading, Window};
use environments::environment::SEEDED_SYMBOL;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use reqwest::Method;

use super::Smoke;
use crate::{Mismatch, RunResult, Scenario};

/// The service whose counters are read. Every target has pods of it, or processes instead.
const COUNTED: &str = "market-data-service";

/// For one read of a pod's counters.
const POD_TIMEOUT: Duration = Duration::from_secs(5);

impl Smoke<'_> {
    pub(super) async fn counted(&self, scenario: &mut Scenario<'_>) -> RunResult {
        const CLAIM: &str = "requests are counted in /metrics";
        const REQUESTS: u64 = 8;
        let before = self.counters().await;
        if let Some(because) = forbidden(&before) {
            return scenario.skip(CLAIM, &because).await;
        }
        let checked = scenario.check(CLAIM, async {
            let before = before.map_err(|why| self.unread(why))?;
            let mut served: BTreeMap<String, u64> = BTreeMap::new();
            for _ in 0..REQUESTS {
                let path = format!("/market-data/quotes/{SEEDED_SYMBOL}");
                let request = self.client.api(Method::GET, &path);
                let response = request.expect(200).await?;
                let instance = response.instance(&self.subject.version_sources.headers);
                *served.entry(instance.to_owned()).or_default() += 1;
            }
            let after = self.counters().await.map_err(|why| self.unread(why))?;
            let known = served.iter().filter_map(|(instance, served)| {
                let window = Window::between(before.get(instance)?, after.get(instance)?);
                (window.pods == 1).then_some((instance, *served, window.requests))
            });
            let known: Vec<_> = known.collect();
            match known.iter().find(|(_, served, counted)| counted < served) {
                Some((instance, served, counted)) => Err(Mismatch {
                    expected: format!("http_requests_total of {instance} up by {served} or more"),
                    ..self.unread(format!("up by {counted}"))
                }),
                None if known.is_empty() => {
                    let unread = after.values().flat_map(Reading::unread);
                    let reasons: Vec<_> = unread.map(|it| it.reason).collect();
                    Err(self.unread(format!("{:?} {}", after.keys(), reasons.join("; "))))
                }
                None => {
                    let instances = known.len();
                    Ok((
                        (),
                        format!("{REQUESTS} requests, {instances} instances counted them"),
                    ))
                }
            }
        });
        checked.await.map(drop)
    }

    /// Reads the counters of each pod of the service, by pod name. It reads through the API server,
    /// because nothing outside the cluster may read them directly.
    async fn counters(&self) -> Result<BTreeMap<String, Reading>, String> {
        let access = self.subject.environment.releases();
        let access = access.ok_or("the environment gives no access to its pods")?;
        let cluster = access.open().await.map_err(|error| base::chain(&error))?;
        let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
        let its = ListParams::default().labels(&format!("app.kubernetes.io/name={COUNTED}"));
        let pods = pods.list(&its).await;
        let pods = pods.map_err(|error| base::chain(&error))?;
        let names = MetricNames::default();
        let read = pods.into_iter().map(async |pod| {
            let pods = std::slice::from_ref(&pod);
            let reading = Reading::of(&cluster, pods, &names, POD_TIMEOUT).await;
            (pod.name_any(), reading)
        });
        Ok(join_all(read).await.into_iter().collect())
    }

    fn unread(&self, seen: String) -> Mismatch {
        Mismatch {
            expected: format!("/metrics of a pod of {COUNTED} that answered"),
            seen,
            look_at: self.subject.log_of(COUNTED).display().to_string(),
            next: "kubectl get --raw /api/v1/namespaces/NAMESPACE/pods/POD:9090/proxy/metrics"
                .into(),
        }
    }
}

/// Returns why the user may not read the pods. That is no failure of the platform.
fn forbidden(counters: &Result<BTreeMap<String, Reading>, String>) -> Option<String> {
    let reasons = match counters {
        Ok(counters) => {
            let unread = counters.values().flat_map(Reading::unread);
            unread.map(|it| it.reason).collect()
        }
        Err(why) => vec![why.clone()],
    };
    let forbidden = reasons.into_iter().find(|it| it.contains("forbidden"))?;
    Some(format!("pods are read through the API server: {forbidden}"))
}
