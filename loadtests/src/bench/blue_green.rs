//! A service released blue-green by our deployer and by the guide's script, under the same
//! traffic, side by side: a version that is good, and one that fails once it has traffic.

mod ground;
mod guide;
mod ours;
mod planting;
mod told;
mod traffic;

use std::fmt;
use std::time::Duration;

use harness::blue_green::Policy;
use harness::duration::human;
use harness::prober::Figures;

use super::error::BenchError;
use super::kind::Bench as KindBench;
use super::results::Measured;
use super::scratch::Scratch;
use super::series::{Series, Unit};
use super::threshold::{Bound, Statistic, Threshold};
use super::{Figure, Plan, Progress};
use ground::Ground;
use ours::Spans;
use told::Told;

const FAILED: &str = "good release, ours: failed requests";
const OWN_TIME: &str = "good release, ours: the deployer's own time";
const REVERT: &str = "bad release, ours: time to revert";

/// What no round may exceed.
const fn never(series: &'static str, bound: Bound) -> Threshold {
    Threshold {
        series,
        statistic: Statistic::Max,
        bound,
    }
}

const STATED: [Threshold; 3] = [
    never(FAILED, Bound::AtMost(0.0)),
    never(OWN_TIME, Bound::Below(3_000.0)),
    never(REVERT, Bound::Below(5_000.0)),
];

/// Who releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Ours,
    Script,
}

/// What is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quality {
    /// A version that holds.
    Good,
    /// One that answers with 500 from when it has traffic on.
    Bad,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            By::Ours => "ours",
            By::Script => "the script",
        })
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Quality::Good => "good release",
            Quality::Bad => "bad release",
        })
    }
}

/// One release, measured.
#[derive(Debug)]
struct Release {
    by: By,
    quality: Quality,
    /// From its start to its end, milliseconds.
    millis: f64,
    /// What it was made of; of ours alone.
    spans: Option<Spans>,
    told: Told,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Release { by, quality, .. } = self;
        let Told {
            figures,
            switch,
            revert,
            ..
        } = &self.told;
        let (requests, failed) = (figures.requests, figures.failed());
        let took = human(self.millis as u64);
        write!(
            f,
            "{quality}, {by}: {failed} of {requests} failed, in {took}"
        )?;
        let (what, shown) = match quality {
            Quality::Good => ("switch", switch),
            Quality::Bad => ("revert", revert),
        };
        if let Some(millis) = shown {
            write!(f, ", {what} in {}", human(*millis as u64))?;
        }
        match &self.told.behind {
            Some(why) => write!(f, "; not counted: {why}"),
            None => Ok(()),
        }
    }
}

/// What the measurement needs of this machine, found: what the kind target's figures do.
pub struct Bench(KindBench);

impl Bench {
    /// Looks whether this machine has what is needed.
    ///
    /// # Errors
    /// What is missing, in words.
    pub async fn prepare(plan: &Plan) -> Result<Bench, String> {
        KindBench::prepare(plan).await.map(Bench)
    }

    /// Stands one environment up, and has each release both versions as often as planned.
    pub async fn measure(
        &self,
        plan: &Plan,
        scratch: &Scratch,
        progress: Progress<'_>,
    ) -> Result<Measured, BenchError> {
        progress("blue-green: an environment comes up first: minutes, if images are missing");
        let ground = Ground::stand_up(&self.0, plan, scratch).await?;
        let mut releases = Vec::new();
        for round in 1..=plan.rounds {
            for by in in_turn(round) {
                for quality in [Quality::Good, Quality::Bad] {
                    let release = ground.release(by, quality).await?;
                    progress(&format!(
                        "blue-green: round {round} of {}: {release}",
                        plan.rounds
                    ));
                    releases.push(release);
                }
            }
        }
        scratch.take_down().await?;
        Ok(judge(&releases, &self.0.config.blue_green))
    }
}

/// Who is first changes with every round.
fn in_turn(round: u32) -> [By; 2] {
    match round % 2 {
        0 => [By::Ours, By::Script],
        _ => [By::Script, By::Ours],
    }
}

/// What is read from a release, where it has it.
type Value = fn(&Release) -> Option<f64>;

/// Shown of both, side by side.
const OF_BOTH: [(Quality, &str, Unit, Value); 8] = [
    (Quality::Good, "requests", Unit::Requests, requests),
    (Quality::Good, "failed requests", Unit::Requests, failed),
    (Quality::Good, "switch time", Unit::Milliseconds, |it| {
        it.told.counted()?.switch
    }),
    (Quality::Good, "whole time", Unit::Milliseconds, whole),
    (Quality::Bad, "requests", Unit::Requests, requests),
    (Quality::Bad, "failed requests", Unit::Requests, failed),
    (Quality::Bad, "time to revert", Unit::Milliseconds, |it| {
        it.told.counted()?.revert
    }),
    (Quality::Bad, "whole time", Unit::Milliseconds, whole),
];

