//! Kubernetes objects as a manifest has them.

use std::collections::BTreeMap;

use serde_json::Value;

/// The objects of one rendering.
pub struct Manifests(Vec<Object>);

pub struct Object(pub Value);

/// The labels of a selector or an object.
pub type Labels = BTreeMap<String, String>;

/// The kinds that make pods.
pub const WORKLOADS: [&str; 2] = ["Deployment", "Job"];

impl Manifests {
    /// Panics if the text is not YAML, or a document is not an object.
    pub fn parse(text: &str) -> Manifests {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        let objects: Vec<Object> = documents.into_iter().map(Object).collect();
        for object in &objects {
            assert!(object.0["kind"].is_string(), "no object: {}", object.0);
        }
        Manifests(objects)
    }

    pub fn all(&self) -> impl Iterator<Item = &Object> {
        self.0.iter()
    }

    pub fn of(&self, kind: &'static str) -> impl Iterator<Item = &Object> {
        self.all().filter(move |object| object.kind() == kind)
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<&Object> {
        self.all()
            .find(|object| object.kind() == kind && object.name() == name)
    }

    /// Returns the objects that make pods.
    pub fn workloads(&self) -> impl Iterator<Item = &Object> {
        self.all()
            .filter(|object| WORKLOADS.contains(&object.kind()))
    }

    /// Returns the workloads whose pods have all labels of `selector`.
    pub fn selected(&self, selector: &Labels) -> Vec<&Object> {
        self.workloads()
            .filter(|workload| {
                let labels = workload.pod_labels();
                selector
                    .iter()
                    .all(|(key, value)| labels.get(key) == Some(value))
            })
            .collect()
    }
}

impl Object {
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap()
    }

    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    /// Returns the kind and the name, for messages.
    pub fn title(&self) -> String {
        format!("{}/{}", self.kind(), self.name())
    }

    /// Returns the value at a JSON pointer, or null.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// Returns the elements of the list at a JSON pointer; none if it is not a list.
    pub fn list(&self, pointer: &str) -> &[Value] {
        list(self.at(pointer))
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.0["metadata"]["annotations"].get(name)?.as_str()
    }

    /// Returns the specification of a workload's pods.
    pub fn pod(&self) -> &Value {
        self.at("/spec/template/spec")
    }

    /// Returns the labels of a workload's pods.
    pub fn pod_labels(&self) -> Labels {
        labels(self.at("/spec/template/metadata/labels"))
    }

    /// Returns the service that a workload belongs to; for the migration, its own name.
    pub fn service(&self) -> &str {
        let labels = self.at("/spec/template/metadata/labels");
        labels["app.kubernetes.io/name"].as_str().unwrap()
    }

    /// Returns the only container of a workload's pods.
    pub fn container(&self) -> &Value {
        match self.list("/spec/template/spec/containers") {
            [container] => container,
            several => panic!("{}: {} containers", self.title(), several.len()),
        }
    }

    /// Returns a workload's environment variable, from `env` or its ConfigMap.
    pub fn variable<'a>(&'a self, manifests: &'a Manifests, name: &str) -> Option<&'a Value> {
        let container = self.container();
        let own = list(&container["env"])
            .iter()
            .find(|variable| variable["name"] == name);
        own.or_else(|| {
            list(&container["envFrom"]).iter().find_map(|source| {
                let config_map = source["configMapRef"]["name"].as_str()?;
                manifests.get("ConfigMap", config_map)?.0["data"].get(name)
            })
        })
    }

    /// Returns the port of a workload's container by its name or number.
    pub fn container_port(&self, port: &Value) -> Option<u64> {
        list(&self.container()["ports"])
            .iter()
            .find(|there| there["name"] == *port || there["containerPort"] == *port)?["containerPort"]
            .as_u64()
    }

    /// Returns the minimum and the maximum of a workload's pods.
    pub fn replicas(&self, manifests: &Manifests) -> (u64, u64) {
        if self.kind() == "Job" {
            return (1, 1);
        }
        let scaler = manifests
            .of("HorizontalPodAutoscaler")
            .find(|scaler| scaler.at("/spec/scaleTargetRef/name") == self.name());
        let number = |value: &Value| value.as_u64().unwrap();
        match scaler {
            Some(scaler) => (
                number(scaler.at("/spec/minReplicas")),
                number(scaler.at("/spec/maxReplicas")),
            ),
            None => {
                let replicas = number(self.at("/spec/replicas"));
                (replicas, replicas)
            }
        }
    }
}

/// Returns the elements of a list; none if it is not a list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns a map of texts; an empty one if it is not a map.
pub fn labels(value: &Value) -> Labels {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

/// Returns a selector's labels. Panics if it has expressions, which the chart does not use.
pub fn selector(value: &Value) -> Labels {
    assert!(value["matchExpressions"].is_null(), "{value}");
    labels(&value["matchLabels"])
}

/// Returns a Kubernetes quantity in thousandths of a core or of a byte.
pub fn quantity(value: &Value) -> f64 {
    let text = value.as_str().unwrap();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "m" => 1.0,
        "" => 1e3,
        "Ki" => 1e3 * 1024.0,
        "Mi" => 1e3 * 1024.0 * 1024.0,
        "Gi" => 1e3 * 1024.0 * 1024.0 * 1024.0,
        unit => panic!("{text}: unit {unit} is not known here"),
    };
    digits.parse::<f64>().unwrap() * unit
}
