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
    let mut lines = vec![format!(
        "\n{name} is up: {url} (log in as demo; the password is demo_password in {})\n\
         the API: curl -s {}{}/market-data/quotes",
        folder.secrets_path().display(),
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
