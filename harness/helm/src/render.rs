//! The objects of a chart, as they will be installed, without a cluster.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::command::Program;
use super::{DeployError, Release};

/// How long helm may take to render a chart. It usually takes a tenth of a second.
const DEADLINE: Duration = Duration::from_secs(60);

/// helm's comment above each object, with the file that it is from.
const SOURCE: &str = "# Source: ";

/// An object that a chart renders.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedObject {
    /// The file in the chart: `podinfo/templates/service.yaml`.
    pub file: String,
    /// The object.
    pub object: Value,
}

impl RenderedObject {
    /// Whether it is from the chart's folder `crds`. helm applies those first.
    pub fn is_from_crds(&self) -> bool {
        self.file.split('/').any(|part| part == "crds")
    }
}

/// The API of the cluster that a chart is rendered for.
#[derive(Clone, Debug)]
pub struct TargetApi<'a> {
    /// The version of Kubernetes: `1.37`, or `v1.37.2`.
    pub kubernetes: &'a str,
    /// What `.Capabilities.APIVersions` has beside helm's own list: `example.com/v1`, or
    /// `example.com/v1/Kind`.
    pub versions: &'a BTreeSet<String>,
}

/// Renders the chart of a release with its values, hooks and custom resource definitions. Tests,
/// which only `helm test` installs, are left out. Nothing is asked of a cluster: `lookup` finds
/// nothing.
///
/// # Errors
/// [`DeployError`]: helm's own message, e.g. that the chart needs another version of Kubernetes.
pub async fn render(
    program: &Path,
    release: &Release,
    namespace: &str,
    api: &TargetApi<'_>,
) -> Result<Vec<RenderedObject>, DeployError> {
    let text = manifests(program, release, namespace, api).await?;
    objects(&text).map_err(|reason| DeployError::Helm {
        words: format!("what the chart renders is not YAML: {reason}"),
    })
}

/// As [`render`], but returns the manifests as helm prints them.
///
/// # Errors
/// As [`render`].
pub async fn manifests(
    program: &Path,
    release: &Release,
    namespace: &str,
    api: &TargetApi<'_>,
) -> Result<String, DeployError> {
    let helm = Program::new(program, &std::env::temp_dir())?;
    let mut command = helm.command(&["template", "--include-crds", "--skip-tests"]);
    command.args(["--namespace", namespace, "--kube-version", api.kubernetes]);
    for version in api.versions {
        command.args(["--api-versions", version]);
    }
    let command = helm.of_release(command, release)?;
    helm.output_of(command, DEADLINE).await
}

/// Reads the output of `helm template`. The items of a List are objects of their own.
///
/// # Errors
/// The reason, if it is not YAML.
pub fn objects(text: &str) -> Result<Vec<RenderedObject>, String> {
    let mut objects = Vec::new();
    let mut file = "";
    for document in documents(text) {
        let mut lines = document.lines();
        if let Some(source) = lines.find_map(|line| line.strip_prefix(SOURCE)) {
            file = source.trim();
        }
        let read: Vec<Value> =
            serde_saphyr::from_multiple(document).map_err(|error| format!("{file}: {error}"))?;
        for object in read.into_iter().flat_map(items) {
            let file = file.to_owned();
            objects.push(RenderedObject { file, object });
        }
    }
    Ok(objects)
}

/// A line of `---` separates documents: in a text it would be indented.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let separated = text.strip_prefix("---\n").unwrap_or(text);
    let documents = separated.split("\n---\n");
    let is_object = |document: &&str| {
        let mut lines = document.lines();
        lines.any(|line| !line.trim().is_empty() && !line.starts_with('#'))
    };
    documents.filter(is_object)
}

fn items(object: Value) -> Vec<Value> {
    match object {
        Value::Null => Vec::new(),
        Value::Object(mut list) if is_list(&list) => match list.remove("items") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        },
        object => vec![object],
    }
}

fn is_list(object: &serde_json::Map<String, Value>) -> bool {
    let kind = object.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("List")) && object.contains_key("items")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_object_has_the_file_that_it_is_from() {
        let text = "---\n# Source: app/crds/things.yaml\nkind: A\n---\nkind: B\n\
            ---\n# Source: app/charts/redis/templates/all.yaml\n# a comment\nkind: C\ntext: |\n  ---\n  more\n\
            ---\n# Source: app/templates/nothing.yaml\n# no object\n\
            ---\n# Source: app/templates/list.yaml\nkind: RoleList\nitems: [{kind: D}, {kind: E}]\n";
        let read = objects(text).unwrap();
        let found: Vec<_> = read
            .iter()
            .map(|it| (it.file.as_str(), it.object["kind"].as_str().unwrap()))
            .collect();
        let crds = "app/crds/things.yaml";
        let subchart = "app/charts/redis/templates/all.yaml";
        let list = "app/templates/list.yaml";
        let expected = [
            (crds, "A"),
            (crds, "B"),
            (subchart, "C"),
            (list, "D"),
            (list, "E"),
        ];
        assert_eq!(found, expected);
        assert_eq!(read[2].object["text"], "---\nmore\n");
        assert!(read[1].is_from_crds() && !read[2].is_from_crds());
    }

    #[test]
    fn a_chart_may_render_nothing() {
        assert_eq!(objects("").unwrap(), []);
        assert_eq!(objects("---\n# Source: a/templates/a.yaml\n").unwrap(), []);
    }

    #[test]
    fn text_that_is_not_yaml_is_reported_with_its_file() {
        let error = objects("---\n# Source: a/templates/a.yaml\nkind: [\n").unwrap_err();
        assert!(error.starts_with("a/templates/a.yaml: "), "{error}");
    }

    proptest! {
        #[test]
        fn as_many_objects_are_read_as_rendered(names in prop::collection::vec("[a-z]{1,8}", 0..8)) {
            let text: String = names
                .iter()
                .map(|name| format!("---\n# Source: c/templates/{name}.yaml\nmetadata: {{name: {name:?}}}\n"))
                .collect();
            let read = objects(&text).unwrap();
            let found: Vec<_> = read.iter().map(|it| it.object["metadata"]["name"].clone()).collect();
            prop_assert_eq!(found, names.iter().map(|it| json!(it)).collect::<Vec<_>>());
        }
    }
}
