//! Checks whether this machine can get the images of a cluster.

use std::time::Duration;

use super::recipe::Recipe;
use super::{ImageError, Supply, Workshop, credentials, present};
use crate::engine::Engine;
use crate::tools::{self, OLDEST_GO};

/// Images that every cluster needs: one is compiled, one is pulled or built.
const COMPILED: &str = "platform";
const PULLED: &str = "kind-node";

/// A reachable registry answers in less than a second.
const REGISTRY_DEADLINE: Duration = Duration::from_secs(5);

/// What the images of a cluster depend on.
#[derive(Clone, Copy, Debug)]
pub struct ImageAvailability {
    /// The engine has the platform's image, or it can be compiled, which works on Linux only.
    pub compiled: bool,
    /// The programs that build images are here, or Debian's packages have them.
    pub built: bool,
    /// The engine has the other images, or a registry answers it.
    pub pulled: bool,
}

impl ImageAvailability {
    /// Reads them; sends a request to a registry only if nothing can be built.
    ///
    /// # Errors
    /// [`ImageError`]: a recipe cannot be read, or the engine stopped answering.
    pub async fn look(
        engine: &Engine,
        workshop: &Workshop,
    ) -> Result<ImageAvailability, ImageError> {
        let linux = cfg!(target_os = "linux");
        let built = linux && can_build(workshop).await;
        Ok(ImageAvailability {
            compiled: linux || is_here(engine, workshop, COMPILED).await?,
            built,
            pulled: !built
                && (is_here(engine, workshop, PULLED).await?
                    || registry_answers(engine, workshop).await?),
        })
    }

    /// Why a cluster's images are not available; none if they are.
    pub fn lack(self) -> Option<&'static str> {
        if !self.compiled {
            Some("the platform's image is compiled on Linux only")
        } else if !self.built && !self.pulled {
            Some(
                "its registry does not answer, and mmdebstrap and Go, which build images, are not here",
            )
        } else {
            None
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
    let client = engine.client();
    let request = client.inspect_registry_image(&name, stored.unwrap_or_default());
    let answer = tokio::time::timeout(REGISTRY_DEADLINE, request).await;
    Ok(answer.is_ok_and(|answer| answer.is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_needs_images_that_are_compiled_and_built_or_pulled() {
        let lack = |compiled, built, pulled| {
            ImageAvailability {
                compiled,
                built,
                pulled,
            }
            .lack()
        };
        for (built, pulled) in [(true, false), (false, true)] {
            assert_eq!(lack(true, built, pulled), None);
            // A Mac.
            assert!(lack(false, built, pulled).unwrap().contains("Linux only"));
        }
        let neither = lack(true, false, false).unwrap();
        assert!(neither.contains("registry") && neither.contains("mmdebstrap"));
    }
}
