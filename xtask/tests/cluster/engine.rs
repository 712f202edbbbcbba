//! Tests that need an engine, and what the engine has afterwards.

mod faults;
mod load;
mod metrics;
mod outages;
mod podinfo;
mod remote;
mod scenarios;
mod socket;
mod stages;
mod way_in;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::home::Home;
use bollard::query_parameters::{
    ListNetworksOptions, ListVolumesOptions, RemoveImageOptions, TagImageOptionsBuilder,
};
use environments::environment::{ClusterPlace, TEST_HOME};
use machine::engine::Engine;
use machine::images::{self, Supply, Workshop};

use crate::leftovers::{Traces, containers};
use crate::machine::engine;
use crate::rig::Rig;

/// A node is stopped and removed in seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(45);

/// A user's own kubeconfig, which the harness must not change.
const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: theirs # as it was\n";

/// The image of the platform.
const PLATFORM: &str = "trii-rehearsal/platform";

/// Returns the reference of an image that the engine and every node have then.
async fn on_nodes(place: &ClusterPlace, image: &str) -> String {
    let home = Home::new(std::env::var(TEST_HOME).unwrap());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (engine, workshop) = (engine().await, Workshop::of(&workspace, &home));
    let reference = images::on_nodes(
        &engine,
        &workshop,
        &place.name,
        image,
        Supply::Auto,
        &|_| (),
    );
    reference.await.unwrap()
}

/// Gives the platform's image another tag in the engine: a version that can be released.
async fn tag_platform(engine: &Engine, image: &str, version: &str) {
    let tag = TagImageOptionsBuilder::new().repo(PLATFORM).tag(version);
    let tagged = engine.client().tag_image(image, Some(tag.build()));
    tagged.await.unwrap();
}

/// Removes the tag.
async fn untag_platform(engine: &Engine, version: &str) {
    let name = format!("{PLATFORM}:{version}");
    let removed = engine
        .client()
        .remove_image(&name, None::<RemoveImageOptions>, None);
    removed.await.unwrap();
}

/// A rig on a cluster, and the user's kubeconfigs: the default one and the one of KUBECONFIG.
struct ClusterRig {
    rig: Rig,
    engine: Engine,
    user: tempfile::TempDir,
}

impl ClusterRig {
    async fn new() -> ClusterRig {
        ClusterRig::of(Rig::new()).await
    }

    async fn of(rig: Rig) -> ClusterRig {
        let user = tempfile::tempdir().unwrap();
        fs::create_dir(user.path().join(".kube")).unwrap();
        let rig = rig.variable("HOME", user.path());
        let cluster = ClusterRig {
            rig: rig.variable("KUBECONFIG", &user.path().join("named")),
            engine: engine().await,
            user,
        };
        for kubeconfig in cluster.kubeconfigs() {
            fs::write(kubeconfig, KUBECONFIG).unwrap();
        }
        cluster
    }

    fn kubeconfigs(&self) -> [PathBuf; 2] {
        [".kube/config", "named"].map(|file| self.user.path().join(file))
    }

    /// Returns what must not exist after the environment is down.
    async fn traces(&self) -> ClusterTraces {
        ClusterTraces {
            on_machine: self.rig.traces(),
            volumes: self.volumes().await,
        }
    }

    /// Checks that nothing is left, and that `down --all` succeeds.
    async fn leaves_nothing(&self, traces: ClusterTraces) {
        self.rig.run(&["down", "--all"]).expect_code(0);
        traces.on_machine.are_gone(&self.rig);
        assert_eq!(self.in_engine(&traces.volumes).await, [] as [String; 0]);
        for kubeconfig in self.kubeconfigs() {
            assert_eq!(fs::read_to_string(kubeconfig).unwrap(), KUBECONFIG);
        }
    }

    /// Returns the environment's containers and networks, and those of the `noted` volumes that
    /// exist: the engine chooses the names of volumes.
    async fn in_engine(&self, noted: &[String]) -> Vec<String> {
        let docker = self.engine.client();
        let networks = docker.list_networks(None::<ListNetworksOptions>).await;
        let networks = networks.unwrap().into_iter();
        let networks = networks.filter_map(|network| network.name);
        let volumes = docker.list_volumes(None::<ListVolumesOptions>).await;
        let volumes = volumes.unwrap().volumes.unwrap_or_default().into_iter();
        let volumes = volumes.map(|volume| volume.name);
        let mark = format!("trii-{}-", self.rig.name);
        let containers = containers(&self.engine, &self.rig).await.into_iter();
        containers
            .chain(networks.filter(|name| name.starts_with(&mark)))
            .chain(volumes.filter(|name| noted.contains(name)))
            .collect()
    }

    /// Returns the ids of the containers by their names.
    async fn identities(&self) -> BTreeMap<String, String> {
        let mut identities = BTreeMap::new();
        for name in containers(&self.engine, &self.rig).await {
            let inspected = self.engine.client().inspect_container(&name, None).await;
            identities.insert(name, inspected.unwrap().id.unwrap());
        }
        identities
    }

    /// Returns the volumes of the environment's containers.
    async fn volumes(&self) -> Vec<String> {
        let mut volumes = Vec::new();
        for name in containers(&self.engine, &self.rig).await {
            let inspected = self.engine.client().inspect_container(&name, None).await;
            // It may not exist any more.
            let mounts = inspected.ok().and_then(|container| container.mounts);
            let mounts = mounts.into_iter().flatten();
            volumes.extend(mounts.filter_map(|mount| mount.name));
        }
        volumes
    }
}

/// What an environment uses of this machine and of the engine.
struct ClusterTraces {
    on_machine: Traces,
    volumes: Vec<String>,
}
