//! Checks that a target's own cluster serves its site, the only destination of load. A `site_url`
//! in the configuration could be the site of production.

use std::time::Duration;

use hyper::header::HeaderName;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::RemoteError;
use base::chain;
use base::entry_point::EntryPoint;
use base::proxies::Proxies;
use base::wait::{self, Observation};
use kubernetes::{Cluster, ClusterError};

/// The annotation with the host of a Service of type `LoadBalancer`, for ExternalDNS.
/// <https://kubernetes-sigs.github.io/external-dns/latest/docs/annotations/annotations/>
const HOSTNAME: &str = "external-dns.alpha.kubernetes.io/hostname";

const PAUSE: Duration = Duration::from_millis(500);

/// Refuses a site that the cluster's namespace has no route for, or that others answer. Each host
/// has `deadline` for an answer of an existing pod, by the header `instance`: a rollout may delete the
/// pod that answered.
///
/// # Errors
/// [`RemoteError::NotServed`], and errors of the API server.
pub(super) async fn must_serve(
    cluster: &Cluster,
    (entry, instance): (&EntryPoint, Option<&HeaderName>),
    hosts: [&str; 2],
    deadline: Duration,
) -> Result<(), RemoteError> {
    let routed = routed_hosts(cluster).await?;
    for host in hosts {
        let not_served = |seen: String| RemoteError::NotServed {
            url: entry.url(host),
            namespace: cluster.namespace.clone(),
            seen,
        };
        if !routed.iter().any(|it| covers(it, host)) {
            let seen = match routed.as_slice() {
                [] => "no Ingress or LoadBalancer Service with a host is there".to_owned(),
                others => format!("its Ingresses and Services are for {}", others.join(", ")),
            };
            return Err(not_served(seen));
        }
        let Some(instance) = instance else {
            return Err(not_served(
                "harness.toml has no platform.headers.instance, the header with the pod that answers"
                    .to_owned(),
            ));
        };
        let what = format!("a pod of {} answers {}", cluster.namespace, entry.url(host));
        let check = async || answered_by_a_pod(cluster, (entry, instance), host).await;
        let answered = wait::until(what, deadline, PAUSE, check).await;
        answered.map_err(|error| not_served(error.to_string()))?;
    }
    Ok(())
}

/// The external hosts of the namespace's Ingresses and Services.
async fn routed_hosts(cluster: &Cluster) -> Result<Vec<String>, ClusterError> {
    let (client, namespace) = (cluster.client(), &cluster.namespace);
    let ingresses: Api<Ingress> = Api::namespaced(client.clone(), namespace);
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let all = ListParams::default();
    let ingresses = ingresses.list(&all).await;
    let ingresses = ingresses.map_err(|error| ClusterError::of("list Ingresses", error))?;
    let services = services.list(&all).await;
    let services = services.map_err(|error| ClusterError::of("list Services", error))?;
    let rules = ingresses.items.into_iter().filter_map(|it| it.spec?.rules);
    let hosts = rules.flatten().filter_map(|rule| rule.host);
    let mut hosts: Vec<String> = hosts
        .chain(services.items.iter().flat_map(hosts_of_service))
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    Ok(hosts)
}

fn hosts_of_service(service: &Service) -> Vec<String> {
    let kind = service.spec.as_ref().and_then(|it| it.type_.as_deref());
    if kind != Some("LoadBalancer") {
        return Vec::new();
    }
    let annotated = service.annotations().get(HOSTNAME).into_iter();
    let annotated = annotated.flat_map(|hosts| hosts.split(',').map(|it| it.trim().to_owned()));
    let status = service
        .status
        .as_ref()
        .and_then(|it| it.load_balancer.as_ref());
    let assigned = status
        .into_iter()
        .flat_map(|it| it.ingress.iter().flatten());
    annotated
        .chain(assigned.filter_map(|it| it.hostname.clone()))
        .collect()
}

/// Whether the rule is for this host; `*` matches one label.
/// <https://kubernetes.io/docs/concepts/services-networking/ingress/#hostname-wildcards>
fn covers(rule: &str, host: &str) -> bool {
    match (rule.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((_, rest))) => domain.eq_ignore_ascii_case(rest),
        (Some(_), None) => false,
        (None, _) => rule.eq_ignore_ascii_case(host),
    }
}

