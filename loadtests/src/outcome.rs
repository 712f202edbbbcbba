//! What a load run comes to.

use std::path::Path;

use harness::duration::human;
use harness::exit::ExitCode;
use harness::run::event::Failure;
use prober::bound::error_rate_at_most;

use crate::result::{Block, Ended, Endpoint, LoadResult};
use crate::threshold::{Metric, Verdict};

/// The exit code of a run that was not interrupted, and why, where it is not 0. `file` is
/// where the result is.
///
/// A wrong answer is one, whoever was slow. But for that, a run whose generator was the
/// bottleneck says nothing, whatever it measured. Thresholds decide what they are of; of
/// failures that no threshold is of there may be none.
pub fn of(
    result: &LoadResult,
    verdicts: &[Verdict],
    file: &Path,
) -> Result<(), (ExitCode, Failure)> {
    let whole = result.whole();
    let look_at = file.display().to_string();
    let wrong: u64 = result.endpoints.values().map(Endpoint::wrong_answers).sum();
    if let (Some(bottleneck), 0) = (&result.generator.bottleneck, wrong) {
        let failure = Failure {
            what: "the load generator was the bottleneck".into(),
            expected: "a generator that is not waited for".into(),
            seen: bottleneck.clone(),
            look_at,
            next: "less beside it on this machine, fewer users, or another machine to load from"
                .into(),
        };
        return Err((ExitCode::Inconclusive, failure));
    }
    if whole.requests == 0 {
        let failure = Failure {
            what: "no request was made".into(),
            expected: "at least one that has ended".into(),
            seen: "none".into(),
            look_at,
            next: "longer stages, or shorter think times, in harness.toml".into(),
        };
        return Err((ExitCode::Inconclusive, failure));
    }
    let missed: Vec<String> = verdicts.iter().filter(|it| !it.holds()).map(told).collect();
    if !missed.is_empty() {
        let failure = Failure {
            what: format!(
                "{} of {} thresholds do not hold",
                missed.len(),
                verdicts.len()
            ),
            expected: "every threshold of the profile".into(),
            seen: missed.join("; "),
            look_at,
            next: format!("cargo xtask load show {}", file.display()),
        };
        return Err((ExitCode::ThresholdFailed, failure));
    }
    // What was in flight when it failed may have turned it: the run is cut short all the same.
    if let Ended::Aborted { threshold } = &result.ended {
        let failure = Failure {
            what: "a threshold ended the run".into(),
            expected: threshold.clone(),
            seen: "it did not hold while the load was on".into(),
            look_at,
            next: format!("cargo xtask load show {}", file.display()),
        };
        return Err((ExitCode::ThresholdFailed, failure));
    }
    let bounded = verdicts.iter().any(|it| of_failures(it.threshold.metric));
    match whole.failed {
        0 => Ok(()),
        some if bounded && some < whole.requests => Ok(()),
        failed => {
            let failure = Failure {
                what: format!("{failed} of {} requests had no good answer", whole.requests),
                expected: "good answers to all".into(),
                seen: most_frequent(result).join("; "),
                look_at,
                next: "cargo xtask status; the services' logs at this time".into(),
            };
            Err((ExitCode::CheckFailed, failure))
        }
    }
}

/// Without what makes it a column.
fn told(verdict: &Verdict) -> String {
    let words = verdict.to_string();
    words
        .split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ")
}

fn of_failures(metric: Metric) -> bool {
    matches!(metric, Metric::Failed | Metric::Checks | Metric::ErrorShare)
}

