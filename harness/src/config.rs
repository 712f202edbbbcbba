//! `harness.toml`: what a user edits.
//!
//! The file is read into `schema`'s types, then judged by `judge`; either refuses
//! with the file, the line, the offending value and the nearest that would do.

mod blue_green;
mod judge;
pub mod load;
pub mod remote;
mod schema;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{Diagnostic, NamedSource, SourceSpan};
use thiserror::Error;

pub use judge::{names_environment, nearest};
use load::{Load, Profile};
pub use remote::RemoteTarget;
pub use schema::{BackingServices, PathType};

use crate::blue_green::policy::Policy;
use crate::service::Service;

/// The whole configuration, every value known to be possible.
#[derive(Clone, Debug)]
pub struct Config {
    /// The target used when none is named; [`AUTO`] leaves it to the machine.
    pub default_target: String,
    /// The targets by name.
    pub targets: BTreeMap<String, Target>,
    /// The platform that is rehearsed.
    pub platform: Platform,
    /// Environment variables added to a service's own.
    pub service_env: BTreeMap<Service, BTreeMap<String, String>>,
    /// What the ingress does, in the order it tries.
    pub routes: Vec<Route>,
    /// How long each wait may take.
    pub deadlines: Deadlines,
    /// How a service is released blue-green.
    pub blue_green: Policy,
    /// What users do.
    pub load: Load,
    /// Load profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    written: Written,
}

/// The file as it was written.
#[derive(Clone, Debug)]
struct Written {
    path: PathBuf,
    text: String,
}

/// Instead of a target's name: a cluster where a container engine answers, else processes.
pub const AUTO: &str = "auto";

/// Where the platform runs.
#[derive(Clone, Debug)]
pub enum Target {
    /// As processes of this machine.
    Local(LocalTarget),
    /// In a kind cluster of its own.
    Kind(KindTarget),
    /// In a cluster that is there.
    Remote(Box<RemoteTarget>),
}

/// Six processes of this machine behind a small router.
#[derive(Clone, Debug)]
pub struct LocalTarget {
    /// How the backing services are had.
    pub backing_services: BackingServices,
    /// The router's port on 127.0.0.1; 0 takes a free one.
    pub router_port: u16,
}

/// A kind cluster that is made for the environment, and ends with it.
#[derive(Clone, Debug)]
pub struct KindTarget {
    /// The minor version of Kubernetes, e.g. `1.37`.
    pub kubernetes: String,
    /// How many nodes, the control plane included.
    pub nodes: u16,
    /// The ingress' HTTPS port on 127.0.0.1; 0 takes a free one.
    pub ingress_port: u16,
    /// Where the release is installed.
    pub namespace: String,
    /// The chart's values files, of the repository, the last one winning.
    pub values: Vec<PathBuf>,
}

/// The platform that is rehearsed.
#[derive(Clone, Debug)]
pub struct Platform {
    /// What `x-trii-version` must say.
    pub version: String,
    /// The host of the site.
    pub site_host: String,
    /// The host of the API.
    pub api_host: String,
}

/// One rule of the ingress.
#[derive(Clone, Debug)]
pub struct Route {
    /// The host it is for, lower case, without port.
    pub host: String,
    /// A path prefix, or a regular expression, by `path_type`.
    pub path: String,
    /// How `path` is read (<https://kubernetes.io/docs/concepts/services-networking/ingress/#path-types>).
    pub path_type: PathType,
    /// What the path becomes; `$n` is the regex's nth group.
    pub rewrite: Option<String>,
    /// Who answers.
    pub service: Service,
}

/// How long each wait may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Building the platform from source.
    pub build: Duration,
    /// Postgres and Redis, from start to answering.
    pub backing_services: Duration,
    /// A service, from start to ready.
    pub service_ready: Duration,
    /// Images, pulled or built.
    pub images: Duration,
    /// A cluster, from its creation to nodes that are ready.
    pub cluster: Duration,
    /// A release, from `helm upgrade` to a complete rollout.
    pub release: Duration,
    /// One check of a scenario.
    pub check: Duration,
    /// A child, from being asked to end until it is killed.
    pub stop: Duration,
}

