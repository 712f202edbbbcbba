//! What charts render, as the rules read it.

use serde_json::Value;

use super::contents::ClusterContents;
use super::fields::{is_in, list, port_names, text};
use crate::config::{Config, ConfigError, PlatformRelease};
use helm::render::RenderedObject;

/// A release, with what its chart renders.
pub struct RenderedRelease<'a> {
    /// The release.
    pub release: &'a PlatformRelease,
    /// The objects, in helm's order.
    pub objects: Vec<RenderedObject>,
}

/// All that the rules compare.
pub(super) struct Comparison<'a> {
    pub config: &'a Config,
    /// The version that is deployed.
    pub version: &'a str,
    pub namespace: &'a str,
    pub releases: &'a [RenderedRelease<'a>],
    pub contents: &'a ClusterContents,
}

impl<'a> Comparison<'a> {
    /// Everything that is rendered.
    pub fn objects(&self) -> impl Iterator<Item = ChartObject<'a>> {
        self.releases.iter().flat_map(|rendered| {
            rendered.objects.iter().map(move |it| ChartObject {
                release: rendered.release,
                file: &it.file,
                object: &it.object,
            })
        })
    }

    /// The objects of a kind in the namespace of the releases.
    pub fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = ChartObject<'a>> {
        self.in_namespace().filter(move |it| it.kind() == kind)
    }

    /// The pods in the namespace of the releases, one for each workload.
    pub fn pods(&self) -> impl Iterator<Item = Pods<'a>> {
        self.in_namespace().filter_map(ChartObject::pods)
    }

    fn in_namespace(&self) -> impl Iterator<Item = ChartObject<'a>> {
        let namespace = self.namespace;
        self.objects().filter(move |it| is_in(it.object, namespace))
    }

    /// Refuses the configuration at a release's chart.
    pub fn refuse_release(
        &self,
        release: &PlatformRelease,
        message: String,
        help: String,
    ) -> ConfigError {
        self.config
            .refuse(release.place.clone(), message, Some(help))
    }
}

/// A rendered object.
#[derive(Clone, Copy)]
pub(super) struct ChartObject<'a> {
    pub release: &'a PlatformRelease,
    /// The file in the chart.
    pub file: &'a str,
    pub object: &'a Value,
}

impl<'a> ChartObject<'a> {
    pub fn api_version(self) -> &'a str {
        text(&self.object["apiVersion"])
    }

    pub fn kind(self) -> &'a str {
        text(&self.object["kind"])
    }

    pub fn name(self) -> &'a str {
        text(&self.object["metadata"]["name"])
    }

    /// As kubectl names it: `deployment/api-gateway`.
    pub fn title(self) -> String {
        format!("{}/{}", self.kind().to_lowercase(), self.name())
    }

    /// The value at a JSON pointer, or null.
    pub fn at(self, pointer: &str) -> &'a Value {
        self.object.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The pods that it makes. Custom resources with a pod template, such as Rollouts, make pods
    /// too.
    pub fn pods(self) -> Option<Pods<'a>> {
        let template = match self.kind() {
            "Pod" => self.object,
            "CronJob" => self.at("/spec/jobTemplate/spec/template"),
            _ => self.at("/spec/template"),
        };
        template["spec"]["containers"].is_array().then_some(Pods {
            owner: self,
            template,
        })
    }
}

/// The pods of a workload.
#[derive(Clone, Copy)]
pub(super) struct Pods<'a> {
    pub owner: ChartObject<'a>,
    template: &'a Value,
}

impl<'a> Pods<'a> {
    pub fn spec(self) -> &'a Value {
        &self.template["spec"]
    }

    pub fn labels(self) -> &'a Value {
        &self.template["metadata"]["labels"]
    }

    /// The containers, init containers included.
    pub fn containers(self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec();
        list(&spec["initContainers"])
            .iter()
            .chain(list(&spec["containers"]))
    }

    /// The names of the containers' ports.
    pub fn port_names(self) -> impl Iterator<Item = &'a str> {
        self.containers().flat_map(port_names)
    }
}
