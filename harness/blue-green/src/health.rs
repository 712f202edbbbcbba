//! Checks whether a colour may get traffic: the health of each pod, and then smoke requests to its
//! Service.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use hyper::header::HeaderName;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use tokio::time::{Instant, sleep};

use super::colour::Colour;
use super::error::BlueGreenError;
use super::event::EventKind;
use super::objects::ServiceObjects;
use super::policy::expected;
use super::proxy::{self, PodAnswer};
use super::step_error::StepError;
use super::version_source::VersionSource;
use kubernetes::pods::is_ready;

/// How long a request may go unanswered, or be answered by another version.
const SMOKE_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// The timeout of an answer, as a readiness probe usually has.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout of a Service's first answer, doubled for each next one. The first request may reach
/// a pod that the Service selected before, and that does not answer.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends every pod of the colour the request of its readiness probe. `expected` pods, and at least
/// one, must be healthy. If the probe is not over HTTP, the kubelet's result counts.
///
/// # Errors
/// The unhealthy pods, or the API server's error.
pub(super) async fn every_pod(
    objects: &ServiceObjects<'_>,
    colour: Colour,
    expected: i32,
) -> Result<EventKind, StepError> {
    let pods = objects.pods(colour).await?;
    let (all, needed) = (pods.len(), expected.max(1));
    if i32::try_from(all).unwrap_or(i32::MAX) < needed {
        return Err(StepError::failed(format!(
            "{colour} has {all} pods, where {needed} are needed for the health check"
        )));
    }
    let checks = pods.iter().map(|pod| one_pod(objects, pod));
    let (mut paths, mut unhealthy) = (Vec::new(), Vec::new());
    for checked in join_all(checks).await {
        match checked? {
            Ok(path) => paths.push(path),
            Err(why) => unhealthy.push(why),
        }
    }
    match unhealthy.len() {
        0 => Ok(EventKind::HealthHeld {
            pods: all,
            path: paths.into_iter().next().unwrap_or_default(),
        }),
        count => Err(StepError::failed(format!(
            "{count} of {all} pods of {colour} fail their health check: {}",
            unhealthy.join("; ")
        ))),
    }
}

/// Returns the path that a healthy pod answered, or why it is not healthy. A pod that does not
/// answer gets the request again, as from the kubelet: the node may be busy.
async fn one_pod(
    objects: &ServiceObjects<'_>,
    pod: &Pod,
) -> Result<Result<String, String>, BlueGreenError> {
    const TRIES: usize = 3;
    let name = pod.name_any();
    let Some((port, path)) = http_probe(objects, pod) else {
        let probe = "the kubelet's readiness probe";
        return Ok(match is_ready(pod) {
            true => Ok(probe.to_owned()),
            false => Err(format!("pod/{name} is not ready by {probe}")),
        });
    };
    let mut last = String::new();
    let (client, namespace) = (objects.cluster.client(), &objects.cluster.namespace);
    let target = format!("pods/{name}:{port}");
    for _ in 0..TRIES {
        match proxy::get(client, namespace, &target, &path, TIMEOUT).await {
            Ok(PodAnswer { status, .. }) if (200..400).contains(&status) => return Ok(Ok(path)),
            Ok(PodAnswer { status, .. }) => {
                return Ok(Err(format!("pod/{name} answers {path} with {status}")));
            }
            Err(why) => last = why,
        }
        // If the API server is away, this waits for it.
        objects.active().await?;
    }
    Ok(Err(format!(
        "pod/{name} does not answer {path}, tried {TRIES} times: {last}"
    )))
}

/// Returns the port and the path of the readiness probe, if it is over HTTP.
fn http_probe(objects: &ServiceObjects<'_>, pod: &Pod) -> Option<(String, String)> {
    let mut containers = pod.spec.as_ref()?.containers.iter();
    let container = containers.find(|it| it.name == objects.service)?;
    let http = container.readiness_probe.as_ref()?.http_get.as_ref()?;
    let port = match &http.port {
        IntOrString::Int(port) => port.to_string(),
        IntOrString::String(name) => port_named(pod, name),
    };
    Some((port, http.path.clone().unwrap_or_else(|| "/".to_owned())))
}

