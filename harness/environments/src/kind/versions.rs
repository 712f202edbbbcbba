//! Versions of the platform on the nodes.

use crate::config::Config;
use machine::engine::Engine;
use machine::images::{self, ForNodes, ImageError, Supply, Workshop};

/// Loads the checkout's images into the nodes of `cluster`, under the names of these versions.
///
/// # Errors
/// An image can be neither pulled nor built, or cannot be loaded.
pub async fn load(
    engine: &Engine,
    workshop: &Workshop,
    cluster: &str,
    config: &Config,
    versions: &[String],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ImageError> {
    let mut named = Vec::new();
    for (recipe, platform_image) in config
        .images
        .iter()
        .filter(|(_, it)| it.name.contains("{version}"))
    {
        let image = images::ensure(engine, workshop, recipe, Supply::Auto, progress).await?;
        named.extend(versions.iter().map(|version| ForNodes {
            image: image.to_string(),
            known_as: platform_image.of_version(version),
        }));
    }
    images::load(engine, cluster, &named, progress)
        .await
        .map(drop)
}
