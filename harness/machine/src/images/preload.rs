//! Puts images into the containerd of a kind node when its image is built, so a cluster starts
//! without pulling. kind does the same (its pkg/build/nodeimage).

use std::time::Duration;

use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveImageOptions,
    StartContainerOptions,
};

use super::archive::{self, CTR};
use super::{ImageError, ImageReference, LABEL, Workshop, exec};
use crate::containers;
use crate::engine::Engine;
use base::ledger::Resource;
use base::wait::{self, Observation};

/// From its start until containerd answers; about a second.
const CONTAINERD_DEADLINE: Duration = Duration::from_secs(60);

/// The container exits after this, seconds, in case the builder is killed and no sweep removes the
/// container. The work takes a minute.
const LIFE: &str = "1800";

/// The kubelet's garbage collection does not remove pinned images.
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// The file with Kubernetes' version in a node.
const VERSION: &str = "/kind/version";

/// Builds `target` from the image `bare`, with `images` in its containerd; `name` is the recipe's.
pub(super) async fn preload(
    engine: &Engine,
    workshop: &Workshop,
    name: &str,
    bare: &str,
    target: &ImageReference,
    images: &[(&str, ImageReference)],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ImageError> {
    let build = Workshop::build_of(name);
    let container = format!("trii-{name}-{:08x}", rand::random::<u32>());
    let ledger = workshop.ledger();
    let resource = Resource::Container {
        name: container.clone(),
        engine: engine.host.clone(),
    };
    let entry = ledger.record(&build, resource).await?;
    let filled = async {
        let labels = containers::labels(&build, &build, &workshop.home());
        start(engine, bare, &container, labels).await?;
        fill(engine, &container, images, progress).await?;
        progress("keeping the node as an image");
        commit(engine, &container, target).await
    };
    let filled = filled.await;
    if filled.is_ok() {
        // Removes the name only: the target has its layers.
        let _ = engine
            .client()
            .remove_image(bare, None::<RemoveImageOptions>, None)
            .await;
    }
    // If this fails, the next sweep finds the container in the ledger.
    if containers::remove(engine, &container).await.is_ok() {
        ledger.release(&entry).await?;
    }
    filled
}

async fn start(
    engine: &Engine,
    image: &str,
    name: &str,
    labels: impl IntoIterator<Item = (String, String)>,
) -> Result<(), ImageError> {
    let failed = |source| ImageError::Engine {
        what: format!("start a container of {image} to fill"),
        source,
    };
    let (key, value) = LABEL;
    let ours = (key.to_owned(), value.to_owned());
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["sleep".to_owned()]),
        cmd: Some(vec![LIFE.to_owned()]),
        labels: Some(labels.into_iter().chain([ours]).collect()),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            privileged: Some(true),
            auto_remove: Some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let client = engine.client();
    let named = CreateContainerOptionsBuilder::new().name(name).build();
    let created = client.create_container(Some(named), body);
    created.await.map_err(failed)?;
    let started = client.start_container(name, None::<StartContainerOptions>);
    started.await.map_err(|source| ImageError::Privileged {
        image: image.to_owned(),
        source,
    })
}

async fn fill(
    engine: &Engine,
    container: &str,
    images: &[(&str, ImageReference)],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ImageError> {
    let run = async |command: &[&str]| exec::run(engine, container, command, None).await;
    run(&["sh", "-c", "setsid containerd >/dev/null 2>&1 &"]).await?;
    let answers = wait::until(
        "the node's containerd answers",
        CONTAINERD_DEADLINE,
        Duration::from_millis(200),
        async || match run(&["ctr", "version"]).await {
            Ok(_) => Observation::Ready(()),
            Err(error) => Observation::NotYet(error.to_string()),
        },
    );
    answers.await.map_err(ImageError::Node)?;
    progress(&format!("putting {} images into the node", images.len()));
    let ours: Vec<String> = images.iter().map(|(_, image)| image.to_string()).collect();
    // The node unpacks them when it starts: containerd unpacks into mounts, which a layer of this
    // image cannot have.
    archive::import(engine, &ours, &[container.to_owned()], &["--no-unpack"]).await?;
    let version = run(&["cat", VERSION]).await?;
    let version = format!("--kubernetes-version={}", version.trim());
    let required = run(&["kubeadm", "config", "images", "list", &version]).await?;
    let listed = run(&[&CTR[..], &["list", "--quiet"]].concat()).await?;
    for (name, image) in images {
        let imported = imported(&listed, image)?;
        let known_as = known_as(name, &required, imported);
        run(&[&CTR[..], &["tag", imported, &known_as]].concat()).await?;
        for name in [imported, &known_as] {
            run(&[&CTR[..], &["label", name, PINNED]].concat()).await?;
        }
    }
    // A clean stop, for a consistent database. No process reaps it here: it stays as a zombie.
    let stop = "pkill -x containerd; \
                while pgrep -r D,R,S -x containerd >/dev/null; do sleep 0.1; done; \
                rm -rf /run/containerd";
    run(&["timeout", "60", "sh", "-c", stop]).await?;
    Ok(())
}

/// Returns the image's name in containerd, which has the registry that Docker leaves out.
fn imported<'a>(listed: &'a str, image: &ImageReference) -> Result<&'a str, ImageError> {
    let ending = format!("/{image}");
    let mut names = listed.lines();
    names
        .find(|name| name.ends_with(&ending))
        .ok_or_else(|| ImageError::NotOnNode {
            image: image.to_string(),
            node: "the node image".to_owned(),
        })
}

/// Returns the name in the list of images that kubeadm requires, otherwise `imported` with the tag
/// `preloaded`.
fn known_as(name: &str, required: &str, imported: &str) -> String {
    let without_tag = |reference: &str| reference.rsplit_once(':').map(|(name, _)| name.to_owned());
    let ending = format!("/{name}");
    let is_it = |image: &&str| without_tag(image).is_some_and(|name| name.ends_with(&ending));
    match required.lines().map(str::trim).find(is_it) {
        Some(image) => image.to_owned(),
        None => format!("{}:preloaded", without_tag(imported).unwrap_or_default()),
    }
}

async fn commit(
    engine: &Engine,
    container: &str,
    target: &ImageReference,
) -> Result<(), ImageError> {
    let options = CommitContainerOptionsBuilder::default()
        .container(container)
        .repo(&target.repository)
        .tag(&target.tag)
        .changes(&changes())
        .build();
    let committed = engine
        .client()
        .commit_container(options, ContainerConfig::default());
    committed.await.map_err(|source| ImageError::Engine {
        what: format!("keep {target}"),
        source,
    })?;
    Ok(())
}

/// Returns what the image has in place of the container's settings: another entrypoint, and no
/// owner. Every container gets the labels of its image, and nodes have another owner.
fn changes() -> String {
    let entrypoint = "ENTRYPOINT [\"/usr/local/bin/entrypoint\", \"/sbin/init\"]\nCMD []";
    let labels = containers::LABELS.map(|label| format!("\nLABEL {label}=\"\""));
    format!("{entrypoint}{}", labels.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_gets_the_name_that_kubeadm_requires() {
        let required = "example.org/kube-proxy:v1\nexample.org/coredns/coredns:v1.14.6\n";
        let imported = "example.org/trii-rehearsal/x:0123";
        let known_as = |name| known_as(name, required, imported);
        assert_eq!(known_as("coredns"), "example.org/coredns/coredns:v1.14.6");
        assert_eq!(known_as("kube-proxy"), "example.org/kube-proxy:v1");
        assert_eq!(known_as("proxy"), "example.org/trii-rehearsal/x:preloaded");
    }
}
