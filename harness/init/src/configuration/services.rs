//! `[services]`.

use super::key;
use crate::draft::Draft;
use crate::inventory::{FoundContainer, FoundPods, FoundPort, FoundService, Inventory};

pub(super) fn write(draft: &mut Draft, inventory: &Inventory) {
    for service in &inventory.services {
        draft.blank();
        let ports: Vec<String> = service.ports.iter().map(port).collect();
        draft.comment(&format!(
            "Service {}: port {}",
            service.name,
            ports.join(", ")
        ));
        for pods in &service.pods {
            describe(draft, pods);
        }
        if service.blue_green {
            draft.comment(
                "The chart releases it blue-green (docs/blue-green.md): list the paths that a new \
                 version must answer in smoke.",
            );
        }
        let table = format!("[services.{}]\n", key(&service.name));
        match set_aside(service, inventory) {
            Some(reason) => {
                draft.comment(&reason);
                draft.example(&table);
            }
            None => draft.table(&table),
        }
    }
}

/// Why a Service is no service of the platform, if it is none.
fn set_aside(service: &FoundService, inventory: &Inventory) -> Option<String> {
    let is_routed = inventory.routes.iter().any(|it| it.service == service.name);
    if is_routed {
        return None;
    }
    if let Some(backing) = service.backing {
        return Some(format!(
            "Left out, because it is the platform's own {backing}, and no route leads to it:"
        ));
    }
    let other = service.same_pods_as.as_ref()?;
    Some(format!(
        "Left out, because its pods are those of {other}, and no route leads to it:"
    ))
}

fn port(port: &FoundPort) -> String {
    let name = port.name.iter().map(|it| format!(" ({it})"));
    let name: String = name.collect();
    match port.target == port.port.to_string() || Some(&port.target) == port.name.as_ref() {
        true => format!("{}{name}", port.port),
        false => format!("{}{name} to {}", port.port, port.target),
    }
}

fn describe(draft: &mut Draft, pods: &FoundPods) {
    let replicas = pods.replicas.iter().map(|it| match it.as_str() {
        "1" => ", 1 pod".to_owned(),
        replicas => format!(", {replicas} pods"),
    });
    let replicas: String = replicas.collect();
    draft.comment(&format!("{}{replicas}", pods.workload));
    for container in &pods.containers {
        draft.comment(&describe_container(container));
    }
}

fn describe_container(container: &FoundContainer) -> String {
    let FoundContainer {
        name,
        image,
        probes,
        ..
    } = container;
    let probes = probes
        .iter()
        .map(|it| format!("; {}: {}", it.purpose, it.action));
    let probes: String = probes.collect();
    match probes.is_empty() {
        true => format!("container {name}: {image}; no probe"),
        false => format!("container {name}: {image}{probes}"),
    }
}
