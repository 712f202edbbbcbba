//! Whether the traffic on a new version is as good as it was on the old one.
//!
//! A breach must be more than chance. The test runs every second, and a false alarm rolls a good
//! version back, so the test must allow any number of repetitions. In a whole analysis less than
//! one good version in a hundred is rolled back. At 50 requests a second, 5 % more errors are found
//! within ten seconds ([`simulation`] shows both). The buckets limit the resolution of latency.

mod sequential;
pub mod simulation;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::traffic::Window;
use super::traffic::histogram::Histogram;

/// Fewer failed or slow requests are chance, even if there are few in all: for one or two the
/// interval is known to be too narrow (Brown, Cai, DasGupta, "Interval estimation for a binomial
/// proportion", Statistical Science 16, 2001).
const FEWEST: u64 = 3;

/// The probability of a false alarm in a whole analysis, for errors and for latency each.
const FALSE_ALARMS: f64 = 0.005;

/// The thresholds of an analysis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// With fewer requests the analysis is inconclusive; at least 1.
    pub min_requests: u64,
    /// The share of requests (0 to 1) that may be answered with 5xx. If it was exceeded before the
    /// switch, only the increase counts: a rollback would not help.
    pub max_error_share: f64,
    /// By how much that share may be greater than before the switch, 0 to 1.
    pub max_error_increase: f64,
    /// The quantile of the latency that counts, between 0 and 1.
    pub latency_quantile: f64,
    /// The greatest ratio of the latency to that before the switch, at least 1.
    pub max_latency_ratio: f64,
    /// An increase that is always allowed: twice 2 ms does no harm.
    pub min_latency_increase: Duration,
    /// The greatest latency. If it was exceeded before the switch, only the increase counts.
    pub max_latency: Option<Duration>,
}

/// The result of an analysis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Analysis {
    /// The version is worse than allowed.
    Breach {
        /// The breach with its numbers.
        what: String,
    },
    /// The version is good.
    Holds {
        /// The numbers.
        numbers: String,
    },
    /// There is not enough evidence.
    Inconclusive {
        /// What is missing.
        why: String,
    },
}

impl std::fmt::Display for Analysis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Analysis::Breach { what } => what,
            Analysis::Holds { numbers } => numbers,
            Analysis::Inconclusive { why } => why,
        })
    }
}

/// The result for errors, latency, or pods.
enum PartialResult {
    Breach(String),
    Holds(String),
    Inconclusive(String),
}

