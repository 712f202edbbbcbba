//! Complete comparisons, of simulated runs.

use super::simulation::simulated_pairs;
use super::*;
use crate::result::{Ended, EngineKind};

type Pairs = Vec<(LoadResult, LoadResult)>;

/// A small load with little noise.
const SMALL: Simulation = Simulation {
    comparisons: 1,
    pairs: 5,
    endpoints: 2,
    blocks: 14,
    requests: 80,
    slower: 1.0,
    noise: Noise {
        pair: 0.03,
        run: 0.005,
        block: 0.02,
        handed_on: 0.6,
    },
    seed: 7,
};

fn row<'a>(comparison: &'a Comparison, endpoint: &str, metric: ComparedMetric) -> &'a Row {
    let mut rows = comparison.rows.iter();
    let row = rows.find(|row| row.endpoint == endpoint && row.metric == metric);
    row.unwrap_or_else(|| panic!("no {endpoint} {metric} in\n{comparison}"))
}

fn obstacle(change: impl FnOnce(&mut Pairs)) -> String {
    let mut pairs = simulated_pairs(&SMALL);
    change(&mut pairs);
    let comparison = compare_pairs(&pairs, &Settings::default());
    assert_eq!(comparison.verdict(), ComparisonVerdict::NotComparable);
    assert!(comparison.rows.is_empty());
    comparison.obstacles.join("\n")
}

#[test]
fn a_slower_endpoint_is_called_and_the_table_says_why() {
    let slower = Simulation {
        slower: 1.15,
        ..SMALL
    };
    let mut pairs = simulated_pairs(&slower);
    let late = pairs[2].1.endpoints.get_mut("GET /1").unwrap();
    late.blocks.retain(|number, _| *number < 4);
    let comparison = compare_pairs(&pairs, &Settings::default());
    assert_eq!(comparison.verdict(), ComparisonVerdict::Regressed);
    assert_eq!(u8::from(comparison.exit_code()), 98);
    insta::assert_snapshot!(comparison);
}

#[test]
fn the_same_results_and_seed_give_the_same_verdicts() {
    let pairs = simulated_pairs(&SMALL);
    let compare = |seed| {
        compare_pairs(
            &pairs,
            &Settings {
                seed,
                ..Settings::default()
            },
        )
    };
    assert_eq!(compare(3), compare(3));
    assert_ne!(compare(3), compare(4));
}

#[test]
fn a_comparison_is_read_back() {
    let comparison = compare_pairs(&simulated_pairs(&SMALL), &Settings::default());
    let written = serde_json::to_string(&comparison).unwrap();
    let read: Comparison = serde_json::from_str(&written).unwrap();
    assert_eq!(read.to_string(), comparison.to_string());
}

#[test]
fn a_calibration_says_what_can_be_seen() {
    let calibration = calibrate(&simulated_pairs(&SMALL), &Settings::default());
    assert_eq!(u8::from(calibration.exit_code()), 0);
    insta::assert_snapshot!(calibration);
}

#[test]
fn a_calibration_is_of_one_version() {
    let mut pairs = simulated_pairs(&SMALL);
    for (_, b) in &mut pairs {
        let versions = &mut b.fingerprint.versions;
        versions.insert("api-gateway".into(), "v2".into());
    }
    assert_ne!(
        compare_pairs(&pairs, &Settings::default()).verdict(),
        ComparisonVerdict::NotComparable
    );
    let calibration = calibrate(&pairs, &Settings::default());
    assert_eq!(u8::from(calibration.exit_code()), 5);
    assert!(calibration.to_string().contains("different versions"));
}

