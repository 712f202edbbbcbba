//! Images into the nodes of a kind cluster, as containerd takes them, and the proof that
//! they are there.

use std::collections::HashMap;

use bollard::query_parameters::ListContainersOptionsBuilder;
use futures::future::try_join_all;
use serde::Serialize;

use super::{ImageError, archive, exec};
use crate::engine::Engine;

/// The label by which kind tells whose node a container is.
const KIND_CLUSTER: &str = "io.x-k8s.kind.cluster";

/// What was done for one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// The cluster's nodes: every image is on each of them now.
    pub nodes: Vec<String>,
    /// Images that were brought.
    pub brought: Vec<String>,
    /// Images that every node had already.
    pub there: Vec<String>,
}

/// Sees to it that every node of the kind cluster has the images, which the engine has.
/// An image travels only when a node lacks it, or has another one of that name.
///
/// # Errors
/// [`ImageError::NoNodes`] when the engine runs no such cluster,
/// [`ImageError::NotOnNode`] when an image is still not there afterwards.
pub async fn load(
    engine: &Engine,
    cluster: &str,
    images: &[String],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Loaded, ImageError> {
    let nodes = nodes(engine, cluster).await?;
    let wanted = try_join_all(images.iter().map(|image| wanted(engine, image))).await?;
    let lacking = lacking(engine, &nodes, &wanted).await?;
    let missing = |image: &&Wanted| lacking.iter().any(|(_, lacks)| lacks == &image.name);
    let (brought, there): (Vec<&Wanted>, Vec<&Wanted>) = wanted.iter().partition(missing);
    let names = |images: Vec<&Wanted>| -> Vec<String> {
        images.into_iter().map(|image| image.name.clone()).collect()
    };
    let (brought, there) = (names(brought), names(there));
    if !brought.is_empty() {
        let to: Vec<String> = nodes
            .iter()
            .filter(|node| lacking.iter().any(|(lacks, _)| lacks == *node))
            .cloned()
            .collect();
        progress(&format!("{} to {}", brought.join(", "), to.join(", ")));
        archive::import(engine, &brought, &to, &["--digests"]).await?;
        let still = self::lacking(engine, &nodes, &wanted).await?;
        if let Some((node, image)) = still.into_iter().next() {
            return Err(ImageError::NotOnNode { image, node });
        }
    }
    Ok(Loaded {
        nodes,
        brought,
        there,
    })
}

/// An image and the identity that the engine knows it by.
struct Wanted {
    name: String,
    id: String,
}

async fn wanted(engine: &Engine, image: &str) -> Result<Wanted, ImageError> {
    let inspected = engine.client().inspect_image(image).await;
    let inspected = inspected.map_err(|source| ImageError::Engine {
        what: format!("look for the image {image}"),
        source,
    })?;
    Ok(Wanted {
        name: image.to_owned(),
        id: inspected.id.unwrap_or_default(),
    })
}

async fn nodes(engine: &Engine, cluster: &str) -> Result<Vec<String>, ImageError> {
    let label = format!("{KIND_CLUSTER}={cluster}");
    let options = ListContainersOptionsBuilder::default()
        .filters(&HashMap::from([("label", vec![label])]))
        .build();
    let listed = engine.client().list_containers(Some(options)).await;
    let listed = listed.map_err(|source| ImageError::Engine {
        what: format!("list the nodes of the cluster {cluster}"),
        source,
    })?;
    let mut nodes: Vec<String> = listed
        .into_iter()
        .filter_map(|container| container.names?.into_iter().next())
        .map(|name| name.trim_start_matches('/').to_owned())
        .collect();
    nodes.sort();
    match nodes.is_empty() {
        false => Ok(nodes),
        true => Err(ImageError::NoNodes {
            cluster: cluster.to_owned(),
        }),
    }
}

/// Which node lacks which image.
async fn lacking(
    engine: &Engine,
    nodes: &[String],
    wanted: &[Wanted],
) -> Result<Vec<(String, String)>, ImageError> {
    let pairs = nodes
        .iter()
        .flat_map(|node| wanted.iter().map(move |image| (node, image)));
    let looks = try_join_all(pairs.map(async |(node, image)| {
        let lacks = !has(engine, node, image).await?;
        Ok::<_, ImageError>(lacks.then(|| (node.clone(), image.name.clone())))
    }));
    Ok(looks.await?.into_iter().flatten().collect())
}

/// The kubelet's view of the node, and the very image: a name alone may be an older one's.
/// The engine's identity is the image's configuration in Docker's own store, and its
/// manifest in containerd's, which a node tells of what came with `--digests`.
async fn has(engine: &Engine, node: &str, image: &Wanted) -> Result<bool, ImageError> {
    let command = [
        "crictl",
        "inspecti",
        "--quiet",
        "--output=json",
        &image.name,
    ];
    match exec::run(engine, node, &command, None).await {
        Ok(status) => Ok(is_of(&status, &image.id)),
        Err(ImageError::InContainer { said, .. }) if said.contains("no such image") => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_of(status: &str, id: &str) -> bool {
    !id.is_empty() && status.contains(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_its_content_is_not_the_image() {
        let status = r#"{"status": {"id": "sha256:aa", "repoTags": ["x:1"]}}"#;
        assert!(is_of(status, "sha256:aa"));
        assert!(!is_of(status, "sha256:bb"));
        assert!(!is_of(status, ""));
    }
}
