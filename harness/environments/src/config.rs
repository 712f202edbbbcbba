//! `harness.toml`, the file that a user edits.
//!
//! The file is parsed into the types of `schema`, then validated. An error names the file, the
//! line, the wrong value and the remedy.

mod backing_services;
mod blue_green;
mod blue_green_scenarios;
mod checks;
mod excerpt;
pub mod hurl;
pub mod load;
mod local;
pub(crate) mod placeholders;
pub(crate) mod releases;
pub mod remote;
mod rolling;
mod schema;
mod services;
mod shared_rules;
mod validate;
mod versions;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{Diagnostic, NamedSource, SourceSpan};
use serde_json::{Map, Value};
use thiserror::Error;
use tokens::TokenClaims;

pub use backing_services::{
    MajorVersion, POSTGRES, PlatformBackingServices, PlatformPostgres, PlatformRedis, REDIS,
};
pub use blue_green_scenarios::{BlueGreenScenarios, PodFault, PodFaults, ScenarioRequest};
pub use checks::{CheckFile, CodedChecks};
use load::{LoadConfig, Profile};
pub use local::{LocalPlatform, LocalService};
pub use releases::{PlatformChart, PlatformImage, PlatformRelease, SecretTexts};
pub use remote::RemoteTarget;
pub use rolling::{Probe, ProbeUrl, RollingConfig};
pub use schema::{BackingServices, PathType};
pub use services::PlatformService;
pub use validate::names_environment;

use ::blue_green::VersionSources;
use ::blue_green::policy::Policy;
use base::text::nearest;

/// The configuration, with valid values.
#[derive(Clone, Debug)]
pub struct Config {
    /// The target if none is named; [`AUTO`] depends on the machine.
    pub default_target: String,
    /// The targets by name.
    pub targets: BTreeMap<String, Target>,
    /// The platform.
    pub platform: Platform,
    /// The backing services that it needs.
    pub backing_services: PlatformBackingServices,
    /// Its helm releases, in the order of their installation.
    pub releases: Vec<PlatformRelease>,
    /// The images of its pods by recipe of `fixtures/images`.
    pub images: BTreeMap<String, PlatformImage>,
    /// The Secrets of its namespace on a kind target.
    pub secrets: SecretTexts,
    /// Its services, each after those that it calls.
    pub services: Vec<PlatformService>,
    /// The routes of the ingress, in the order of their precedence.
    pub routes: Vec<Route>,
    /// The files of the smoke checks, in the order of their run.
    pub checks: Vec<CheckFile>,
    /// The smoke checks in code, which run after the files.
    pub coded_checks: Vec<CodedChecks>,
    /// The tokens for checks, by the name of their variable.
    pub tokens: BTreeMap<String, TokenClaims>,
    /// The deadline of each wait.
    pub deadlines: Deadlines,
    /// How a service is released blue-green.
    pub blue_green: Policy,
    /// How the versions of services are known.
    pub versions: VersionSources,
    /// How blue-green releases are rehearsed.
    pub blue_green_scenarios: Option<BlueGreenScenarios>,
    /// How rolling upgrades are rehearsed.
    pub rolling: RollingConfig,
    /// The behaviour of simulated users.
    pub load: LoadConfig,
    /// Load profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    written: Written,
}

/// The file, for errors.
#[derive(Clone, Debug)]
struct Written {
    path: PathBuf,
    text: String,
}

/// The name for a cluster if a container engine answers, or else for processes.
pub const AUTO: &str = "auto";

/// Where the platform runs.
#[derive(Clone, Debug)]
pub enum Target {
    /// As processes of this machine.
    Local(LocalTarget),
    /// In its own kind cluster.
    Kind(KindTarget),
    /// In an existing cluster.
    Remote(Box<RemoteTarget>),
}

/// Processes of this machine behind a router.
#[derive(Clone, Debug)]
pub struct LocalTarget {
    /// The source of the backing services.
    pub backing_services: BackingServices,
    /// The router's port on 127.0.0.1; 0 is any free port.
    pub router_port: u16,
}

