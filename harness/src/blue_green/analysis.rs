//! Whether the traffic on a new version is as good as it was on the old one.
//!
//! A breach is only called where chance does not explain it. It is judged every second and a
//! false alarm takes a good version back, so that the test is one for as many looks as one likes:
//! over a whole analysis less than one good version in a hundred is taken back, and of 50 requests
//! a second 5 % more errors are found within ten seconds ([`simulation`] shows both).
//! Latency is known by bucket only: it must have left its bucket, and what is quoted are
//! the buckets' bounds.

mod sequential;
pub mod simulation;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::traffic::Window;
use super::traffic::histogram::Histogram;

/// Fewer failed, or slow, requests are chance, however few there were: of the very first
/// one may fail, and for one or two the interval is known to be too narrow (Brown, Cai,
/// DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16, 2001).
const FEWEST: u64 = 3;

/// How often chance may be taken for a breach, over a whole analysis: for errors, and as often for
/// latency.
const FALSE_ALARMS: f64 = 0.005;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Fewer requests are no evidence that all is well; at least one is needed.
    pub min_requests: u64,
    /// The share of requests (0 to 1) that may be answered with 5xx. Where it was exceeded
    /// before the switch, only the increase is judged: going back would not help.
    pub max_error_share: f64,
    /// By how much that share may be greater than before the switch, 0 to 1.
    pub max_error_increase: f64,
    /// Which quantile of the latency is judged, between 0 and 1.
    pub latency_quantile: f64,
    /// How many times as long it may be as before the switch, at least 1.
    pub max_latency_ratio: f64,
    /// How much longer it may be in any case: twice 2 ms is no harm.
    pub min_latency_increase: Duration,
    /// How long it may be, whatever it was; where it was longer before, only the increase
    /// is judged.
    pub max_latency: Option<Duration>,
}

/// What traffic says about a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Analysis {
    /// It is worse than allowed.
    Breach {
        /// What is, with numbers.
        what: String,
    },
    /// It is as it should be.
    Holds {
        /// What is, with numbers.
        numbers: String,
    },
    /// It cannot be said.
    Inconclusive {
        /// What is missing.
        why: String,
    },
}

/// What is said, with its numbers.
impl std::fmt::Display for Analysis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Analysis::Breach { what } => what,
            Analysis::Holds { numbers } => numbers,
            Analysis::Inconclusive { why } => why,
        })
    }
}

/// What is said of one of the two, errors or latency.
enum Finding {
    Breach(String),
    Holds(String),
    Inconclusive(String),
}

