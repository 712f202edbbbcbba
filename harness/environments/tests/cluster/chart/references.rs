//! Every object and port that is named exists.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::helm::{Render, every_environment, for_each};
use super::manifests::{Object, WORKLOADS, labels, list};

/// The variables that each service needs to start: `fixtures/platform/README.md`.
const NEEDED: [(&str, &[&str]); 6] = [
    (
        "market-data-service",
        &["DATABASE_URL", "REDIS_URL", "JWT_SECRET"],
    ),
    (
        "portfolio-manager-service",
        &["DATABASE_URL", "JWT_SECRET", "MARKET_DATA_URL"],
    ),
    (
        "analysis-engine-service",
        &["MARKET_DATA_URL", "PORTFOLIO_MANAGER_URL"],
    ),
    ("ml-prediction-service", &["MARKET_DATA_URL"]),
    (
        "api-gateway",
        &[
            "JWT_SECRET",
            "DEMO_PASSWORD",
            "MARKET_DATA_URL",
            "PORTFOLIO_MANAGER_URL",
            "ANALYSIS_ENGINE_URL",
            "ML_PREDICTION_URL",
        ],
    ),
    ("frontend-app", &[]),
];

const SECRETS: [&str; 4] = ["DATABASE_URL", "REDIS_URL", "JWT_SECRET", "DEMO_PASSWORD"];

#[test]
fn every_service_gets_what_it_needs_and_no_other_secret() {
    for (environment, manifests) in every_environment() {
        let services: BTreeSet<&str> = manifests.of("Deployment").map(Object::service).collect();
        assert_eq!(services, NEEDED.map(|(service, _)| service).into());
        for deployment in manifests.of("Deployment") {
            let service = deployment.service();
            let needed = NEEDED.iter().find(|(name, _)| *name == service).unwrap().1;
            let is_set = |name: &str| deployment.variable(&manifests, name).is_some();
            for name in needed {
                assert!(is_set(name), "{environment} {service} {name}");
            }
            for name in SECRETS {
                let is_needed = needed.contains(&name);
                assert_eq!(is_set(name), is_needed, "{environment} {service} {name}");
            }
        }
        let migration = manifests.get("Job", "migration").unwrap();
        assert!(migration.variable(&manifests, "DATABASE_URL").is_some());
    }
}

/// The chart names only the Secrets that it documents, and none of their values.
#[test]
fn secrets_are_named_and_never_created() {
    let documented = [
        ("DATABASE_URL", "database-credentials", "url"),
        ("REDIS_URL", "redis-credentials", "url"),
        ("JWT_SECRET", "jwt-credentials", "secret"),
        ("DEMO_PASSWORD", "jwt-credentials", "demo-password"),
    ];
    for (environment, manifests) in every_environment() {
        assert_eq!(manifests.of("Secret").count(), 0, "{environment}");
        let mut named = BTreeSet::new();
        for workload in manifests.workloads() {
            for variable in list(&workload.container()["env"]) {
                let reference = &variable["valueFrom"]["secretKeyRef"];
                let name = variable["name"].as_str().unwrap();
                match reference["name"].as_str() {
                    Some(secret) => {
                        named.insert((name, secret, reference["key"].as_str().unwrap()));
                    }
                    None => assert!(!SECRETS.contains(&name), "{environment} {name}"),
                }
            }
        }
        assert_eq!(named, documented.into(), "{environment}");
    }
}

/// The Secrets Store CSI driver creates a class's Secrets while a pod mounts the class. Each pod
/// that reads a Secret must mount it, also the migration, which is the first.
#[test]
fn pods_that_read_a_secret_mount_the_class_that_makes_it() {
    for (environment, mounted) in [("local", false), ("staging", true), ("production", true)] {
        let manifests = Render::of(environment).manifests();
        for workload in manifests.workloads() {
            let reads = list(&workload.container()["env"])
                .iter()
                .any(|variable| !variable["valueFrom"]["secretKeyRef"].is_null());
            let class = list(&workload.pod()["volumes"])
                .iter()
                .find(|volume| volume["csi"]["driver"] == "secrets-store.csi.k8s.io")
                .map(|volume| &volume["csi"]["volumeAttributes"]["secretProviderClass"]);
            let title = workload.title();
            assert_eq!(class.is_some(), reads && mounted, "{environment} {title}");
            assert!(class.is_none_or(|class| class == "trii-secrets"));
        }
    }
}

/// Returns the names in a list.
fn names(value: &Value) -> BTreeSet<Option<&str>> {
    let items = list(value).iter();
    items.map(|item| item["name"].as_str()).collect()
}

#[test]
fn config_maps_accounts_volumes_and_ports_exist() {
    for_each(&WORKLOADS, |what, workload, manifests| {
        let account = workload.pod()["serviceAccountName"].as_str().unwrap();
        let account = manifests.get("ServiceAccount", account).expect(what);
        assert_eq!(account.0["automountServiceAccountToken"], false, "{what}");
        for source in list(&workload.container()["envFrom"]) {
            let name = source["configMapRef"]["name"].as_str().unwrap();
            assert!(manifests.get("ConfigMap", name).is_some(), "{what} {name}");
        }
        let mounts = names(&workload.container()["volumeMounts"]);
        assert_eq!(mounts, names(&workload.pod()["volumes"]), "{what}");
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let port = &workload.container()[probe]["httpGet"]["port"];
            if workload.kind() == "Deployment" {
                assert!(workload.container_port(port).is_some(), "{what} {probe}");
            }
        }
    });
    for_each(&["Service"], |what, service, manifests| {
        for deployment in manifests.selected(&labels(service.at("/spec/selector"))) {
            // Not the metrics port: an Ingress can route to every port of a Service.
            let http = deployment.container_port(&json!("http"));
            for port in service.list("/spec/ports") {
                assert_eq!(
                    deployment.container_port(&port["targetPort"]),
                    http,
                    "{what}"
                );
            }
        }
    });
}

/// Hooks run before the chart's objects exist: they may use only earlier hooks.
#[test]
fn the_migrations_objects_are_created_before_it() {
    let weight = |object: &Object| -> i64 {
        let weight = object.annotation("helm.sh/hook-weight").unwrap();
        weight.parse().unwrap()
    };
    for (environment, manifests) in every_environment() {
        let migration = manifests.get("Job", "migration").unwrap();
        for kind in ["ServiceAccount", "NetworkPolicy"] {
            let used = manifests.get(kind, "migration").unwrap();
            assert!(weight(used) < weight(migration), "{environment} {kind}");
            for annotation in ["helm.sh/hook", "helm.sh/hook-delete-policy"] {
                assert_eq!(
                    used.annotation(annotation),
                    migration.annotation(annotation)
                );
            }
        }
        assert!(list(&migration.container()["envFrom"]).is_empty());
        assert_eq!(
            migration.annotation("helm.sh/hook"),
            Some("pre-install,pre-upgrade"),
            "an older version cannot migrate back"
        );
        assert_eq!(migration.pod()["restartPolicy"], "Never");
    }
}
