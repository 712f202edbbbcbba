//! The routes: the service and its path for each host and path.

use regex::{Regex, RegexBuilder};

use crate::config::{Config, ConfigError, PathType, Route};

/// The compiled routes, in the order of their precedence.
pub struct RouteTable(Vec<CompiledRoute>);

struct CompiledRoute {
    host: String,
    path: Regex,
    rewrite: Option<String>,
    service: String,
}

/// The destination of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Destination {
    /// The service.
    pub service: String,
    /// The path of the request to it, without the query.
    pub path: String,
}

impl RouteTable {
    /// Compiles routes that [`crate::config`] has validated.
    pub fn new(routes: &[Route]) -> Result<Self, regex::Error> {
        let compiled = routes.iter().map(CompiledRoute::new);
        compiled.collect::<Result<_, _>>().map(RouteTable)
    }

    /// Returns the destination of the first route that matches. `host` is lower case and without
    /// port, `path` normalised.
    pub fn find(&self, host: &str, path: &str) -> Option<Destination> {
        self.0
            .iter()
            .filter(|route| route.host == host)
            .find_map(|route| route.destination(path))
    }
}

/// Checks that the routes lead the requests of the blue-green scenarios to their service: another
/// one would answer in its own version. Without routes, only the ingress knows.
///
/// # Errors
/// The URL in the configuration.
pub fn must_lead_to_their_service(config: &Config) -> Result<(), ConfigError> {
    let (Some(scenarios), false) = (&config.blue_green_scenarios, config.routes.is_empty()) else {
        return Ok(());
    };
    // Validated routes compile.
    let Ok(table) = RouteTable::new(&config.routes) else {
        return Ok(());
    };
    for request in [&scenarios.request]
        .into_iter()
        .chain(&scenarios.slow_request)
    {
        let path = request.path_at_ingress.split('?').next().unwrap_or("/");
        let (host, service) = (&request.host, &scenarios.service);
        let message = match table.find(host, path) {
            Some(found) if found.service == *service => continue,
            Some(found) => format!("a route leads {host}{path} to {}", found.service),
            None => format!("no route leads {host}{path} to a service"),
        };
        let help = format!("a URL that a route leads to {service}, directly");
        return Err(config.refuse(request.place.clone(), message, Some(help)));
    }
    Ok(())
}

impl CompiledRoute {
    fn new(route: &Route) -> Result<Self, regex::Error> {
        let literal = regex::escape(route.path.trim_end_matches('/'));
        let pattern = match route.path_type {
            PathType::Exact => format!("^{}$", regex::escape(&route.path)),
            PathType::Prefix => format!("^{literal}(?:/|$)"),
            PathType::ImplementationSpecific => format!("^{}", route.path),
        };
        let path = RegexBuilder::new(&pattern)
            .case_insensitive(route.path_type == PathType::ImplementationSpecific)
            .build()?;
        Ok(CompiledRoute {
            host: route.host.clone(),
            path,
            rewrite: route.rewrite.as_deref().map(braced),
            service: route.service.clone(),
        })
    }

    fn destination(&self, path: &str) -> Option<Destination> {
        let groups = self.path.captures(path)?;
        let path = match &self.rewrite {
            None => path.to_owned(),
            Some(template) => {
                let mut path = String::new();
                groups.expand(template, &mut path);
                path
            }
        };
        Some(Destination {
            service: self.service.clone(),
            path,
        })
    }
}