#[test]
fn what_bears_no_comparison_is_refused_with_its_reason() {
    let refused = [
        obstacle(|pairs| pairs.truncate(4)),
        obstacle(|pairs| pairs[1].0.fingerprint.machine = "8 cores".into()),
        obstacle(|pairs| pairs[1].1.fingerprint.plan = "edited".into()),
        obstacle(|pairs| pairs[2].1.engine = EngineKind::Closed),
        obstacle(|pairs| {
            let versions = &mut pairs[4].1.fingerprint.versions;
            versions.insert("api-gateway".into(), "v2".into());
        }),
        obstacle(|pairs| pairs[3].0.ended = Ended::Interrupted),
        obstacle(|pairs| pairs[3].0.generator.bottleneck = Some("0.99 of 1 core".into())),
        obstacle(|pairs| pairs[3].0.generator.cores_used = f64::NAN),
        obstacle(|pairs| pairs[0].0.endpoints.clear()),
        obstacle(|pairs| pairs[0].1.schema = 0),
    ];
    insta::assert_snapshot!(refused.join("\n"));
}

#[test]
fn invalid_settings_are_an_obstacle() {
    let settings = Settings {
        confidence: f64::NAN,
        ..Settings::default()
    };
    let comparison = compare_pairs(&simulated_pairs(&SMALL), &settings);
    assert_eq!(comparison.verdict(), ComparisonVerdict::NotComparable);
}

#[test]
fn an_endpoint_that_a_run_lacks_is_not_comparable() {
    let mut pairs = simulated_pairs(&SMALL);
    pairs[2].1.endpoints.remove("GET /1");
    let comparison = compare_pairs(&pairs, &Settings::default());
    for metric in ComparedMetric::ALL {
        let row = row(&comparison, "GET /1", metric);
        assert_eq!(row.verdict, ComparisonVerdict::NotComparable);
        assert_eq!(row.reason, "B's run 3 (made-up) has no such endpoint");
    }
    assert_eq!(u8::from(comparison.exit_code()), 5);
}

/// Leaves one request in each of the first blocks, of every run, at the first endpoint.
fn with_few_requests(blocks: u32) -> Comparison {
    let mut pairs = simulated_pairs(&SMALL);
    for run in pairs.iter_mut().flat_map(|(a, b)| [a, b]) {
        let endpoint = run.endpoints.get_mut("GET /0").unwrap();
        endpoint
            .blocks
            .retain(|number, _| (2..2 + blocks).contains(number));
        for block in endpoint.blocks.values_mut() {
            *block = Default::default();
            block.requests = 1;
            block.latency = [5_000].into_iter().collect();
        }
    }
    compare_pairs(&pairs, &Settings::default())
}

#[test]
fn one_sample_is_no_evidence() {
    for (samples, reason) in [
        (0, " has requests to it in only 0 blocks, 5 are needed"),
        (1, " has requests to it in only 1 blocks, 5 are needed"),
        (6, ": 6 samples, and p50 needs 10"),
    ] {
        let comparison = with_few_requests(samples);
        let p50 = row(&comparison, "GET /0", ComparedMetric::P50);
        assert_eq!(p50.verdict, ComparisonVerdict::NotComparable);
        assert_eq!(p50.reason, format!("A's run 1 (made-up){reason}"));
    }
    // Sixty requests without a failure are too few for a verdict.
    let comparison = with_few_requests(6);
    let errors = row(&comparison, "GET /0", ComparedMetric::ErrorShare);
    assert_eq!(
        errors.verdict,
        ComparisonVerdict::Inconclusive,
        "{}",
        errors.reason
    );
}

#[test]
fn failures_are_not_reported_as_faster_answers() {
    let mut pairs = simulated_pairs(&SMALL);
    for (_, b) in &mut pairs {
        for block in b.endpoints.get_mut("GET /0").unwrap().blocks.values_mut() {
            block.failed = block.requests;
        }
    }
    let comparison = compare_pairs(&pairs, &Settings::default());
    let verdict = |metric| row(&comparison, "GET /0", metric).verdict;
    assert_eq!(
        verdict(ComparedMetric::ErrorShare),
        ComparisonVerdict::Regressed
    );
    assert_eq!(
        verdict(ComparedMetric::Throughput),
        ComparisonVerdict::Regressed
    );
    assert_eq!(
        verdict(ComparedMetric::P95),
        ComparisonVerdict::NotComparable
    );
    assert_eq!(u8::from(comparison.exit_code()), 98);
}

