//! Objects in memory, each with a resource version.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ApiRefusal;
use super::patch::{self, PatchKind};

/// The annotation of a Deployment that numbers its templates.
pub const REVISION: &str = "deployment.kubernetes.io/revision";

/// The objects, by collection and name. The caller chooses the names of collections: paths, or,
/// with a single namespace, resources.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<(String, String), Value>,
    version: u64,
}

impl Store {
    /// Returns all objects of a collection.
    pub fn list(&self, collection: &str) -> impl Iterator<Item = &Value> {
        let in_it = move |((its, _), _): &(&(String, String), &Value)| its == collection;
        self.objects.iter().filter(in_it).map(|(_, object)| object)
    }

    /// Returns the object of this name.
    pub fn get(&self, collection: &str, name: &str) -> Option<&Value> {
        self.objects.get(&key(collection, name))
    }

    /// Creates an object, and generates its name where `generateName` requests that.
    pub fn create(&mut self, collection: &str, mut object: Value) -> Result<Value, ApiRefusal> {
        if let Some(stem) = object["metadata"]["generateName"].as_str() {
            object["metadata"]["name"] = json!(format!("{stem}{:05}", self.version));
        }
        match name_of(&object) {
            "" => Err(ApiRefusal::BadRequest("it has no name".into())),
            name if self.get(collection, name).is_some() => {
                Err(ApiRefusal::AlreadyExists(format!("{collection} {name:?}")))
            }
            _ => Ok(self.put(collection, object)),
        }
    }

    /// Replaces an object, if its resource version is still that of the new object.
    pub fn replace(
        &mut self,
        collection: &str,
        name: &str,
        object: Value,
    ) -> Result<Value, ApiRefusal> {
        self.unmodified(collection, name, &object)?;
        // Objects of most kinds are overwritten if the request names no version.
        if collection.ends_with("leases") && object["metadata"]["resourceVersion"].is_null() {
            let message = "metadata.resourceVersion: must be specified for an update";
            return Err(ApiRefusal::Invalid(message.into()));
        }
        Ok(self.put(collection, object))
    }

    /// Patches an object. If the patch names a resource version, it must be the current one.
    pub fn patch(
        &mut self,
        collection: &str,
        name: &str,
        kind: PatchKind,
        changes: &Value,
    ) -> Result<Value, ApiRefusal> {
        let mut object = self.unmodified(collection, name, changes)?.clone();
        patch::apply(kind, &mut object, changes);
        Ok(self.put(collection, object))
    }

    /// Deletes an object and returns it.
    pub fn delete(&mut self, collection: &str, name: &str) -> Result<Value, ApiRefusal> {
        let removed = self.objects.remove(&key(collection, name));
        removed.ok_or_else(|| not_found(collection, name))
    }

    fn unmodified(&self, collection: &str, name: &str, by: &Value) -> Result<&Value, ApiRefusal> {
        let current = self.get(collection, name);
        let current = current.ok_or_else(|| not_found(collection, name))?;
        let expected = &by["metadata"]["resourceVersion"];
        match expected.is_null() || *expected == current["metadata"]["resourceVersion"] {
            true => Ok(current),
            false => Err(ApiRefusal::Conflict(format!(
                "{collection} {name:?} has been modified"
            ))),
        }
    }

    /// Creates or overwrites an object, and returns it with its metadata. An equal object is not
    /// written again.
    pub fn put(&mut self, collection: &str, mut object: Value) -> Value {
        let key = key(collection, name_of(&object));
        let before = self.objects.get(&key);
        let changed = |part: &str| before.is_none_or(|it| it.pointer(part) != object.pointer(part));
        let (spec, template) = (changed("/spec"), changed("/spec/template"));
        let next = (self.version + 1).to_string();
        let was = before.map_or(&Value::Null, |it| &it["metadata"]);
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = was["resourceVersion"].clone();
        match before {
            Some(_) => metadata["uid"] = was["uid"].clone(),
            None if metadata["uid"].is_string() => {}
            None => metadata["uid"] = json!(format!("{}-{next}", key.1)),
        }
        metadata["generation"] = json!(was["generation"].as_u64().unwrap_or(0) + u64::from(spec));
        if collection.ends_with("deployments") {
            let revision = before.map_or(0, revision) + u64::from(template);
            metadata["annotations"][REVISION] = json!(revision.to_string());
        }
        if before != Some(&object) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(next);
            self.objects.insert(key, object.clone());
        }
        object
    }
}

/// Returns the number of a Deployment's current template, from 1.
pub fn revision(deployment: &Value) -> u64 {
    let text = deployment["metadata"]["annotations"][REVISION].as_str();
    text.and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// Returns the name in its metadata, or an empty one.
pub fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn key(collection: &str, name: &str) -> (String, String) {
    (collection.to_owned(), name.to_owned())
}

pub(super) fn not_found(collection: &str, name: &str) -> ApiRefusal {
    ApiRefusal::NotFound(format!("{collection} {name:?} not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> Value {
        json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": holder}})
    }

    #[test]
    fn the_second_of_two_concurrent_writes_is_refused() {
        let mut store = Store::default();
        let first = store.create("leases", lease("nobody")).unwrap();
        let again = store.create("leases", lease("me"));
        assert!(matches!(again, Err(ApiRefusal::AlreadyExists(_))));
        let mut mine = first.clone();
        mine["spec"]["holderIdentity"] = json!("me");
        let ours = store.replace("leases", "l", mine).unwrap();
        assert_eq!(ours["metadata"]["uid"], first["metadata"]["uid"]);
        let late = store.replace("leases", "l", first);
        assert!(matches!(late, Err(ApiRefusal::Conflict(_))));
        let unversioned = store.replace("leases", "l", lease("another"));
        assert!(matches!(unversioned, Err(ApiRefusal::Invalid(_))));
        store.replace("leases", "l", ours).unwrap();
        store.delete("leases", "l").unwrap();
        let again = store.delete("leases", "l");
        assert!(matches!(again, Err(ApiRefusal::NotFound(_))));
    }

    #[test]
    fn a_patch_may_name_the_version_that_it_changes() {
        let mut store = Store::default();
        let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"track": "blue"}}});
        let created = store.create("services", service).unwrap();
        let to = |track: &str| {
            json!({"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]},
                "spec": {"selector": {"track": track}}})
        };
        let moved = store.patch("services", "s", PatchKind::Merge, &to("green"));
        assert_eq!(moved.unwrap()["spec"]["selector"]["track"], "green");
        let late = store.patch("services", "s", PatchKind::Merge, &to("blue"));
        assert!(matches!(late, Err(ApiRefusal::Conflict(_))));
    }

    #[test]
    fn a_changed_template_is_a_new_revision_and_a_scale_is_not() {
        let mut store = Store::default();
        let counted = |deployment: Value| {
            let generation = deployment["metadata"]["generation"].as_u64();
            (revision(&deployment), generation)
        };
        let deployment = json!({"metadata": {"name": "d"},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}]}}}});
        let first = store.create("deployments", deployment).unwrap();
        assert_eq!(counted(first), (1, Some(1)));
        let scale = json!({"spec": {"replicas": 2}});
        let scaled = store.patch("deployments", "d", PatchKind::Merge, &scale);
        assert_eq!(counted(scaled.unwrap()), (1, Some(2)));
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "x:2"}]}}}});
        let changed = store.patch("deployments", "d", PatchKind::Strategic, &image);
        assert_eq!(counted(changed.unwrap()), (2, Some(3)));
    }
}
