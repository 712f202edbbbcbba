//! Whether a colour may get traffic: each of its pods is asked, and then its Service.

mod proxy;

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use tokio::time::{Instant, sleep};

use super::colour::Colour;
use super::course::stop::Stop;
use super::error::BlueGreenError;
use super::event::Happened;
use super::objects::Objects;
use super::policy::expected;
use crate::cluster::pods::is_ready;

/// How long the Endpoints may take to follow a selector; well under a second where all is well.
const FOLLOWS: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// For the first answer of a Service, each next one has twice as long: whoever is asked first may
/// be a pod that it led to before, and that is silent.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// Asks every pod of the colour as its readiness probe does: what Kubernetes goes by is what
/// counts, and `expected` pods, more than none, must say yes. A probe that is not over HTTP is
/// the kubelet's to ask, and its word counts.
///
/// # Errors
/// What did not hold where one of them does not; what the API server said.
pub(super) async fn every_pod(
    objects: &Objects<'_>,
    colour: Colour,
    expected: i32,
) -> Result<Happened, Stop> {
    let pods = objects.pods(colour).await?;
    let found = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    if found < expected.max(1) {
        return Err(Stop::failed(format!(
            "{colour} has {found} pods, where {} are to be asked for their health",
            expected.max(1)
        )));
    }
    let asked = pods.iter().map(|pod| one_pod(objects, pod));
    let asked: Result<Vec<_>, BlueGreenError> = join_all(asked).await.into_iter().collect();
    let (held, bad): (Vec<_>, Vec<_>) = asked?.into_iter().partition(Result::is_ok);
    let bad: Vec<String> = bad.into_iter().filter_map(Result::err).collect();
    match bad.as_slice() {
        [] => Ok(Happened::HealthHeld {
            pods: pods.len(),
            path: held.into_iter().find_map(Result::ok).unwrap_or_default(),
        }),
        bad => Err(Stop::failed(format!(
            "{} of {} pods of {colour} fail their health check: {}",
            bad.len(),
            pods.len(),
            bad.join("; ")
        ))),
    }
}

/// What the pod was asked and says yes to, or what it says instead. One that says nothing is
/// asked again, as the kubelet does: the node may be busy. What it says counts at once.
async fn one_pod(
    objects: &Objects<'_>,
    pod: &Pod,
) -> Result<Result<String, String>, BlueGreenError> {
    const TRIES: usize = 3;
    let name = pod.name_any();
    let Some((port, path)) = probed(objects, pod) else {
        let word = "the kubelet's readiness probe";
        return Ok(match is_ready(pod) {
            true => Ok(word.to_owned()),
            false => Err(format!("pod/{name} is not ready by {word}")),
        });
    };
    let mut last = String::new();
    for _ in 0..TRIES {
        match proxy::ask_pod(objects.cluster, &name, &port, &path).await {
            Ok(answer) if (200..400).contains(&answer.status) => return Ok(Ok(path)),
            Ok(answer) => return Ok(Err(format!("pod/{name} says {} to {path}", answer.status))),
            Err(why) => last = why.to_string(),
        }
        // It may be the API server that is away; then it is waited for.
        objects.active().await?;
    }
    Ok(Err(format!(
        "pod/{name} does not answer {path}: {last}, asked {TRIES} times"
    )))
}