/// A kind cluster that is created and deleted with the environment.
#[derive(Clone, Debug)]
pub struct KindTarget {
    /// The minor version of Kubernetes, e.g. `1.37`.
    pub kubernetes: String,
    /// The number of nodes, with the control plane.
    pub nodes: u16,
    /// The ingress' HTTPS port on 127.0.0.1; 0 is any free port.
    pub ingress_port: u16,
    /// Where the release is installed.
    pub namespace: String,
    /// Values files in the repository for each release, after its own.
    pub values: Vec<PathBuf>,
    /// Values of each release that override all files. The texts have placeholders.
    pub set: Map<String, Value>,
    /// The value with the environment of a service, such as `services.{service}.env`.
    pub service_env: Option<String>,
}

/// The platform.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Its name, for reports.
    pub name: String,
    /// The version that is deployed: an image's tag, and how the services name their version.
    pub version: String,
    /// The host of the site.
    pub site_host: String,
    /// The host of the API.
    pub api_host: String,
    /// The manifests in the repository that a kind target gets before the releases.
    pub manifests: Vec<PathBuf>,
    /// The Secret with the certificate of both hosts on a kind target.
    pub tls_secret: Option<String>,
    /// The requests that succeed once it is up on a kind target.
    pub ready: Option<ReadyFile>,
    /// The namespace of the prober's pods in a cluster. Network policies must admit it to every
    /// service. In the release's namespace a prober would need a caller's labels, and that caller's
    /// Service would send it requests.
    pub helpers_namespace: String,
    /// What its services have in common on the local target.
    pub local: LocalPlatform,
}

/// A file in Hurl's format. <https://hurl.dev>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyFile {
    /// The file, relative to the repository.
    pub path: PathBuf,
    /// Where harness.toml names it.
    pub place: Range<usize>,
}

/// The image of a service on the local target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceImage {
    /// The image of this recipe of `fixtures/images`, pulled or built.
    Recipe(String),
    /// The engine has the image of this reference, or pulls it.
    Reference(String),
}

/// One rule of the ingress.
#[derive(Clone, Debug)]
pub struct Route {
    /// The host, lower case, without port.
    pub host: String,
    /// A path, a prefix, or a regular expression, by `path_type`.
    pub path: String,
    /// See <https://kubernetes.io/docs/concepts/services-networking/ingress/#path-types>.
    pub path_type: PathType,
    /// The path for the service; `$n` is the regex's nth group.
    pub rewrite: Option<String>,
    /// The service that answers.
    pub service: String,
}

/// The deadline of each wait.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Building the platform from source.
    pub build: Duration,
    /// Postgres and Redis, from the start until they answer.
    pub backing_services: Duration,
    /// A service, from the start until it is ready.
    pub service_ready: Duration,
    /// Images, pulled or built.
    pub images: Duration,
    /// A cluster, from its creation until its nodes are ready.
    pub cluster: Duration,
    /// A release, from `helm upgrade` to a complete rollout.
    pub release: Duration,
    /// One check of a scenario.
    pub check: Duration,
    /// A child, from the stop signal until it is killed.
    pub stop: Duration,
}

/// The configuration cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum ConfigError {
    /// The file does not exist, or cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    #[diagnostic(help("run from the repository's root, or name the file with --config"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file has a wrong value.
    #[error("{}:{line}: {message}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The problem, with the wrong value.
        message: String,
        /// The remedy.
        #[help]
        help: Option<String>,
        /// The text, for the excerpt.
        #[source_code]
        text: NamedSource<String>,
        /// The place of the wrong value.
        #[label("here")]
        span: SourceSpan,
    },
}

/// A problem at a place of the text.
#[derive(Debug)]
struct Fault {
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

impl Config {
    /// Reads and validates the file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(path, &text)
    }

