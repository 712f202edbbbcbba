//! Every stage, cut short in every way.

use nix::sys::signal::Signal;

use super::{ClusterRig, SOON};
use crate::rig::{Course, E2E_ON_KIND};

/// When the blow comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The network is about to be made.
    Network,
    /// kind has the engine make the node.
    Node,
    /// The images are on their way to the node.
    Images,
    /// helm is at work.
    Helm,
    /// The platform is being proven.
    Verify,
    /// All is being taken down.
    Teardown,
}

impl Moment {
    /// The stage that it belongs to.
    fn stage(self) -> &'static str {
        match self {
            Moment::Network | Moment::Node | Moment::Images => "provision",
            Moment::Helm => "deploy",
            Moment::Verify => "verify",
            Moment::Teardown => "teardown",
        }
    }

    fn comes(self, course: &mut Course<'_>) {
        match self {
            Moment::Network => course.finds_in_ledger("\"kind\":\"network\""),
            Moment::Node => drop(course.starts("docker run ")),
            Moment::Images => course.sees_in_node("images import "),
            Moment::Helm => drop(course.starts("helm upgrade ")),
            Moment::Verify | Moment::Teardown => course.reaches(self.stage()),
        }
    }
}

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Command(Signal),
    /// SIGKILL.
    Supervisor,
    /// SIGKILL: nobody is left who could clean up.
    Both,
}

/// Brings a run to the moment, deals the blow, and checks what is said and what is left.
async fn strike(moment: Moment, blow: Blow) {
    println!("{blow:?} at {moment:?}");
    let cluster = ClusterRig::new().await;
    let rig = &cluster.rig;
    let mut course = rig.spawn(&E2E_ON_KIND);
    moment.comes(&mut course);
    let traces = cluster.traces().await;
    if blow != Blow::Both {
        deal(blow, &cluster, &course);
    } else {
        deal(Blow::Supervisor, &cluster, &course);
        deal(Blow::Command(Signal::SIGKILL), &cluster, &course);
    }
    let ended = course.ends_within(SOON);
    let expected = match blow {
        Blow::Command(Signal::SIGINT) => Some(130),
        Blow::Command(Signal::SIGTERM) => Some(143),
        Blow::Supervisor => Some(3),
        Blow::Command(_) | Blow::Both => None,
    };
    assert_eq!(ended.status.code(), expected, "{}", ended.stderr);
    if let Some(code) = expected {
        let last = rig.events("e2e").pop().unwrap();
        assert_eq!(last["event"], "run-finished", "{last}");
        assert_eq!(last["exit_code"], code);
        ended.expect_words(&match blow {
            Blow::Supervisor => "it ended with signal 9 (SIGKILL)".to_owned(),
            _ => format!("A signal ended the run during {}", moment.stage()),
        });
        // It said that it cleaned up.
        assert_eq!(cluster.in_engine(&traces.volumes).await, [] as [String; 0]);
    }
    cluster.leaves_nothing(traces).await;
}

fn deal(blow: Blow, cluster: &ClusterRig, course: &Course<'_>) {
    match blow {
        Blow::Command(signal) => course.signal(signal),
        Blow::Supervisor | Blow::Both => cluster.rig.supervisor().signal(Signal::SIGKILL),
    }
}

#[tokio::test]
async fn sigint_takes_everything_down_first() {
    for moment in [Moment::Node, Moment::Verify] {
        strike(moment, Blow::Command(Signal::SIGINT)).await;
    }
}

#[tokio::test]
async fn sigterm_takes_everything_down_first() {
    for moment in [Moment::Network, Moment::Helm] {
        strike(moment, Blow::Command(Signal::SIGTERM)).await;
    }
}

#[tokio::test]
async fn sigkill_of_the_command_leaves_the_rest_to_the_supervisor() {
    strike(Moment::Images, Blow::Command(Signal::SIGKILL)).await;
}

#[tokio::test]
async fn sigkill_of_the_supervisor_leaves_the_rest_to_the_command() {
    strike(Moment::Node, Blow::Supervisor).await;
}

#[tokio::test]
async fn what_nobody_could_clean_up_is_found_by_down() {
    for moment in [Moment::Network, Moment::Node, Moment::Helm] {
        strike(moment, Blow::Both).await;
    }
}

#[tokio::test]
async fn so_is_what_was_being_taken_down() {
    strike(Moment::Teardown, Blow::Both).await;
}
