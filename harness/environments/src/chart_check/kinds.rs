//! Each kind that a chart needs is served by the cluster.

use super::definitions::{Kinds, defined_by};
use super::fields::found;
use super::objects::{ChartObject, Comparison};
use crate::config::ConfigError;
use helm::render::RenderedObject;

pub(super) fn check(comparison: &Comparison<'_>) -> Vec<ConfigError> {
    let mut served = comparison.contents.kinds.clone();
    let mut refused = Vec::new();
    for rendered in comparison.releases {
        // helm applies the folder `crds` first. It then refuses a release with unknown kinds, also
        // of definitions in its own templates: these are for later releases.
        let (crds, templates): (Vec<_>, Vec<_>) =
            rendered.objects.iter().partition(|it| it.is_from_crds());
        served.extend(defined(&crds));
        let mut reported = Kinds::new();
        for it in &templates {
            let object = ChartObject {
                release: rendered.release,
                file: &it.file,
                object: &it.object,
            };
            let kind = (object.api_version().to_owned(), object.kind().to_owned());
            if !served.contains(&kind) && reported.insert(kind) {
                refused.push(refuse(comparison, object, &served));
            }
        }
        served.extend(defined(&templates));
    }
    refused
}

fn refuse(comparison: &Comparison<'_>, object: ChartObject<'_>, served: &Kinds) -> ConfigError {
    let (api_version, kind) = (object.api_version(), object.kind());
    let message = format!(
        "{} is of the kind {kind} of {api_version}, which Kubernetes {} does not serve, and no chart or manifest defines",
        object.title(),
        comparison.contents.kubernetes
    );
    let versions: Vec<&str> = served
        .iter()
        .filter(|(_, served)| served == kind)
        .map(|(version, _)| version.as_str())
        .collect();
    let file = object.file;
    let help = match (versions.is_empty(), comparison.contents.is_ours) {
        (false, _) => format!("{file}: the cluster serves {kind} of {}", found(versions)),
        (true, true) => format!(
            "turn {file} off in the chart's values, or add the kind's CustomResourceDefinition to platform.manifests"
        ),
        (true, false) => format!(
            "turn {file} off in the chart's values, or install the kind's CustomResourceDefinition"
        ),
    };
    comparison.refuse_release(object.release, message, help)
}

fn defined(objects: &[&RenderedObject]) -> Vec<(String, String)> {
    objects
        .iter()
        .flat_map(|it| defined_by(&it.object))
        .collect()
}
