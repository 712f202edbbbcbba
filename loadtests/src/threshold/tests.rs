use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use insta::assert_snapshot;
use miette::Diagnostic;
use proptest::prelude::*;

use super::*;
use crate::result::{Block, Endpoint, EngineKind};

const SECOND: Duration = Duration::from_secs(1);

fn threshold(text: &str) -> Threshold {
    text.parse().unwrap()
}

fn block(millis: impl IntoIterator<Item = u64>) -> Block {
    let micros: Vec<u64> = millis.into_iter().map(|millis| millis * 1000).collect();
    Block {
        requests: micros.len() as u64,
        arrivals: micros.len() as u64,
        latency: micros.into_iter().collect(),
        ..Block::default()
    }
}

/// An endpoint of one block. `failed_checks` of its failures are failed checks.
fn endpoint(block: &Block, failed_checks: u64) -> Endpoint {
    Endpoint {
        blocks: BTreeMap::from([(0, block.clone())]),
        failures: BTreeMap::from([("check: a price".to_owned(), failed_checks)]),
        ..Endpoint::default()
    }
}

fn load(block: &Block) -> ObservedLoad {
    let mut load = ObservedLoad::nothing(EngineKind::Open);
    load.add("GET /quotes", &endpoint(block, 0));
    load
}

fn outcome(text: &str, block: &Block) -> ThresholdOutcome {
    threshold(text).evaluate(&load(block), SECOND).outcome
}

fn value(text: &str, block: &Block) -> Option<f64> {
    threshold(text).evaluate(&load(block), SECOND).seen
}

#[test]
fn a_mistake_is_shown_where_it_is_with_what_is_accepted() {
    let written = [
        "p(95)",
        "p(95)=<500",
        "p(95)<>500",
        "p95<500",
        "p<500",
        "p(101)<500",
        "p(NaN)<500",
        "p(95)<fast",
        "p(95)<NaN",
        "p(95)<1e400",
        "p(95)<500min",
        "p(95)<5%",
        "rps>100s",
        "rate<0.01",
        "value>1",
        "http_req_failed: count<1",
        "http_req_duration: error share<1%",
        "http_req_waiting: avg<5",
        "http_req_durations: avg<5",
        "http_req_duration{name:GET /quotes: avg<5",
        "http_req_duration{name:}: avg<5",
        "http_req_duration{name:GET /quotes,scenario:a}: avg<5",
        "http_reqs{expected_response:true}: count>5",
        "µ: avg<5",
        "",
    ];
    let mut shown = String::new();
    for text in written {
        let error = text.parse::<Threshold>().unwrap_err();
        writeln!(shown, "{error}\n    {}", error.help().unwrap()).unwrap();
    }
    assert_snapshot!(shown);
}

#[test]
fn a_verdict_is_one_line() {
    let mut some = block([10, 20, 30, 40]);
    some.failed = 1;
    some.dropped = 2;
    let good = block(1..=1000);
    let nothing = Block::default();
    let mut shown = String::new();
    for (text, block) in [
        ("p(95)<500", &some),
        ("http_req_duration{name:GET /quotes}: p(50)<20ms", &some),
        ("error share<1%", &some),
        ("error share<1%", &good),
        ("checks: rate>0.99", &some),
        ("rps>=200", &some),
        ("dropped==0", &some),
        ("p(99)<100ms", &nothing),
        ("http_req_duration{name:GET /never}: max<1", &some),
        ("http_req_duration{expected_response:true}: max<100", &some),
    ] {
        writeln!(shown, "{}", threshold(text).evaluate(&load(block), SECOND)).unwrap();
    }
    assert_snapshot!(shown);
}

#[test]
fn values_are_compared_exactly() {
    let block = block([10, 20, 30, 40]);
    for (text, holds) in [
        ("count==4", true),
        ("count===4", true),
        ("count!=4", false),
        ("count<4", false),
        ("count<=4", true),
        ("count>4", false),
        ("count>=4", true),
    ] {
        assert_eq!(
            outcome(text, &block) == ThresholdOutcome::Held,
            holds,
            "{text}"
        );
    }
}

