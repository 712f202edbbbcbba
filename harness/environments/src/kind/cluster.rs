//! A cluster of the `kind` CLI, with its own kubeconfig and with ports on 127.0.0.1 only.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::network::Network;
use crate::bring_up::{Context, UpError};
use crate::config::KindTarget;
use base::ledger::Resource;
use base::process::{Program, Reach, variables};
use base::run::event::Stage;
use base::wait::{self, Observation};
use machine::containers::published;
use machine::engine::Engine;
use machine::engine::machine::EngineMachine;
use machine::images::exec;
use machine::provision::oci_runtime;

/// The ingress' HTTPS port on a node: `fixtures/k8s-manifests/ingress`.
const INGRESS_NODE_PORT: u16 = 30443;

const KIND: &str = "kind";
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A cluster whose API server answers; its nodes may not be ready yet.
pub struct KindCluster {
    /// Its name.
    pub name: String,
    /// The node that runs the control plane.
    pub control_plane: String,
    /// A kubeconfig with an administrator's credentials.
    pub kubeconfig: PathBuf,
    /// The context in it.
    pub context: String,
    /// The ingress' address, once it is installed.
    pub ingress: SocketAddr,
}

/// Creates a cluster on `network`, with the network's name.
pub async fn create(
    context: &Context<'_>,
    engine: &Engine,
    kind: &Path,
    target: &KindTarget,
    image: &str,
    network: &Network,
) -> Result<KindCluster, UpError> {
    let begun = Instant::now();
    let name = network.name.as_str();
    let folder = context.folder.path();
    let config = folder.join("kind.json");
    let text = configuration(engine, target).await?;
    std::fs::write(&config, text).map_err(UpError::system("write kind's configuration"))?;
    let kubeconfig = folder.join("kubeconfig");
    let resource = Resource::Cluster {
        name: name.to_owned(),
        engine: engine.host.clone(),
    };
    context.owned.adopt(resource, engine).await?;
    let flags = [
        "create", "cluster", "--name", name, "--image", image, "--retain",
    ];
    let mut arguments: Vec<_> = flags.map(Into::into).into();
    arguments.extend(["--config".into(), config.into_os_string()]);
    arguments.extend(["--kubeconfig".into(), kubeconfig.clone().into_os_string()]);
    let child = Program {
        arguments,
        environment: variables(environment(engine, name)),
        // An interrupted `docker run` would still create its container.
        stop_reaches: Reach::Program,
        ..context.child(KIND, kind)
    };
    context.owned.start(&child).await?;
    context.progress(Stage::Provision, "creating the cluster");
    context.finished(KIND, context.deadlines.cluster).await?;
    let control_plane = control_plane(name);
    let ingress = published(engine, &control_plane, INGRESS_NODE_PORT).await;
    let failed = UpError::engine(format!("report where {control_plane} listens"));
    let ingress = ingress.map_err(failed)?;
    context.step(Stage::Provision, "the cluster's API server answers", begun);
    Ok(KindCluster {
        name: name.to_owned(),
        control_plane,
        kubeconfig,
        context: format!("kind-{name}"),
        ingress: ingress.parse().map_err(|_| UpError::Engine {
            what: format!("report where the ingress of {name} listens"),
            reason: format!("it reports {ingress}"),
        })?,
    })
}

/// Waits until the nodes accept images: kind restarts containerd before kubeadm starts the control
/// plane.
pub async fn nodes_take_images(
    context: &Context<'_>,
    engine: &Engine,
    name: &str,
) -> Result<(), UpError> {
    const STARTED: [&str; 2] = ["ls", "/etc/kubernetes/manifests/kube-apiserver.yaml"];
    // On a busy machine kubeadm starts before containerd answers again.
    const ANSWERS: [&str; 2] = ["crictl", "version"];
    let node = control_plane(name);
    let ready = wait::until(
        "kubeadm starts the control plane",
        context.deadlines.cluster,
        LOOK_EVERY,
        async || {
            for command in [STARTED, ANSWERS] {
                if let Err(error) = exec::run(engine, &node, &command, None).await {
                    return Observation::NotYet(error.to_string());
                }
            }
            Observation::Ready(())
        },
    );
    ready
        .await
        .map_err(UpError::wait(KIND, Some(context.log(KIND))))
}

