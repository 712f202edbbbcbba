//! What the scenarios of blue-green releases need to know of a platform.

use std::collections::BTreeMap;
use std::ops::Range;

use hyper::Uri;
use toml::Spanned;

use super::Fault;
use super::schema::{FaultsTable, File, ScenariosTable};
use super::services::validate_reference;
use super::shared_rules::{fault, url_parts, validate_path, validate_variable_name};
use base::text::nearest;

/// The table `[blue_green.scenarios]`.
#[derive(Clone, Debug)]
pub struct BlueGreenScenarios {
    /// The service that they release.
    pub service: String,
    /// What their traffic requests of it.
    pub request: ScenarioRequest,
    /// A request that is answered after about 20 s.
    pub slow_request: Option<ScenarioRequest>,
    /// The ValidatingAdmissionPolicyBindings that protect its live colour.
    pub policy_bindings: Vec<String>,
    /// How its pods are made faulty.
    pub faults: Option<PodFaults>,
}

/// GET requests to the service, each answered with a status below 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioRequest {
    /// The host, through the ingress.
    pub host: String,
    /// The path through the ingress, with its query.
    pub path_at_ingress: String,
    /// The path at the service itself, with its query.
    pub path: String,
    /// Where harness.toml has the URL.
    pub place: Range<usize>,
}

/// How the pods of the service are made faulty.
#[derive(Clone, Debug)]
pub struct PodFaults {
    /// The environment variable of new pods.
    pub variable: String,
    /// The port of running pods that accepts a PUT.
    pub port: u16,
    /// The path of the PUT.
    pub path: String,
    texts: [(PodFault, String); 6],
    /// The environment with which a pod exits at SIGTERM, with requests in flight.
    pub ungraceful: BTreeMap<String, String>,
}

/// What is wrong with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodFault {
    /// Nothing.
    None,
    /// Its readiness probe gets an error.
    Unready,
    /// It answers every request with an error.
    Errors,
    /// It answers some requests with an error.
    SomeErrors,
    /// It answers later.
    Slow,
    /// It never answers some requests.
    Silent,
}

impl PodFaults {
    /// Returns the value of the variable, and the body of the PUT, for a fault.
    pub fn text(&self, fault: PodFault) -> &str {
        let mut texts = self.texts.iter();
        texts
            .find(|(it, _)| *it == fault)
            .map_or("", |(_, text)| text)
    }
}

pub(super) fn validate(file: &File) -> Result<Option<BlueGreenScenarios>, Fault> {
    let Some(table) = &file.blue_green.scenarios else {
        return Ok(None);
    };
    validate_reference(&table.service, &file.services)?;
    Ok(Some(BlueGreenScenarios {
        service: table.service.get_ref().clone(),
        request: validate_request(&table.url, &table.path, file)?,
        slow_request: validate_slow_request(table, file)?,
        policy_bindings: table.policy_bindings.clone(),
        faults: match &table.faults {
            Some(faults) => Some(validate_faults(faults)?),
            None => None,
        },
    }))
}

fn validate_slow_request(
    table: &ScenariosTable,
    file: &File,
) -> Result<Option<ScenarioRequest>, Fault> {
    match (&table.slow_url, &table.slow_path) {
        (None, None) => Ok(None),
        (Some(url), Some(path)) => validate_request(url, path, file).map(Some),
        (Some(alone), None) | (None, Some(alone)) => Err(fault(
            alone,
            "slow_url and slow_path are one request: one of them is missing".to_owned(),
            "the same request through the ingress (slow_url) and at the service itself (slow_path)",
        )),
    }
}

fn validate_request(
    url: &Spanned<String>,
    path: &Spanned<String>,
    file: &File,
) -> Result<ScenarioRequest, Fault> {
    const EXPECTED: &str = "\"https://HOST/PATH\" with a host of the platform";
    let text = url.get_ref();
    let hosts: Vec<&str> = file.platform.hosts().collect();
    let uri = text.parse::<Uri>().ok();
    match uri.as_ref().and_then(url_parts) {
        Some(("https", host, None, path_at_ingress)) if hosts.contains(&host) => {
            Ok(ScenarioRequest {
                host: host.to_owned(),
                path_at_ingress: path_at_ingress.to_owned(),
                path: validate_path(path, "/quotes")?,
                place: url.span(),
            })
        }
        Some((_, host, ..)) => Err(fault(
            url,
            format!("{text:?} does not lead through the ingress"),
            format!("{EXPECTED}; {}", nearest(host, hosts).unwrap_or_default()),
        )),
        None => Err(fault(url, format!("{text:?} is not a URL"), EXPECTED)),
    }
}

