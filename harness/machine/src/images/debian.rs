//! Builds a Debian image from packages, by `mmdebstrap`.

use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use nix::unistd::Uid;
use tokio_util::io::ReaderStream;

use super::build_folder::BuildFolder;
use super::recipe::Recipe;
use super::{ImageError, ImageReference, LABEL, Obtained, Workshop, apt_sources};
use crate::engine::Engine;
use crate::tools;

/// A base of 180 MB takes half a minute from a near mirror.
const BOOTSTRAP_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// The import of 180 MB takes seconds.
const IMPORT_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// Builds a minimal Debian and imports it as an image.
pub(super) async fn build(
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
    let io = ImageError::io("keep the archive of a Debian");
    let room = BuildFolder::new(workshop, name).await?;
    let archive = room.path().join("root.tar");
    // For its own temporary files, too.
    let mut argv = vec![
        "env".to_owned(),
        format!("TMPDIR={}", room.path().display()),
    ];
    argv.extend(unshare().await);
    argv.push(mmdebstrap.display().to_string());
    argv.extend(["--variant=minbase".to_owned(), "--quiet".to_owned()]);
    argv.push(format!("--include={}", include.join(",")));
    let options = apt_sources::acquire_options().await.into_iter();
    argv.extend(options.map(|option| format!("--aptopt={option}")));
    argv.extend([suite.to_owned(), archive.display().to_string()]);
    // This machine may have its own mirrors. By default mmdebstrap uses Debian's.
    if let Some(sources) = apt_sources::of_this_machine(suite) {
        let list = room.path().join("sources.list");
        tokio::fs::write(&list, sources).await.map_err(&io)?;
        argv.push(list.display().to_string());
    }
    let failed = |source| ImageError::Bootstrap {
        name: name.clone(),
        source,
    };
    room.run(&argv, BOOTSTRAP_DEADLINE, progress, failed)
        .await?;
    let file = tokio::fs::File::open(&archive).await.map_err(&io)?;
    import(engine, recipe, file).await?;
    room.close().await
}

/// Returns the command that gives mmdebstrap its own mount namespace; empty if it does not work.
///
/// As root mmdebstrap mounts this machine's `/sys` and devices in the folder. When it is killed,
/// these mounts end with the namespace, so removing the folder does not reach them. Without root it
/// creates a namespace itself (its `--mode=unshare`).
async fn unshare() -> Vec<String> {
    let works = tools::version_line("unshare", &["--mount", "echo", "yes"]).await;
    match Uid::effective().is_root() && works.is_some() {
        true => vec!["unshare".to_owned(), "--mount".to_owned()],
        false => Vec::new(),
    }
}

async fn import(
    engine: &Engine,
    recipe: &Recipe,
    archive: tokio::fs::File,
) -> Result<(), ImageError> {
    let ImageReference {
        repository, tag, ..
    } = recipe.built_reference(Obtained::Present);
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
    let imported = async {
        while let Some(answer) = answers.next().await {
            answer.map_err(|source| ImageError::Engine {
                what: format!("import the image `{}`", recipe.name),
                source,
            })?;
        }
        Ok(())
    };
    let imported = tokio::time::timeout(IMPORT_DEADLINE, imported).await;
    imported.unwrap_or_else(|_elapsed| {
        Err(ImageError::Build {
            name: recipe.name.clone(),
            why: format!("its import took over {} s", IMPORT_DEADLINE.as_secs()),
            last_lines: String::new(),
        })
    })
}
