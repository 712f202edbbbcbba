//! How to use an environment that is up.

use environments::environment::EnvironmentName;

use crate::invocation::Invocation;
use crate::outcome::CommandOutcome;

/// Adds how to use the environment to an outcome, if the environment is up.
pub fn with_how_to_use(
    outcome: CommandOutcome,
    invocation: &Invocation,
    name: &EnvironmentName,
) -> CommandOutcome {
    let folder = invocation.folder(name);
    let Ok(environment) = folder.read(name) else {
        return outcome;
    };
    let url = environment
        .browser_url()
        .unwrap_or_else(|| environment.site_url());
    let mut texts = invocation
        .config
        .secrets
        .values()
        .flat_map(|it| it.values());
    let login = match texts.any(|it| it.contains("{demo_password}")) {
        true => {
            let secrets = folder.secrets_path();
            let secrets = secrets.display();
            format!(" (log in as demo; the password is demo_password in {secrets})")
        }
        false => String::new(),
    };
    let mut lines = vec![format!(
        "\n{name} is up: {url}{login}\n\
         the API: curl -s {}{}/",
        environment.entry.curl_options(&environment.api_host),
        environment.api_url(),
    )];
    if let Some(cluster) = &environment.cluster {
        lines.push(format!(
            "pods:    kubectl --kubeconfig {} --namespace {} get pods",
            cluster.kubeconfig.display(),
            cluster.namespace
        ));
    }
    lines.push(format!(
        "next:    cargo xtask smoke --name {name}\n         cargo xtask down --name {name}"
    ));
    outcome.with_note(lines.join("\n"))
}
