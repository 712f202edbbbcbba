//! Whether the images of a cluster can be had on this machine at all, before any is.

use std::time::Duration;

use super::recipe::Recipe;
use super::{ImageError, Supply, Workshop, credentials, present};
use crate::engine::Engine;
use crate::provision::OLDEST_GO;
use crate::tools;

/// What no cluster is without: compiled for containers, and pulled or built.
const COMPILED: &str = "platform";
const PULLED: &str = "kind-node";

/// A registry that can be reached tells of an image in less than one.
const REGISTRY_DEADLINE: Duration = Duration::from_secs(5);

/// What it depends on.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// The platform's image is here, or can be compiled: that is done on Linux alone.
    pub compiled: bool,
    /// What builds images is here, or Debian's packages bring it.
    pub built: bool,
    /// The others are here, or a registry answers the engine.
    pub pulled: bool,
}

impl Means {
    /// Looks; asks a registry only where nothing can be built.
    ///
    /// # Errors
    /// [`ImageError`]: a recipe cannot be read, or the engine stopped answering.
    pub async fn look(engine: &Engine, workshop: &Workshop) -> Result<Means, ImageError> {
        let linux = cfg!(target_os = "linux");
        let built = linux && can_build(workshop).await;
        Ok(Means {
            compiled: linux || is_here(engine, workshop, COMPILED).await?,
            built,
            pulled: !built
                && (is_here(engine, workshop, PULLED).await?
                    || registry_answers(engine, workshop).await?),
        })
    }

    /// Why a cluster's images cannot be had; none when they can.
    pub fn lack(self) -> Option<&'static str> {
        match self {
            Means {
                compiled: false, ..
            } => Some("the platform's image is compiled on Linux only"),
            Means {
                built: false,
                pulled: false,
                ..
            } => Some(
                "its registry does not answer, and mmdebstrap and Go, which build images, are not here",
            ),
            _ => None,
        }
    }
}

async fn can_build(workshop: &Workshop) -> bool {
    let here = |name| tools::on_path(name).is_some();
    let tools_dir = workshop.state_dir.join("tools");
    here("apt-get") || here("mmdebstrap") && tools::go(&tools_dir, OLDEST_GO).await.is_some()
}

async fn is_here(engine: &Engine, workshop: &Workshop, name: &str) -> Result<bool, ImageError> {
    let recipe = Recipe::read(&workshop.recipes, name)?;
    Ok(present(engine, &recipe, Supply::Auto).await?.is_some())
}

async fn registry_answers(engine: &Engine, workshop: &Workshop) -> Result<bool, ImageError> {
    let Some(wanted) = Recipe::read(&workshop.recipes, PULLED)?.pull else {
        return Ok(false);
    };
    let stored = credentials::of_pull(engine, workshop.docker_config.as_deref(), &wanted).await;
    let name = wanted.to_string();
    let asked = engine
        .client()
        .inspect_registry_image(&name, stored.unwrap_or_default());
    let answer = tokio::time::timeout(REGISTRY_DEADLINE, asked).await;
    Ok(answer.is_ok_and(|answer| answer.is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_had_where_its_images_are_compiled_and_built_or_pulled() {
        let lack = |compiled, built, pulled| {
            Means {
                compiled,
                built,
                pulled,
            }
            .lack()
        };
        for (built, pulled) in [(true, false), (false, true)] {
            assert_eq!(lack(true, built, pulled), None);
            // A Mac, whatever it can pull.
            assert!(lack(false, built, pulled).unwrap().contains("Linux only"));
        }
        let neither = lack(true, false, false).unwrap();
        assert!(neither.contains("registry") && neither.contains("mmdebstrap"));
    }
}
