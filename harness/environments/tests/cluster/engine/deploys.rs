//! Releases in other namespaces than the platform's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base::home::Home;
use environments::releases::{self, TargetValues};
use helm::difference::NOTHING;
use helm::{DeployError, Deployed, Release};
use kubernetes::Cluster;
use kubernetes::rollout;
use kubernetes::workload_problem::{Cause, WorkloadProblem};
use serde_json::{Value, json};

use super::shared::{Shared, helm};
use crate::chart::helm::{merge, workspace};

const DEADLINE: Duration = Duration::from_secs(150);

/// Far below the deadline: a terminal state is not waited for.
const IMMEDIATELY: Duration = Duration::from_secs(75);

/// Returns a small release of the platform without an Ingress: the shared platform has the hosts.
pub fn release(shared: &Shared, version: &str, more: Value) -> Release {
    let cidr = shared.place().backing_services.as_deref();
    let values = TargetValues::of_kind(shared.target(), cidr);
    let (workspace, home) = (workspace(), Home::new("nowhere"));
    let mut releases = releases::all(&shared.config, &values, (&workspace, &home), version);
    let mut release = releases.remove(0);
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
    merge(&mut release.overrides, &small);
    merge(&mut release.overrides, &more);
    release
}

pub async fn deploy(cluster: &Cluster, release: &Release) -> Result<Deployed, DeployError> {
    helm::deploy(cluster, &helm(), release, DEADLINE, &|_| ()).await
}

/// Returns the cause of a release that fails immediately.
async fn problem(cluster: &Cluster, release: &Release) -> WorkloadProblem {
    let started = Instant::now();
    let error = deploy(cluster, release).await.unwrap_err();
    assert!(
        started.elapsed() < IMMEDIATELY,
        "{:?}: {error}",
        started.elapsed()
    );
    match error {
        DeployError::Problem { problem, .. } => *problem,
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
            let difference = helm::difference(cluster, &helm(), &good).await;
            assert_eq!(difference.unwrap(), NOTHING);

            let missing = release(&shared, "v0.0.0-missing", json!({}));
            let difference = helm::difference(cluster, &helm(), &missing).await;
            assert!(difference.unwrap().contains("v0.0.0-missing"));
            let problem = problem(cluster, &missing).await;
            assert_eq!(problem.cause, Cause::Image, "{problem}");
            assert!(problem.to_string().contains("v0.0.0-missing"), "{problem}");
            // The previous pods continue to run.
            let complete = rollout::complete(cluster, good.workloads(), DEADLINE, &|_| ()).await;
            complete.unwrap();
        })
        .await;
}

#[tokio::test]
async fn a_pod_that_exits_at_its_start_is_named_with_its_error() {
    let shared = Shared::find().await;
    let version = shared.environment.version.clone();
    shared
        .in_own_namespace("crash", async |cluster| {
            let short = BTreeMap::from([
                ("secret".to_owned(), "short".to_owned()),
                ("demo-password".to_owned(), "any".to_owned()),
            ]);
            let applied = cluster.apply_secret("jwt-credentials", short).await;
            applied.unwrap();
            let problem = problem(cluster, &release(&shared, &version, json!({}))).await;
            assert_eq!(problem.cause, Cause::Ends, "{problem}");
            assert!(problem.to_string().contains("JWT_SECRET"), "{problem}");
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
            let problem = problem(cluster, &release(&shared, &version, quota)).await;
            assert_eq!(problem.cause, Cause::Quota, "{problem}");
            assert!(problem.to_string().contains("requests.cpu"), "{problem}");
        })
        .await;
}
