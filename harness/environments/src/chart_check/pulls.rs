//! Whether the registries have the images that the nodes of a new cluster pull.

use futures::future::join_all;
use machine::engine::Engine;
use machine::images::registry::{self, PullFailure, Refusal};

use super::ChartCheckError;
use super::images::PulledImage;
use crate::config::{Config, ConfigError};

/// Asks the registry of each image, through the engine. Returns notes on images that only the
/// nodes can pull.
///
/// # Errors
/// [`ChartCheckError::Images`]: a registry does not have an image, or does not answer.
pub async fn check(
    engine: &Engine,
    config: &Config,
    pulled: &[PulledImage],
) -> Result<Vec<String>, ChartCheckError> {
    let answers = pulled.iter().map(|it| registry::ask(engine, &it.image));
    let answers = join_all(answers).await;
    sorted(config, pulled.iter().zip(answers))
}

fn sorted<'a>(
    config: &Config,
    answers: impl Iterator<Item = (&'a PulledImage, Option<Result<(), Refusal>>)>,
) -> Result<Vec<String>, ChartCheckError> {
    let (mut notes, mut refusals) = (Vec::new(), Vec::new());
    for (pulled, answer) in answers {
        let image = &pulled.image;
        match answer {
            Some(Ok(())) => {}
            None => notes.push(format!(
                "the nodes pull {image}: whether they can is seen then"
            )),
            Some(Err(refused))
                if refused.failure == PullFailure::Denied && pulled.has_pull_secret =>
            {
                notes.push(format!(
                    "the nodes pull {image} with the credentials of its pods: whether they can is seen then"
                ));
            }
            Some(Err(refused)) => refusals.push(refusal(config, pulled, &refused)),
        }
    }
    match refusals.is_empty() {
        true => Ok(notes),
        false => Err(ChartCheckError::Images { refusals }),
    }
}

fn refusal(config: &Config, pulled: &PulledImage, refused: &Refusal) -> ConfigError {
    let (what, help) = match refused.failure {
        PullFailure::Denied => (
            "does not give it without a login",
            "correct the image in the values, or add imagePullSecrets to its pods",
        ),
        PullFailure::NotThere => (
            "does not have it",
            "correct the image in the values of the chart",
        ),
        PullFailure::Other => (
            "does not answer",
            "add a recipe for it to [images] (docs/images.md), or make the registry reachable",
        ),
    };
    let (PulledImage { image, owner, .. }, why) = (pulled, &refused.why);
    let message = format!("the nodes cannot pull {image} of {owner}: its registry {what}: {why}");
    config.refuse(pulled.place.clone(), message, Some(help.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The refusals or the notes, if the registry gives this answer.
    fn with(answer: Option<Result<(), Refusal>>, has_pull_secret: bool) -> Result<String, String> {
        let text = include_str!("../../../../harness.toml");
        let config = Config::parse(Path::new("harness.toml"), text).unwrap();
        let pulled = PulledImage {
            image: "example/shop:1".to_owned(),
            owner: "deployment/shop".to_owned(),
            has_pull_secret,
            place: config.releases[0].place.clone(),
        };
        let sorted = sorted(&config, [(&pulled, answer)].into_iter());
        match sorted {
            Ok(notes) => Ok(notes.join("\n")),
            Err(ChartCheckError::Images { refusals }) => {
                let line = refusals[0].to_string();
                let help = miette::Diagnostic::help(&refusals[0]).unwrap();
                Err(format!("{line}\nhelp: {help}"))
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn refused(failure: PullFailure) -> Option<Result<(), Refusal>> {
        let why = "its words".to_owned();
        Some(Err(Refusal { failure, why }))
    }

    #[test]
    fn an_image_that_no_registry_gives_is_refused_with_what_to_do() {
        assert_eq!(with(Some(Ok(())), false), Ok(String::new()));
        insta::assert_snapshot!(with(refused(PullFailure::NotThere), true).unwrap_err());
        insta::assert_snapshot!(with(refused(PullFailure::Other), true).unwrap_err());
        insta::assert_snapshot!(with(refused(PullFailure::Denied), false).unwrap_err());
    }

    #[test]
    fn what_only_the_nodes_can_pull_is_a_note() {
        let noted = with(refused(PullFailure::Denied), true).unwrap();
        assert!(
            noted.contains("with the credentials of its pods"),
            "{noted}"
        );
        let podman = with(None, false).unwrap();
        assert!(
            podman.ends_with("whether they can is seen then"),
            "{podman}"
        );
    }
}
