use proptest::prelude::*;

use super::super::traffic::Unread;
use super::*;

pub(super) const THRESHOLDS: Thresholds = Thresholds {
    min_requests: 100,
    max_error_share: 0.01,
    max_error_increase: 0.005,
    latency_quantile: 0.95,
    max_latency_ratio: 2.0,
    min_latency_increase: Duration::from_millis(50),
    max_latency: None,
};

/// The platform's own bounds, microseconds.
const BOUNDS: [u64; 12] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// A window with one request for each duration in `micros`.
fn window(errors: u64, micros: &[u64]) -> Window {
    let within = |bound: u64| micros.iter().filter(|it| **it <= bound).count() as u64;
    let all = micros.len() as u64;
    let counts = BOUNDS.map(|bound| (Duration::from_micros(bound), within(bound)));
    let counts = counts.into_iter().chain([(Duration::MAX, all)]);
    Window {
        requests: all,
        errors,
        durations: Histogram::of_cumulative(&counts.collect()),
        span: Duration::from_secs(10),
        pods: 3,
        ..Window::default()
    }
}

fn usual(requests: usize, errors: u64) -> Window {
    window(errors, &vec![2_000; requests])
}

fn nothing() -> Window {
    Window::default()
}

fn compared(baseline: &Window, now: &Window) -> Analysis {
    compare(baseline, now, &THRESHOLDS)
}

fn assert_holds(analysis: Analysis) {
    assert!(matches!(analysis, Analysis::Holds { .. }), "{analysis:?}");
}

fn breach(analysis: Analysis) -> String {
    match analysis {
        Analysis::Breach { what } => what,
        other => panic!("{other:?}"),
    }
}