/// Judges `now`, on the new version, by `baseline`, on the old one just before the switch;
/// one without requests is none.
pub fn judge(baseline: &Window, now: &Window, thresholds: &Thresholds) -> Analysis {
    let findings = [
        judge_errors(baseline, now, thresholds),
        judge_latency(baseline, now, thresholds),
        judge_pods(baseline, now),
    ];
    let (mut breaches, mut gaps, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for finding in findings {
        match finding {
            Finding::Breach(what) => breaches.push(what),
            Finding::Inconclusive(why) => gaps.push(why),
            Finding::Holds(what) => numbers.push(what),
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

/// Judges a version by nothing but how often its containers were started again meanwhile.
pub(super) fn judge_by_restarts(restarts: u64) -> Analysis {
    match restarts {
        0 => Analysis::Holds {
            numbers: "no container was started again".to_owned(),
        },
        restarts => Analysis::Breach {
            what: format!("containers were started again {}", times(restarts)),
        },
    }
}

/// Whether `of` requests of `all` show that a greater share than is `allowed` is such: a breach is
/// measurable from when on they do.
pub fn is_exceeded(of: u64, all: u64, allowed: f64) -> bool {
    of >= FEWEST && sequential::exceeds(of, all, allowed, FALSE_ALARMS)
}

/// What a pod that was not asked has answered may be anything, and what one had in hand that was
/// started again it has not answered.
fn judge_pods(baseline: &Window, now: &Window) -> Finding {
    let pods = now.pods;
    if now.restarts > baseline.restarts {
        return Finding::Breach(format!(
            "containers were started again {}, {} before the switch",
            times(now.restarts),
            times(baseline.restarts)
        ));
    }
    match now.unread.first() {
        None => Finding::Holds(format!("{pods} of {pods} pods asked")),
        Some(first) => Finding::Inconclusive(format!(
            "{} of {} pods could not be asked: {}: {}",
            now.unread.len(),
            pods + now.unread.len(),
            first.pod,
            first.reason
        )),
    }
}

/// A request that is never answered has failed, too: its client gave it up, or it is in flight for
/// longer than those before the switch.
fn judge_errors(baseline: &Window, now: &Window, thresholds: &Thresholds) -> Finding {
    let given_up = u64::try_from(now.given_up).unwrap_or(0);
    let unanswered = given_up + now.stuck.saturating_sub(baseline.in_flight);
    let (failed, asked) = (now.failed() + unanswered, now.answered() + unanswered);
    let Some(share) = Share::of(failed, asked) else {
        let span = human(now.span);
        return Finding::Inconclusive(format!("no request was answered within {span}"));
    };
    let allowed = allowed_error_share(baseline, thresholds);
    let silent = match unanswered {
        0 => String::new(),
        silent => format!(", {silent} of them without an answer"),
    };
    let refused = match now.failed() - now.errors {
        0 => String::new(),
        refused => format!(", {refused} of them answered by the ingress itself"),
    };
    let told = format!(
        "{share}{silent}{refused}; at most {} is allowed",
        percent(allowed)
    );
    if is_exceeded(failed, asked, allowed) {
        Finding::Breach(format!("errors: {told}"))
    } else if asked < thresholds.min_requests {
        let needed = thresholds.min_requests;
        Finding::Inconclusive(format!("only {asked} requests, {needed} are needed"))
    } else if share.seen > allowed {
        Finding::Inconclusive(format!("errors: {told}, and chance may be why"))
    } else {
        Finding::Holds(format!("errors: {told}"))
    }
}

/// What failed before gives licence only as far as it is shown to have failed: a few requests show
/// nothing.
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

fn judge_latency(baseline: &Window, now: &Window, thresholds: &Thresholds) -> Finding {
    let q = thresholds.latency_quantile;
    let name = format!("p{:.4}", q * 100.0);
    let name = name.trim_end_matches('0').trim_end_matches('.');
    let total = now.durations.total();
    let Some(is) = now.quantile(q) else {
        return Finding::Inconclusive("latency: no durations were counted".to_owned());
    };
    let before = at_most(&baseline.durations, q);
    let Some(allowed) = allowed_latency(&baseline.durations, thresholds) else {
        let (seen, span) = (baseline.durations.total(), human(baseline.span));
        return Finding::Inconclusive(format!(
            "latency: nothing to compare with: {seen} requests in {span} before the switch \
             give no upper bound of the {name}"
        ));
    };
    let was = match before {
        Some(before) => format!("at most {before:?} before"),
        None => "not known before".to_owned(),
    };
    let told = format!("{was}; at most {allowed:?} is allowed");
    let (bound, slower) = slower_than(&now.durations, allowed);
    if is_exceeded(slower, total, 1.0 - q) {
        let words = format!("latency: {name} over {bound:?} of {total} requests, {told}");
        Finding::Breach(words)
    } else if total < thresholds.min_requests.max(1) {
        let needed = thresholds.min_requests;
        Finding::Inconclusive(format!(
            "latency: only {total} requests, {needed} are needed"
        ))
    } else if is > allowed {
        Finding::Inconclusive(format!(
            "latency: {name} about {is:.1?} of {total} requests, {told}, and chance may be why"
        ))
    } else {
        Finding::Holds(format!(
            "latency: {name} about {is:.1?} of {total} requests, {told}"
        ))
    }
}

fn allowed_latency(before: &Histogram, thresholds: &Thresholds) -> Option<Duration> {
    let q = thresholds.latency_quantile;
    let Some(at_most) = at_most(before, q) else {
        let was_over = |most| at_least(before, q).is_some_and(|before| before > most);
        return thresholds.max_latency.filter(|most| !was_over(*most));
    };
    let ratio = thresholds.max_latency_ratio;
    let times = Duration::try_from_secs_f64(at_most.as_secs_f64() * ratio).unwrap_or(Duration::MAX);
    let increased = times.max(at_most.saturating_add(thresholds.min_latency_increase));
    let most = thresholds.max_latency.filter(|most| at_most <= *most);
    Some(most.map_or(increased, |most| increased.min(most)))
}

/// How many certainly took longer than `allowed`, and longer than what they all took: a bucket's
/// lower bound is in the bucket before.
fn slower_than(durations: &Histogram, allowed: Duration) -> (Duration, u64) {
    let mut slower = durations
        .buckets()
        .filter(|it| it.lower >= allowed)
        .peekable();
    let bound = slower.peek().map_or(allowed, |it| it.lower);
    (bound, slower.map(|it| it.count).sum())
}

/// What the quantile is over, for certain: a bucket's lower bound. Certain is that fewer
/// than a share `q` are as quick as that, by the upper bound of that share.
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

/// What the quantile is at most, for certain: a bucket's upper bound.
fn at_most(durations: &Histogram, q: f64) -> Option<Duration> {
    let total = durations.total();
    let mut buckets = durations.buckets();
    let bucket = buckets
        .find(|it| Share::of(it.at_most, total).is_some_and(|quicker| quicker.lower >= q))?;
    bucket.upper
}

/// A share of some requests, and between what it lies, with 95 % confidence, for all that
/// there could be.
struct Share {
    of: u64,
    all: u64,
    seen: f64,
    lower: f64,
    upper: f64,
}

impl Share {
    /// Wilson's score interval: it is good for few requests and for shares of 0 and 1.
    /// E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    /// Journal of the American Statistical Association 22 (1927).
    /// None: of nothing there is no share.
    fn of(of: u64, all: u64) -> Option<Share> {
        /// The normal distribution's 97.5th percentile.
        const Z: f64 = 1.959_963_984_540_054;
        let of = of.min(all);
        let n = (all > 0).then_some(all as f64)?;
        let seen = of as f64 / n;
        let denominator = 1.0 + Z * Z / n;
        let centre = seen + Z * Z / (2.0 * n);
        let spread = Z * (seen * (1.0 - seen) / n + Z * Z / (4.0 * n * n)).sqrt();
        Some(Share {
            of,
            all,
            seen,
            // Rounding must not put what was seen outside.
            lower: ((centre - spread) / denominator).clamp(0.0, seen),
            upper: ((centre + spread) / denominator).clamp(seen, 1.0),
        })
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Share {
            of,
            all,
            lower,
            upper,
            ..
        } = self;
        let (lower, upper) = (percent(*lower), percent(*upper));
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
    crate::duration::human(span.as_millis().try_into().unwrap_or(u64::MAX))
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests;
