//! Evaluates a load run, and shows its result.

use std::path::Path;

use base::duration::human;
use base::exit::ExitCode;
use base::run::event::Failure;
use prober::error_rate_bound::error_rate_at_most;

use crate::result::{Block, Ended, Endpoint, LoadResult};
use crate::threshold::{Metric, ThresholdResult};

/// Evaluates a run that was not interrupted. `file` is the path of the result.
///
/// A run whose generator was the bottleneck is inconclusive, unless it has wrong answers.
/// Thresholds decide about their metrics. Without a threshold on failures, no request may fail.
///
/// # Errors
/// The exit code and the failure, unless the code is 0.
pub fn evaluate(
    result: &LoadResult,
    verdicts: &[ThresholdResult],
    file: &Path,
) -> Result<(), (ExitCode, Failure)> {
    let failure = |what: &str, expected: &str, seen: String, next: &str| Failure {
        what: what.into(),
        expected: expected.into(),
        seen,
        look_at: file.display().to_string(),
        next: next.into(),
    };
    let show = format!("cargo xtask load show {}", file.display());
    let whole = result.whole();
    let wrong: u64 = result.endpoints.values().map(Endpoint::wrong_answers).sum();
    if let (Some(bottleneck), 0) = (&result.generator.bottleneck, wrong) {
        let failure = failure(
            "the load generator was the bottleneck",
            "a generator that keeps up",
            bottleneck.clone(),
            "fewer other programs on this machine, fewer users, or another machine for the load",
        );
        return Err((ExitCode::Inconclusive, failure));
    }
    if whole.requests == 0 {
        let failure = failure(
            "no request was made",
            "at least one that has ended",
            "none".into(),
            "longer stages, or shorter think times, in harness.toml",
        );
        return Err((ExitCode::Inconclusive, failure));
    }
    let missed = verdicts.iter().filter(|verdict| !verdict.holds());
    let missed: Vec<String> = missed.map(one_line).collect();
    if !missed.is_empty() {
        let (count, all) = (missed.len(), verdicts.len());
        let failure = failure(
            &format!("{count} of {all} thresholds do not hold"),
            "every threshold of the profile",
            missed.join("; "),
            &show,
        );
        return Err((ExitCode::ThresholdFailed, failure));
    }
    // With the requests that were in flight, the threshold may hold again.
    if let Ended::Aborted { threshold } = &result.ended {
        let failure = failure(
            "a threshold ended the run",
            threshold,
            "it failed during the run".into(),
            &show,
        );
        return Err((ExitCode::ThresholdFailed, failure));
    }
    let (requests, failed) = (whole.requests, whole.failed);
    let mut metrics = verdicts.iter().map(|verdict| verdict.threshold.metric);
    let bounded = metrics.any(of_failures);
    if failed == 0 || (bounded && failed < requests) {
        return Ok(());
    }
    let failure = failure(
        &format!("{failed} of {requests} requests had no good answer"),
        "good answers to all",
        most_frequent(result).join("; "),
        "cargo xtask status; the services' logs at this time",
    );
    Err((ExitCode::CheckFailed, failure))
}

/// Returns the threshold and its value on one line, without the padding of columns.
fn one_line(verdict: &ThresholdResult) -> String {
    let line = verdict.to_string();
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    words.join(" ")
}

fn of_failures(metric: Metric) -> bool {
    matches!(metric, Metric::Failed | Metric::Checks | Metric::ErrorShare)
}

/// Returns the result in lines for people: the total, then each endpoint, then failures.
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
    let lines = std::iter::once(all).chain(endpoints).chain(failures);
    lines.collect()
}

/// Returns an endpoint's counts on one line.
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

/// Returns the dropped arrivals, if any.
fn dropped(whole: &Block) -> String {
    match whole.dropped {
        0 => String::new(),
        dropped => format!("; {dropped} more were due and dropped"),
    }
}

