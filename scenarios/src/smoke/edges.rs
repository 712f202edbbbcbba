//! What must be refused is refused.

use std::time::{Duration, Instant};

use futures::StreamExt;
use harness::capability::Capability;
use harness::config::remote::Action;
use harness::run::RunFolderError;
use harness::service::Service;
use reqwest::Method;

use super::Smoke;
use crate::client::Answer;
use crate::{Mismatch, Scenario};
use harness::tokens::{INVESTOR, Tokens};

/// Anything that needs a token.
const GUARDED: &str = "/api/market-data/quotes";

/// What leads to a service, by host: the routes, and the gateway's own.
const TO_SERVICES: [&str; 6] = [
    "",
    "/api",
    "/api/market-data",
    "/api/portfolio-manager",
    "/api/analysis-engine",
    "/api/ml-prediction",
];
const DIRECT: &str = "/market-data";

/// What a service tells those inside.
const INTERNALS: [&str; 4] = ["/metrics", "/health", "/health/ready", "/faults"];

/// Where the site's host, and the API's, would tell it, were it routed.
fn internals() -> (Vec<String>, Vec<String>) {
    let below = |prefix: &str| INTERNALS.map(|path| format!("{prefix}{path}"));
    let site: Vec<String> = TO_SERVICES.into_iter().flat_map(below).collect();
    let direct = [format!("{DIRECT}//metrics"), format!("{DIRECT}/%6Detrics")];
    let api = site.iter().cloned().chain(below(DIRECT)).chain(direct);
    (site.clone(), api.collect())
}

