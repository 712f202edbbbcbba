//! The restricted Pod Security Standard.

use serde_json::{Value, json};

use super::helm::{every_environment, for_each};
use super::manifests::{WORKLOADS, list};

/// Returns what the *restricted* standard, or this project, refuses in a pod's specification.
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
pub fn violations(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut refuse = |when: bool, what: &str| {
        if when {
            found.push(what.to_owned());
        }
    };
    for namespace in ["hostNetwork", "hostPID", "hostIPC"] {
        refuse(pod[namespace] == true, namespace);
    }
    let allowed = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in list(&pod["volumes"]) {
        let kinds = volume.as_object().unwrap().keys();
        for kind in kinds.filter(|kind| *kind != "name") {
            refuse(!allowed.contains(&kind.as_str()), &format!("volume {kind}"));
        }
    }
    refuse(
        pod["automountServiceAccountToken"] != false,
        "an API token is mounted",
    );
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(&pod[kind]) {
            let own = &container["securityContext"];
            // A container's setting overrides the pod's.
            let setting = |name: &str| match &own[name] {
                Value::Null => pod["securityContext"][name].clone(),
                set => set.clone(),
            };
            refuse(setting("runAsNonRoot") != true, "may run as root");
            refuse(setting("runAsUser") == 0, "runs as root");
            let seccomp = &setting("seccompProfile")["type"];
            refuse(
                seccomp != "RuntimeDefault" && seccomp != "Localhost",
                "no seccomp profile",
            );
            refuse(
                own["allowPrivilegeEscalation"] != false,
                "privileges may be escalated",
            );
            refuse(own["privileged"] == true, "privileged");
            refuse(
                own["capabilities"]["drop"] != json!(["ALL"]),
                "capabilities are kept",
            );
            let added = list(&own["capabilities"]["add"]);
            refuse(
                added.iter().any(|name| name != "NET_BIND_SERVICE"),
                "capabilities are added",
            );
            refuse(
                list(&container["ports"])
                    .iter()
                    .any(|port| !port["hostPort"].is_null()),
                "a host port",
            );
            refuse(
                own["readOnlyRootFilesystem"] != true,
                "the root is writable",
            );
        }
    }
    found
}

#[test]
fn every_pod_satisfies_the_restricted_standard() {
    for_each(&WORKLOADS, |what, workload, _| {
        assert_eq!(violations(workload.pod()), [] as [&str; 0], "{what}");
    });
}

#[test]
fn each_violation_is_found() {
    let (_, manifests) = every_environment().next().unwrap();
    let good = manifests.workloads().next().unwrap().pod();
    let broken = [
        ("/hostNetwork", json!(true)),
        (
            "/volumes/0",
            json!({"name": "tmp", "hostPath": {"path": "/"}}),
        ),
        ("/automountServiceAccountToken", json!(true)),
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/securityContext/runAsUser", json!(0)),
        ("/securityContext/seccompProfile/type", json!("Unconfined")),
        (
            "/containers/0/securityContext/allowPrivilegeEscalation",
            json!(true),
        ),
        ("/containers/0/securityContext/privileged", json!(true)),
        (
            "/containers/0/securityContext/capabilities/drop",
            json!(["NET_RAW"]),
        ),
        (
            "/containers/0/securityContext/capabilities/add",
            json!(["SYS_ADMIN"]),
        ),
        ("/containers/0/securityContext/runAsNonRoot", json!(false)),
        (
            "/containers/0/securityContext/readOnlyRootFilesystem",
            json!(false),
        ),
        ("/containers/0/ports/0/hostPort", json!(80)),
    ];
    for (pointer, value) in broken {
        let mut pod = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match pod.pointer_mut(parent).unwrap() {
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
            object => object[key] = value,
        }
        let found = violations(&pod);
        assert_eq!(found.len(), 1, "{pointer}: {found:?}");
    }
}

/// Only root may listen on ports below 1024.
#[test]
fn no_container_listens_on_a_privileged_port() {
    for_each(&["Deployment"], |what, deployment, manifests| {
        for (name, variable) in [("http", "LISTEN_ADDRESS"), ("metrics", "METRICS_ADDRESS")] {
            let port = deployment.container_port(&json!(name)).unwrap();
            assert!(port >= 1024, "{what}: {port}");
            let address = deployment.variable(manifests, variable).unwrap();
            assert_eq!(*address, format!("0.0.0.0:{port}"), "{what}");
        }
        let annotations = deployment.at("/spec/template/metadata/annotations");
        let scraped = &annotations["prometheus.io/port"];
        let port = deployment.container_port(&json!("metrics")).unwrap();
        assert_eq!(*scraped, port.to_string(), "{what}");
    });
}
