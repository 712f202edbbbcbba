//! Writes what was found as a configuration: a `harness.toml` with comments. What is not found out is
//! a comment `TO DO`.

mod images;
mod secrets;
mod services;
mod targets;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use environments::config::{ConfigError, PlatformChart};

use crate::checks::{FirstRequest, checks, journey, requests};
use crate::draft::{Draft, ToDo};
use crate::hosts::Hosts;
use crate::inventory::{FoundRoute, Inventory};
use crate::origin::{Origin, Place};

/// The class of the Ingresses that the kind target serves: `fixtures/k8s-manifests/ingress`.
const INGRESS_CLASS: &str = "nginx";

/// The files of a configuration, as the configuration names them: relative to the repository.
#[derive(Clone, Debug)]
pub struct FileNames {
    /// The configuration.
    pub configuration: PathBuf,
    /// The checks.
    pub checks: PathBuf,
    /// The journey.
    pub journey: PathBuf,
}

/// The text of a configuration, and of the files that it names.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The configuration.
    pub text: String,
    /// The checks, if there is a route for them.
    pub checks: Option<String>,
    /// The journey, if there is a route for it.
    pub journey: Option<String>,
    /// What a person must say.
    pub to_do: Vec<ToDo>,
}

/// Returns the configuration of a platform.
///
/// # Errors
/// The parser refuses a name of `origin`.
pub fn write(
    origin: &Origin,
    inventory: &Inventory,
    files: &FileNames,
) -> Result<Configuration, ConfigError> {
    let is_host = |host: &&str| !host.contains('*');
    let hosts: Vec<&str> = inventory.hosts().into_iter().filter(is_host).collect();
    let platform = Hosts::choose(&hosts, &origin.platform);
    let requests = requests(inventory, &platform);
    let writer = Writer {
        origin,
        inventory,
        files,
        version: version(origin, inventory),
        journey: journey(&origin.platform, &requests, &platform),
        hosts: platform,
        requests,
    };
    let mut draft = Draft::new(&files.configuration);
    writer.write(&mut draft);
    let (text, to_do) = draft.finish()?;
    let has_checks = !writer.requests.is_empty();
    Ok(Configuration {
        text,
        checks: has_checks.then(|| checks(&origin.platform, &writer.requests)),
        journey: writer.journey,
        to_do,
    })
}

fn version(origin: &Origin, inventory: &Inventory) -> String {
    let version = inventory.version().or(origin.app_version.as_deref());
    version.unwrap_or("latest").to_owned()
}

struct Writer<'a> {
    origin: &'a Origin,
    inventory: &'a Inventory,
    files: &'a FileNames,
    hosts: Hosts,
    version: String,
    requests: Vec<FirstRequest<'a>>,
    journey: Option<String>,
}

