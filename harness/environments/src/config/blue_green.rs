//! Validates `[blue_green]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::shared_rules::{fault, is_path, validate_deadline, validate_header, validate_seconds};
use super::{Fault, schema};
use blue_green::VersionSources;
use blue_green::analysis::Thresholds;
use blue_green::ingress::IngressMetrics;
use blue_green::policy::{Canary, Evidence, Policy, expected};

/// A shorter lease leaves no time to retry a renewal. With a longer one, others wait too long for a
/// deployer that was killed.
const LEASE_SECONDS: RangeInclusive<u32> = 5..=300;

pub(super) fn validate(
    section: &schema::BlueGreenTable,
    services: &BTreeMap<Spanned<String>, schema::ServiceTable>,
    versions: VersionSources,
) -> Result<Policy, Fault> {
    let max_latency = section.max_latency_ms.as_ref();
    Ok(Policy {
        lease: validate_lease(&section.lease)?,
        green_ready: validate_deadline(&section.green_ready)?,
        baseline: validate_deadline(&section.baseline)?,
        analysis: validate_analysis(section)?,
        prometheus: section.prometheus.clone(),
        metrics: section.metrics.clone(),
        ingress: section.ingress.as_ref().map(validate_ingress).transpose()?,
        canary: match &section.canary {
            Some(canary) => Some(validate_canary(canary, *section.analysis.get_ref())?),
            None => None,
        },
        watch: validate_deadline(&section.watch)?,
        warm_up: validate_warm_up(&section.warm_up, &section.watch)?,
        drain: validate_seconds(&section.drain, "drain", 0)?,
        thresholds: Thresholds {
            min_requests: validate_min_requests(&section.min_requests)?,
            max_error_share: validate_share(&section.max_error_share)?,
            max_error_increase: validate_share(&section.max_error_increase)?,
            latency_quantile: validate_quantile(&section.latency_quantile)?,
            max_latency_ratio: validate_ratio(&section.max_latency_ratio)?,
            min_latency_increase: millis(&section.min_latency_increase_ms),
            max_latency: max_latency.map(validate_max_latency).transpose()?,
        },
        versions,
        smoke: validate_smoke(services)?,
    })
}

/// Without a label, each service would count all requests of the ingress.
fn validate_ingress(ingress: &Spanned<IngressMetrics>) -> Result<IngressMetrics, Fault> {
    let metrics = ingress.get_ref();
    let names_service = metrics.labels.values().any(|it| it.contains("{service}"));
    match (names_service, metrics.port) {
        (false, _) => Err(fault(
            ingress,
            "no label names the service".to_owned(),
            "labels = {service = \"{namespace}-{service}-*\"}, say: one names {service}",
        )),
        (true, 0) => Err(fault(
            ingress,
            "nothing is at port 0".to_owned(),
            "the port of the controller's /metrics, e.g. 9000",
        )),
        (true, _) => Ok(metrics.clone()),
    }
}

fn validate_analysis(section: &schema::BlueGreenTable) -> Result<Evidence, Fault> {
    match (section.analysis.get_ref(), &section.prometheus) {
        (Evidence::Prometheus, None) => Err(fault(
            &section.analysis,
            "the section of Prometheus is missing".to_owned(),
            "[blue_green.prometheus] with namespace, service, port, requests, errors and durations",
        )),
        (analysis, _) => Ok(*analysis),
    }
}

/// Weights need an analysis of users' requests.
fn validate_canary(
    canary: &Spanned<schema::CanarySteps>,
    analysis: Evidence,
) -> Result<Canary, Fault> {
    let schema::CanarySteps { weights, header } = canary.get_ref();
    if let (Some(first), Evidence::Probe | Evidence::None) = (weights.first(), analysis) {
        return Err(fault(
            first,
            format!("analysis = \"{analysis}\" cannot evaluate a share of the traffic"),
            "leave the weights out, or have analysis = \"required\"",
        ));
    }
    if weights.is_empty() && header.is_none() {
        return Err(fault(
            canary,
            "neither weights nor a header".to_owned(),
            "weights = [5, 25, 100], header = \"x-preview\", or both",
        ));
    }
    let mut previous = 0;
    for weight in weights {
        let share = *weight.get_ref();
        if share <= previous || share > 100 {
            return Err(fault(
                weight,
                format!("a weight of {share} % does not follow {previous} %"),
                "each is more than the one before, from 1 to 100",
            ));
        }
        previous = share;
    }
    if let (Some(last), 1..100) = (weights.last(), previous) {
        return Err(fault(
            last,
            format!("the last weight is {previous} %"),
            "the last is 100, which is the switch of the active Service: [5, 25, 100]",
        ));
    }
    let header = header.as_ref().map(validate_header).transpose()?;
    let shares = weights.iter().map(|it| *it.get_ref());
    Ok(Canary {
        weights: shares.filter(|it| *it < 100).collect(),
        header: header.map(|name| name.as_str().to_owned()),
    })
}