#[test]
fn units_are_converted() {
    for (with, without) in [
        ("avg<100us", 0.1),
        ("avg<100µs", 0.1),
        ("avg<100ms", 100.0),
        ("avg<1.5 s", 1500.0),
        ("avg<1.5e3", 1500.0),
        ("avg<1_000", 1000.0),
        ("error share<7%", 0.07),
        ("error_share<0.07", 0.07),
    ] {
        assert_eq!(threshold(with).expression.limit, without, "{with}");
    }
}

#[test]
fn without_samples_every_threshold_fails() {
    let nothing = Block::default();
    for text in [
        "p(95)<500",
        "avg>=0",
        "count>=0",
        "rps>=0",
        "error share<=1",
        "dropped==0",
        "http_req_failed: rate<1",
        "checks: rate>=0",
        "iterations: count>=0",
        "data_received: rate>=0",
    ] {
        assert_eq!(
            outcome(text, &nothing),
            ThresholdOutcome::NoSamples,
            "{text}"
        );
    }
    let without_time = threshold("rps>=0").evaluate(&load(&block([1])), Duration::ZERO);
    assert_eq!(without_time.outcome, ThresholdOutcome::NoSamples);
}

#[test]
fn an_endpoint_without_requests_fails_its_threshold() {
    let text = "http_req_duration{name:GET /never}: p(99)<100";
    assert_eq!(outcome(text, &block([1])), ThresholdOutcome::NoSamples);
    let for_endpoint = threshold("p(99)<100").for_endpoint("GET /never");
    assert_eq!(for_endpoint, threshold(text));
}

#[test]
fn no_operator_holds_for_a_number_that_is_not_finite() {
    for operator in ["<", "<=", ">", ">=", "==", "!="] {
        let Expression { operator, .. } = threshold(&format!("avg{operator}5")).expression;
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!operator.holds(value, 5.0), "{operator:?} {value}");
            assert!(!operator.holds(5.0, value), "{operator:?} {value}");
        }
    }
}

#[test]
fn one_sample_is_every_percentile() {
    let one = block([42]);
    for percentile in [
        "p(0)", "p(50)", "p(99.99)", "p(100)", "min", "med", "max", "avg",
    ] {
        let measured = value(&format!("{percentile}<100"), &one).unwrap();
        assert!((measured - 42.0).abs() < 0.05, "{percentile} {measured}");
    }
}

#[test]
fn arrivals_that_were_all_dropped_are_counted() {
    let dropped = Block {
        dropped: 7,
        ..Block::default()
    };
    assert_eq!(value("dropped<1", &dropped), Some(7.0));
    assert_eq!(outcome("dropped<1", &dropped), ThresholdOutcome::Failed);
    assert_eq!(outcome("count<1", &dropped), ThresholdOutcome::NoSamples);
}

#[test]
fn an_answer_that_failed_a_check_is_an_error_with_an_expected_status() {
    let mut block = block([1; 10]);
    block.failed = 3;
    let mut load = ObservedLoad::nothing(EngineKind::Open);
    load.add("GET /quotes", &endpoint(&block, 2));
    let value = |text| threshold(text).evaluate(&load, SECOND).seen;
    assert_eq!(value("http_req_failed: rate<1"), Some(0.1));
    assert_eq!(value("error share<1"), Some(0.3));
    assert_eq!(value("checks: rate<1"), Some(0.7));
}

#[test]
fn durations_of_expected_answers_need_all_answers_to_be_expected() {
    let text = "http_req_duration{expected_response:true}: max<100";
    let mut block = block([1, 2]);
    assert_eq!(outcome(text, &block), ThresholdOutcome::Held);
    block.failed = 1;
    assert_eq!(outcome(text, &block), ThresholdOutcome::NotMeasured);
}

