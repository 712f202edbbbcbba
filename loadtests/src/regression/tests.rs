//! Whole comparisons, of load that was made up.

use super::simulation::made_up_pairs;
use super::*;
use crate::result::{Ended, Engine};

type Pairs = Vec<(LoadResult, LoadResult)>;

/// Little load, little noise.
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

fn settings() -> Settings {
    Settings::default()
}

fn row<'a>(comparison: &'a Comparison, endpoint: &str, metric: Metric) -> &'a Row {
    let mut rows = comparison.rows.iter();
    let row = rows.find(|row| row.endpoint == endpoint && row.metric == metric);
    row.unwrap_or_else(|| panic!("no {endpoint} {metric} in\n{comparison}"))
}

fn obstacle(spoil: impl FnOnce(&mut Pairs)) -> String {
    let mut pairs = made_up_pairs(&SMALL);
    spoil(&mut pairs);
    let comparison = compare_pairs(&pairs, &settings());
    assert_eq!(comparison.verdict(), Verdict::NotComparable);
    assert!(comparison.rows.is_empty());
    comparison.obstacles.join("\n")
}

#[test]
fn a_slower_endpoint_is_called_and_the_table_says_why() {
    let slower = Simulation {
        slower: 1.15,
        ..SMALL
    };
    let mut pairs = made_up_pairs(&slower);
    let late = pairs[2].1.endpoints.get_mut("GET /1").unwrap();
    late.blocks.retain(|number, _| *number < 4);
    let comparison = compare_pairs(&pairs, &settings());
    assert_eq!(comparison.verdict(), Verdict::Regressed);
    assert_eq!(u8::from(comparison.exit_code()), 98);
    insta::assert_snapshot!(comparison);
}

#[test]
fn the_same_results_and_seed_give_the_same_verdicts() {
    let pairs = made_up_pairs(&SMALL);
    let compare = |seed| compare_pairs(&pairs, &Settings { seed, ..settings() });
    assert_eq!(compare(3), compare(3));
    assert_ne!(compare(3), compare(4));
}

#[test]
fn a_comparison_is_read_back() {
    let comparison = compare_pairs(&made_up_pairs(&SMALL), &settings());
    let written = serde_json::to_string(&comparison).unwrap();
    let read: Comparison = serde_json::from_str(&written).unwrap();
    assert_eq!(read.to_string(), comparison.to_string());
}

#[test]
fn a_calibration_says_what_can_be_seen() {
    let calibration = calibrate(&made_up_pairs(&SMALL), &settings());
    assert_eq!(u8::from(calibration.exit_code()), 0);
    insta::assert_snapshot!(calibration);
}

#[test]
fn a_calibration_is_of_one_version() {
    let mut pairs = made_up_pairs(&SMALL);
    for (_, b) in &mut pairs {
        b.fingerprint
            .versions
            .insert("api-gateway".into(), "v2".into());
    }
    assert_ne!(
        compare_pairs(&pairs, &settings()).verdict(),
        Verdict::NotComparable
    );
    let calibration = calibrate(&pairs, &settings());
    assert_eq!(u8::from(calibration.exit_code()), 5);
    assert!(calibration.to_string().contains("different versions"));
}