/// The result in lines for people: all together, then each endpoint.
pub fn lines(result: &LoadResult) -> Vec<String> {
    let whole = result.whole();
    let seconds = result.seconds();
    let rate = whole.requests as f64 / seconds.max(f64::MIN_POSITIVE);
    let all = format!(
        "{} requests in {seconds:.0} s, {rate:.1}/s; {}{}",
        whole.requests,
        failed(&whole),
        dropped(&whole)
    );
    let endpoints = result.endpoints.iter();
    let endpoints =
        endpoints.map(|(name, endpoint)| format!("  {name}: {}", line(&endpoint.whole())));
    let failures = most_frequent(result).into_iter();
    let failures = failures.map(|failure| format!("  failed: {failure}"));
    std::iter::once(all)
        .chain(endpoints)
        .chain(failures)
        .collect()
}

/// An endpoint's counts in a line.
pub(crate) fn line(whole: &Block) -> String {
    let quantile = |q: f64| match whole.latency.quantile(q) {
        Some(micros @ ..10_000) => format!("{:.1} ms", micros as f64 / 1000.0),
        Some(micros) => human(micros / 1000),
        None => "-".to_owned(),
    };
    format!(
        "{} requests, {} failed, p50 {}, p95 {}, p99 {}{}",
        whole.requests,
        whole.failed,
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
        dropped(whole)
    )
}

/// Arrivals for which the bound left no room; nothing where there were none.
fn dropped(whole: &Block) -> String {
    match whole.dropped {
        0 => String::new(),
        dropped => format!("; {dropped} more were due and dropped"),
    }
}

/// None of them is not the same as never.
fn failed(whole: &Block) -> String {
    match (whole.failed, error_rate_at_most(0, whole.requests)) {
        (0, None) => "nothing can be said of failures".to_owned(),
        (0, Some(at_most)) => {
            let at_most = 100.0 * at_most;
            format!("none failed: at most {at_most:.2} % with 95 % confidence")
        }
        (failed, _) => {
            let share = 100.0 * failed as f64 / whole.requests as f64;
            format!("{failed} failed ({share:.2} %)")
        }
    }
}

