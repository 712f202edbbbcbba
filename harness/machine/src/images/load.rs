//! Loads images into containerd on the nodes of a kind cluster, and checks that they are there.

use std::time::Duration;

use futures::future::try_join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::archive::{self, CTR};
use super::{ImageError, ImageReference, exec};
use crate::containers::{self, LABEL_KIND_CLUSTER};
use crate::engine::Engine;

/// From the end of an import until the kubelet finds its images.
const SEEN_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An image for the nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForNodes {
    /// The engine's name for it.
    pub image: String,
    /// The name that pods use.
    pub known_as: String,
}

impl ForNodes {
    /// Returns the image under the engine's name.
    pub fn as_it_is(image: &ImageReference) -> ForNodes {
        ForNodes {
            image: image.to_string(),
            known_as: image.to_string(),
        }
    }
}

/// The result of [`load`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// The cluster's nodes. Each of them has every image now.
    pub nodes: Vec<String>,
    /// Images that were loaded, by the names that pods use.
    pub brought: Vec<String>,
    /// Images that every node had already, by the names that pods use.
    pub there: Vec<String>,
}

/// Ensures that every node of the kind cluster has the images. The engine must have them. An image
/// is transferred only to nodes that lack it, or that have another one of that name.
///
/// # Errors
/// [`ImageError::NoNodes`] if the engine runs no such cluster, [`ImageError::NotOnNode`] if a node
/// still lacks an image 15 s after the import.
pub async fn load(
    engine: &Engine,
    cluster: &str,
    images: &[ForNodes],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Loaded, ImageError> {
    let nodes = nodes(engine, cluster).await?;
    let wanted = try_join_all(images.iter().map(|image| wanted(engine, image))).await?;
    let lacking = lacking(engine, &nodes, &wanted).await?;
    let missing = |image: &&WantedImage| lacking.iter().any(|(_, lacks)| lacks == &image.name);
    let (missing, there): (Vec<&WantedImage>, Vec<&WantedImage>) = wanted.iter().partition(missing);
    let names = |images: &[&WantedImage]| images.iter().map(|image| image.name.clone()).collect();
    let (brought, there): (Vec<String>, Vec<String>) = (names(&missing), names(&there));
    if !brought.is_empty() {
        let to: Vec<String> = nodes
            .iter()
            .filter(|node| lacking.iter().any(|(lacks, _)| lacks == *node))
            .cloned()
            .collect();
        progress(&format!("{} to {}", brought.join(", "), to.join(", ")));
        let images: Vec<String> = missing.iter().map(|image| image.image.clone()).collect();
        archive::import(engine, &images, &to, &["--digests"]).await?;
        let named = to
            .iter()
            .flat_map(|node| missing.iter().map(move |image| (node, image)));
        try_join_all(named.map(|(node, image)| name(engine, node, image))).await?;
        until_none_lacks(async || self::lacking(engine, &nodes, &wanted).await).await?;
    }
    Ok(Loaded {
        nodes,
        brought,
        there,
    })
}

/// Waits until the kubelet of each node finds the images. containerd's CRI keeps its own list, which
/// follows an import by events (containerd#12940).
async fn until_none_lacks(
    mut lacking: impl AsyncFnMut() -> Result<Vec<(String, String)>, ImageError>,
) -> Result<(), ImageError> {
    let end = Instant::now() + SEEN_WITHIN;
    loop {
        match lacking().await?.into_iter().next() {
            None => return Ok(()),
            Some((node, image)) if Instant::now() >= end => {
                return Err(ImageError::NotOnNode { image, node });
            }
            Some(_) => sleep(LOOK_EVERY).await,
        }
    }
}

/// An image and its identity in the engine.
struct WantedImage {
    /// The engine's name for it.
    image: String,
    /// The name that pods use.
    name: String,
    id: String,
}

async fn wanted(engine: &Engine, wanted: &ForNodes) -> Result<WantedImage, ImageError> {
    let inspected = engine.client().inspect_image(&wanted.image).await;
    let inspected = inspected.map_err(|source| ImageError::Engine {
        what: format!("look for the image {}", wanted.image),
        source,
    })?;
    Ok(WantedImage {
        image: wanted.image.clone(),
        name: wanted.known_as.clone(),
        id: inspected.id.unwrap_or_default(),
    })
}

/// Gives an image on a node the name that pods use.
async fn name(engine: &Engine, node: &str, image: &WantedImage) -> Result<(), ImageError> {
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

/// Returns containerd's names for an image and for its new name. Unlike the engine's, they always
/// have the registry: without one it is the default, where a name without `/` is in `library`.
fn names_there<'a>(there: &'a str, image: &str, name: &str) -> Option<(&'a str, String)> {
    let imported = there
        .lines()
        .find(|line| *line == image || line.ends_with(&format!("/{image}")))?;
    let known_as = match imported.strip_suffix(image)?.split_once('/') {
        Some((registry, _)) if !has_registry(name) => match name.contains('/') {
            true => format!("{registry}/{name}"),
            false => format!("{registry}/library/{name}"),
        },
        _ => name.to_owned(),
    };
    Some((imported, known_as))
}

/// As of [`PullReference::registry`](super::reference::PullReference::registry).
fn has_registry(name: &str) -> bool {
    let host = name.split_once('/').map(|(host, _)| host);
    host.is_some_and(|host| host.contains(['.', ':']) || host == "localhost")
}

async fn nodes(engine: &Engine, cluster: &str) -> Result<Vec<String>, ImageError> {
    let label = format!("{LABEL_KIND_CLUSTER}={cluster}");
    let listed = containers::matching(engine, ("label", &label), false).await;
    let listed = listed.map_err(|source| ImageError::Engine {
        what: format!("list the nodes of the cluster {cluster}"),
        source,
    })?;
    let mut nodes: Vec<String> = listed.iter().filter_map(containers::name_of).collect();
    nodes.sort();
    match nodes.is_empty() {
        false => Ok(nodes),
        true => Err(ImageError::NoNodes {
            cluster: cluster.to_owned(),
        }),
    }
}

/// Returns each missing image with its node.
async fn lacking(
    engine: &Engine,
    nodes: &[String],
    wanted: &[WantedImage],
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

/// Returns whether the kubelet finds the image under this name and with this identity: the name
/// alone may be that of an older one. In Docker's own store, the engine's identity is the image's
/// configuration, which `crictl` prints. In containerd's store, it is the manifest, or the index of
/// all platforms.
async fn has(engine: &Engine, node: &str, image: &WantedImage) -> Result<bool, ImageError> {
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
        Err(ImageError::InContainer { stderr, .. }) if stderr.contains("no such image") => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn is_of(status: &str, id: &str) -> bool {
    !id.is_empty() && status.contains(id)
}

/// Returns whether `ctr images list` shows the image under this name and with this identity.
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

    #[tokio::test(start_paused = true)]
    async fn an_imported_image_may_reach_the_kubelet_later() {
        let lacks = || vec![("node".to_owned(), "x:1".to_owned())];
        let mut looks = 0;
        let later = until_none_lacks(async || {
            looks += 1;
            Ok(if looks < 3 { lacks() } else { Vec::new() })
        });
        later.await.unwrap();
        assert_eq!(looks, 3);

        let never = until_none_lacks(async || Ok(lacks())).await.unwrap_err();
        let expected = "the image x:1 was loaded and is not on the node node";
        assert_eq!(never.to_string(), expected);
    }

    /// The output of containerd 2.3 for an image that Docker 29 saved. `import-...` is the
    /// archive's own index.
    #[test]
    fn an_image_of_several_platforms_is_identified_by_its_index() {
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
    fn a_new_name_is_of_the_default_registry_unless_it_names_one() {
        let there = "example.org/trii-rehearsal/pause:1\nexample.org/trii-rehearsal/x:01\n\
            example.org/library/redis:7\nother.example/a/b:1\n";
        for (image, name, expected) in [
            (
                "trii-rehearsal/x:01",
                "trii-rehearsal/x:v2",
                "example.org/trii-rehearsal/x:v2",
            ),
            ("trii-rehearsal/x:01", "x:v2", "example.org/library/x:v2"),
            (
                "redis:7",
                "trii-rehearsal/redis:a",
                "example.org/trii-rehearsal/redis:a",
            ),
            ("redis:7", "other.example/redis:a", "other.example/redis:a"),
            (
                "other.example/a/b:1",
                "other.example/a/b:2",
                "other.example/a/b:2",
            ),
        ] {
            let (_, known_as) = names_there(there, image, name).unwrap();
            assert_eq!(known_as, expected, "{image}");
        }
        assert_eq!(names_there(there, "trii-rehearsal/y:01", "y:v2"), None);
    }

    #[test]
    fn another_image_of_the_same_name_does_not_count() {
        let status = r#"{"status": {"id": "sha256:aa", "repoTags": ["x:1"]}}"#;
        assert!(is_of(status, "sha256:aa"));
        assert!(!is_of(status, "sha256:bb"));
        assert!(!is_of(status, ""));
    }
}
