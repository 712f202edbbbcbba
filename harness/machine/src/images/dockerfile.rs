//! Builds Dockerfiles by the classic builder of the engine's API, which every engine has.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptionsBuilder, BuilderVersion};
use futures::StreamExt;
use tokio_util::io::ReaderStream;

use super::recipe::Recipe;
use super::{ImageError, ImageReference, LABEL};
use crate::engine::Engine;

/// Between two lines of a build. An `apt-get install` prints lines all the time.
const NEXT_LINE: Duration = Duration::from_secs(5 * 60);

/// How many of a build's last lines an error has.
const LAST_LINES: usize = 12;

/// Builds `target` from the archive of a context. `from` has base images by build argument.
pub(super) async fn build(
    engine: &Engine,
    recipe: &Recipe,
    target: &str,
    context: &Path,
    from: &BTreeMap<String, ImageReference>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ImageError> {
    let archive = tokio::fs::File::open(context).await;
    let archive = archive.map_err(ImageError::io("read the packed context"))?;
    let arguments: HashMap<&str, String> = from
        .iter()
        .map(|(argument, image)| (argument.as_str(), image.to_string()))
        .collect();
    let options = BuildImageOptionsBuilder::default()
        .t(target)
        .version(BuilderVersion::BuilderV1)
        .buildargs(&arguments)
        .labels(&HashMap::from([LABEL]))
        .rm(true)
        // Also removes containers after a failed step.
        .forcerm(true)
        .build();
    let body = bollard::body_try_stream(ReaderStream::with_capacity(archive, 1 << 20));
    let mut answers = engine.client().build_image(options, None, Some(body));
    let mut last: Vec<String> = Vec::new();
    let failed = |why: String, last: &[String]| ImageError::Build {
        name: recipe.name.clone(),
        why,
        last_lines: last[last.len().saturating_sub(LAST_LINES)..].join("\n"),
    };
    loop {
        let Ok(answer) = tokio::time::timeout(NEXT_LINE, answers.next()).await else {
            let why = format!("the engine printed nothing for {} s", NEXT_LINE.as_secs());
            return Err(failed(why, &last));
        };
        match answer {
            None => return Ok(()),
            Some(Err(error)) => return Err(failed(error.to_string(), &last)),
            Some(Ok(BuildInfo { stream, .. })) => {
                let text = stream.unwrap_or_default();
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    progress(line);
                    last.push(line.to_owned());
                }
            }
        }
    }
}
