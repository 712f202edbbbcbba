//! Outages of the API server during a release: the release waits, and ends as without them.

use std::process::Command;
use std::time::Duration;

use base::proxies::Proxies;
use environments::environment::Environment;
use tokio_util::task::AbortOnDropHandle;

use super::scenarios::shared;
use super::{on_nodes, tag_platform, untag_platform};
use crate::machine::engine;
use crate::rig::{Rig, RunningCommand};

/// The timeout of a release with its outages.
const AT_MOST: Duration = Duration::from_secs(400);

/// A stopped API server. It continues when this is dropped.
struct Outage<'a> {
    node: &'a str,
}

impl Outage<'_> {
    async fn of_seconds(node: &str, seconds: u64) {
        let outage = Outage { node };
        outage.signal("-STOP");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn signal(&self, signal: &str) {
        let output = Command::new("docker")
            .args(["exec", self.node, "pkill", signal])
            .args(["--exact", "kube-apiserver"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{signal}: {output:?}");
    }
}

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

/// Sends requests to the service until the returned value is dropped.
fn traffic(environment: &Environment) -> AbortOnDropHandle<()> {
    let host = environment.api_host.clone();
    let http = environment
        .entry
        .client([host.as_str()], &Proxies::default());
    let (http, url) = (http.unwrap(), environment.entry.url(&host));
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            let answer = http.get(format!("{url}/market-data/quotes")).send();
            tokio::spawn(async move { drop(answer.await) });
        }
    }))
}

fn deploy<'a>(rig: &'a Rig, version: &str) -> RunningCommand<'a> {
    let service = ["blue-green", "deploy", "--service", "market-data-service"];
    rig.spawn(&[&service[..], &["--version", version]].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_of_the_api_server_of_20_and_60_seconds_do_not_fail_a_release() {
    let rig = shared()
        .change("baseline = 10 ", "baseline = 4 ")
        .change("watch = 20 ", "watch = 8 ")
        .change("drain = 10 ", "drain = 2 ");
    let environment = rig.typed_environment();
    let place = environment.cluster.clone().unwrap();
    let node = format!("{}-control-plane", place.name);
    let (engine, live) = (engine().await, on_nodes(&place, "platform").await);
    let version = format!("outage-{}", std::process::id());
    tag_platform(&engine, &live, &version).await;

    let users = traffic(&environment);
    let mut release = deploy(&rig, &version);
    for (step, seconds) in [
        ("bring-up", 20),
        ("check", 20),
        ("switch", 20),
        ("analyse", 60),
    ] {
        release.prints(&format!("{step} ..."));
        Outage::of_seconds(&node, seconds).await;
    }
    release.prints("retire ...");
    Outage::of_seconds(&node, 20).await;
    release.ends_within(AT_MOST).expect_code(0);
    deploy(&rig, &environment.version)
        .ends_within(AT_MOST)
        .expect_code(0);
    drop(users);

    untag_platform(&engine, &version).await;
}
