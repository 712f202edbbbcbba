//! What takes an engine, and what the engine has afterwards.

mod faults;
mod load;
mod outages;
mod remote;
mod scenarios;
mod socket;
mod stages;
mod way_in;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, ListNetworksOptions, ListVolumesOptions,
    RemoveImageOptions, TagImageOptionsBuilder,
};
use harness::engine::{Engine, PATIENCE};

use crate::leftovers::Traces;
use crate::rig::Rig;

/// A node is stopped and removed in seconds; on a machine that does other things as well.
const SOON: Duration = Duration::from_secs(45);

/// A user's own kubeconfig, which is nobody else's business.
const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: theirs # as it was\n";

/// The image of the platform.
const PLATFORM: &str = "trii-rehearsal/platform";

async fn engine() -> Engine {
    Engine::find(PATIENCE)
        .await
        .expect("these tests want a container engine; `cargo xtask test` leaves them out without")
}

/// Gives the platform's image another tag in the engine: a version that can be released.
async fn tag_platform(engine: &Engine, image: &str, version: &str) {
    let tag = TagImageOptionsBuilder::new().repo(PLATFORM).tag(version);
    let tagged = engine.client().tag_image(image, Some(tag.build()));
    tagged.await.unwrap();
}

/// Takes it away again.
async fn untag_platform(engine: &Engine, version: &str) {
    let name = format!("{PLATFORM}:{version}");
    let removed = engine
        .client()
        .remove_image(&name, None::<RemoveImageOptions>, None);
    removed.await.unwrap();
}

/// A rig on a cluster, and the user's kubeconfigs: the default one and a named one.
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
        let all = ClusterRig {
            rig: rig
                .variable("HOME", &user.path().display().to_string())
                .variable(
                    "KUBECONFIG",
                    &user.path().join("named").display().to_string(),
                ),
            engine: engine().await,
            user,
        };
        for kubeconfig in all.kubeconfigs() {
            fs::write(kubeconfig, KUBECONFIG).unwrap();
        }
        all
    }

    fn kubeconfigs(&self) -> [PathBuf; 2] {
        [".kube/config", "named"].map(|file| self.user.path().join(file))
    }

    /// What is to be gone afterwards.
    async fn traces(&self) -> ClusterTraces {
        ClusterTraces {
            on_machine: self.rig.traces(),
            volumes: self.volumes().await,
        }
    }

    /// That nothing is left, and `down --all` finds nothing to complain about.
    async fn leaves_nothing(&self, traces: ClusterTraces) {
        self.rig.run(&["down", "--all"]).expect_code(0);
        traces.on_machine.are_gone(&self.rig);
        assert_eq!(self.in_engine(&traces.volumes).await, [] as [String; 0]);
        for kubeconfig in self.kubeconfigs() {
            assert_eq!(fs::read_to_string(kubeconfig).unwrap(), KUBECONFIG);
        }
    }

    /// The environment's containers, also those that never ran, and its networks; of the
    /// volumes, which have no name of ours, those that are `noted`.
    async fn in_engine(&self, noted: &[String]) -> Vec<String> {
        let docker = self.engine.client();
        let networks = docker.list_networks(None::<ListNetworksOptions>).await;
        let networks = networks.unwrap().into_iter().filter_map(|it| it.name);
        let volumes = docker
            .list_volumes(None::<ListVolumesOptions>)
            .await
            .unwrap();
        let volumes = volumes.volumes.unwrap_or_default().into_iter();
        let mark = format!("trii-{}-", self.rig.name);
        let named = self.containers().await.into_iter();
        named
            .chain(networks.filter(|name| name.starts_with(&mark)))
            .chain(volumes.map(|it| it.name).filter(|it| noted.contains(it)))
            .collect()
    }

    /// Their ids by their names.
    async fn identities(&self) -> BTreeMap<String, String> {
        let mut identities = BTreeMap::new();
        for name in self.containers().await {
            let inspected = self.engine.client().inspect_container(&name, None).await;
            identities.insert(name, inspected.unwrap().id.unwrap());
        }
        identities
    }

    /// Their names.
    async fn containers(&self) -> Vec<String> {
        let mark = format!("trii-{}-", self.rig.name);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&HashMap::from([("name", vec![mark])]))
            .build();
        let listed = self.engine.client().list_containers(Some(options)).await;
        let names = listed.unwrap().into_iter().filter_map(|it| it.names);
        names
            .flatten()
            .map(|name| name.trim_start_matches('/').to_owned())
            .collect()
    }

    /// The volumes of the environment's containers.
    async fn volumes(&self) -> Vec<String> {
        let mut volumes = Vec::new();
        for container in self.containers().await {
            let options = None::<InspectContainerOptions>;
            let inspected = self.engine.client().inspect_container(&container, options);
            // It may be gone by now.
            let mounts = inspected.await.ok().and_then(|it| it.mounts);
            volumes.extend(
                mounts
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|it| it.name),
            );
        }
        volumes
    }
}

/// What an environment has taken on this machine and in the engine.
struct ClusterTraces {
    on_machine: Traces,
    volumes: Vec<String>,
}
