use proptest::prelude::*;

use super::super::chart::{self, Role};
use super::*;
use crate::local::process::Listening;
use blue_green::Colour;
use kubernetes::in_memory_api::patch::PatchKind;
use kubernetes::rollout::{Rollout, state_of};
use kubernetes::workloads::Workloads;

const SERVICE: &str = "market-data-service";

/// The desired state: this number of blue pods, and no green ones.
fn cluster(replicas: u32) -> LocalCluster {
    let mut cluster = LocalCluster::default();
    for (colour, replicas) in [(Colour::Blue, replicas), (Colour::Green, 0)] {
        let deployment = chart::deployment(SERVICE, colour, "v1", replicas, None);
        cluster.store.create("deployments", deployment).unwrap();
    }
    for (role, colour) in Role::ALL.into_iter().zip(Colour::ALL) {
        let service = chart::service(SERVICE, role, colour, 1);
        cluster.store.create("services", service).unwrap();
        let name = role.name(SERVICE);
        cluster.backends.insert(name, Endpoints::default());
    }
    cluster
}

fn change(cluster: &mut LocalCluster, resource: &str, name: &str, changes: Value) {
    let changed = cluster
        .store
        .patch(resource, name, PatchKind::Strategic, &changes);
    changed.unwrap();
}

fn scale(cluster: &mut LocalCluster, colour: Colour, replicas: u32) {
    let name = format!("{SERVICE}-{colour}");
    let changes = json!({"spec": {"replicas": replicas}});
    change(cluster, "deployments", &name, changes);
}

fn release(cluster: &mut LocalCluster, colour: Colour, version: &str) {
    let name = format!("{SERVICE}-{colour}");
    let container = json!({"name": SERVICE, "image": format!("x:{version}")});
    let changes = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    change(cluster, "deployments", &name, changes);
}

/// Makes every pod ready, each on its own port.
fn all_ready(cluster: &mut LocalCluster) {
    for (port, pod) in (1..).zip(&mut cluster.pods) {
        pod.state = State::Running {
            listening: Listening {
                address: ([127, 0, 0, 1], port).into(),
                metrics: Some(([127, 0, 0, 1], port + 1000).into()),
            },
            ready: true,
            failure: None,
        };
    }
}

/// Removes the terminating pods.
fn all_ended(cluster: &mut LocalCluster) {
    cluster.pods.retain(|pod| pod.ending.is_none());
}

fn staying(cluster: &LocalCluster) -> Vec<&str> {
    let staying = cluster.pods.iter().filter(|pod| pod.ending.is_none());
    staying.map(|pod| pod.name.as_str()).collect()
}

fn workloads(cluster: &LocalCluster) -> Workloads {
    let list = |resource| Value::Array(cluster.list(resource).unwrap());
    Workloads {
        deployments: serde_json::from_value(list("deployments")).unwrap(),
        replica_sets: serde_json::from_value(list("replicasets")).unwrap(),
        pods: serde_json::from_value(list("pods")).unwrap(),
        ..Workloads::default()
    }
}

fn are_complete(cluster: &LocalCluster) -> bool {
    let workloads = workloads(cluster);
    let mut all = workloads.deployments.iter();
    all.all(|it| state_of(&workloads, it) == Rollout::Complete)
}

#[test]
fn unready_pods_end_first_then_the_youngest() {
    let mut cluster = cluster(3);
    assert_eq!(cluster.settle().len(), 3);
    assert!(!are_complete(&cluster));
    all_ready(&mut cluster);
    cluster.pods[0].state = State::Starting;
    scale(&mut cluster, Colour::Blue, 1);
    assert!(cluster.settle().is_empty());
    assert_eq!(staying(&cluster), ["market-data-service-blue-1-2"]);
    assert!(cluster.pods[0].end.is_cancelled() && !cluster.pods[1].end.is_cancelled());
    assert!(are_complete(&cluster));
}

#[test]
fn pods_of_an_earlier_template_stay_until_there_are_enough_of_the_new_one() {
    let mut cluster = cluster(2);
    cluster.settle();
    all_ready(&mut cluster);
    cluster.settle();
    release(&mut cluster, Colour::Blue, "v2");
    assert_eq!(cluster.settle().len(), 2);
    assert_eq!(staying(&cluster).len(), 4);
    assert!(!are_complete(&cluster));
    all_ready(&mut cluster);
    cluster.settle();
    assert_eq!(
        staying(&cluster),
        [
            "market-data-service-blue-2-3",
            "market-data-service-blue-2-4"
        ]
    );
    assert!(are_complete(&cluster));
}

