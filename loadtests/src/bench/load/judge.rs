//! From what was seen to figures.

use super::{Seen, VerdictRates, stall};
use crate::bench::Figure;
use crate::bench::results::Measured;
use crate::bench::series::{Series, Unit};
use crate::bench::threshold::{Bound, Statistic, Threshold};
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

const fn never(series: &'static str, bound: Bound) -> Threshold {
    Threshold {
        series,
        statistic: Statistic::Max,
        bound,
    }
}

const STATED: [Threshold; 10] = [
    Threshold::of_median(OF_OHA, Bound::AtLeast(1.0)),
    Threshold::of_median(OF_K6, Bound::AtLeast(8.0)),
    Threshold::of_median(OF_WRK, Bound::AtLeast(0.75)),
    never(OFF, Bound::AtMost(0.02)),
    never(PASSED, Bound::AtMost(0.0)),
    never(MEMORY, Bound::Below(150.0)),
    never(GROWTH, Bound::AtMost(0.05)),
    never(FALSE_ALARMS, Bound::AtMost(0.02)),
    Threshold::of_median(FOUND, Bound::AtLeast(0.95)),
    never(FALSE_ALARMS_ROUGH, Bound::AtMost(0.02)),
];

/// Of its core, what the server has used where its own rate is wrk's limit.
const BUSY: f64 = 0.98;

/// The figures, each with what it says of what is stated.
pub(super) fn judge(seen: &Seen) -> Vec<Measured> {
    vec![
        rates(seen),
        stalls(seen),
        soak(seen),
        verdicts(&seen.verdicts),
    ]
}

fn measured(about: String, series: Vec<Series>, notes: Vec<String>) -> Measured {
    Measured {
        figure: Figure::Load,
        about,
        verdicts: Threshold::judge_all(&STATED, &series),
        series,
        notes,
    }
}

fn rates(seen: &Seen) -> Measured {
    let rounds = &seen.rates;
    let of_all = |name, unit, value: fn(&super::rates::Round) -> Option<f64>| {
        Series::new(name, unit, rounds.iter().filter_map(value).collect())
    };
    let rate = Unit::RequestsPerSecond;
    let mut notes: Vec<String> = seen.lacking.clone();
    let limited = rounds.iter().filter(|round| round.busy > BUSY).count();
    if limited > 0 {
        notes.push(format!(
            "in {limited} of {} rounds the server was as busy as its core lets it under wrk: wrk \
             could do more",
            rounds.len()
        ));
    }
    measured(
        format!(
            "load: a bare server, one core each for server and generator, {CONNECTIONS} \
             connections or as many as are needed"
        ),
        vec![
            of_all("wrk", rate, |it| Some(it.wrk)),
            of_all("wrk: the server's core is busy", Unit::Ratio, |it| {
                Some(it.busy)
            }),
            of_all(
                "oha -q --latency-correction: the rate it held",
                rate,
                |it| it.oha,
            ),
            of_all("k6, 64 users", rate, |it| it.k6),
            of_all("Goose's own loop, 64 users", rate, |it| Some(it.goose)),
            of_all("ours: the rate it held", rate, |it| Some(it.ours)),
            of_all("ours, asked for wrk's rate", rate, |it| {
                Some(it.ours_at_most)
            }),
            of_all(OF_OHA, Unit::Ratio, |it| Some(it.ours / it.oha?)),
            of_all(OF_K6, Unit::Ratio, |it| Some(it.ours_at_most / it.k6?)),
            of_all(OF_WRK, Unit::Ratio, |it| Some(it.ours_at_most / it.wrk)),
        ],
        notes,
    )
}

fn stalls(seen: &Seen) -> Measured {
    let rounds = &seen.stalls;
    let mut series = Vec::new();
    type Told = fn(&stall::Round) -> Option<[f64; 3]>;
    let all: [(&str, Told); 3] = [
        ("ours", |it| Some(it.ours)),
        ("k6", |it| it.k6),
        ("Goose", |it| Some(it.goose)),
    ];
    for (who, told) in all {
        for (at, quantile) in ["p90", "p95", "p99"].into_iter().enumerate() {
            let values = rounds.iter().filter_map(|it| Some(told(it)?[at]));
            let name = format!("stall, {who}: {quantile}");
            series.push(Series::new(name, Unit::Milliseconds, values.collect()));
        }
    }
    let off = rounds.iter().map(|it| off(it.ours)).collect();
    series.push(Series::new(OFF, Unit::Ratio, off));
    let passed = rounds.iter().map(|it| f64::from(it.passed)).collect();
    series.push(Series::new(PASSED, Unit::Runs, passed));
    measured(
        "load: a server that stands still for 2 s of 10 s, at 1,000 requests/s: p90, p95 and p99 \
         are 1.0, 1.5 and 1.9 s"
            .into(),
        series,
        Vec::new(),
    )
}

/// How far the worst of them is off the truth, as a share of it.
fn off(seen: [f64; 3]) -> f64 {
    let shares = seen.into_iter().zip(stall::TRUE);
    let off = shares.map(|(seen, truth)| (seen / truth - 1.0).abs());
    // Not by `max`, which would hide what is not a number.
    off.fold(0.0, |worst: f64, off| {
        match worst.is_nan() || off <= worst {
            true => worst,
            false => off,
        }
    })
}

fn soak(seen: &Seen) -> Measured {
    let soak = &seen.soak;
    measured(
        "load: the first four minutes of an hour at 50,000 requests/s, from minute 2 on".into(),
        vec![
            Series::new(
                "answered meanwhile",
                Unit::RequestsPerSecond,
                vec![soak.per_second],
            ),
            Series::new(MEMORY, Unit::Mebibytes, soak.mebibytes.clone()),
            Series::new(GROWTH, Unit::Ratio, soak.growth().into_iter().collect()),
        ],
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
    measured(
        format!(
            "load: regression verdicts, once, on {} comparisons each of made-up runs",
            same.comparisons
        ),
        vec![
            share(FALSE_ALARMS, same, false_alarms),
            share(FOUND, slower, found),
            share(FALSE_ALARMS_ROUGH, same_but_rough, false_alarms),
            share(
                "10 % slower on a rough machine: found",
                slower_but_rough,
                found,
            ),
        ],
        Vec::new(),
    )
}