/// The API server's proxy accepts only numbers of a pod's ports.
fn port_named(pod: &Pod, name: &str) -> String {
    let containers = pod.spec.iter().flat_map(|it| &it.containers);
    let mut ports = containers.flat_map(|it| it.ports.iter().flatten());
    let port = ports.find(|it| it.name.as_deref() == Some(name));
    port.map_or_else(|| name.to_owned(), |it| it.container_port.to_string())
}

/// Requests each of `paths` from a Service. `version` must answer each with the expected status, and
/// name itself: by the header of each answer, or before the requests by its source. An answer of
/// another version does not count. Time without an API server does not count.
///
/// # Errors
/// The failed request, or the API server's error.
pub(super) async fn smoke(
    objects: &ServiceObjects<'_>,
    service: &str,
    (version, source): (&str, &VersionSource),
    paths: &[String],
) -> Result<EventKind, StepError> {
    if paths.is_empty() {
        return Ok(EventKind::SmokeSkipped {
            service: service.to_owned(),
        });
    }
    let (client, namespace) = (objects.cluster.client(), &objects.cluster.namespace);
    let target = format!("services/{service}:http");
    let header = match source {
        VersionSource::Header(name) => Some(name),
        VersionSource::Path(_) | VersionSource::Image => {
            names_itself(objects, service, version, source).await?;
            None
        }
    };
    for request in paths {
        let (path, status) = expected(request);
        let mut end = Instant::now() + SMOKE_TIMEOUT;
        let mut within = FIRST_TIMEOUT;
        loop {
            let answer = proxy::get(client, namespace, &target, path, within).await;
            within = (within * 2).min(TIMEOUT);
            if answer.is_err() {
                let sent = Instant::now();
                objects.active().await?;
                end += sent.elapsed();
            }
            match evaluate(service, (version, header), path, status, answer) {
                SmokeResult::Good => break,
                SmokeResult::Bad(why) => return Err(StepError::failed(why)),
                SmokeResult::NotYet(why) if Instant::now() >= end => {
                    return Err(StepError::failed(format!(
                        "{service} does not answer {path} in version {version} after {SMOKE_TIMEOUT:?}: {why}"
                    )));
                }
                SmokeResult::NotYet(_) => sleep(PAUSE).await,
            }
        }
    }
    Ok(EventKind::SmokeHeld {
        service: service.to_owned(),
        paths: paths.to_vec(),
    })
}

/// Waits until only `version` is behind a Service, by its source.
///
/// # Errors
/// The other version, or the API server's error.
async fn names_itself(
    objects: &ServiceObjects<'_>,
    service: &str,
    version: &str,
    source: &VersionSource,
) -> Result<(), StepError> {
    let wanted = BTreeSet::from([version.to_owned()]);
    let mut end = Instant::now() + SMOKE_TIMEOUT;
    loop {
        let seen = match source.served(objects, service).await {
            Ok(served) if served == wanted => return Ok(()),
            Ok(served) => Vec::from_iter(served).join(" and "),
            Err(why) => {
                let sent = Instant::now();
                objects.active().await?;
                end += sent.elapsed();
                why
            }
        };
        if Instant::now() >= end {
            return Err(StepError::failed(format!(
                "{service} does not name version {version} by {source} after {SMOKE_TIMEOUT:?}: {seen}"
            )));
        }
        sleep(PAUSE).await;
    }
}

#[derive(Debug)]
enum SmokeResult {
    Good,
    Bad(String),
    NotYet(String),
}

