//! The format of `harness.toml`, before validation.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::Spanned;

use super::Fault;
use base::text::nearest;
use blue_green::ingress::IngressMetrics;
use blue_green::policy::Evidence;
use blue_green::prometheus::Prometheus;
use blue_green::traffic::MetricNames;
use kubernetes::Action;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub schema: Spanned<u32>,
    pub default_target: Option<Spanned<String>>,
    pub targets: BTreeMap<Spanned<String>, TargetTable>,
    pub platform: PlatformTable,
    #[serde(default)]
    pub backing_services: BackingServiceTables,
    #[serde(default)]
    pub releases: Vec<ReleaseTable>,
    #[serde(default)]
    pub images: BTreeMap<Spanned<String>, ImageTable>,
    #[serde(default)]
    pub secrets: BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<String>>>,
    #[serde(default)]
    pub services: BTreeMap<Spanned<String>, ServiceTable>,
    #[serde(default)]
    pub routes: Vec<RouteEntry>,
    #[serde(default)]
    pub checks: Vec<Spanned<ChecksTable>>,
    #[serde(default)]
    pub tokens: BTreeMap<Spanned<String>, TokenTable>,
    #[serde(default)]
    pub deadlines: DeadlinesTable,
    #[serde(default)]
    pub blue_green: BlueGreenTable,
    #[serde(default)]
    pub rolling: RollingTable,
    #[serde(default)]
    pub load: LoadTable,
    #[serde(default)]
    pub profiles: BTreeMap<Spanned<String>, ProfileTable>,
}

/// Not a tagged enum: serde buffers those, which loses the line of a fault. The keys of each kind
/// are validated later.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetTable {
    pub kind: Spanned<TargetKind>,
    pub backing_services: Option<Spanned<BackingServices>>,
    pub router_port: Option<Spanned<u16>>,
    pub kubernetes: Option<Spanned<String>>,
    pub nodes: Option<Spanned<u16>>,
    pub ingress_port: Option<Spanned<u16>>,
    pub namespace: Option<Spanned<String>>,
    pub values: Option<Spanned<Vec<PathBuf>>>,
    pub set: Option<Spanned<Map<String, Value>>>,
    pub service_env: Option<Spanned<String>>,
    pub context: Option<Spanned<String>>,
    pub server: Option<Spanned<String>>,
    pub kubeconfig: Option<Spanned<PathBuf>>,
    pub site_url: Option<Spanned<String>>,
    pub api_url: Option<Spanned<String>>,
    pub address: Option<Spanned<String>>,
    pub authority: Option<Spanned<PathBuf>>,
    pub prober_image: Option<Spanned<String>>,
    pub generator_image: Option<Spanned<String>>,
    pub production: Option<Spanned<bool>>,
    pub allow: Option<Spanned<Vec<Action>>>,
    pub max_rate: Option<Spanned<u32>>,
}

impl TargetTable {
    /// The present keys, except the kind, and their places.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, Range<usize>)> {
        fn place<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
            value.as_ref().map(Spanned::span)
        }
        let keys = [
            ("backing_services", place(&self.backing_services)),
            ("router_port", place(&self.router_port)),
            ("kubernetes", place(&self.kubernetes)),
            ("nodes", place(&self.nodes)),
            ("ingress_port", place(&self.ingress_port)),
            ("namespace", place(&self.namespace)),
            ("values", place(&self.values)),
            ("set", place(&self.set)),
            ("service_env", place(&self.service_env)),
            ("context", place(&self.context)),
            ("server", place(&self.server)),
            ("kubeconfig", place(&self.kubeconfig)),
            ("site_url", place(&self.site_url)),
            ("api_url", place(&self.api_url)),
            ("address", place(&self.address)),
            ("authority", place(&self.authority)),
            ("prober_image", place(&self.prober_image)),
            ("generator_image", place(&self.generator_image)),
            ("production", place(&self.production)),
            ("allow", place(&self.allow)),
            ("max_rate", place(&self.max_rate)),
        ];
        keys.into_iter()
            .filter_map(|(key, place)| Some((key, place?)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TargetKind {
    Local,
    Kind,
    Remote,
}

impl TargetKind {
    pub fn name(self) -> &'static str {
        match self {
            TargetKind::Local => "local",
            TargetKind::Kind => "kind",
            TargetKind::Remote => "remote",
        }
    }

    /// The keys of this kind.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            TargetKind::Local => &["backing_services", "router_port"],
            TargetKind::Kind => &[
                "kubernetes",
                "nodes",
                "ingress_port",
                "namespace",
                "values",
                "set",
                "service_env",
            ],
            TargetKind::Remote => &[
                "context",
                "server",
                "kubeconfig",
                "namespace",
                "values",
                "site_url",
                "api_url",
                "address",
                "authority",
                "prober_image",
                "generator_image",
                "production",
                "allow",
                "max_rate",
            ],
        }
    }
}

