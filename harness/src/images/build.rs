//! Builds images through the engine's API: a Debian root from packages, and
//! Dockerfiles by the classic builder, which every engine has.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::BuildInfo;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, BuilderVersion, CreateImageOptionsBuilder,
};
use futures::{Stream, StreamExt};
use tokio_util::io::ReaderStream;

use super::recipe::Recipe;
use super::{Had, ImageError, ImageReference, LABEL, Workshop, apt_sources};
use crate::engine::Engine;
use crate::{subprocess, tools};

/// A base of 180 MB takes half a minute from a mirror nearby.
const BOOTSTRAP_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Between two lines of a build; an `apt-get install` prints all the while.
const NEXT_LINE: Duration = Duration::from_secs(5 * 60);

/// How many of a build's last lines an error carries.
const LAST_LINES: usize = 12;

/// A minimal Debian by `mmdebstrap`, imported as an image.
pub(super) async fn debian(
    engine: &Engine,
    workshop: &Workshop,
    recipe: &Recipe,
    suite: &str,
    include: &[String],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ImageError> {
    let name = &recipe.name;
    let Some(mmdebstrap) = tools::on_path("mmdebstrap") else {
        return Err(ImageError::NoBuilder { name: name.clone() });
    };
    let io = |source| ImageError::Io {
        what: format!("keep the archive of the image `{name}`"),
        source,
    };
    // Ends with this function, however it ends.
    let room = tempfile::tempdir_in(&workshop.state_dir).map_err(io)?;
    let archive = room.path().join("root.tar");
    // Its own temporary files go there too.
    let mut argv = vec![
        "env".to_owned(),
        format!("TMPDIR={}", room.path().display()),
        mmdebstrap.display().to_string(),
    ];
    argv.extend(["--variant=minbase".to_owned(), "--quiet".to_owned()]);
    argv.push(format!("--include={}", include.join(",")));
    argv.extend(
        apt_sources::acquire_options()
            .await
            .into_iter()
            .map(|option| format!("--aptopt={option}")),
    );
    argv.extend([suite.to_owned(), archive.display().to_string()]);
    // This machine may have mirrors of its own; without any mmdebstrap knows Debian's.
    if let Some(sources) = apt_sources::of_this_machine(suite) {
        let list = room.path().join("sources.list");
        tokio::fs::write(&list, sources).await.map_err(io)?;
        argv.push(list.display().to_string());
    }
    subprocess::run(&argv, BOOTSTRAP_DEADLINE, progress)
        .await
        .map_err(|source| ImageError::Bootstrap {
            name: name.clone(),
            source,
        })?;
    let file = tokio::fs::File::open(&archive).await.map_err(io)?;
    import(engine, recipe, file).await
}

async fn import(
    engine: &Engine,
    recipe: &Recipe,
    archive: tokio::fs::File,
) -> Result<(), ImageError> {
    let ImageReference {
        repository, tag, ..
    } = recipe.built_reference(Had::Present);
    let (key, value) = LABEL;
    let options = CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo(&repository)
        .tag(&tag)
        .changes(vec![
            format!("LABEL {key}={value}"),
            r#"CMD ["/bin/sh"]"#.to_owned(),
        ])
        .build();
    let body = bollard::body_try_stream(ReaderStream::with_capacity(archive, 1 << 20));
    let mut answers = engine
        .client()
        .create_image(Some(options), Some(body), None);
    while let Some(answer) = next(&mut answers, recipe).await? {
        answer.map_err(|source| ImageError::Engine {
            what: format!("import the image `{}`", recipe.name),
            source,
        })?;
    }
    Ok(())
}

/// What `recipe`'s Dockerfile makes on top of `base`.
pub(super) async fn dockerfile(
    engine: &Engine,
    recipe: &Recipe,
    base: &ImageReference,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ImageError> {
    let context = recipe.context().await.map_err(|source| ImageError::Io {
        what: format!("pack the recipe of the image `{}`", recipe.name),
        source,
    })?;
    let options = BuildImageOptionsBuilder::default()
        .t(&recipe.built_reference(Had::Present).to_string())
        .version(BuilderVersion::BuilderV1)
        .buildargs(&HashMap::from([("BASE", base.to_string())]))
        .labels(&HashMap::from([LABEL]))
        .rm(true)
        // Also after a failed step: nothing of a build stays behind.
        .forcerm(true)
        .build();
    let body = bollard::body_full(context.into());
    let mut answers = engine.client().build_image(options, None, Some(body));
    let mut last: Vec<String> = Vec::new();
    while let Some(answer) = next(&mut answers, recipe).await? {
        match answer {
            Ok(BuildInfo { stream, .. }) => {
                for line in stream.iter().flat_map(|text| text.lines()) {
                    if !line.trim().is_empty() {
                        progress(line);
                        last.push(line.to_owned());
                    }
                }
            }
            Err(error) => {
                return Err(ImageError::Build {
                    name: recipe.name.clone(),
                    why: error.to_string(),
                    last_lines: last[last.len().saturating_sub(LAST_LINES)..].join("\n"),
                });
            }
        }
    }
    Ok(())
}

async fn next<S: Stream + Unpin>(
    answers: &mut S,
    recipe: &Recipe,
) -> Result<Option<S::Item>, ImageError> {
    tokio::time::timeout(NEXT_LINE, answers.next())
        .await
        .map_err(|_elapsed| ImageError::Build {
            name: recipe.name.clone(),
            why: format!("the engine has said nothing for {} s", NEXT_LINE.as_secs()),
            last_lines: String::new(),
        })
}
