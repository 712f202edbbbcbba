//! The shape of `harness.toml`, as written by its user: nothing judged yet.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::Fault;
use super::judge::nearest;
use super::remote::Action;
use crate::blue_green::ingress::IngressMetrics;
use crate::blue_green::policy::Evidence;
use crate::blue_green::prometheus::Prometheus;
use crate::blue_green::traffic::MetricNames;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub schema: Spanned<u32>,
    pub default_target: Spanned<String>,
    pub targets: BTreeMap<Spanned<String>, Target>,
    pub platform: Platform,
    #[serde(default)]
    pub services: BTreeMap<Spanned<String>, ServiceSettings>,
    pub routes: Vec<Route>,
    pub deadlines: Deadlines,
    pub blue_green: BlueGreen,
    pub load: Load,
    #[serde(default)]
    pub profiles: BTreeMap<Spanned<String>, Profile>,
}

/// Not a tagged enum: serde buffers those, and the line of a fault is lost. Which key
/// belongs to which kind is judged later.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
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

impl Target {
    /// The keys that are there, the kind excepted, and where.
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

/// The kinds of target.
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

    /// What a target of this kind is described by.
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

/// How the local target has its backing services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackingServices {
    /// Containers when an engine answers and has the images, else binaries.
    Auto,
    /// Containers, or not at all.
    Containers,
    /// Binaries of this machine, or not at all.
    Binaries,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Platform {
    pub version: Spanned<String>,
    pub site_host: Spanned<String>,
    pub api_host: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceSettings {
    #[serde(default)]
    pub env: BTreeMap<Spanned<String>, String>,
    #[serde(default)]
    pub smoke: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub host: Spanned<String>,
    pub path: Spanned<String>,
    pub path_type: Spanned<PathType>,
    #[serde(default)]
    pub rewrite: Option<Spanned<String>>,
    pub service: Spanned<String>,
}

/// How an ingress reads a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathType {
    /// The path itself.
    Exact,
    /// The path, and all below it, element by element.
    Prefix,
    /// A regular expression, as ingress-nginx reads it with `use-regex`.
    ImplementationSpecific,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deadlines {
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
pub(super) struct BlueGreen {
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
pub(super) struct Load {
    pub request_timeout: Spanned<u32>,
    pub drain: Spanned<u32>,
    pub journeys: Spanned<Journeys>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journeys {
    pub browse: Habit,
    pub portfolio: Habit,
    pub order: Habit,
    pub analysis: Habit,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Habit {
    pub weight: u32,
    pub think_ms: Spanned<[u32; 2]>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub engine: Spanned<Engine>,
    pub stages: Spanned<Vec<Spanned<Stage>>>,
    pub max_in_flight: Option<Spanned<u32>>,
    #[serde(default)]
    pub thresholds: BTreeMap<Spanned<String>, Vec<Spanned<Threshold>>>,
}

/// Which engine makes the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Engine {
    Closed,
    Open,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    pub users: Option<Spanned<u32>>,
    pub rate: Option<Spanned<u32>>,
    pub seconds: Spanned<u32>,
}

/// As in k6, a string, or a table where more is to be said.
#[derive(Debug)]
pub(super) struct Threshold {
    pub threshold: String,
    pub abort_on_fail: bool,
    pub delay_abort_eval: u32,
}

/// Not an untagged enum, for the same reason as [`Target`].
impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsWritten)
    }
}

struct AsWritten;

impl<'de> Visitor<'de> for AsWritten {
    type Value = Threshold;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a threshold, or a table with one")
    }

    fn visit_str<E>(self, text: &str) -> Result<Threshold, E> {
        Ok(Threshold {
            threshold: text.to_owned(),
            abort_on_fail: false,
            delay_abort_eval: 0,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Threshold, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            threshold: String,
            #[serde(default)]
            abort_on_fail: bool,
            #[serde(default)]
            delay_abort_eval: u32,
        }
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Threshold {
            threshold: table.threshold,
            abort_on_fail: table.abort_on_fail,
            delay_abort_eval: table.delay_abort_eval,
        })
    }
}

impl File {
    pub(super) fn parse(text: &str) -> Result<File, Fault> {
        toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let message = error.message().trim().to_owned();
            let help = suggestion(&message);
            Fault {
                span,
                message,
                help,
            }
        })
    }
}

/// serde says "unknown field `x`, expected one of `a`, `b`": name the nearest.
fn suggestion(message: &str) -> Option<String> {
    let (unknown, expected) = message.split_once(", expected ")?;
    match expected {
        "u16" => return Some(format!("a whole number from 0 to {}", u16::MAX)),
        "u32" => return Some(format!("a whole number from 0 to {}", u32::MAX)),
        "a boolean" => return Some("true or false, without quotes".into()),
        _ => {}
    }
    let quoted = |text: &str| -> Vec<String> {
        text.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let wrong = quoted(unknown).pop()?;
    let known = quoted(expected);
    nearest(&wrong, known.iter().map(String::as_str))
}
