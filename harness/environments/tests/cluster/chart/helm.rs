//! Runs `helm` on the chart.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::manifests::{Manifests, Object};

/// The version that the chart is rendered for: without a cluster, helm does not know it.
const KUBERNETES: &str = "1.37.2";

/// The name of the release and of its namespace.
pub const RELEASE: &str = "trii-platform";

/// The chart's values files, by environment; the first is the defaults alone.
pub const ENVIRONMENTS: [&str; 4] = ["defaults", "local", "staging", "production"];

/// The repository's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The chart's directory.
pub fn chart() -> PathBuf {
    workspace().join("fixtures/helm/trii-platform")
}

/// One rendering of the chart.
#[derive(Default)]
pub struct Render {
    arguments: Vec<String>,
    values: Option<Value>,
}

impl Render {
    /// Returns a rendering with the values of one of [`ENVIRONMENTS`].
    pub fn of(environment: &str) -> Render {
        let mut render = Render::default();
        if environment != ENVIRONMENTS[0] {
            let file = chart().join(format!("values-{environment}.yaml"));
            render.arguments = vec!["--values".into(), file.display().to_string()];
        }
        render
    }

    /// Sets a value, as `--set` does.
    pub fn set(mut self, assignment: &str) -> Render {
        self.arguments.extend(["--set".into(), assignment.into()]);
        self
    }

    /// Overrides these values.
    pub fn values(mut self, values: Value) -> Render {
        self.values = Some(values);
        self
    }

    /// Skips the check against the schema.
    pub fn unchecked(mut self) -> Render {
        self.arguments.push("--skip-schema-validation".into());
        self
    }

    /// Returns the rendered text, or helm's error.
    pub fn text(self) -> Result<String, String> {
        let chart = chart().display().to_string();
        let mut arguments = vec!["template", RELEASE, &chart, "--namespace", RELEASE];
        arguments.extend(["--kube-version", KUBERNETES]);
        arguments.extend(self.arguments.iter().map(String::as_str));
        let file = self.values.map(|values| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(values.to_string().as_bytes()).unwrap();
            file
        });
        let path = file.as_ref().map(|file| file.path().display().to_string());
        if let Some(path) = &path {
            arguments.extend(["--values", path]);
        }
        let output = helm(&arguments);
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Returns the rendered objects. Panics with helm's error.
    pub fn manifests(self) -> Manifests {
        Manifests::parse(&self.text().unwrap_or_else(|error| panic!("{error}")))
    }
}

/// Returns every environment's name and objects.
pub fn every_environment() -> impl Iterator<Item = (&'static str, Manifests)> {
    ENVIRONMENTS
        .into_iter()
        .map(|environment| (environment, Render::of(environment).manifests()))
}

/// Calls `check` with each object of these kinds in every environment. Its first argument names
/// the object in messages.
pub fn for_each(kinds: &[&str], mut check: impl FnMut(&str, &Object, &Manifests)) {
    for (environment, manifests) in every_environment() {
        for object in manifests
            .all()
            .filter(|object| kinds.contains(&object.kind()))
        {
            check(
                &format!("{environment} {}", object.title()),
                object,
                &manifests,
            );
        }
    }
}

/// Runs helm without its user's configuration.
pub fn helm(arguments: &[&str]) -> Output {
    let program = machine::tools::on_path("helm").unwrap_or_else(|| {
        panic!("helm is not installed: these tests render the chart with it (https://helm.sh)")
    });
    Command::new(program)
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

/// Overrides values as helm does.
pub fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

#[test]
fn lints_strictly_in_every_environment() {
    let chart = chart().display().to_string();
    for environment in ENVIRONMENTS {
        let values = Render::of(environment).arguments;
        let mut arguments = vec!["lint", "--strict", "--kube-version", KUBERNETES, &chart];
        arguments.extend(values.iter().map(String::as_str));
        let output = helm(&arguments);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{environment}: {stdout}");
        assert!(!stdout.contains("[WARNING]"), "{environment}: {stdout}");
    }
}
