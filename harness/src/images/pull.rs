//! Pulls an image, without waiting long for a registry that is not there.

use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;

use super::ImageReference;
use crate::engine::Engine;

/// From the request to the registry's first word.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Between two words of a pull under way.
const NEXT_WORD: Duration = Duration::from_secs(60);

/// Pulls it whole; the error says in words why not.
pub(super) async fn pull(engine: &Engine, wanted: &ImageReference) -> Result<(), String> {
    let options = CreateImageOptionsBuilder::default()
        .from_image(&wanted.repository)
        .tag(&wanted.tag)
        .build();
    let mut words = engine.client().create_image(Some(options), None, None);
    let mut patience = FIRST_ANSWER;
    loop {
        let word = tokio::time::timeout(patience, words.next()).await;
        match word {
            Err(_elapsed) => return Err(format!("no answer within {} s", patience.as_secs())),
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Ok(Some(Ok(_))) => patience = NEXT_WORD,
        }
    }
}