/// `$2x` is group 2 and an x for nginx, but a group named `2x` for the regex crate.
fn braced(rewrite: &str) -> String {
    let mut template = String::new();
    let mut rest = rewrite;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        let after = &dollar[1..];
        template.push_str(before);
        match after.chars().next().filter(char::is_ascii_digit) {
            Some(digit) => {
                template.push_str(&format!("${{{digit}}}"));
                rest = &after[1..];
            }
            None => {
                template.push_str("$$");
                rest = after;
            }
        }
    }
    template + rest
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    fn shipped() -> RouteTable {
        let text = include_str!("../../../../harness.toml");
        let config = Config::parse(Path::new("harness.toml"), text).unwrap();
        RouteTable::new(&config.routes).unwrap()
    }

    /// The refusal of a URL for the scenarios of the service `cart`, where these routes are.
    fn refusal(routes: &[[&str; 2]], url: &str) -> Option<String> {
        let route = |[path, service]: &[&str; 2]| {
            format!(
                "[[routes]]\nhost = \"shop.example\"\npath = \"{path}\"\npath_type = \"Prefix\"\nservice = \"{service}\"\n"
            )
        };
        let routes: String = routes.iter().map(route).collect();
        let text = format!(
            "schema = 1\n[targets.kind]\nkind = \"kind\"\nkubernetes = \"1.37\"\nnamespace = \"shop\"\n\
             [platform]\nname = \"shop\"\nversion = \"1\"\nsite_host = \"shop.example\"\n\
             [[releases]]\nname = \"shop\"\nchart = \"chart\"\n[services.cart]\n[services.till]\n{routes}\
             [blue_green.scenarios]\nservice = \"cart\"\nurl = \"{url}\"\npath = \"/\"\n"
        );
        let config = Config::parse(Path::new("shop.toml"), &text).unwrap();
        let refused = must_lead_to_their_service(&config).err()?;
        let help = miette::Diagnostic::help(&refused).unwrap();
        Some(format!("{refused}\n  {help}"))
    }

    #[test]
    fn a_request_of_the_scenarios_that_another_service_answers_is_refused() {
        let routes = [["/cart", "cart"], ["/pay", "till"]];
        let refusal_of = |path: &str| refusal(&routes, &format!("https://shop.example{path}"));
        assert_eq!(refusal_of("/cart/items?all=1"), None);
        assert_eq!(refusal(&[], "https://shop.example/pay"), None);
        let refused = ["/pay?all=1", "/items"].map(|path| refusal_of(path).unwrap());
        insta::assert_snapshot!(refused.join("\n"));
    }

    fn goes_to(host: &str, path: &str) -> Option<(String, String)> {
        let destination = shipped().find(host, path)?;
        Some((destination.service, destination.path))
    }

    #[test]
    fn the_shipped_routes_lead_to_the_services_of_the_guide() {
        let cases = [
            ("trii.co", "/", "frontend-app", "/"),
            ("trii.co", "/portfolio", "frontend-app", "/portfolio"),
            ("trii.co", "/api", "api-gateway", "/api"),
            ("trii.co", "/api/login", "api-gateway", "/api/login"),
            ("trii.co", "/apis", "frontend-app", "/apis"),
            ("api.trii.co", "/api/login", "api-gateway", "/api/login"),
            ("api.trii.co", "/other", "api-gateway", "/other"),
            ("api.trii.co", "/market-data", "market-data-service", "/"),
            ("api.trii.co", "/market-data/", "market-data-service", "/"),
            (
                "api.trii.co",
                "/market-data/quotes/ISA",
                "market-data-service",
                "/quotes/ISA",
            ),
            (
                "api.trii.co",
                "/market-database",
                "api-gateway",
                "/market-database",
            ),
        ];
        for (host, path, service, rewritten) in cases {
            assert_eq!(
                goes_to(host, path),
                Some((service.to_owned(), rewritten.to_owned())),
                "{host}{path}"
            );
        }
        assert_eq!(goes_to("other.example", "/"), None);
    }

    #[test]
    fn a_group_followed_by_a_letter_is_still_that_group() {
        assert_eq!(braced("/$2x$"), "/${2}x$$");
    }

    proptest! {
        #[test]
        fn a_prefix_matches_whole_elements_only(path in "/[a-z/]{0,12}") {
            let below = path == "/api" || path.starts_with("/api/");
            let service = goes_to("trii.co", &path).map(|(service, _)| service);
            prop_assert_eq!(service.as_deref() == Some("api-gateway"), below);
        }

        #[test]
        fn a_rewrite_keeps_what_follows_the_prefix(rest in "[A-Za-z0-9/._-]{0,20}") {
            let path = format!("/market-data/{rest}");
            prop_assert_eq!(
                goes_to("api.trii.co", &path),
                Some(("market-data-service".to_owned(), format!("/{rest}")))
            );
        }
    }
}