fn requests(release: &Release) -> Option<f64> {
    Some(release.told.counted()?.figures.requests as f64)
}

fn failed(release: &Release) -> Option<f64> {
    Some(release.told.counted()?.figures.failed() as f64)
}

fn whole(release: &Release) -> Option<f64> {
    Some(release.millis)
}

/// The figure, and what it says of what is stated. `policy` is what our releases waited by.
fn judge(releases: &[Release], policy: &Policy) -> Measured {
    let mut series = Vec::new();
    for (quality, what, unit, value) in OF_BOTH {
        for by in [By::Ours, By::Script] {
            let values = of(releases, by, quality).filter_map(value);
            let name = format!("{quality}, {by}: {what}");
            series.push(Series::new(name, unit, values.collect()));
        }
    }
    series.extend(parts(releases, policy));
    let verdicts = Threshold::judge_all(&STATED, &series);
    measured(series, notes(releases, policy), verdicts)
}

fn of(releases: &[Release], by: By, quality: Quality) -> impl Iterator<Item = &Release> {
    let wanted = move |it: &&Release| it.by == by && it.quality == quality;
    releases.iter().filter(wanted)
}

/// What the whole time of our good releases is made of.
fn parts(releases: &[Release], policy: &Policy) -> [Series; 3] {
    let waits = waits(policy).as_secs_f64() * 1000.0;
    let good = || {
        let good = of(releases, By::Ours, Quality::Good);
        good.filter_map(|it| Some((it.millis, it.spans.as_ref()?)))
    };
    let series = |name: &str, values| Series::new(name, Unit::Milliseconds, values);
    [
        series(
            "good release, ours: new pods come up",
            good().map(|(_, spans)| spans.come_up).collect(),
        ),
        series(
            "good release, ours: old pods end",
            good().map(|(_, spans)| spans.end).collect(),
        ),
        series(
            OWN_TIME,
            good()
                .map(|(whole, spans)| whole - spans.come_up - spans.end - waits)
                .collect(),
        ),
    ]
}

/// What `harness.toml` has a release wait.
fn waits(policy: &Policy) -> Duration {
    policy.baseline + policy.watch + policy.drain
}

fn notes(releases: &[Release], policy: &Policy) -> Vec<String> {
    let mut notes = vec![format!(
        "ours waits {} by harness.toml: baseline {}, analysis {}, drain {}",
        human(waits(policy).as_millis() as u64),
        human(policy.baseline.as_millis() as u64),
        human(policy.watch.as_millis() as u64),
        human(policy.drain.as_millis() as u64),
    )];
    for by in [By::Ours, By::Script] {
        let mut all = Figures::default();
        let counted = of(releases, by, Quality::Good).filter_map(|it| it.told.counted());
        counted.for_each(|told| all.merge(&told.figures));
        if all.requests > 0 {
            notes.push(format!("good releases, {by}: {all}"));
        }
    }
    let behind = releases.iter().filter(|it| it.told.behind.is_some());
    match behind.count() {
        0 => {}
        some => notes.push(format!(
            "in {some} of {} releases the prober fell behind: their requests, switches and \
             reverts are not counted",
            releases.len()
        )),
    }
    notes
}

/// The figure where this machine cannot have it, because of `why`: every stated one counts
/// as not measured.
pub fn not_measured(why: &str) -> Measured {
    let unit = |stated: &Threshold| match stated.series {
        FAILED => Unit::Requests,
        _ => Unit::Milliseconds,
    };
    let series = STATED
        .iter()
        .map(|stated| Series::new(stated.series, unit(stated), Vec::new()));
    let series: Vec<Series> = series.collect();
    let verdicts = Threshold::judge_all(&STATED, &series);
    let note = format!("blue-green releases were not measured: {why}");
    measured(series, vec![note], verdicts)
}

fn measured(
    series: Vec<Series>,
    notes: Vec<String>,
    verdicts: Vec<super::threshold::Verdict>,
) -> Measured {
    Measured {
        figure: Figure::BlueGreen,
        about: format!(
            "blue-green: {} released by our deployer and by the guide's script, under {} \
             requests/s through the ingress",
            ground::SERVICE,
            traffic::PER_SECOND
        ),
        series,
        notes,
        verdicts,
    }
}

#[cfg(test)]
mod tests;
