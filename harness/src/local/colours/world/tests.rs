use proptest::prelude::*;

use super::super::chart::{self, Role};
use super::*;
use crate::api_server::patch::Kind;
use crate::blue_green::Colour;
use crate::cluster::rollout::{Rollout, judge};
use crate::cluster::workloads::Workloads;
use crate::local::services::Listening;
use crate::service::Service;

const SERVICE: Service = Service::MarketDataService;

/// Blue is wanted with so many pods, green with none.
fn world(replicas: u32) -> World {
    let mut world = World::default();
    for (colour, replicas) in [(Colour::Blue, replicas), (Colour::Green, 0)] {
        let deployment = chart::deployment(SERVICE, colour, "v1", replicas);
        world.store.create("deployments", deployment).unwrap();
    }
    for (role, colour) in Role::ALL.into_iter().zip(Colour::ALL) {
        let service = chart::service(SERVICE, role, colour, 1);
        world.store.create("services", service).unwrap();
        let name = role.name(SERVICE);
        world.backends.insert(name, Behind::default());
    }
    world
}

fn change(world: &mut World, resource: &str, name: &str, changes: Value) {
    let changed = world.store.patch(resource, name, Kind::Strategic, &changes);
    changed.unwrap();
}

fn scale(world: &mut World, colour: Colour, replicas: u32) {
    let name = format!("{SERVICE}-{colour}");
    let changes = json!({"spec": {"replicas": replicas}});
    change(world, "deployments", &name, changes);
}

fn release(world: &mut World, colour: Colour, version: &str) {
    let name = format!("{SERVICE}-{colour}");
    let container = json!({"name": SERVICE.name(), "image": format!("x:{version}")});
    let changes = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    change(world, "deployments", &name, changes);
}

/// Every pod that has begun is ready: each on a port of its own.
fn all_ready(world: &mut World) {
    for (port, pod) in (1..).zip(&mut world.pods) {
        pod.state = State::Running {
            listening: Listening {
                address: ([127, 0, 0, 1], port).into(),
                metrics: ([127, 0, 0, 1], port + 1000).into(),
            },
            ready: true,
            failure: None,
        };
    }
}

/// Those that are on their way out are gone.
fn all_ended(world: &mut World) {
    world.pods.retain(|pod| pod.ending.is_none());
}

fn staying(world: &World) -> Vec<&str> {
    let staying = world.pods.iter().filter(|pod| pod.ending.is_none());
    staying.map(|pod| pod.name.as_str()).collect()
}

fn workloads(world: &World) -> Workloads {
    let list = |resource| Value::Array(world.list(resource).unwrap());
    Workloads {
        deployments: serde_json::from_value(list("deployments")).unwrap(),
        replica_sets: serde_json::from_value(list("replicasets")).unwrap(),
        jobs: Vec::new(),
        pods: serde_json::from_value(list("pods")).unwrap(),
    }
}

fn are_complete(world: &World) -> bool {
    let workloads = workloads(world);
    let mut all = workloads.deployments.iter();
    all.all(|it| judge(&workloads, it) == Rollout::Complete)
}

#[test]
fn the_youngest_go_first_and_before_them_what_is_not_ready() {
    let mut world = world(3);
    assert_eq!(world.settle().len(), 3);
    assert!(!are_complete(&world));
    all_ready(&mut world);
    world.pods[0].state = State::Starting;
    scale(&mut world, Colour::Blue, 1);
    assert!(world.settle().is_empty());
    assert_eq!(staying(&world), ["market-data-service-blue-1-2"]);
    assert!(world.pods[0].end.is_cancelled() && !world.pods[1].end.is_cancelled());
    assert!(are_complete(&world));
}

