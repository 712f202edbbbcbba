//! The platform's helm releases on a cluster: the charts, and the values of a target.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::placeholders::Values;
use crate::config::releases::rendered;
use crate::config::{Config, KindTarget, PlatformRelease, PlatformService, RemoteTarget};
use base::home::Home;
use helm::Release;
use helm::difference::NOTHING;

/// What a target adds to the values of each release.
pub struct TargetValues<'a> {
    namespace: &'a str,
    files: &'a [PathBuf],
    set: Map<String, Value>,
    service_env: Option<&'a str>,
    /// The addresses of Postgres and Redis, as a CIDR.
    backing_services: Option<&'a str>,
}

impl<'a> TargetValues<'a> {
    /// Those of a kind target. `backing_services` is the CIDR of Postgres and Redis.
    pub fn of_kind(target: &'a KindTarget, backing_services: Option<&'a str>) -> Self {
        TargetValues {
            namespace: &target.namespace,
            files: &target.values,
            set: target.set.clone(),
            service_env: target.service_env.as_deref(),
            backing_services,
        }
    }

    /// Those of a remote target: its values files have everything but the version.
    pub fn of_remote(target: &'a RemoteTarget) -> Self {
        TargetValues {
            namespace: &target.namespace,
            files: &target.values,
            set: Map::new(),
            service_env: None,
            backing_services: None,
        }
    }
}

/// Returns the releases of `version`, in the order of their installation. Their files are in the
/// repository and, if they were pulled from a registry, in the home.
pub fn all(
    config: &Config,
    target: &TargetValues<'_>,
    (workspace, home): (&Path, &Home),
    version: &str,
) -> Vec<Release> {
    let platform = &config.platform;
    let mut values = Values::from([
        ("version", version.to_owned()),
        ("site_host", platform.site_host.clone()),
        ("api_host", platform.api_host.clone()),
        ("namespace", target.namespace.to_owned()),
    ]);
    let cidr = target.backing_services.map(str::to_owned);
    values.extend(cidr.map(|cidr| ("backing_services", cidr)));
    let of = |release: &PlatformRelease| {
        let mut overrides = Value::Object(rendered(&release.set, &values));
        merge(
            &mut overrides,
            Value::Object(rendered(&target.set, &values)),
        );
        if let Some(path) = target.service_env {
            merge(&mut overrides, service_env(&config.services, path));
        }
        let files = release.values.iter().chain(target.files);
        Release {
            name: release.name.clone(),
            version: version.to_owned(),
            chart: release.chart.path(workspace, home),
            values_files: files.map(|file| workspace.join(file)).collect(),
            overrides,
        }
    };
    config.releases.iter().map(of).collect()
}

/// Returns the releases of `version` with values with which pods never become ready, if the
/// platform file has some.
pub fn unready(
    config: &Config,
    target: &TargetValues<'_>,
    places: (&Path, &Home),
    version: &str,
) -> Option<Vec<Release>> {
    let set = config.rolling.unready.as_ref()?;
    let mut releases = all(config, target, places, version);
    for release in &mut releases {
        merge(&mut release.overrides, Value::Object(set.clone()));
    }
    Some(releases)
}

/// Returns the position of the first release whose values have the version, from those of two
/// versions.
pub fn versioned(one: &[Release], other: &[Release]) -> Option<usize> {
    let mut pairs = one.iter().zip(other);
    pairs.position(|(one, other)| one.overrides != other.overrides)
}

/// Returns a second release beside the first one whose values have the version, if the platform file
/// has values for it.
pub fn second(
    config: &Config,
    target: &TargetValues<'_>,
    places: (&Path, &Home),
    version: &str,
) -> Option<Release> {
    let set = config.rolling.second_release.as_ref()?;
    let mut releases = all(config, target, places, version);
    let others = all(config, target, places, &format!("{version}-other"));
    let mut second = releases.swap_remove(versioned(&releases, &others)?);
    second.name = format!("{}-second", second.name);
    merge(&mut second.overrides, Value::Object(set.clone()));
    Some(second)
}

/// Joins the differences of several releases. Those that are [`NOTHING`] say nothing.
pub fn joined(differences: Vec<String>) -> String {
    let changes = differences.into_iter().filter(|it| it != NOTHING);
    match changes.collect::<String>() {
        none if none.is_empty() => NOTHING.to_owned(),
        changes => changes,
    }
}

/// The values with the environment of each service, at a path such as `services.{service}.env`.
fn service_env(services: &[PlatformService], path: &str) -> Value {
    let mut values = json!({});
    for service in services.iter().filter(|it| !it.env.is_empty()) {
        let mut value = &mut values;
        for part in path.split('.') {
            value = &mut value[if part == "{service}" {
                &service.name
            } else {
                part
            }];
        }
        *value = json!(service.env);
    }
    values
}

/// Adds values. An object is merged with the object that is there.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Target;

    #[test]
    fn only_changes_are_joined() {
        let join = |texts: &[&str]| joined(texts.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(join(&[NOTHING, NOTHING]), NOTHING);
        assert_eq!(join(&[]), NOTHING);
        assert_eq!(join(&["a\n", NOTHING, "b\n"]), "a\nb\n");
    }

    #[test]
    fn the_values_of_the_shipped_platform_are_those_of_its_chart() {
        let text = include_str!("../../../harness.toml");
        let config = Config::parse(Path::new("harness.toml"), text).unwrap();
        let Target::Kind(target) = &config.targets["kind"] else {
            panic!("it is a kind target");
        };
        let release = |backing_services| {
            let target = TargetValues::of_kind(target, backing_services);
            let places = (Path::new("/r"), &Home::new("/h"));
            let mut releases = all(&config, &target, places, "v2");
            assert_eq!(releases.len(), 1);
            releases.remove(0)
        };
        let given = release(Some("10.0.0.0/24"));
        assert_eq!(given.chart, Path::new("/r/fixtures/helm/trii-platform"));
        let cidrs = json!({"cidrs": ["10.0.0.0/24"]});
        let expected = json!({
            "global": {"imageRepository": "trii-rehearsal/platform", "imageTag": "v2"},
            "services": {"api-gateway": {"env": {"RATE_LIMIT_PER_SECOND": "100"}}},
            "ingress": {"hosts": {"site": "trii.co", "api": "api.trii.co"}},
            "networkPolicy": {"database": cidrs, "redis": cidrs},
        });
        assert_eq!(given.overrides, expected);
        let policy = &release(None).overrides["networkPolicy"];
        assert_eq!(policy["redis"], json!({"cidrs": []}));
    }
}
