//! The lifecycle of a pod's process: start, probes, and graceful termination, as by a kubelet.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::pod::{Pod, State};
use crate::local::free_port;
use crate::local::process::{Listening, address};
use crate::local::readiness::accepts_connections;
use base::process::{Program, Reach, describe, variables};
use base::wait::{self, Observation};

/// How long a pod may take to listen: Kubernetes' default for `progressDeadlineSeconds`.
const LISTEN: Duration = Duration::from_secs(600);

/// The intervals of the checks: whether it has ended, until it is ready, and afterwards.
const END: Duration = Duration::from_millis(10);
const STARTUP: Duration = Duration::from_millis(50);
const PROBE: Duration = Duration::from_secs(1);

/// The probe failures in succession after which a ready pod is unready.
const FAILURES: u32 = 3;

/// Runs a pod until it has ended.
pub(super) async fn live(shared: Arc<Shared>, pod: Pod) {
    tokio::select! {
        () = pod.end.cancelled() => {}
        () = run(&shared, &pod) => pod.end.cancelled().await,
    }
    end(&shared, &pod).await;
    shared.forget(&pod);
}

/// Starts the process of a pod, and probes it until it exits.
async fn run(shared: &Arc<Shared>, pod: &Pod) {
    match start(shared, pod).await {
        Ok(listening) => watch(shared, pod, listening).await,
        Err(waiting) => {
            if !has_ended(shared, pod) {
                shared.set_state(pod, waiting);
            }
        }
    }
}

/// Starts the process of a pod, and waits until it listens.
async fn start(shared: &Shared, pod: &Pod) -> Result<Listening, State> {
    let program = shared.program(pod.version());
    // A retry would not help.
    let program = program.map_err(|message| State::Waiting {
        reason: "ErrImagePull",
        message,
    })?;
    let process = shared.process.clone().with([
        ("program", program.display().to_string()),
        ("version", pod.version().to_owned()),
        ("instance", pod.name.clone()),
    ]);
    let what = format!("{} listens", pod.name);
    let (child, of_template) = (child(shared, pod), variables(pod.variables()));
    let started = free_port::start(
        &shared.owned,
        &what,
        LISTEN,
        |ports| {
            let mut child = process.program(child.clone(), ports)?;
            child.environment.extend(of_template.iter().cloned());
            Ok(child)
        },
        |[port, _]| accepts_connections(address(port)),
    );
    let ports = started.await.map_err(|error| State::Waiting {
        reason: "RunContainerError",
        message: base::chain(&error),
    })?;
    Ok(process.listening(ports))
}

fn child(shared: &Shared, pod: &Pod) -> Program {
    Program {
        name: pod.name.clone(),
        path: Default::default(),
        arguments: Vec::new(),
        environment: Vec::new(),
        directory: None,
        user: None,
        log: shared.log(&pod.name),
        // For the environment's teardown. In a release, `end` sends SIGTERM.
        stop_signal: Signal::SIGKILL,
        stop_reaches: Reach::Group,
        death_signal: Signal::SIGKILL,
        answer: None,
    }
}

/// Probes the pod until its process exits.
async fn watch(shared: &Arc<Shared>, pod: &Pod, listening: Listening) {
    let (mut was_ready, mut failed) = (false, 0);
    while !has_ended(shared, pod) {
        let failure = probe(shared, pod, listening).await.err();
        failed = if failure.is_some() { failed + 1 } else { 0 };
        let ready = failed == 0 || (was_ready && failed < FAILURES);
        was_ready = ready;
        let state = State::Running {
            listening,
            ready,
            failure,
        };
        shared.set_state(pod, state);
        sleep(if ready { PROBE } else { STARTUP }).await;
    }
}

fn has_ended(shared: &Arc<Shared>, pod: &Pod) -> bool {
    let Some(status) = shared.owned.ended(&pod.name) else {
        return false;
    };
    let code = status.code().unwrap_or(-1);
    let how = describe(status);
    shared.set_state(pod, State::Ended { code, how });
    true
}

/// Returns a failure as the kubelet reports it.
async fn probe(shared: &Shared, pod: &Pod, listening: Listening) -> Result<(), String> {
    let (port, path) = pod.probed();
    let address = pod
        .port(port, listening)
        .ok_or_else(|| format!("it has no port {port:?}"))?;
    let Some(path) = path else {
        return accepts_connections(address).await;
    };
    let url = format!("http://{address}{path}");
    let answer = shared.http.get(url).send().await;
    let answer = answer.map_err(|error| base::chain(&error))?;
    match answer.status() {
        status if (200..400).contains(&status.as_u16()) => Ok(()),
        status => Err(format!(
            "HTTP probe failed with statuscode: {}",
            status.as_u16()
        )),
    }
}

/// Terminates a pod without traffic, if it has a process: waits for its preStop hook, sends SIGTERM, and kills it after
/// the grace period.
async fn end(shared: &Arc<Shared>, pod: &Pod) {
    if shared.owned.pid(&pod.name).is_none() {
        return;
    }
    let deadline = Instant::now() + pod.grace();
    if shared.owned.ended(&pod.name).is_none() {
        sleep(pod.pre_stop().min(pod.grace())).await;
        shared.owned.signal(&pod.name, Signal::SIGTERM);
    }
    let remaining = deadline.saturating_duration_since(Instant::now());
    // It owns its data: with a borrow this future would not be `Send`.
    let (owned, name) = (Arc::clone(&shared.owned), pod.name.clone());
    let look = move || {
        std::future::ready(match owned.ended(&name) {
            Some(_) => Observation::Ready(()),
            None => Observation::NotYet("still running".into()),
        })
    };
    // `forget` kills a process that still runs. The next start sweeps an entry that remains in the
    // ledger.
    let what = format!("{} ends", pod.name);
    let _ = wait::until(what, remaining, END, look).await;
    let _ = shared.owned.forget(&pod.name).await;
}
