//! Whether a target's own cluster serves its site: load goes nowhere else. A `site_url` is a
//! name in a file, and might be the site of production.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::RemoteError;
use crate::chain;
use crate::cluster::{Cluster, ClusterError};
use crate::entry::Entry;
use crate::proxies::Proxies;
use crate::wait::{self, Observation};

/// On every answer: the pod that gave it.
const INSTANCE: &str = "x-trii-instance";

/// The host of a Service of type `LoadBalancer`, as ExternalDNS reads it.
/// <https://kubernetes-sigs.github.io/external-dns/latest/docs/annotations/annotations/>
const HOSTNAME: &str = "external-dns.alpha.kubernetes.io/hostname";

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Refuses a site that the cluster's namespace has no route for, or that others answer. Each
/// host has `deadline` for an answer of a pod that is there: while pods change, one that is
/// gone may have answered.
///
/// # Errors
/// [`RemoteError::NotServed`]; what the API server said.
pub(super) async fn must_serve(
    cluster: &Cluster,
    entry: &Entry,
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
        let what = format!("a pod of {} answers {}", cluster.namespace, entry.url(host));
        let look = async || answered_by_a_pod(cluster, entry, host).await;
        let answered = wait::until(what, deadline, PAUSE, look).await;
        answered.map_err(|error| not_served(error.to_string()))?;
    }
    Ok(())
}

/// The hosts that the namespace's Ingresses and Services bring from outside.
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
    let wished = service.annotations().get(HOSTNAME).into_iter();
    let wished = wished.flat_map(|hosts| hosts.split(',').map(|it| it.trim().to_owned()));
    let status = service
        .status
        .as_ref()
        .and_then(|it| it.load_balancer.as_ref());
    let given = status
        .into_iter()
        .flat_map(|it| it.ingress.iter().flatten());
    wished
        .chain(given.filter_map(|it| it.hostname.clone()))
        .collect()
}

/// Whether the host of a rule is this one; `*` stands for one label.
/// <https://kubernetes.io/docs/concepts/services-networking/ingress/#hostname-wildcards>
fn covers(rule: &str, host: &str) -> bool {
    match (rule.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((_, rest))) => domain.eq_ignore_ascii_case(rest),
        (Some(_), None) => false,
        (None, _) => rule.eq_ignore_ascii_case(host),
    }
}

/// Asks the host for `/`, which every service answers with its marks, and looks for the pod
/// that says it answered.
async fn answered_by_a_pod(cluster: &Cluster, entry: &Entry, host: &str) -> Observation<()> {
    // The way that load goes.
    let client = match entry.client([host], &Proxies::default()) {
        Ok(client) => client,
        Err(error) => return Observation::Hopeless(error.to_string()),
    };
    let answer = match client.get(entry.url(host) + "/").send().await {
        Ok(answer) => answer,
        Err(error) => return Observation::NotYet(chain(&error)),
    };
    let instance = answer.headers().get(INSTANCE);
    let Some(instance) = instance.and_then(|it| it.to_str().ok()) else {
        return Observation::NotYet(format!("{}, without {INSTANCE}", answer.status()));
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
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
    use crate::cluster::mock::Server;
    use crate::exit::ExitCode;

    const DEADLINE: Duration = Duration::from_secs(1);
    const HOSTS: [&str; 2] = ["staging.trii.co", "staging-api.trii.co"];

    /// A site that this pod answers, as long as the test runs.
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
        let server = Server::new(move |asked| {
            let items = match asked.path.rsplit('/').next() {
                Some("ingresses") => json!([ingress]),
                Some("services") => services.clone(),
                _ => json!([{"metadata": {"name": "api-gateway-0"}}]),
            };
            (200, json!({"metadata": {}, "items": items}))
        });
        server.cluster("trii-platform")
    }

    async fn served(cluster: &Cluster, instance: &'static str) -> Result<(), RemoteError> {
        let entry = Entry::plain(site(instance).await);
        must_serve(cluster, &entry, HOSTS, DEADLINE).await
    }

    const OURS: &str = "x-trii-instance: api-gateway-0\r\n";

    #[tokio::test]
    async fn a_site_that_its_own_pods_answer_is_served() {
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
    async fn a_site_of_another_cluster_is_refused_before_it_is_asked() {
        let nobody = Entry::plain("127.0.0.1:1".parse().unwrap());
        for (hosts, words) in [
            (
                &["trii.co", "api.trii.co"][..],
                "are for api.trii.co, trii.co",
            ),
            (&["staging.trii.co"][..], "are for staging.trii.co"),
            (&["*.co"][..], "are for *.co"),
            (&[][..], "no Ingress"),
        ] {
            // That which is no LoadBalancer brings nothing from outside.
            let inner = json!([{"metadata": {"annotations": {HOSTNAME: "staging-api.trii.co"}},
                "spec": {"type": "ClusterIP"}}]);
            let ours = cluster(hosts, inner);
            // The host that is there is answered by a pod.
            let entry = match hosts {
                ["staging.trii.co"] => Entry::plain(site(OURS).await),
                _ => nobody.clone(),
            };
            let error = must_serve(&ours, &entry, HOSTS, DEADLINE)
                .await
                .unwrap_err();
            assert_eq!(error.exit_code(), ExitCode::Refused);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn a_site_that_others_answer_is_refused() {
        let ours = cluster(&HOSTS, json!([]));
        for (instance, words) in [
            (
                "x-trii-instance: api-gateway-of-production\r\n",
                "is no pod of the namespace",
            ),
            ("", "404 Not Found, without x-trii-instance"),
        ] {
            let error = served(&ours, instance).await.unwrap_err();
            assert_eq!(error.exit_code(), ExitCode::Refused);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
