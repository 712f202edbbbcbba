//! Blue-green for a chart that knows nothing of it: two releases of the chart behind one Service,
//! which is ours.

use std::path::Path;
use std::time::Duration;

use environments::config::{Probe, ProbeUrl, RollingConfig};
use helm::{DeployError, Release};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kubernetes::Cluster;
use kubernetes::prober::now;
use kubernetes::workloads::is_of_release;
use serde_json::{Value, json};

use super::Setup;
use super::probes::{self, check_nothing_failed};
use crate::{Mismatch, RunResult, Scenario};

/// The Service that users would have.
const ACTIVE: &str = "rehearsal-active";

/// Requests before, between and after the switches.
const REQUESTS: u64 = 500;

/// helm's words if an object of the chart has the same name in every release.
const SAME_NAMES: &str = "invalid ownership metadata";

pub async fn run(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some(second) = setup.second else {
        return Ok(());
    };
    let installed = setup.deploy(scenario, second).await;
    if let Err(DeployError::Helm { words }) = &installed
        && words.contains(SAME_NAMES)
    {
        let because = format!("the chart's names do not depend on the release: {words}");
        scenario.skip("both releases run", &because).await?;
        return uninstalled(setup, scenario, second).await;
    }
    let pair = match installed {
        Ok(_) => ServicePair::find(setup, second).await,
        Err(error) => Err(setup.mismatch("a second release", error)),
    };
    let found = scenario
        .check("both releases run", async {
            let pair = pair?;
            let seen = format!(
                "the Services {} and {}",
                pair.first.name_any(),
                pair.second.name_any()
            );
            Ok((pair, seen))
        })
        .await?;
    if let Some(pair) = found {
        switch_and_back(setup, scenario, second, &pair).await?;
    }
    uninstalled(setup, scenario, second).await
}

/// Moves the traffic of [`ACTIVE`] to the second release, and back.
async fn switch_and_back(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    second: &Release,
    pair: &ServicePair,
) -> RunResult {
    let own = RollingConfig {
        probes: vec![pair.probe.clone()],
        keep_alive: setup.probes.keep_alive,
        ..RollingConfig::default()
    };
    let probed = Setup {
        probes: &own,
        ..*setup
    };
    if let Err(mismatch) = select(setup, &pair.first).await {
        return scenario
            .record_failure("requests are answered", mismatch)
            .await;
    }
    let Some(probes) = probes::start_once_reached(&probed, scenario).await? else {
        return Ok(());
    };
    probes.until(REQUESTS).await;
    let since = now();
    let moved = async {
        if setup.subject.sabotage {
            scale_to_zero(setup, second).await?;
        }
        select(setup, &pair.second).await?;
        probes.until(REQUESTS).await;
        select(setup, &pair.first).await?;
        probes.until(REQUESTS).await;
        Ok::<_, Mismatch>(())
    };
    let moved = moved.await;
    let claim = "traffic is moved to the second release, and back";
    scenario
        .check(claim, async {
            moved.map(|()| ((), format!("{REQUESTS} requests and more each")))
        })
        .await?;
    check_nothing_failed(setup, scenario, probes, (3 * REQUESTS, since)).await
}

/// Removes what the scenario has made.
pub async fn remove(
    cluster: &Cluster,
    helm: &Path,
    second: &Release,
    deadline: Duration,
) -> Result<(), DeployError> {
    let services = cluster.api::<Service>();
    // It is there only if traffic was moved.
    let _ = services.delete(ACTIVE, &DeleteParams::default()).await;
    helm::uninstall(cluster, helm, &second.name, deadline).await
}

async fn uninstalled(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    second: &Release,
) -> RunResult {
    let removed = remove(setup.cluster, setup.helm, second, setup.deadline).await;
    scenario
        .check("the second release is removed", async {
            let removed = removed.map_err(|error| setup.mismatch("a release that is gone", error));
            removed.map(|()| ((), second.name.clone()))
        })
        .await?;
    Ok(())
}

/// A Service of the first release that a probe requests, and that of the second release.
struct ServicePair {
    first: Service,
    second: Service,
    /// The probe, to [`ACTIVE`].
    probe: Probe,
}

impl ServicePair {
    async fn find(setup: &Setup<'_>, second: &Release) -> Result<ServicePair, Mismatch> {
        let services = setup.cluster.api::<Service>();
        let all = services.list(&ListParams::default()).await;
        let all = all
            .map_err(|error| setup.mismatch("Services", error))?
            .items;
        let release = &setup.next[setup.versioned().unwrap_or(0)];
        let pairs = setup.probes.probes.iter().filter_map(|probe| {
            let ProbeUrl::Service { name, port, path } = &probe.url else {
                return None;
            };
            let of_first =
                |it: &&Service| it.name_any() == *name && is_of_release(*it, &release.name);
            let first = all.iter().find(of_first)?;
            let theirs = name.replacen(&release.name, &second.name, 1);
            let of_second =
                |it: &&Service| it.name_any() == theirs && is_of_release(*it, &second.name);
            Some(ServicePair {
                first: first.clone(),
                second: all.iter().find(of_second)?.clone(),
                probe: Probe {
                    url: ProbeUrl::Service {
                        name: ACTIVE.to_owned(),
                        port: *port,
                        path: path.clone(),
                    },
                    ..probe.clone()
                },
            })
        });
        let pair = { pairs }.next();
        pair.ok_or_else(|| {
            let expected = format!(
                "a Service in rolling.probes that {} and {} have",
                release.name, second.name
            );
            let names = all.iter().map(ResourceExt::name_any);
            setup.mismatch(&expected, names.collect::<Vec<_>>().join(", "))
        })
    }
}

/// Makes [`ACTIVE`] select the pods of this Service.
async fn select(setup: &Setup<'_>, service: &Service) -> Result<(), Mismatch> {
    let spec = service.spec.as_ref();
    let ports: Vec<Value> = spec
        .iter()
        .flat_map(|it| it.ports.iter().flatten())
        .map(|port| {
            json!({
                "name": port.name, "port": port.port, "targetPort": port.target_port,
                "protocol": port.protocol,
            })
        })
        .collect();
    let active = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": ACTIVE},
        "spec": {"ports": ports, "selector": spec.and_then(|it| it.selector.as_ref())},
    });
    let applied = setup.cluster.apply(&active.to_string()).await;
    applied.map_err(|error| setup.mismatch("a Service", error))
}

async fn scale_to_zero(setup: &Setup<'_>, release: &Release) -> Result<(), Mismatch> {
    let deployments = setup.cluster.api::<Deployment>();
    let workloads = setup.workloads(release).await?;
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    for deployment in &workloads.deployments {
        let name = deployment.name_any();
        let scaled = deployments
            .patch(&name, &PatchParams::default(), &none)
            .await;
        scaled.map_err(|error| setup.mismatch("Deployments that can be scaled", error))?;
    }
    Ok(())
}
