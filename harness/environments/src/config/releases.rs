//! What a cluster has of the platform: its helm releases, images and Secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde_json::{Map, Value};
use toml::Spanned;

use super::Fault;
use super::placeholders::{SECRETS, Values, names_in, render};
use super::schema::{File, ImageTable, ReleaseTable, TargetKind};
use super::shared_rules::{fault, is_label};
use base::home::Home;
use base::text::nearest;
use helm::pull::{OciChart, ReferenceError};

/// The placeholders in the values of a chart.
const IN_VALUES: [&str; 5] = [
    "version",
    "site_host",
    "api_host",
    "namespace",
    "backing_services",
];

/// A helm release of the platform. Its texts have placeholders.
#[derive(Clone, Debug, PartialEq)]
pub struct PlatformRelease {
    /// Its name.
    pub name: String,
    /// Its chart.
    pub chart: PlatformChart,
    /// The values files in the repository. A later one overrides an earlier one.
    pub values: Vec<PathBuf>,
    /// Values that override the files.
    pub set: Map<String, Value>,
    /// Where harness.toml names the chart.
    pub place: Range<usize>,
}

/// The chart of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlatformChart {
    /// In the repository: a folder, or a packaged chart.
    Path(PathBuf),
    /// In a registry.
    Oci(OciChart),
}

impl PlatformChart {
    /// Reads where a chart is, and its version, which only one in a registry has.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse(chart: &str, version: Option<&str>) -> Result<PlatformChart, ReferenceError> {
        let oci = OciChart::of(chart, version)?;
        Ok(oci.map_or_else(|| PlatformChart::Path(chart.into()), PlatformChart::Oci))
    }

    /// Returns where it is: in the repository `workspace` or, once it is pulled, in `home`.
    pub fn path(&self, workspace: &Path, home: &Home) -> PathBuf {
        match self {
            PlatformChart::Path(path) => workspace.join(path),
            PlatformChart::Oci(chart) => chart.file(&home.charts()),
        }
    }
}

impl fmt::Display for PlatformChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlatformChart::Path(path) => path.display().fmt(f),
            PlatformChart::Oci(chart) => chart.fmt(f),
        }
    }
}

/// An image of the platform's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformImage {
    /// What pods call it. `{version}` in it is the version.
    pub name: String,
    /// Where harness.toml has the name.
    pub place: Range<usize>,
}

impl PlatformImage {
    /// Returns what the pods of a version call it.
    pub fn of_version(&self, version: &str) -> String {
        self.name.replace("{version}", version)
    }
}

/// Returns the values with their placeholders replaced. A text that is only a placeholder without a
/// value is left out.
pub(crate) fn rendered(set: &Map<String, Value>, values: &Values) -> Map<String, Value> {
    let entries = set.iter();
    entries
        .filter_map(|(key, value)| Some((key.clone(), rendered_value(value, values)?)))
        .collect()
}

fn rendered_value(value: &Value, values: &Values) -> Option<Value> {
    Some(match value {
        Value::String(text) => {
            let unknown = |name: &str| IN_VALUES.contains(&name) && !values.contains_key(name);
            match text.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
                Some(name) if unknown(name) => return None,
                _ => Value::String(render(text, values)),
            }
        }
        Value::Array(items) => {
            let items = items.iter();
            Value::Array(items.filter_map(|it| rendered_value(it, values)).collect())
        }
        Value::Object(object) => Value::Object(rendered(object, values)),
        other => other.clone(),
    })
}

pub(super) fn validate_releases(tables: &[ReleaseTable]) -> Result<Vec<PlatformRelease>, Fault> {
    for (at, table) in tables.iter().enumerate() {
        let name = table.name.get_ref();
        if !is_label(name) || name.len() > LONGEST_RELEASE {
            return Err(fault(
                &table.name,
                format!("{name:?} cannot name a helm release"),
                format!("1 to {LONGEST_RELEASE} lower-case letters, digits and '-'"),
            ));
        }
        if tables[..at].iter().any(|it| it.name.get_ref() == name) {
            return Err(fault(
                &table.name,
                format!("two releases are called {name:?}"),
                "give one of them another name",
            ));
        }
    }
    tables.iter().map(validate_release).collect()
}

