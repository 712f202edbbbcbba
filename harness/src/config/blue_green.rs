//! Whether what `[blue_green]` says is possible.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::judge::{fault, judge_deadline, judge_service};
use super::{Fault, schema};
use crate::blue_green::analysis::Thresholds;
use crate::blue_green::canary::Canary;
use crate::blue_green::ingress::IngressMetrics;
use crate::blue_green::policy::{Evidence, Policy, expected};
use crate::service::Service;

/// A shorter lease leaves no time for a renewal that has to be tried again, and a longer one
/// has everybody wait for a deployer that was killed.
const LEASE_SECONDS: RangeInclusive<u32> = 5..=300;

/// Unlike a deadline it may be none.
const LONGEST_DRAIN_SECONDS: u32 = 24 * 3600;

pub(super) fn judge(
    section: &schema::BlueGreen,
    services: &BTreeMap<Spanned<String>, schema::ServiceSettings>,
) -> Result<Policy, Fault> {
    Ok(Policy {
        lease: judge_lease(&section.lease)?,
        green_ready: judge_deadline(&section.green_ready)?,
        baseline: judge_deadline(&section.baseline)?,
        analysis: judge_analysis(section)?,
        prometheus: section.prometheus.clone(),
        metrics: section.metrics.clone(),
        ingress: section.ingress.as_ref().map(judge_ingress).transpose()?,
        canary: match &section.canary {
            Some(canary) => Some(judge_canary(canary, *section.analysis.get_ref())?),
            None => None,
        },
        watch: judge_deadline(&section.watch)?,
        warm_up: judge_warm_up(&section.warm_up, &section.watch)?,
        drain: judge_drain(&section.drain)?,
        thresholds: Thresholds {
            min_requests: judge_min_requests(&section.min_requests)?,
            max_error_share: judge_share(&section.max_error_share)?,
            max_error_increase: judge_share(&section.max_error_increase)?,
            latency_quantile: judge_quantile(&section.latency_quantile)?,
            max_latency_ratio: judge_ratio(&section.max_latency_ratio)?,
            min_latency_increase: millis(&section.min_latency_increase_ms),
            max_latency: section
                .max_latency_ms
                .as_ref()
                .map(judge_max_latency)
                .transpose()?,
        },
        smoke: judge_smoke(services)?,
    })
}

