//! `cargo xtask up`.

use harness::environment::{Environment, EnvironmentFolder, EnvironmentName};
use harness::exit::ExitCode;
use harness::home::Home;
use harness::rehearsal::{Afterwards, rehearse};
use harness::status::{self, Condition};

use super::e2e::look_first;
use super::remote;
use super::warm::{self, Found, Purpose, Usable};
use super::workplace::{Workplace, conclude, interrupts, print_json, provision_if};
use crate::cli::{Named, Up};
use crate::problem::Problem;

/// Stands the platform up and leaves it up.
pub async fn run(arguments: Up) -> Result<ExitCode, Problem> {
    let named = &arguments.named;
    let json = named.common.json;
    let place = Workplace::find(&named.common).await?;
    remote::refuse(&place, "up")?;
    match warm::find(&place, &named.name).await? {
        Found::Usable(usable) => return on_a_cluster(&place, &arguments, &usable).await,
        Found::PastHelp => {}
        Found::Nothing => {
            if let Some(code) = already_up(&place, named).await? {
                return Ok(code);
            }
        }
    }
    let mut interrupts = interrupts()?;
    if let Err(code) = provision_if(arguments.provision, &place, &mut interrupts).await? {
        return Ok(code);
    }
    let mut run = place.start_run("up", named)?;
    let variables = match look_first(&mut run, &place, &mut interrupts).await? {
        Ok(variables) => variables,
        Err(code) => return conclude(&run, code, json),
    };
    let order = place.order(&run, &named.name, arguments.images);
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
    // Of an environment that is up, the document is its own.
    let held = code == ExitCode::Held;
    let code = conclude(&run, code, json && !held)?;
    if held {
        show(&place.home, named)?;
    }
    Ok(code)
}

/// Where it is up on a cluster: what is unwell is mended.
async fn on_a_cluster(
    place: &Workplace,
    arguments: &Up,
    usable: &Usable,
) -> Result<ExitCode, Problem> {
    let named = &arguments.named;
    let code = match usable.unwell.is_empty() {
        true => ExitCode::Held,
        false => warm::again(place, named, arguments.images, usable, Purpose::Mend).await?,
    };
    if code == ExitCode::Held {
        show(&place.home, named)?;
    }
    Ok(code)
}

/// Where the name is held: whether what holds it is what was asked for. Nothing where the
/// name is free.
async fn already_up(place: &Workplace, named: &Named) -> Result<Option<ExitCode>, Problem> {
    let name = &named.name;
    let status = status::of(&place.home, name).await;
    let folder = EnvironmentFolder::of(&place.home, name);
    let in_use = || Err(Problem::no_environment(folder.in_use(name)));
    let asked_for = |environment: &Environment| {
        environment.stays
            && environment.target == place.target_name
            && environment.version == place.config.platform.version
    };
    match (status.condition, &status.environment) {
        // Of what cannot be judged, the start tells why it is refused.
        (Condition::Dead | Condition::NotJudged, _) => Ok(None),
        (Condition::Up, Some(environment)) if asked_for(environment) => {
            show(&place.home, named)?;
            Ok(Some(ExitCode::Held))
        }
        (Condition::Degraded, Some(environment)) if environment.stays => {
            say!("{status}\nnext:    cargo xtask down --name {name}");
            Ok(Some(ExitCode::CheckFailed))
        }
        _ => in_use(),
    }
}

fn show(home: &Home, named: &Named) -> Result<(), Problem> {
    say_how_to_use(home, &named.name);
    if named.common.json {
        let environment = EnvironmentFolder::of(home, &named.name).read(&named.name);
        print_json(&environment.map_err(Problem::no_environment)?)?;
    }
    Ok(())
}

/// What a person does with an environment that is up.
pub fn say_how_to_use(home: &Home, name: &EnvironmentName) {
    let folder = EnvironmentFolder::of(home, name);
    let Ok(environment) = folder.read(name) else {
        return;
    };
    let url = match environment.browser_url() {
        Some(url) => url,
        None => environment.site_url(),
    };
    say!(
        "\n{name} is up: {url} (log in as demo; the password is demo_password in {})\n\
         the API: curl -s {}{}/market-data/quotes",
        folder.secrets_path().display(),
        environment.entry.curl_options(&environment.api_host),
        environment.api_url(),
    );
    if let Some(cluster) = &environment.cluster {
        say!(
            "pods:    kubectl --kubeconfig {} --namespace {} get pods",
            cluster.kubeconfig.display(),
            cluster.namespace
        );
    }
    say!("next:    cargo xtask smoke --name {name}\n         cargo xtask down --name {name}");
}
