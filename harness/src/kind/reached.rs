//! Whether every service is reached through the ingress.
//!
//! Pods that are ready need not be reached yet: the network lets others speak to a new pod
//! once each node has heard of it (kubernetes.io, "Network Policies", "Pod lifecycle").

use std::time::Duration;

use serde_json::{Value, json};

use crate::bring_up::Context;
use crate::config::Platform;
use crate::entry::Entry;
use crate::environment::{DEMO_INVESTOR, SEEDED_SYMBOL};
use crate::proxies::Proxies;
use crate::wait::{self, Observation, WaitError};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(3);

/// Each of the services behind the gateway, and between them every call that one makes to
/// another but the prediction's.
const THROUGH_EVERY_SERVICE: [&str; 3] = [
    "market-data/quotes",
    "portfolio-manager/portfolios/me",
    "analysis-engine/analysis/portfolio",
];

/// How often each must answer in succession: one answer is of one pod, by way of one.
const TIMES: usize = 4;

/// Waits until the site, the gateway, and all services behind it answer.
pub(super) async fn every_service(
    context: &Context<'_>,
    entry: &Entry,
    platform: &Platform,
) -> Result<(), WaitError> {
    wait::until(
        "every service answers through the ingress",
        context.deadlines.service_ready,
        LOOK_EVERY,
        async || match look(entry, platform, &context.secrets.demo_password).await {
            Ok(()) => Observation::Ready(()),
            Err(seen) => Observation::NotYet(seen),
        },
    )
    .await
}

async fn look(entry: &Entry, platform: &Platform, password: &str) -> Result<(), String> {
    let site = entry.url(&platform.site_host);
    let api = entry.url(&platform.api_host);
    for _ in 0..TIMES {
        // A new connection each time, which may lead to another pod.
        let hosts = [platform.site_host.as_str(), platform.api_host.as_str()];
        let http = entry
            .client(hosts, &Proxies::default())
            .map_err(|error| error.to_string())?;
        answered(http.get(&site)).await?;
        let login = json!({"investor": DEMO_INVESTOR, "password": password});
        let login = answered(http.post(format!("{site}/api/login")).json(&login)).await?;
        let login: Value = login.json().await.map_err(|error| crate::chain(&error))?;
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
    let answer = request.timeout(PATIENCE).send().await;
    let answer = answer.map_err(|error| crate::chain(&error))?;
    match answer.status().is_success() {
        true => Ok(answer),
        false => Err(format!("{} says {}", answer.url(), answer.status())),
    }
}
