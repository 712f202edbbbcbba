//! Images into the nodes of a kind cluster, as containerd takes them, and the proof that
//! they are there.

use std::collections::HashMap;

use bollard::query_parameters::ListContainersOptionsBuilder;
use futures::future::try_join_all;
use serde::Serialize;

use super::archive::{self, CTR};
use super::{ImageError, ImageReference, exec};
use crate::engine::Engine;

/// The label by which kind tells whose node a container is.
const KIND_CLUSTER: &str = "io.x-k8s.kind.cluster";

/// An image that a cluster is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForNodes {
    /// The engine's name for it.
    pub image: String,
    /// The name that pods use.
    pub known_as: String,
}

impl ForNodes {
    /// Under the name that the engine has for it.
    pub fn as_it_is(image: &ImageReference) -> ForNodes {
        ForNodes {
            image: image.to_string(),
            known_as: image.to_string(),
        }
    }
}

/// What was done for one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// The cluster's nodes: every image is on each of them now.
    pub nodes: Vec<String>,
    /// Images that were brought, as pods know them.
    pub brought: Vec<String>,
    /// Images that every node had already, as pods know them.
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
    images: &[ForNodes],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Loaded, ImageError> {
    let nodes = nodes(engine, cluster).await?;
    let wanted = try_join_all(images.iter().map(|image| wanted(engine, image))).await?;
    let lacking = lacking(engine, &nodes, &wanted).await?;
    let missing = |image: &&Wanted| lacking.iter().any(|(_, lacks)| lacks == &image.name);
    let (missing, there): (Vec<&Wanted>, Vec<&Wanted>) = wanted.iter().partition(missing);
    let names = |images: &[&Wanted]| images.iter().map(|image| image.name.clone()).collect();
    let (brought, there): (Vec<String>, Vec<String>) = (names(&missing), names(&there));
    if !brought.is_empty() {
        let to: Vec<String> = nodes
            .iter()
            .filter(|node| lacking.iter().any(|(lacks, _)| lacks == *node))
            .cloned()
            .collect();
        progress(&format!("{} to {}", brought.join(", "), to.join(", ")));
        let travel: Vec<String> = missing.iter().map(|image| image.image.clone()).collect();
        archive::import(engine, &travel, &to, &["--digests"]).await?;
        let named = to
            .iter()
            .flat_map(|node| missing.iter().map(move |image| (node, image)));
        try_join_all(named.map(|(node, image)| name(engine, node, image))).await?;
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
    /// The engine's name for it.
    image: String,
    /// The name that pods use.
    name: String,
    id: String,
}

async fn wanted(engine: &Engine, wanted: &ForNodes) -> Result<Wanted, ImageError> {
    let inspected = engine.client().inspect_image(&wanted.image).await;
    let inspected = inspected.map_err(|source| ImageError::Engine {
        what: format!("look for the image {}", wanted.image),
        source,
    })?;
    Ok(Wanted {
        image: wanted.image.clone(),
        name: wanted.known_as.clone(),
        id: inspected.id.unwrap_or_default(),
    })
}

/// Gives an image on a node the name that pods use.
async fn name(engine: &Engine, node: &str, image: &Wanted) -> Result<(), ImageError> {
    if image.name == image.image {
        return Ok(());
    }
    let list = [&CTR[..], &["list", "--quiet"]].concat();
    let there = exec::run(engine, node, &list, None).await?;
    let Some((imported, known_as)) = names_there(&there, &image.image, &image.name) else {
        return Err(ImageError::NotOnNode {
            image: image.image.clone(),
            node: node.to_owned(),
        });
    };
    let tag = [&CTR[..], &["tag", "--force", imported, &known_as]].concat();
    exec::run(engine, node, &tag, None).await.map(drop)
}

/// containerd's names for an image and its new name: it spells out the registry that
/// the engine leaves out, if it does.
fn names_there<'a>(there: &'a str, image: &str, name: &str) -> Option<(&'a str, String)> {
    let imported = there
        .lines()
        .find(|line| *line == image || line.ends_with(&format!("/{image}")))?;
    let registry = imported.strip_suffix(image)?;
    Some((imported, format!("{registry}{name}")))
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
/// The engine's identity is the image's configuration in Docker's own store, which the
/// kubelet's side tells; in containerd's it is the manifest, or the index of all platforms.
async fn has(engine: &Engine, node: &str, image: &Wanted) -> Result<bool, ImageError> {
    let command = [
        "crictl",
        "inspecti",
        "--quiet",
        "--output=json",
        &image.name,
    ];
    match exec::run(engine, node, &command, None).await {
        Ok(status) if is_of(&status, &image.id) => Ok(true),
        Ok(_) => {
            let listed = exec::run(engine, node, &[&CTR[..], &["list"]].concat(), None).await?;
            Ok(is_listed(&listed, &image.name, &image.id))
        }
        Err(ImageError::InContainer { said, .. }) if said.contains("no such image") => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_of(status: &str, id: &str) -> bool {
    !id.is_empty() && status.contains(id)
}

/// Whether containerd has this very image under the name, in what `ctr images list` prints.
fn is_listed(listed: &str, name: &str, id: &str) -> bool {
    listed.lines().any(|line| {
        let mut words = line.split_whitespace();
        let is_named = |known: &str| known == name || known.ends_with(&format!("/{name}"));
        words.next().is_some_and(is_named) && words.any(|word| word == id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As containerd 2.3 prints it of an image that Docker 29 saved: `import-...` is the
    /// archive's own index.
    #[test]
    fn an_image_of_several_platforms_is_known_by_its_index() {
        let listed = "\
REF TYPE DIGEST SIZE PLATFORMS LABELS
example.org/multi/app:1 application/vnd.oci.image.index.v1+json sha256:d0 1.7 KiB linux/amd64 -
import-2026-11-28@sha256:fa application/vnd.oci.image.index.v1+json sha256:fa 1.9 KiB linux/amd64 -
";
        assert!(is_listed(listed, "example.org/multi/app:1", "sha256:d0"));
        assert!(is_listed(listed, "multi/app:1", "sha256:d0"));
        assert!(!is_listed(listed, "example.org/multi/app:1", "sha256:fa"));
        assert!(!is_listed(listed, "app:11", "sha256:d0"));
    }

    #[test]
    fn a_new_name_is_of_the_same_registry() {
        let there = "example.org/trii-rehearsal/pause:1\nexample.org/trii-rehearsal/x:01\n";
        let names = names_there(there, "trii-rehearsal/x:01", "trii-rehearsal/x:v2");
        let expected = (
            "example.org/trii-rehearsal/x:01",
            "example.org/trii-rehearsal/x:v2".to_owned(),
        );
        assert_eq!(names, Some(expected));
        assert_eq!(names_there(there, "trii-rehearsal/y:01", "y:v2"), None);
        let whole = names_there(there, "example.org/trii-rehearsal/x:01", "x:v2");
        let expected = ("example.org/trii-rehearsal/x:01", "x:v2".to_owned());
        assert_eq!(whole, Some(expected));
    }

    #[test]
    fn a_name_without_its_content_is_not_the_image() {
        let status = r#"{"status": {"id": "sha256:aa", "repoTags": ["x:1"]}}"#;
        assert!(is_of(status, "sha256:aa"));
        assert!(!is_of(status, "sha256:bb"));
        assert!(!is_of(status, ""));
    }
}
