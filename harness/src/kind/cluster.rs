//! A cluster by the `kind` CLI, with a kubeconfig of its own and ports on 127.0.0.1 only.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::query_parameters::ListContainersOptionsBuilder;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::network::{Network, containers_gone};
use crate::bring_up::containers::{NODE_PATIENCE, published, with_patience, within};
use crate::bring_up::{Context, UpError};
use crate::config::KindTarget;
use crate::engine::Engine;
use crate::engine::machine::EngineMachine;
use crate::images::exec;
use crate::ledger::Resource;
use crate::process::bound::{Program, Reach, describe, variables};
use crate::process::search;
use crate::provision::oci_runtime;
use crate::run::event::Stage;
use crate::wait::{self, Observation};

/// The label by which kind tells whose node a container is.
pub const KIND_CLUSTER: &str = "io.x-k8s.kind.cluster";

/// The port of a node at which the ingress speaks HTTPS: `fixtures/k8s-manifests/ingress`.
const INGRESS_NODE_PORT: u16 = 30443;

const KIND: &str = "kind";
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A cluster whose API server answers; its nodes may not be ready yet.
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// The node that runs the control plane.
    pub control_plane: String,
    /// Credentials of an administrator.
    pub kubeconfig: PathBuf,
    /// The context in it.
    pub context: String,
    /// Where the ingress will answer.
    pub ingress: SocketAddr,
}

/// Creates a cluster on `network`, under the network's name.
pub async fn create(
    context: &Context<'_>,
    engine: &Engine,
    kind: &Path,
    target: &KindTarget,
    image: &str,
    network: &Network,
) -> Result<Cluster, UpError> {
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
    context
        .owned
        .start(&Program {
            name: KIND.to_owned(),
            path: kind.to_owned(),
            arguments,
            environment: variables(environment(engine, name)),
            user: None,
            log: context.log(KIND),
            stop_signal: Signal::SIGTERM,
            // A `docker run` that is cut short leaves the engine at it; see `remove`.
            stop_reaches: Reach::Program,
            death_signal: Signal::SIGKILL,
            answer: None,
        })
        .await?;
    context.progress(Stage::Provision, "creating the cluster");
    let ended = context.owned.finish(KIND, context.deadlines.cluster);
    let ended = ended.await?;
    if !ended.success() {
        return Err(UpError::Ended {
            part: KIND.to_owned(),
            how: describe(ended),
            log: context.log(KIND),
        });
    }
    let control_plane = control_plane(name);
    let ingress = published(engine, &control_plane, INGRESS_NODE_PORT).await?;
    context.step(Stage::Provision, "the cluster's API server answers", begun);
    Ok(Cluster {
        name: name.to_owned(),
        control_plane,
        kubeconfig,
        context: format!("kind-{name}"),
        ingress: ingress.parse().map_err(|_| UpError::Engine {
            what: format!("tell where the ingress of {name} listens"),
            reason: format!("it says {ingress}"),
        })?,
    })
}

/// Waits until the nodes' containerd runs as it will: kind restarts it before it has
/// kubeadm start the control plane, of which this is the first trace.
pub async fn nodes_take_images(
    context: &Context<'_>,
    engine: &Engine,
    name: &str,
) -> Result<(), UpError> {
    const TRACE: [&str; 2] = ["ls", "/etc/kubernetes/manifests/kube-apiserver.yaml"];
    // On a busy machine kubeadm is there before containerd answers again.
    const ANSWERS: [&str; 2] = ["crictl", "version"];
    let node = control_plane(name);
    let ready = wait::until(
        "kubeadm starts the control plane",
        context.deadlines.cluster,
        LOOK_EVERY,
        async || {
            for command in [TRACE, ANSWERS] {
                if let Err(error) = exec::run(engine, &node, &command, None).await {
                    return Observation::NotYet(error.to_string());
                }
            }
            Observation::Ready(())
        },
    );
    ready.await.map_err(|wait| UpError::Wait {
        part: KIND.to_owned(),
        log: Some(context.log(KIND)),
        wait,
    })
}

/// The node of the control plane, as kind names it.
pub fn control_plane(cluster: &str) -> String {
    format!("{cluster}-control-plane")
}

