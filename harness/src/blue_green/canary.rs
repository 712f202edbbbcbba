//! Canary Ingresses: beside each Ingress that routes to a service, one that routes a share of the
//! requests, and those that carry a header, to its preview Service.
//! <https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#canary>

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    HTTPIngressRuleValue, Ingress, IngressClass, IngressRule, IngressSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde::{Deserialize, Serialize};

use super::FIELD_MANAGER;
use super::changes::Changes;
use super::error::BlueGreenError;
use super::objects::{self, Objects, ROLE, in_words};
use super::retry::{fenced, retrying};
use crate::cluster::ClusterError;

/// What an ingress controller says of itself that honours the annotations.
const CONTROLLER: &str = "k8s.io/ingress-nginx";

const CANARY: &str = "nginx.ingress.kubernetes.io/canary";
const WEIGHT: &str = "nginx.ingress.kubernetes.io/canary-weight";
const HEADER: &str = "nginx.ingress.kubernetes.io/canary-by-header";

/// How an ingress routes traffic to a new colour before the switch: `[blue_green.canary]` of
/// `harness.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The shares of the requests, in percent, one after the other. The switch follows the last.
    pub weights: Vec<u8>,
    /// Requests with this header and the value `always` reach the new colour from the checks on.
    pub header: Option<String>,
}

impl Objects<'_> {
    fn ingresses(&self) -> Api<Ingress> {
        Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace)
    }

    /// The Ingresses that route to the service, without canaries.
    async fn routing_ingresses(&self) -> Result<Vec<Ingress>, ClusterError> {
        let (api, all) = (self.ingresses(), ListParams::default());
        let listed = retrying("list Ingresses", async || match api.list(&all).await {
            // An API server that knows of none.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
            listed => listed.map(|it| it.items),
        });
        let is_canary = |it: &Ingress| it.annotations().get(CANARY).is_some_and(|it| it == "true");
        let routes = |it: &Ingress| !is_canary(it) && !rules(it, self.service, "").is_empty();
        Ok(listed.await?.into_iter().filter(routes).collect())
    }

    /// Why no ingress can route a share of the traffic to the new colour, if none can.
    ///
    /// # Errors
    /// What the API server said.
    pub(super) async fn why_no_canary(&self) -> Result<Option<String>, BlueGreenError> {
        let ingresses = self.routing_ingresses().await?;
        let Some(first) = ingresses.first() else {
            return Ok(Some(format!("no Ingress routes to {}", self.service)));
        };
        let Some(class) = first
            .spec
            .as_ref()
            .and_then(|it| it.ingress_class_name.clone())
        else {
            let name = first.name_any();
            return Ok(Some(format!("Ingress {name} names no class")));
        };
        let api: Api<IngressClass> = Api::all(self.cluster.client().clone());
        let found = retrying("get an IngressClass", async || api.get_opt(&class).await);
        let controller = match found.await {
            Ok(found) => found.and_then(|it| it.spec?.controller),
            // Whoever may not look goes by the configuration, which asks for it.
            Err(ClusterError::Forbidden { .. }) => Some(CONTROLLER.to_owned()),
            Err(error) => return Err(error.into()),
        };
        let controller = controller.unwrap_or_else(|| "nobody".to_owned());
        Ok((controller != CONTROLLER).then(|| {
            format!("Ingresses of class {class} are {controller}'s, which is not known to honour canary annotations")
        }))
    }
}

impl Changes<'_> {
    /// Has the ingress route `weight` percent of the service's requests, and those that carry the
    /// header, to its preview Service.
    pub async fn set_canary_weight(
        &self,
        canary: &Canary,
        weight: u8,
    ) -> Result<(), BlueGreenError> {
        let (api, how) = (
            self.objects.ingresses(),
            PatchParams::apply(FIELD_MANAGER).force(),
        );
        for ingress in self.objects.routing_ingresses().await? {
            let beside = beside(&self.objects, &ingress, canary, weight);
            let name = beside.name_any();
            let what = format!("have Ingress {name} route {weight} % of the traffic");
            fenced(self.lock, &what, async || {
                api.patch(&name, &how, &Patch::Apply(&beside))
                    .await
                    .map(drop)
            })
            .await?;
        }
        Ok(())
    }

    /// Deletes the service's canary Ingresses.
    pub async fn delete_canaries(&self) -> Result<(), BlueGreenError> {
        let (api, how) = (self.objects.ingresses(), DeleteParams::default());
        let ours = ListParams::default().labels(&in_words(&labels(self.objects.service)));
        let listed = retrying("list Ingresses", async || api.list(&ours).await).await?;
        for canary in listed {
            let name = canary.name_any();
            let what = format!("delete Ingress {name}");
            fenced(self.lock, &what, async || {
                match api.delete(&name, &how).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                    deleted => deleted.map(drop),
                }
            })
            .await?;
        }
        Ok(())
    }
}

fn labels(service: &str) -> BTreeMap<String, String> {
    let mut labels = objects::labels(service);
    labels.insert(ROLE.to_owned(), "canary".to_owned());
    labels
}

/// The canary beside an Ingress, which owns it. The controller applies the other annotations of the
/// owner to it, and ignores a canary's own.
fn beside(objects: &Objects<'_>, ingress: &Ingress, canary: &Canary, weight: u8) -> Ingress {
    let spec = ingress.spec.clone().unwrap_or_default();
    let mut annotations = BTreeMap::from([
        (CANARY.to_owned(), "true".to_owned()),
        (WEIGHT.to_owned(), weight.to_string()),
    ]);
    if let Some(header) = &canary.header {
        annotations.insert(HEADER.to_owned(), header.clone());
    }
    Ingress {
        metadata: ObjectMeta {
            name: Some(format!("{}-canary", ingress.name_any())),
            labels: Some(labels(objects.service)),
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: "networking.k8s.io/v1".to_owned(),
                kind: "Ingress".to_owned(),
                name: ingress.name_any(),
                uid: ingress.uid().unwrap_or_default(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(IngressSpec {
            rules: Some(rules(ingress, objects.service, &objects.preview())),
            default_backend: None,
            ..spec
        }),
        status: None,
    }
}

/// An Ingress' rules that route to `service`, with `to` as their backend.
fn rules(ingress: &Ingress, service: &str, to: &str) -> Vec<IngressRule> {
    let rules = ingress.spec.iter().flat_map(|it| it.rules.iter().flatten());
    let its = rules.filter_map(|rule| {
        let paths = rule.http.iter().flat_map(|it| &it.paths);
        let paths = paths.filter_map(|path| {
            let mut path = path.clone();
            let backend = path.backend.service.as_mut()?;
            (backend.name == service).then(|| backend.name = to.to_owned())?;
            Some(path)
        });
        let paths: Vec<_> = paths.collect();
        (!paths.is_empty()).then(|| IngressRule {
            http: Some(HTTPIngressRuleValue { paths }),
            ..rule.clone()
        })
    });
    its.collect()
}
