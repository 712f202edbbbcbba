//! An engine that stops answering: the test puts a proxy in front of its socket.

use super::{ClusterRig, SOON};
use crate::machine::{EngineProxy, engine};
use crate::rig::{E2E_ON_KIND, Rig};

#[tokio::test]
async fn an_engine_that_stops_answering_is_reported_and_cleaned_up_later() {
    let proxy = EngineProxy::new(&engine().await.host);
    let cluster = ClusterRig::of(Rig::new().variable("DOCKER_HOST", &proxy.host())).await;
    let rig = &cluster.rig;
    let mut running = rig.spawn(&E2E_ON_KIND);
    running.prints("creating the cluster");
    running.starts("docker exec ");
    let traces = cluster.traces().await;
    proxy.stop();
    running
        .ends_within(SOON)
        .expect(6, "it has stopped answering")
        .expect_stderr("cargo xtask down --all");
    rig.run(&["down", "--all"]).expect(6, "left: cluster trii-");
    proxy.resume();
    cluster.leaves_nothing(traces).await;
}
