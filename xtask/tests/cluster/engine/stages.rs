//! Signals to the command and to the supervisor in every stage.

use nix::sys::signal::Signal;

use super::{ClusterRig, SOON};
use crate::rig::{E2E_ON_KIND, RunningCommand};

/// When the signal is sent.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Before the network is created.
    Network,
    /// kind creates the node.
    Node,
    /// The node imports images.
    Images,
    /// helm runs.
    Helm,
    /// Scenarios run.
    Verify,
    /// The environment is torn down.
    Teardown,
}

impl Moment {
    fn stage(self) -> &'static str {
        match self {
            Moment::Network | Moment::Node | Moment::Images => "provision",
            Moment::Helm => "deploy",
            Moment::Verify => "verify",
            Moment::Teardown => "teardown",
        }
    }

    fn comes(self, running: &mut RunningCommand<'_>) {
        match self {
            Moment::Network => running.records_in_ledger("\"kind\":\"network\""),
            Moment::Node => drop(running.starts("docker run ")),
            Moment::Images => running.starts_in_node("images import "),
            Moment::Helm => drop(running.starts("helm upgrade ")),
            Moment::Verify | Moment::Teardown => running.reaches(self.stage()),
        }
    }
}

/// What receives a signal.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Command(Signal),
    /// SIGKILL.
    Supervisor,
    /// SIGKILL: no process remains that could clean up.
    Both,
}

/// Sends the signal at this moment, and checks the output and what is left.
async fn strike(moment: Moment, blow: Blow) {
    println!("{blow:?} at {moment:?}");
    let cluster = ClusterRig::new().await;
    let rig = &cluster.rig;
    let mut running = rig.spawn(&E2E_ON_KIND);
    moment.comes(&mut running);
    let traces = cluster.traces().await;
    if matches!(blow, Blow::Supervisor | Blow::Both) {
        rig.supervisor().signal(Signal::SIGKILL);
    }
    match blow {
        Blow::Command(signal) => running.signal(signal),
        Blow::Both => running.signal(Signal::SIGKILL),
        Blow::Supervisor => {}
    }
    let ended = running.ends_within(SOON);
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
        ended.expect_stderr(&match blow {
            Blow::Supervisor => "it ended with signal 9 (SIGKILL)".to_owned(),
            _ => format!("A signal interrupted the run during {}", moment.stage()),
        });
        // The command has cleaned up.
        assert_eq!(cluster.in_engine(&traces.volumes).await, [] as [String; 0]);
    }
    cluster.leaves_nothing(traces).await;
}

#[tokio::test]
async fn sigint_tears_everything_down() {
    for moment in [Moment::Node, Moment::Verify] {
        strike(moment, Blow::Command(Signal::SIGINT)).await;
    }
}

#[tokio::test]
async fn sigterm_tears_everything_down() {
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
async fn down_finds_what_no_process_could_clean_up() {
    for moment in [Moment::Network, Moment::Node, Moment::Helm] {
        strike(moment, Blow::Both).await;
    }
}

#[tokio::test]
async fn down_finds_what_an_interrupted_teardown_leaves() {
    strike(Moment::Teardown, Blow::Both).await;
}