#[test]
fn pods_of_an_earlier_template_stay_until_there_are_enough_of_the_new_one() {
    let mut world = world(2);
    world.settle();
    all_ready(&mut world);
    world.settle();
    release(&mut world, Colour::Blue, "v2");
    assert_eq!(world.settle().len(), 2);
    assert_eq!(staying(&world).len(), 4);
    assert!(!are_complete(&world));
    all_ready(&mut world);
    world.settle();
    assert_eq!(
        staying(&world),
        [
            "market-data-service-blue-2-3",
            "market-data-service-blue-2-4"
        ]
    );
    assert!(are_complete(&world));
}

#[test]
fn traffic_moves_in_one_step_and_only_to_what_is_ready() {
    let mut world = world(1);
    scale(&mut world, Colour::Green, 1);
    world.settle();
    let Behind {
        http: active,
        metrics,
    } = world.backends[SERVICE.name()].clone();
    assert_eq!(active.next(), None);
    all_ready(&mut world);
    world.settle();
    let [blue, green] = [1, 2].map(|port| Some(([127, 0, 0, 1], port).into()));
    assert_eq!([(); 2].map(|()| active.next()), [blue; 2]);
    assert_eq!(metrics.next(), Some(([127, 0, 0, 1], 1001).into()));
    let select = |track: Value| json!({"spec": {"selector": {"trii.co/track": track}}});
    change(
        &mut world,
        "services",
        SERVICE.name(),
        select(json!("green")),
    );
    world.settle();
    assert_eq!([(); 2].map(|()| active.next()), [green; 2]);
    // Whoever takes the track out of it has both.
    change(&mut world, "services", SERVICE.name(), select(Value::Null));
    world.settle();
    let mut both = [(); 2].map(|()| active.next());
    both.sort();
    assert_eq!(both, [blue, green]);
    scale(&mut world, Colour::Green, 0);
    world.settle();
    assert_eq!([(); 2].map(|()| active.next()), [blue; 2]);
}

#[test]
fn only_the_end_of_what_users_are_led_to_is_a_loss() {
    let mut world = world(1);
    scale(&mut world, Colour::Green, 1);
    world.settle();
    let may_end = |world: &World| [0, 1].map(|at| world.may_end(&world.pods[at], SERVICE.name()));
    assert_eq!(may_end(&world), [false, true]);
    scale(&mut world, Colour::Blue, 0);
    world.settle();
    assert_eq!(may_end(&world), [true, true]);
}

#[test]
fn a_pod_that_cannot_be_is_told_as_a_kubelet_tells_it() {
    let mut world = world(1);
    world.settle();
    let message = "versions/v1: not found".to_owned();
    let reason = "ErrImagePull";
    world.pods[0].state = State::Waiting { reason, message };
    let seen = workloads(&world);
    let Rollout::Stuck(trouble) = judge(&seen, &seen.deployments[0]) else {
        panic!("{seen:?}");
    };
    assert!(trouble.to_string().contains("not found"), "{trouble}");
    let listening = Listening {
        address: ([127, 0, 0, 1], 1).into(),
        metrics: ([127, 0, 0, 1], 2).into(),
    };
    let failure = Some("HTTP probe failed with statuscode: 503".to_owned());
    world.pods[0].state = State::Running {
        listening,
        ready: false,
        failure,
    };
    let event = &world.list("events").unwrap()[0];
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
    fn whatever_is_wanted_comes_to_be_and_nothing_else(changes in changes()) {
        let mut world = world(1);
        for change in changes {
            match change {
                Change::Scale(colour, replicas) => scale(&mut world, colour, replicas),
                Change::Template(colour, version) => {
                    release(&mut world, colour, &format!("v{version}"));
                }
                Change::Ready => all_ready(&mut world),
                Change::Ended => all_ended(&mut world),
            }
            world.settle();
        }
        world.settle();
        all_ready(&mut world);
        world.settle();
        all_ended(&mut world);
        prop_assert!(world.settle().is_empty());
        prop_assert!(are_complete(&world));
        let mut names: Vec<_> = world.pods.iter().map(|pod| &pod.name).collect();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), world.pods.len());
    }
}
