//! Canary Ingresses. For each Ingress of a service, a canary routes a share of the requests, and
//! those with a header, to the preview Service.
//! <https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#canary>

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    HTTPIngressRuleValue, Ingress, IngressClass, IngressRule, IngressSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use kube::{Api, ResourceExt};

use super::changes::Changes;
use super::error::BlueGreenError;
use super::naming::{self, FIELD_MANAGER};
use super::objects::{ROLE, ServiceObjects, selector_text};
use super::policy::Canary;
use super::retry::retrying;
use kubernetes::ClusterError;

/// The controller that honours the annotations.
const CONTROLLER: &str = "k8s.io/ingress-nginx";

const CANARY: &str = "nginx.ingress.kubernetes.io/canary";
const WEIGHT: &str = "nginx.ingress.kubernetes.io/canary-weight";
const HEADER: &str = "nginx.ingress.kubernetes.io/canary-by-header";

impl ServiceObjects<'_> {
    /// Lists the Ingresses that route to the service, without canaries.
    async fn routing_ingresses(&self) -> Result<Vec<Ingress>, ClusterError> {
        let (api, all) = (self.cluster.api::<Ingress>(), ListParams::default());
        let listed = retrying("list Ingresses", async || match api.list(&all).await {
            // An API server without this resource.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
            listed => listed.map(|it| it.items),
        });
        let is_canary = |it: &Ingress| it.annotations().get(CANARY).is_some_and(|it| it == "true");
        let routes = |it: &Ingress| !is_canary(it) && !rules(it, self.service, "").is_empty();
        Ok(listed.await?.into_iter().filter(routes).collect())
    }

    /// Returns why no ingress can route a share of the traffic to the new colour; none if one can.
    ///
    /// # Errors
    /// The API server's error.
    pub(super) async fn why_no_canary(&self) -> Result<Option<String>, BlueGreenError> {
        let ingresses = self.routing_ingresses().await?;
        let Some(first) = ingresses.first() else {
            return Ok(Some(format!("no Ingress routes to {}", self.service)));
        };
        let spec = first.spec.as_ref();
        let Some(class) = spec.and_then(|it| it.ingress_class_name.as_ref()) else {
            let name = first.name_any();
            return Ok(Some(format!("Ingress {name} names no class")));
        };
        let api: Api<IngressClass> = Api::all(self.cluster.client().clone());
        let found = retrying("get an IngressClass", async || api.get_opt(class).await);
        let controller = match found.await {
            Ok(found) => found.and_then(|it| it.spec?.controller),
            // Without permission to read it, the configuration is trusted.
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
    /// Makes the ingress route `weight` percent of the service's requests, and those with the
    /// header, to its preview Service.
    pub async fn set_canary_weight(
        &self,
        canary: &Canary,
        weight: u8,
    ) -> Result<(), BlueGreenError> {
        let api = self.objects.cluster.api::<Ingress>();
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        for ingress in self.objects.routing_ingresses().await? {
            let canary_ingress = canary_of(&self.objects, &ingress, canary, weight);
            let name = canary_ingress.name_any();
            let patch = Patch::Apply(&canary_ingress);
            let what = format!("have Ingress {name} route {weight} % of the traffic");
            let applied = self.fenced(&what, async || api.patch(&name, &parameters, &patch).await);
            applied.await?;
        }
        Ok(())
    }

    /// Deletes the service's canary Ingresses.
    pub async fn delete_canaries(&self) -> Result<(), BlueGreenError> {
        let api = self.objects.cluster.api::<Ingress>();
        let parameters = DeleteParams::default();
        let ours = ListParams::default().labels(&selector_text(&labels(self.objects.service)));
        for canary in self.objects.list::<Ingress>(&ours).await? {
            let name = canary.name_any();
            let what = format!("delete Ingress {name}");
            self.fenced(&what, async || match api.delete(&name, &parameters).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                deleted => deleted.map(drop),
            })
            .await?;
        }
        Ok(())
    }
}

fn labels(service: &str) -> BTreeMap<String, String> {
    let mut labels = naming::labels(service);
    labels.insert(ROLE.to_owned(), "canary".to_owned());
    labels
}

/// Returns the canary of an Ingress, which owns it. The controller applies the owner's other
/// annotations to the canary, and ignores the canary's own.
fn canary_of(
    objects: &ServiceObjects<'_>,
    ingress: &Ingress,
    canary: &Canary,
    weight: u8,
) -> Ingress {
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

/// Returns an Ingress' rules that route to `service`, with `to` as their backend.
fn rules(ingress: &Ingress, service: &str, to: &str) -> Vec<IngressRule> {
    let rules = ingress.spec.iter().flat_map(|it| it.rules.iter().flatten());
    let routing = rules.filter_map(|rule| {
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
    routing.collect()
}
