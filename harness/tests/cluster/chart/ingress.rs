//! Routes from outside.

use std::collections::BTreeSet;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::helm::{Render, every_environment, workspace};
use super::manifests::{Object, list};

const NGINX: &str = "nginx.ingress.kubernetes.io/";

/// Annotations that both ingress-nginx and Traefik's provider for them know. One that is
/// mistyped is ignored by both.
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
    for (environment, manifests) in every_environment() {
        for ingress in manifests.of("Ingress") {
            for (_, path) in paths(ingress) {
                let backend = &path["backend"]["service"];
                let service = manifests.get("Service", backend["name"].as_str().unwrap());
                let ports = service.unwrap().list("/spec/ports");
                assert!(
                    ports
                        .iter()
                        .any(|port| port["name"] == backend["port"]["name"]),
                    "{environment} {}",
                    ingress.title()
                );
            }
        }
    }
}

#[test]
fn no_route_is_there_twice_and_every_object_has_a_class() {
    for (environment, manifests) in every_environment() {
        let mut seen = BTreeSet::new();
        for ingress in manifests.of("Ingress") {
            assert_eq!(
                *ingress.at("/spec/ingressClassName"),
                "nginx",
                "{environment}"
            );
            for (host, path) in paths(ingress) {
                let route = format!("{host}{}", path["path"].as_str().unwrap());
                assert!(seen.insert(route.clone()), "{environment} {route}");
            }
        }
    }
}

/// A rewrite to a group that the path has not sends everything to `/`, and a regex with
/// `pathType: Prefix` is refused or taken literally.
#[test]
fn regular_expressions_rewrites_and_path_types_agree() {
    for (environment, manifests) in every_environment() {
        for ingress in manifests.of("Ingress") {
            let what = format!("{environment} {}", ingress.title());
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
        }
    }
}

/// ingress-nginx takes every path of a host for a regex once one is, so beside one only `/`,
/// which means the same either way, may stand.
#[test]
fn beside_a_regular_expression_a_host_has_the_root_alone() {
    for (environment, manifests) in every_environment() {
        let all: Vec<_> = manifests.of("Ingress").flat_map(paths).collect();
        for (host, _) in all
            .iter()
            .filter(|(_, path)| path["pathType"] == "ImplementationSpecific")
        {
            for (_, path) in all.iter().filter(|(other, _)| other == host) {
                assert!(
                    path["pathType"] == "ImplementationSpecific" || path["path"] == "/",
                    "{environment} {host} {}",
                    path["path"]
                );
            }
        }
    }
}

#[test]
fn annotations_are_such_as_the_controller_knows() {
    for (environment, manifests) in every_environment() {
        for ingress in manifests.of("Ingress") {
            for name in ingress
                .at("/metadata/annotations")
                .as_object()
                .unwrap()
                .keys()
            {
                let known = name == "cert-manager.io/cluster-issuer"
                    || name
                        .strip_prefix(NGINX)
                        .is_some_and(|name| KNOWN.contains(&name));
                assert!(known, "{environment} {}: {name}", ingress.title());
            }
        }
        let gateway = manifests.get("Ingress", "api-gateway").unwrap();
        assert_eq!(
            gateway.annotation(&format!("{NGINX}limit-rps")),
            Some("100")
        );
    }
}

/// Of several objects that ask cert-manager for one Secret it serves the first only, so one
/// asks, for all hosts.
#[test]
fn one_certificate_serves_every_host_and_is_asked_for_once() {
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
        let asking: Vec<_> = ingresses
            .iter()
            .filter(|ingress| {
                ingress
                    .annotation("cert-manager.io/cluster-issuer")
                    .is_some()
            })
            .collect();
        let expected = usize::from(["staging", "production"].contains(&environment));
        assert_eq!(asking.len(), expected, "{environment}");
        for ingress in asking {
            assert_eq!(hosts(ingress), all, "{environment}");
        }
    }
}

/// `harness.toml`, as far as it concerns routes.
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

/// The local target's router stands in for the ingress: both must route alike.
#[test]
fn routes_are_those_of_the_local_target() {
    let manifests = Render::of("local").manifests();
    let mut chart: Vec<Route> = manifests
        .of("Ingress")
        .flat_map(|ingress| {
            let rewrite = ingress.annotation(&format!("{NGINX}rewrite-target"));
            paths(ingress).into_iter().map(move |(host, path)| Route {
                host: host.to_owned(),
                path: path["path"].as_str().unwrap().to_owned(),
                path_type: path["pathType"].as_str().unwrap().to_owned(),
                rewrite: rewrite.map(str::to_owned),
                service: path["backend"]["service"]["name"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            })
        })
        .collect();
    let text = std::fs::read_to_string(workspace().join("harness.toml")).unwrap();
    let mut local = toml::from_str::<Configuration>(&text).unwrap().routes;
    chart.sort();
    local.sort();
    assert_eq!(chart, local);
}
