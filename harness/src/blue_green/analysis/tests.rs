use std::collections::BTreeMap;

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

/// So many requests, so many of them errors, each as long as `micros` says.
fn window(errors: u64, micros: &[u64]) -> Window {
    let within = |bound: u64| micros.iter().filter(|it| **it <= bound).count() as u64;
    let counts = BOUNDS
        .iter()
        .map(|bound| (Duration::from_micros(*bound), within(*bound)));
    let counts: BTreeMap<_, _> = counts
        .chain([(Duration::MAX, micros.len() as u64)])
        .collect();
    Window {
        requests: micros.len() as u64,
        errors,
        durations: Histogram::of_cumulative(&counts),
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

fn judged(baseline: &Window, now: &Window) -> Analysis {
    judge(baseline, now, &THRESHOLDS)
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
    let good = judged(&usual(2_000, 0), &usual(4_000, 1));
    let bad = judged(&usual(2_000, 0), &window(400, &vec![302_000; 4_000]));
    let few = judged(&usual(2_000, 0), &usual(20, 0));
    let none = judged(&usual(2_000, 0), &nothing());
    let alone = judged(&nothing(), &usual(4_000, 0));
    insta::assert_debug_snapshot!([good, bad, few, none, alone]);
}

#[test]
fn few_requests_that_all_fail_are_enough() {
    breach(judged(&usual(2_000, 0), &usual(10, 10)));
    breach(judged(&nothing(), &usual(10, 10)));
    inconclusive(judged(&usual(2_000, 0), &usual(10, 0)));
}

#[test]
fn one_error_among_few_is_chance() {
    inconclusive(judged(&usual(2_000, 0), &usual(1, 1)));
    inconclusive(judged(&usual(2_000, 0), &usual(20, 1)));
    inconclusive(judged(&usual(2_000, 0), &window(0, &[302_000; 2])));
    inconclusive(judged(&usual(2_000, 0), &usual(150, 2)));
}

#[test]
fn an_old_version_that_failed_as_much_is_no_reason_to_go_back() {
    let failing = usual(2_000, 200);
    assert!(matches!(
        judged(&failing, &usual(2_000, 200)),
        Analysis::Holds { .. }
    ));
    breach(judged(&failing, &usual(2_000, 300)));
}

#[test]
fn few_requests_before_give_no_licence() {
    // 5 % were seen to fail, and up to a quarter may have.
    breach(judged(&usual(20, 1), &usual(2_000, 100)));
    breach(judged(&usual(100, 1), &usual(2_000, 100)));
}

#[test]
fn what_is_never_answered_has_failed() {
    let given_up = Window {
        given_up: 300,
        ..usual(700, 0)
    };
    let what = breach(judged(&usual(2_000, 0), &given_up));
    assert!(what.contains("300 of 1000 requests"), "{what}");
    assert!(what.contains("300 of them without an answer"), "{what}");
    let stuck = Window {
        in_flight: 120,
        stuck: 100,
        ..usual(700, 0)
    };
    breach(judged(&usual(2_000, 0), &stuck));
    // As many as before are slow, and not stuck.
    let before = Window {
        in_flight: 100,
        ..usual(2_000, 0)
    };
    assert!(matches!(judged(&before, &stuck), Analysis::Holds { .. }));
    // Counted while it was read.
    let off = Window {
        given_up: -3,
        ..usual(700, 0)
    };
    assert!(matches!(
        judged(&usual(2_000, 0), &off),
        Analysis::Holds { .. }
    ));
}

#[test]
fn a_container_that_is_started_again_is_no_good_version() {
    let now = Window {
        restarts: 1,
        ..usual(4_000, 0)
    };
    let what = breach(judged(&usual(4_000, 0), &now));
    assert!(
        what.contains("started again once, not once before"),
        "{what}"
    );
    assert!(matches!(judged(&now, &now), Analysis::Holds { .. }));
}

/// What is in a bucket took longer than its lower bound.
#[test]
fn a_buckets_lower_bound_is_in_the_bucket_before() {
    let limits = Thresholds {
        max_latency: Some(Duration::from_millis(250)),
        ..THRESHOLDS
    };
    let slow = window(0, &[250_001; 400]);
    breach(judge(&nothing(), &slow, &limits));
    let at_it = window(0, &[250_000; 400]);
    let analysis = judge(&nothing(), &at_it, &limits);
    assert!(matches!(analysis, Analysis::Holds { .. }), "{analysis:?}");
}

#[test]
fn a_third_of_a_second_on_top_of_two_milliseconds_is_a_breach_soon() {
    let what = breach(judged(&usual(2_000, 0), &window(0, &[302_000; 10])));
    assert!(what.contains("p95 over 250ms"), "{what}");
    assert!(what.contains("at most 2.5ms before"), "{what}");
}

#[test]
fn jitter_within_a_bucket_and_into_the_next_is_none() {
    let now = window(0, &[2_499; 4_000]);
    assert!(matches!(
        judged(&window(0, &[1_001; 4_000]), &now),
        Analysis::Holds { .. }
    ));
    let now = window(0, &[20_000; 4_000]);
    assert!(matches!(
        judged(&usual(4_000, 0), &now),
        Analysis::Holds { .. }
    ));
}

#[test]
fn a_few_more_slow_ones_that_chance_explains_are_no_breach() {
    let slow = |slow: usize| {
        let mut micros = vec![2_000; 1_000 - slow];
        micros.extend(vec![400_000; slow]);
        window(0, &micros)
    };
    // The true share of slow ones is 4.5 %: now and then there are more than 5 %.
    inconclusive(judged(&slow(35), &slow(54)));
    breach(judged(&slow(35), &slow(80)));
}

#[test]
fn without_a_baseline_latency_is_judged_by_an_absolute_bound_only() {
    let now = usual(4_000, 0);
    assert!(inconclusive(judged(&nothing(), &now)).contains("nothing to compare with"));
    let bounded = |millis| Thresholds {
        max_latency: Some(Duration::from_millis(millis)),
        ..THRESHOLDS
    };
    let analysis = judge(&nothing(), &now, &bounded(100));
    assert!(matches!(analysis, Analysis::Holds { .. }), "{analysis:?}");
    breach(judge(
        &nothing(),
        &window(0, &[302_000; 400]),
        &bounded(100),
    ));
    // A baseline that was over it already is compared with.
    let slow = window(0, &[302_000; 400]);
    let analysis = judge(&slow, &slow, &bounded(100));
    assert!(matches!(analysis, Analysis::Holds { .. }), "{analysis:?}");
}

#[test]
fn a_pod_that_was_not_asked_is_no_pass_and_no_excuse() {
    let unread = vec![Unread {
        pod: "api-gateway-green-1".into(),
        reason: "no answer within 1s".into(),
    }];
    let now = |errors| Window {
        unread: unread.clone(),
        ..usual(4_000, errors)
    };
    let why = inconclusive(judged(&usual(2_000, 0), &now(0)));
    assert!(why.starts_with("1 of 4 pods could not be asked: api-gateway-green-1"));
    breach(judged(&usual(2_000, 0), &now(400)));
}

#[test]
fn the_interval_is_wilsons() {
    // As R's prop.test(3, 20, correct = FALSE) and prop.test(0, 10, ...) give it.
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
        let analysis = judge(&same, &same, &limits);
        prop_assert!(!matches!(analysis, Analysis::Breach { .. }), "{:?}", analysis);
    }

    #[test]
    fn no_requests_never_hold(before in traffic(), limits in limits()) {
        let analysis = judge(&before, &nothing(), &limits);
        prop_assert!(matches!(analysis, Analysis::Inconclusive { .. }), "{:?}", analysis);
    }

    #[test]
    fn more_errors_never_turn_a_breach_into_anything_else(
        before in traffic(), now in traffic(), limits in limits(),
        failing_instead in 0..500u64, failing_as_well in 0..500u64,
    ) {
        if let Analysis::Breach { .. } = judge(&before, &now, &limits) {
            let errors = (now.errors + failing_instead).min(now.requests) + failing_as_well;
            let worse = Window { errors, requests: now.requests + failing_as_well, ..now };
            let analysis = judge(&before, &worse, &limits);
            prop_assert!(matches!(analysis, Analysis::Breach { .. }), "{:?}", analysis);
        }
    }

    #[test]
    fn no_number_is_not_a_number(before in traffic(), now in traffic(), limits in limits()) {
        let told = format!("{:?}", judge(&before, &now, &limits));
        prop_assert!(!told.contains("NaN") && !told.contains("inf"), "{}", told);
    }
}
