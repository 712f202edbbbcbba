//! The objects that are written, each with a resource version.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::patch::{self, Kind};

/// On a Deployment, counts its templates.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";

/// The objects, by resource and name.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<(String, String), Value>,
    version: u64,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is nothing of this name.
    NotFound(String),
    /// There is something of this name.
    AlreadyExists(String),
    /// It is another one by now.
    Conflict(String),
    /// It makes no sense.
    BadRequest(String),
}

impl Store {
    /// All of one resource.
    pub fn list(&self, resource: &str) -> impl Iterator<Item = &Value> {
        let of_it = move |((its, _), _): &(&(String, String), &Value)| its == resource;
        self.objects.iter().filter(of_it).map(|(_, object)| object)
    }

    /// One.
    pub fn get(&self, resource: &str, name: &str) -> Option<&Value> {
        self.objects.get(&key(resource, name))
    }

    /// Makes one.
    pub fn create(&mut self, resource: &str, object: Value) -> Result<Value, Refusal> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let name = name.to_owned();
        match self.get(resource, &name) {
            _ if name.is_empty() => Err(Refusal::BadRequest("it has no name".into())),
            Some(_) => Err(Refusal::AlreadyExists(format!("{resource} {name:?}"))),
            None => Ok(self.put(resource, &name, object)),
        }
    }

    /// Puts another in its place, if it is the one that the other was made from.
    pub fn replace(&mut self, resource: &str, name: &str, object: Value) -> Result<Value, Refusal> {
        self.is_still(resource, name, &object)?;
        Ok(self.put(resource, name, object))
    }

    /// Changes one; where the patch names a resource version, if it still is that one.
    pub fn patch(
        &mut self,
        resource: &str,
        name: &str,
        kind: Kind,
        changes: &Value,
    ) -> Result<Value, Refusal> {
        let mut object = self.is_still(resource, name, changes)?.clone();
        patch::apply(kind, &mut object, changes);
        Ok(self.put(resource, name, object))
    }

    /// Removes one.
    pub fn delete(&mut self, resource: &str, name: &str) -> Result<Value, Refusal> {
        let removed = self.objects.remove(&key(resource, name));
        removed.ok_or_else(|| not_found(resource, name))
    }

    fn is_still(&self, resource: &str, name: &str, by: &Value) -> Result<&Value, Refusal> {
        let there = self.get(resource, name);
        let there = there.ok_or_else(|| not_found(resource, name))?;
        let seen = &by["metadata"]["resourceVersion"];
        match seen.is_null() || *seen == there["metadata"]["resourceVersion"] {
            true => Ok(there),
            false => Err(Refusal::Conflict(format!(
                "{resource} {name:?} has been modified"
            ))),
        }
    }

    fn put(&mut self, resource: &str, name: &str, mut object: Value) -> Value {
        self.version += 1;
        let before = self.objects.get(&key(resource, name));
        let count = |it: Option<&Value>, pointer: &str| {
            let counted = it.and_then(|it| it.pointer(pointer));
            counted.and_then(Value::as_u64).unwrap_or(0)
        };
        let generation = count(before, "/metadata/generation");
        let changed = |part: &str| before.is_none_or(|it| it.pointer(part) != object.pointer(part));
        let (spec, template) = (changed("/spec"), changed("/spec/template"));
        let revision = before.map_or(0, revision);
        let uid = before.map(|it| it["metadata"]["uid"].clone());
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        metadata["uid"] = uid.unwrap_or_else(|| json!(format!("{resource}-{}", self.version)));
        metadata["generation"] = json!(generation + u64::from(spec));
        if resource == "deployments" {
            let revision = revision + u64::from(template);
            metadata["annotations"][REVISION] = json!(revision.to_string());
        }
        self.objects.insert(key(resource, name), object.clone());
        object
    }
}

/// Which of its templates a Deployment has now, from 1.
pub(super) fn revision(deployment: &Value) -> u64 {
    let text = deployment["metadata"]["annotations"][REVISION].as_str();
    text.and_then(|it| it.parse().ok()).unwrap_or(0)
}

fn key(resource: &str, name: &str) -> (String, String) {
    (resource.to_owned(), name.to_owned())
}

fn not_found(resource: &str, name: &str) -> Refusal {
    Refusal::NotFound(format!("{resource} {name:?} not found"))
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
        let ours = store.replace("leases", "l", seen.clone()).unwrap();
        assert_eq!(ours["metadata"]["uid"], seen["metadata"]["uid"]);
        assert!(matches!(
            store.replace("leases", "l", seen),
            Err(Refusal::Conflict(_))
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
