//! Which version the services of a release serve.

use std::collections::BTreeMap;
use std::time::Duration;

use base::wait::{self, Observation};
use blue_green::VersionSources;
use blue_green::objects::ServiceObjects;
use helm::{Release, live};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::ListParams;
use kubernetes::Cluster;
use kubernetes::workloads::is_of_release;

use super::Setup;
use crate::{Mismatch, RunResult, Scenario};

/// From a complete rollout until only its pods are behind the Services.
const TIMEOUT: Duration = Duration::from_secs(15);
const POLL_EVERY: Duration = Duration::from_millis(300);

/// Checks that every service of a release serves the release's version and no other, by `sources`. A
/// service with two colours keeps its live version.
pub async fn check_served(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    release: &Release,
    sources: &VersionSources,
) -> RunResult {
    if !setup.has_version(release) {
        return Ok(());
    }
    let claim = format!("the services of {} serve {}", release.name, release.version);
    let seen = match expected(setup, release).await {
        Ok(none) if none.is_empty() => {
            let because = "no service of harness.toml is in this release";
            return scenario.skip(&claim, because).await;
        }
        Ok(expected) => until_served(setup, &expected, sources).await,
        Err(mismatch) => Err(mismatch),
    };
    let checked = scenario.check(&claim, async { seen.map(|seen| ((), seen)) });
    checked.await.map(drop)
}

/// Returns the version that each service of the release must serve.
async fn expected(
    setup: &Setup<'_>,
    release: &Release,
) -> Result<BTreeMap<String, String>, Mismatch> {
    let services = setup.cluster.api::<Service>();
    let listed = services.list(&ListParams::default()).await;
    let listed = listed.map_err(|error| setup.mismatch("Services", error))?;
    let live = live::read(setup.cluster).await;
    let live = live.map_err(|error| setup.mismatch("the live versions", error))?;
    let live = live::versions(live);
    let of_release = listed.items.iter().filter(|it| {
        let known = &setup.subject.environment.services;
        is_of_release(*it, &release.name) && known.contains(&it.name_any())
    });
    let versions = of_release.map(|service| {
        let name = service.name_any();
        let version = live.get(&name).unwrap_or(&release.version).clone();
        (name, version)
    });
    Ok(versions.collect())
}

/// Waits until each service serves its version. Returns how that was seen.
async fn until_served(
    setup: &Setup<'_>,
    expected: &BTreeMap<String, String>,
    sources: &VersionSources,
) -> Result<String, Mismatch> {
    let what = "each service serves its version";
    let waiting = wait::until(what, TIMEOUT, POLL_EVERY, async || {
        match served(setup.cluster, expected, sources).await {
            Ok(seen) => Observation::Ready(seen),
            Err(other) => Observation::NotYet(other),
        }
    });
    let versions = expected.iter();
    let versions = versions.map(|(service, version)| format!("{service} {version}"));
    let versions = Vec::from_iter(versions).join(", ");
    let served = waiting.await;
    served.map_err(|error| setup.mismatch(&versions, error))
}

/// Returns how each service is seen to serve its version.
///
/// # Errors
/// What the first other service serves.
async fn served(
    cluster: &Cluster,
    expected: &BTreeMap<String, String>,
    sources: &VersionSources,
) -> Result<String, String> {
    let mut seen = Vec::new();
    for (service, version) in expected {
        let source = sources.of(service);
        let objects = ServiceObjects { cluster, service };
        let served = source.served(&objects, service).await?;
        let served = Vec::from_iter(served).join(" and ");
        let as_seen = format!("{service} {served} by {source}");
        if served != *version {
            return Err(as_seen);
        }
        seen.push(as_seen);
    }
    Ok(seen.join(", "))
}

#[cfg(test)]
mod tests {
    use blue_green::{VersionPath, VersionSource};
    use hyper::header::HeaderName;
    use kubernetes::mock::MockServer;
    use kubernetes::prober::IdentityHeaders;
    use serde_json::{Value, json};

    use super::*;

    /// A service that answers with v2, and whose pods have these tags.
    async fn seen(version: &str, source: Option<VersionSource>, tags: &[&str]) -> String {
        let pods = tags.iter().map(|tag| {
            json!({"metadata": {"name": tag},
                "spec": {"containers": [{"name": "app", "image": format!("a/app:{tag}")}]}})
        });
        let endpoints = tags
            .iter()
            .map(|tag| json!({"addresses": [], "targetRef": {"name": tag}}));
        let slice = json!({"metadata": {}, "addressType": "IPv4", "endpoints": Value::from_iter(endpoints)});
        let pods = Value::from_iter(pods);
        let server = MockServer::new(move |request| {
            let list = |items: &Value| (200, json!({"metadata": {}, "items": items}));
            match request.path.rsplit('/').next().unwrap_or_default() {
                "endpointslices" => list(&json!([slice])),
                "pods" => list(&pods),
                "page" => (
                    200,
                    json!({"metadata": {}, "spec": {"ports": [{"port": 80}]}}),
                ),
                _ => (200, json!({"x-trii-version": "v2"})),
            }
        });
        let own = source.map(|source| ("page".to_owned(), source));
        let sources = VersionSources {
            headers: IdentityHeaders {
                version: Some(HeaderName::from_static("x-trii-version")),
                ..IdentityHeaders::default()
            },
            services: own.into_iter().collect(),
        };
        let expected = [("page".to_owned(), version.to_owned())].into();
        match served(&server.cluster("shop"), &expected, &sources).await {
            Ok(seen) => format!("{version} is served: {seen}"),
            Err(other) => format!("{version} is not served: {other}"),
        }
    }

    #[tokio::test]
    async fn the_version_that_serves_is_told_in_each_way() {
        let path = || {
            VersionSource::Path(VersionPath {
                path: "/version".to_owned(),
                json: Some("/x-trii-version".to_owned()),
            })
        };
        let seen = [
            seen("v2", None, &[]).await,
            seen("v1", None, &[]).await,
            seen("v2", Some(path()), &[]).await,
            seen("v1", Some(path()), &[]).await,
            seen("v2", Some(VersionSource::Image), &["v2"]).await,
            seen("v2", Some(VersionSource::Image), &["v1", "v2"]).await,
            seen("v2", Some(VersionSource::Image), &[]).await,
        ];
        insta::assert_snapshot!(seen.join("\n"), @r#"
        v2 is served: page v2 by the header x-trii-version
        v1 is not served: page v2 by the header x-trii-version
        v2 is served: page v2 by "/x-trii-version" of GET /version
        v1 is not served: page v2 by "/x-trii-version" of GET /version
        v2 is served: page v2 by the image of its pods
        v2 is not served: page v1 and v2 by the image of its pods
        v2 is not served: no ready pod is behind page
        "#);
    }
}
