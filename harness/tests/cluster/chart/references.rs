//! Everything that is named is there.

use std::collections::BTreeSet;

use serde_json::json;

use super::helm::{Render, every_environment};
use super::manifests::{Object, labels, list};

/// What each service cannot start without: `fixtures/platform/README.md`.
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
fn every_service_gets_what_it_needs_and_no_secret_beside_it() {
    for (environment, manifests) in every_environment() {
        let services: BTreeSet<&str> = manifests.of("Deployment").map(Object::service).collect();
        assert_eq!(services, NEEDED.map(|(service, _)| service).into());
        let needed = |service: &str| NEEDED.iter().find(|it| it.0 == service).unwrap().1;
        for deployment in manifests.of("Deployment") {
            let (service, needed) = (deployment.service(), needed(deployment.service()));
            let variable = |name: &str| deployment.variable(&manifests, name);
            for name in needed {
                assert!(variable(name).is_some(), "{environment} {service} {name}");
            }
            for name in SECRETS {
                assert_eq!(
                    variable(name).is_some(),
                    needed.contains(&name),
                    "{environment} {service} {name}"
                );
            }
        }
        let migration = manifests.get("Job", "migration").unwrap();
        assert!(migration.variable(&manifests, "DATABASE_URL").is_some());
    }
}

/// Secrets are made by others: the chart names those it documents, and none of their values.
#[test]
fn secrets_are_referred_to_and_never_made() {
    let documented: BTreeSet<_> = [
        ("DATABASE_URL", "database-credentials", "url"),
        ("REDIS_URL", "redis-credentials", "url"),
        ("JWT_SECRET", "jwt-credentials", "secret"),
        ("DEMO_PASSWORD", "jwt-credentials", "demo-password"),
    ]
    .into();
    for (environment, manifests) in every_environment() {
        assert_eq!(manifests.of("Secret").count(), 0, "{environment}");
        let mut named = BTreeSet::new();
        for workload in manifests.workloads() {
            for variable in list(&workload.container()["env"]) {
                let reference = &variable["valueFrom"]["secretKeyRef"];
                let text = |value: &'_ serde_json::Value| value.as_str().map(str::to_owned);
                match text(&reference["name"]) {
                    Some(secret) => {
                        let key = text(&reference["key"]).unwrap();
                        named.insert((text(&variable["name"]).unwrap(), secret, key));
                    }
                    None => assert!(!SECRETS.contains(&variable["name"].as_str().unwrap())),
                }
            }
        }
        let named: BTreeSet<_> = named
            .iter()
            .map(|(variable, secret, key)| (variable.as_str(), secret.as_str(), key.as_str()))
            .collect();
        assert_eq!(named, documented, "{environment}");
    }
}

/// The Secrets Store CSI driver makes a class's Secrets while a pod mounts the class: whoever
/// reads one mounts it, the first of them, the migration, included.
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
            assert_eq!(
                class.is_some(),
                reads && mounted,
                "{environment} {}",
                workload.title()
            );
            assert!(class.is_none_or(|class| class == "trii-secrets"));
        }
    }
}

#[test]
fn config_maps_accounts_volumes_and_ports_are_there() {
    for (environment, manifests) in every_environment() {
        for workload in manifests.workloads() {
            let what = format!("{environment} {}", workload.title());
            let account = workload.pod()["serviceAccountName"].as_str().unwrap();
            let account = manifests.get("ServiceAccount", account).expect(&what);
            assert_eq!(account.0["automountServiceAccountToken"], false, "{what}");
            for source in list(&workload.container()["envFrom"]) {
                let name = source["configMapRef"]["name"].as_str().unwrap();
                assert!(manifests.get("ConfigMap", name).is_some(), "{what} {name}");
            }
            let volumes: BTreeSet<_> = list(&workload.pod()["volumes"])
                .iter()
                .map(|volume| &volume["name"])
                .map(|name| name.as_str())
                .collect();
            let mounts: BTreeSet<_> = list(&workload.container()["volumeMounts"])
                .iter()
                .map(|mount| mount["name"].as_str())
                .collect();
            assert_eq!(mounts, volumes, "{what}");
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                let port = &workload.container()[probe]["httpGet"]["port"];
                if workload.kind() == "Deployment" {
                    assert!(workload.container_port(port).is_some(), "{what} {probe}");
                }
            }
        }
        for service in manifests.of("Service") {
            for deployment in manifests.selected(&labels(service.at("/spec/selector"))) {
                // Not to its metrics port: what a Service leads to, an Ingress can lead to.
                let http = deployment.container_port(&json!("http"));
                for port in service.list("/spec/ports") {
                    assert_eq!(
                        deployment.container_port(&port["targetPort"]),
                        http,
                        "{environment} {}",
                        service.title()
                    );
                }
            }
        }
    }
}

/// Hooks run while nothing of the chart is there yet: they may only use hooks made before them.
#[test]
fn what_the_migration_uses_is_made_before_it() {
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
