//! Blue-green releases of a service by our deployer, by Argo Rollouts and by the guide's script,
//! under the same traffic: of a good version, of one that fails once it has traffic, and with a
//! deployer that is killed.

mod argo;
mod contest;
mod error_share;
mod faults;
mod footprint;
mod guide;
mod killed;
mod ours;
mod release_site;
mod setup;
mod traffic;
mod traffic_figures;

use std::fmt;
use std::time::Duration;

use base::duration::human;
use blue_green::Policy;
use blue_green::analysis::simulation::Version;
use kubernetes::prober::Figures;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::error::BenchError;
use super::kind::KindBench;
use super::results::Measured;
use super::scratch::Scratch;
use super::series::{Series, Unit};
use super::stated_figure::{Bound, StatedFigure};
use super::{BenchPlan, Figure, Progress};
use argo::Argo;
use contest::Contest;
use killed::Killed;
use ours::Spans;
use setup::BenchSetup;
use traffic::PER_SECOND;
use traffic_figures::TrafficFigures;

const SERVICE: &str = "market-data-service";

/// The number of requests of which our good releases must fail none, and the releases in a round
/// that it takes.
const GOOD_REQUESTS: u64 = 30_000;
const GOOD_RELEASES: usize = 3;

/// A lower rate than that of other releases.
const FEW_PER_SECOND: u64 = 50;

/// How many good versions are simulated for each rate.
const SIMULATED: usize = 2_000;

const FAILED: &str = "good releases, ours: failed, of 30000 or more";
const NEW_PODS: &str = "good release, ours: new pods come up";
const OLD_PODS: &str = "good release, ours: old pods end";
const OWN_TIME: &str = "good release, ours: the deployer's own time";
const REVERT: &str = "bad release, ours: revert once measurable";
const REVERT_OF_TENTH: &str = "1 in 10 fails, 200/s: revert once measurable";
const REVERT_OF_FEW: &str = "1 in 10 fails, 50/s: revert once measurable";
const FALSE_REVERTS: &str = "good versions rolled back by chance, a share";

const STATED: [StatedFigure; 6] = [
    StatedFigure::of_max(FAILED, Bound::AtMost(0.0)),
    StatedFigure::of_max(OWN_TIME, Bound::Below(3_000.0)),
    StatedFigure::of_max(REVERT, Bound::Below(5_000.0)),
    StatedFigure::of_max(REVERT_OF_TENTH, Bound::Below(5_000.0)),
    StatedFigure::of_max(REVERT_OF_FEW, Bound::Below(5_000.0)),
    StatedFigure::of_max(FALSE_REVERTS, Bound::AtMost(0.01)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Ours,
    Argo,
    Script,
}

impl Contender {
    const ALL: [Contender; 3] = [Contender::Ours, Contender::Argo, Contender::Script];
}

/// The quality of the version that is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quality {
    Good,
    /// It answers every request with 500 once it has traffic.
    Bad,
    /// It answers one request in ten with 500 once it has traffic.
    OneInTen,
}

impl Quality {
    /// The share of requests that it fails.
    fn error_share(self) -> Option<f64> {
        match self {
            Quality::Good => None,
            Quality::Bad => Some(1.0),
            Quality::OneInTen => Some(0.1),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Contender::Ours => "ours",
            Contender::Argo => "Argo",
            Contender::Script => "the script",
        })
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Quality::Good => "good release",
            Quality::Bad => "bad release",
            Quality::OneInTen => "1 in 10 fails",
        })
    }
}

/// A release to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BenchRelease {
    by: Contender,
    quality: Quality,
    /// The users' requests per second.
    per_second: u64,
}

