//! An engine that falls silent: the test stands before its socket.

use super::{ClusterRig, SOON, engine};
use crate::machine::EngineThatStops;
use crate::rig::{E2E_ON_KIND, Rig};

#[tokio::test]
async fn an_engine_that_stops_answering_is_said_to_and_cleaned_up_later() {
    let stops = EngineThatStops::before(&engine().await.host);
    let cluster = ClusterRig::of(Rig::new().variable("DOCKER_HOST", &stops.host())).await;
    let rig = &cluster.rig;
    let mut course = rig.spawn(&E2E_ON_KIND);
    course.says("creating the cluster");
    course.starts("docker exec ");
    let traces = cluster.traces().await;
    stops.stop();
    course
        .ends_within(SOON)
        .expect_code(6)
        .expect_words("it has stopped answering")
        .expect_words("cargo xtask down --all");
    rig.run(&["down", "--all"])
        .expect_code(6)
        .expect_words("left: cluster trii-");
    stops.go_on();
    cluster.leaves_nothing(traces).await;
}
