//! Waits until the platform answers through the ingress: until the requests of `platform.ready`
//! succeed.
//!
//! A ready pod may not be reachable yet: a network policy may take time to apply to a new pod
//! (kubernetes.io, "Network Policies", "Pod lifecycle").

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hurl_checks::{Entry, HurlFile, Variables};

use crate::bring_up::Context;
use crate::config::Config;
use crate::config::hurl::NamedFileError;
use crate::exchange::exchange;
use base::entry_point::EntryPoint;
use base::proxies::Proxies;
use base::wait::{self, Observation, WaitError};

const TRY_EVERY: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_secs(3);

/// How often the file must succeed in succession: one answer shows only one path through the pods.
const TIMES: usize = 4;

/// Reads the file, if the configuration names one.
///
/// # Errors
/// It cannot be read, or is not valid.
pub(super) fn read(config: &Config, workspace: &Path) -> Result<Option<HurlFile>, NamedFileError> {
    let Some(named) = &config.platform.ready else {
        return Ok(None);
    };
    let known = ["api", "demo_password", "site"].map(str::to_owned);
    let file = config.read_hurl(workspace, &named.path, &named.place, &BTreeSet::from(known));
    file.map(Some)
}

/// Waits until the requests of the file succeed several times in succession.
pub(super) async fn succeeds(
    context: &Context<'_>,
    entry: &EntryPoint,
    file: &HurlFile,
) -> Result<(), WaitError> {
    wait::until(
        format!("{} succeeds", file.path().display()),
        context.deadlines.service_ready,
        TRY_EVERY,
        async || match try_all(context, entry, file).await {
            Ok(()) => Observation::Ready(()),
            Err(seen) => Observation::NotYet(seen),
        },
    )
    .await
}

async fn try_all(context: &Context<'_>, entry: &EntryPoint, file: &HurlFile) -> Result<(), String> {
    let platform = &context.config.platform;
    let hosts = [platform.site_host.as_str(), platform.api_host.as_str()];
    for _ in 0..TIMES {
        // A new connection each time may reach another pod.
        let http = entry.client(hosts, &Proxies::default());
        let http = http.map_err(|error| error.to_string())?;
        let mut variables = Variables::new();
        variables.insert("site", entry.url(&platform.site_host));
        variables.insert("api", entry.url(&platform.api_host));
        variables.insert_secret("demo_password", context.secrets.demo_password.clone());
        for step in file.entries() {
            let sent = try_one(&http, step, &mut variables).await;
            sent.map_err(|seen| format!("line {}: {}", step.line(), variables.redact(&seen)))?;
        }
    }
    Ok(())
}

async fn try_one(
    http: &reqwest::Client,
    step: &Entry,
    variables: &mut Variables,
) -> Result<(), String> {
    let request = step.request(variables).map_err(|error| error.message)?;
    let answer = tokio::time::timeout(TIMEOUT, exchange(http, request)).await;
    let answer = answer.map_err(|_| format!("no answer within {TIMEOUT:?}"))?;
    let answer = answer.map_err(|error| base::chain(&error))?;
    let assertions = step.evaluate(&answer, variables);
    let mut failures = assertions.into_iter().filter_map(|it| it.failure);
    match failures.next() {
        None => Ok(()),
        Some(failure) => Err(format!(
            "expected {}, and it is {}",
            failure.expected, failure.seen
        )),
    }
}
