//! The objects that are written, each with a resource version.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Refusal;
use super::patch::{self, Kind};

/// On a Deployment, counts its templates.
pub const REVISION: &str = "deployment.kubernetes.io/revision";

/// The objects, by their collection and their name. What a collection is called is the user's
/// affair: a resource where there is one namespace, or a path.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<(String, String), Value>,
    version: u64,
}

impl Store {
    /// All of one collection.
    pub fn list(&self, collection: &str) -> impl Iterator<Item = &Value> {
        let of_it = move |((its, _), _): &(&(String, String), &Value)| its == collection;
        self.objects.iter().filter(of_it).map(|(_, object)| object)
    }

    /// One.
    pub fn get(&self, collection: &str, name: &str) -> Option<&Value> {
        self.objects.get(&key(collection, name))
    }

    /// Makes one.
    pub fn create(&mut self, collection: &str, mut object: Value) -> Result<Value, Refusal> {
        if let Some(stem) = object["metadata"]["generateName"].as_str() {
            object["metadata"]["name"] = json!(format!("{stem}{:05}", self.version));
        }
        match name_of(&object) {
            "" => Err(Refusal::BadRequest("it has no name".into())),
            name if self.get(collection, name).is_some() => {
                Err(Refusal::AlreadyExists(format!("{collection} {name:?}")))
            }
            _ => Ok(self.put(collection, object)),
        }
    }

    /// Puts another in its place, if it is the one that the other was made from.
    pub fn replace(
        &mut self,
        collection: &str,
        name: &str,
        object: Value,
    ) -> Result<Value, Refusal> {
        self.is_still(collection, name, &object)?;
        // Of most kinds, whoever does not say which it was overwrites it.
        if collection.ends_with("leases") && object["metadata"]["resourceVersion"].is_null() {
            let message = "metadata.resourceVersion: must be specified for an update";
            return Err(Refusal::Invalid(message.into()));
        }
        Ok(self.put(collection, object))
    }

    /// Changes one; where the patch names a resource version, if it still is that one.
    pub fn patch(
        &mut self,
        collection: &str,
        name: &str,
        kind: Kind,
        changes: &Value,
    ) -> Result<Value, Refusal> {
        let mut object = self.is_still(collection, name, changes)?.clone();
        patch::apply(kind, &mut object, changes);
        Ok(self.put(collection, object))
    }

    /// Removes one.
    pub fn delete(&mut self, collection: &str, name: &str) -> Result<Value, Refusal> {
        let removed = self.objects.remove(&key(collection, name));
        removed.ok_or_else(|| not_found(collection, name))
    }

    fn is_still(&self, collection: &str, name: &str, by: &Value) -> Result<&Value, Refusal> {
        let there = self.get(collection, name);
        let there = there.ok_or_else(|| not_found(collection, name))?;
        let seen = &by["metadata"]["resourceVersion"];
        match seen.is_null() || *seen == there["metadata"]["resourceVersion"] {
            true => Ok(there),
            false => Err(Refusal::Conflict(format!(
                "{collection} {name:?} has been modified"
            ))),
        }
    }

    /// Puts one in its place, whatever is there. One that is there already is not written again.
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

/// Which of its templates a Deployment has now, from 1.
pub fn revision(deployment: &Value) -> u64 {
    let text = deployment["metadata"]["annotations"][REVISION].as_str();
    text.and_then(|it| it.parse().ok()).unwrap_or(0)
}

pub fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn key(collection: &str, name: &str) -> (String, String) {
    (collection.to_owned(), name.to_owned())
}

pub(super) fn not_found(collection: &str, name: &str) -> Refusal {
    Refusal::NotFound(format!("{collection} {name:?} not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> Value {
        json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": holder}})
    }

    #[test]
    fn of_two_who_write_at_once_one_is_refused() {
        let mut store = Store::default();
        let seen = store.create("leases", lease("nobody")).unwrap();
        assert!(matches!(
            store.create("leases", lease("me")),
            Err(Refusal::AlreadyExists(_))
        ));
        let mut mine = seen.clone();
        mine["spec"]["holderIdentity"] = json!("me");
        let ours = store.replace("leases", "l", mine).unwrap();
        assert_eq!(ours["metadata"]["uid"], seen["metadata"]["uid"]);
        assert!(matches!(
            store.replace("leases", "l", seen),
            Err(Refusal::Conflict(_))
        ));
        assert!(matches!(
            store.replace("leases", "l", lease("whoever")),
            Err(Refusal::Invalid(_))
        ));
        store.replace("leases", "l", ours).unwrap();
        store.delete("leases", "l").unwrap();
        assert!(matches!(
            store.delete("leases", "l"),
            Err(Refusal::NotFound(_))
        ));
    }

    #[test]
    fn a_patch_may_say_what_it_is_of() {
        let mut store = Store::default();
        let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"track": "blue"}}});
        let seen = store.create("services", service).unwrap();
        let to = |track: &str| {
            json!({"metadata": {"resourceVersion": seen["metadata"]["resourceVersion"]},
                "spec": {"selector": {"track": track}}})
        };
        let moved = store.patch("services", "s", Kind::Merge, &to("green"));
        assert_eq!(moved.unwrap()["spec"]["selector"]["track"], "green");
        let late = store.patch("services", "s", Kind::Merge, &to("blue"));
        assert!(matches!(late, Err(Refusal::Conflict(_))));
    }

    #[test]
    fn a_template_that_changes_is_a_new_revision_and_a_scale_is_not() {
        let mut store = Store::default();
        let deployment = json!({"metadata": {"name": "d"},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}]}}}});
        let first = store.create("deployments", deployment).unwrap();
        assert_eq!(
            (revision(&first), &first["metadata"]["generation"]),
            (1, &json!(1))
        );
        let scaled = json!({"spec": {"replicas": 2}});
        let scaled = store
            .patch("deployments", "d", Kind::Merge, &scaled)
            .unwrap();
        assert_eq!(
            (revision(&scaled), &scaled["metadata"]["generation"]),
            (1, &json!(2))
        );
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "x:2"}]}}}});
        let changed = store
            .patch("deployments", "d", Kind::Strategic, &image)
            .unwrap();
        assert_eq!(
            (revision(&changed), &changed["metadata"]["generation"]),
            (2, &json!(3))
        );
    }
}
