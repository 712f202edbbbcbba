//! Whether a registry has an image, without pulling it.

use std::time::Duration;

use tokio::time::timeout;

pub use super::pull::PullFailure;
use super::pull::message_of;
use crate::engine::Engine;

/// From the question to the answer. The engine tries several addresses of a registry.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why a registry does not give an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of the failure.
    pub failure: PullFailure,
    /// The engine's, or the registry's, words.
    pub why: String,
}

impl Refusal {
    fn of(why: String) -> Refusal {
        Refusal {
            failure: PullFailure::of(&why),
            why,
        }
    }
}

/// Asks the image's registry, through the engine and without credentials: nodes of a cluster have
/// none either. Returns none if the engine cannot ask, as Podman.
/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Distribution>
pub async fn ask(engine: &Engine, image: &str) -> Option<Result<(), Refusal>> {
    if engine.is_podman() {
        return None;
    }
    let question = engine.client().inspect_registry_image(image, None);
    Some(match timeout(TIMEOUT, question).await {
        Ok(answer) => answer
            .map(drop)
            .map_err(|error| Refusal::of(message_of(error))),
        Err(_) => Err(Refusal::of(format!(
            "no answer within {} s",
            TIMEOUT.as_secs()
        ))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_what_the_registry_says() {
        let of = |why: &str| Refusal::of(why.to_owned()).failure;
        let unknown = "manifest unknown: manifest unknown";
        assert_eq!(of(unknown), PullFailure::NotThere);
        let denied = "denied: requested access to the resource is denied";
        assert_eq!(of(denied), PullFailure::Denied);
        // "no such host" is not an answer.
        let silent =
            "Get \"https://registry.example/v2/\": dial tcp: lookup registry.example: no such host";
        assert_eq!(of(silent), PullFailure::Other);
        assert_eq!(of("no answer within 20 s"), PullFailure::Other);
        assert_eq!(Refusal::of(silent.to_owned()).why, silent);
    }
}