fn validate_lease(seconds: &Spanned<u32>) -> Result<Duration, Fault> {
    let (shortest, longest) = LEASE_SECONDS.into_inner();
    match *seconds.get_ref() {
        value if LEASE_SECONDS.contains(&value) => Ok(Duration::from_secs(value.into())),
        other => Err(fault(
            seconds,
            format!("a lease of {other} seconds is not possible"),
            format!("{shortest} to {longest}; it is renewed every third of that"),
        )),
    }
}

fn validate_warm_up(seconds: &Spanned<u32>, watch: &Spanned<u32>) -> Result<Duration, Fault> {
    let (warm_up, watch) = (*seconds.get_ref(), *watch.get_ref());
    match warm_up < watch {
        true => Ok(Duration::from_secs(warm_up.into())),
        false => Err(fault(
            seconds,
            format!("a warm-up of {warm_up} seconds leaves nothing of the {watch} of `watch`"),
            "less than `watch`; with 0, latency counts from the switch on",
        )),
    }
}

fn validate_min_requests(requests: &Spanned<u32>) -> Result<u64, Fault> {
    match *requests.get_ref() {
        0 => Err(fault(
            requests,
            "min_requests 0 would accept a version without requests".to_owned(),
            "at least 1",
        )),
        some => Ok(some.into()),
    }
}

fn validate_share(share: &Spanned<f64>) -> Result<f64, Fault> {
    let help = "0 to 1: 0.01 is one in a hundred";
    validate_number(share, |it| (0.0..=1.0).contains(&it), "a share", help)
}

fn validate_number(
    number: &Spanned<f64>,
    is_valid: impl FnOnce(f64) -> bool,
    what: &str,
    help: &str,
) -> Result<f64, Fault> {
    let value = *number.get_ref();
    match is_valid(value) {
        true => Ok(value),
        false => Err(fault(number, format!("{value} is not {what}"), help)),
    }
}

fn validate_quantile(quantile: &Spanned<f64>) -> Result<f64, Fault> {
    let help = "more than 0 and less than 1: 0.95 is what 95 of 100 requests take at most";
    let is_valid = |it: f64| it > 0.0 && it < 1.0;
    validate_number(quantile, is_valid, "a usable quantile", help)
}

fn validate_ratio(ratio: &Spanned<f64>) -> Result<f64, Fault> {
    let help = "1 or more: 2.0 allows twice the time; less would refuse what is as quick as before";
    let is_valid = |it: f64| it >= 1.0 && it.is_finite();
    validate_number(ratio, is_valid, "a usable ratio", help)
}

fn validate_max_latency(bound: &Spanned<u32>) -> Result<Duration, Fault> {
    match *bound.get_ref() {
        0 => Err(fault(
            bound,
            "no request takes 0 ms".to_owned(),
            "at least 1, or leave it out",
        )),
        _ => Ok(millis(bound)),
    }
}

fn millis(value: &Spanned<u32>) -> Duration {
    Duration::from_millis((*value.get_ref()).into())
}

fn validate_smoke(
    services: &BTreeMap<Spanned<String>, schema::ServiceTable>,
) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let mut all = BTreeMap::new();
    for (name, settings) in services {
        let paths = settings.smoke.iter().map(validate_path);
        let paths: Vec<_> = paths.collect::<Result<_, _>>()?;
        if !paths.is_empty() {
            all.insert(name.get_ref().clone(), paths);
        }
    }
    Ok(all)
}

/// A path with an optional query. Before it, the expected status, if not 2xx.
fn validate_path(request: &Spanned<String>) -> Result<String, Fault> {
    let text = request.get_ref();
    let (path, status) = expected(text);
    let is_status = path == text || status.is_some_and(|it| (100..600).contains(&it));
    match is_path(path) && is_status {
        true => Ok(text.clone()),
        false => Err(fault(
            request,
            format!("{text:?} is not the path of a request"),
            "it starts with '/', and what is not ASCII is percent-encoded, e.g. \"/quotes\", or \"401 /orders\" where that status is expected",
        )),
    }
}