#[test]
fn what_bears_no_comparison_is_refused_with_its_reason() {
    let refused = [
        obstacle(|pairs| pairs.truncate(4)),
        obstacle(|pairs| pairs[1].0.fingerprint.machine = "8 cores".into()),
        obstacle(|pairs| pairs[1].1.fingerprint.plan = "edited".into()),
        obstacle(|pairs| pairs[2].1.engine = Engine::Closed),
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
fn settings_that_are_no_numbers_never_pass() {
    let settings = Settings {
        confidence: f64::NAN,
        ..settings()
    };
    let comparison = compare_pairs(&made_up_pairs(&SMALL), &settings);
    assert_eq!(comparison.verdict(), Verdict::NotComparable);
}

#[test]
fn an_endpoint_that_is_missing_somewhere_is_said_to_be() {
    let mut pairs = made_up_pairs(&SMALL);
    pairs[2].1.endpoints.remove("GET /1");
    let comparison = compare_pairs(&pairs, &settings());
    for metric in Metric::ALL {
        let row = row(&comparison, "GET /1", metric);
        assert_eq!(row.verdict, Verdict::NotComparable);
        assert_eq!(row.reason, "B's run 3 (made-up) has no such endpoint");
    }
    assert_eq!(u8::from(comparison.exit_code()), 5);
}

/// Leaves one request in each of so many blocks, of every run, at the first endpoint.
fn with_few_requests(blocks: u32) -> Comparison {
    let mut pairs = made_up_pairs(&SMALL);
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
    compare_pairs(&pairs, &settings())
}

#[test]
fn one_sample_is_no_evidence() {
    for (samples, reason) in [
        (
            0,
            "A's run 1 (made-up) has requests to it in only 0 blocks, 5 are needed",
        ),
        (
            1,
            "A's run 1 (made-up) has requests to it in only 1 blocks, 5 are needed",
        ),
        (6, "A's run 1 (made-up): 6 samples, and p50 needs 10"),
    ] {
        let comparison = with_few_requests(samples);
        let p50 = row(&comparison, "GET /0", Metric::P50);
        assert_eq!(p50.verdict, Verdict::NotComparable);
        assert_eq!(p50.reason, reason);
    }
    // No failure in sixty requests says next to nothing.
    let comparison = with_few_requests(6);
    let errors = row(&comparison, "GET /0", Metric::ErrorShare);
    assert_eq!(errors.verdict, Verdict::Inconclusive, "{}", errors.reason);
}

#[test]
fn where_all_fails_the_answers_are_not_called_faster() {
    let mut pairs = made_up_pairs(&SMALL);
    for (_, b) in &mut pairs {
        for block in b.endpoints.get_mut("GET /0").unwrap().blocks.values_mut() {
            block.failed = block.requests;
        }
    }
    let comparison = compare_pairs(&pairs, &settings());
    let verdict = |metric| row(&comparison, "GET /0", metric).verdict;
    assert_eq!(verdict(Metric::ErrorShare), Verdict::Regressed);
    assert_eq!(verdict(Metric::Throughput), Verdict::Regressed);
    assert_eq!(verdict(Metric::P95), Verdict::NotComparable);
    assert_eq!(u8::from(comparison.exit_code()), 98);
}

#[test]
fn what_was_dropped_might_have_been_the_slowest() {
    let mut pairs = made_up_pairs(&SMALL);
    for block in pairs[0]
        .1
        .endpoints
        .get_mut("GET /0")
        .unwrap()
        .blocks
        .values_mut()
    {
        block.dropped = 2;
    }
    let comparison = compare_pairs(&pairs, &settings());
    let p99 = row(&comparison, "GET /0", Metric::P99);
    assert_eq!(p99.verdict, Verdict::NotComparable);
    assert!(p99.reason.contains("were dropped"), "{}", p99.reason);
    assert_ne!(
        row(&comparison, "GET /0", Metric::P95).verdict,
        Verdict::NotComparable
    );
}

#[test]
fn a_run_is_held_against_stored_ones() {
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
    let rough = Simulation {
        noise: Noise {
            pair: 0.05,
            ..calm.noise
        },
        ..calm
    };
    let [calm_runs, rough_runs] = [calm, rough].map(|simulation| {
        let pairs = made_up_pairs(&simulation).into_iter();
        pairs.map(|(a, _)| a).collect::<Vec<LoadResult>>()
    });
    let run = |slower| {
        let mut pairs = made_up_pairs(&Simulation {
            slower,
            seed: 99,
            ..calm
        });
        pairs.remove(0).1
    };
    let mut settings = settings();
    settings.floors.latency = 0.1;
    let p50 = |stored: &[LoadResult], slower| {
        let comparison = compare_with_stored(stored, &run(slower), &settings);
        row(&comparison, "GET /0", Metric::P50).verdict
    };
    assert_eq!(p50(&calm_runs, 1.3), Verdict::Regressed);
    assert_eq!(p50(&calm_runs, 0.7), Verdict::Improved);
    assert_eq!(p50(&calm_runs, 1.0), Verdict::Unchanged);
    // Runs that differ by 5 % from each other do not show it.
    assert_eq!(p50(&rough_runs, 1.0), Verdict::Inconclusive);
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
            let made_up = Simulation {
                pairs: 1,
                slower,
                seed: 1_000 + u64::from(number),
                ..SMALL
            };
            let mut run = made_up_pairs(&made_up).remove(0).1;
            run.run = format!("night-{number}");
            run
        })
        .collect();
    let found = history(&runs, &settings());
    insta::assert_snapshot!(found);
    let short = history(&runs[..29], &settings());
    assert_eq!(short.obstacles, ["there are 29 runs, 30 are needed"]);
}

/// A smaller copy of what [`simulate`] is measured by at length.
#[test]
fn noise_is_not_called_and_a_tenth_is() {
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
    let [same, slower] = [same, slower].map(|simulation| simulate(&simulation, &settings()));
    assert_eq!((same.false_alarms, same.false_praise), (0, 0), "{same}");
    assert_eq!(slower.false_alarms, 0, "{slower}");
    assert!(slower.found >= 11, "{slower}");
}