#[test]
fn iterations_are_measured_only_in_the_open_model() {
    let iterations = threshold("iterations: count==2");
    assert!(iterations.evaluate(&load(&block([1, 2])), SECOND).holds());
    let mut closed = ObservedLoad::nothing(EngineKind::Closed);
    closed.add("GET /quotes", &endpoint(&block([1, 2]), 0));
    let outcome = iterations.evaluate(&closed, SECOND).outcome;
    assert_eq!(outcome, ThresholdOutcome::NotMeasured);
}

#[test]
fn tags_select_endpoints() {
    let mut load = load(&block([1; 3]));
    load.add("POST /orders", &endpoint(&block([1; 5]), 0));
    let count = |text| threshold(text).evaluate(&load, SECOND).seen;
    assert_eq!(count("count>0"), Some(8.0));
    assert_eq!(count("http_reqs{method:POST}: count>0"), Some(5.0));
    let quoted = "http_reqs{ name : 'GET /quotes' }: count>0";
    assert_eq!(count(quoted), Some(3.0));
    let both = "http_reqs{name:GET /quotes,method:POST}: count>0";
    assert_eq!(count(both), None);
}

#[test]
fn a_stall_delays_every_request_that_is_due_during_it() {
    // 10 s at 1,000 requests/s. Those of the first 2 s are answered after 2 s.
    let stalled = block((0..10_000u64).map(|due| 2000u64.saturating_sub(due)));
    for (percentile, exact) in [("p(90)", 1000.0), ("p(95)", 1500.0), ("p(99)", 1900.0)] {
        let measured = value(&format!("{percentile}<100ms"), &stalled).unwrap();
        assert!(
            (measured / exact - 1.0).abs() < 0.002,
            "{percentile} {measured}"
        );
    }
    assert_eq!(outcome("p(99)<100ms", &stalled), ThresholdOutcome::Failed);
}

#[test]
fn a_threshold_for_a_name_with_commas_is_read_back() {
    let name = "GET /quotes?symbols=A,B";
    let for_endpoint = threshold("p(95)<500").for_endpoint(name);
    assert!(for_endpoint.selector.selects(name));
    assert_eq!(threshold(&for_endpoint.to_string()), for_endpoint);
}

#[test]
fn a_threshold_that_fails_after_its_delay_aborts_the_run() {
    let slow = load(&block([900]));
    let at = |seconds| Duration::from_secs(seconds);
    let aborting = |delay| [threshold("p(99)<100ms").aborting(delay)];
    let aborts =
        |thresholds: &[Threshold], load, elapsed| to_abort(thresholds, load, at(elapsed)).is_some();
    assert!(aborts(&aborting(None), &slow, 0));
    assert!(!aborts(&aborting(Some(at(10))), &slow, 10));
    assert!(aborts(&aborting(Some(at(10))), &slow, 11));
    assert!(!aborts(&[threshold("p(99)<100ms")], &slow, 60));
    let fast = load(&block([9]));
    assert!(!aborts(&aborting(None), &fast, 60));
    let nothing = ObservedLoad::nothing(EngineKind::Open);
    assert!(!aborts(&aborting(None), &nothing, 60));
}

#[test]
fn an_invalid_delay_is_refused() {
    let stored = r#"{"threshold":"checks: rate>0.9","abort-on-fail":true,"delay":"soon"}"#;
    let error = serde_json::from_str::<Threshold>(stored)
        .unwrap_err()
        .to_string();
    assert!(error.contains("`soon` is not a duration"), "{error}");
}

