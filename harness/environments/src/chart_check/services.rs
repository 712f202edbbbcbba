//! Each service of harness.toml is a Service that has pods.

use serde_json::Value;

use super::builtin::is_builtin;
use super::fields::{found, matches};
use super::objects::{ChartObject, Comparison};
use crate::config::{ConfigError, PlatformService};
use base::text::similar;

pub(super) fn check(comparison: &Comparison<'_>) -> Vec<ConfigError> {
    let services = comparison.config.services.iter();
    services
        .filter_map(|service| {
            let mut rendered = comparison.of_kind("Service");
            match rendered.find(|it| it.name() == service.name) {
                Some(rendered) => without_pods(comparison, service, rendered),
                None => not_rendered(comparison, service),
            }
        })
        .collect()
}

fn not_rendered(comparison: &Comparison<'_>, service: &PlatformService) -> Option<ConfigError> {
    // Who may not list Services cannot know whether it is there.
    let others = comparison.contents.services.as_ref()?;
    let name = service.name.as_str();
    if others.iter().any(|it| it["metadata"]["name"] == name) {
        return None;
    }
    let rendered: Vec<&str> = comparison
        .of_kind("Service")
        .map(ChartObject::name)
        .collect();
    let help = match similar(name, rendered.iter().copied()) {
        Some(other) => format!("did you mean {other:?}?"),
        None => {
            "name it as the chart does, or set the chart's values so that it is rendered".into()
        }
    };
    let message = format!(
        "no release renders a Service called {name:?}; their Services: {}",
        found(rendered)
    );
    let place = service.place.clone();
    Some(comparison.config.refuse(place, message, Some(help)))
}

/// A Service without a selector has its endpoints from elsewhere. Pods may also be made for a custom
/// resource, by its operator.
fn without_pods(
    comparison: &Comparison<'_>,
    service: &PlatformService,
    rendered: ChartObject<'_>,
) -> Option<ConfigError> {
    let selector = rendered.at("/spec/selector");
    let selects = selector.as_object().is_some_and(|it| !it.is_empty());
    let finds = |labels: &Value| matches(selector, labels);
    if !selects || comparison.pods().any(|pods| finds(pods.labels())) || has_operator(comparison) {
        return None;
    }
    let keys: Vec<&String> = selector.as_object()?.keys().collect();
    let there: Vec<String> = comparison
        .pods()
        .map(|pods| {
            let labels = keys
                .iter()
                .filter_map(|key| Some((*key, pods.labels().get(*key)?)));
            let labels: Vec<String> = labels.map(in_words).collect();
            format!(
                "{} has {}",
                pods.owner.title(),
                found(labels.iter().map(String::as_str))
            )
        })
        .collect();
    let wanted: Vec<String> = selector.as_object()?.iter().map(in_words).collect();
    let message = format!(
        "the Service {:?} selects {}, and no pod has that; {}",
        service.name,
        wanted.join(","),
        found(there.iter().map(String::as_str))
    );
    let help = format!(
        "make the selector in {} and the labels of the pods the same",
        rendered.file
    );
    let place = service.place.clone();
    Some(comparison.config.refuse(place, message, Some(help)))
}

fn has_operator(comparison: &Comparison<'_>) -> bool {
    let mut objects = comparison.objects();
    objects.any(|it| !is_builtin(it.api_version()) && it.pods().is_none())
}

fn in_words((key, value): (&String, &Value)) -> String {
    format!("{key}={}", value.as_str().unwrap_or_default())
}