/// The configuration cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    #[diagnostic(help("run from the repository's root, or name the file with --config"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The file is there and something in it is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, the offending value included.
        message: String,
        /// What would do.
        #[help]
        help: Option<String>,
        /// The text, for the excerpt.
        #[source_code]
        text: NamedSource<String>,
        /// The offending place.
        #[label("here")]
        span: SourceSpan,
    },
}

/// What is wrong at a place of the text, before the file's name is known.
#[derive(Debug)]
struct Fault {
    span: std::ops::Range<usize>,
    message: String,
    help: Option<String>,
}

impl Config {
    /// Reads and judges the file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(path, &text)
    }

    /// Judges `text` as the content of `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let written = Written {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        schema::File::parse(text)
            .and_then(|file| judge::judge(file, written))
            .map_err(|fault| fault.in_file(path, text))
    }

    /// Refuses what is at a place of the file, for those who judge what it says further than
    /// is done here.
    pub fn refuse(
        &self,
        place: Range<usize>,
        message: String,
        help: Option<String>,
    ) -> ConfigError {
        let fault = Fault {
            span: place,
            message,
            help,
        };
        fault.in_file(&self.written.path, &self.written.text)
    }

    /// The load profile of this name.
    pub fn profile(&self, name: &str) -> Result<(&str, &Profile), UnknownProfile> {
        let found = self.profiles.get_key_value(name);
        let found = found.map(|(name, profile)| (name.as_str(), profile));
        found.ok_or_else(|| UnknownProfile {
            name: name.to_owned(),
            nearest: nearest(name, self.profiles.keys().map(String::as_str))
                .unwrap_or_else(|| "define it under [profiles]".into()),
        })
    }

    /// The target of this name, or the default one.
    pub fn target(&self, name: Option<&str>) -> Result<(&str, &Target), UnknownTarget> {
        let wanted = name.unwrap_or(&self.default_target);
        self.targets
            .get_key_value(wanted)
            .map(|(name, target)| (name.as_str(), target))
            .ok_or_else(|| UnknownTarget {
                name: wanted.to_owned(),
                defined: self.targets.keys().cloned().collect::<Vec<_>>().join(", "),
            })
    }
}

impl Config {
    /// Whether the machine decides: nothing else is named, or just that.
    pub fn is_auto(&self, name: Option<&str>) -> bool {
        name.unwrap_or(&self.default_target) == AUTO
    }

    /// What [`AUTO`] comes to: the first kind target where a cluster can be had (an engine
    /// answers, and there are images), else the first local one; where there is none of
    /// these, the first that is stood up.
    pub fn auto(&self, cluster: bool) -> Option<&str> {
        let wanted = |target: &Target| match target {
            Target::Kind(_) => cluster,
            Target::Remote(_) => false,
            Target::Local(_) => !cluster,
        };
        // A cluster that is there is only ever used by its name.
        let stood_up = |(_, target): &(&String, &Target)| !matches!(target, Target::Remote(_));
        let mut targets = self.targets.iter().filter(stood_up);
        let found = targets.clone().find(|(_, target)| wanted(target));
        let found = found.or_else(|| targets.next());
        found.map(|(name, _)| name.as_str())
    }
}

/// No target of this name is defined.
#[derive(Debug, Error, Diagnostic)]
#[error("no target {name:?} in harness.toml; defined: {defined}")]
#[diagnostic(help("name one of them with --target, or define it under [targets]"))]
pub struct UnknownTarget {
    name: String,
    defined: String,
}

/// No load profile of this name is defined.
#[derive(Debug, Error, Diagnostic)]
#[error("no profile {name:?} in harness.toml")]
#[diagnostic(help("{nearest}"))]
pub struct UnknownProfile {
    name: String,
    nearest: String,
}

/// The line of a place in a text, from 1.
fn line_of(text: &str, place: usize) -> usize {
    text[..place].matches('\n').count() + 1
}