/// Without a label everything that the ingress answers would be held against each service.
fn judge_ingress(ingress: &Spanned<IngressMetrics>) -> Result<IngressMetrics, Fault> {
    let metrics = ingress.get_ref();
    let names_service = metrics.labels.values().any(|it| it.contains("{service}"));
    match (names_service, metrics.port) {
        (false, _) => Err(fault(
            ingress,
            "no label tells what leads to a service".to_owned(),
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

fn judge_analysis(section: &schema::BlueGreen) -> Result<Evidence, Fault> {
    match (section.analysis.get_ref(), &section.prometheus) {
        (Evidence::Prometheus, None) => Err(fault(
            &section.analysis,
            "nothing says where Prometheus is, and what it is asked".to_owned(),
            "[blue_green.prometheus] with namespace, service, port, requests, errors and durations",
        )),
        (analysis, _) => Ok(*analysis),
    }
}

/// Each weight is watched by what users' requests show.
fn judge_canary(
    canary: &Spanned<schema::CanarySteps>,
    analysis: Evidence,
) -> Result<Canary, Fault> {
    let schema::CanarySteps { weights, header } = canary.get_ref();
    if let (Some(first), Evidence::Probe | Evidence::None) = (weights.first(), analysis) {
        return Err(fault(
            first,
            format!(
                "analysis = \"{analysis}\" does not tell whether a share of the traffic is well"
            ),
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
    let mut before = 0;
    for weight in weights {
        let share = *weight.get_ref();
        if share <= before || share > 100 {
            return Err(fault(
                weight,
                format!("a weight of {share} % does not follow {before} %"),
                "each is more than the one before, from 1 to 100",
            ));
        }
        before = share;
    }
    if let (Some(last), 1..100) = (weights.last(), before) {
        return Err(fault(
            last,
            format!("the last weight is {before} %"),
            "the last is 100, which is the switch of the active Service: [5, 25, 100]",
        ));
    }
    let header = header.as_ref().map(judge_header).transpose()?;
    let shares = weights.iter().map(|it| *it.get_ref());
    Ok(Canary {
        weights: shares.filter(|it| *it < 100).collect(),
        header,
    })
}

/// RFC 9110, 5.6.2.
fn judge_header(header: &Spanned<String>) -> Result<String, Fault> {
    match hyper::http::HeaderName::try_from(header.get_ref()) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err(fault(
            header,
            format!("{:?} cannot be a header's name", header.get_ref()),
            "letters, digits and '-', e.g. \"x-preview\"",
        )),
    }
}

fn judge_lease(seconds: &Spanned<u32>) -> Result<Duration, Fault> {
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

fn judge_drain(seconds: &Spanned<u32>) -> Result<Duration, Fault> {
    match *seconds.get_ref() {
        value @ 0..=LONGEST_DRAIN_SECONDS => Ok(Duration::from_secs(value.into())),
        other => Err(fault(
            seconds,
            format!("a drain of {other} seconds is not possible"),
            format!("a whole number of seconds, 0 to {LONGEST_DRAIN_SECONDS}"),
        )),
    }
}

fn judge_warm_up(seconds: &Spanned<u32>, watch: &Spanned<u32>) -> Result<Duration, Fault> {
    let (warm_up, watch) = (*seconds.get_ref(), *watch.get_ref());
    match warm_up < watch {
        true => Ok(Duration::from_secs(warm_up.into())),
        false => Err(fault(
            seconds,
            format!("a warm-up of {warm_up} seconds leaves nothing of the {watch} of `watch`"),
            "less than `watch`; 0 judges latency from the switch on",
        )),
    }
}

fn judge_min_requests(requests: &Spanned<u32>) -> Result<u64, Fault> {
    match *requests.get_ref() {
        0 => Err(fault(
            requests,
            "min_requests 0 would let a version pass that nobody has asked".to_owned(),
            "at least 1",
        )),
        some => Ok(some.into()),
    }
}

fn judge_share(share: &Spanned<f64>) -> Result<f64, Fault> {
    match *share.get_ref() {
        value if (0.0..=1.0).contains(&value) => Ok(value),
        other => Err(fault(
            share,
            format!("{other} is not a share"),
            "0 to 1: 0.01 is one in a hundred",
        )),
    }
}

fn judge_quantile(quantile: &Spanned<f64>) -> Result<f64, Fault> {
    match *quantile.get_ref() {
        value if value > 0.0 && value < 1.0 => Ok(value),
        other => Err(fault(
            quantile,
            format!("{other} is not a quantile that can be judged"),
            "more than 0 and less than 1: 0.95 is what 95 of 100 requests take at most",
        )),
    }
}

fn judge_ratio(ratio: &Spanned<f64>) -> Result<f64, Fault> {
    match *ratio.get_ref() {
        value if value >= 1.0 && value.is_finite() => Ok(value),
        other => Err(fault(
            ratio,
            format!("{other} is not a ratio that can be judged by"),
            "1 or more: 2.0 allows twice the time; less would refuse what is as quick as before",
        )),
    }
}

fn judge_max_latency(bound: &Spanned<u32>) -> Result<Duration, Fault> {
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

fn judge_smoke(
    services: &BTreeMap<Spanned<String>, schema::ServiceSettings>,
) -> Result<BTreeMap<Service, Vec<String>>, Fault> {
    let mut all = BTreeMap::new();
    for (name, settings) in services {
        let paths = settings.smoke.iter().map(judge_path);
        let paths: Vec<_> = paths.collect::<Result<_, _>>()?;
        if !paths.is_empty() {
            all.insert(judge_service(name)?, paths);
        }
    }
    Ok(all)
}

/// A path and perhaps a query, as they go over the wire (RFC 9112, 3.2.1); before it the status
/// that is expected, where that is no 2xx.
fn judge_path(request: &Spanned<String>) -> Result<String, Fault> {
    let text = request.get_ref();
    let (path, status) = expected(text);
    let is_sent = |c: char| c.is_ascii_graphic() && c != '#';
    let is_path = path.starts_with('/') && path.chars().all(is_sent);
    let is_status = path == text || status.is_some_and(|it| (100..600).contains(&it));
    match is_path && is_status {
        true => Ok(text.clone()),
        false => Err(fault(
            request,
            format!("{text:?} is not a path that can be asked for"),
            "it starts with '/', and what is not ASCII is percent-encoded, e.g. \"/quotes\", or \"401 /orders\" where that status is expected",
        )),
    }
}
