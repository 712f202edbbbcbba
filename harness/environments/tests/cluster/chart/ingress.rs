//! Routes from outside.

use std::collections::BTreeSet;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::helm::{Render, every_environment, for_each, workspace};
use super::manifests::{Object, list};

const NGINX: &str = "nginx.ingress.kubernetes.io/";
const ISSUER: &str = "cert-manager.io/cluster-issuer";

/// Annotations that ingress-nginx and Traefik's provider for it support. Both ignore others.
const KNOWN: [&str; 5] = [
    "force-ssl-redirect",
    "limit-rps",
    "rewrite-target",
    "ssl-redirect",
    "use-regex",
];

fn paths(ingress: &Object) -> Vec<(&str, &Value)> {
    let rules = ingress.list("/spec/rules").iter();
    rules
        .flat_map(|rule| {
            let host = rule["host"].as_str().unwrap();
            let paths = list(&rule["http"]["paths"]).iter();
            paths.map(move |path| (host, path))
        })
        .collect()
}

#[test]
fn every_backend_is_a_service_and_a_port_of_it() {
    for_each(&["Ingress"], |what, ingress, manifests| {
        for (_, path) in paths(ingress) {
            let backend = &path["backend"]["service"];
            let service = manifests.get("Service", backend["name"].as_str().unwrap());
            let mut ports = service.unwrap().list("/spec/ports").iter();
            let exists = ports.any(|port| port["name"] == backend["port"]["name"]);
            assert!(exists, "{what}");
        }
    });
}

#[test]
fn every_route_is_unique_and_every_object_has_a_class() {
    for (environment, manifests) in every_environment() {
        let mut routes = BTreeSet::new();
        for ingress in manifests.of("Ingress") {
            let class = ingress.at("/spec/ingressClassName");
            assert_eq!(*class, "nginx", "{environment}");
            for (host, path) in paths(ingress) {
                let route = format!("{host}{}", path["path"].as_str().unwrap());
                assert!(routes.insert(route.clone()), "{environment} {route}");
            }
        }
    }
}

/// A rewrite to a group that the path does not have sends everything to `/`. A regex with
/// `pathType: Prefix` is refused or used literally.
#[test]
fn regular_expressions_rewrites_and_path_types_agree() {
    for_each(&["Ingress"], |what, ingress, _| {
        let regex = ingress.annotation(&format!("{NGINX}use-regex")) == Some("true");
        let rewrite = ingress.annotation(&format!("{NGINX}rewrite-target"));
        assert_eq!(regex, rewrite.is_some(), "{what}");
        for (_, path) in paths(ingress) {
            let text = path["path"].as_str().unwrap();
            let groups = Regex::new(text).unwrap().captures_len() - 1;
            match rewrite {
                Some(rewrite) => {
                    assert_eq!(path["pathType"], "ImplementationSpecific", "{what}");
                    let group = rewrite.split_once('$').unwrap().1;
                    assert!(group.parse::<usize>().unwrap() <= groups, "{what} {text}");
                }
                None => {
                    assert_eq!(path["pathType"], "Prefix", "{what}");
                    assert_eq!(regex::escape(text), text, "{what}");
                }
            }
        }
    });
}

/// If one path of a host is a regex, ingress-nginx reads all its paths as regexes. The only other
/// path may be `/`, which means the same as a regex.
#[test]
fn beside_a_regular_expression_a_host_has_only_the_root() {
    let is_regex = |path: &Value| path["pathType"] == "ImplementationSpecific";
    for (environment, manifests) in every_environment() {
        let all: Vec<_> = manifests.of("Ingress").flat_map(paths).collect();
        for (host, _) in all.iter().filter(|(_, path)| is_regex(path)) {
            for (_, path) in all.iter().filter(|(other, _)| other == host) {
                let allowed = is_regex(path) || path["path"] == "/";
                assert!(allowed, "{environment} {host} {path}");
            }
        }
    }
}

#[test]
fn annotations_are_those_that_the_controller_supports() {
    for (environment, manifests) in every_environment() {
        for ingress in manifests.of("Ingress") {
            let annotations = ingress.at("/metadata/annotations").as_object().unwrap();
            for name in annotations.keys() {
                let nginx = name.strip_prefix(NGINX);
                let known = name == ISSUER || nginx.is_some_and(|name| KNOWN.contains(&name));
                assert!(known, "{environment} {}: {name}", ingress.title());
            }
        }
        let gateway = manifests.get("Ingress", "api-gateway").unwrap();
        let limit = gateway.annotation(&format!("{NGINX}limit-rps"));
        assert_eq!(limit, Some("100"), "{environment}");
    }
}

/// If several objects request the same Secret, cert-manager serves only the first. One object must
/// request it for all hosts.
#[test]
fn one_certificate_serves_every_host_and_is_requested_once() {
    for (environment, manifests) in every_environment() {
        let ingresses: Vec<_> = manifests.of("Ingress").collect();
        let hosts = |ingress: &Object| -> BTreeSet<String> {
            let tls = ingress.list("/spec/tls").iter();
            tls.flat_map(|entry| list(&entry["hosts"]))
                .map(|host| host.as_str().unwrap().to_owned())
                .collect()
        };
        let secrets: BTreeSet<_> = ingresses
            .iter()
            .flat_map(|ingress| ingress.list("/spec/tls"))
            .map(|entry| entry["secretName"].as_str().unwrap())
            .collect();
        assert_eq!(secrets, BTreeSet::from(["trii-tls"]), "{environment}");
        let mut all = BTreeSet::new();
        for ingress in &ingresses {
            let routed: BTreeSet<_> = paths(ingress)
                .into_iter()
                .map(|(host, _)| host.to_owned())
                .collect();
            assert_eq!(hosts(ingress), routed, "{environment} {}", ingress.title());
            all.extend(routed);
        }
        let requesting: Vec<_> = ingresses
            .iter()
            .filter(|ingress| ingress.annotation(ISSUER).is_some())
            .collect();
        let expected = usize::from(["staging", "production"].contains(&environment));
        assert_eq!(requesting.len(), expected, "{environment}");
        for ingress in requesting {
            assert_eq!(hosts(ingress), all, "{environment}");
        }
    }
}

/// The routes of `harness.toml`.
#[derive(Deserialize)]
struct Configuration {
    routes: Vec<Route>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Route {
    host: String,
    path: String,
    path_type: String,
    rewrite: Option<String>,
    service: String,
}

/// The local target's router replaces the ingress: both must have the same routes.
#[test]
fn routes_are_those_of_the_local_target() {
    let manifests = Render::of("local").manifests();
    let mut chart: Vec<Route> = manifests
        .of("Ingress")
        .flat_map(|ingress| {
            let rewrite = ingress.annotation(&format!("{NGINX}rewrite-target"));
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            paths(ingress).into_iter().map(move |(host, path)| Route {
                host: host.to_owned(),
                path: text(&path["path"]),
                path_type: text(&path["pathType"]),
                rewrite: rewrite.map(str::to_owned),
                service: text(&path["backend"]["service"]["name"]),
            })
        })
        .collect();
    let text = std::fs::read_to_string(workspace().join("harness.toml")).unwrap();
    let mut local = toml::from_str::<Configuration>(&text).unwrap().routes;
    chart.sort();
    local.sort();
    assert_eq!(chart, local);
}