#[test]
fn traffic_moves_in_one_step_and_only_to_ready_pods() {
    let mut cluster = cluster(1);
    scale(&mut cluster, Colour::Green, 1);
    cluster.settle();
    let Endpoints {
        http: active,
        metrics,
    } = cluster.backends[SERVICE].clone();
    assert_eq!(active.next(), None);
    all_ready(&mut cluster);
    cluster.settle();
    let [blue, green] = [1, 2].map(|port| Some(([127, 0, 0, 1], port).into()));
    assert_eq!([(); 2].map(|()| active.next()), [blue; 2]);
    assert_eq!(metrics.next(), Some(([127, 0, 0, 1], 1001).into()));
    let select = |track: Value| json!({"spec": {"selector": {"trii.co/track": track}}});
    change(&mut cluster, "services", SERVICE, select(json!("green")));
    cluster.settle();
    assert_eq!([(); 2].map(|()| active.next()), [green; 2]);
    // Without a track, it selects both colours.
    change(&mut cluster, "services", SERVICE, select(Value::Null));
    cluster.settle();
    let mut both = [(); 2].map(|()| active.next());
    both.sort();
    assert_eq!(both, [blue, green]);
    scale(&mut cluster, Colour::Green, 0);
    cluster.settle();
    assert_eq!([(); 2].map(|()| active.next()), [blue; 2]);
}

#[test]
fn only_the_end_of_a_pod_with_traffic_is_a_loss() {
    let mut cluster = cluster(1);
    scale(&mut cluster, Colour::Green, 1);
    cluster.settle();
    let may_end = |it: &LocalCluster| [0, 1].map(|at| it.may_end(&it.pods[at], SERVICE));
    assert_eq!(may_end(&cluster), [false, true]);
    scale(&mut cluster, Colour::Blue, 0);
    cluster.settle();
    assert_eq!(may_end(&cluster), [true, true]);
}

#[test]
fn a_pod_that_cannot_start_is_reported_as_by_a_kubelet() {
    let mut cluster = cluster(1);
    cluster.settle();
    let message = "versions/v1: not found".to_owned();
    let reason = "ErrImagePull";
    cluster.pods[0].state = State::Waiting { reason, message };
    let workloads = workloads(&cluster);
    let Rollout::Stuck(problem) = state_of(&workloads, &workloads.deployments[0]) else {
        panic!("{workloads:?}");
    };
    assert!(problem.to_string().contains("not found"), "{problem}");
    let listening = Listening {
        address: ([127, 0, 0, 1], 1).into(),
        metrics: Some(([127, 0, 0, 1], 2).into()),
    };
    let failure = Some("HTTP probe failed with statuscode: 503".to_owned());
    cluster.pods[0].state = State::Running {
        listening,
        ready: false,
        failure,
    };
    let event = &cluster.list("events").unwrap()[0];
    assert_eq!(
        event["message"],
        "Readiness probe failed: HTTP probe failed with statuscode: 503"
    );
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Scale(Colour, u32),
    Template(Colour, u32),
    Ready,
    Ended,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let colour = || prop_oneof![Just(Colour::Blue), Just(Colour::Green)];
    let change = prop_oneof![
        (colour(), 0..4u32).prop_map(|(colour, replicas)| Change::Scale(colour, replicas)),
        (colour(), 0..9u32).prop_map(|(colour, version)| Change::Template(colour, version)),
        Just(Change::Ready),
        Just(Change::Ended),
    ];
    prop::collection::vec(change, 0..12)
}

proptest! {
    #[test]
    fn the_actual_state_becomes_the_desired_state(changes in changes()) {
        let mut cluster = cluster(1);
        for change in changes {
            match change {
                Change::Scale(colour, replicas) => scale(&mut cluster, colour, replicas),
                Change::Template(colour, version) => {
                    release(&mut cluster, colour, &format!("v{version}"));
                }
                Change::Ready => all_ready(&mut cluster),
                Change::Ended => all_ended(&mut cluster),
            }
            cluster.settle();
        }
        cluster.settle();
        all_ready(&mut cluster);
        cluster.settle();
        all_ended(&mut cluster);
        prop_assert!(cluster.settle().is_empty());
        prop_assert!(are_complete(&cluster));
        let mut names: Vec<_> = cluster.pods.iter().map(|pod| &pod.name).collect();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), cluster.pods.len());
    }
}
