//! Detects that a target's cluster is also a production target's, by another name of its server.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

use super::kubeconfig::{Minified, Read};
use super::{RemoteError, Site};
use crate::config::{RemoteTarget, Target};
use base::proxies::Proxies;
use kubernetes::{ClusterError, Permissions};

/// Every cluster has this namespace from its creation, so its UID identifies the cluster.
const KUBE_SYSTEM: &str = "kube-system";

/// Refuses a target whose cluster is also a production target's. Compares only clusters with the
/// same certificate authority, if this machine has the production target's context.
///
/// # Errors
/// [`RemoteError::IsProduction`].
pub(super) async fn must_not_be_production(
    site: &Site<'_>,
    copy: &Minified,
    client: &Client,
    within: Duration,
) -> Result<(), RemoteError> {
    if site.target.production {
        return Ok(());
    }
    for (name, production) in &site.config.targets {
        let Target::Remote(production) = production else {
            continue;
        };
        let Some(other) = context_of(site, production).filter(|_| production.production) else {
            continue;
        };
        if !other.is_of_one_authority_with(copy) {
            continue;
        }
        let refused = |seen: String| RemoteError::IsProduction {
            target: site.name.to_owned(),
            production: name.clone(),
            seen,
        };
        let reading = Permissions::granted(name, &production.namespace, None, []);
        let proxies = Proxies::of_this_process();
        let other = kubernetes::connect(other.kubeconfig(), &production.context, &proxies, reading);
        let other = other.map_err(refused)?;
        let uid = async |of: &str, client: &Client| {
            let uid = timeout(within, uid(client)).await;
            let uid = uid.unwrap_or_else(|_| Err("no answer in time".into()));
            uid.map_err(|why| refused(format!("the cluster of {of} cannot be identified: {why}")))
        };
        let its = uid(site.name, client).await?;
        if its == uid(name, &other).await? {
            return Err(refused(format!(
                "namespace {KUBE_SYSTEM} has the UID {its} in both"
            )));
        }
    }
    Ok(())
}

fn context_of(site: &Site<'_>, target: &RemoteTarget) -> Option<Minified> {
    let read = Read::from(site.kubeconfig(target).as_deref());
    read.and_then(|it| it.minified(&target.context)).ok()
}

async fn uid(client: &Client) -> Result<String, String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = namespaces.get(KUBE_SYSTEM).await.map_err(|error| {
        ClusterError::of(format!("look at namespace {KUBE_SYSTEM}"), error).to_string()
    })?;
    namespace.uid().ok_or_else(|| "it has no UID".into())
}