fn evaluate(
    service: &str,
    (version, header): (&str, Option<&HeaderName>),
    path: &str,
    expected: Option<u16>,
    answer: Result<PodAnswer, String>,
) -> SmokeResult {
    let answer = match answer {
        Ok(answer) => answer,
        // One failure does not count: a connection may break.
        Err(why) => return SmokeResult::NotYet(why),
    };
    let status = answer.status;
    let is_good = expected.map_or((200..300).contains(&status), |it| it == status);
    let answered_by = header.and_then(|name| answer.header(name));
    match answered_by {
        Some(other) if other != version => {
            SmokeResult::NotYet(format!("version {other} answers with {status}"))
        }
        None if header.is_none() && is_good => SmokeResult::Good,
        // The proxy found no pod, or did not reach it.
        None if matches!(status, 502..=504) => {
            SmokeResult::NotYet(format!("status {status}, as of the API server's proxy"))
        }
        _ if !is_good => SmokeResult::Bad(format!("{service} answers {path} with {status}")),
        Some(_) => SmokeResult::Good,
        None => SmokeResult::Bad(format!(
            "the answer of {service} to {path} does not name its version"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::objects::ROLE;
    use super::super::version_source::VersionPath;
    use super::*;
    use kubernetes::mock::{MockAnswer, MockServer};

    const HEADER: HeaderName = HeaderName::from_static("x-app-version");

    fn answer(status: u16, version: Option<&str>) -> Result<PodAnswer, String> {
        let version = version.map(|it| (HEADER, it.parse().unwrap()));
        let headers = version.into_iter().collect();
        Ok(PodAnswer { status, headers })
    }

    fn evaluated(status: u16, version: Option<&str>, expected: Option<u16>) -> SmokeResult {
        let answer = answer(status, version);
        evaluate("quotes", ("v2", Some(&HEADER)), "/", expected, answer)
    }

    #[test]
    fn without_a_header_the_status_alone_counts() {
        let of = |status, expected| {
            let answer = answer(status, None);
            evaluate("quotes", ("v2", None), "/", expected, answer)
        };
        assert!(matches!(of(200, None), SmokeResult::Good));
        assert!(matches!(of(503, Some(503)), SmokeResult::Good));
        assert!(matches!(of(404, None), SmokeResult::Bad(_)));
        assert!(matches!(of(503, None), SmokeResult::NotYet(_)));
    }

    #[test]
    fn an_answer_of_another_version_does_not_count_yet() {
        for status in [200, 500] {
            let answer = evaluated(status, Some("v1"), None);
            assert!(matches!(answer, SmokeResult::NotYet(_)), "{status}");
        }
    }

    #[test]
    fn an_answer_of_the_version_itself_counts_immediately() {
        let (good, bad) = (
            evaluated(200, Some("v2"), None),
            evaluated(500, Some("v2"), None),
        );
        assert!(matches!(good, SmokeResult::Good), "{good:?}");
        assert!(matches!(bad, SmokeResult::Bad(_)), "{bad:?}");
    }

    #[test]
    fn a_status_in_the_request_is_the_only_good_one() {
        let (path, status) = expected("401 /portfolios/me");
        assert_eq!((path, status), ("/portfolios/me", Some(401)));
        for (given, good) in [(401, true), (200, false), (500, false)] {
            let evaluated = evaluated(given, Some("v2"), status);
            assert_eq!(matches!(evaluated, SmokeResult::Good), good, "{given}");
        }
    }

    #[test]
    fn an_answer_without_a_version_proves_nothing() {
        let (ok, unavailable) = (evaluated(200, None, None), evaluated(503, None, None));
        assert!(matches!(ok, SmokeResult::Bad(_)), "{ok:?}");
        assert!(
            matches!(unavailable, SmokeResult::NotYet(_)),
            "{unavailable:?}"
        );
        let silent = evaluate(
            "quotes",
            ("v2", Some(&HEADER)),
            "/",
            None,
            Err("no answer".into()),
        );
        assert!(matches!(silent, SmokeResult::NotYet(_)));
    }

    /// The path with the version is never answered, and the API server works.
    #[tokio::test(start_paused = true)]
    async fn a_version_that_is_not_told_is_not_waited_for_longer_than_the_timeout() {
        let server = MockServer::new(|request| match request.path.contains("/proxy/") {
            true => MockAnswer::Silence,
            false => MockAnswer::Says(
                200,
                json!({"metadata": {"name": "quotes", "labels": {ROLE: "active"}},
                    "spec": {"ports": [{"port": 80}]}}),
            ),
        });
        let objects = ServiceObjects {
            cluster: &server.cluster("shop"),
            service: "quotes",
        };
        let source = VersionSource::Path(VersionPath {
            path: "/version".to_owned(),
            json: None,
        });
        let begun = Instant::now();
        let named = names_itself(&objects, "quotes", "v2", &source).await;
        assert!(named.is_err());
        let took = begun.elapsed();
        assert!(took < SMOKE_TIMEOUT + 2 * TIMEOUT, "{took:?}");
    }
}
