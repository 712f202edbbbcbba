//! The API server away while a service is released: the release is waited for, and ends as if
//! nothing had been.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::environment::Environment;
use harness::home::Home;
use harness::images::{self, Supply, Workshop};
use harness::proxies::Proxies;
use harness::tiers::ground;
use tokio_util::task::AbortOnDropHandle;

use super::scenarios::shared;
use super::{engine, tag_platform, untag_platform};
use crate::rig::Rig;

const SERVICE: [&str; 2] = ["--service", "market-data-service"];

/// One release with its outages.
const AT_MOST: Duration = Duration::from_secs(400);

/// An API server that does not run; it does again when this is dropped.
struct Away<'a> {
    node: &'a str,
}

impl Away<'_> {
    async fn for_seconds(node: &str, seconds: u64) {
        let away = Away { node };
        away.signal("-STOP");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn signal(&self, signal: &str) {
        let exec = [
            "exec",
            self.node,
            "pkill",
            signal,
            "--exact",
            "kube-apiserver",
        ];
        let ended = Command::new("docker").args(exec).output().unwrap();
        assert!(ended.status.success(), "{signal}: {ended:?}");
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

/// Users of the service, for as long as it lives.
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
            let asked = http.get(format!("{url}/market-data/quotes")).send();
            tokio::spawn(async move { drop(asked.await) });
        }
    }))
}

/// Releases what is not live.
fn deploy<'a>(rig: &'a Rig, version: &'a str) -> crate::rig::Course<'a> {
    rig.spawn(
        &[
            &["blue-green", "deploy", "--version", version][..],
            &SERVICE,
        ]
        .concat(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_for_20_or_60_seconds_does_not_keep_a_release_from_its_end() {
    let rig = shared()
        .change("baseline = 10 ", "baseline = 4 ")
        .change("watch = 20 ", "watch = 8 ")
        .change("drain = 10 ", "drain = 2 ");
    let environment: Environment = serde_json::from_value(rig.environment().unwrap()).unwrap();
    let place = environment.cluster.clone().unwrap();
    let node = format!("{}-control-plane", place.name);
    let engine = engine().await;
    let home = Home::new(std::env::var(ground::HOME).unwrap());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workshop = Workshop::of(&workspace, &home);
    let live = images::ensure(&engine, &workshop, "platform", Supply::Auto, &|_| ());
    let live = live.await.unwrap().to_string();
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
        release.says(&format!("{step} ..."));
        Away::for_seconds(&node, seconds).await;
    }
    release.says("retire ...");
    Away::for_seconds(&node, 20).await;
    release.ends_within(AT_MOST).expect_code(0);
    deploy(&rig, &environment.version)
        .ends_within(AT_MOST)
        .expect_code(0);
    drop(users);

    untag_platform(&engine, &version).await;
}
