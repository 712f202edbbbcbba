//! Lists, builds and loads container images.

use base::exit::ExitCode;
use base::home::Home;
use base::interrupts::Interrupts;
use base::run::event::Stage;
use environments::sweep;
use machine::engine::{Engine, TIMEOUT};
use machine::images::{self, ForNodes, ImageReference, Listed, Obtained, Supply};

use crate::invocation::{Context, interrupts};
use crate::outcome::CommandOutcome;
use crate::output::{DoneAtEnd, Output};
use crate::problem::Problem;

/// A command for images.
pub enum Command {
    /// Lists all images.
    List,
    /// Pulls or builds images.
    Build(Images),
    /// Loads images into the nodes of the kind cluster of this name.
    Load(Images, String),
}

/// A selection of images.
pub struct Images {
    /// Their names.
    pub names: Vec<String>,
    /// Where they may come from.
    pub supply: Supply,
}

/// Lists, builds or loads images.
pub async fn run(context: &Context, command: &Command) -> Result<CommandOutcome, Problem> {
    let mut interrupts = interrupts()?;
    let home = context.home()?;
    let work = async {
        match command {
            Command::List => list(context).await,
            Command::Build(images) => build(context, images).await,
            Command::Load(images, cluster) => load(context, images, cluster).await,
        }
    };
    tokio::select! {
        done = work => done,
        // The engine cancels its builds when the connection is closed.
        signal = interrupts.next() => {
            Err(cancel_builds(&context.output, &home, signal, &mut interrupts).await)
        }
    }
}

/// Removes what is left of the builds that `signal` cancelled. A second signal leaves that to a
/// later sweep.
pub async fn cancel_builds(
    output: &Output,
    home: &Home,
    signal: ExitCode,
    interrupts: &mut Interrupts,
) -> Problem {
    let left = tokio::select! {
        left = sweep::own_builds(home) => left,
        _ = interrupts.next() => vec!["what was being built; `cargo xtask down --all` removes it".to_owned()],
    };
    for left in &left {
        output.line(format_args!("left: {left}"));
    }
    Problem::ended(match left.is_empty() {
        true => signal,
        false => ExitCode::CleanupIncomplete,
    })
}

async fn list(context: &Context) -> Result<CommandOutcome, Problem> {
    let engine = engine().await?;
    let workshop = context.workshop()?;
    let listed = images::list(&engine, &workshop);
    let listed = context.output.waiting("looking for each image", listed);
    let listed = listed.await.map_err(Problem::no_environment)?;
    let outcome = CommandOutcome::of(ExitCode::Held).with_answer(listed.iter().map(line));
    outcome.with_document(&listed)
}

async fn build(context: &Context, images: &Images) -> Result<CommandOutcome, Problem> {
    let images = ensure(&engine().await?, context, images).await?;
    let lines = images.iter().map(ToString::to_string);
    let outcome = CommandOutcome::of(ExitCode::Held).with_answer(lines);
    outcome.with_document(&images)
}

async fn load(
    context: &Context,
    images: &Images,
    cluster: &str,
) -> Result<CommandOutcome, Problem> {
    let engine = engine().await?;
    let images = ensure(&engine, context, images).await?;
    let wanted: Vec<ForNodes> = images.iter().map(ForNodes::as_it_is).collect();
    let progress = |text: &str| context.output.progress(Stage::Provision, text);
    let _done_at_end = DoneAtEnd(&context.output);
    let loaded = images::load(&engine, cluster, &wanted, &progress).await;
    let loaded = loaded.map_err(Problem::no_environment)?;
    let nodes = loaded.nodes.join(", ");
    let brought = loaded.brought.iter().map(|image| (image, "brought to"));
    let there = loaded.there.iter().map(|image| (image, "was on"));
    let lines = brought
        .chain(there)
        .map(|(image, how)| format!("{image} {how} {nodes}"));
    let outcome = CommandOutcome::of(ExitCode::Held).with_answer(lines);
    outcome.with_document(&loaded)
}

/// Pulls or builds the images, after removing what killed builds left. What cannot be removed is
/// only reported.
async fn ensure(
    engine: &Engine,
    context: &Context,
    images: &Images,
) -> Result<Vec<ImageReference>, Problem> {
    let Context { output, .. } = context;
    let workshop = context.workshop()?;
    for left in sweep::dead_owners(&context.home()?).await.lines() {
        output.line(format_args!("left: {left}"));
    }
    let progress = |text: &str| output.progress(Stage::Provision, text);
    let _done_at_end = DoneAtEnd(output);
    let ensured = images::ensure_all(engine, &workshop, &images.names, images.supply, &progress);
    let ensured = ensured.await.map_err(Problem::no_environment)?;
    for image in &ensured.images {
        let how = match &image.had {
            Obtained::Present => "is here",
            Obtained::Pulled => "pulled",
            Obtained::Built { .. } => "built",
        };
        output.line(format_args!("{image} {how}"));
    }
    if !ensured.split.is_empty() {
        output.line(format_args!("\nbuilt:\n{}", ensured.split));
    }
    Ok(ensured.images)
}

async fn engine() -> Result<Engine, Problem> {
    let found = Engine::find(TIMEOUT).await;
    found.map_err(Problem::no_environment)
}

/// Returns the line of an image: `name  state  size  hash  reference`.
fn line(image: &Listed) -> String {
    let name = &image.name;
    let hash = &image.hash[..12];
    let from = image.pull.as_deref().unwrap_or("in no registry");
    let (state, size, reference) = match image.here.first() {
        Some(local) => {
            let size = format!("{:.1} MB", local.bytes as f64 / 1e6);
            ("here", size, local.reference.as_str())
        }
        None => ("-", String::new(), from),
    };
    let text = format!("{name:<24} {state:<5} {size:>9}  {hash}  {reference}");
    match image.part_of.is_empty() {
        true => text,
        false => format!("{text}  (part of {})", image.part_of.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use machine::images::Local;

    use super::*;

    #[test]
    fn a_line_shows_whether_an_image_is_here_and_what_it_is_part_of() {
        let mut image = Listed {
            name: "pause".to_owned(),
            hash: "0123456789abcdef".to_owned(),
            pull: Some("pause:3.10.2".to_owned()),
            here: Vec::new(),
            part_of: vec!["kind-node".to_owned()],
        };
        let absent = line(&image);
        assert!(
            absent.ends_with("pause:3.10.2  (part of kind-node)"),
            "{absent}"
        );
        image.here.push(Local {
            reference: "trii-rehearsal/pause:0123456789ab".to_owned(),
            bytes: 1_550_000,
        });
        let here = line(&image);
        assert!(
            here.contains("here     1.6 MB  0123456789ab  trii-rehearsal/pause:"),
            "{here}"
        );
    }
}
