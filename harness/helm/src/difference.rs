//! The changes that a deployment would make, object by object.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use similar::TextDiff;

use super::command::{Helm, installed};
use super::live;
use super::{DeployError, Release};
use blue_green::colour::{Colour, TRACK};
use blue_green::objects::{LIVE, ROLE, VERSION};
use kubernetes::Cluster;

/// How long helm and the API server may take to render the release.
const RENDER_TIMEOUT: Duration = Duration::from_secs(120);

/// The difference if nothing changes.
pub const NOTHING: &str = "nothing changes\n";

/// Returns what a deployment of `release` would change in the objects of the current revision: a
/// unified diff for each object, or [`NOTHING`]. It changes nothing, and hides the data of Secrets.
/// Hooks, which run at each deployment, are not compared.
///
/// # Errors
/// [`DeployError`], as for a deployment.
pub async fn difference(
    cluster: &Cluster,
    helm: &Path,
    release: &Release,
) -> Result<String, DeployError> {
    let helm = Helm::new(helm, cluster)?;
    let before = helm.manifest(&release.name).await?.unwrap_or_default();
    let live = live::of_release(cluster, &release.name).await?;
    let command = helm.dry_run(&release.around(&live))?;
    let output = helm.program.output_of(command, RENDER_TIMEOUT).await?;
    let after = installed(&output)?.manifest;
    between(&before, &after)
}

/// Whether two manifests have the same objects; false if one of them cannot be read.
pub(super) fn is_same(before: &str, after: &str) -> bool {
    let objects = |manifest| {
        let mut objects = objects(manifest)?;
        objects.values_mut().for_each(forget_colours);
        Ok::<_, DeployError>(objects)
    };
    matches!((objects(before), objects(after)), (Ok(before), Ok(after)) if before == after)
}

fn between(before: &str, after: &str) -> Result<String, DeployError> {
    let (mut before, mut after) = (objects(before)?, objects(after)?);
    let names: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    let mut text = String::new();
    for name in names {
        let (mut old, mut new) = (before.remove(&name), after.remove(&name));
        if let (Some(old), Some(new)) = (&mut old, &mut new) {
            forget_colours(old);
            forget_colours(new);
        }
        if old == new {
            continue;
        }
        mask(&mut old, &mut new);
        let heading = match (&old, &new) {
            (None, _) => "created",
            (_, None) => "deleted",
            _ => "changed",
        };
        let (old, new) = (yaml(old.as_ref())?, yaml(new.as_ref())?);
        let diff = TextDiff::from_lines(&old, &new);
        let diff = diff.unified_diff().context_radius(3).to_string();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name}: {heading}\n{diff}");
    }
    match text.is_empty() {
        true => Ok(NOTHING.to_owned()),
        false => Ok(text),
    }
}

/// By kind and name: a release has one namespace.
fn objects(manifest: &str) -> Result<BTreeMap<String, Value>, DeployError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(manifest).map_err(|error| unreadable(&error))?;
    let objects = documents.into_iter().filter(|it| !it.is_null());
    Ok(objects.map(|it| (name(&it), it)).collect())
}

fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    format!("{} {}", text(&object["kind"]), text(&metadata["name"]))
}

fn yaml(object: Option<&Value>) -> Result<String, DeployError> {
    match object {
        Some(object) => serde_saphyr::to_string(object).map_err(|error| unreadable(&error)),
        None => Ok(String::new()),
    }
}

fn unreadable(error: &dyn std::error::Error) -> DeployError {
    DeployError::Helm {
        words: format!("its manifest cannot be read: {error}"),
    }
}

/// Removes the fields that a blue-green release owns. The cluster keeps their values, so a
/// difference in a manifest is no change.
fn forget_colours(object: &mut Value) {
    let labels = &object["metadata"]["labels"];
    let is_colour = Colour::ALL.iter().any(|it| labels[TRACK] == it.name());
    let selects_colour = !labels[ROLE].is_null();
    let mut forget = |place: &str, name: &str| {
        if let Some(Value::Object(fields)) = object.pointer_mut(place) {
            fields.remove(name);
        }
    };
    if selects_colour {
        forget("/spec/selector", TRACK);
    }
    if is_colour {
        forget("/metadata/annotations", LIVE);
        forget("/metadata/labels", VERSION);
        forget("/spec", "replicas");
        forget("/spec/template/metadata/labels", VERSION);
        forget("/spec/template/spec/containers/0", "image");
    }
}

