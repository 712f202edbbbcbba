//! Whether a colour may get traffic: each of its pods is asked, and then its Service.

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::colour::Colour;
use super::error::BlueGreenError;
use super::event::Happened;
use super::objects::Objects;
use super::proxy;

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

/// Asks a Service for each of `paths`, which must be answered well and in `version`.
///
/// Yields what did not hold where one of them is not.
pub(super) async fn smoke(
    objects: &Objects<'_>,
    service: &str,
    version: &str,
    paths: &[String],
) -> Result<Happened, String> {
    for path in paths {
        let answer = proxy::ask_service(objects.cluster, service, path).await;
        let answer = answer.map_err(|why| format!("{service} does not answer {path}: {why}"))?;
        if !(200..300).contains(&answer.status) {
            return Err(format!("{service} says {} to {path}", answer.status));
        }
        match answer.version.as_deref() {
            Some(signed) if signed == version => {}
            Some(signed) => {
                return Err(format!(
                    "{service} answers {path} in version {signed} instead of {version}"
                ));
            }
            None => {
                return Err(format!(
                    "{service} answers {path} without saying its version"
                ));
            }
        }
    }
    Ok(Happened::SmokeHeld {
        service: service.to_owned(),
        paths: paths.to_vec(),
    })
}
