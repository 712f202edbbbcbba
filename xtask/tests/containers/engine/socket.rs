//! An engine that falls silent: the tests stand before its socket.

use std::time::Duration;

use super::{engine, no_container_is_left, rig};
use crate::machine::EngineThatStops;
use crate::rig::E2E;

#[tokio::test]
async fn an_engine_that_stops_answering_is_said_to_and_cleaned_up_later() {
    let engine = engine().await;
    let stops = EngineThatStops::before(&engine.host);
    let rig = rig().variable("DOCKER_HOST", &stops.host());
    let mut course = rig.spawn(&E2E);
    let mut traces = None;
    course.paused_when_up(|| {
        traces = Some(rig.traces());
        stops.stop();
    });
    course
        .ends_within(Duration::from_secs(20))
        .expect_code(6)
        .expect_words("it has stopped answering")
        .expect_words("cargo xtask down --all");
    rig.run(&["down", "--all"])
        .expect_code(6)
        .expect_words("left: container trii-");
    stops.go_on();
    rig.run(&["down", "--all"]).expect_code(0);
    traces.unwrap().are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
}
