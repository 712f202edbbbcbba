//! How the version of a service is known: by a header of its answers, by the answer to one request, or
//! by the image of its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use hyper::header::HeaderName;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::Value;

use super::objects::{ServiceObjects, request_port, tag};
use super::proxy;
use kubernetes::prober::IdentityHeaders;

/// The timeout of an answer, as a readiness probe usually has.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How the version of a service is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionSource {
    /// By this header of each answer.
    Header(HeaderName),
    /// By the answer to a request.
    Path(VersionPath),
    /// By the tag of the image of the pods that its Service selects.
    Image,
}

/// A GET request of a Service, whose answer has the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionPath {
    /// The path.
    pub path: String,
    /// Where the version is in a JSON answer (RFC 6901); if none, it is the trimmed body.
    pub json: Option<String>,
}

/// How the versions of a platform's services are known: `[platform.headers]` and
/// `services.NAME.version` of `harness.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionSources {
    /// The headers that name what answered.
    pub headers: IdentityHeaders,
    /// By service, what is used instead of the header.
    pub services: BTreeMap<String, VersionSource>,
}

impl VersionSources {
    /// Returns how the version of a service is known.
    pub fn of(&self, service: &str) -> VersionSource {
        match (self.services.get(service), &self.headers.version) {
            (Some(own), _) => own.clone(),
            (None, Some(header)) => VersionSource::Header(header.clone()),
            (None, None) => VersionSource::Image,
        }
    }

    /// Returns the same for versions that are the same image under several tags: a program may have
    /// its version compiled in, and then answers every path as before.
    #[must_use]
    pub fn of_tags(&self) -> VersionSources {
        let mut sources = self.clone();
        for source in sources.services.values_mut() {
            if let VersionSource::Path(_) = source {
                *source = VersionSource::Image;
            }
        }
        sources
    }
}

impl fmt::Display for VersionSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionSource::Header(name) => write!(f, "the header {name}"),
            VersionSource::Path(VersionPath { path, json: None }) => write!(f, "GET {path}"),
            VersionSource::Path(VersionPath {
                path,
                json: Some(pointer),
            }) => write!(f, "{pointer:?} of GET {path}"),
            VersionSource::Image => f.write_str("the image of its pods"),
        }
    }
}

impl VersionSource {
    /// Returns the versions that serve behind `at`, a Service of the service: of one answer, or of
    /// all ready pods.
    ///
    /// # Errors
    /// Why no version is known.
    pub async fn served(
        &self,
        objects: &ServiceObjects<'_>,
        at: &str,
    ) -> Result<BTreeSet<String>, String> {
        let (client, namespace) = (objects.cluster.client(), &objects.cluster.namespace);
        let version = match self {
            VersionSource::Image => return of_images(objects, at).await,
            VersionSource::Header(name) => {
                let target = target(objects, at).await?;
                let answer = proxy::get(client, namespace, &target, "/", TIMEOUT).await?;
                let status = answer.status;
                let version = answer.header(name).map(str::to_owned);
                version.ok_or_else(|| format!("{at} answers / with {status}, without {name}"))
            }
            VersionSource::Path(path) => {
                let target = target(objects, at).await?;
                let body = proxy::get_text(client, namespace, &target, &path.path, TIMEOUT).await?;
                path.version(&body)
            }
        };
        Ok(BTreeSet::from([version?]))
    }
}

impl VersionPath {
    /// Returns the version in an answer.
    fn version(&self, body: &str) -> Result<String, String> {
        let path = &self.path;
        let Some(pointer) = &self.json else {
            return Ok(body.trim().to_owned());
        };
        let document: Value = serde_json::from_str(body)
            .map_err(|error| format!("the answer to {path} is no JSON: {error}"))?;
        match document.pointer(pointer) {
            Some(Value::String(version)) => Ok(version.clone()),
            Some(Value::Number(version)) => Ok(version.to_string()),
            _ => Err(format!("the answer to {path} has no text at {pointer:?}")),
        }
    }
}

/// Returns a Service, with its port, for the API server's proxy.
async fn target(objects: &ServiceObjects<'_>, service: &str) -> Result<String, String> {
    let found = objects.cluster.api::<Service>().get(service).await;
    let spec = found.map_err(|error| base::chain(&error))?.spec;
    let port = spec.as_ref().and_then(request_port);
    let port = port.ok_or_else(|| format!("the Service {service} has no port"))?;
    Ok(format!("services/{service}:{}", port.port))
}

/// Returns the tags of the images of the ready pods behind a Service.
async fn of_images(objects: &ServiceObjects<'_>, at: &str) -> Result<BTreeSet<String>, String> {
    let endpoints = objects.endpoints(at).await;
    let endpoints = endpoints.map_err(|error| error.to_string())?;
    let is_ready = |name: &str| endpoints.iter().any(|(pod, ready)| *ready && pod == name);
    let listed = objects
        .cluster
        .api::<Pod>()
        .list(&ListParams::default())
        .await;
    let mut pods = listed.map_err(|error| base::chain(&error))?.items;
    pods.retain(|pod| is_ready(&pod.name_any()));
    if pods.is_empty() {
        return Err(format!("no ready pod is behind {at}"));
    }
    let tags = pods.iter().map(|pod| tag_of(pod, objects.service));
    tags.collect()
}

