//! NetworkPolicies: they allow the requests of the services on both sides, and no others.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::helm::{every_environment, for_each};
use super::manifests::{Manifests, Object, WORKLOADS, list, selector};

/// `(caller, called)` pairs.
type Calls<'a> = BTreeSet<(&'a str, &'a str)>;

/// Returns the calls by the URLs in the services' environments.
fn configured(manifests: &Manifests) -> Calls<'_> {
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

/// Returns the calls that the policies allow between the chart's pods, in one direction: `ingress`
/// with `from`, or `egress` with `to`.
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
                    let deployments = manifests.of("Deployment");
                    for deployment in deployments.filter(|it| it.service() == called) {
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
fn services_may_reach_those_that_they_call_and_no_others() {
    for (environment, manifests) in every_environment() {
        let calls = configured(&manifests);
        for (direction, peers) in [("egress", "to"), ("ingress", "from")] {
            let allowed = allowed(&manifests, direction, peers);
            assert_eq!(calls, allowed, "{environment} {direction}");
        }
        assert_eq!(calls.len(), 8);
    }
}

/// Returns the ports that a policy allows for addresses, which are those of backing services.
fn backing_ports(policy: &Object) -> BTreeSet<u64> {
    let names_addresses = |rule: &&Value| {
        let mut peers = list(&rule["to"]).iter();
        peers.any(|peer| peer["ipBlock"].is_object())
    };
    let rules = policy.list("/spec/egress").iter();
    rules.filter(names_addresses).flat_map(ports).collect()
}

#[test]
fn backing_services_are_open_to_those_with_their_url() {
    for_each(&WORKLOADS, |what, workload, manifests| {
        let policy = manifests.get("NetworkPolicy", workload.service()).unwrap();
        let expected: BTreeSet<u64> = [("DATABASE_URL", 5432), ("REDIS_URL", 6379)]
            .into_iter()
            .filter(|(url, _)| workload.variable(manifests, url).is_some())
            .map(|(_, port)| port)
            .collect();
        assert_eq!(backing_ports(policy), expected, "{what}");
    });
}

#[test]
fn pods_with_egress_may_resolve_names() {
    for_each(&["NetworkPolicy"], |what, policy, _| {
        let egress = policy.list("/spec/egress");
        let dns = egress.iter().any(|rule| ports(rule) == [53, 53]);
        assert_eq!(dns, !egress.is_empty(), "{what}");
    });
}

#[test]
fn all_other_traffic_is_denied() {
    for (environment, manifests) in every_environment() {
        let deny = manifests.get("NetworkPolicy", "default-deny").unwrap();
        let everything = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
        assert_eq!(deny.0["spec"], everything, "{environment}");
    }
    for_each(&["NetworkPolicy"], |what, policy, _| {
        for (rules, peers) in [("/spec/ingress", "from"), ("/spec/egress", "to")] {
            for rule in policy.list(rules) {
                assert!(!list(&rule[peers]).is_empty(), "open to all: {what} {rule}");
                assert!(
                    !list(&rule["ports"]).is_empty(),
                    "every port: {what} {rule}"
                );
            }
        }
    });
}

/// Returns the namespaces that may reach a service, each with its pods' component and the port.
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
            let ports = ports(rule).into_iter();
            reached.extend(ports.map(|port| (namespace, component, port)));
        }
    }
    reached
}

#[test]
fn monitoring_reaches_metrics_its_prober_every_service_and_the_ingress_controller_its_routes() {
    for_each(&["Deployment"], |what, deployment, manifests| {
        let service = deployment.service();
        let policy = manifests.get("NetworkPolicy", service).unwrap();
        let routed = manifests.get("Ingress", service).is_some();
        let port = |name: &str| deployment.container_port(&json!(name)).unwrap();
        let mut expected = BTreeSet::from([
            ("trii-monitoring", None, port("metrics")),
            ("trii-monitoring", Some("prober"), port("http")),
        ]);
        expected.extend(routed.then_some(("ingress-nginx", None, port("http"))));
        assert_eq!(namespaces(policy), expected, "{what}");
    });
}

/// Without this policy the certificate is never issued, and nothing reports the cause.
#[test]
fn the_pods_that_prove_a_host_have_ingress_if_an_issuer_is_set() {
    for (environment, manifests) in every_environment() {
        let annotation = "cert-manager.io/cluster-issuer";
        let mut ingresses = manifests.of("Ingress");
        let issuer = ingresses.any(|ingress| ingress.annotation(annotation).is_some());
        let solver = manifests.get("NetworkPolicy", "acme-http01-solver");
        assert_eq!(solver.is_some(), issuer, "{environment}");
    }
}
