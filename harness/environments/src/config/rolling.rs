//! What the scenarios of rolling upgrades need to know of a platform.

use std::fmt;
use std::ops::Range;

use hyper::Uri;
use serde_json::{Map, Value};
use toml::Spanned;

use super::Fault;
use super::schema::{File, RollingTable};
use super::shared_rules::{fault, url_parts};
use base::text::nearest;

/// The table `[rolling]`.
#[derive(Clone, Debug, Default)]
pub struct RollingConfig {
    /// What the probers request during an upgrade.
    pub probes: Vec<Probe>,
    /// What they request once a second, and what may take 20 s.
    pub slow_probes: Vec<Probe>,
    /// Whether requests to Services also reuse connections.
    pub keep_alive: bool,
    /// Values of the releases with which pods run and never become ready.
    pub unready: Option<Map<String, Value>>,
    /// Values of a second release of a chart beside the first.
    pub second_release: Option<Map<String, Value>>,
}

/// GET requests of a prober.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The status of a good answer; none for any below 400.
    pub status: Option<u16>,
    /// The URL.
    pub url: ProbeUrl,
    /// Where harness.toml names it.
    pub place: Range<usize>,
}

/// The URL of a probe's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeUrl {
    /// Through the ingress, to a host of the platform.
    Ingress {
        /// The host.
        host: String,
        /// The path, with its query.
        path: String,
    },
    /// From inside the cluster, to a Service.
    Service {
        /// The name of the Service.
        name: String,
        /// Its port.
        port: u16,
        /// The path, with its query.
        path: String,
    },
}

impl fmt::Display for ProbeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeUrl::Ingress { host, path } => write!(f, "https://{host}{path}"),
            ProbeUrl::Service { name, port, path } => write!(f, "http://{name}:{port}{path}"),
        }
    }
}

pub(super) fn validate(file: &File) -> Result<RollingConfig, Fault> {
    let RollingTable {
        probes,
        slow_probes,
        keep_alive,
        unready,
        second_release,
    } = &file.rolling;
    let all = |probes: &[Spanned<String>]| {
        let probes = probes.iter().map(|probe| validate_probe(probe, file));
        probes.collect::<Result<Vec<_>, _>>()
    };
    Ok(RollingConfig {
        probes: all(probes)?,
        slow_probes: all(slow_probes)?,
        keep_alive: keep_alive.unwrap_or(true),
        unready: unready.clone(),
        second_release: second_release.clone(),
    })
}

/// As a service's `smoke`: a URL, or a status and a URL.
fn validate_probe(probe: &Spanned<String>, file: &File) -> Result<Probe, Fault> {
    let (status, url) = match probe.get_ref().split_once(' ') {
        None => (None, probe.get_ref().as_str()),
        Some((status, url)) => match status.parse::<u16>() {
            Ok(status) if (100..600).contains(&status) => (Some(status), url),
            _ => {
                return Err(fault(
                    probe,
                    format!("{status:?} is no HTTP status"),
                    "e.g. \"401 https://HOST/PATH\"",
                ));
            }
        },
    };
    let url = validate_url(probe, url, file)?;
    let place = probe.span();
    Ok(Probe { status, url, place })
}

fn validate_url(probe: &Spanned<String>, text: &str, file: &File) -> Result<ProbeUrl, Fault> {
    let hosts: Vec<&str> = file.platform.hosts().collect();
    let uri = text.parse::<Uri>().ok();
    match uri.as_ref().and_then(url_parts) {
        Some(("https", host, None, path)) if hosts.contains(&host) => Ok(ProbeUrl::Ingress {
            host: host.to_owned(),
            path: path.to_owned(),
        }),
        Some(("http", name, Some(port), path)) if file.services.contains_key(name) => {
            Ok(ProbeUrl::Service {
                name: name.to_owned(),
                port,
                path: path.to_owned(),
            })
        }
        Some((_, host, ..)) => {
            let services = file.services.keys().map(|it| it.get_ref().as_str());
            let known = hosts.iter().copied().chain(services);
            Err(fault(
                probe,
                format!("no prober can request {text:?}"),
                format!("{EXPECTED}; {}", nearest(host, known).unwrap_or_default()),
            ))
        }
        None => Err(fault(probe, format!("{text:?} is not a URL"), EXPECTED)),
    }
}

const EXPECTED: &str =
    "\"https://HOST/PATH\" with a host of the platform, or \"http://SERVICE:PORT/PATH\"";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn parse(rolling: &str) -> Result<RollingConfig, String> {
        let text = format!(
            "schema = 1\n[targets.local]\nkind = \"local\"\n[platform]\nname = \"shop\"\n\
             version = \"1\"\nsite_host = \"shop.example\"\n[platform.local]\nrun = [\"serve\", \"{{port}}\"]\n\
             [services.cart]\n[rolling]\n{rolling}\n"
        );
        let parsed = Config::parse(Path::new("shop.toml"), &text);
        parsed.map(|it| it.rolling).map_err(|error| {
            let help = miette::Diagnostic::help(&error);
            format!(
                "{error}\n  {}",
                help.map(|it| it.to_string()).unwrap_or_default()
            )
        })
    }

    #[test]
    fn a_url_leads_through_the_ingress_or_to_a_service() {
        let probes = "probes = [\"https://shop.example/a?b=1\", \"401 http://cart:8080\"]";
        let probes = parse(probes).unwrap().probes;
        let shown: Vec<String> = probes.iter().map(|it| it.url.to_string()).collect();
        assert_eq!(shown, ["https://shop.example/a?b=1", "http://cart:8080/"]);
        assert_eq!(probes[0].status, None);
        assert_eq!(probes[1].status, Some(401));
    }

    #[test]
    fn what_no_prober_can_request_is_refused_with_its_line() {
        let refused = [
            "probes = [\"/a\"]",
            "probes = [\"https://shop.exmple/a\"]",
            "probes = [\"http://shop.example/a\"]",
            "probes = [\"http://crat:80/a\"]",
            "slow_probes = [\"http://cart/a\"]",
            "probes = [\"GET http://cart:80/a\"]",
            "probes = [\"999 http://cart:80/a\"]",
        ];
        let refused = refused.map(|it| parse(it).unwrap_err());
        insta::assert_snapshot!(refused.join("\n"));
    }
}