/// Removes every node of the cluster, volumes included; one that is not there is removed.
///
/// By the engine alone: it needs no `kind`, and no kubeconfig is touched. A `docker run`
/// of kind's may outlive it, and would bring a node after the others are gone: its end is
/// waited for. It must not be killed, since the engine would go on without it.
pub async fn remove(engine: &Engine, name: &str) -> Result<(), String> {
    let label = format!("{KIND_CLUSTER}={name}");
    let removed = wait::until(
        "the cluster's nodes are gone",
        NODE_PATIENCE,
        LOOK_EVERY,
        async || {
            if let Some(creator) = search::with_argument(&label).first() {
                return Observation::NotYet(format!("{creator} still makes one"));
            }
            match containers_gone(engine, "label", &label).await {
                Ok(()) => Observation::Ready(()),
                Err(reason) => Observation::NotYet(reason),
            }
        },
    );
    let removed = within(NODE_PATIENCE, engine, removed).await?;
    removed.map_err(|error| error.to_string())
}

/// The containers that are this cluster's nodes, in whatever state.
///
/// # Errors
/// The engine's word.
pub async fn nodes(engine: &Engine, name: &str) -> Result<Vec<String>, String> {
    let filters = HashMap::from([("label", vec![format!("{KIND_CLUSTER}={name}")])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    let listed = with_patience(engine, engine.client().list_containers(Some(options))).await?;
    let listed = listed.map_err(|error| crate::chain(&error))?;
    let names = listed.into_iter().filter_map(|it| it.names).flatten();
    Ok(names
        .map(|name| name.trim_start_matches('/').to_owned())
        .collect())
}

/// What kind and the `docker` it calls need to know.
fn environment(engine: &Engine, network: &str) -> Vec<(String, String)> {
    let fixed = [
        // It would take podman where it finds that first.
        ("KIND_EXPERIMENTAL_PROVIDER", "docker"),
        ("KIND_EXPERIMENTAL_DOCKER_NETWORK", network),
    ];
    let fixed = fixed.map(|(name, value)| (name, value.to_owned()));
    let all = engine.export_env().into_iter().chain(fixed);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What of the engine's machine a node must be told.
struct Host {
    cgroup_v1: bool,
    lacks_capabilities: bool,
}

async fn host(engine: &Engine) -> Result<Host, UpError> {
    let machine = EngineMachine::of(engine).await;
    let machine = machine.map_err(|reason| UpError::Engine {
        what: "describe itself".into(),
        reason,
    })?;
    Ok(Host {
        cgroup_v1: machine.cgroup_v1,
        lacks_capabilities: oci_runtime::state(Some(&machine)) != oci_runtime::State::NotNeeded,
    })
}

/// What `kind create cluster --config` is told: the target's nodes and port, and what the
/// engine's machine takes a patch for. JSON is YAML.
///
/// # Errors
/// The engine does not describe itself.
pub async fn configuration(engine: &Engine, target: &KindTarget) -> Result<String, UpError> {
    Ok(config_for(target, &host(engine).await?).to_string())
}

/// As kind has it (kind.sigs.k8s.io, "Configuration").
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
        // From 1.35 on the kubelet refuses to start there otherwise.
        let patch = json!({"kind": "KubeletConfiguration", "failCgroupV1": false});
        config["kubeadmConfigPatches"] = json!([patch.to_string()]);
    }
    if host.lacks_capabilities {
        // Below its own value an oom_score_adj takes CAP_SYS_RESOURCE (proc(5)).
        let patch = "[plugins.\"io.containerd.grpc.v1.cri\"]\n  restrict_oom_score_adj = true\n";
        config["containerdConfigPatches"] = json!([patch]);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(nodes: u16) -> KindTarget {
        KindTarget {
            kubernetes: "1.37".into(),
            nodes,
            ingress_port: 8443,
            namespace: "trii-platform".into(),
            values: Vec::new(),
        }
    }

    #[test]
    fn ports_are_bound_to_the_loopback_interface() {
        let host = Host {
            cgroup_v1: false,
            lacks_capabilities: false,
        };
        let config = config_for(&target(3), &host);
        assert_eq!(config["networking"]["apiServerAddress"], "127.0.0.1");
        let nodes = config["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 3);
        let ports = &nodes[0]["extraPortMappings"];
        assert_eq!(ports[0]["listenAddress"], "127.0.0.1");
        assert_eq!(ports[0]["hostPort"], 8443);
        assert!(nodes[1].get("extraPortMappings").is_none());
    }

    #[test]
    fn a_machine_that_lacks_nothing_is_patched_nowhere() {
        let whole = Host {
            cgroup_v1: false,
            lacks_capabilities: false,
        };
        let reduced = Host {
            cgroup_v1: true,
            lacks_capabilities: true,
        };
        let patches = ["kubeadmConfigPatches", "containerdConfigPatches"];
        for patch in patches {
            assert!(config_for(&target(1), &whole).get(patch).is_none());
            assert!(config_for(&target(1), &reduced).get(patch).is_some());
        }
    }
}
