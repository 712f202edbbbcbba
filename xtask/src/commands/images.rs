//! `cargo xtask images`.

use harness::engine::{Engine, PATIENCE};
use harness::exit::ExitCode;
use harness::images::{self, ForNodes, Had, ImageReference, Listed, Workshop};
use harness::run::event::Stage;
use harness::sweep;

use super::workplace::{called_off_building, home, interrupts, print_json, workspace};
use crate::cli::{self, Images, ImagesBuild, ImagesCommand, ImagesLoad, ImagesPlace, Places};
use crate::console::Console;
use crate::problem::Problem;

/// Lists, builds or loads images.
pub async fn run(arguments: Images) -> Result<ExitCode, Problem> {
    let mut interrupts = interrupts()?;
    let home = home(arguments.command.places())?;
    let work = async {
        match arguments.command {
            ImagesCommand::List(place) => list(place).await,
            ImagesCommand::Build(arguments) => build(arguments).await,
            ImagesCommand::Load(arguments) => load(arguments).await,
        }
    };
    tokio::select! {
        done = work => done.map(|()| ExitCode::Held),
        // The engine ends what it was building with our connection.
        code = interrupts.next() => Ok(called_off_building(&home, code, &mut interrupts).await),
    }
}

async fn list(place: ImagesPlace) -> Result<(), Problem> {
    let engine = engine().await?;
    let workshop = workshop(&place.places)?;
    let listed = images::list(&engine, &workshop);
    let listed = Console::waiting("looking for each image", listed).await;
    let listed = listed.map_err(Problem::no_environment)?;
    if place.json {
        return print_json(&listed);
    }
    for image in &listed {
        print_line!("{}", line(image));
    }
    Ok(())
}

async fn build(arguments: ImagesBuild) -> Result<(), Problem> {
    let engine = engine().await?;
    let workshop = workshop(&arguments.place.places)?;
    swept(&arguments.place.places).await?;
    let had = ensure(&engine, &workshop, &arguments.names, arguments.images).await?;
    if arguments.place.json {
        return print_json(&had);
    }
    for image in &had {
        print_line!("{image}");
    }
    Ok(())
}

async fn load(arguments: ImagesLoad) -> Result<(), Problem> {
    let engine = engine().await?;
    let workshop = workshop(&arguments.place.places)?;
    swept(&arguments.place.places).await?;
    let had = ensure(&engine, &workshop, &arguments.names, arguments.images).await?;
    let wanted: Vec<ForNodes> = had.iter().map(ForNodes::as_it_is).collect();
    let progress = progress();
    let loaded = images::load(&engine, &arguments.cluster, &wanted, &progress);
    let loaded = loaded.await.map_err(Problem::no_environment)?;
    if arguments.place.json {
        return print_json(&loaded);
    }
    let nodes = loaded.nodes.join(", ");
    for (images, how) in [(&loaded.brought, "brought to"), (&loaded.there, "was on")] {
        for image in images {
            print_line!("{image} {how} {nodes}");
        }
    }
    Ok(())
}

async fn ensure(
    engine: &Engine,
    workshop: &Workshop,
    names: &[String],
    supply: cli::Supply,
) -> Result<Vec<ImageReference>, Problem> {
    let had = images::ensure_all(engine, workshop, names, supply.into(), &progress()).await;
    let had = had.map_err(Problem::no_environment)?;
    for image in &had.images {
        let how = match &image.had {
            Had::Present => "is here",
            Had::Pulled => "pulled",
            Had::Built { .. } => "built",
        };
        say!("{image} {how}");
    }
    if !had.split.is_empty() {
        say!("\nbuilt:\n{}", had.split);
    }
    Ok(had.images)
}

async fn engine() -> Result<Engine, Problem> {
    let found = Engine::find(PATIENCE).await;
    found.map_err(Problem::no_environment)
}

/// Takes away what builders that were killed left; it is in nobody's way, so what stays is said
/// and no more.
async fn swept(places: &Places) -> Result<(), Problem> {
    for left in sweep::dead_owners(&home(places)?).await.lines() {
        say!("left: {left}");
    }
    Ok(())
}

fn workshop(places: &Places) -> Result<Workshop, Problem> {
    Ok(Workshop::of(&workspace(), &home(places)?))
}

fn progress() -> impl Fn(&str) + Sync {
    let console = Console::new();
    move |text: &str| console.progress(Stage::Provision, text)
}

/// `name  here?  size  hash  where from`.
fn line(image: &Listed) -> String {
    let name = &image.name;
    let hash = &image.hash[..12];
    let from = image.pull.as_deref().unwrap_or("in no registry");
    let (state, size, reference) = match image.here.first() {
        Some(local) => ("here", megabytes(local.bytes), local.reference.as_str()),
        None => ("-", String::new(), from),
    };
    let text = format!("{name:<24} {state:<5} {size:>9}  {hash}  {reference}");
    match image.part_of.is_empty() {
        true => text,
        false => format!("{text}  (part of {})", image.part_of.join(", ")),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use harness::images::Local;

    use super::*;

    #[test]
    fn a_line_says_what_is_here_and_what_for() {
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