/// Compares `now`, the traffic on the new version, with `baseline`, that on the old one just before
/// the switch. A baseline without requests counts as none.
pub fn compare(baseline: &Window, now: &Window, thresholds: &Thresholds) -> Analysis {
    let findings = [
        compare_errors(baseline, now, thresholds),
        compare_latency(baseline, now, thresholds),
        compare_pods(baseline, now),
    ];
    let (mut breaches, mut gaps, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for finding in findings {
        match finding {
            PartialResult::Breach(what) => breaches.push(what),
            PartialResult::Inconclusive(why) => gaps.push(why),
            PartialResult::Holds(what) => numbers.push(what),
        }
    }
    match (breaches.is_empty(), gaps.is_empty()) {
        (false, _) => Analysis::Breach {
            what: breaches.join("; "),
        },
        (true, false) => Analysis::Inconclusive {
            why: gaps.join("; "),
        },
        (true, true) => Analysis::Holds {
            numbers: numbers.join("; "),
        },
    }
}

/// Returns the analysis of a version by the restarts of its containers only.
pub(super) fn of_restarts(restarts: u64) -> Analysis {
    match restarts {
        0 => Analysis::Holds {
            numbers: "no container restarted".to_owned(),
        },
        restarts => Analysis::Breach {
            what: format!("containers restarted {}", times(restarts)),
        },
    }
}

/// Returns whether `of` requests of `all` prove a greater share than `allowed`.
pub fn is_exceeded(of: u64, all: u64, allowed: f64) -> bool {
    of >= FEWEST && sequential::exceeds(of, all, allowed, FALSE_ALARMS)
}

/// The answers of a pod that could not be read are unknown. A pod that restarted has not answered
/// its requests in flight.
fn compare_pods(baseline: &Window, now: &Window) -> PartialResult {
    let pods = now.pods;
    if now.restarts > baseline.restarts {
        return PartialResult::Breach(format!(
            "containers restarted {}, {} before the switch",
            times(now.restarts),
            times(baseline.restarts)
        ));
    }
    match now.unread.first() {
        None => PartialResult::Holds(format!("{pods} of {pods} pods read")),
        Some(first) => PartialResult::Inconclusive(format!(
            "{} of {} pods could not be read: {}: {}",
            now.unread.len(),
            pods + now.unread.len(),
            first.pod,
            first.reason
        )),
    }
}

/// A request without an answer has failed, too: its client gave up, or it is in flight for too
/// long.
fn compare_errors(baseline: &Window, now: &Window, thresholds: &Thresholds) -> PartialResult {
    let given_up = u64::try_from(now.given_up).unwrap_or(0);
    let unanswered = given_up + now.stuck.saturating_sub(baseline.in_flight);
    let (failed, sent) = (now.failed() + unanswered, now.answered() + unanswered);
    let Some(share) = Share::of(failed, sent) else {
        let span = human(now.span);
        return PartialResult::Inconclusive(format!("no request was answered within {span}"));
    };
    let allowed = allowed_error_share(baseline, thresholds);
    let of_them = |count: u64, what: &str| match count {
        0 => String::new(),
        count => format!(", {count} of them {what}"),
    };
    let text = format!(
        "{share}{}{}; at most {} is allowed",
        of_them(unanswered, "without an answer"),
        of_them(now.failed() - now.errors, "answered by the ingress itself"),
        percent(allowed)
    );
    if is_exceeded(failed, sent, allowed) {
        PartialResult::Breach(format!("errors: {text}"))
    } else if sent < thresholds.min_requests {
        let needed = thresholds.min_requests;
        PartialResult::Inconclusive(format!("only {sent} requests, {needed} are needed"))
    } else if share.observed > allowed {
        PartialResult::Inconclusive(format!("errors: {text}, which may be chance"))
    } else {
        PartialResult::Holds(format!("errors: {text}"))
    }
}

/// Errors before the switch allow as many after it, but only if they are more than chance.
fn allowed_error_share(baseline: &Window, thresholds: &Thresholds) -> f64 {
    let most = thresholds.max_error_share;
    match Share::of(baseline.failed(), baseline.answered()) {
        Some(before) if before.lower > most => before.upper + thresholds.max_error_increase,
        Some(before) if baseline.requests >= thresholds.min_requests => {
            (before.upper + thresholds.max_error_increase).min(most)
        }
        _ => most,
    }
}

fn compare_latency(baseline: &Window, now: &Window, thresholds: &Thresholds) -> PartialResult {
    let q = thresholds.latency_quantile;
    let name = format!("p{:.4}", q * 100.0);
    let name = name.trim_end_matches('0').trim_end_matches('.');
    let total = now.durations.total();
    let Some(latency) = now.durations.quantile(q) else {
        return PartialResult::Inconclusive("latency: no durations were counted".to_owned());
    };
    let before = at_most(&baseline.durations, q);
    let Some(allowed) = allowed_latency(&baseline.durations, thresholds) else {
        let (requests, span) = (baseline.durations.total(), human(baseline.span));
        return PartialResult::Inconclusive(format!(
            "latency: nothing to compare with: {requests} requests in {span} before the switch \
             give no upper bound of the {name}"
        ));
    };
    let was = match before {
        Some(before) => format!("at most {before:?} before"),
        None => "not known before".to_owned(),
    };
    let text = format!("{was}; at most {allowed:?} is allowed");
    let (bound, slower) = slower_than(&now.durations, allowed);
    let about = format!("latency: {name} about {latency:.1?} of {total} requests, {text}");
    if is_exceeded(slower, total, 1.0 - q) {
        let over = format!("latency: {name} over {bound:?} of {total} requests, {text}");
        PartialResult::Breach(over)
    } else if total < thresholds.min_requests.max(1) {
        let needed = thresholds.min_requests;
        let few = format!("latency: only {total} requests, {needed} are needed");
        PartialResult::Inconclusive(few)
    } else if latency > allowed {
        PartialResult::Inconclusive(format!("{about}, which may be chance"))
    } else {
        PartialResult::Holds(about)
    }
}

fn allowed_latency(before: &Histogram, thresholds: &Thresholds) -> Option<Duration> {
    let q = thresholds.latency_quantile;
    let Some(at_most) = at_most(before, q) else {
        let was_exceeded = |most| at_least(before, q).is_some_and(|before| before > most);
        return thresholds.max_latency.filter(|most| !was_exceeded(*most));
    };
    let ratio = thresholds.max_latency_ratio;
    let times = Duration::try_from_secs_f64(at_most.as_secs_f64() * ratio).unwrap_or(Duration::MAX);
    let increased = times.max(at_most.saturating_add(thresholds.min_latency_increase));
    let most = thresholds.max_latency.filter(|most| at_most <= *most);
    Some(most.map_or(increased, |most| increased.min(most)))
}

/// Returns the lowest bucket bound that is at least `allowed`, and how many requests took longer: a
/// bucket's lower bound is in the bucket before.
fn slower_than(durations: &Histogram, allowed: Duration) -> (Duration, u64) {
    let slower = durations.buckets().filter(|it| it.lower >= allowed);
    let mut slower = slower.peekable();
    let bound = slower.peek().map_or(allowed, |it| it.lower);
    (bound, slower.map(|it| it.count).sum())
}

/// Returns a lower bound of the quantile: that of a bucket. With confidence, less than a share `q`
/// of the requests are faster.
fn at_least(durations: &Histogram, q: f64) -> Option<Duration> {
    let total = durations.total();
    Share::of(0, total)?;
    let mut below = 0;
    let mut bound = Duration::ZERO;
    for bucket in durations.buckets() {
        let slower = total - below;
        if slower < FEWEST || Share::of(below, total).is_none_or(|it| it.upper >= q) {
            break;
        }
        bound = bucket.lower;
        below = bucket.at_most;
    }
    Some(bound)
}

/// Returns an upper bound of the quantile: that of a bucket.
fn at_most(durations: &Histogram, q: f64) -> Option<Duration> {
    let total = durations.total();
    let reaches_q = |count| Share::of(count, total).is_some_and(|faster| faster.lower >= q);
    durations.buckets().find(|it| reaches_q(it.at_most))?.upper
}

/// A share of some requests, and its interval with 95 % confidence.
struct Share {
    of: u64,
    all: u64,
    observed: f64,
    lower: f64,
    upper: f64,
}

impl Share {
    /// Computes Wilson's score interval, which suits few requests and shares of 0 and 1. None if
    /// there are no requests.
    /// E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    /// Journal of the American Statistical Association 22 (1927).
    fn of(of: u64, all: u64) -> Option<Share> {
        /// The normal distribution's 97.5th percentile.
        const Z: f64 = 1.959_963_984_540_054;
        let of = of.min(all);
        let n = (all > 0).then_some(all as f64)?;
        let observed = of as f64 / n;
        let denominator = 1.0 + Z * Z / n;
        let centre = observed + Z * Z / (2.0 * n);
        let spread = Z * (observed * (1.0 - observed) / n + Z * Z / (4.0 * n * n)).sqrt();
        Some(Share {
            of,
            all,
            observed,
            // Rounding must not exclude the observed share.
            lower: ((centre - spread) / denominator).clamp(0.0, observed),
            upper: ((centre + spread) / denominator).clamp(observed, 1.0),
        })
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (of, all) = (self.of, self.all);
        let (lower, upper) = (percent(self.lower), percent(self.upper));
        write!(
            f,
            "{of} of {all} requests ({lower} to {upper} with 95 % confidence)"
        )
    }
}

fn times(count: u64) -> String {
    match count {
        0 => "not once".to_owned(),
        1 => "once".to_owned(),
        more => format!("{more} times"),
    }
}

fn human(span: Duration) -> String {
    base::duration::human(span.as_millis().try_into().unwrap_or(u64::MAX))
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests;
