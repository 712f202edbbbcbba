//! Images on an engine that uses containerd's store, which is the default of Docker 29 and later. A
//! pulled image has the index of all its platforms, and the content of one.

#[path = "../../../support/namespaces.rs"]
mod namespaces;
#[path = "../../../support/registry.rs"]
mod server;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base::wait::{self, Observation};
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ImportImageOptionsBuilder, StartContainerOptions,
};
use futures::TryStreamExt;
use machine::engine::{Engine, TIMEOUT};
use machine::images::{self, ForNodes, Supply, Workshop};
use serde_json::{Value, json};
use server::Registry;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio_util::io::ReaderStream;

use crate::chart::helm::workspace;

/// Debian 13 has Engine 26, the oldest one here with that store.
const SUITE: &str = "trixie";
const PROGRAMS: [&str; 5] = [
    "sbin/dockerd",
    "sbin/docker-proxy",
    "bin/containerd",
    "bin/containerd-shim-runc-v2",
    "bin/ctr",
];

/// The recipe of a node's programs, which include containerd.
const PROGRAMS_OF_A_NODE: &str = "node-programs";
const CLUSTER: &str = "several";
const NODE: &str = "several-control-plane";

/// From dockerd's start until it answers.
const UP: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_image_of_several_platforms_is_pulled_and_reaches_the_nodes() {
    if let Some(room) = namespaces::room() {
        return it_reaches_the_nodes(&room).await;
    }
    let room = TempDir::new().unwrap();
    save(PROGRAMS_OF_A_NODE, &room.path().join("node.tar")).await;
    get_engine(room.path());
    let name =
        "engine::mount::registry::an_image_of_several_platforms_is_pulled_and_reaches_the_nodes";
    let ran = tokio::task::spawn_blocking(move || namespaces::run_alone(name, room.path(), &[]));
    ran.await.unwrap();
}

async fn it_reaches_the_nodes(room: &Path) {
    base::tls::use_ring();
    let _dockerd = start_dockerd(room);
    let engine = wait::until(
        "dockerd answers",
        UP,
        Duration::from_millis(100),
        async || match Engine::find(TIMEOUT).await {
            Ok(engine) => Observation::Ready(engine),
            Err(none) => Observation::NotYet(none.in_short()),
        },
    );
    let engine = engine.await.unwrap();
    let info = engine.client().info().await.unwrap();
    let store = format!("{:?}", info.driver_status);
    assert!(store.contains("io.containerd.snapshotter.v1"), "{store}");
    start_node(&engine, room).await;

    let registry = Registry::start().await;
    let index = registry.push_for("several", &["amd64", "arm64"]).await;
    let by_tag = format!("{}/several:1", registry.address);
    let by_digest = format!("{by_tag}@{index}");
    for reference in [by_digest, by_tag] {
        let image = pull(&engine, room, &registry, &reference).await;
        let wanted = [ForNodes {
            image: image.clone(),
            known_as: image.clone(),
        }];
        let load = async || {
            let loaded = images::load(&engine, CLUSTER, &wanted, &|_| ()).await;
            loaded.unwrap()
        };
        let first = load().await;
        assert_eq!(first.nodes, [NODE]);
        assert_eq!([first.brought, first.there].concat(), [image.as_str()]);
        let again = load().await;
        assert_eq!(again.there, [image]);
    }
}

/// Saves the engine's image of this recipe to a file.
async fn save(recipe: &str, file: &Path) {
    let engine = Engine::find(TIMEOUT).await.unwrap();
    let workshop = Workshop {
        recipes: workspace().join("fixtures/images"),
        state_dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        docker_config: None,
    };
    let image = images::present_or_pull(&engine, &workshop, recipe, &|_| ()).await;
    let name = image.unwrap().to_string();
    let mut saved = tokio::fs::File::create(file).await.unwrap();
    let mut archive = Box::pin(engine.client().export_image(&name));
    while let Some(chunk) = archive.try_next().await.unwrap() {
        saved.write_all(&chunk).await.unwrap();
    }
    saved.flush().await.unwrap();
    // The other engine has the image under this name.
    fs::write(file.with_extension("name"), name).unwrap();
}

/// Puts the engine's programs into `room`.
fn get_engine(room: &Path) {
    let packages = room.join("packages");
    let extracted = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=extract", "--include=docker.io", SUITE])
        .arg(&packages)
        .output()
        .unwrap();
    assert!(extracted.status.success(), "{extracted:?}");
    // The other programs need that suite's libraries.
    let programs = room.join("programs");
    fs::create_dir(&programs).unwrap();
    for program in PROGRAMS {
        let program = packages.join("usr").join(program);
        symlink(&program, programs.join(program.file_name().unwrap())).unwrap();
    }
}

/// Starts dockerd with the machine's settings, which include its runtime, and its own store.
fn start_dockerd(room: &Path) -> Child {
    let file = Path::new("/etc/docker/daemon.json");
    let settings = fs::read_to_string(file).unwrap_or_else(|_| "{}".to_owned());
    let mut settings: Value = serde_json::from_str(&settings).unwrap();
    settings["features"] = json!({"containerd-snapshotter": true});
    settings["data-root"] = json!(room.join("data"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, settings.to_string()).unwrap();
    let programs = room.join("programs");
    let path = std::env::var_os("PATH").unwrap();
    let folders = std::iter::once(programs.clone()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders);
    let log = File::create(room.join("dockerd.log")).unwrap();
    tokio::process::Command::new(programs.join("dockerd"))
        .env("PATH", path.unwrap())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Starts a container with a node's containerd, which is all that images need of a node.
async fn start_node(engine: &Engine, room: &Path) {
    let client = engine.client();
    let archive = tokio::fs::File::open(room.join("node.tar")).await.unwrap();
    let archive = ReaderStream::new(archive);
    let options = ImportImageOptionsBuilder::default().build();
    let loaded = client.import_image(options, bollard::body_try_stream(archive), None);
    loaded.try_collect::<Vec<_>>().await.unwrap();
    let body = ContainerCreateBody {
        image: Some(fs::read_to_string(room.join("node.name")).unwrap()),
        entrypoint: Some(vec!["containerd".to_owned()]),
        env: Some(vec!["PATH=/".to_owned()]),
        labels: Some([("io.x-k8s.kind.cluster".to_owned(), CLUSTER.to_owned())].into()),
        network_disabled: Some(true),
        volumes: Some(vec!["/var/lib/containerd".to_owned(), "/tmp".to_owned()]),
        host_config: Some(HostConfig {
            privileged: Some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let named = CreateContainerOptionsBuilder::new().name(NODE).build();
    client.create_container(Some(named), body).await.unwrap();
    let started = client.start_container(NODE, None::<StartContainerOptions>);
    started.await.unwrap();
}

/// Pulls an image by a recipe, with the credentials of `docker login`.
async fn pull(engine: &Engine, room: &Path, registry: &Registry, reference: &str) -> String {
    let recipes = room.join("recipes");
    let recipe = format!("[pull]\nreference = \"{reference}\"\n[build]\ndebian = \"bookworm\"\n");
    fs::create_dir_all(recipes.join("several")).unwrap();
    fs::write(recipes.join("several/image.toml"), recipe).unwrap();
    fs::write(room.join("config.json"), registry.login().to_string()).unwrap();
    let workshop = Workshop {
        recipes,
        state_dir: room.join("state"),
        docker_config: Some(room.to_owned()),
    };
    let image = images::ensure(engine, &workshop, "several", Supply::Pull, &|_| ()).await;
    image.unwrap().to_string()
}
