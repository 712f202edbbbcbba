//! Kubernetes objects as they are written, and questions to them.

use std::collections::BTreeMap;

use serde_json::Value;

/// The objects of one rendering.
pub struct Manifests(Vec<Object>);

/// One object.
pub struct Object(pub Value);

/// `a=b` pairs, of a selector or an object.
pub type Labels = BTreeMap<String, String>;

impl Manifests {
    /// Panics at what is no YAML and at documents that are no objects.
    pub fn parse(text: &str) -> Manifests {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        let objects: Vec<Object> = documents.into_iter().map(Object).collect();
        for object in &objects {
            assert!(object.0["kind"].is_string(), "no object: {}", object.0);
        }
        Manifests(objects)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Object> {
        self.0.iter()
    }

    /// Those of a kind.
    pub fn of(&self, kind: &'static str) -> impl Iterator<Item = &Object> {
        self.all().filter(move |object| object.kind() == kind)
    }

    /// The one of a kind and name.
    pub fn get(&self, kind: &str, name: &str) -> Option<&Object> {
        self.all()
            .find(|object| object.kind() == kind && object.name() == name)
    }

    /// What makes pods.
    pub fn workloads(&self) -> impl Iterator<Item = &Object> {
        self.all()
            .filter(|object| ["Deployment", "Job"].contains(&object.kind()))
    }

    /// The Deployments of a service: one, or one a colour.
    pub fn deployments(&self, service: &str) -> Vec<&Object> {
        let deployments = self.of("Deployment");
        let of_service = deployments.filter(|deployment| deployment.service() == service);
        of_service.collect()
    }

    /// The workloads whose pods have all of `selector`.
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
    /// `Deployment`, ...
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap()
    }

    /// Its `metadata.name`.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    /// Kind and name, for messages.
    pub fn title(&self) -> String {
        format!("{}/{}", self.kind(), self.name())
    }

    /// What a JSON pointer finds; null where that is nothing.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The elements of a list; none where there is no list.
    pub fn list(&self, pointer: &str) -> &[Value] {
        list(self.at(pointer))
    }

    /// An annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.0["metadata"]["annotations"].get(name)?.as_str()
    }

    /// Of a workload: the specification of its pods.
    pub fn pod(&self) -> &Value {
        self.at("/spec/template/spec")
    }

    /// Of a workload: the labels of its pods.
    pub fn pod_labels(&self) -> Labels {
        labels(self.at("/spec/template/metadata/labels"))
    }

    /// Of a workload: the service that its pods are; of the migration, itself.
    pub fn service(&self) -> &str {
        let labels = self.at("/spec/template/metadata/labels");
        labels["app.kubernetes.io/name"].as_str().unwrap()
    }

    /// Of a workload: the one container of its pods.
    pub fn container(&self) -> &Value {
        match self.list("/spec/template/spec/containers") {
            [container] => container,
            several => panic!("{}: {} containers", self.title(), several.len()),
        }
    }

    /// Of a workload: an environment variable's source, from `env` or its ConfigMap.
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

    /// Of a Deployment: its container's port by name or number.
    pub fn container_port(&self, port: &Value) -> Option<u64> {
        list(&self.container()["ports"])
            .iter()
            .find(|there| there["name"] == *port || there["containerPort"] == *port)?["containerPort"]
            .as_u64()
    }

    /// Of a workload: the fewest and the most pods it is to have.
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

/// A list's elements; none where it is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A map of texts; empty where it is no map.
pub fn labels(value: &Value) -> Labels {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

/// A selector's labels; panics at expressions, which the chart has no use for.
pub fn selector(value: &Value) -> Labels {
    assert!(value["matchExpressions"].is_null(), "{value}");
    labels(&value["matchLabels"])
}

/// A Kubernetes quantity in thousandths: of a core, of a byte.
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
