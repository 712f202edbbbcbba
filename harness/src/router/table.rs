//! Which service answers which host and path, and what path it sees.

use regex::{Regex, RegexBuilder};

use crate::config::{PathType, Route};
use crate::service::Service;

/// The routes, compiled, in the order they are tried.
pub struct RouteTable(Vec<CompiledRoute>);

struct CompiledRoute {
    host: String,
    path: Regex,
    rewrite: Option<String>,
    service: Service,
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Destination {
    /// Who answers.
    pub service: Service,
    /// The path it is asked for, query not included.
    pub path: String,
}

impl RouteTable {
    /// Compiles routes that [`crate::config`] has judged.
    pub fn new(routes: &[Route]) -> Result<Self, regex::Error> {
        routes
            .iter()
            .map(CompiledRoute::new)
            .collect::<Result<_, _>>()
            .map(RouteTable)
    }

    /// The first route that fits; `host` is lower case and without port, `path` is
    /// as `path::normalised` makes it.
    pub fn find(&self, host: &str, path: &str) -> Option<Destination> {
        self.0
            .iter()
            .filter(|route| route.host == host)
            .find_map(|route| route.destination(path))
    }
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
            service: route.service,
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
            service: self.service,
            path,
        })
    }
}

/// nginx reads `$2x` as group 2 and an x, the regex crate as a group named `2x`.
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
        let text = include_str!("../../../harness.toml");
        let config = Config::parse(Path::new("harness.toml"), text).unwrap();
        RouteTable::new(&config.routes).unwrap()
    }

    fn goes_to(host: &str, path: &str) -> Option<(Service, String)> {
        let destination = shipped().find(host, path)?;
        Some((destination.service, destination.path))
    }

    #[test]
    fn the_guides_routes_lead_where_the_guide_says() {
        use Service::{ApiGateway, FrontendApp, MarketDataService};
        let cases = [
            ("trii.co", "/", FrontendApp, "/"),
            ("trii.co", "/portfolio", FrontendApp, "/portfolio"),
            ("trii.co", "/api", ApiGateway, "/api"),
            ("trii.co", "/api/login", ApiGateway, "/api/login"),
            ("trii.co", "/apis", FrontendApp, "/apis"),
            ("api.trii.co", "/api/login", ApiGateway, "/api/login"),
            ("api.trii.co", "/other", ApiGateway, "/other"),
            ("api.trii.co", "/market-data", MarketDataService, "/"),
            ("api.trii.co", "/market-data/", MarketDataService, "/"),
            (
                "api.trii.co",
                "/market-data/quotes/ISA",
                MarketDataService,
                "/quotes/ISA",
            ),
            (
                "api.trii.co",
                "/market-database",
                ApiGateway,
                "/market-database",
            ),
        ];
        for (host, path, service, seen) in cases {
            assert_eq!(
                goes_to(host, path),
                Some((service, seen.into())),
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
            prop_assert_eq!(service == Some(Service::ApiGateway), below);
        }

        #[test]
        fn a_rewrite_keeps_what_follows_the_prefix(rest in "[A-Za-z0-9/._-]{0,20}") {
            let path = format!("/market-data/{rest}");
            prop_assert_eq!(
                goes_to("api.trii.co", &path),
                Some((Service::MarketDataService, format!("/{rest}")))
            );
        }
    }
}