fn validate_faults(table: &FaultsTable) -> Result<PodFaults, Fault> {
    validate_variable_name(&table.variable)?;
    let ungraceful = table.ungraceful.iter();
    let ungraceful = ungraceful.map(|(variable, value)| {
        validate_variable_name(variable)?;
        Ok((variable.get_ref().clone(), value.clone()))
    });
    if *table.port.get_ref() == 0 {
        return Err(fault(
            &table.port,
            "nothing is at port 0".to_owned(),
            "the port of the container that accepts the PUT, e.g. 9090",
        ));
    }
    let texts = [
        (PodFault::None, &table.none),
        (PodFault::Unready, &table.unready),
        (PodFault::Errors, &table.errors),
        (PodFault::SomeErrors, &table.some_errors),
        (PodFault::Slow, &table.slow),
        (PodFault::Silent, &table.silent),
    ];
    Ok(PodFaults {
        variable: table.variable.get_ref().clone(),
        port: *table.port.get_ref(),
        path: validate_path(&table.path, "/quotes")?,
        texts: texts.map(|(fault, text)| (fault, text.clone())),
        ungraceful: ungraceful.collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const SCENARIOS: &str = "service = \"cart\"\n\
        url = \"https://shop.example/cart/items?all=1\"\n\
        path = \"/items?all=1\"\n\
        slow_url = \"https://shop.example/cart/slow\"\n\
        slow_path = \"/slow\"\n\
        [blue_green.scenarios.faults]\n\
        variable = \"MISBEHAVE\"\n\
        port = 8081\n\
        path = \"/misbehave\"\n\
        unready = \"unready\"\n\
        errors = \"500\"\n\
        some_errors = \"500 of 50 %\"\n\
        slow = \"+300 ms\"\n\
        silent = \"hang 30 %\"\n\
        none = \"\"\n";

    fn parse(scenarios: &str) -> Result<Option<BlueGreenScenarios>, String> {
        let text = format!(
            "schema = 1\n[targets.local]\nkind = \"local\"\n[platform]\nname = \"shop\"\n\
             version = \"1\"\nsite_host = \"shop.example\"\n[platform.local]\nrun = [\"serve\", \"{{port}}\"]\n\
             [services.cart]\n[blue_green]\n{scenarios}"
        );
        let parsed = Config::parse(Path::new("shop.toml"), &text);
        let parsed = parsed.map(|it| it.blue_green_scenarios);
        parsed.map_err(|error| {
            let help = miette::Diagnostic::help(&error);
            let help = help.map(|it| it.to_string()).unwrap_or_default();
            format!("{error}\n  {help}")
        })
    }

    fn changed(from: &str, to: &str) -> String {
        assert!(SCENARIOS.contains(from), "{from}");
        let changed = SCENARIOS.replacen(from, to, 1);
        format!("[blue_green.scenarios]\n{changed}")
    }

    #[test]
    fn a_request_has_a_way_through_the_ingress_and_one_to_the_service() {
        assert!(parse("").unwrap().is_none());
        let scenarios = parse(&changed("", "")).unwrap().unwrap();
        let request = &scenarios.request;
        assert_eq!(request.host, "shop.example");
        assert_eq!(request.path_at_ingress, "/cart/items?all=1");
        assert_eq!(request.path, "/items?all=1");
        assert_eq!(scenarios.slow_request.unwrap().path, "/slow");
        let faults = scenarios.faults.unwrap();
        assert_eq!(faults.text(PodFault::Slow), "+300 ms");
        assert_eq!(faults.text(PodFault::None), "");
    }

    #[test]
    fn only_the_service_and_one_request_are_needed() {
        let needed: String = SCENARIOS
            .lines()
            .take(3)
            .map(|it| format!("{it}\n"))
            .collect();
        let parsed = parse(&format!("[blue_green.scenarios]\n{needed}"));
        let scenarios = parsed.unwrap().unwrap();
        assert!(scenarios.slow_request.is_none() && scenarios.faults.is_none());
    }

    #[test]
    fn what_the_scenarios_cannot_use_is_refused_with_its_line() {
        let refused = [
            ("service = \"cart\"", "service = \"crat\""),
            ("service = \"cart\"\n", ""),
            (
                "https://shop.example/cart/items",
                "https://shop.exmple/items",
            ),
            ("https://shop.example/cart/items", "http://cart:8080/items"),
            ("https://shop.example/cart/items", "/cart/items"),
            ("path = \"/items", "path = \"items"),
            ("slow_path = \"/slow\"\n", ""),
            ("slow_path = \"/slow\"", "slow_path = \"/sl ow\""),
            ("\"MISBEHAVE\"", "\"A=B\""),
            ("port = 8081", "port = 0"),
            ("port = 8081\n", ""),
            ("slow = \"+300 ms\"\n", ""),
            ("silent = ", "silnt = "),
            (
                "none = \"\"\n",
                "none = \"\"\nungraceful = { \"A=B\" = \"0\" }\n",
            ),
        ];
        let refused = refused.map(|(from, to)| {
            let refusal = parse(&changed(from, to)).unwrap_err();
            format!("{from:?} -> {to:?}\n{refusal}")
        });
        insta::assert_snapshot!(refused.join("\n\n"));
    }
}