/// Returns the tag of the image of a pod's container that is named as the service, else of its first.
fn tag_of(pod: &Pod, service: &str) -> Result<String, String> {
    let containers = pod.spec.iter().flat_map(|it| &it.containers);
    let own = containers.clone().find(|it| it.name == service);
    let container = own.or(containers.clone().next());
    let image = container.and_then(|it| it.image.as_deref()).unwrap_or("");
    let tag = tag(image).map(|(_, tag)| tag.to_owned());
    tag.ok_or_else(|| format!("the image {image:?} of pod/{} has no tag", pod.name_any()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use kubernetes::Cluster;
    use kubernetes::mock::MockServer;

    const HEADER: HeaderName = HeaderName::from_static("x-app-version");

    fn path(json: Option<&str>) -> VersionPath {
        VersionPath {
            path: "/version".to_owned(),
            json: json.map(str::to_owned),
        }
    }

    #[test]
    fn a_path_of_the_service_wins_over_the_header_and_an_image_is_the_default() {
        let mut sources = VersionSources::default();
        assert_eq!(sources.of("quotes"), VersionSource::Image);
        sources.headers.version = Some(HEADER);
        assert_eq!(sources.of("quotes"), VersionSource::Header(HEADER));
        let own = VersionSource::Path(path(None));
        sources.services.insert("quotes".to_owned(), own.clone());
        assert_eq!(sources.of("quotes"), own);
        assert_eq!(sources.of("orders"), VersionSource::Header(HEADER));
        let of_tags = sources.of_tags();
        assert_eq!(of_tags.of("quotes"), VersionSource::Image);
        assert_eq!(of_tags.of("orders"), VersionSource::Header(HEADER));
    }

    #[test]
    fn the_version_is_the_trimmed_body_or_at_the_pointer() {
        let of = |json, body| path(json).version(body);
        assert_eq!(of(None, " v2\n").unwrap(), "v2");
        let body = r#"{"build": {"version": "v2", "number": 7}}"#;
        assert_eq!(of(Some("/build/version"), body).unwrap(), "v2");
        assert_eq!(of(Some("/build/number"), body).unwrap(), "7");
        insta::assert_snapshot!(
            [of(Some("/build"), body), of(Some("/build"), "v2")].map(Result::unwrap_err).join("\n"),
            @r#"
        the answer to /version has no text at "/build"
        the answer to /version is no JSON: expected value at line 1 column 1
        "#
        );
    }

    /// A cluster with one ready pod of v2 behind `quotes`, and one of v1 that is not.
    fn cluster() -> Cluster {
        let server = MockServer::new(|request| {
            let endpoint = |name: &str, ready| {
                json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready},
                    "targetRef": {"kind": "Pod", "name": name}})
            };
            let pod = |name: &str, tag: &str| {
                let sidecar = json!({"name": "proxy", "image": "a/proxy:v9"});
                let own = json!({"name": "quotes", "image": format!("a/quotes:{tag}")});
                json!({"metadata": {"name": name}, "spec": {"containers": [sidecar, own]}})
            };
            let list = |items: Value| (200, json!({"metadata": {}, "items": items}));
            match request.path.rsplit('/').next().unwrap_or_default() {
                "endpointslices" => {
                    let endpoints = [endpoint("a", true), endpoint("b", false)];
                    list(json!([{"metadata": {}, "addressType": "IPv4", "endpoints": endpoints}]))
                }
                "pods" => list(json!([pod("a", "v2"), pod("b", "v1")])),
                "version" => (200, json!({"version": "2.0"})),
                "quotes" => (
                    200,
                    json!({"metadata": {"name": "quotes"}, "spec": {"ports": [{"port": 80}]}}),
                ),
                _ => (401, json!({"x-trii-version": "v2"})),
            }
        });
        server.cluster("shop")
    }

    #[tokio::test]
    async fn a_service_is_asked_by_each_source() {
        let cluster = cluster();
        let served = async |source: VersionSource| {
            let objects = ServiceObjects {
                cluster: &cluster,
                service: "quotes",
            };
            let served = source.served(&objects, "quotes").await;
            served.map(|it| it.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(served(VersionSource::Image).await.unwrap(), ["v2"]);
        let by_path = served(VersionSource::Path(path(Some("/version")))).await;
        assert_eq!(by_path.unwrap(), ["2.0"]);
        let header = HeaderName::from_static("x-trii-version");
        let by_header = served(VersionSource::Header(header)).await;
        assert_eq!(by_header.unwrap(), ["v2"]);
        let error = served(VersionSource::Header(HEADER)).await.unwrap_err();
        assert_eq!(error, "quotes answers / with 401, without x-app-version");
    }
}
