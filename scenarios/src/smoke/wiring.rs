//! Every route leads to its service, in the expected version.

use std::collections::BTreeMap;

use harness::environment::SEEDED_SYMBOL;
use harness::run::RunFolderError;
use harness::service::Service;
use reqwest::Method;
use serde_json::json;

use super::Smoke;
use crate::client::{Answer, Call};
use crate::{Mismatch, Scenario};

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
        const ASKED: u64 = 8;
        let looked = scenario.check("requests are counted in /metrics", async {
            let (before, _) = self.counts().await?;
            let mut served: BTreeMap<String, u64> = BTreeMap::new();
            for _ in 0..ASKED {
                let path = format!("/market-data/quotes/{SEEDED_SYMBOL}");
                let call = self.client.api(Method::GET, &path);
                let answer = call.send().await?.expect(200)?;
                *served.entry(answer.instance().to_owned()).or_default() += 1;
            }
            let (after, answer) = self.counts().await?;
            let known = served.iter().filter_map(|(instance, served)| {
                let counted = after.get(instance)? - before.get(instance)?;
                Some((instance, *served, counted))
            });
            let known: Vec<_> = known.collect();
            match known.iter().find(|(_, served, counted)| counted < served) {
                Some((instance, served, counted)) => Err(answer.mismatch(
                    format!("http_requests_total of {instance} up by {served} or more"),
                    format!("up by {counted}"),
                )),
                None if known.is_empty() => Err(answer.mismatch(
                    "/metrics of an instance that answered",
                    format!("those of {:?}", after.keys()),
                )),
                None => Ok((
                    (),
                    format!("{ASKED} asked, {} instances counted them", known.len()),
                )),
            }
        });
        looked.await.map(|_| ())
    }

    /// Quotes counted by each instance that a few looks find.
    async fn counts(&self) -> Result<(BTreeMap<String, u64>, Answer), Mismatch> {
        const LOOKS: usize = 8;
        let look = async || {
            let call = self.client.api(Method::GET, "/market-data/metrics");
            call.send().await?.expect(200)
        };
        let mut answer = look().await?;
        let mut counts = BTreeMap::new();
        for _ in 1..LOOKS {
            counts.insert(answer.instance().to_owned(), sum_of_quotes(&answer.text));
            answer = look().await?;
        }
        counts.insert(answer.instance().to_owned(), sum_of_quotes(&answer.text));
        Ok((counts, answer))
    }
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

/// `http_requests_total` of one quote, successful, over all label sets that say so.
fn sum_of_quotes(metrics: &str) -> u64 {
    metrics
        .lines()
        .filter(|line| line.starts_with("http_requests_total{"))
        .filter(|line| line.contains("/quotes/{symbol}\"") && line.contains("status=\"200\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>() as u64
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

    #[test]
    fn only_successful_quotes_are_summed() {
        let metrics = "\
# TYPE http_requests_total counter\n\
http_requests_total{method=\"GET\",route=\"/quotes/{symbol}\",status=\"200\"} 7\n\
http_requests_total{method=\"GET\",route=\"/quotes/{symbol}\",status=\"404\"} 2\n\
http_requests_total{method=\"GET\",route=\"/quotes\",status=\"200\"} 3\n";
        assert_eq!(sum_of_quotes(metrics), 7);
    }
}