/// The source of the local target's backing services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackingServices {
    /// Containers if an engine answers and has the images, or else binaries.
    Auto,
    /// Only containers.
    Containers,
    /// Only binaries of this machine.
    Binaries,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlatformTable {
    pub name: Spanned<String>,
    pub version: Spanned<String>,
    pub site_host: Spanned<String>,
    pub api_host: Option<Spanned<String>>,
    #[serde(default)]
    pub manifests: Vec<PathBuf>,
    pub tls_secret: Option<Spanned<String>>,
    pub ready: Option<Spanned<PathBuf>>,
    pub helpers_namespace: Option<Spanned<String>>,
    #[serde(default)]
    pub headers: HeadersTable,
    #[serde(default)]
    pub local: LocalPlatformTable,
}

/// The response headers that name what answered.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadersTable {
    pub service: Option<Spanned<String>>,
    pub version: Option<Spanned<String>>,
    pub instance: Option<Spanned<String>>,
}

impl PlatformTable {
    /// The hosts of the platform.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let hosts = [Some(&self.site_host), self.api_host.as_ref()];
        hosts.into_iter().flatten().map(|it| it.get_ref().as_str())
    }
}

/// What the platform needs beside it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackingServiceTables {
    pub postgres: Option<PostgresTable>,
    pub redis: Option<RedisTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresTable {
    pub version: Option<Spanned<String>>,
    pub database: Option<Spanned<String>>,
    pub user: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedisTable {
    pub version: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseTable {
    pub name: Spanned<String>,
    pub chart: Spanned<String>,
    pub version: Option<Spanned<String>>,
    #[serde(default)]
    pub values: Vec<PathBuf>,
    pub set: Option<Spanned<Map<String, Value>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageTable {
    pub name: Spanned<String>,
}

/// A program and its arguments, or arguments alone.
pub(super) type SpannedCommand = Spanned<Vec<Spanned<String>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalPlatformTable {
    pub build: Option<SpannedCommand>,
    pub cargo_package: Option<String>,
    #[serde(default)]
    pub tools: Vec<Spanned<String>>,
    pub prepare: Option<SpannedCommand>,
    pub run: Option<SpannedCommand>,
    pub image: Option<Spanned<String>>,
    pub args: Option<SpannedCommand>,
    pub ready: Option<Spanned<String>>,
    #[serde(default)]
    pub env: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceTable {
    #[serde(default)]
    pub calls: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    pub blue_green: bool,
    #[serde(default)]
    pub env: BTreeMap<Spanned<String>, String>,
    #[serde(default)]
    pub local: LocalServiceTable,
    #[serde(default)]
    pub smoke: Vec<Spanned<String>>,
    pub version: Option<Spanned<VersionTable>>,
}

/// A text, or a request. Not an untagged enum, for the same reason as [`TargetTable`].
#[derive(Debug)]
pub(super) enum VersionTable {
    Text(String),
    Request {
        path: Spanned<String>,
        json: Option<Spanned<String>>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionRequest {
    path: Spanned<String>,
    json: Option<Spanned<String>>,
}

impl<'de> Deserialize<'de> for VersionTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrRequest)
    }
}

struct TextOrRequest;

impl<'de> Visitor<'de> for TextOrRequest {
    type Value = VersionTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"image\", or a table with a path")
    }

    fn visit_str<E>(self, text: &str) -> Result<VersionTable, E> {
        Ok(VersionTable::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<VersionTable, A::Error> {
        let request = VersionRequest::deserialize(MapAccessDeserializer::new(map))?;
        let VersionRequest { path, json } = request;
        Ok(VersionTable::Request { path, json })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalServiceTable {
    pub run: Option<SpannedCommand>,
    pub image: Option<Spanned<String>>,
    pub args: Option<SpannedCommand>,
    pub ready: Option<Spanned<String>>,
    pub directory: Option<PathBuf>,
    #[serde(default)]
    pub env: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteEntry {
    pub host: Spanned<String>,
    pub path: Spanned<String>,
    pub path_type: Spanned<PathType>,
    #[serde(default)]
    pub rewrite: Option<Spanned<String>>,
    pub service: Spanned<String>,
}

/// How an ingress matches a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathType {
    /// The same path.
    Exact,
    /// The path and all below it, by element.
    Prefix,
    /// A regular expression, as of ingress-nginx with `use-regex`.
    ImplementationSpecific,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChecksTable {
    pub file: Option<Spanned<PathBuf>>,
    pub code: Option<Spanned<CodedChecks>>,
    pub needs: Option<Spanned<Action>>,
}

/// Checks of the stand-in platform that only code can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodedChecks {
    /// The services count requests in their metrics.
    Metrics,
    /// A prediction follows from prices.
    Predictions,
    /// Forged tokens, a burst of requests, and routes that must not exist.
    Edges,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenTable {
    pub subject: String,
    pub role: String,
}

/// A value that the file does not have.
fn unwritten<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DeadlinesTable {
    pub build: Spanned<u32>,
    pub backing_services: Spanned<u32>,
    pub service_ready: Spanned<u32>,
    pub images: Spanned<u32>,
    pub cluster: Spanned<u32>,
    pub release: Spanned<u32>,
    pub check: Spanned<u32>,
    pub stop: Spanned<u32>,
}

impl Default for DeadlinesTable {
    fn default() -> Self {
        DeadlinesTable {
            build: unwritten(1800),
            backing_services: unwritten(60),
            service_ready: unwritten(30),
            // Where no registry answers, Kubernetes itself is compiled.
            images: unwritten(3600),
            cluster: unwritten(180),
            release: unwritten(240),
            check: unwritten(20),
            stop: unwritten(15),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RollingTable {
    pub probes: Vec<Spanned<String>>,
    pub slow_probes: Vec<Spanned<String>>,
    pub keep_alive: Option<bool>,
    pub unready: Option<Map<String, Value>>,
    pub second_release: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BlueGreenTable {
    pub lease: Spanned<u32>,
    pub green_ready: Spanned<u32>,
    pub baseline: Spanned<u32>,
    pub watch: Spanned<u32>,
    pub analysis: Spanned<Evidence>,
    pub metrics: MetricNames,
    pub ingress: Option<Spanned<IngressMetrics>>,
    pub canary: Option<Spanned<CanarySteps>>,
    pub prometheus: Option<Prometheus>,
    pub scenarios: Option<ScenariosTable>,
    pub warm_up: Spanned<u32>,
    pub drain: Spanned<u32>,
    pub min_requests: Spanned<u32>,
    pub max_error_share: Spanned<f64>,
    pub max_error_increase: Spanned<f64>,
    pub latency_quantile: Spanned<f64>,
    pub max_latency_ratio: Spanned<f64>,
    pub min_latency_increase_ms: Spanned<u32>,
    pub max_latency_ms: Option<Spanned<u32>>,
}

impl Default for BlueGreenTable {
    fn default() -> Self {
        BlueGreenTable {
            lease: unwritten(30),
            green_ready: unwritten(120),
            baseline: unwritten(10),
            watch: unwritten(20),
            analysis: unwritten(Evidence::Required),
            metrics: MetricNames::default(),
            ingress: None,
            canary: None,
            prometheus: None,
            scenarios: None,
            warm_up: unwritten(4),
            drain: unwritten(10),
            min_requests: unwritten(100),
            max_error_share: unwritten(0.01),
            max_error_increase: unwritten(0.005),
            latency_quantile: unwritten(0.95),
            max_latency_ratio: unwritten(2.0),
            min_latency_increase_ms: unwritten(100),
            max_latency_ms: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScenariosTable {
    pub service: Spanned<String>,
    pub url: Spanned<String>,
    pub path: Spanned<String>,
    pub slow_url: Option<Spanned<String>>,
    pub slow_path: Option<Spanned<String>>,
    #[serde(default)]
    pub policy_bindings: Vec<String>,
    pub faults: Option<FaultsTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultsTable {
    pub variable: Spanned<String>,
    pub port: Spanned<u16>,
    pub path: Spanned<String>,
    pub unready: String,
    pub errors: String,
    pub some_errors: String,
    pub slow: String,
    pub silent: String,
    pub none: String,
    #[serde(default)]
    pub ungraceful: BTreeMap<Spanned<String>, String>,
}

/// How an ingress routes traffic to a new colour before the switch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CanarySteps {
    #[serde(default)]
    pub weights: Vec<Spanned<u8>>,
    pub header: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LoadTable {
    pub request_timeout: Spanned<u32>,
    pub drain: Spanned<u32>,
    pub journeys: Spanned<BTreeMap<Spanned<String>, JourneyTable>>,
    pub e2e: Option<Spanned<String>>,
}

impl Default for LoadTable {
    fn default() -> Self {
        LoadTable {
            request_timeout: unwritten(10),
            drain: unwritten(5),
            journeys: unwritten(BTreeMap::new()),
            e2e: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JourneyTable {
    pub file: Option<Spanned<PathBuf>>,
    pub data: Option<JourneyDataTable>,
    #[serde(default = "no_weight")]
    pub weight: Spanned<u32>,
    #[serde(default = "no_thinking")]
    pub think_ms: Spanned<[u32; 2]>,
}

fn no_weight() -> Spanned<u32> {
    unwritten(0)
}

fn no_thinking() -> Spanned<[u32; 2]> {
    unwritten([0, 0])
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JourneyDataTable {
    pub file: Spanned<PathBuf>,
    pub each: DataRows,
}

/// Who takes the next row of a journey's data. After the last row, the first is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataRows {
    /// Each user, once.
    User,
    /// Each repetition of the journey.
    Iteration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileTable {
    pub engine: Spanned<EngineName>,
    pub stages: Spanned<Vec<Spanned<StageTable>>>,
    pub max_in_flight: Option<Spanned<u32>>,
    pub journeys: Option<Spanned<BTreeMap<Spanned<String>, Spanned<u32>>>>,
    #[serde(default)]
    pub thresholds: BTreeMap<Spanned<String>, Vec<Spanned<AsWritten>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum EngineName {
    Closed,
    Open,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StageTable {
    pub users: Option<Spanned<u32>>,
    pub rate: Option<Spanned<u32>>,
    pub seconds: Spanned<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThresholdTable {
    pub threshold: String,
    #[serde(default)]
    pub abort_on_fail: bool,
    #[serde(default)]
    pub delay_abort_eval: u32,
}

/// As in k6, a string or a table. Not an untagged enum, for the same reason as [`Target`].
#[derive(Debug)]
pub(super) struct AsWritten(pub ThresholdTable);

impl<'de> Deserialize<'de> for AsWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StringOrTable)
    }
}

struct StringOrTable;

impl<'de> Visitor<'de> for StringOrTable {
    type Value = AsWritten;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a threshold, or a table with one")
    }

    fn visit_str<E>(self, text: &str) -> Result<AsWritten, E> {
        Ok(AsWritten(ThresholdTable {
            threshold: text.to_owned(),
            abort_on_fail: false,
            delay_abort_eval: 0,
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AsWritten, A::Error> {
        ThresholdTable::deserialize(MapAccessDeserializer::new(map)).map(AsWritten)
    }
}

impl File {
    pub(super) fn parse(text: &str) -> Result<File, Fault> {
        toml::from_str(text).map_err(|error| {
            let message = error.message().trim();
            Fault {
                span: error.span().unwrap_or(0..0),
                message: message.to_owned(),
                help: suggestion(message),
            }
        })
    }
}

/// Finds the nearest name in "unknown field `x`, expected one of `a`, `b`".
fn suggestion(message: &str) -> Option<String> {
    if let Some(missing) = message.strip_prefix("missing field ") {
        return Some(format!("docs/configuration.md explains {missing}"));
    }
    let (unknown, expected) = message.split_once(", expected ")?;
    match expected {
        "u16" => return Some(format!("a whole number from 0 to {}", u16::MAX)),
        "u32" => return Some(format!("a whole number from 0 to {}", u32::MAX)),
        "a boolean" => return Some("true or false, without quotes".into()),
        _ => {}
    }
    let wrong = quoted(unknown).last()?;
    nearest(wrong, quoted(expected))
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
