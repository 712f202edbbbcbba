//! The life of a pod's process: started, probed, and ended in peace, as a kubelet does it.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::pod::{Pod, State};
use crate::bring_up::UpError;
use crate::local::services::{Listening, listening_line};
use crate::process::bound::{Program, Reach, describe};
use crate::wait::{self, Observation};

/// Between two looks, until it listens; then until it is ready; then for good.
const LISTENS: Duration = Duration::from_millis(10);
const READY: Duration = Duration::from_millis(50);
const STAYS: Duration = Duration::from_secs(1);

/// So often in succession must the probe of a pod that was ready fail.
const FAILURES: u32 = 3;

/// Sees to one pod from its start until it is gone.
pub(super) async fn live(shared: Arc<Shared>, pod: Pod) {
    let started = match shared.binary(pod.version()) {
        Ok(binary) => start(&shared, &pod, binary).map_err(|error| State::Waiting {
            reason: "RunContainerError",
            message: crate::chain(&error),
        }),
        // Another start would find no more.
        Err(message) => Err(State::Waiting {
            reason: "ErrImagePull",
            message,
        }),
    };
    match started {
        Ok(()) => {
            tokio::select! {
                () = pod.end.cancelled() => {}
                () = watch(&shared, &pod) => pod.end.cancelled().await,
            }
            end(&shared, &pod).await;
        }
        Err(state) => {
            shared.tell(&pod, state);
            pod.end.cancelled().await;
        }
    }
    shared.forget(&pod);
}

fn start(shared: &Shared, pod: &Pod, binary: std::path::PathBuf) -> Result<(), UpError> {
    let mut environment = shared.variables.clone();
    environment.extend(pod.variables());
    environment.push(("SERVICE_VERSION".into(), pod.version().to_owned()));
    environment.push(("INSTANCE".into(), pod.name.clone()));
    shared.owned.start(&Program {
        name: pod.name.clone(),
        path: binary,
        arguments: vec!["serve".into(), shared.service.name().into()],
        environment,
        user: None,
        log: shared.log(&pod.name),
        // With the environment it goes at once. In a release it is `end` that asks it.
        stop_signal: Signal::SIGKILL,
        stop_reaches: Reach::Group,
        death_signal: Signal::SIGKILL,
    })
}

/// Looks how it is until it ends by itself.
async fn watch(shared: &Arc<Shared>, pod: &Pod) {
    let listening = loop {
        if let Some(listening) = listens_on(shared, pod) {
            break listening;
        }
        if has_ended(shared, pod) {
            return;
        }
        sleep(LISTENS).await;
    };
    let (mut was_ready, mut failed) = (false, 0);
    while !has_ended(shared, pod) {
        let failure = probe(shared, pod, listening).await.err();
        failed = if failure.is_some() { failed + 1 } else { 0 };
        let ready = failed == 0 || (was_ready && failed < FAILURES);
        was_ready = ready;
        shared.tell(
            pod,
            State::Running {
                listening,
                ready,
                failure,
            },
        );
        sleep(if ready { STAYS } else { READY }).await;
    }
}

fn has_ended(shared: &Arc<Shared>, pod: &Pod) -> bool {
    let Some(status) = shared.owned.ended(&pod.name) else {
        return false;
    };
    let code = status.code().unwrap_or(-1);
    let how = describe(status);
    shared.tell(pod, State::Ended { code, how });
    true
}

fn listens_on(shared: &Shared, pod: &Pod) -> Option<Listening> {
    let text = std::fs::read_to_string(shared.log(&pod.name)).ok()?;
    text.lines().find_map(listening_line)
}

/// In the kubelet's words.
async fn probe(shared: &Shared, pod: &Pod, listening: Listening) -> Result<(), String> {
    let (port, path) = pod.probed();
    let address = pod
        .port(port, listening)
        .ok_or_else(|| format!("it has no port {port:?}"))?;
    let url = format!("http://{address}{path}");
    let answer = shared.http.get(url).send().await;
    let answer = answer.map_err(|error| crate::chain(&error))?;
    match answer.status() {
        status if (200..400).contains(&status.as_u16()) => Ok(()),
        status => Err(format!(
            "HTTP probe failed with statuscode: {}",
            status.as_u16()
        )),
    }
}

/// Nothing leads to it any more. It goes on for its preStop, then it is asked to end, and
/// killed where its grace is over.
async fn end(shared: &Arc<Shared>, pod: &Pod) {
    let over = Instant::now() + pod.grace();
    if shared.owned.ended(&pod.name).is_none() {
        sleep(pod.pre_stop().min(pod.grace())).await;
        shared.owned.ask(&pod.name, Signal::SIGTERM);
    }
    let left = over.saturating_duration_since(Instant::now());
    // It owns what it looks at: with a borrow this future would not be `Send`.
    let (owned, name) = (Arc::clone(&shared.owned), pod.name.clone());
    let look = move || {
        std::future::ready(match owned.ended(&name) {
            Some(_) => Observation::Ready(()),
            None => Observation::NotYet("it runs".into()),
        })
    };
    // What does not end in time is killed as it is forgotten; the next start sweeps an entry
    // of the ledger that cannot be written.
    let _ = wait::until(format!("{} ends", pod.name), left, LISTENS, look).await;
    let _ = shared.owned.forget(&pod.name);
}
