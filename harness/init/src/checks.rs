//! The first checks and the first journey: one request for each service that an Ingress leads to.

use std::collections::BTreeSet;

use crate::hosts::Hosts;
use crate::inventory::{FoundRoute, FoundService, Inventory};

/// A request for a service.
pub(super) struct FirstRequest<'a> {
    pub service: &'a str,
    /// The variable with the URL of its host: `site` or `api`.
    variable: &'static str,
    path: String,
}

/// Returns a request for each service that a route of the platform's hosts leads to.
pub(super) fn requests<'a>(inventory: &'a Inventory, hosts: &Hosts) -> Vec<FirstRequest<'a>> {
    let mut asked = BTreeSet::new();
    let mut requests = Vec::new();
    for route in &inventory.routes {
        let of_name = |it: &&FoundService| it.name == route.service && it.backing.is_none();
        let Some(service) = inventory.services.iter().find(of_name) else {
            continue;
        };
        let Some(variable) = hosts.variable(route.host.as_deref()) else {
            continue;
        };
        if asked.insert(&route.service) {
            requests.push(FirstRequest {
                service: &service.name,
                variable,
                path: path(route, service),
            });
        }
    }
    requests
}

/// The readiness path, if the route leads there; else the route's own path.
fn path(route: &FoundRoute, service: &FoundService) -> String {
    let prefix = route.prefix();
    let leads_there = prefix == "/" || route.rewrite.is_some();
    match service
        .ready_path()
        .filter(|_| leads_there && route.path_type != "Exact")
    {
        Some(ready) => format!("{}{ready}", prefix.trim_end_matches('/')),
        None => prefix.to_owned(),
    }
}

/// Returns the checks, in Hurl's format.
pub(super) fn checks(platform: &str, requests: &[FirstRequest<'_>]) -> String {
    let mut text = format!(
        "# The first checks of {platform}: docs/checks.md. The comment above a request is the name of its\n\
         # check. Correct what an answer must be, and add to it.\n"
    );
    for request in requests {
        let FirstRequest {
            service,
            variable,
            path,
        } = request;
        text += &format!("\n# {service} answers\nGET {{{{{variable}}}}}{path}\nHTTP 200\n");
    }
    text
}

/// Returns a journey of the requests to the API's host; none if there is no such request.
pub(super) fn journey(
    platform: &str,
    requests: &[FirstRequest<'_>],
    hosts: &Hosts,
) -> Option<String> {
    let to_api = requests.iter().filter(|it| it.variable == hosts.of_api());
    let paths: Vec<&str> = to_api.map(|it| it.path.as_str()).collect();
    if paths.is_empty() {
        return None;
    }
    let mut text =
        format!("# What a user of {platform} requests: docs/load.md. Let it do what users do.\n");
    for path in paths {
        text += &format!("\nGET {{{{api}}}}{path}\nHTTP 200\n");
    }
    Some(text)
}
