//! `cargo xtask up`.

use harness::environment::{EnvironmentFolder, EnvironmentName};
use harness::exit::ExitCode;
use harness::home::Home;
use harness::preflight;
use harness::rehearsal::{Afterwards, rehearse};

use super::e2e::look_first;
use super::workplace::{Workplace, conclude, interrupts, print_json};
use crate::cli::Up;
use crate::problem::Problem;

/// Stands the platform up and leaves it up.
pub async fn run(arguments: Up) -> Result<ExitCode, Problem> {
    let common = &arguments.common;
    let place = Workplace::find(common)?;
    let mut interrupts = interrupts()?;
    if arguments.provision {
        let needs = preflight::needs(place.target()).await;
        tokio::select! {
            done = place.provision(&needs) => done?,
            code = interrupts.next() => return Ok(code),
        }
    }
    let mut run = place.start_run("up", common)?;
    let Some(variables) = look_first(&mut run, &place)
        .await
        .map_err(Problem::no_environment)?
    else {
        return conclude(&run, ExitCode::NoEnvironment, common.json);
    };
    let order = place.order(&run, common);
    let nothing = async |_: &mut _, _: &_, _: &_| Ok(());
    let afterwards = Afterwards::LeaveUp;
    let code = rehearse(
        &mut run,
        order,
        &variables,
        &mut interrupts,
        afterwards,
        nothing,
    )
    .await?;
    conclude(&run, code, false)?;
    if code == ExitCode::Held {
        say_how_to_use(&place.home, &common.name);
        if common.json {
            let environment = EnvironmentFolder::of(&place.home, &common.name).read(&common.name);
            print_json(&environment.map_err(Problem::no_environment)?)?;
        }
    }
    Ok(code)
}

/// What a person does with an environment that is up.
pub fn say_how_to_use(home: &Home, name: &EnvironmentName) {
    let folder = EnvironmentFolder::of(home, name);
    let Ok(environment) = folder.read(name) else {
        return;
    };
    let port = environment.router.port();
    eprintln!(
        "\n{name} is up: {} (log in as demo; the password is demo_password in {})\n\
         the API: curl -s http://127.0.0.1:{port}/market-data/quotes -H 'host: {}'\n\
         next:    cargo xtask smoke --name {name}\n\
         \x20        cargo xtask down --name {name}",
        environment.browser_url(),
        folder.secrets_path().display(),
        environment.api_host,
    );
}
