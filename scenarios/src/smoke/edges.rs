//! Requests that the platform must refuse.

use std::time::{Duration, Instant};

use environments::capability::Capability;
use futures::StreamExt;
use kubernetes::Action;
use reqwest::Method;
use tokens::{INVESTOR, Tokens};

use super::Smoke;
use crate::client::Response;
use crate::{Mismatch, RunResult, Scenario};

/// A path that needs a token.
const GUARDED: &str = "/api/market-data/quotes";

/// The path prefixes that lead to a service: those of the ingress and of the gateway.
const TO_SERVICES: [&str; 6] = [
    "",
    "/api",
    "/api/market-data",
    "/api/portfolio-manager",
    "/api/analysis-engine",
    "/api/ml-prediction",
];
const DIRECT: &str = "/market-data";

/// The paths of a service that only clients inside the cluster may read.
const INTERNALS: [&str; 4] = ["/metrics", "/health", "/health/ready", "/faults"];

/// Returns the paths of the site's and the API's host that would lead to [`INTERNALS`].
fn internals() -> (Vec<String>, Vec<String>) {
    let below = |prefix: &str| INTERNALS.map(|path| format!("{prefix}{path}"));
    let site: Vec<String> = TO_SERVICES.into_iter().flat_map(below).collect();
    let direct = [format!("{DIRECT}//metrics"), format!("{DIRECT}/%6Detrics")];
    let api = site.iter().cloned().chain(below(DIRECT)).chain(direct);
    (site.clone(), api.collect())
}