/// helm's limit.
const LONGEST_RELEASE: usize = 53;

fn validate_release(table: &ReleaseTable) -> Result<PlatformRelease, Fault> {
    Ok(PlatformRelease {
        name: table.name.get_ref().clone(),
        chart: validate_chart(table)?,
        values: table.values.clone(),
        set: validate_set(table.set.as_ref())?,
        place: table.chart.span(),
    })
}

fn validate_chart(table: &ReleaseTable) -> Result<PlatformChart, Fault> {
    let (chart, version) = (table.chart.get_ref(), table.version.as_ref());
    let parsed = PlatformChart::parse(chart, version.map(|it| it.get_ref().as_str()));
    parsed.map_err(|error| {
        let version = version.filter(|_| error.is_of_version());
        Fault {
            span: version.unwrap_or(&table.chart).span(),
            message: error.to_string(),
            help: error.help().map(|help| help.to_string()),
        }
    })
}

pub(super) fn validate_service_env(path: &Spanned<String>) -> Result<String, Fault> {
    match path.get_ref().split('.').any(|part| part == "{service}") {
        true => Ok(path.get_ref().clone()),
        false => Err(fault(
            path,
            format!("{{service}} is not a part of {:?}", path.get_ref()),
            "e.g. \"services.{service}.env\"",
        )),
    }
}

/// A target on a cluster installs releases. On a kind target, they get the services' environment.
pub(super) fn validate_targets(file: &File) -> Result<(), Fault> {
    for (name, target) in &file.targets {
        let kind = target.kind.get_ref();
        if *kind != TargetKind::Local && file.releases.is_empty() {
            return Err(fault(
                name,
                format!("nothing is installed on the target {}", name.get_ref()),
                "define a release: [[releases]] with name and chart",
            ));
        }
        let mut variables = file.services.values().flat_map(|it| it.env.keys());
        if let (TargetKind::Kind, None, Some(variable)) =
            (kind, &target.service_env, variables.next())
        {
            return Err(fault(
                variable,
                format!(
                    "{} would not reach the target {}",
                    variable.get_ref(),
                    name.get_ref()
                ),
                "set service_env of the target to the chart's value, e.g. \"services.{service}.env\"",
            ));
        }
    }
    Ok(())
}

pub(super) fn validate_set(
    set: Option<&Spanned<Map<String, Value>>>,
) -> Result<Map<String, Value>, Fault> {
    let Some(set) = set else {
        return Ok(Map::new());
    };
    for value in set.get_ref().values() {
        if let Some(name) = unknown_placeholder(value) {
            return Err(Fault {
                span: set.span(),
                message: format!("no placeholder of a chart's values is called {{{name}}}"),
                help: nearest(&name, IN_VALUES)
                    .or_else(|| Some(format!("{{{}}}", IN_VALUES.join("}, {")))),
            });
        }
    }
    Ok(set.get_ref().clone())
}

fn unknown_placeholder(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => {
            let mut names = names_in(text);
            names.find(|it| !IN_VALUES.contains(it)).map(str::to_owned)
        }
        Value::Array(items) => items.iter().find_map(unknown_placeholder),
        Value::Object(object) => object.values().find_map(unknown_placeholder),
        _ => None,
    }
}

/// Returns the images by recipe.
pub(super) fn validate_images(
    tables: &BTreeMap<Spanned<String>, ImageTable>,
) -> Result<BTreeMap<String, PlatformImage>, Fault> {
    let images = tables.iter().map(|(recipe, table)| {
        let name = table.name.get_ref();
        let mut names = tables.values().filter(|it| it.name.get_ref() == name);
        if names.nth(1).is_some() {
            return Err(fault(
                &table.name,
                format!("two images are called {name:?}"),
                "give one of them another name",
            ));
        }
        let tag = name.rsplit('/').next().and_then(|it| it.split_once(':'));
        let unknown = names_in(name).find(|it| *it != "version");
        match (tag, unknown) {
            (Some((repository, tag)), None) if !repository.is_empty() && !tag.is_empty() => {
                let image = PlatformImage {
                    name: name.clone(),
                    place: table.name.span(),
                };
                Ok((recipe.get_ref().clone(), image))
            }
            (_, None) => Err(fault(
                &table.name,
                format!("{name:?} has no tag"),
                "e.g. \"example/app:{version}\"",
            )),
            (_, Some(unknown)) => Err(fault(
                &table.name,
                format!("no placeholder of an image's name is called {{{unknown}}}"),
                "{version} is the only one",
            )),
        }
    });
    images.collect()
}

