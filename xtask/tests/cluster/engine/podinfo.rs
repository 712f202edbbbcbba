//! A platform that the harness was not written for.

use std::time::Duration;

use super::ClusterRig;
use crate::rig::Rig;

const CONFIG: &str = include_str!("../../../../fixtures/podinfo/harness.toml");

/// A cluster, all its scenarios, and a load.
const AT_MOST: Duration = Duration::from_secs(720);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podinfo_is_rehearsed_by_its_platform_file_alone() {
    let cluster = ClusterRig::of(Rig::of(CONFIG)).await;
    let rig = &cluster.rig;
    let mut running = rig.spawn(&["e2e", "--target", "kind"]);
    running.reaches("verify");
    let traces = cluster.traces().await;
    let ended = running.ends_within(AT_MOST);
    // A busy machine makes the run inconclusive, and then there is no load.
    let held = ended.status.code() == Some(0);
    if !held {
        ended.expect(5, "the prober fell behind");
    }

    let events = rig.events("e2e");
    assert_eq!(events[0]["platform"], "podinfo");
    let proven = |family: &str| {
        let checks = events.iter().filter(|it| it["event"] == "check-finished");
        let passed = checks.filter(|it| it["check"]["outcome"]["result"] == "passed");
        let names = passed.filter_map(|it| it["scenario"].as_str());
        names.filter(|it| it.starts_with(family)).count()
    };
    let (smoke, rolling) = (proven("smoke"), proven("rolling/"));
    assert!(smoke > 10 && rolling > 12, "{smoke} and {rolling} checks");
    let judged = events.iter().filter(|it| it["event"] == "threshold-judged");
    assert_eq!(judged.count(), if held { 2 } else { 0 });

    let page = rig.run_folder("e2e").unwrap().join("index.html");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("podinfo") && !page.contains("TRII"), "{page}");
    cluster.leaves_nothing(traces).await;
}