/// Requests `/`, which every service answers with its headers, and looks for the pod that answered.
async fn answered_by_a_pod(
    cluster: &Cluster,
    (entry, header): (&EntryPoint, &HeaderName),
    host: &str,
) -> Observation<()> {
    // The same path as load.
    let client = match entry.client([host], &Proxies::default()) {
        Ok(client) => client,
        Err(error) => return Observation::Failed(error.to_string()),
    };
    let answer = match client.get(entry.url(host) + "/").send().await {
        Ok(answer) => answer,
        Err(error) => return Observation::NotYet(chain(&error)),
    };
    let instance = answer.headers().get(header);
    let Some(instance) = instance.and_then(|it| it.to_str().ok()) else {
        return Observation::NotYet(format!("{}, without {header}", answer.status()));
    };
    let pods: Api<Pod> = cluster.api();
    let listed = match pods.list(&ListParams::default()).await {
        Ok(listed) => listed,
        Err(error) => return Observation::NotYet(chain(&error)),
    };
    match listed.items.iter().any(|pod| pod.name_any() == instance) {
        true => Observation::Ready(()),
        false => Observation::NotYet(format!(
            "{instance} answers, which is no pod of the namespace"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use base::exit::ExitCode;
    use kubernetes::mock::MockServer;

    const DEADLINE: Duration = Duration::from_secs(1);
    const HOSTS: [&str; 2] = ["staging.trii.co", "staging-api.trii.co"];

    /// A site whose answers have this header.
    async fn site(instance: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = format!(
                    "HTTP/1.1 404 Not Found\r\n{instance}content-length: 0\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    /// A cluster whose Ingress has these hosts, and that has the pod `api-gateway-0`.
    fn cluster(hosts: &[&str], services: Value) -> Cluster {
        let rules: Vec<_> = hosts.iter().map(|it| json!({"host": it})).collect();
        let ingress = json!({"metadata": {}, "spec": {"rules": rules}});
        let server = MockServer::new(move |request| {
            let items = match request.path.rsplit('/').next() {
                Some("ingresses") => json!([ingress]),
                Some("services") => services.clone(),
                _ => json!([{"metadata": {"name": "api-gateway-0"}}]),
            };
            (200, json!({"metadata": {}, "items": items}))
        });
        server.cluster("trii-platform")
    }

    async fn served(cluster: &Cluster, instance: &'static str) -> Result<(), RemoteError> {
        let entry = EntryPoint::plain(site(instance).await);
        must_serve(cluster, (&entry, Some(&INSTANCE)), HOSTS, DEADLINE).await
    }

    const INSTANCE: HeaderName = HeaderName::from_static("x-trii-instance");
    const OURS: &str = "x-trii-instance: api-gateway-0\r\n";

    #[tokio::test]
    async fn a_site_whose_own_pods_answer_is_served() {
        let by_ingress = cluster(&HOSTS, json!([]));
        served(&by_ingress, OURS).await.unwrap();
        served(&cluster(&["*.trii.co"], json!([])), OURS)
            .await
            .unwrap();
        let balancer = json!([
            {"metadata": {"annotations": {HOSTNAME: "staging.trii.co, x.example"}},
                "spec": {"type": "LoadBalancer"}},
            {"metadata": {}, "spec": {"type": "LoadBalancer"},
                "status": {"loadBalancer": {"ingress": [{"hostname": "staging-api.trii.co"}]}}},
        ]);
        served(&cluster(&[], balancer), OURS).await.unwrap();
    }

    #[tokio::test]
    async fn a_site_of_another_cluster_is_refused_before_a_request() {
        let unreachable = EntryPoint::plain("127.0.0.1:1".parse().unwrap());
        for (hosts, expected) in [
            (
                &["trii.co", "api.trii.co"][..],
                "are for api.trii.co, trii.co",
            ),
            (&["staging.trii.co"][..], "are for staging.trii.co"),
            (&["*.co"][..], "are for *.co"),
            (&[][..], "no Ingress"),
        ] {
            // Only a LoadBalancer has external hosts.
            let inner = json!([{"metadata": {"annotations": {HOSTNAME: "staging-api.trii.co"}},
                "spec": {"type": "ClusterIP"}}]);
            let target = cluster(hosts, inner);
            // A pod answers the first host.
            let entry = match hosts {
                ["staging.trii.co"] => EntryPoint::plain(site(OURS).await),
                _ => unreachable.clone(),
            };
            let error = must_serve(&target, (&entry, Some(&INSTANCE)), HOSTS, DEADLINE)
                .await
                .unwrap_err();
            assert_eq!(error.exit_code(), ExitCode::Refused);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn without_a_header_for_the_pod_a_site_is_refused() {
        let target = cluster(&HOSTS, json!([]));
        let entry = EntryPoint::plain(site(OURS).await);
        let refused = must_serve(&target, (&entry, None), HOSTS, DEADLINE).await;
        let error = refused.unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Refused);
        let error = error.to_string();
        assert!(error.contains("no platform.headers.instance"), "{error}");
    }

    #[tokio::test]
    async fn a_site_that_others_answer_is_refused() {
        let target = cluster(&HOSTS, json!([]));
        for (instance, expected) in [
            (
                "x-trii-instance: api-gateway-of-production\r\n",
                "is no pod of the namespace",
            ),
            ("", "404 Not Found, without x-trii-instance"),
        ] {
            let error = served(&target, instance).await.unwrap_err();
            assert_eq!(error.exit_code(), ExitCode::Refused);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
