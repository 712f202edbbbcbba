//! Every route leads to its service, in the expected version.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use harness::blue_green::traffic::{MetricNames, Reading, Window};
use harness::environment::SEEDED_SYMBOL;
use harness::run::RunFolderError;
use harness::service::Service;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use reqwest::Method;
use serde_json::json;

use super::Smoke;
use crate::client::Call;
use crate::{Mismatch, Scenario};

/// Whose requests are looked at: every target has its pods, or what stands for them.
const COUNTED: Service = Service::MarketDataService;

/// For a pod to tell what it has counted.
const POD_ANSWERS: Duration = Duration::from_secs(5);

impl Smoke<'_> {
    pub(super) async fn wiring(
        &self,
        scenario: &mut Scenario<'_>,
        investor: Option<&str>,
    ) -> Result<(), RunFolderError> {
        use Service::*;
        let (client, get) = (&self.client, || Method::GET);
        self.route(scenario, FrontendApp, "/", client.site(get(), "/"))
            .await?;
        self.page(scenario).await?;
        let direct = client.api(get(), &format!("/market-data/quotes/{SEEDED_SYMBOL}"));
        self.route(
            scenario,
            MarketDataService,
            "/market-data, rewritten",
            direct,
        )
        .await?;
        for (service, route, call) in self.behind_the_gateway() {
            match investor {
                Some(token) => {
                    self.route(scenario, service, &route, call.bearer(token))
                        .await?
                }
                None => {
                    let claim = claim(service, &route);
                    scenario.skip(&claim, "nobody could log in").await?;
                }
            }
        }
        self.counted(scenario).await
    }

    fn behind_the_gateway(&self) -> Vec<(Service, String, Call<'_>)> {
        use Service::*;
        let symbol = SEEDED_SYMBOL;
        let api = |service, method, path: String| {
            let call = self.client.api(method, &path);
            (service, path, call)
        };
        let prediction = api(
            MlPredictionService,
            Method::POST,
            "/api/ml-prediction/predictions".into(),
        );
        vec![
            api(
                MarketDataService,
                Method::GET,
                format!("/api/market-data/quotes/{symbol}"),
            ),
            api(
                PortfolioManagerService,
                Method::GET,
                "/api/portfolio-manager/portfolios/me".into(),
            ),
            api(
                AnalysisEngineService,
                Method::GET,
                format!("/api/analysis-engine/analysis/symbols/{symbol}"),
            ),
            (
                prediction.0,
                prediction.1,
                prediction.2.json(json!({"symbol": symbol})),
            ),
        ]
    }

    async fn route(
        &self,
        scenario: &mut Scenario<'_>,
        service: Service,
        route: &str,
        call: Call<'_>,
    ) -> Result<(), RunFolderError> {
        let version = self.subject.version(service);
        let claim = claim(service, route);
        let answered = scenario.check(&claim, async {
            let answer = call
                .send()
                .await?
                .expect(200)?
                .expect_from(service, version)?;
            Ok(((), format!("200 from {} {version}", answer.instance())))
        });
        answered.await.map(|_| ())
    }

    /// The frontend's page is whole: nothing on it comes from elsewhere.
    async fn page(&self, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
        let looked = scenario.check("the frontend's page is whole by itself", async {
            let answer = self
                .client
                .site(Method::GET, "/")
                .send()
                .await?
                .expect(200)?;
            let kind = answer
                .headers
                .get("content-type")
                .cloned()
                .unwrap_or_default();
            if !kind.starts_with("text/html") || !answer.text.contains("<title>TRII") {
                return Err(answer.mismatch(
                    "an HTML page titled TRII",
                    format!("{kind}: {}", answer.in_words()),
                ));
            }
            match foreign_asset(&answer.text) {
                Some(asset) => Err(answer.mismatch("no asset from elsewhere", asset)),
                None => Ok((
                    (),
                    format!(
                        "{} bytes of HTML, no asset from elsewhere",
                        answer.text.len()
                    ),
                )),
            }
        });
        looked.await.map(|_| ())
    }

    /// What is asked is counted by whoever answers: Prometheus will see it.
    async fn counted(&self, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
        const CLAIM: &str = "requests are counted in /metrics";
        const ASKED: u64 = 8;
        let before = self.counters().await;
        if let Some(because) = forbidden(&before) {
            return scenario.skip(CLAIM, &because).await;
        }
        let looked = scenario.check(CLAIM, async {
            let before = before.map_err(|why| self.unread(why))?;
            let mut served: BTreeMap<String, u64> = BTreeMap::new();
            for _ in 0..ASKED {
                let path = format!("/market-data/quotes/{SEEDED_SYMBOL}");
                let call = self.client.api(Method::GET, &path);
                let answer = call.send().await?.expect(200)?;
                *served.entry(answer.instance().to_owned()).or_default() += 1;
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
                None => Ok((
                    (),
                    format!("{ASKED} asked, {} instances counted them", known.len()),
                )),
            }
        });
        looked.await.map(|_| ())
    }

    /// What each pod of the service has counted, by its name, asked through the API server:
    /// from outside nobody may.
    async fn counters(&self) -> Result<BTreeMap<String, Reading>, String> {
        let place = self.subject.environment.releases();
        let place = place.ok_or("nobody tells of the environment's pods")?;
        let cluster = place.open().await.map_err(|error| harness::chain(&error))?;
        let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
        let its = ListParams::default().labels(&format!("app.kubernetes.io/name={COUNTED}"));
        let pods = pods.list(&its).await;
        let pods = pods.map_err(|error| harness::chain(&error))?;
        let names = MetricNames::default();
        let read = pods.into_iter().map(async |pod| {
            let pods = std::slice::from_ref(&pod);
            let reading = Reading::of(&cluster, pods, &names, POD_ANSWERS).await;
            (pod.name_any(), reading)
        });
        Ok(join_all(read).await.into_iter().collect())
    }

    fn unread(&self, seen: String) -> Mismatch {
        Mismatch {
            expected: format!("/metrics of a pod of {COUNTED} that answered"),
            seen,
            look_at: self.subject.log_of(COUNTED.name()).display().to_string(),
            next: "kubectl get --raw /api/v1/namespaces/NAMESPACE/pods/POD:9090/proxy/metrics"
                .into(),
        }
    }
}

/// That the user may not ask pods: no verdict on the platform.
fn forbidden(counters: &Result<BTreeMap<String, Reading>, String>) -> Option<String> {
    let reasons = match counters {
        Ok(counters) => {
            let unread = counters.values().flat_map(Reading::unread);
            unread.map(|it| it.reason).collect()
        }
        Err(why) => vec![why.clone()],
    };
    let forbidden = reasons.into_iter().find(|it| it.contains("forbidden"))?;
    Some(format!(
        "pods are asked through the API server: {forbidden}"
    ))
}

fn claim(service: Service, route: &str) -> String {
    format!("{service} answers {route}")
}

/// The first thing a page would fetch from another origin.
fn foreign_asset(html: &str) -> Option<String> {
    let starts = [
        "src=\"http",
        "src=\"//",
        "href=\"http",
        "href=\"//",
        "url(http",
        "url(//",
        "@import",
    ];
    let at = starts.iter().filter_map(|start| html.find(start)).min()?;
    Some(html[at..].chars().take(80).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_from_elsewhere_are_seen() {
        assert_eq!(foreign_asset("<img src=\"data:x\"><a href=\"/x\">"), None);
        assert!(foreign_asset("<script src=\"https://cdn.example/x.js\">").is_some());
        assert!(foreign_asset("<link href=\"//fonts.example/x.css\">").is_some());
    }
}