/// Returns the failures. Without any, their upper bound.
fn failed(whole: &Block) -> String {
    match (whole.failed, error_rate_at_most(0, whole.requests)) {
        (0, None) => "unknown failure rate".to_owned(),
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

/// Returns the most frequent failures, the most frequent first.
fn most_frequent(result: &LoadResult) -> Vec<String> {
    const MOST: usize = 5;
    let failures = result.endpoints.iter().flat_map(|(name, endpoint)| {
        let failures = endpoint.failures.iter();
        failures.map(move |(failure, count)| (*count, format!("{name}: {failure} ({count})")))
    });
    let mut failures: Vec<_> = failures.collect();
    failures.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let lines = failures.into_iter().take(MOST);
    lines.map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::regression::simulated_result;
    use crate::result::EngineKind;
    use crate::threshold::{Threshold, evaluate_all};

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
            engine: EngineKind::Closed,
            endpoints: BTreeMap::from([("GET /quotes".to_owned(), endpoint)]),
            ..simulated_result()
        }
    }

    fn code(result: &LoadResult) -> ExitCode {
        code_with(&[], result)
    }

    fn code_with(thresholds: &[&str], result: &LoadResult) -> ExitCode {
        let thresholds = thresholds
            .iter()
            .map(|threshold| threshold.parse().unwrap());
        let thresholds: Vec<Threshold> = thresholds.collect();
        let verdicts = evaluate_all(&thresholds, result);
        match evaluate(result, &verdicts, Path::new("load-smoke.json")) {
            Ok(()) => ExitCode::Held,
            Err((code, _)) => code,
        }
    }

    #[test]
    fn a_run_passes_only_if_all_answers_are_good() {
        assert_eq!(code(&result(&[], 10)), ExitCode::Held);
        assert_eq!(code(&result(&[], 0)), ExitCode::Inconclusive);
        let wrong = result(&[("status 500", 1), ("check: a price", 2)], 10);
        let (code, failure) = evaluate(&wrong, &[], Path::new("load-smoke.json")).unwrap_err();
        assert_eq!(code, ExitCode::CheckFailed);
        let seen = "GET /quotes: check: a price (2); GET /quotes: status 500 (1)";
        assert_eq!(failure.seen, seen);
    }

    #[test]
    fn thresholds_decide_about_their_metrics() {
        let some = result(&[("status 500", 1)], 100);
        let all = result(&[("connection refused", 100)], 100);
        for (threshold, result, code) in [
            ("http_req_failed: rate<0.05", &some, ExitCode::Held),
            (
                "http_req_failed: rate<0.01",
                &some,
                ExitCode::ThresholdFailed,
            ),
            (
                "http_req_duration: p(95)<1",
                &some,
                ExitCode::ThresholdFailed,
            ),
            (
                "http_req_duration: p(95)<1000",
                &some,
                ExitCode::CheckFailed,
            ),
            ("http_req_failed: rate<=1", &all, ExitCode::CheckFailed),
        ] {
            assert_eq!(code_with(&[threshold], result), code, "{threshold}");
        }
    }

    #[test]
    fn a_run_that_a_threshold_aborted_never_passes() {
        let mut aborted = result(&[], 100);
        aborted.ended = Ended::Aborted {
            threshold: "http_req_failed: rate<0.05".into(),
        };
        assert_eq!(code(&aborted), ExitCode::ThresholdFailed);
    }

    #[test]
    fn a_run_is_inconclusive_if_the_generator_was_the_bottleneck() {
        let mut overloaded = result(&[("status 500", 1)], 10);
        overloaded.generator.bottleneck = Some("it used 2.0 of 2 cores".into());
        assert_eq!(code(&overloaded), ExitCode::Inconclusive);
        let mut wrong = result(&[("check: a price", 1)], 10);
        wrong.generator.bottleneck = overloaded.generator.bottleneck;
        assert_eq!(code(&wrong), ExitCode::CheckFailed);
    }

    #[test]
    fn no_failures_are_shown_as_an_upper_bound() {
        insta::assert_snapshot!(lines(&result(&[], 300)).join("\n"), @r"
        300 requests in 1 s, 300.0/s; none failed: at most 1.00 % with 95 % confidence
          GET /quotes: 300 requests, 0 failed, p50 150 ms, p95 285 ms, p99 297 ms
        ");
        let mut at_the_bound = result(&[], 300);
        let endpoint = at_the_bound.endpoints.get_mut("GET /quotes").unwrap();
        endpoint.blocks.entry(1).or_default().dropped = 7;
        insta::assert_snapshot!(lines(&at_the_bound)[0], @"300 requests in 2 s, 150.0/s; none failed: at most 1.00 % with 95 % confidence; 7 more were due and dropped");
        insta::assert_snapshot!(lines(&result(&[("status 500", 3)], 4))[0], @"4 requests in 1 s, 4.0/s; 3 failed (75.00 %)");
        insta::assert_snapshot!(lines(&result(&[], 0))[0], @"0 requests in 1 s, 0.0/s; unknown failure rate");
    }

    #[test]
    fn a_file_is_complete_or_does_not_exist() {
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