#[test]
fn a_high_percentile_is_not_comparable_if_arrivals_were_dropped() {
    let mut pairs = simulated_pairs(&SMALL);
    let endpoint = pairs[0].1.endpoints.get_mut("GET /0").unwrap();
    endpoint
        .blocks
        .values_mut()
        .for_each(|block| block.dropped = 2);
    let comparison = compare_pairs(&pairs, &Settings::default());
    let p99 = row(&comparison, "GET /0", ComparedMetric::P99);
    assert_eq!(p99.verdict, ComparisonVerdict::NotComparable);
    assert!(p99.reason.contains("were dropped"), "{}", p99.reason);
    let p95 = row(&comparison, "GET /0", ComparedMetric::P95);
    assert_ne!(p95.verdict, ComparisonVerdict::NotComparable);
}

#[test]
fn a_run_is_compared_with_stored_ones() {
    let calm = Simulation {
        requests: 400,
        noise: Noise {
            pair: 0.0,
            run: 0.002,
            block: 0.01,
            handed_on: 0.6,
        },
        ..SMALL
    };
    let mut rough = calm;
    rough.noise.pair = 0.05;
    let [calm_runs, rough_runs] = [calm, rough].map(|simulation| {
        let pairs = simulated_pairs(&simulation).into_iter();
        pairs.map(|(a, _)| a).collect::<Vec<LoadResult>>()
    });
    let run = |slower| {
        let mut pairs = simulated_pairs(&Simulation {
            slower,
            seed: 99,
            ..calm
        });
        pairs.remove(0).1
    };
    let mut settings = Settings::default();
    settings.floors.latency = 0.1;
    let p50 = |stored: &[LoadResult], slower| {
        let comparison = compare_with_stored(stored, &run(slower), &settings);
        row(&comparison, "GET /0", ComparedMetric::P50).verdict
    };
    assert_eq!(p50(&calm_runs, 1.3), ComparisonVerdict::Regressed);
    assert_eq!(p50(&calm_runs, 0.7), ComparisonVerdict::Improved);
    assert_eq!(p50(&calm_runs, 1.0), ComparisonVerdict::Unchanged);
    // The stored runs differ by 5 % from each other.
    assert_eq!(p50(&rough_runs, 1.0), ComparisonVerdict::Inconclusive);
    assert_eq!(
        compare_with_stored(&calm_runs[..4], &run(1.0), &settings).obstacles,
        ["the baseline has 4 runs, 5 are needed"]
    );
}

#[test]
fn a_step_in_the_history_is_found_and_dated() {
    let runs: Vec<LoadResult> = (0..30u32)
        .map(|number| {
            let slower = if number < 18 { 1.0 } else { 1.2 };
            let simulation = Simulation {
                pairs: 1,
                slower,
                seed: 1_000 + u64::from(number),
                ..SMALL
            };
            let mut run = simulated_pairs(&simulation).remove(0).1;
            run.run = format!("night-{number}");
            run
        })
        .collect();
    let found = history(&runs, &Settings::default());
    insta::assert_snapshot!(found);
    let short = history(&runs[..29], &Settings::default());
    assert_eq!(short.obstacles, ["there are 29 runs, 30 are needed"]);
}

/// A smaller copy of the simulations in the documentation of [`simulate`].
#[test]
fn a_change_of_10_percent_is_reported_and_noise_is_not() {
    let same = Simulation {
        comparisons: 12,
        pairs: 7,
        requests: 400,
        ..SMALL
    };
    let slower = Simulation {
        slower: 1.1,
        seed: 1_000,
        ..same
    };
    let [same, slower] =
        [same, slower].map(|simulation| simulate(&simulation, &Settings::default()));
    assert_eq!((same.false_alarms, same.false_praise), (0, 0), "{same}");
    assert_eq!(slower.false_alarms, 0, "{slower}");
    assert!(slower.found >= 11, "{slower}");
}
