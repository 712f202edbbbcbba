//! A Debian root from packages, by `mmdebstrap`.

use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use nix::unistd::Uid;
use tokio_util::io::ReaderStream;

use super::recipe::Recipe;
use super::room::Room;
use super::{Had, ImageError, ImageReference, LABEL, Workshop, apt_sources};
use crate::engine::Engine;
use crate::tools;

/// A base of 180 MB takes half a minute from a mirror nearby.
const BOOTSTRAP_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// The import of 180 MB takes seconds.
const IMPORT_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// A minimal Debian by `mmdebstrap`, imported as an image.
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
    let room = Room::new(workshop, name).await?;
    let archive = room.path().join("root.tar");
    // Its own temporary files go there too.
    let mut argv = vec![
        "env".to_owned(),
        format!("TMPDIR={}", room.path().display()),
    ];
    argv.extend(in_mounts_of_its_own().await);
    argv.push(mmdebstrap.display().to_string());
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

/// As root mmdebstrap mounts this machine's `/sys` and devices in the folder. In mounts of its
/// own they are gone when it is killed, and whoever then removes the folder removes nothing
/// else. Otherwise it does so by itself (its `--mode=unshare`).
async fn in_mounts_of_its_own() -> Vec<String> {
    let unshare = ["unshare", "--mount"];
    let works = tools::version_line("unshare", &["--mount", "echo", "yes"]).await;
    let may = Uid::effective().is_root() && works.is_some();
    unshare
        .iter()
        .filter(|_| may)
        .map(|word| (*word).to_owned())
        .collect()
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