/// Returns the name of the control plane's node.
pub fn control_plane(cluster: &str) -> String {
    format!("{cluster}-control-plane")
}

/// The variables of kind and of the `docker` that it calls.
fn environment(engine: &Engine, network: &str) -> Vec<(String, String)> {
    let fixed = [
        // Without it, kind may choose podman.
        ("KIND_EXPERIMENTAL_PROVIDER", "docker"),
        ("KIND_EXPERIMENTAL_DOCKER_NETWORK", network),
    ];
    let fixed = fixed.map(|(name, value)| (name, value.to_owned()));
    let all = engine.export_env().into_iter().chain(fixed);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The properties of the engine's machine that a node's configuration depends on.
struct Host {
    cgroup_v1: bool,
    lacks_capabilities: bool,
}

async fn host(engine: &Engine) -> Result<Host, UpError> {
    let machine = EngineMachine::of(engine).await;
    let machine = machine.map_err(UpError::engine("describe itself"))?;
    Ok(Host {
        cgroup_v1: machine.cgroup_v1,
        lacks_capabilities: oci_runtime::state(Some(&machine))
            != oci_runtime::RuntimeState::NotNeeded,
    })
}

/// Returns the configuration for `kind create cluster --config`: the target's nodes and port, with
/// the patches for the engine's machine. It is JSON, which is YAML.
///
/// # Errors
/// The engine does not describe itself.
pub async fn configuration(engine: &Engine, target: &KindTarget) -> Result<String, UpError> {
    Ok(config_for(target, &host(engine).await?).to_string())
}

/// See kind.sigs.k8s.io, "Configuration".
fn config_for(target: &KindTarget, host: &Host) -> Value {
    let control_plane = json!({
        "role": "control-plane",
        "extraPortMappings": [{
            "listenAddress": Ipv4Addr::LOCALHOST,
            "hostPort": target.ingress_port,
            "containerPort": INGRESS_NODE_PORT,
        }],
    });
    let workers = (1..target.nodes).map(|_| json!({"role": "worker"}));
    let nodes: Vec<Value> = std::iter::once(control_plane).chain(workers).collect();
    let mut config = json!({
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"apiServerAddress": Ipv4Addr::LOCALHOST},
        "nodes": nodes,
    });
    if host.cgroup_v1 {
        // Without it, the kubelet refuses to start from 1.35 on.
        let patch = json!({"kind": "KubeletConfiguration", "failCgroupV1": false});
        config["kubeadmConfigPatches"] = json!([patch.to_string()]);
    }
    if host.lacks_capabilities {
        // To lower an oom_score_adj, a process needs CAP_SYS_RESOURCE (proc(5)).
        let patch = "[plugins.\"io.containerd.grpc.v1.cri\"]\n  restrict_oom_score_adj = true\n";
        config["containerdConfigPatches"] = json!([patch]);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNRESTRICTED: Host = Host {
        cgroup_v1: false,
        lacks_capabilities: false,
    };

    fn target(nodes: u16) -> KindTarget {
        KindTarget {
            kubernetes: "1.37".into(),
            nodes,
            ingress_port: 8443,
            namespace: "trii-platform".into(),
            values: Vec::new(),
            set: serde_json::Map::new(),
            service_env: None,
        }
    }

    #[test]
    fn ports_are_bound_to_the_loopback_interface() {
        let config = config_for(&target(3), &UNRESTRICTED);
        assert_eq!(config["networking"]["apiServerAddress"], "127.0.0.1");
        let nodes = config["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 3);
        let ports = &nodes[0]["extraPortMappings"];
        assert_eq!(ports[0]["listenAddress"], "127.0.0.1");
        assert_eq!(ports[0]["hostPort"], 8443);
        assert!(nodes[1].get("extraPortMappings").is_none());
    }

    #[test]
    fn only_a_restricted_machine_needs_patches() {
        let restricted = Host {
            cgroup_v1: true,
            lacks_capabilities: true,
        };
        let patches = ["kubeadmConfigPatches", "containerdConfigPatches"];
        for patch in patches {
            assert!(config_for(&target(1), &UNRESTRICTED).get(patch).is_none());
            assert!(config_for(&target(1), &restricted).get(patch).is_some());
        }
    }
}