/// The Secrets by name, then by key. Their texts have placeholders.
pub type SecretTexts = BTreeMap<String, BTreeMap<String, String>>;

pub(super) fn validate_secrets(file: &File) -> Result<SecretTexts, Fault> {
    let secrets = file.secrets.iter().map(|(name, values)| {
        validate_secret_name(name)?;
        let tls = file.platform.tls_secret.as_ref();
        if tls.is_some_and(|it| it.get_ref() == name.get_ref()) {
            return Err(fault(
                name,
                format!("platform.tls_secret is called {} too", name.get_ref()),
                "give one of them another name",
            ));
        }
        for text in values.values() {
            validate_secret_text(text, file)?;
        }
        let values = values.iter();
        let values = values.map(|(key, text)| (key.get_ref().clone(), text.get_ref().clone()));
        Ok((name.get_ref().clone(), values.collect()))
    });
    secrets.collect()
}

/// An RFC 1123 subdomain.
pub(super) fn validate_secret_name(name: &Spanned<String>) -> Result<(), Fault> {
    match name.get_ref().split('.').all(is_label) {
        true => Ok(()),
        false => Err(fault(
            name,
            format!("{:?} cannot name a Secret", name.get_ref()),
            "lower-case letters, digits, '-' and '.'",
        )),
    }
}

/// A secret in harness.toml would be in the repository.
fn validate_secret_text(text: &Spanned<String>, file: &File) -> Result<(), Fault> {
    let mut names = names_in(text.get_ref()).peekable();
    if names.peek().is_none() {
        return Err(fault(
            text,
            "a secret's value is written here".to_owned(),
            format!(
                "the harness makes it: use one of {{{}}}",
                SECRETS.join("}, {")
            ),
        ));
    }
    if let Some(name) = names.find(|it| !SECRETS.contains(it)) {
        return Err(Fault {
            span: text.span(),
            message: format!("no secret is called {{{name}}}"),
            help: nearest(name, SECRETS),
        });
    }
    validate_backing_service(text, file)
}

/// Refuses the URL of a backing service that the platform does not need.
pub(super) fn validate_backing_service(text: &Spanned<String>, file: &File) -> Result<(), Fault> {
    let needed = &file.backing_services;
    let missing = names_in(text.get_ref()).find_map(|name| match name {
        "database_url" if needed.postgres.is_none() => Some((name, "backing_services.postgres")),
        "redis_url" if needed.redis.is_none() => Some((name, "backing_services.redis")),
        _ => None,
    });
    match missing {
        None => Ok(()),
        Some((name, table)) => Err(fault(
            text,
            format!("{{{name}}} needs [{table}], which is not there"),
            format!("add [{table}]"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_rendered_and_what_has_no_value_is_left_out() {
        let Value::Object(set) = json!({
            "image": {"tag": "{version}", "pull": true},
            "hosts": ["{site_host}", "www.{site_host}"],
            "cidrs": ["{backing_services}"],
            "text": "{not ours}",
        }) else {
            unreachable!()
        };
        let values = Values::from([
            ("version", "v1".to_owned()),
            ("site_host", "a.example".to_owned()),
        ]);
        let expected = json!({
            "image": {"tag": "v1", "pull": true},
            "hosts": ["a.example", "www.a.example"],
            "cidrs": [],
            "text": "{not ours}",
        });
        assert_eq!(Value::Object(rendered(&set, &values)), expected);
    }
}