/// Hides the data of a Secret, but shows whether it changes.
fn mask(old: &mut Option<Value>, new: &mut Option<Value>) {
    for field in ["data", "stringData"] {
        let was = secret_data(old, field).cloned().unwrap_or_default();
        if let Some(data) = secret_data(new, field) {
            for (key, value) in data.iter_mut() {
                *value = Value::from(match was.get(key).is_none_or(|was| was == value) {
                    true => "(hidden)",
                    false => "(hidden, changed)",
                });
            }
        }
        if let Some(data) = secret_data(old, field) {
            for value in data.values_mut() {
                *value = Value::from("(hidden)");
            }
        }
    }
}

fn secret_data<'a>(
    object: &'a mut Option<Value>,
    field: &str,
) -> Option<&'a mut serde_json::Map<String, Value>> {
    let object = object.as_mut().filter(|it| it["kind"] == "Secret")?;
    object.get_mut(field)?.as_object_mut()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "---\n# Source: a.yaml\nkind: ConfigMap\nmetadata: {name: a}\ndata: {level: INFO}\n\
        ---\nkind: Service\nmetadata: {name: a}\nspec: {port: 80}\n";

    #[test]
    fn comments_order_and_layout_are_no_change() {
        let other = "kind: Service\nmetadata:\n  name: a\nspec:\n  port: 80\n---\n\
            data:\n  level: INFO\nmetadata: {name: a}\nkind: ConfigMap\n";
        assert_eq!(between(ONE, other).unwrap(), NOTHING);
    }

    #[test]
    fn a_change_is_shown_in_its_object_alone() {
        let text = between(ONE, &ONE.replace("INFO", "DEBUG")).unwrap();
        insta::assert_snapshot!(text, @r"
        ConfigMap a: changed
        @@ -1,5 +1,5 @@
         data:
        -  level: INFO
        +  level: DEBUG
         kind: ConfigMap
         metadata:
           name: a
        ");
    }

    #[test]
    fn a_colour_that_a_blue_green_release_moved_is_no_change() {
        let colour = |colour: &str, replicas: u32, tag: &str, memory: &str| {
            format!(
                "---\nkind: Deployment\nmetadata: {{name: a-{colour}, labels: {{trii.co/track: {colour}}}}}\n\
                 spec: {{replicas: {replicas}, template: {{spec: {{containers: [{{image: 'a:{tag}', memory: {memory}}}]}}}}}}\n"
            )
        };
        let service = |colour: &str| {
            format!(
                "---\nkind: Service\nmetadata: {{name: a, labels: {{trii.co/blue-green: active}}}}\n\
                 spec: {{selector: {{trii.co/track: {colour}}}}}\n"
            )
        };
        let before = colour("green", 0, "v1", "64Mi") + &service("blue");
        let released = colour("green", 3, "v2", "64Mi") + &service("green");
        assert_eq!(between(&before, &released).unwrap(), NOTHING);
        assert!(is_same(&before, &released));

        let larger = colour("green", 3, "v2", "96Mi") + &service("green");
        let text = between(&before, &larger).unwrap();
        assert!(text.starts_with("Deployment a-green: changed\n"), "{text}");
        assert!(text.contains("96Mi"), "{text}");
        assert!(!text.contains("replicas"), "{text}");
        assert!(!is_same(&before, &larger));
        // All fields of a new object are shown.
        let text = between("", &released).unwrap();
        assert!(text.contains("replicas: 3"), "{text}");
        assert!(text.contains("a:v2"), "{text}");
    }

    #[test]
    fn created_and_deleted_objects_are_shown() {
        let text = between("", ONE).unwrap();
        assert!(text.contains("ConfigMap a: created\n"), "{text}");
        assert!(text.contains("Service a: created\n"), "{text}");
        let text = between(ONE, "").unwrap();
        assert!(text.contains("Service a: deleted\n"), "{text}");
    }

    proptest! {
        #[test]
        fn a_secrets_data_is_never_shown(old in "[a-z]{12,20}", new in "[a-z]{12,20}", field in "data|stringData") {
            let secret = |value: &str| format!("kind: Secret\nmetadata: {{name: s}}\n{field}: {{password: {value}}}\n");
            for (before, after) in [
                (secret(&old), secret(&new)),
                (String::new(), secret(&new)),
                (secret(&old), String::new()),
            ] {
                let text = between(&before, &after).unwrap();
                prop_assert!(!text.contains(&old) && !text.contains(&new), "{}", text);
                prop_assert_eq!(text == NOTHING, before == after);
            }
        }
    }
}
