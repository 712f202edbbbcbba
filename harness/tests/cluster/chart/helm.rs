//! Running `helm` on the chart.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::manifests::Manifests;

/// What the chart is rendered for. helm does not know it by itself where there is no cluster.
const KUBERNETES: &str = "1.37.2";

/// Of the release and its namespace.
pub const RELEASE: &str = "trii-platform";

/// The chart's values files, by environment; the first is the defaults alone.
pub const ENVIRONMENTS: [&str; 4] = ["defaults", "local", "staging", "production"];

/// The repository's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The chart's directory.
pub fn chart() -> PathBuf {
    workspace().join("fixtures/helm/trii-platform")
}

/// One rendering of the chart, or what helm said against it.
#[derive(Default)]
pub struct Render {
    arguments: Vec<String>,
    values: Option<Value>,
}

impl Render {
    /// With the values of one of [`ENVIRONMENTS`].
    pub fn of(environment: &str) -> Render {
        let mut render = Render::default();
        if environment != ENVIRONMENTS[0] {
            let file = chart().join(format!("values-{environment}.yaml"));
            render.arguments = vec!["--values".into(), file.display().to_string()];
        }
        render
    }

    /// As by `--set`.
    pub fn set(mut self, assignment: &str) -> Render {
        self.arguments.extend(["--set".into(), assignment.into()]);
        self
    }

    /// With these values on top.
    pub fn values(mut self, values: Value) -> Render {
        self.values = Some(values);
        self
    }

    /// Without asking the schema.
    pub fn unchecked(mut self) -> Render {
        self.arguments.push("--skip-schema-validation".into());
        self
    }

    /// The rendered text, or helm's error.
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

    /// The rendered objects; panics with what helm says where there are none.
    pub fn manifests(self) -> Manifests {
        Manifests::parse(&self.text().unwrap_or_else(|error| panic!("{error}")))
    }
}

/// Every environment's name and objects.
pub fn every_environment() -> impl Iterator<Item = (&'static str, Manifests)> {
    ENVIRONMENTS
        .into_iter()
        .map(|environment| (environment, Render::of(environment).manifests()))
}

/// Runs helm, untouched by its user's configuration.
pub fn helm(arguments: &[&str]) -> Output {
    let program = harness::tools::on_path("helm").unwrap_or_else(|| {
        panic!("helm is not installed: these tests render the chart with it (https://helm.sh)")
    });
    Command::new(program)
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn lints_strictly_in_every_environment() {
    let chart = chart().display().to_string();
    for environment in ENVIRONMENTS {
        let values = Render::of(environment).arguments;
        let mut arguments = vec!["lint", "--strict", "--kube-version", KUBERNETES, &chart];
        arguments.extend(values.iter().map(String::as_str));
        let output = helm(&arguments);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{environment}: {said}");
        assert!(!said.contains("[WARNING]"), "{environment}: {said}");
    }
}