impl Smoke<'_> {
    pub(super) async fn edges(&self, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
        self.bad_tokens(scenario).await?;
        self.unknown_routes(scenario).await?;
        self.internals(scenario).await?;
        self.rate_limit(scenario).await
    }

    async fn bad_tokens(&self, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
        let good = self.tokens.token("smoke", INVESTOR);
        let unsigned = match good.split('.').collect::<Vec<_>>()[..] {
            // {"alg":"none","typ":"JWT"}, as RFC 7519 6.1 has it: never to be accepted.
            [_, claims, _] => format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."),
            _ => String::new(),
        };
        let bad = [
            ("a request without a token", None),
            ("a token that is none", Some("nonsense".to_owned())),
            (
                "a token signed with another key",
                Some(Tokens::new("another").token("smoke", INVESTOR)),
            ),
            (
                "an expired token",
                Some(self.tokens.expired("smoke", INVESTOR)),
            ),
            ("an unsigned token", Some(unsigned)),
        ];
        for (what, token) in bad {
            scenario
                .check(&format!("{what} is refused"), async {
                    let call = self.client.api(Method::GET, GUARDED);
                    let call = match &token {
                        Some(token) => call.bearer(token),
                        None => call,
                    };
                    let answer = call.send().await?.expect(401)?;
                    match answer.headers.get("www-authenticate") {
                        Some(challenge) if challenge.starts_with("Bearer") => {
                            Ok(((), format!("401, www-authenticate: {challenge}")))
                        }
                        other => {
                            Err(answer.mismatch("www-authenticate: Bearer", format!("{other:?}")))
                        }
                    }
                })
                .await?;
        }
        scenario
            .check("a wrong password is refused", async {
                let call = self.client.site(Method::POST, "/api/login");
                let wrong = serde_json::json!({"investor": "demo", "password": "wrong"});
                call.json(wrong).send().await?.expect(401)?;
                Ok(((), "401".into()))
            })
            .await?;
        Ok(())
    }

    async fn unknown_routes(&self, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
        let token = self.tokens.token("smoke", INVESTOR);
        let unknown = [
            (
                Service::FrontendApp,
                self.client.site(Method::GET, "/no-such-page"),
            ),
            (
                Service::ApiGateway,
                self.client
                    .api(Method::GET, "/api/no-such-service")
                    .bearer(&token),
            ),
            (
                Service::MarketDataService,
                self.client.api(Method::GET, "/market-data/no-such-thing"),
            ),
        ];
        for (service, call) in unknown {
            let version = self.subject.version(service);
            scenario
                .check(&format!("an unknown route of {service} is 404"), async {
                    let answer = call
                        .send()
                        .await?
                        .expect(404)?
                        .expect_from(service, version)?;
                    Ok(((), format!("404 from {}", answer.instance())))
                })
                .await?;
        }
        scenario
            .check("an unknown host is 404", async {
                let call = self.client.with_host("unknown.example", "/");
                let answer = call.send().await?.expect(404)?;
                match answer.instance() {
                    "" => Ok(((), "404 from no service".into())),
                    instance => Err(answer.mismatch("no service's answer", instance)),
                }
            })
            .await?;
        Ok(())
    }

    /// Metrics, health and faults are for those inside, whatever leads to their service.
    async fn internals(&self, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
        scenario
            .check("nobody outside reads metrics, health or faults", async {
                // A subject of its own: the gateway counts each one's requests.
                let token = self.tokens.token("outside", INVESTOR);
                let (site, api) = internals();
                let asked = site.len() + api.len();
                let site = site.iter().map(|path| self.client.site(Method::GET, path));
                let api = api.iter().map(|path| self.client.api(Method::GET, path));
                for call in site.chain(api) {
                    call.bearer(&token).send().await?.expect(404)?;
                }
                Ok(((), format!("404 on {asked} paths")))
            })
            .await?;
        Ok(())
    }

    /// One client is held to its limit, and only that one.
    async fn rate_limit(&self, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
        const AT_MOST: usize = 2000;
        const AT_ONCE: usize = 32;
        const LIMITED: &str = "a client over its rate is told 429 and when to come back";
        let burst = Capability::Allowed(Action::Burst);
        if !scenario.can(burst, &[LIMITED]).await? {
            return Ok(());
        }
        scenario
            .check(LIMITED, async {
                let greedy = self
                    .tokens
                    .token(&format!("greedy-{:08x}", rand::random::<u32>()), INVESTOR);
                let begun = Instant::now();
                let asked = futures::stream::iter(0..AT_MOST)
                    .map(|_| self.client.api(Method::GET, GUARDED).bearer(&greedy).send())
                    .buffer_unordered(AT_ONCE);
                let mut answers = std::pin::pin!(asked);
                let mut served = 0;
                while let Some(answer) = answers.next().await {
                    let answer = answer?;
                    match answer.status.as_u16() {
                        200 => served += 1,
                        429 => return self.come_back(answer, served, begun.elapsed()).await,
                        _ => return Err(answer.mismatch("200 or 429", answer.in_words())),
                    }
                }
                Err(Mismatch {
                    expected: format!("429 before {AT_MOST} requests"),
                    seen: format!("{served} served in {:?}", begun.elapsed()),
                    look_at: self.subject.log_of("api-gateway").display().to_string(),
                    next: "grep RATE_LIMIT_PER_SECOND harness.toml".into(),
                })
            })
            .await?;
        Ok(())
    }

    async fn come_back(
        &self,
        refused: Answer,
        served: usize,
        after: Duration,
    ) -> Result<((), String), Mismatch> {
        let Some(seconds) = refused.headers.get("retry-after").cloned() else {
            return Err(refused.mismatch("a retry-after header", "none"));
        };
        // The gateway limits a token. An ingress limits an address, which is ours, too.
        let whose = match refused.instance() {
            "" => {
                self.let_in_again(&refused, &seconds).await?;
                "it is let in again then"
            }
            _ => {
                self.as_another_client().await?.expect(200)?;
                "another client is served"
            }
        };
        let after = harness::duration::human(harness::run::millis(after));
        Ok((
            (),
            format!("429 after {served} in {after}, retry-after {seconds} s; {whose}"),
        ))
    }

    async fn as_another_client(&self) -> Result<Answer, Mismatch> {
        let modest = self
            .tokens
            .token(&format!("modest-{:08x}", rand::random::<u32>()), INVESTOR);
        let call = self.client.api(Method::GET, GUARDED).bearer(&modest);
        call.send().await
    }

    /// Once the time is over that we were told to wait.
    async fn let_in_again(&self, refused: &Answer, seconds: &str) -> Result<(), Mismatch> {
        const MOST: u64 = 10;
        let Some(wait) = seconds.parse().ok().filter(|wait| *wait <= MOST) else {
            let expected = format!("retry-after of at most {MOST} seconds");
            return Err(refused.mismatch(expected, seconds));
        };
        tokio::time::sleep(Duration::from_secs(wait)).await;
        self.as_another_client().await?.expect(200).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use harness::config::Config;

    use super::*;

    #[test]
    fn internals_are_asked_below_every_route() {
        let text = include_str!("../../../harness.toml");
        let config = Config::parse(Path::new("harness.toml"), text).unwrap();
        let (site, api) = internals();
        for route in &config.routes {
            let asked = match route.host == config.platform.site_host {
                true => &site,
                false => &api,
            };
            // Of a regex what is literal.
            let prefix = route.path.split('(').next().unwrap_or_default();
            let metrics = format!("{}/metrics", prefix.trim_end_matches('/'));
            assert!(asked.contains(&metrics), "{} {metrics}", route.host);
        }
    }
}
