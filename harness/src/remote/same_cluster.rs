//! Whether a target's cluster is a production target's, by another name of its server.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

use super::kubeconfig::{Minified, Read};
use super::{RemoteError, Site};
use crate::cluster::{self, Access, ClusterError};
use crate::config::{RemoteTarget, Target};
use crate::proxies::Proxies;

/// Every cluster has it from its beginning, so that its UID is taken for the cluster's own.
const KUBE_SYSTEM: &str = "kube-system";

/// Refuses a target whose cluster a production target is, too. Only clusters whose servers'
/// certificates are of one authority are asked who they are; a production target whose context
/// is not on this machine is not compared.
///
/// # Errors
/// [`RemoteError::IsProduction`].
pub(super) async fn must_not_be_production(
    site: &Site<'_>,
    copy: &Minified,
    ours: &Client,
    patience: Duration,
) -> Result<(), RemoteError> {
    if site.target.production {
        return Ok(());
    }
    for (name, production) in &site.config.targets {
        let Target::Remote(production) = production else {
            continue;
        };
        let Some(theirs) = context_of(site, production).filter(|_| production.production) else {
            continue;
        };
        if !theirs.is_of_one_authority_with(copy) {
            continue;
        }
        let refused = |seen: String| RemoteError::IsProduction {
            target: site.name.to_owned(),
            production: name.clone(),
            seen,
        };
        let reading = Access::granted(name, &production.namespace, []);
        let proxies = Proxies::of_this_process();
        let theirs = cluster::connect(theirs.kubeconfig(), &production.context, &proxies, reading);
        let theirs = theirs.map_err(refused)?;
        let uid = async |of: &str, client: &Client| {
            let uid = timeout(patience, uid(client)).await;
            let uid = uid.unwrap_or_else(|_| Err("no answer in time".into()));
            uid.map_err(|why| refused(format!("the cluster of {of} does not say who it is: {why}")))
        };
        let its = uid(site.name, ours).await?;
        if its == uid(name, &theirs).await? {
            let seen = format!("namespace {KUBE_SYSTEM} has the UID {its} in both");
            return Err(refused(seen));
        }
    }
    Ok(())
}

fn context_of(site: &Site<'_>, target: &RemoteTarget) -> Option<Minified> {
    let file = target.kubeconfig.as_ref();
    let file = file.map(|file| site.workspace.join(file));
    let read = Read::from(file.as_deref()).and_then(|it| it.minified(&target.context));
    read.ok()
}

async fn uid(client: &Client) -> Result<String, String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = namespaces.get(KUBE_SYSTEM).await.map_err(|error| {
        ClusterError::of(format!("look at namespace {KUBE_SYSTEM}"), error).to_string()
    })?;
    namespace.uid().ok_or_else(|| "it has no UID".into())
}
