//! The image of the prober, for pods of ours in an environment's cluster.

use harness::config::Target;
use harness::environment::Environment;
use harness::images::{self, Supply};
use harness::prober::PART;

use super::deploy::Site;
use super::workplace::Workplace;

/// Its reference. A remote target names it; to the nodes of a kind cluster it is brought.
///
/// # Errors
/// Why it cannot be had.
pub async fn of(
    place: &Workplace,
    environment: &Environment,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<String, String> {
    if let Some(Target::Remote(target)) = place.config.targets.get(&environment.target) {
        let missing = || not_named(place, environment).unwrap_or_default();
        return target.prober_image.clone().ok_or_else(missing);
    }
    let site = Site::find(place, environment).await;
    let site = site.map_err(|problem| problem.to_string())?;
    brought(&site, progress)
        .await
        .map_err(|error| error.to_string())
}

/// Why there is none, where a remote target does not name it.
pub fn not_named(place: &Workplace, environment: &Environment) -> Option<String> {
    let name = &environment.target;
    match place.config.targets.get(name) {
        Some(Target::Remote(target)) if target.prober_image.is_none() => {
            Some(format!("the target {name} has no prober_image"))
        }
        _ => None,
    }
}

/// Brings it to the nodes of a kind cluster.
///
/// # Errors
/// [`images::ImageError`].
pub async fn brought(
    site: &Site<'_>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<String, images::ImageError> {
    let (engine, workshop, cluster) = site.images();
    images::on_nodes(engine, workshop, cluster, PART, Supply::Auto, progress).await
}
