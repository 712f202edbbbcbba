//! The add-ons that a cluster needs: the ingress controller and metrics-server.

use super::helm::{Render, workspace};
use super::manifests::{Manifests, Object, labels, list};
use super::security::violations;
use super::types::unknown_fields;

const INGRESS: &str = "ingress/traefik.yaml";
const METRICS: &str = "metrics-server/metrics-server.yaml";

/// Each file, with its placeholder for the image's reference.
const ADDONS: [(&str, &str); 2] = [
    (INGRESS, "${INGRESS_IMAGE}"),
    (METRICS, "${METRICS_SERVER_IMAGE}"),
];

fn read(file: &str) -> Manifests {
    let file = workspace().join("fixtures/k8s-manifests").join(file);
    Manifests::parse(&std::fs::read_to_string(file).unwrap())
}

fn arguments(workload: &Object) -> Vec<&str> {
    let arguments = workload.list("/spec/template/spec/containers/0/args");
    let arguments = arguments.iter().map(|value| value.as_str().unwrap());
    arguments.collect()
}

#[test]
fn every_addon_has_its_type_and_no_field_that_kubernetes_drops() {
    for (file, _) in ADDONS {
        for object in read(file).all() {
            assert_eq!(unknown_fields(object), Ok(vec![]), "{}", object.title());
        }
    }
}

#[test]
fn the_image_is_a_placeholder_and_is_pulled_once() {
    for (file, placeholder) in ADDONS {
        let manifests = read(file);
        let workloads: Vec<_> = manifests.workloads().collect();
        let [workload] = workloads[..] else {
            panic!("{file}: {} workloads", workloads.len());
        };
        assert_eq!(workload.container()["image"], placeholder);
        assert_eq!(workload.container()["imagePullPolicy"], "IfNotPresent");
    }
}

/// They need a token for the API server.
#[test]
fn pods_of_addons_satisfy_the_restricted_standard_but_for_the_token() {
    for (file, _) in ADDONS {
        for workload in read(file).workloads() {
            assert_eq!(violations(workload.pod()), ["an API token is mounted"]);
        }
    }
}

#[test]
fn services_of_addons_select_their_pods_and_target_their_ports() {
    for (file, _) in ADDONS {
        let manifests = read(file);
        for service in manifests.of("Service") {
            let selected = manifests.selected(&labels(service.at("/spec/selector")));
            let [workload] = selected[..] else {
                panic!("{}: selects {}", service.title(), selected.len());
            };
            for port in service.list("/spec/ports") {
                let target = workload.container_port(&port["targetPort"]);
                assert!(target.is_some(), "{} {port}", service.title());
            }
        }
    }
}

/// The chart's network policies allow the controller's namespace, and its Ingresses name the class
/// that the controller watches.
#[test]
fn the_chart_and_the_ingress_controller_agree() {
    let manifests = read(INGRESS);
    let [class] = manifests.of("IngressClass").collect::<Vec<_>>()[..] else {
        panic!("one class");
    };
    let controller = class.at("/spec/controller").as_str().unwrap();
    let deployment = manifests.of("Deployment").next().unwrap();
    let namespace = deployment.at("/metadata/namespace").as_str().unwrap();
    let chart = Render::of("local").manifests();
    for ingress in chart.of("Ingress") {
        assert_eq!(*ingress.at("/spec/ingressClassName"), class.name());
        let policy = chart.get("NetworkPolicy", ingress.name()).unwrap();
        // Monitoring is allowed, too.
        let allowed = policy.list("/spec/ingress").iter();
        let peers = allowed.flat_map(|rule| list(&rule["from"]));
        let mut namespaces = peers
            .map(|peer| &peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]);
        assert!(
            namespaces.any(|name| name == namespace),
            "{}",
            policy.title()
        );
    }
    let arguments = arguments(deployment);
    let watched = format!("--providers.kubernetesingressnginx.controllerclass={controller}");
    assert!(arguments.contains(&watched.as_str()), "{arguments:?}");
}

/// Without the client's address, the limit of each client is one limit for all.
#[test]
fn the_clients_address_is_kept_and_the_node_that_answers_has_the_controller() {
    let manifests = read(INGRESS);
    let service = manifests.of("Service").next().unwrap();
    assert_eq!(*service.at("/spec/externalTrafficPolicy"), "Local");
    let pod = manifests.of("Deployment").next().unwrap().pod();
    let role = "node-role.kubernetes.io/control-plane";
    assert_eq!(pod["nodeSelector"][role], "");
    assert_eq!(pod["tolerations"][0]["key"], role);
}