impl Writer<'_> {
    fn write(&self, draft: &mut Draft) {
        draft.comment(&format!(
            "{}, as `cargo xtask init` found it in {}. Correct what is wrong, and say what has a TO DO. \
             docs/configuration.md explains every key. Paths are relative to the repository.",
            self.origin.platform, self.origin
        ));
        draft.raw("\nschema = 1\ndefault_target = \"kind\"\n");
        targets::kind(draft, self.origin);
        targets::local(draft);
        self.platform(draft);
        self.releases(draft);
        // A remote target needs a release.
        targets::remote(draft, self.origin, &self.hosts, self.has_tls());
        secrets::backing_services(draft, self.inventory);
        services::write(draft, self.inventory);
        images::write(draft, self.inventory, &self.origin.recipes, &self.version);
        secrets::write(draft, self.inventory, self.tls_secret());
        if let Place::Cluster {
            no_secrets: Some(reason),
            ..
        } = &self.origin.place
        {
            draft.add_to_do(&format!(
                "leave out the Secrets that the chart makes; the API server did not list them: {reason}"
            ));
        }
        self.routes(draft);
        self.checks(draft);
        self.load(draft);
    }

    fn platform(&self, draft: &mut Draft) {
        draft.blank();
        draft.raw("[platform]\n");
        draft.raw(&format!("name = {}\n", quoted(&self.origin.platform)));
        draft.comment("The most frequent tag of the services' images.");
        draft.raw(&format!("version = {}\n", quoted(&self.version)));
        self.hosts(draft);
        if let Some(secret) = self.tls_secret() {
            draft.comment("The harness makes its certificate on a kind target.");
            draft.raw(&format!("tls_secret = {}\n", quoted(secret)));
        }
        if !self.requests.is_empty() {
            draft.comment("On a kind target, the platform is up once these requests succeed.");
            draft.raw(&format!("ready = {}\n", path(&self.files.checks)));
        }
        if !self.inventory.custom_kinds.is_empty() {
            draft.add_to_do(&format!(
                "turn off by values what a kind cluster lacks, or add its definitions to \
                 platform.manifests: {}",
                self.inventory.custom_kinds.join(", ")
            ));
        }
    }

    fn hosts(&self, draft: &mut Draft) {
        let found = self.inventory.hosts();
        if found.is_empty() {
            draft.add_to_do("the host of the platform: no Ingress names one");
        }
        let is_other = |host: &&&str| **host != self.hosts.site && **host != self.hosts.api;
        let others: Vec<&str> = found.iter().filter(is_other).copied().collect();
        if !others.is_empty() {
            draft.add_to_do(&format!(
                "which hosts are those of the site and the API? The Ingresses also have {}",
                others.join(", ")
            ));
        }
        draft.raw(&format!("site_host = {}\n", quoted(&self.hosts.site)));
        if self.hosts.api != self.hosts.site {
            draft.raw(&format!("api_host = {}\n", quoted(&self.hosts.api)));
        }
    }

    /// The Secret of the first Ingress that has one.
    fn tls_secret(&self) -> Option<&str> {
        let mut secrets = self.inventory.secrets.iter();
        let found = secrets.find(|it| secrets::is_certificate(it));
        found.map(|it| it.name.as_str())
    }

    fn has_tls(&self) -> bool {
        self.inventory.routes.iter().any(|it| it.tls)
    }

    fn releases(&self, draft: &mut Draft) {
        draft.blank();
        match &self.origin.place {
            Place::Chart {
                chart,
                values,
                release,
            } => {
                let chart = match chart {
                    PlatformChart::Path(chart) => path(chart),
                    PlatformChart::Oci(chart) => format!(
                        "{}\nversion = {}",
                        quoted(&chart.reference()),
                        quoted(chart.version())
                    ),
                };
                let name = quoted(release);
                let mut table = format!("[[releases]]\nname = {name}\nchart = {chart}\n");
                if !values.is_empty() {
                    let values: Vec<String> = values.iter().map(|it| path(it)).collect();
                    let _ = writeln!(table, "values = [{}]", values.join(", "));
                }
                draft.raw(&table);
            }
            Place::Cluster { releases, .. } => self.running_releases(draft, releases),
        }
        draft.add_to_do("which values of the chart are the tag of its images?");
        draft.example("[releases.set]\nimage = { tag = \"{version}\" }\n");
    }

    fn running_releases<'a>(
        &self,
        draft: &mut Draft,
        releases: impl IntoIterator<Item = &'a String>,
    ) {
        let mut names: Vec<&str> = releases.into_iter().map(String::as_str).collect();
        if names.is_empty() {
            draft.add_to_do("the helm releases: no object is annotated with one");
            names.push(&self.origin.namespace);
        }
        if names.len() > 1 {
            draft.add_to_do("the order of the releases is that of their installation");
        }
        for (at, name) in names.into_iter().enumerate() {
            if at > 0 {
                draft.blank();
            }
            draft.raw(&format!("[[releases]]\nname = {}\n", quoted(name)));
            draft.add_to_do("the chart of this release, and its values files");
            draft.raw("chart = \"TO-DO/chart\"\n");
            draft.example("values = [\"TO-DO/values.yaml\"]");
        }
    }

    fn routes(&self, draft: &mut Draft) {
        draft.blank();
        let classes = &self.inventory.ingress_classes;
        let others = classes.iter().filter(|it| *it != INGRESS_CLASS);
        let others: Vec<String> = others.map(|it| format!("{it:?}")).collect();
        if self.inventory.routes.is_empty() {
            draft.add_to_do(
                "the routes: there is no Ingress with a Service, so nothing reaches the platform on a \
                 kind target. Values of the chart may enable one: name them with --values",
            );
            return;
        }
        draft.comment("As the Ingresses have them.");
        if !others.is_empty() {
            draft.add_to_do(&format!(
                "the kind target serves Ingresses of the class {INGRESS_CLASS:?}, and these have {}: \
                 set it by values",
                others.join(", ")
            ));
        }
        for (at, route) in self.inventory.routes.iter().enumerate() {
            if at > 0 {
                draft.blank();
            }
            draft.table(&self.route(route));
        }
    }

    fn route(&self, route: &FoundRoute) -> String {
        let host = route.host.as_deref().unwrap_or(&self.hosts.site);
        let mut table = format!(
            "[[routes]]\nhost = {}\npath = {}\npath_type = {}\n",
            quoted(host),
            quoted(&route.path),
            quoted(&route.path_type),
        );
        if let Some(rewrite) = &route.rewrite {
            let _ = writeln!(table, "rewrite = {}", quoted(rewrite));
        }
        let _ = writeln!(table, "service = {}", quoted(&route.service));
        table
    }

    fn checks(&self, draft: &mut Draft) {
        draft.blank();
        if self.requests.is_empty() {
            draft.add_to_do("smoke checks: docs/checks.md");
            draft.example("[[checks]]\nfile = \"checks.hurl\"\n");
            return;
        }
        draft.add_to_do("what the platform must answer: these checks only ask whether it does");
        draft.table(&format!(
            "[[checks]]\nfile = {}\n",
            path(&self.files.checks)
        ));
    }

    fn load(&self, draft: &mut Draft) {
        draft.blank();
        let load = format!(
            "[load.journeys.visit]\nfile = {}\nweight = 1\nthink_ms = [100, 300]\n\n\
             [profiles.smoke]\nengine = \"closed\"\n\
             stages = [{{ users = 4, seconds = 0 }}, {{ users = 4, seconds = 20 }}]\n\n\
             [profiles.smoke.thresholds]\nhttp_req_failed = [\"rate==0\"]\n\
             http_req_duration = [\"p(95)<1000\"]\n",
            path(&self.files.journey)
        );
        match self.journey {
            Some(_) => {
                draft.add_to_do("what users do, and how much of it: docs/load.md");
                draft.table(&load);
            }
            None => {
                draft.add_to_do("a journey of users, and its load: docs/load.md");
                draft.example(&load);
            }
        }
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A key of TOML.
fn key(text: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match !text.is_empty() && text.chars().all(is_bare) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

#[cfg(test)]
mod tests;