impl Smoke<'_> {
    pub(super) async fn edges(&self, scenario: &mut Scenario<'_>) -> RunResult {
        self.bad_tokens(scenario).await?;
        self.internals(scenario).await?;
        self.rate_limit(scenario).await
    }

    async fn bad_tokens(&self, scenario: &mut Scenario<'_>) -> RunResult {
        let good = self.tokens.token("smoke", INVESTOR);
        let unsigned = match good.split('.').collect::<Vec<_>>()[..] {
            // {"alg":"none","typ":"JWT"} (RFC 7519, 6.1)
            [_, claims, _] => format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."),
            _ => String::new(),
        };
        let foreign = Tokens::new("another").token("smoke", INVESTOR);
        let expired = self.tokens.expired("smoke", INVESTOR);
        let bad = [
            ("a request without a token", None),
            ("a token that is none", Some("nonsense".to_owned())),
            ("a token signed with another key", Some(foreign)),
            ("an expired token", Some(expired)),
            ("an unsigned token", Some(unsigned)),
        ];
        for (what, token) in bad {
            scenario
                .check(&format!("{what} is refused"), async {
                    let request = self.client.api(Method::GET, GUARDED);
                    let request = match &token {
                        Some(token) => request.bearer(token),
                        None => request,
                    };
                    let response = request.expect(401).await?;
                    match response.headers.get("www-authenticate") {
                        Some(challenge) if challenge.starts_with("Bearer") => {
                            Ok(((), format!("401, www-authenticate: {challenge}")))
                        }
                        other => {
                            Err(response.mismatch("www-authenticate: Bearer", format!("{other:?}")))
                        }
                    }
                })
                .await?;
        }
        Ok(())
    }

    async fn internals(&self, scenario: &mut Scenario<'_>) -> RunResult {
        scenario
            .check("nobody outside reads metrics, health or faults", async {
                // Its own subject, because the gateway limits the rate of each.
                let token = self.tokens.token("outside", INVESTOR);
                let (site, api) = internals();
                let paths = site.len() + api.len();
                let site = site.iter().map(|path| self.client.site(Method::GET, path));
                let api = api.iter().map(|path| self.client.api(Method::GET, path));
                for request in site.chain(api) {
                    request.bearer(&token).expect(404).await?;
                }
                Ok(((), format!("404 on {paths} paths")))
            })
            .await?;
        Ok(())
    }

    /// The rate limit applies to each client separately.
    async fn rate_limit(&self, scenario: &mut Scenario<'_>) -> RunResult {
        const AT_MOST: usize = 2000;
        const AT_ONCE: usize = 32;
        const LIMITED: &str = "a client over its rate is told 429 and when to come back";
        let burst = Capability::Allowed(Action::Burst);
        if !scenario.can(burst, &[LIMITED]).await? {
            return Ok(());
        }
        scenario
            .check(LIMITED, async {
                let greedy = self.unique_client("greedy");
                let started = Instant::now();
                let sent = futures::stream::iter(0..AT_MOST)
                    .map(|_| self.client.api(Method::GET, GUARDED).bearer(&greedy).send())
                    .buffer_unordered(AT_ONCE);
                let mut responses = std::pin::pin!(sent);
                let mut served = 0;
                while let Some(response) = responses.next().await {
                    let response = response?;
                    match response.status.as_u16() {
                        200 => served += 1,
                        429 => return self.limited(response, served, started.elapsed()).await,
                        _ => return Err(response.mismatch("200 or 429", response.summary())),
                    }
                }
                Err(Mismatch {
                    expected: format!("429 before {AT_MOST} requests"),
                    seen: format!("{served} served in {:?}", started.elapsed()),
                    look_at: self.subject.log_of("api-gateway").display().to_string(),
                    next: "grep RATE_LIMIT_PER_SECOND harness.toml".into(),
                })
            })
            .await?;
        Ok(())
    }

    /// Checks that `refused` affects one client only, and for a limited time.
    async fn limited(
        &self,
        refused: Response,
        served: usize,
        after: Duration,
    ) -> Result<((), String), Mismatch> {
        let Some(seconds) = refused.headers.get("retry-after").cloned() else {
            return Err(refused.mismatch("a retry-after header", "none"));
        };
        // The gateway limits each token. An ingress limits our address, with any token.
        let effect = match refused.instance(&self.subject.version_sources.headers) {
            "" => {
                wait_for_retry(&refused, &seconds).await?;
                "it is served again then"
            }
            _ => "another client is served",
        };
        let modest = self.unique_client("modest");
        let request = self.client.api(Method::GET, GUARDED).bearer(&modest);
        request.expect(200).await?;
        let after = base::duration::human(base::run::millis(after));
        let seen = format!("429 after {served} in {after}, retry-after {seconds} s; {effect}");
        Ok(((), seen))
    }

    /// Returns the token of a client that has sent no requests yet.
    fn unique_client(&self, name: &str) -> String {
        let subject = format!("{name}-{:08x}", rand::random::<u32>());
        self.tokens.token(&subject, INVESTOR)
    }
}

/// Waits for the time of `retry-after`.
async fn wait_for_retry(refused: &Response, seconds: &str) -> Result<(), Mismatch> {
    const MAX_SECONDS: u64 = 10;
    let Some(wait) = seconds.parse().ok().filter(|it| *it <= MAX_SECONDS) else {
        let expected = format!("retry-after of at most {MAX_SECONDS} seconds");
        return Err(refused.mismatch(expected, seconds));
    };
    tokio::time::sleep(Duration::from_secs(wait)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use environments::config::Config;

    use super::*;

    #[test]
    fn internal_paths_are_requested_below_every_route() {
        let text = include_str!("../../../harness.toml");
        let config = Config::parse(Path::new("harness.toml"), text).unwrap();
        let (site, api) = internals();
        for route in &config.routes {
            let paths = match route.host == config.platform.site_host {
                true => &site,
                false => &api,
            };
            // The literal part of a regex.
            let prefix = route.path.split('(').next().unwrap_or_default();
            let metrics = format!("{}/metrics", prefix.trim_end_matches('/'));
            assert!(paths.contains(&metrics), "{} {metrics}", route.host);
        }
    }
}