/// The port and the path of the readiness probe, where it is over HTTP.
fn probed(objects: &Objects<'_>, pod: &Pod) -> Option<(String, String)> {
    let mut containers = pod.spec.as_ref()?.containers.iter();
    let its_own = containers.find(|it| it.name == objects.service)?;
    let http = its_own.readiness_probe.as_ref()?.http_get.as_ref()?;
    let port = match &http.port {
        IntOrString::Int(port) => port.to_string(),
        IntOrString::String(name) => port_named(pod, name),
    };
    Some((port, http.path.clone().unwrap_or_else(|| "/".to_owned())))
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
/// which follow a selector on their own, later than the EndpointSlices. For how long the API
/// server is away does not count.
///
/// # Errors
/// What did not hold where one of them is not; what the API server said.
pub(super) async fn smoke(
    objects: &Objects<'_>,
    service: &str,
    version: &str,
    paths: &[String],
) -> Result<Happened, Stop> {
    if paths.is_empty() {
        return Ok(Happened::SmokeSkipped {
            service: service.to_owned(),
        });
    }
    for request in paths {
        let (path, status) = expected(request);
        let mut end = Instant::now() + FOLLOWS;
        let mut within = FIRST_ANSWER;
        loop {
            let answer = proxy::ask_service(objects.cluster, service, path, within).await;
            within = (within * 2).min(proxy::ANSWER);
            if answer.is_err() {
                let asked = Instant::now();
                objects.active().await?;
                end += asked.elapsed();
            }
            match judge(service, version, path, status, answer) {
                Verdict::Good => break,
                Verdict::Bad(why) => return Err(Stop::failed(why)),
                Verdict::NotYet(why) if Instant::now() >= end => {
                    return Err(Stop::failed(format!(
                        "{service} does not answer {path} in version {version} after {FOLLOWS:?}: {why}"
                    )));
                }
                Verdict::NotYet(_) => sleep(LOOK_EVERY).await,
            }
        }
    }
    Ok(Happened::SmokeHeld {
        service: service.to_owned(),
        paths: paths.to_vec(),
    })
}

/// What an answer says of a version.
#[derive(Debug)]
enum Verdict {
    Good,
    Bad(String),
    NotYet(String),
}

fn judge(
    service: &str,
    version: &str,
    path: &str,
    expected: Option<u16>,
    answer: Result<proxy::Answer, proxy::NoAnswer>,
) -> Verdict {
    let answer = match answer {
        Ok(answer) => answer,
        // Once is no verdict: a connection may break on its way.
        Err(why) => return Verdict::NotYet(why.to_string()),
    };
    let status = answer.status;
    let is_good = expected.map_or((200..300).contains(&status), |it| it == status);
    match answer.version.as_deref() {
        Some(signed) if signed != version => {
            Verdict::NotYet(format!("it says {status} in version {signed}"))
        }
        // The proxy's own: it found no pod, or did not reach it.
        None if matches!(status, 502..=504) => {
            Verdict::NotYet(format!("the API server's proxy says {status}"))
        }
        _ if !is_good => Verdict::Bad(format!("{service} says {status} to {path}")),
        Some(_) => Verdict::Good,
        None => Verdict::Bad(format!(
            "{service} answers {path} without saying its version"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, version: Option<&str>) -> Verdict {
        let version = version.map(str::to_owned);
        let answer = proxy::Answer { status, version };
        judge("quotes", "v2", "/", None, Ok(answer))
    }

    #[test]
    fn another_versions_answer_is_no_verdict_good_or_bad() {
        for status in [200, 500] {
            let answer = judged(status, Some("v1"));
            assert!(matches!(answer, Verdict::NotYet(_)), "{status}");
        }
    }

    #[test]
    fn what_the_version_itself_says_counts_at_once() {
        assert!(matches!(judged(200, Some("v2")), Verdict::Good));
        assert!(matches!(judged(500, Some("v2")), Verdict::Bad(_)));
    }

    #[test]
    fn a_status_that_is_asked_for_is_the_only_good_one() {
        let (path, status) = expected("401 /portfolios/me");
        assert_eq!((path, status), ("/portfolios/me", Some(401)));
        for (seen, good) in [(401, true), (200, false), (500, false)] {
            let version = Some("v2".to_owned());
            let answer = proxy::Answer {
                status: seen,
                version,
            };
            let judged = judge("portfolios", "v2", path, status, Ok(answer));
            assert_eq!(matches!(judged, Verdict::Good), good, "{seen}");
        }
    }

    #[test]
    fn an_answer_without_a_version_proves_nothing() {
        assert!(matches!(judged(200, None), Verdict::Bad(_)));
        assert!(matches!(judged(503, None), Verdict::NotYet(_)));
        let silent = judge(
            "quotes",
            "v2",
            "/",
            None,
            Err(proxy::NoAnswer::AtAll("no answer".into())),
        );
        assert!(matches!(silent, Verdict::NotYet(_)));
    }
}