#[test]
fn a_stored_verdict_is_read_back() {
    let delay = Some(Duration::from_secs(10));
    let aborting = threshold("http_req_duration{name:GET /quotes}: p(95)<500").aborting(delay);
    let verdict = aborting.evaluate(&load(&block([1])), SECOND);
    let json = serde_json::to_string(&verdict).unwrap();
    assert_snapshot!(json, @r#"{"threshold":"http_req_duration{name:GET /quotes}: p(95)<500","abort-on-fail":true,"delay":"10s","requests":1,"seen":1.0,"outcome":"held"}"#);
    assert_eq!(
        serde_json::from_str::<ThresholdResult>(&json).unwrap(),
        verdict
    );
}

/// Valid expressions, with their metric's key if they need one.
fn written() -> impl Strategy<Value = (Option<&'static str>, String)> {
    let number = prop_oneof![
        any::<u32>().prop_map(|number| number.to_string()),
        (0.0..1e9f64).prop_map(|number| number.to_string()),
        (0.0..1e9f64).prop_map(|number| format!("{number:e}")),
    ];
    let percentile = (0.0..=100.0f64).prop_map(|percentile| format!("p({percentile})"));
    let times = prop_oneof![
        prop::sample::select(vec!["avg", "min", "med", "max"]).prop_map(str::to_owned),
        percentile
    ];
    let of = |key: &'static str, word: &'static str| Just((Some(key), word.to_owned()));
    let word = prop_oneof![
        times.clone().prop_map(|word| (None, word)),
        times.prop_map(|word| (Some("http_req_duration{name:GET /orders/{id}}"), word)),
        of("http_reqs", "rate"),
        of("http_req_failed{method:GET}", "rate"),
        of("dropped_iterations", "count"),
        Just((None, "error share".to_owned())),
        Just((None, "rps".to_owned())),
    ];
    let operator = prop::sample::select(vec!["<", "<=", ">", ">=", "==", "===", "!="]);
    let space = || prop::sample::select(vec!["", " ", "  "]);
    let parts = (word, space(), operator, space(), number);
    parts.prop_map(|((key, word), before, operator, after, number)| {
        (key, format!("{word}{before}{operator}{after}{number}"))
    })
}

proptest! {
    #[test]
    fn a_displayed_threshold_is_read_back((key, expression) in written()) {
        let read = match key {
            Some(key) => Threshold::of(key, &expression).unwrap(),
            None => threshold(&expression),
        };
        prop_assert_eq!(threshold(&read.to_string()), read.clone());
        prop_assert_eq!(Threshold::of(&read.key(), &expression).unwrap(), read);
    }

    #[test]
    fn no_text_causes_a_panic(
        text in "[a-z_(){}:,'\" <>=!0-9.eE+%µ-]{0,40}|\\PC*", key in "\\PC*|http_req_duration\\PC*"
    ) {
        for read in [text.parse(), Threshold::of(&key, &text), Threshold::of("http_reqs", &text)] {
            if let Err(ThresholdError { written, column, .. }) = read {
                prop_assert!((1..=written.chars().count() + 1).contains(&column));
            }
        }
    }

    #[test]
    fn a_percentile_is_the_time_at_its_rank(
        mut millis in prop::collection::vec(1u64..2000, 1..200), tenths in 0u64..=1000
    ) {
        let block = block(millis.clone());
        millis.sort();
        let rank = (tenths * millis.len() as u64).div_ceil(1000).max(1);
        let exact = millis[rank as usize - 1] as f64;
        let measured = value(&format!("p({})<1", tenths as f64 / 10.0), &block).unwrap();
        let allowed = exact..=exact * 1.001;
        prop_assert!(allowed.contains(&measured), "{measured} for {exact}");
    }

    #[test]
    fn an_operator_and_its_opposite_divide_all_numbers(value: f64, limit: f64) {
        prop_assume!(value.is_finite() && limit.is_finite());
        for (one, other) in [
            (Operator::Below, Operator::AtLeast),
            (Operator::Above, Operator::AtMost),
            (Operator::Equal, Operator::Unequal),
        ] {
            prop_assert_ne!(one.holds(value, limit), other.holds(value, limit));
        }
    }

    #[test]
    fn added_parts_are_evaluated_as_one_load(
        millis in prop::collection::vec(1u64..2000, 1..100), at in 0usize..100
    ) {
        let (left, right) = millis.split_at(at.min(millis.len()));
        let mut parts = load(&block(left.to_vec()));
        parts.add("GET /quotes", &endpoint(&block(right.to_vec()), 0));
        for text in ["p(95)<500", "avg<500", "count>50"] {
            let undivided = threshold(text).evaluate(&load(&block(millis.clone())), SECOND);
            prop_assert_eq!(threshold(text).evaluate(&parts, SECOND), undivided);
        }
    }
}
