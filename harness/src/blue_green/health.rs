//! Whether a colour may get traffic: each of its pods is asked, and then its Service.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::colour::Colour;
use super::error::BlueGreenError;
use super::event::Happened;
use super::objects::Objects;
use super::proxy;
use crate::wait::{self, Observation, WaitError};

/// How long the Endpoints may take to follow a selector; well under a second where all is well.
const FOLLOWS: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Asks every pod of the colour on the path of its readiness probe: what Kubernetes goes by
/// is what counts, and `expected` pods, more than none, must say yes.
///
/// Yields what did not hold where one of them does not.
pub(super) async fn every_pod(
    objects: &Objects<'_>,
    colour: Colour,
    expected: i32,
) -> Result<Result<Happened, String>, BlueGreenError> {
    let pods = objects.pods(colour).await?;
    let found = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    if found < expected.max(1) {
        return Ok(Err(format!(
            "{colour} has {found} pods, where {} are to be asked for their health",
            expected.max(1)
        )));
    }
    let mut asked_at = String::new();
    let mut asked = Vec::new();
    for pod in &pods {
        let (port, path) = probed(objects, pod)?;
        asked_at.clone_from(&path);
        asked.push(async move {
            let name = pod.name_any();
            let answer = asked_patiently(objects, &name, &port, &path).await;
            match answer {
                Ok(answer) if (200..400).contains(&answer.status) => None,
                Ok(answer) => Some(format!("pod/{name} says {} to {path}", answer.status)),
                Err(why) => Some(format!("pod/{name} does not answer {path}: {why}")),
            }
        });
    }
    let bad: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
    Ok(match bad.as_slice() {
        [] => Ok(Happened::HealthHeld {
            pods: pods.len(),
            path: asked_at,
        }),
        bad => Err(format!(
            "{} of {} pods of {colour} fail their health check: {}",
            bad.len(),
            pods.len(),
            bad.join("; ")
        )),
    })
}

/// A pod that says nothing is asked again, as the kubelet does: the API server or the node
/// may be busy. What it says counts at once.
async fn asked_patiently(
    objects: &Objects<'_>,
    pod: &str,
    port: &str,
    path: &str,
) -> Result<proxy::Answer, String> {
    const TRIES: usize = 3;
    let mut last = String::new();
    for _ in 0..TRIES {
        match proxy::ask_pod(objects.cluster, pod, port, path).await {
            Ok(answer) => return Ok(answer),
            Err(why) => last = why,
        }
    }
    Err(format!("{last}, asked {TRIES} times"))
}

/// The port and the path of the readiness probe.
fn probed(objects: &Objects<'_>, pod: &Pod) -> Result<(String, String), BlueGreenError> {
    let containers = pod.spec.iter().flat_map(|it| &it.containers);
    let mut its_own = containers.filter(|it| it.name == objects.service);
    let probe: Option<&Probe> = its_own.next().and_then(|it| it.readiness_probe.as_ref());
    let http = probe.and_then(|it| it.http_get.as_ref()).ok_or_else(|| {
        BlueGreenError::preflight(
            format!("pod/{} has no readiness probe over HTTP", pod.name_any()),
            "give the container one: the deployer asks what Kubernetes asks",
        )
    })?;
    let port = match &http.port {
        IntOrString::Int(port) => port.to_string(),
        IntOrString::String(name) => port_named(pod, name),
    };
    let path = http.path.clone().unwrap_or_else(|| "/".to_owned());
    Ok((port, path))
}

/// The API server's proxy takes a pod's port by number only.
fn port_named(pod: &Pod, name: &str) -> String {
    let containers = pod.spec.iter().flat_map(|it| &it.containers);
    let mut ports = containers.flat_map(|it| it.ports.iter().flatten());
    let port = ports.find(|it| it.name.as_deref() == Some(name));
    port.map_or_else(|| name.to_owned(), |it| it.container_port.to_string())
}

/// Asks a Service for each of `paths`, which must be answered well and in `version`. What
/// another version answers is no verdict yet: the API server's proxy goes by the Endpoints,
/// which follow a selector on their own, later than the EndpointSlices.
///
/// Yields what did not hold where one of them is not.
pub(super) async fn smoke(
    objects: &Objects<'_>,
    service: &str,
    version: &str,
    paths: &[String],
) -> Result<Happened, String> {
    for path in paths {
        let what = format!("{service} answers {path} in version {version}");
        let answered = wait::until(what, FOLLOWS, LOOK_EVERY, async || {
            let answer = proxy::ask_service(objects.cluster, service, path).await;
            judge(service, version, path, answer)
        });
        answered.await.map_err(|error| match error {
            WaitError::Hopeless { reason, .. } => reason,
            late @ WaitError::TimedOut { .. } => late.to_string(),
        })?;
    }
    Ok(Happened::SmokeHeld {
        service: service.to_owned(),
        paths: paths.to_vec(),
    })
}

fn judge(
    service: &str,
    version: &str,
    path: &str,
    answer: Result<proxy::Answer, String>,
) -> Observation<()> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => {
            return Observation::Hopeless(format!("{service} does not answer {path}: {why}"));
        }
    };
    let status = answer.status;
    match answer.version.as_deref() {
        Some(signed) if signed != version => {
            Observation::NotYet(format!("it says {status} in version {signed}"))
        }
        // The proxy's own: it found no pod, or did not reach it.
        None if matches!(status, 502..=504) => {
            Observation::NotYet(format!("the API server's proxy says {status}"))
        }
        _ if !(200..300).contains(&status) => {
            Observation::Hopeless(format!("{service} says {status} to {path}"))
        }
        Some(_) => Observation::Ready(()),
        None => Observation::Hopeless(format!(
            "{service} answers {path} without saying its version"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, version: Option<&str>) -> Observation<()> {
        let version = version.map(str::to_owned);
        judge("quotes", "v2", "/", Ok(proxy::Answer { status, version }))
    }

    #[test]
    fn another_versions_answer_is_no_verdict_good_or_bad() {
        for status in [200, 500] {
            let answer = judged(status, Some("v1"));
            assert!(matches!(answer, Observation::NotYet(_)), "{status}");
        }
    }

    #[test]
    fn what_the_version_itself_says_counts_at_once() {
        assert!(matches!(judged(200, Some("v2")), Observation::Ready(())));
        assert!(matches!(judged(500, Some("v2")), Observation::Hopeless(_)));
    }

    #[test]
    fn an_answer_without_a_version_proves_nothing() {
        assert!(matches!(judged(200, None), Observation::Hopeless(_)));
        assert!(matches!(judged(503, None), Observation::NotYet(_)));
        let silent = judge("quotes", "v2", "/", Err("no answer".into()));
        assert!(matches!(silent, Observation::Hopeless(_)));
    }
}
