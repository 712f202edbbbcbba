//! Releases beside the platform's own, each in a namespace of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::cluster::Cluster;
use harness::cluster::rollout;
use harness::cluster::trouble::{Cause, Trouble};
use harness::kind::release::of;
use harness::release::difference::NOTHING;
use harness::release::{self, DeployError, Deployed, Release};
use serde_json::{Value, json};

use super::shared::{Shared, helm};
use crate::chart::helm::workspace;

const DEADLINE: Duration = Duration::from_secs(150);

/// Far below the deadline: what is terminal is not waited for.
const AT_ONCE: Duration = Duration::from_secs(75);

/// The platform's version `version`, small, and without an Ingress: the platform's own
/// has the hosts.
pub fn release(shared: &Shared, version: &str, more: Value) -> Release {
    let cidr = shared.place().backing_services.as_deref();
    let mut release = of(&shared.config, shared.target(), &workspace(), version, cidr);
    let one = json!({"replicas": 1});
    let small = json!({
        "ingress": {"enabled": false},
        "services": {
            "market-data-service": {"autoscaling": {"minReplicas": 1}},
            "portfolio-manager-service": one,
            "analysis-engine-service": one,
            "ml-prediction-service": one,
            "api-gateway": one,
            "frontend-app": one,
        },
    });
    merge(&mut release.overrides, small);
    merge(&mut release.overrides, more);
    release
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

pub async fn deploy(cluster: &Cluster, release: &Release) -> Result<Deployed, DeployError> {
    release::deploy(cluster, &helm(), release, DEADLINE, &|_| ()).await
}

/// What kept the release from running, told at once.
async fn trouble(cluster: &Cluster, release: &Release) -> Trouble {
    let begun = Instant::now();
    let error = deploy(cluster, release).await.unwrap_err();
    assert!(begun.elapsed() < AT_ONCE, "{:?}: {error}", begun.elapsed());
    match error {
        DeployError::Trouble { trouble, .. } => *trouble,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_release_is_installed_once_and_survives_an_image_that_is_not_there() {
    let shared = Shared::find().await;
    let version = shared.environment.version.clone();
    shared
        .in_own_namespace("life", async |cluster| {
            let good = release(&shared, &version, json!({}));
            let first = deploy(cluster, &good).await.unwrap();
            assert_eq!((first.revision, first.changed), (1, true));
            assert_eq!(first.version, version);
            let again = deploy(cluster, &good).await.unwrap();
            assert!(!again.changed, "{again:?}");
            let difference = release::difference(cluster, &helm(), &good).await;
            assert_eq!(difference.unwrap(), NOTHING);

            let missing = release(&shared, "v0.0.0-missing", json!({}));
            let difference = release::difference(cluster, &helm(), &missing).await;
            assert!(difference.unwrap().contains("v0.0.0-missing"));
            let trouble = trouble(cluster, &missing).await;
            assert_eq!(trouble.cause, Cause::Image, "{trouble}");
            assert!(trouble.to_string().contains("v0.0.0-missing"), "{trouble}");
            // What ran before runs on.
            let complete = rollout::complete(cluster, &good.selector(), DEADLINE, &|_| ()).await;
            complete.unwrap();
        })
        .await;
}

#[tokio::test]
async fn a_pod_that_ends_at_its_start_is_named_in_its_own_words() {
    let shared = Shared::find().await;
    let version = shared.environment.version.clone();
    shared
        .in_own_namespace("crash", async |cluster| {
            let short = BTreeMap::from([
                ("secret", "short".to_owned()),
                ("demo-password", "any".to_owned()),
            ]);
            cluster
                .apply_secret("jwt-credentials", short)
                .await
                .unwrap();
            let trouble = trouble(cluster, &release(&shared, &version, json!({}))).await;
            assert_eq!(trouble.cause, Cause::Ends, "{trouble}");
            assert!(trouble.to_string().contains("JWT_SECRET"), "{trouble}");
        })
        .await;
}

#[tokio::test]
async fn a_quota_that_is_too_small_is_named() {
    let shared = Shared::find().await;
    let version = shared.environment.version.clone();
    shared
        .in_own_namespace("quota", async |cluster| {
            let quota = json!({"resourceQuota": {"hard": {"requests.cpu": "20m"}}});
            let trouble = trouble(cluster, &release(&shared, &version, quota)).await;
            assert_eq!(trouble.cause, Cause::Quota, "{trouble}");
            assert!(trouble.to_string().contains("requests.cpu"), "{trouble}");
        })
        .await;
}