impl Fault {
    fn in_file(self, path: &Path, text: &str) -> ConfigError {
        let start = self.span.start.min(text.len());
        let end = self.span.end.clamp(start, text.len());
        ConfigError::Refused {
            path: path.to_owned(),
            line: line_of(text, start),
            message: self.message,
            help: self.help,
            text: NamedSource::new(path.display().to_string(), text.to_owned()),
            span: (start..end).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../harness.toml");

    fn refusal(text: &str) -> String {
        let error = Config::parse(Path::new("harness.toml"), text).unwrap_err();
        let help = error.help().map(|help| help.to_string());
        format!("{error}\n  help: {}", help.unwrap_or_default())
    }

    fn shipped_but(from: &str, to: &str) -> String {
        assert!(SHIPPED.contains(from), "harness.toml has no {from:?}");
        SHIPPED.replacen(from, to, 1)
    }

    #[test]
    fn the_shipped_file_is_good() {
        let config = Config::parse(Path::new("harness.toml"), SHIPPED).unwrap();
        assert!(config.is_auto(None) && !config.is_auto(Some("local")));
        assert_eq!(config.auto(true), Some("kind"));
        assert_eq!(config.auto(false), Some("local"));
        // The router tries the most specific first.
        assert_eq!(config.routes[0].path, "/market-data(/|$)(.*)");
        let policy = config.blue_green;
        assert_eq!(policy.lease, Duration::from_secs(30));
        assert_eq!(policy.thresholds.min_latency_increase.as_millis(), 100);
        assert_eq!(policy.smoke[&Service::MarketDataService], ["/quotes"]);
    }

    #[test]
    fn every_profile_is_there_and_reads_as_what_it_does() {
        let config = Config::parse(Path::new("harness.toml"), SHIPPED).unwrap();
        let mut lines = vec![config.load.to_string()];
        for (name, profile) in &config.profiles {
            lines.push(format!("{name}: {}", profile.traffic));
            let thresholds = profile.thresholds.iter();
            lines.extend(thresholds.map(|it| {
                assert!(SHIPPED[it.place.clone()].contains(&it.expression));
                let abort = it
                    .abort_after
                    .map(|after| format!(", aborts after {after:?}"));
                format!(
                    "  {} {}{}",
                    it.metric,
                    it.expression,
                    abort.unwrap_or_default()
                )
            }));
        }
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn an_expression_is_refused_where_it_is() {
        let config = Config::parse(Path::new("harness.toml"), SHIPPED).unwrap();
        let place = config.profiles["smoke"].thresholds[0].place.clone();
        let line = SHIPPED[..place.start].lines().count();
        let refused = config.refuse(place, "no threshold".into(), None);
        assert_eq!(
            refused.to_string(),
            format!("harness.toml:{line}: no threshold")
        );
    }

    #[test]
    fn a_profile_that_is_not_there_has_a_nearest() {
        let config = Config::parse(Path::new("harness.toml"), SHIPPED).unwrap();
        let error = config.profile("smok").unwrap_err();
        assert_eq!(error.help().unwrap().to_string(), "did you mean \"smoke\"?");
    }

    /// The shipped file, and the example in it as if it were none.
    fn with_staging() -> String {
        let mut example = false;
        let lines = SHIPPED.lines().map(|line| {
            example = match line {
                "# [targets.staging]" => true,
                line => example && !line.is_empty(),
            };
            match line.strip_prefix("# ") {
                Some(text) if example => format!("{text}\n"),
                _ => format!("{line}\n"),
            }
        });
        lines.collect()
    }

    #[test]
    fn the_shipped_example_of_a_remote_target_is_good() {
        let config = Config::parse(Path::new("harness.toml"), &with_staging()).unwrap();
        let Target::Remote(staging) = &config.targets["staging"] else {
            panic!("it is remote");
        };
        assert_eq!(staging.base.site_host, "staging.trii.co");
        assert_eq!((staging.base.tls, staging.base.port), (true, 443));
        assert!(!staging.production && staging.allow.len() == 3);
    }

    #[test]
    fn no_remote_target_is_ever_chosen_for_its_user() {
        let mut config = Config::parse(Path::new("harness.toml"), &with_staging()).unwrap();
        config
            .targets
            .retain(|_, target| matches!(target, Target::Remote(_)));
        assert_eq!(config.targets.len(), 1);
        assert_eq!(config.auto(true), None);
        assert_eq!(config.auto(false), None);
    }

    #[test]
    fn every_kind_of_fault_of_a_remote_target_names_line_value_and_remedy() {
        let staging = with_staging();
        let cases = [
            ("[targets.staging]", "[targets.staging_eu]"),
            ("context = \"trii-staging\"", "contxt = \"trii-staging\""),
            ("context = \"trii-staging\"", "context = \"\""),
            ("context = \"trii-staging\"", "nodes = 1"),
            ("https://trii-staging.example:6443", "trii-staging:6443"),
            ("https://trii-staging.example:6443", "http://10.0.0.1:6443"),
            (
                "site_url = \"https://staging.trii.co\"",
                "site_url = \"staging.trii.co\"",
            ),
            (
                "site_url = \"https://staging.trii.co\"",
                "site_url = \"https://10.0.0.1\"",
            ),
            (
                "https://staging-api.trii.co",
                "https://staging-api.trii.co/api",
            ),
            ("https://staging-api.trii.co", "http://staging-api.trii.co"),
            ("production = false ", "production = true "),
            ("production = false ", "production = \"no\" "),
            ("production = false ", ""),
            ("\"burst\"]", "\"brust\"]"),
            ("\"burst\"]", "\"load\"]"),
            ("\"burst\"]", "\"load\"]\nmax_rate = 0"),
            ("allow = [", "address = \"10.0.0.1\"\nallow = ["),
            ("allow = [", "kubeconfig = \"~/.kube/staging\"\nallow = ["),
            (
                "namespace = \"trii-platform\"\nvalues = [\"fixtures/helm/trii-platform/values-staging",
                "namespace = \"Trii\"\nvalues = [\"fixtures/helm/trii-platform/values-staging",
            ),
        ];
        let refusals = cases.iter().map(|(from, to)| {
            assert!(staging.contains(from), "{from:?}");
            format!(
                "{from} -> {to}\n{}",
                refusal(&staging.replacen(from, to, 1))
            )
        });
        insta::assert_snapshot!(refusals.collect::<Vec<_>>().join("\n\n"));
    }

    /// A second target, which is production where the first one is not.
    fn with_another(server: &str, site: &str, api: &str) -> String {
        let another = format!(
            "[targets.another]\nkind = \"remote\"\ncontext = \"another\"\n\
             server = \"{server}\"\nnamespace = \"trii\"\nvalues = []\n\
             site_url = \"{site}\"\napi_url = \"{api}\"\n\
             production = true\nallow = []\n\n[platform]\n"
        );
        with_staging().replacen("[platform]\n", &another, 1)
    }

    #[test]
    fn targets_of_one_server_or_one_site_agree_on_production() {
        let (server, site, api) = (
            "https://elsewhere.example",
            "https://trii.example",
            "https://api.trii.example",
        );
        let staging = "HTTPS://Trii-Staging.example:6443/";
        let cases = [
            with_another(staging, site, api),
            with_another(
                server,
                "http://STAGING.trii.co:8080",
                "http://api.trii.example:8080",
            ),
            with_another(server, site, "https://staging.trii.co"),
            with_another(server, "https://staging-api.trii.co", api),
        ];
        let refusals: Vec<String> = cases.iter().map(|text| refusal(text)).collect();
        insta::assert_snapshot!(refusals.join("\n\n"));

        Config::parse(Path::new("harness.toml"), &with_another(server, site, api)).unwrap();
        let agreed =
            with_another(staging, site, api).replace("production = true", "production = false");
        Config::parse(Path::new("harness.toml"), &agreed).unwrap();
    }

    #[test]
    fn every_kind_of_fault_names_line_value_and_remedy() {
        let cases = [
            ("kind = \"local\"", "kind = \"lokal\""),
            ("kind = \"local\"", "kind = \"kind\""),
            ("router_port = 0 ", "nodes = 1 "),
            ("nodes = 1 ", "nodes = 0 "),
            ("kubernetes = \"1.37\"", "kubernetes = \"latest\""),
            ("namespace = \"trii-platform\"", "namespace = \"Trii\""),
            ("default_target = \"auto\"", "default_target = \"locl\""),
            ("[targets.local]", "[targets.auto]"),
            ("[targets.local]", "[targets.Local_eu]"),
            ("[targets.local]", "[targets.\"a/b\"]"),
            ("router_port = 0 ", "router_prot = 0 "),
            ("router_port = 0 ", "router_port = 70000 "),
            ("router_port = 0 ", "router_port = \"any\" "),
            ("services = \"auto\"", "services = \"containres\""),
            ("schema = 1", "schema = 2"),
            ("version = \"v2.1.0\"", "version = \"2 1\""),
            ("site_host = \"trii.co\"", "site_host = \"https://trii.co\""),
            ("[services.api-gateway.env]", "[services.api-gatway.env]"),
            ("RATE_LIMIT_PER_SECOND", "DATABASE_URL"),
            ("service = \"frontend-app\"", "service = \"fronted-app\""),
            ("(/|$)(.*)", "(/|$(.*)"),
            ("/$2", "/$3"),
            (
                "path_type = \"ImplementationSpecific\"",
                "path_type = \"Prefix\"",
            ),
            ("check = 20", "check = 0"),
            ("check = 20", "check = 1.5"),
            ("[deadlines]", "[deadlnes]"),
            ("lease = 30", "lease = 0"),
            ("watch = 20", "watch = 0"),
            ("warm_up = 4 ", "warm_up = 20 "),
            ("green_ready = 120", "green_redy = 120"),
            ("min_requests = 100", "min_requests = 0"),
            ("max_error_share = 0.01", "max_error_share = 1.5"),
            ("max_error_share = 0.01", "max_error_share = nan"),
            ("max_error_increase = 0.005", "max_error_increase = -0.1"),
            ("latency_quantile = 0.95", "latency_quantile = 1.0"),
            ("latency_quantile = 0.95", "latency_quantile = 95"),
            ("max_latency_ratio = 2.0", "max_latency_ratio = 0.5"),
            ("max_latency_ratio = 2.0", "max_latency_ratio = inf"),
            ("[blue_green]", "[blue_green]\nmax_latency_ms = 0"),
            ("{namespace}-{service}-*", "market-data"),
            ("port = 9000", "port = 0"),
            ("smoke = [\"/quotes\"]", "smoke = [\"quotes\"]"),
            ("smoke = [\"/quotes\"]", "smoke = [\"/quotes of all\"]"),
            ("[services.market-data-service]", "[services.market-data]"),
            ("request_timeout = 10", "request_timeout = 0"),
            ("[load.journeys.browse]", "[load.journeys.brows]"),
            ("think_ms = [500, 1500]", "think_ms = [1500, 500]"),
            ("think_ms = [500, 1500]", "think_ms = 500"),
            (
                "[profiles.smoke]",
                "[profiles.Fast]\nengine = \"closed\"\nstages = [{ users = 1, seconds = 1 }]\n[profiles.smoke]",
            ),
            ("engine = \"closed\"", "engine = \"goose\""),
            ("engine = \"closed\"", "engine = \"open\""),
            ("engine = \"open\"", "engine = \"closed\""),
            ("max_in_flight = 500", ""),
            ("max_in_flight = 500", "max_in_flight = 0"),
            ("{ users = 4, seconds = 0 }", "{ rate = 4, seconds = 0 }"),
            ("{ users = 4, seconds = 0 }", "{ users = 4 }"),
            (
                "{ users = 4, seconds = 0 }",
                "{ users = 200000, seconds = 0 }",
            ),
            ("stages = [", "stages = []\n#"),
            ("\"rate==0\"", "0"),
            ("abort_on_fail = true", "abort_on_fial = true"),
            ("[platform]", "[platform"),
        ];
        let nobody = SHIPPED
            .lines()
            .map(|line| match line.starts_with("weight = ") {
                true => "weight = 0\n".to_owned(),
                false => format!("{line}\n"),
            })
            .collect::<String>();
        let refusals: Vec<String> = cases
            .iter()
            .map(|(from, to)| format!("{from} -> {to}\n{}", refusal(&shipped_but(from, to))))
            .collect();
        let nobody = format!("weight = 0 everywhere\n{}", refusal(&nobody));
        let refusals = [refusals, vec![nobody]].concat();
        insta::assert_snapshot!(refusals.join("\n\n"));
    }

    #[test]
    fn a_missing_file_says_where_it_was_looked_for() {
        let error = Config::read(Path::new("nowhere/harness.toml")).unwrap_err();
        assert!(error.to_string().contains("nowhere/harness.toml"));
    }

    proptest::proptest! {
        #[test]
        fn nonsense_is_refused_and_never_panics(at in 0..SHIPPED.len(), junk in ".{0,12}") {
            let mut text = SHIPPED.to_owned();
            if text.is_char_boundary(at) {
                text.insert_str(at, &junk);
                let _ = Config::parse(Path::new("harness.toml"), &text);
            }
        }
    }
}
