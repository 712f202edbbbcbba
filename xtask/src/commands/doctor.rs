//! `cargo xtask doctor`.

use harness::doctor;
use harness::exit::ExitCode;
use harness::preflight;
use harness::provision::Need;

use super::workplace::{Workplace, print_json};
use crate::cli::Doctor;
use crate::console::Console;
use crate::problem::Problem;

/// Says what this machine has and lacks.
pub async fn run(arguments: Doctor) -> Result<ExitCode, Problem> {
    let place = Workplace::find(&arguments.common).await?;
    if arguments.provision {
        // The registry takes minutes to compile, and only the project's own tests want it.
        let needs = Need::ALL.into_iter().filter(|need| *need != Need::Registry);
        place.provision(&needs.collect::<Vec<_>>()).await?;
    }
    let targets = &place.config.targets;
    let tools_dir = place.home.tools();
    let findings = doctor::examine(place.home.root(), &tools_dir, targets);
    let findings = Console::waiting("looking at this machine", findings).await;
    if arguments.common.json {
        print_json(&findings)?;
    } else {
        for finding in &findings {
            print_line!("{finding}");
        }
    }
    // What is missing may be something that this target does without.
    match preflight::look(place.target(), &tools_dir).await {
        Ok(_) => {
            say!(
                "the target {} can be stood up: cargo xtask e2e",
                place.target_name
            );
            Ok(ExitCode::Held)
        }
        Err(missing) => Err(Problem::no_environment(missing)),
    }
}
