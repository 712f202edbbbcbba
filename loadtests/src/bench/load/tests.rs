use base::run::event::Host;
use jiff::Timestamp;

use super::rates::RateRound;
use super::*;
use crate::bench::results::{BenchResults, Machine};
use crate::bench::{FigureOutcome, exit_code};

/// Measurements for which all stated figures hold.
fn measurements() -> LoadMeasurements {
    let round = RateRound {
        wrk: 110_000.0,
        busy: 0.91,
        oha: Some(83_000.0),
        k6: Some(9_000.0),
        goose: 12_000.0,
        ours: 85_000.0,
        ours_at_most: 90_000.0,
    };
    let stall = stall::StallRound {
        ours: [1_003.0, 1_502.0, 1_901.0],
        passed: false,
        k6: Some([1_010.0, 1_508.0, 1_905.0]),
        goose: [0.4, 0.5, 0.9],
    };
    let rates = |false_alarms, found| Rates {
        comparisons: 200,
        false_alarms,
        false_praise: 0,
        found,
    };
    LoadMeasurements {
        rates: vec![round; 3],
        stalls: vec![stall; 3],
        soak: Soak {
            mebibytes: (0..40)
                .map(|second| 60.0 + f64::from(second) / 40.0)
                .collect(),
            per_second: 50_000.0,
        },
        verdicts: VerdictRates {
            same: rates(0, 0),
            slower: rates(0, 199),
            same_but_rough: rates(3, 0),
            slower_but_rough: rates(3, 80),
        },
        lacking: Vec::new(),
    }
}

fn results(measurements: &LoadMeasurements) -> BenchResults {
    let machine = Machine {
        host: Host {
            system: "Debian GNU/Linux 12".into(),
            cores: 2,
            memory_mib: 16_000,
            processor: None,
        },
        load_average: Some(0.25),
    };
    let figures = figures::figures(measurements);
    BenchResults::new(Timestamp::UNIX_EPOCH, machine, 3, figures)
}

fn outcome(measurements: &LoadMeasurements, series: &str) -> FigureOutcome {
    let results = results(measurements);
    let mut verdicts = results.verdicts();
    let verdict = verdicts.find(|verdict| verdict.threshold.series == series);
    verdict.unwrap().outcome
}

#[test]
fn the_table_shows_all_side_by_side_and_evaluates_ours() {
    let results = results(&measurements());
    assert_eq!(exit_code(&results), base::exit::ExitCode::Held);
    insta::assert_snapshot!(results);
}

#[test]
fn a_generator_that_is_not_available_is_reported_and_inconclusive() {
    let mut measurements = measurements();
    measurements
        .rates
        .iter_mut()
        .for_each(|round| round.oha = None);
    measurements.lacking = vec!["oha was not measured: there is no cargo".into()];
    assert_eq!(
        outcome(&measurements, figures::OF_OHA),
        FigureOutcome::NotMeasured
    );
    let results = results(&measurements);
    assert_eq!(exit_code(&results), base::exit::ExitCode::Inconclusive);
    assert!(results.to_string().contains("there is no cargo"));
}

#[test]
fn an_engine_that_hides_the_stall_fails() {
    let mut measurements = measurements();
    measurements.stalls[1].ours = [0.4, 0.5, 1_900.0];
    assert_eq!(outcome(&measurements, figures::OFF), FigureOutcome::Failed);
    measurements.stalls[1].ours = [1_000.0, f64::NAN, 1_900.0];
    assert_eq!(outcome(&measurements, figures::OFF), FigureOutcome::Failed);
    assert_eq!(outcome(&measurements, figures::PASSED), FigureOutcome::Held);
    measurements.stalls[2].passed = true;
    assert_eq!(
        outcome(&measurements, figures::PASSED),
        FigureOutcome::Failed
    );
}

#[test]
fn memory_that_grows_fails() {
    let mut measurements = measurements();
    measurements.soak.mebibytes = (0..40).map(|second| 60.0 + f64::from(second)).collect();
    assert_eq!(
        outcome(&measurements, figures::GROWTH),
        FigureOutcome::Failed
    );
    measurements.soak.mebibytes.clear();
    assert_eq!(
        outcome(&measurements, figures::GROWTH),
        FigureOutcome::NotMeasured
    );
    assert_eq!(
        outcome(&measurements, figures::MEMORY),
        FigureOutcome::NotMeasured
    );
}
