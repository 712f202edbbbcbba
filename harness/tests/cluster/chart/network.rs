//! NetworkPolicies: what is asked is allowed on both sides, what is not is not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::helm::every_environment;
use super::manifests::{Manifests, Object, list, selector};

/// `(caller, called)` pairs.
type Calls<'a> = BTreeSet<(&'a str, &'a str)>;

/// What the services' environment says they ask, by URL.
fn asked(manifests: &Manifests) -> Calls<'_> {
    let mut calls = Calls::new();
    for config_map in manifests.of("ConfigMap") {
        for (name, value) in config_map.0["data"].as_object().unwrap() {
            let Some(address) = value.as_str().unwrap().strip_prefix("http://") else {
                assert!(!name.ends_with("_URL"), "{name}: {value}");
                continue;
            };
            let (host, port) = address.split_once(':').unwrap();
            let service = manifests.get("Service", host).unwrap();
            let ports = service.list("/spec/ports");
            assert_eq!(ports[0]["port"].to_string(), port, "{name}: {value}");
            calls.insert((config_map.name(), service.name()));
        }
    }
    calls
}

/// What the policies allow between the chart's own pods, in one direction: `ingress` with
/// `from`, or `egress` with `to`.
fn allowed<'a>(manifests: &'a Manifests, direction: &str, peers: &str) -> Calls<'a> {
    let mut calls = Calls::new();
    for policy in manifests.of("NetworkPolicy") {
        for rule in policy.list(&format!("/spec/{direction}")) {
            for peer in list(&rule[peers]) {
                if peer["podSelector"].is_null() || !peer["namespaceSelector"].is_null() {
                    continue;
                }
                for other in manifests.selected(&selector(&peer["podSelector"])) {
                    let other = other.service();
                    let (caller, called) = match direction {
                        "ingress" => (other, policy.name()),
                        _ => (policy.name(), other),
                    };
                    for deployment in manifests.deployments(called) {
                        let open = deployment.container_port(&json!("http"));
                        assert_eq!(ports(rule), [open.unwrap()], "{}", policy.title());
                    }
                    calls.insert((caller, called));
                }
            }
        }
    }
    calls
}

fn ports(rule: &Value) -> Vec<u64> {
    list(&rule["ports"])
        .iter()
        .map(|port| port["port"].as_u64().unwrap())
        .collect()
}

#[test]
fn services_may_reach_those_they_ask_and_no_others() {
    for (environment, manifests) in every_environment() {
        let asked = asked(&manifests);
        assert_eq!(
            asked,
            allowed(&manifests, "egress", "to"),
            "{environment} egress"
        );
        assert_eq!(
            asked,
            allowed(&manifests, "ingress", "from"),
            "{environment} ingress"
        );
        assert_eq!(asked.len(), 8);
    }
}

/// The ports a policy lets out to addresses, which is where the backing services are.
fn backing_ports(policy: &Object) -> BTreeSet<u64> {
    let rules = policy.list("/spec/egress").iter();
    rules
        .filter(|rule| {
            list(&rule["to"])
                .iter()
                .any(|peer| peer["ipBlock"].is_object())
        })
        .flat_map(ports)
        .collect()
}

#[test]
fn backing_services_are_open_to_those_with_their_url() {
    for (environment, manifests) in every_environment() {
        for workload in manifests.workloads() {
            let policy = manifests.get("NetworkPolicy", workload.service()).unwrap();
            let expected: BTreeSet<u64> = [("DATABASE_URL", 5432), ("REDIS_URL", 6379)]
                .into_iter()
                .filter(|(url, _)| workload.variable(&manifests, url).is_some())
                .map(|(_, port)| port)
                .collect();
            assert_eq!(
                backing_ports(policy),
                expected,
                "{environment} {}",
                workload.title()
            );
        }
    }
}

#[test]
fn whoever_is_let_out_may_resolve_names() {
    for (environment, manifests) in every_environment() {
        for policy in manifests.of("NetworkPolicy") {
            let egress = policy.list("/spec/egress");
            let dns = egress.iter().any(|rule| ports(rule) == [53, 53]);
            assert_eq!(dns, !egress.is_empty(), "{environment} {}", policy.title());
        }
    }
}

#[test]
fn nothing_else_comes_in_or_goes_out() {
    for (environment, manifests) in every_environment() {
        let deny = manifests.get("NetworkPolicy", "default-deny").unwrap();
        assert_eq!(
            deny.0["spec"],
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
        );
        for policy in manifests.of("NetworkPolicy") {
            for (rules, peers) in [("/spec/ingress", "from"), ("/spec/egress", "to")] {
                for rule in policy.list(rules) {
                    let what = format!("{environment} {} {rule}", policy.title());
                    assert!(!list(&rule[peers]).is_empty(), "open to all: {what}");
                    assert!(!list(&rule["ports"]).is_empty(), "every port: {what}");
                }
            }
        }
    }
}

/// The namespaces that may reach a service, each with the component its pods must be of, and the
/// port.
fn namespaces(policy: &Object) -> BTreeSet<(&str, Option<&str>, u64)> {
    let mut reached = BTreeSet::new();
    for rule in policy.list("/spec/ingress") {
        for peer in list(&rule["from"]) {
            let namespaces = &peer["namespaceSelector"]["matchLabels"];
            let Some(namespace) = namespaces["kubernetes.io/metadata.name"].as_str() else {
                continue;
            };
            let pods = &peer["podSelector"]["matchLabels"];
            let component = pods["app.kubernetes.io/component"].as_str();
            reached.extend(
                ports(rule)
                    .into_iter()
                    .map(|port| (namespace, component, port)),
            );
        }
    }
    reached
}

#[test]
fn monitoring_reaches_metrics_its_prober_every_service_and_the_ingress_controller_its_routes() {
    for (environment, manifests) in every_environment() {
        for deployment in manifests.of("Deployment") {
            let policy = manifests
                .get("NetworkPolicy", deployment.service())
                .unwrap();
            let routed = manifests.get("Ingress", deployment.service()).is_some();
            let port = |name: &str| deployment.container_port(&json!(name)).unwrap();
            let mut expected = BTreeSet::from([
                ("trii-monitoring", None, port("metrics")),
                ("trii-monitoring", Some("prober"), port("http")),
            ]);
            expected.extend(routed.then_some(("ingress-nginx", None, port("http"))));
            assert_eq!(namespaces(policy), expected, "{environment}");
        }
    }
}

/// Without it the certificate is never made, and nothing says why.
#[test]
fn the_pods_that_prove_a_host_are_let_in_where_an_issuer_is_set() {
    for (environment, manifests) in every_environment() {
        let issuer = manifests.of("Ingress").any(|ingress| {
            ingress
                .annotation("cert-manager.io/cluster-issuer")
                .is_some()
        });
        let solver = manifests.get("NetworkPolicy", "acme-http01-solver");
        assert_eq!(solver.is_some(), issuer, "{environment}");
    }
}