/// The failures, the most frequent first.
fn most_frequent(result: &LoadResult) -> Vec<String> {
    const ENOUGH: usize = 5;
    let failures = result.endpoints.iter().flat_map(|(name, endpoint)| {
        let failures = endpoint.failures.iter();
        failures.map(move |(failure, count)| (*count, format!("{name}: {failure} ({count})")))
    });
    let mut failures: Vec<_> = failures.collect();
    failures.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let lines = failures.into_iter().take(ENOUGH);
    lines.map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::result::{Distribution, Engine, Fingerprint, Generator, SCHEMA};
    use crate::threshold::{Threshold, judge_all};

    fn result(failures: &[(&str, u64)], requests: u64) -> LoadResult {
        let block = Block {
            requests,
            failed: failures.iter().map(|(_, count)| count).sum(),
            latency: (1..=requests).map(|n| 1_000 * n).collect(),
            ..Block::default()
        };
        let endpoint = Endpoint {
            blocks: BTreeMap::from([(0, block)]),
            failures: failures
                .iter()
                .map(|(failure, count)| ((*failure).to_owned(), *count))
                .collect(),
            ..Endpoint::default()
        };
        LoadResult {
            schema: SCHEMA,
            run: "run".into(),
            engine: Engine::Closed,
            fingerprint: Fingerprint::default(),
            begun: Timestamp::UNIX_EPOCH,
            block_millis: 1000,
            ended: Ended::Whole,
            generator: Generator {
                cores_used: 0.1,
                cores: 2,
                lag: Distribution::default(),
                bottleneck: None,
            },
            endpoints: BTreeMap::from([("GET /quotes".to_owned(), endpoint)]),
        }
    }

    fn code(result: &LoadResult) -> ExitCode {
        match of(result, &[], Path::new("load-smoke.json")) {
            Ok(()) => ExitCode::Held,
            Err((code, _)) => code,
        }
    }

    #[test]
    fn only_requests_that_were_all_answered_well_hold() {
        assert_eq!(code(&result(&[], 10)), ExitCode::Held);
        assert_eq!(code(&result(&[], 0)), ExitCode::Inconclusive);
        let wrong = result(&[("status 500", 1), ("check: a price", 2)], 10);
        let (code, failure) = of(&wrong, &[], Path::new("load-smoke.json")).unwrap_err();
        assert_eq!(code, ExitCode::CheckFailed);
        let seen = "GET /quotes: check: a price (2); GET /quotes: status 500 (1)";
        assert_eq!(failure.seen, seen);
    }

    #[test]
    fn thresholds_decide_what_they_are_of() {
        let judged = |thresholds: &[&str], result: &LoadResult| {
            let thresholds = thresholds.iter().map(|it| it.parse().unwrap());
            let thresholds: Vec<Threshold> = thresholds.collect();
            let verdicts = judge_all(&thresholds, result);
            match of(result, &verdicts, Path::new("load-smoke.json")) {
                Ok(()) => ExitCode::Held,
                Err((code, _)) => code,
            }
        };
        let some = result(&[("status 500", 1)], 100);
        let all = result(&[("connection refused", 100)], 100);
        assert_eq!(
            judged(&["http_req_failed: rate<0.05"], &some),
            ExitCode::Held
        );
        let failed = ExitCode::ThresholdFailed;
        assert_eq!(judged(&["http_req_failed: rate<0.01"], &some), failed);
        assert_eq!(judged(&["http_req_duration: p(95)<1"], &some), failed);
        let quick = "http_req_duration: p(95)<1000";
        assert_eq!(judged(&[quick], &some), ExitCode::CheckFailed);
        assert_eq!(
            judged(&["http_req_failed: rate<=1"], &all),
            ExitCode::CheckFailed
        );
    }

    #[test]
    fn a_run_that_a_threshold_ended_never_holds() {
        let mut aborted = result(&[], 100);
        aborted.ended = Ended::Aborted {
            threshold: "http_req_failed: rate<0.05".into(),
        };
        assert_eq!(code(&aborted), ExitCode::ThresholdFailed);
    }

    #[test]
    fn nothing_is_said_where_the_generator_was_the_bottleneck() {
        let mut overloaded = result(&[("status 500", 1)], 10);
        overloaded.generator.bottleneck = Some("it used 2.0 of 2 cores".into());
        assert_eq!(code(&overloaded), ExitCode::Inconclusive);
        let bottleneck = overloaded.generator.bottleneck;
        let mut wrong = result(&[("check: a price", 1)], 10);
        wrong.generator.bottleneck = bottleneck;
        assert_eq!(code(&wrong), ExitCode::CheckFailed);
    }

    #[test]
    fn none_failed_is_a_bound_and_not_never() {
        insta::assert_snapshot!(lines(&result(&[], 300)).join("\n"), @r"
        300 requests in 1 s, 300.0/s; none failed: at most 1.00 % with 95 % confidence
          GET /quotes: 300 requests, 0 failed, p50 150 ms, p95 285 ms, p99 297 ms
        ");
        let mut at_the_bound = result(&[], 300);
        let endpoint = at_the_bound.endpoints.get_mut("GET /quotes").unwrap();
        endpoint.blocks.entry(1).or_default().dropped = 7;
        insta::assert_snapshot!(lines(&at_the_bound)[0], @"300 requests in 2 s, 150.0/s; none failed: at most 1.00 % with 95 % confidence; 7 more were due and dropped");
        insta::assert_snapshot!(lines(&result(&[("status 500", 3)], 4))[0], @"4 requests in 1 s, 4.0/s; 3 failed (75.00 %)");
        insta::assert_snapshot!(lines(&result(&[], 0))[0], @"0 requests in 1 s, 0.0/s; nothing can be said of failures");
    }

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("load-smoke.json");
        let result = result(&[("status 500", 1)], 10);
        result.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<LoadResult>(&text).unwrap(), result);
        let nowhere = folder.path().join("nowhere/load-smoke.json");
        let error = result.write(&nowhere).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
        assert!(!nowhere.exists());
    }
}
