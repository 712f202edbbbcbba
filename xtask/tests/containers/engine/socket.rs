//! An engine that stops answering: the test puts a proxy in front of its socket.

use std::time::Duration;

use super::{no_container_is_left, rig};
use crate::machine::{EngineProxy, engine};
use crate::rig::E2E;

#[tokio::test]
async fn an_engine_that_stops_answering_is_reported_and_cleaned_up_later() {
    let engine = engine().await;
    let proxy = EngineProxy::new(&engine.host);
    let rig = rig().variable("DOCKER_HOST", &proxy.host());
    let mut running = rig.spawn(&E2E);
    let mut traces = None;
    running.paused_when_up(|| {
        traces = Some(rig.traces());
        proxy.stop();
    });
    running
        .ends_within(Duration::from_secs(20))
        .expect(6, "it has stopped answering")
        .expect_stderr("cargo xtask down --all");
    rig.run(&["down", "--all"])
        .expect(6, "left: container trii-");
    proxy.resume();
    rig.run(&["down", "--all"]).expect_code(0);
    traces.unwrap().are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
}
