//! Copies images from the engine into the containerd of nodes.

use futures::StreamExt;
use tokio::sync::mpsc;

use super::{ImageError, exec};
use crate::engine::Engine;

/// containerd's command, in Kubernetes' namespace.
pub(super) const CTR: [&str; 3] = ["ctr", "--namespace=k8s.io", "images"];

/// Saves the images once and imports them into every container at the same time, with `options` of
/// `ctr images import`. Shared layers are transferred once.
pub(super) async fn import(
    engine: &Engine,
    images: &[String],
    containers: &[String],
    options: &[&str],
) -> Result<(), ImageError> {
    let import = import_command(options);
    let (senders, imports): (Vec<_>, Vec<_>) = containers
        .iter()
        .map(|container| {
            let (sender, input) = exec::input();
            (sender, exec::run(engine, container, &import, Some(input)))
        })
        .unzip();
    let (saved, imported) = tokio::join!(
        save(engine, images, senders),
        futures::future::try_join_all(imports)
    );
    // A failed import also ends the save. It is the cause.
    imported?;
    saved
}

/// Without `--all-platforms`: an engine with containerd's store saves the image of its own platform
/// under the index of all platforms. `ctr` would then fail, because the other blobs are missing.
fn import_command<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&CTR, &["import"][..], options, &["-"]].concat()
}

async fn save(
    engine: &Engine,
    images: &[String],
    senders: Vec<mpsc::Sender<Vec<u8>>>,
) -> Result<(), ImageError> {
    let names: Vec<&str> = images.iter().map(String::as_str).collect();
    let mut archive = Box::pin(engine.client().export_images(&names));
    while let Some(chunk) = archive.next().await {
        let chunk = chunk.map_err(|source| ImageError::Engine {
            what: format!("save {}", names.join(", ")),
            source,
        })?;
        for sender in &senders {
            if sender.send(chunk.to_vec()).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_platform_of_the_node_is_imported() {
        let command = import_command(&["--digests"]).join(" ");
        assert_eq!(command, "ctr --namespace=k8s.io images import --digests -");
    }
}