#[derive(Debug)]
struct Release {
    attempt: BenchRelease,
    /// From its start to its end, in milliseconds.
    millis: f64,
    /// Its parts, only for our deployer.
    spans: Option<Spans>,
    /// The deployer's peak memory, in MiB.
    memory: Option<f64>,
    traffic: TrafficFigures,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BenchRelease {
            by,
            quality,
            per_second,
        } = &self.attempt;
        let TrafficFigures {
            figures,
            switch,
            once_measurable,
            ..
        } = &self.traffic;
        let (requests, failed) = (figures.requests, figures.failed());
        let took = human(self.millis as u64);
        write!(f, "{quality}, {by}: {failed} of {requests} failed")?;
        if *per_second != PER_SECOND {
            write!(f, " at {per_second}/s")?;
        }
        write!(f, ", in {took}")?;
        let (what, shown) = match quality {
            Quality::Good => ("switch in", switch),
            Quality::Bad | Quality::OneInTen => ("once measurable, revert in", once_measurable),
        };
        if let Some(millis) = shown {
            write!(f, ", {what} {}", human(*millis as u64))?;
        }
        match &self.traffic.behind {
            Some(why) => write!(f, "; not counted: {why}"),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct ReleaseMeasurements {
    /// Round by round.
    releases: Vec<Vec<Release>>,
    killed: Vec<Killed>,
    /// For each rate, the share of simulated good versions that were rolled back.
    false_reverts: Vec<f64>,
    /// Why Argo Rollouts was not measured, if so.
    no_argo: Option<String>,
}

/// Starts one environment, in which each contender releases all versions in every round.
pub async fn measure(
    kind: &KindBench,
    plan: &BenchPlan,
    scratch: &Scratch,
    progress: Progress<'_>,
) -> Result<Measured, BenchError> {
    progress("blue-green: an environment comes up first: minutes, if images are missing");
    let setup = BenchSetup::start(kind, plan, scratch).await?;
    progress("blue-green: Argo Rollouts comes up: minutes, if its image is missing");
    let (argo, no_argo) = match Argo::start(&setup, plan).await {
        Ok(argo) => (Some(argo), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let contest = Contest { setup, argo };
    let policy = &kind.config.blue_green;
    let mut measurements = ReleaseMeasurements {
        releases: Vec::new(),
        killed: Vec::new(),
        false_reverts: false_reverts(policy),
        no_argo,
    };
    for round in 1..=plan.rounds {
        let report = |what: &dyn fmt::Display| {
            progress(&format!(
                "blue-green: round {round} of {}: {what}",
                plan.rounds
            ));
        };
        let contenders = rotated(round, contest.contenders());
        let mut releases = Vec::new();
        for attempt in attempts(&contenders) {
            let release = contest.release(attempt).await?;
            report(&release);
            releases.push(release);
        }
        measurements.releases.push(releases);
        for by in contenders {
            let killed = contest.killed(by).await?;
            report(&killed);
            measurements.killed.push(killed);
        }
    }
    scratch.tear_down().await?;
    Ok(evaluate(&measurements, policy))
}

/// The contenders, in an order that changes with every round.
fn rotated(round: u32, contenders: impl Iterator<Item = Contender>) -> Vec<Contender> {
    let mut contenders: Vec<Contender> = contenders.collect();
    let first = round as usize % contenders.len().max(1);
    contenders.rotate_left(first);
    contenders
}

fn attempts(contenders: &[Contender]) -> Vec<BenchRelease> {
    let attempt = |by, quality, per_second| BenchRelease {
        by,
        quality,
        per_second,
    };
    let mut attempts = Vec::new();
    for by in contenders {
        let times = match by {
            Contender::Ours => GOOD_RELEASES,
            _ => 1,
        };
        attempts.extend(vec![attempt(*by, Quality::Good, PER_SECOND); times]);
        attempts.push(attempt(*by, Quality::Bad, PER_SECOND));
    }
    for per_second in [PER_SECOND, FEW_PER_SECOND] {
        attempts.push(attempt(Contender::Ours, Quality::OneInTen, per_second));
    }
    attempts
}

/// For each rate, simulates the analysis of releases whose version is just as bad as allowed.
/// Returns the share that is rolled back by chance.
fn false_reverts(policy: &Policy) -> Vec<f64> {
    let looks = (policy.watch + policy.drain).as_secs();
    let rates = [FEW_PER_SECOND, PER_SECOND].into_iter();
    rates
        .map(|per_second| {
            let mut random = StdRng::seed_from_u64(per_second);
            let good = Version::just_allowed(&policy.thresholds, per_second);
            let breaches = good.breaches(&policy.thresholds, looks, SIMULATED, &mut random);
            breaches as f64 / SIMULATED as f64
        })
        .collect()
}

/// Reads a value from a release, if it has it.
type Value = fn(&Release) -> Option<f64>;

/// The values of all contenders, side by side.
const OF_ALL: [(Quality, &str, Unit, Value); 10] = {
    use Quality::{Bad, Good};
    use Unit::{Mebibytes, Milliseconds, Requests};
    [
        (Good, "requests", Requests, requests),
        (Good, "failed requests", Requests, failed),
        (Good, "switch time", Milliseconds, switch),
        (Good, "whole time", Milliseconds, whole),
        (Good, "memory", Mebibytes, |release| release.memory),
        (Bad, "requests", Requests, requests),
        (Bad, "failed requests", Requests, failed),
        (Bad, "time to revert", Milliseconds, revert),
        (Bad, "revert once measurable", Milliseconds, once_measurable),
        (Bad, "whole time", Milliseconds, whole),
    ]
};

fn requests(release: &Release) -> Option<f64> {
    Some(release.traffic.counted()?.figures.requests as f64)
}

fn failed(release: &Release) -> Option<f64> {
    Some(release.traffic.counted()?.figures.failed() as f64)
}

fn switch(release: &Release) -> Option<f64> {
    release.traffic.counted()?.switch
}

fn revert(release: &Release) -> Option<f64> {
    release.traffic.counted()?.revert
}

fn once_measurable(release: &Release) -> Option<f64> {
    release.traffic.counted()?.once_measurable
}

fn whole(release: &Release) -> Option<f64> {
    Some(release.millis)
}

/// The figure, with the verdicts on what is stated. `policy` has the waits of our releases.
fn evaluate(measurements: &ReleaseMeasurements, policy: &Policy) -> Measured {
    let mut series = Vec::new();
    for (quality, what, unit, value) in OF_ALL {
        for by in Contender::ALL {
            let values = measurements.of(by, quality, PER_SECOND).filter_map(value);
            let name = format!("{quality}, {by}: {what}");
            series.push(Series::new(name, unit, values.collect()));
        }
    }
    for (name, per_second) in [
        (REVERT_OF_TENTH, PER_SECOND),
        (REVERT_OF_FEW, FEW_PER_SECOND),
    ] {
        let releases = measurements.of(Contender::Ours, Quality::OneInTen, per_second);
        let values = releases.filter_map(once_measurable).collect();
        series.push(Series::new(name, Unit::Milliseconds, values));
    }
    let rounds = measurements.releases.iter();
    let failed = rounds.filter_map(|round| failed_of_good(round));
    series.push(Series::new(FAILED, Unit::Requests, failed.collect()));
    series.extend(parts(measurements, policy));
    let false_reverts = measurements.false_reverts.clone();
    series.push(Series::new(FALSE_REVERTS, Unit::Ratio, false_reverts));
    measured(series, notes(measurements, policy))
}

impl ReleaseMeasurements {
    fn of(
        &self,
        by: Contender,
        quality: Quality,
        per_second: u64,
    ) -> impl Iterator<Item = &Release> {
        let attempt = BenchRelease {
            by,
            quality,
            per_second,
        };
        let all = self.releases.iter().flatten();
        all.filter(move |release| release.attempt == attempt)
    }
}

/// Returns how many requests all our good releases in a round failed; none if there were too few
/// requests, or if a release does not count.
fn failed_of_good(round: &[Release]) -> Option<f64> {
    let ours = round.iter().filter(|release| {
        let BenchRelease { by, quality, .. } = release.attempt;
        (by, quality) == (Contender::Ours, Quality::Good)
    });
    let mut all = Figures::default();
    for release in ours {
        all.merge(&release.traffic.counted()?.figures);
    }
    (all.requests >= GOOD_REQUESTS).then_some(all.failed() as f64)
}

/// The parts of the whole time of our good releases.
fn parts(measurements: &ReleaseMeasurements, policy: &Policy) -> [Series; 3] {
    let waits = waits(policy).as_secs_f64() * 1000.0;
    let good = measurements.of(Contender::Ours, Quality::Good, PER_SECOND);
    let good = good.filter_map(|release| Some((release.millis, release.spans?)));
    let good: Vec<(f64, Spans)> = good.collect();
    let series = |name: &str, part: &dyn Fn(f64, Spans) -> f64| {
        let values = good.iter().map(|(whole, spans)| part(*whole, *spans));
        Series::new(name, Unit::Milliseconds, values.collect())
    };
    [
        series(NEW_PODS, &|_, spans| spans.come_up),
        series(OLD_PODS, &|_, spans| spans.end),
        series(OWN_TIME, &|whole, spans| {
            whole - spans.come_up - spans.end - waits
        }),
    ]
}

/// Returns how long a release waits by `harness.toml`.
fn waits(policy: &Policy) -> Duration {
    policy.baseline + policy.watch + policy.drain
}

fn notes(measurements: &ReleaseMeasurements, policy: &Policy) -> Vec<String> {
    let human = |wait: Duration| human(wait.as_millis() as u64);
    let mut notes = vec![format!(
        "ours waits {} by harness.toml: baseline {}, analysis {}, drain {}",
        human(waits(policy)),
        human(policy.baseline),
        human(policy.watch),
        human(policy.drain),
    )];
    notes.push(match &measurements.no_argo {
        Some(why) => format!("Argo Rollouts was not measured: {why}"),
        None => format!(
            "Argo Rollouts waits {} from the switch on, the first {} of it for its analysis",
            human(policy.watch + policy.drain),
            human(policy.watch),
        ),
    });
    for by in Contender::ALL {
        let mut all = Figures::default();
        let good = measurements.of(by, Quality::Good, PER_SECOND);
        let counted = good.filter_map(|release| release.traffic.counted());
        counted.for_each(|traffic| all.merge(&traffic.figures));
        if all.requests > 0 {
            notes.push(format!("good releases, {by}: {all}"));
        }
    }
    notes.extend(measurements.killed.iter().map(Killed::to_string));
    let all: Vec<&Release> = measurements.releases.iter().flatten().collect();
    let behind = all.iter().filter(|it| it.traffic.behind.is_some()).count();
    if behind > 0 {
        notes.push(format!(
            "in {behind} of {} releases the prober fell behind: their requests, switches and \
             reverts are not counted",
            all.len()
        ));
    }
    notes
}

/// The figure if it cannot be measured here because of `why`: every stated figure counts as not
/// measured.
pub fn not_measured(why: &str) -> Measured {
    let series = STATED.map(|stated| {
        let unit = match stated.series {
            FAILED => Unit::Requests,
            FALSE_REVERTS => Unit::Ratio,
            _ => Unit::Milliseconds,
        };
        Series::new(stated.series, unit, Vec::new())
    });
    let note = format!("blue-green releases were not measured: {why}");
    measured(series.into(), vec![note])
}

fn measured(series: Vec<Series>, notes: Vec<String>) -> Measured {
    let about = format!(
        "blue-green: {SERVICE} released by our deployer, by Argo Rollouts and by the guide's \
         script, under {PER_SECOND} requests/s through the ingress"
    );
    Measured::new(Figure::BlueGreen, about, &STATED, series, notes)
}

#[cfg(test)]
mod tests;