fn inconclusive(analysis: Analysis) -> String {
    match analysis {
        Analysis::Inconclusive { why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_said_has_the_numbers() {
    let good = compared(&usual(2_000, 0), &usual(4_000, 1));
    let bad = compared(&usual(2_000, 0), &window(400, &vec![302_000; 4_000]));
    let few = compared(&usual(2_000, 0), &usual(20, 0));
    let none = compared(&usual(2_000, 0), &nothing());
    let alone = compared(&nothing(), &usual(4_000, 0));
    insta::assert_debug_snapshot!([good, bad, few, none, alone]);
}

#[test]
fn a_few_failed_requests_are_enough() {
    breach(compared(&usual(2_000, 0), &usual(10, 10)));
    breach(compared(&nothing(), &usual(10, 10)));
    inconclusive(compared(&usual(2_000, 0), &usual(10, 0)));
}

#[test]
fn one_error_among_few_is_chance() {
    inconclusive(compared(&usual(2_000, 0), &usual(1, 1)));
    inconclusive(compared(&usual(2_000, 0), &usual(20, 1)));
    inconclusive(compared(&usual(2_000, 0), &window(0, &[302_000; 2])));
    inconclusive(compared(&usual(2_000, 0), &usual(150, 2)));
}

#[test]
fn an_old_version_that_failed_as_much_is_no_reason_to_go_back() {
    let failing = usual(2_000, 200);
    assert_holds(compared(&failing, &usual(2_000, 200)));
    breach(compared(&failing, &usual(2_000, 300)));
}

#[test]
fn a_few_errors_before_the_switch_allow_no_errors_after_it() {
    // 5 % failed, and the upper bound of that is a quarter.
    breach(compared(&usual(20, 1), &usual(2_000, 100)));
    breach(compared(&usual(100, 1), &usual(2_000, 100)));
}

#[test]
fn a_request_without_an_answer_has_failed() {
    let given_up = Window {
        given_up: 300,
        ..usual(700, 0)
    };
    let what = breach(compared(&usual(2_000, 0), &given_up));
    assert!(what.contains("300 of 1000 requests"), "{what}");
    assert!(what.contains("300 of them without an answer"), "{what}");
    let stuck = Window {
        in_flight: 120,
        stuck: 100,
        ..usual(700, 0)
    };
    breach(compared(&usual(2_000, 0), &stuck));
    // As many as before the switch are slow, and not stuck.
    let before = Window {
        in_flight: 100,
        ..usual(2_000, 0)
    };
    assert_holds(compared(&before, &stuck));
    // The pod counted on while it was read.
    let negative = Window {
        given_up: -3,
        ..usual(700, 0)
    };
    assert_holds(compared(&usual(2_000, 0), &negative));
}

#[test]
fn a_restart_of_a_container_is_a_breach() {
    let now = Window {
        restarts: 1,
        ..usual(4_000, 0)
    };
    let what = breach(compared(&usual(4_000, 0), &now));
    assert!(what.contains("restarted once, not once before"), "{what}");
    assert_holds(compared(&now, &now));
}

#[test]
fn a_buckets_lower_bound_is_in_the_bucket_before() {
    let limits = Thresholds {
        max_latency: Some(Duration::from_millis(250)),
        ..THRESHOLDS
    };
    let slow = window(0, &[250_001; 400]);
    breach(compare(&nothing(), &slow, &limits));
    let at_bound = window(0, &[250_000; 400]);
    assert_holds(compare(&nothing(), &at_bound, &limits));
}

#[test]
fn a_large_increase_of_latency_is_a_breach_after_few_requests() {
    let what = breach(compared(&usual(2_000, 0), &window(0, &[302_000; 10])));
    assert!(what.contains("p95 over 250ms"), "{what}");
    assert!(what.contains("at most 2.5ms before"), "{what}");
}

#[test]
fn jitter_within_a_bucket_and_into_the_next_is_no_breach() {
    let now = window(0, &[2_499; 4_000]);
    assert_holds(compared(&window(0, &[1_001; 4_000]), &now));
    let now = window(0, &[20_000; 4_000]);
    assert_holds(compared(&usual(4_000, 0), &now));
}

#[test]
fn a_few_more_slow_requests_may_be_chance() {
    let slow = |slow: usize| {
        let mut micros = vec![2_000; 1_000 - slow];
        micros.extend(vec![400_000; slow]);
        window(0, &micros)
    };
    // With a true share of 4.5 %, sometimes more than 5 % are slow.
    inconclusive(compared(&slow(35), &slow(54)));
    breach(compared(&slow(35), &slow(80)));
}

#[test]
fn without_a_baseline_only_the_absolute_bound_of_latency_counts() {
    let now = usual(4_000, 0);
    assert!(inconclusive(compared(&nothing(), &now)).contains("nothing to compare with"));
    let bounded = |millis| Thresholds {
        max_latency: Some(Duration::from_millis(millis)),
        ..THRESHOLDS
    };
    assert_holds(compare(&nothing(), &now, &bounded(100)));
    let slow = window(0, &[302_000; 400]);
    breach(compare(&nothing(), &slow, &bounded(100)));
    // A baseline that was over the bound already counts.
    assert_holds(compare(&slow, &slow, &bounded(100)));
}

#[test]
fn an_unread_pod_makes_a_pass_inconclusive_but_not_a_breach() {
    let unread = vec![Unread {
        pod: "api-gateway-green-1".into(),
        reason: "no answer within 1s".into(),
    }];
    let now = |errors| Window {
        unread: unread.clone(),
        ..usual(4_000, errors)
    };
    let why = inconclusive(compared(&usual(2_000, 0), &now(0)));
    assert!(why.starts_with("1 of 4 pods could not be read: api-gateway-green-1"));
    breach(compared(&usual(2_000, 0), &now(400)));
}

#[test]
fn the_interval_is_wilsons() {
    // Compared with R's prop.test(3, 20, correct = FALSE) and prop.test(0, 10, ...).
    let share = Share::of(3, 20).unwrap();
    assert!((share.lower - 0.052_368).abs() < 1e-4 && (share.upper - 0.360_420).abs() < 1e-4);
    let share = Share::of(0, 10).unwrap();
    assert!(share.lower == 0.0 && (share.upper - 0.277_533).abs() < 1e-4);
}

fn traffic() -> impl Strategy<Value = Window> {
    let micros = prop_oneof![0..3_000u64, 0..40_000_000u64];
    (
        proptest::collection::vec(micros, 0..50),
        0.0..=1.0,
        1..20usize,
    )
        .prop_map(|(micros, failing, times): (Vec<u64>, f64, usize)| {
            let micros = micros.repeat(times);
            window((micros.len() as f64 * failing) as u64, &micros)
        })
}

fn limits() -> impl Strategy<Value = Thresholds> {
    (
        0..500u64,
        0.0..=1.0,
        0.0..=1.0,
        0.01..=0.999,
        1.0..5.0,
        proptest::option::of(1..1_000u64),
    )
        .prop_map(
            |(min_requests, share, increase, q, ratio, most)| Thresholds {
                min_requests,
                max_error_share: share,
                max_error_increase: increase,
                latency_quantile: q,
                max_latency_ratio: ratio,
                min_latency_increase: Duration::ZERO,
                max_latency: most.map(Duration::from_millis),
            },
        )
}

proptest! {
    #[test]
    fn a_window_compared_with_itself_is_no_breach(same in traffic(), limits in limits()) {
        let analysis = compare(&same, &same, &limits);
        prop_assert!(!matches!(analysis, Analysis::Breach { .. }), "{:?}", analysis);
    }

    #[test]
    fn no_requests_are_inconclusive(before in traffic(), limits in limits()) {
        let analysis = compare(&before, &nothing(), &limits);
        prop_assert!(matches!(analysis, Analysis::Inconclusive { .. }), "{:?}", analysis);
    }

    #[test]
    fn with_more_errors_a_breach_remains_a_breach(
        before in traffic(), now in traffic(), limits in limits(),
        failing_instead in 0..500u64, added in 0..500u64,
    ) {
        if let Analysis::Breach { .. } = compare(&before, &now, &limits) {
            let errors = (now.errors + failing_instead).min(now.requests) + added;
            let worse = Window { errors, requests: now.requests + added, ..now };
            let analysis = compare(&before, &worse, &limits);
            prop_assert!(matches!(analysis, Analysis::Breach { .. }), "{:?}", analysis);
        }
    }

    #[test]
    fn messages_have_finite_numbers_only(before in traffic(), now in traffic(), limits in limits()) {
        let text = format!("{:?}", compare(&before, &now, &limits));
        prop_assert!(!text.contains("NaN") && !text.contains("inf"), "{}", text);
    }
}
