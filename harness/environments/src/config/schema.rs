//! The format of `harness.toml`, before validation.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
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
    pub default_target: Spanned<String>,
    pub targets: BTreeMap<Spanned<String>, TargetTable>,
    pub platform: PlatformTable,
    #[serde(default)]
    pub services: BTreeMap<Spanned<String>, ServiceTable>,
    pub routes: Vec<RouteEntry>,
    #[serde(default)]
    pub checks: Vec<CheckFileTable>,
    #[serde(default)]
    pub tokens: BTreeMap<Spanned<String>, TokenTable>,
    pub deadlines: DeadlinesTable,
    pub blue_green: BlueGreenTable,
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
            TargetKind::Kind => &["kubernetes", "nodes", "ingress_port", "namespace", "values"],
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
    pub version: Spanned<String>,
    pub site_host: Spanned<String>,
    pub api_host: Spanned<String>,
    #[serde(default)]
    pub local: LocalPlatformTable,
}

/// A program and its arguments.
pub(super) type SpannedCommand = Spanned<Vec<Spanned<String>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalPlatformTable {
    pub cargo_package: Option<String>,
    pub prepare: Option<SpannedCommand>,
    pub run: Option<SpannedCommand>,
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalServiceTable {
    pub run: Option<SpannedCommand>,
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
pub(super) struct CheckFileTable {
    pub file: Spanned<PathBuf>,
    pub needs: Option<Action>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenTable {
    pub subject: String,
    pub role: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlueGreenTable {
    pub lease: Spanned<u32>,
    pub green_ready: Spanned<u32>,
    pub baseline: Spanned<u32>,
    pub watch: Spanned<u32>,
    pub analysis: Spanned<Evidence>,
    #[serde(default)]
    pub metrics: MetricNames,
    pub ingress: Option<Spanned<IngressMetrics>>,
    pub canary: Option<Spanned<CanarySteps>>,
    pub prometheus: Option<Prometheus>,
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

/// How an ingress routes traffic to a new colour before the switch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CanarySteps {
    #[serde(default)]
    pub weights: Vec<Spanned<u8>>,
    pub header: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadTable {
    pub request_timeout: Spanned<u32>,
    pub drain: Spanned<u32>,
    pub journeys: Spanned<BTreeMap<Spanned<String>, JourneyTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JourneyTable {
    pub file: Option<Spanned<PathBuf>>,
    pub data: Option<JourneyDataTable>,
    pub weight: u32,
    pub think_ms: Spanned<[u32; 2]>,
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
