//! The figures of the measurements.

use super::{LoadMeasurements, VerdictRates, stall};
use crate::bench::Figure;
use crate::bench::results::Measured;
use crate::bench::series::{Series, Unit};
use crate::bench::stated_figure::{Bound, StatedFigure};
use crate::bench::wrk::CONNECTIONS;
use crate::regression::Rates;

pub(super) const OF_OHA: &str = "ours, as a share of oha";
const OF_K6: &str = "ours, as a share of k6";
const OF_WRK: &str = "ours, as a share of wrk";
pub(super) const OFF: &str = "stall, ours: p90, p95, p99 off the truth";
pub(super) const PASSED: &str = "stall, ours: runs that p(99)<100ms passed";
pub(super) const MEMORY: &str = "memory at 50,000 requests/s";
pub(super) const GROWTH: &str = "memory: growth from minute 2 on";
const FALSE_ALARMS: &str = "the same version: called regressed";
const FOUND: &str = "p95 10 % slower: called regressed";
const FALSE_ALARMS_ROUGH: &str = "the same on a rough machine";

const STATED: [StatedFigure; 10] = [
    StatedFigure::of_median(OF_OHA, Bound::AtLeast(1.0)),
    StatedFigure::of_median(OF_K6, Bound::AtLeast(8.0)),
    StatedFigure::of_median(OF_WRK, Bound::AtLeast(0.75)),
    StatedFigure::of_max(OFF, Bound::AtMost(0.02)),
    StatedFigure::of_max(PASSED, Bound::AtMost(0.0)),
    StatedFigure::of_max(MEMORY, Bound::Below(150.0)),
    StatedFigure::of_max(GROWTH, Bound::AtMost(0.05)),
    StatedFigure::of_max(FALSE_ALARMS, Bound::AtMost(0.02)),
    StatedFigure::of_median(FOUND, Bound::AtLeast(0.95)),
    StatedFigure::of_max(FALSE_ALARMS_ROUGH, Bound::AtMost(0.02)),
];

/// The share of its core above which the server limits wrk.
const BUSY: f64 = 0.98;

/// The figures, each with the verdicts on what is stated.
pub(super) fn figures(measurements: &LoadMeasurements) -> Vec<Measured> {
    vec![
        rates(measurements),
        stalls(measurements),
        soak(measurements),
        verdicts(&measurements.verdicts),
    ]
}

fn measured(about: impl Into<String>, series: Vec<Series>, notes: Vec<String>) -> Measured {
    Measured::new(Figure::Load, about, &STATED, series, notes)
}

fn rates(measurements: &LoadMeasurements) -> Measured {
    let rounds = &measurements.rates;
    let of_all = |name, unit, value: fn(&super::rates::RateRound) -> Option<f64>| {
        Series::new(name, unit, rounds.iter().filter_map(value).collect())
    };
    let rate = Unit::RequestsPerSecond;
    let mut notes = measurements.lacking.clone();
    let limited = rounds.iter().filter(|round| round.busy > BUSY).count();
    if limited > 0 {
        notes.push(format!(
            "in {limited} of {} rounds the server used its whole core under wrk: wrk could do more",
            rounds.len()
        ));
    }
    let about = format!(
        "load: a bare server, one core each for server and generator, {CONNECTIONS} connections or \
         as many as are needed"
    );
    let busy = "wrk: the server's core is busy";
    let oha = "oha -q --latency-correction: the rate it held";
    let ours_at_most = "ours, asked for wrk's rate";
    let series = vec![
        of_all("wrk", rate, |it| Some(it.wrk)),
        of_all(busy, Unit::Ratio, |it| Some(it.busy)),
        of_all(oha, rate, |it| it.oha),
        of_all("k6, 64 users", rate, |it| it.k6),
        of_all("Goose's own loop, 64 users", rate, |it| Some(it.goose)),
        of_all("ours: the rate it held", rate, |it| Some(it.ours)),
        of_all(ours_at_most, rate, |it| Some(it.ours_at_most)),
        of_all(OF_OHA, Unit::Ratio, |it| Some(it.ours / it.oha?)),
        of_all(OF_K6, Unit::Ratio, |it| Some(it.ours_at_most / it.k6?)),
        of_all(OF_WRK, Unit::Ratio, |it| Some(it.ours_at_most / it.wrk)),
    ];
    measured(about, series, notes)
}

fn stalls(measurements: &LoadMeasurements) -> Measured {
    let rounds = &measurements.stalls;
    let mut series = Vec::new();
    type Quantiles = fn(&stall::StallRound) -> Option<[f64; 3]>;
    let all: [(&str, Quantiles); 3] = [
        ("ours", |it| Some(it.ours)),
        ("k6", |it| it.k6),
        ("Goose", |it| Some(it.goose)),
    ];
    for (who, quantiles) in all {
        for (at, quantile) in ["p90", "p95", "p99"].into_iter().enumerate() {
            let values = rounds.iter().filter_map(|it| Some(quantiles(it)?[at]));
            let name = format!("stall, {who}: {quantile}");
            series.push(Series::new(name, Unit::Milliseconds, values.collect()));
        }
    }
    let off = rounds.iter().map(|it| off(it.ours)).collect();
    series.push(Series::new(OFF, Unit::Ratio, off));
    let passed = rounds.iter().map(|it| f64::from(it.passed)).collect();
    series.push(Series::new(PASSED, Unit::Runs, passed));
    measured(
        "load: a server that stalls for 2 s of 10 s, at 1,000 requests/s: p90, p95 and p99 are 1.0, \
         1.5 and 1.9 s",
        series,
        Vec::new(),
    )
}

/// Returns the largest relative error of the quantiles.
fn off(measured: [f64; 3]) -> f64 {
    let pairs = measured.into_iter().zip(stall::TRUE);
    let off = pairs.map(|(measured, truth)| (measured / truth - 1.0).abs());
    // `max` would hide a NaN.
    off.fold(0.0, |worst: f64, off| {
        match worst.is_nan() || off <= worst {
            true => worst,
            false => off,
        }
    })
}

fn soak(measurements: &LoadMeasurements) -> Measured {
    let soak = &measurements.soak;
    let rate = Unit::RequestsPerSecond;
    let series = vec![
        Series::new("answered meanwhile", rate, vec![soak.per_second]),
        Series::new(MEMORY, Unit::Mebibytes, soak.mebibytes.clone()),
        Series::new(GROWTH, Unit::Ratio, soak.growth().into_iter().collect()),
    ];
    measured(
        "load: the first four minutes of an hour at 50,000 requests/s, from minute 2 on",
        series,
        Vec::new(),
    )
}

fn verdicts(rates: &VerdictRates) -> Measured {
    let share = |name, rates: Rates, of: fn(Rates) -> u32| {
        let share = f64::from(of(rates)) / f64::from(rates.comparisons);
        Series::new(name, Unit::Ratio, vec![share])
    };
    let false_alarms = |rates: Rates| rates.false_alarms;
    let found = |rates: Rates| rates.found;
    let VerdictRates {
        same,
        slower,
        same_but_rough,
        slower_but_rough,
    } = *rates;
    let about = format!(
        "load: regression verdicts, once, on {} comparisons each of simulated runs",
        same.comparisons
    );
    let found_rough = "10 % slower on a rough machine: found";
    let series = vec![
        share(FALSE_ALARMS, same, false_alarms),
        share(FOUND, slower, found),
        share(FALSE_ALARMS_ROUGH, same_but_rough, false_alarms),
        share(found_rough, slower_but_rough, found),
    ];
    measured(about, series, Vec::new())
}