    /// Validates `text` as the content of `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let written = Written {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        schema::File::parse(text)
            .and_then(|file| validate::validate(file, written))
            .map_err(|fault| fault.in_file(path, text))
    }

    /// Returns the refusal of the value at a place of the file, for a further validation.
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

    /// Returns the names of the services.
    pub fn service_names(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|it| it.name.as_str())
    }

    /// Returns the service of this name.
    pub fn service(&self, name: &str) -> Option<&PlatformService> {
        self.services.iter().find(|it| it.name == name)
    }

    /// Returns the name of an image on the nodes, if the platform has an image of this recipe.
    pub fn image(&self, recipe: &str, version: &str) -> Option<String> {
        Some(self.images.get(recipe)?.of_version(version))
    }

    /// Returns the image that a service is a container of on the local target, if it is one.
    pub fn image_of(&self, service: &PlatformService) -> Option<ServiceImage> {
        let text = service.local.image.as_ref()?;
        let name = text.replace("{version}", &self.platform.version);
        let mut recipes = self.images.iter();
        let recipe = recipes.find(|(_, it)| it.of_version(&self.platform.version) == name);
        Some(match recipe {
            Some((recipe, _)) => ServiceImage::Recipe(recipe.clone()),
            None => ServiceImage::Reference(name),
        })
    }

    /// Returns the services that are containers on the local target, each with its image.
    pub fn containers(&self) -> impl Iterator<Item = (&PlatformService, ServiceImage)> {
        let services = self.services.iter();
        services.filter_map(|it| Some((it, self.image_of(it)?)))
    }

    /// Returns the load profile of this name.
    pub fn profile(&self, name: &str) -> Result<(&str, &Profile), UnknownProfile> {
        let found = self.profiles.get_key_value(name);
        let found = found.map(|(name, profile)| (name.as_str(), profile));
        found.ok_or_else(|| UnknownProfile {
            name: name.to_owned(),
            nearest: nearest(name, self.profiles.keys().map(String::as_str))
                .unwrap_or_else(|| "define it under [profiles]".into()),
        })
    }

    /// Returns the fixed ports of targets on this machine, each with its key.
    pub fn ports(&self) -> Vec<(String, u16)> {
        let ports = self.targets.iter().filter_map(|(name, target)| {
            let (key, port) = match target {
                Target::Local(local) => ("router_port", local.router_port),
                Target::Kind(kind) => ("ingress_port", kind.ingress_port),
                Target::Remote(_) => return None,
            };
            (port != 0).then(|| (format!("targets.{name}.{key}"), port))
        });
        ports.collect()
    }

    /// Returns the target of this name, or the default target.
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

    /// Returns whether [`AUTO`] is selected, by name or by default.
    pub fn is_auto(&self, name: Option<&str>) -> bool {
        name.unwrap_or(&self.default_target) == AUTO
    }

    /// Returns the target of [`AUTO`]: the first kind target if a cluster is possible, or else the
    /// first local one. Without such a target, the first that is not remote.
    pub fn auto(&self, cluster: bool) -> Option<&str> {
        let wanted = |target: &Target| match target {
            Target::Kind(_) => cluster,
            Target::Remote(_) => false,
            Target::Local(_) => !cluster,
        };
        // A remote target is used only by its name.
        let is_here = |(_, target): &(&String, &Target)| !matches!(target, Target::Remote(_));
        let mut targets = self.targets.iter().filter(is_here);
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
            text: NamedSource::new(path.display().to_string(), excerpt::without_secrets(text)),
            span: (start..end).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ::blue_green::VersionSource;
    use hyper::http::HeaderName;
    use kubernetes::prober::IdentityHeaders;

    use super::*;

    const SHIPPED: &str = include_str!("../../../harness.toml");

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
    fn the_shipped_file_is_valid() {
        let config = Config::parse(Path::new("harness.toml"), SHIPPED).unwrap();
        assert!(config.is_auto(None) && !config.is_auto(Some("local")));
        assert_eq!(config.auto(true), Some("kind"));
        assert_eq!(config.auto(false), Some("local"));
        // The most specific route comes first.
        assert_eq!(config.routes[0].path, "/market-data(/|$)(.*)");
        let policy = config.blue_green;
        assert_eq!(policy.lease, Duration::from_secs(30));
        assert_eq!(policy.thresholds.min_latency_increase.as_millis(), 100);
        assert_eq!(policy.smoke["market-data-service"], ["/quotes"]);
    }

    #[test]
    fn what_a_file_leaves_out_is_as_in_the_shipped_one() {
        let shipped = Config::parse(Path::new("harness.toml"), SHIPPED).unwrap();
        let podinfo = include_str!("../../../fixtures/podinfo/harness.toml");
        assert!(!podinfo.contains("[deadlines]") && !podinfo.contains("[blue_green]"));
        let podinfo = Config::parse(Path::new("harness.toml"), podinfo).unwrap();
        let deadlines = [&shipped, &podinfo].map(|it| format!("{:?}", it.deadlines));
        assert_eq!(deadlines[0], deadlines[1]);
        let policy = |config: &Config| Policy {
            smoke: BTreeMap::new(),
            versions: VersionSources::default(),
            ingress: None,
            ..config.blue_green.clone()
        };
        let policies = [&shipped, &podinfo].map(|it| format!("{:?}", policy(it)));
        assert_eq!(policies[0], policies[1]);
        assert_eq!(shipped.load.request_timeout, podinfo.load.request_timeout);
        assert_eq!(shipped.load.drain, podinfo.load.drain);
        assert_eq!(podinfo.platform.api_host, podinfo.platform.site_host);
    }

    #[test]
    fn each_service_says_how_its_version_is_known() {
        let shipped = Config::parse(Path::new("harness.toml"), SHIPPED).unwrap();
        let header = |name| Some(HeaderName::from_static(name));
        assert_eq!(
            shipped.versions.headers,
            IdentityHeaders {
                service: header("x-trii-service"),
                version: header("x-trii-version"),
                instance: header("x-trii-instance"),
            }
        );
        let podinfo = include_str!("../../../fixtures/podinfo/harness.toml");
        let podinfo = Config::parse(Path::new("harness.toml"), podinfo).unwrap();
        let of = podinfo.versions.of("frontend-podinfo");
        assert_eq!(of.to_string(), "\"/version\" of GET /version");
        assert_eq!(podinfo.versions.of("redis"), VersionSource::Image);
        assert_eq!(podinfo.versions.headers, IdentityHeaders::default());
    }

    #[test]
    fn every_profile_is_there_and_reads_as_what_it_does() {
        let config = Config::parse(Path::new("harness.toml"), SHIPPED).unwrap();
        let mut lines = Vec::new();
        for (name, profile) in &config.profiles {
            lines.push(format!("{name}: {}", profile.traffic));
            lines.push(format!("  {}", profile.mix()));
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
    fn an_expression_is_refused_with_its_line() {
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
    fn an_unknown_profile_is_refused_with_the_nearest() {
        let config = Config::parse(Path::new("harness.toml"), SHIPPED).unwrap();
        let error = config.profile("smok").unwrap_err();
        assert_eq!(error.help().unwrap().to_string(), "did you mean \"smoke\"?");
    }

    /// The shipped file, with its example uncommented.
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
    fn the_shipped_example_of_a_remote_target_is_valid() {
        let config = Config::parse(Path::new("harness.toml"), &with_staging()).unwrap();
        let Target::Remote(staging) = &config.targets["staging"] else {
            panic!("it is remote");
        };
        assert_eq!(staging.base.site_host, "staging.trii.co");
        assert_eq!((staging.base.tls, staging.base.port), (true, 443));
        assert!(!staging.production && staging.allow.len() == 3);
    }

    #[test]
    fn auto_never_selects_a_remote_target() {
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

    /// Adds a production target.
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
            (
                "[services.api-gateway.env]",
                "[services.\"api gateway\".env]",
            ),
            ("calls = { market-data-service =", "calls = { market-data ="),
            (
                "[services.frontend-app]",
                "[services.frontend-app]\nblue_green = true",
            ),
            ("= \"MARKET_DATA_URL\"", "= \"DATABASE_URL\""),
            ("= \"MARKET_DATA_URL\"", "= \"MARKET=URL\""),
            (
                "[services.market-data-service]",
                "[services.market-data-service]\ncalls = { analysis-engine-service = \"ANALYSIS_ENGINE_URL\" }",
            ),
            ("RATE_LIMIT_PER_SECOND", "DATABASE_URL"),
            ("= \"100\"", "= \"{instance}\""),
            ("= \"PORTFOLIO_MANAGER_URL\" }", "= \"MARKET_DATA_URL\" }"),
            (
                "[services.frontend-app]",
                "[services.redis]\n[services.frontend-app]",
            ),
            (
                "[services.frontend-app]",
                "[services.market-data-service-preview]\n[services.frontend-app]",
            ),
            ("ready = \"http", "# ready = \"http"),
            (
                "[services.api-gateway.env]",
                "[services.api-gateway.local.env]\nMARKET_DATA_URL = \"\"\n[services.api-gateway.env]",
            ),
            (
                "[services.frontend-app]",
                "[services.frontend-app.local]\nrun = [\"sleep\", \"1\"]\nredy = \"\"\n[services.frontend-app]",
            ),
            ("cargo_package = \"platform\"", ""),
            (
                "cargo_package = \"platform\"",
                "build = [\"make\"]\ncargo_package = \"platform\"",
            ),
            ("cargo_package = \"platform\"", "build = []"),
            (
                "cargo_package = \"platform\"",
                "build = [\"make\",\n  \"PORT={port}\"]",
            ),
            (
                "cargo_package = \"platform\"",
                "build = [\"make\", \"{verson}\"]",
            ),
            ("cargo_package = \"platform\"", "build = \"make all\""),
            ("LISTEN_ADDRESS = ", "\"LISTEN=ADDRESS\" = "),
            ("127.0.0.1:{port}", "127.0.0.1:{prot}"),
            ("127.0.0.1:{port}", "127.0.0.1:8000"),
            ("\"serve\"", "\"--key={jwt_secret}\""),
            ("\"60\"", "\"{database_url}\""),
            ("\"60\"", "\"{port}\""),
            ("/health/ready", "/{demo_password}"),
            ("http://127.0.0.1:{metrics", "127.0.0.1:{metrics"),
            (
                "run = [\"{program}\", \"serve\", \"{service}\"]",
                "run = []",
            ),
            ("run = [\"{program}\", \"serve\", \"{service}\"]", ""),
            (
                "run = [\"{program}\", \"serve\", \"{service}\"]",
                "run = [\"sh\", \"-c\", \"exec {program}\"]",
            ),
            ("service = \"frontend-app\"", "service = \"fronted-app\""),
            ("(/|$)(.*)", "(/|$(.*)"),
            ("/$2", "/$3"),
            (
                "path_type = \"ImplementationSpecific\"",
                "path_type = \"Prefix\"",
            ),
            ("needs = \"orders\"", "needs = \"order\""),
            ("[tokens.investor]", "[tokens.\"an investor\"]"),
            ("[tokens.investor]", "[tokens.api]"),
            ("subject = \"smoke-feed\"", "sub = \"smoke-feed\""),
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
            (
                "version = \"x-trii-version\"",
                "version = \"x trii version\"",
            ),
            (
                "instance = \"x-trii-instance\"",
                "pod = \"x-trii-instance\"",
            ),
            ("smoke = [\"/quotes\"]", "version = { path = \"version\" }"),
            (
                "smoke = [\"/quotes\"]",
                "version = { path = \"/version\", json = \"version\" }",
            ),
            (
                "smoke = [\"/quotes\"]",
                "version = { path = \"/version\", json = \"/a~b\" }",
            ),
            ("smoke = [\"/quotes\"]", "version = { json = \"/version\" }"),
            ("smoke = [\"/quotes\"]", "version = \"imag\""),
            ("smoke = [\"/quotes\"]", "version = 2"),
            (
                "helpers_namespace = \"trii-monitoring\"",
                "helpers_namespace = \"Helpers\"",
            ),
            (
                "helpers_namespace = \"trii-monitoring\"",
                "helpers_namespace = \"trii-platform\"",
            ),
            ("smoke = [\"/quotes\"]", "smoke = [\"quotes\"]"),
            ("smoke = [\"/quotes\"]", "smoke = [\"/quotes of all\"]"),
            ("[services.market-data-service]", "[services.market-data]"),
            ("name = \"TRII\"", "name = \" \""),
            ("[backing_services.redis]", "[backing_services.rediss]"),
            ("[backing_services.redis]", ""),
            (
                "[backing_services.redis]",
                "[backing_services.redis]\nversion = \"7.0\"",
            ),
            (
                "[backing_services.redis]",
                "[backing_services.redis]\ndatabase = \"shop\"",
            ),
            (
                "[backing_services.postgres]",
                "[backing_services.postgres]\nversion = \"latest\"",
            ),
            (
                "[backing_services.postgres]",
                "[backing_services.postgres]\ndatabase = \"Shop DB\"",
            ),
            (
                "[backing_services.postgres]",
                "[backing_services.postgres]\ndatabase = \"template1\"",
            ),
            (
                "[backing_services.postgres]",
                "[backing_services.postgres]\nuser = \"pg_shop\"",
            ),
            ("name = \"trii-platform\"", "name = \"TRII\""),
            (
                "chart = \"fixtures/helm/trii-platform\"",
                "chart = \"fixtures/helm/trii-platform\"\nversion = \"1.2.3\"",
            ),
            (
                "chart = \"fixtures/helm/trii-platform\"",
                "chart = \"oci://charts.example/shop\"",
            ),
            (
                "chart = \"fixtures/helm/trii-platform\"",
                "chart = \"oci://charts.example/shop\"\nversion = \"^1.2\"",
            ),
            (
                "chart = \"fixtures/helm/trii-platform\"",
                "version = \"1.2.3\"\nchart = \"oci://charts.example/shop:1.2.3\"",
            ),
            (
                "chart = \"fixtures/helm/trii-platform\"",
                "version = \"1.2.3\"\nchart = \"oci://charts.example\"",
            ),
            ("imageTag = \"{version}\"", "imageTag = \"{versoin}\""),
            ("site = \"{site_host}\"", "site = \"{sitehost}\""),
            ("services.{service}.env", "services.env"),
            (
                "trii-rehearsal/platform:{version}",
                "trii-rehearsal/platform",
            ),
            ("trii-rehearsal/platform:{version}", "platform:{verson}"),
            ("secret = \"{jwt_secret}\"", "secret = \"hunter2\""),
            ("secret = \"{jwt_secret}\"", "secret = \"{jwt_secrt}\""),
            ("path = \"/api\"", "path = \"/\""),
            ("code = \"edges\"", "code = \"egdes\""),
            ("code = \"edges\"", "needs = \"orders\""),
            ("code = \"edges\"", "code = \"edges\"\nneeds = \"orders\""),
            ("request_timeout = 10", "request_timeout = 0"),
            ("[load.journeys.order]", "[load.journeys.ordr]"),
            (
                "[load.journeys.order]",
                "[load.journeys.order]\ndata = { file = \"a.csv\", each = \"user\" }",
            ),
            ("each = \"iteration\"", "each = \"round\""),
            ("weight = 6", "weight = 1001"),
            ("quotes = 6", "qoutes = 6"),
            ("quotes = 6", "quotes = 0"),
            ("{ quotes = 6, quote = 3, history = 1 }", "{}"),
            (
                "{ quotes = 6, quote = 3, history = 1 }",
                "{ quotes = 6, portfolio = 1 }",
            ),
            ("{ quotes = 6, quote = 3, history = 1 }", "{ analysis = 1 }"),
            ("journeys = { quotes = 6, quote = 3, history = 1 }\n", ""),
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
        let weightless = SHIPPED
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
        let weightless = format!("weight = 0 everywhere\n{}", refusal(&weightless));
        let refusals = [refusals, vec![weightless]].concat();
        insta::assert_snapshot!(refusals.join("\n\n"));
    }

    #[test]
    fn a_service_may_be_another_program_than_the_others() {
        let own = r#"
            [services.frontend-app.local]
            run = ["python3", "-m", "http.server", "{port}"]
            directory = "site"
            env = { DRAIN_SECONDS = "9" }
            [services.frontend-app]"#;
        let text = shipped_but("[services.frontend-app]", own);
        let config = Config::parse(Path::new("there/harness.toml"), &text).unwrap();
        let local = |name| &config.service(name).unwrap().local;
        let page = local("frontend-app");
        assert_eq!(page.run[0], "python3");
        assert_eq!(page.directory.as_deref(), Some(Path::new("site")));
        assert_eq!(page.env["DRAIN_SECONDS"], "9");
        assert_eq!(page.env["ENVIRONMENT"], "{target}");
        let gateway = local("api-gateway");
        assert_eq!(
            (gateway.run[0].as_str(), &gateway.directory),
            ("{program}", &None)
        );
        assert!(gateway.ready.is_some() && gateway.has_metrics);
        assert!(page.ready.is_none() && !page.has_metrics);
    }

    #[test]
    fn a_service_may_be_a_container_of_its_image() {
        let own = r#"
            [services.api-gateway.local]
            image = "trii-rehearsal/platform:{version}"
            args = ["serve", "{service}"]
            [services.frontend-app.local]
            image = "registry.example:5000/pages:{version}"
            [services.frontend-app]"#;
        let text = shipped_but("[services.frontend-app]", own);
        let config = Config::parse(Path::new("there/harness.toml"), &text).unwrap();
        let containers = config.containers();
        let containers: Vec<_> = containers.map(|(it, image)| (&*it.name, image)).collect();
        let recipe = ServiceImage::Recipe("platform".into());
        let page = ServiceImage::Reference("registry.example:5000/pages:v2.1.0".into());
        assert_eq!(
            containers,
            [("api-gateway", recipe), ("frontend-app", page)]
        );
        let gateway = &config.service("api-gateway").unwrap().local;
        assert_eq!(gateway.args, ["serve", "{service}"]);
        assert!(gateway.run.is_empty() && gateway.ready.is_none() && !gateway.has_metrics);
    }

    #[test]
    fn the_services_may_be_containers_of_one_image() {
        let text = shipped_but(
            "run = [\"{program}\", \"serve\", \"{service}\"]",
            "image = \"trii-rehearsal/platform:{version}\"\nargs = [\"serve\", \"{service}\"]",
        );
        let text = text.replacen("blue_green = true", "", 1);
        let own = "[services.frontend-app.local]\nargs = [\"pages\"]\n[services.frontend-app]";
        let text = text.replacen("[services.frontend-app]", own, 1);
        let config = Config::parse(Path::new("harness.toml"), &text).unwrap();
        assert_eq!(config.containers().count(), config.services.len());
        let local = |name| &config.service(name).unwrap().local;
        assert_eq!(local("frontend-app").args, ["pages"]);
        let gateway = local("api-gateway");
        assert_eq!(gateway.args, ["serve", "{service}"]);
        assert!(gateway.ready.is_some() && gateway.has_metrics);
    }

    #[test]
    fn every_fault_of_an_image_names_line_value_and_remedy() {
        let shop = |lines: &str| {
            let table = format!("[services.shop.local]\n{lines}\n[services.frontend-app]");
            shipped_but("[services.frontend-app]", &table)
        };
        let image = "image = \"example/shop:{version}\"";
        let cases = [
            shop(&format!("{image}\nrun = [\"sh\"]")),
            shop("image = \"example/shop\""),
            shop("image = \"example/shop:{verson}\""),
            shop("args = [\"{port}\"]"),
            shop(&format!("{image}\ndirectory = \"shop\"")),
            shop(&format!("{image}\nargs = [\"{{jwt_secret}}\"]")),
            shop(&format!("{image}\nargs = [\"{{prot}}\"]")),
            shop(&format!("{image}\nargs = [\"{{program}}\"]")),
            shipped_but(
                "[services.market-data-service]",
                &format!(
                    "[services.market-data-service.local]\n{image}\n[services.market-data-service]"
                ),
            ),
            include_str!("../../../fixtures/podinfo/harness.toml").replacen(
                "[services.frontend-podinfo]",
                &format!("[services.frontend-podinfo.local]\n{image}\n[services.frontend-podinfo]"),
                1,
            ),
            shipped_but(
                "cargo_package = \"platform\"",
                "image = \"example/shop:1\"\ncargo_package = \"platform\"",
            ),
            shipped_but(
                "cargo_package = \"platform\"",
                "args = [\"serve\"]\ncargo_package = \"platform\"",
            ),
            shipped_but(
                "cargo_package = \"platform\"",
                "tools = [\"go\", \"node\"]\ncargo_package = \"platform\"",
            ),
        ];
        let refusals: Vec<String> = cases.iter().map(|text| refusal(text)).collect();
        insta::assert_snapshot!(refusals.join("\n\n"));
    }

    #[test]
    fn a_command_may_build_the_platform() {
        let build = "build = [\"make\", \"VERSION={version}\"]";
        let text = shipped_but("cargo_package = \"platform\"", build);
        let text = text.replace("{program}", "target/platform");
        let text = text.replacen("blue_green = true", "", 1);
        let config = Config::parse(Path::new("harness.toml"), &text).unwrap();
        let local = config.platform.local;
        assert_eq!(local.build, ["make", "VERSION={version}"]);
        assert_eq!(local.cargo_package, None);
    }

    #[test]
    fn without_a_local_target_no_service_needs_a_program() {
        let run = "run = [\"{program}\", \"serve\", \"{service}\"]";
        let text = shipped_but(run, "").replacen(
            "default_target = \"auto\"",
            "default_target = \"kind\"",
            1,
        );
        let local = text.find("[targets.local]").unwrap()..text.find("# A kind cluster").unwrap();
        let text = [&text[..local.start], &text[local.end..]].concat();
        Config::parse(Path::new("harness.toml"), &text).unwrap();
    }

    #[test]
    fn a_missing_file_is_named() {
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
