//! Checks that every service answers through the ingress.
//!
//! A ready pod may not be reachable yet: a network policy may take time to apply to a new pod
//! (kubernetes.io, "Network Policies", "Pod lifecycle").

use std::time::Duration;

use serde_json::{Value, json};

use crate::bring_up::Context;
use crate::config::Platform;
use crate::environment::{DEMO_INVESTOR, SEEDED_SYMBOL};
use base::entry_point::EntryPoint;
use base::proxies::Proxies;
use base::wait::{self, Observation, WaitError};

const TRY_EVERY: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_secs(3);

/// Requests that use each service behind the gateway, and each call between services except the
/// prediction's.
const THROUGH_EVERY_SERVICE: [&str; 3] = [
    "market-data/quotes",
    "portfolio-manager/portfolios/me",
    "analysis-engine/analysis/portfolio",
];

/// How often each must answer in succession: one answer shows only one path through the pods.
const TIMES: usize = 4;

/// Waits until the site, the gateway, and all services behind it answer.
pub(super) async fn every_service(
    context: &Context<'_>,
    entry: &EntryPoint,
    platform: &Platform,
) -> Result<(), WaitError> {
    wait::until(
        "every service answers through the ingress",
        context.deadlines.service_ready,
        TRY_EVERY,
        async || match try_all(entry, platform, &context.secrets.demo_password).await {
            Ok(()) => Observation::Ready(()),
            Err(seen) => Observation::NotYet(seen),
        },
    )
    .await
}

async fn try_all(entry: &EntryPoint, platform: &Platform, password: &str) -> Result<(), String> {
    let site = entry.url(&platform.site_host);
    let api = entry.url(&platform.api_host);
    for _ in 0..TIMES {
        // A new connection each time may reach another pod.
        let hosts = [platform.site_host.as_str(), platform.api_host.as_str()];
        let http = entry
            .client(hosts, &Proxies::default())
            .map_err(|error| error.to_string())?;
        answered(http.get(&site)).await?;
        let login = json!({"investor": DEMO_INVESTOR, "password": password});
        let login = answered(http.post(format!("{site}/api/login")).json(&login)).await?;
        let login: Value = login.json().await.map_err(|error| base::chain(&error))?;
        let token = login["token"].as_str().unwrap_or_default();
        for path in THROUGH_EVERY_SERVICE {
            let url = format!("{api}/api/{path}");
            answered(http.get(url).bearer_auth(token)).await?;
        }
        let predicted = http.post(format!("{api}/api/ml-prediction/predictions"));
        let symbol = json!({"symbol": SEEDED_SYMBOL});
        answered(predicted.bearer_auth(token).json(&symbol)).await?;
    }
    Ok(())
}

async fn answered(request: reqwest::RequestBuilder) -> Result<reqwest::Response, String> {
    let answer = request.timeout(TIMEOUT).send().await;
    let answer = answer.map_err(|error| base::chain(&error))?;
    match answer.status().is_success() {
        true => Ok(answer),
        false => Err(format!("{} answers {}", answer.url(), answer.status())),
    }
}
