//! A service released blue-green by our deployer, by Argo Rollouts and by the guide's script, under
//! the same traffic, side by side: a version that is good, one that fails once it has traffic, and
//! one whose deployer is killed.

mod argo;
mod error_share;
mod footprint;
mod ground;
mod guide;
mod killed;
mod ours;
mod planting;
mod site;
mod told;
mod traffic;

use std::fmt;
use std::time::Duration;

use harness::blue_green::Policy;
use harness::blue_green::analysis::simulation::Version;
use harness::duration::human;
use harness::prober::Figures;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::error::BenchError;
use super::kind::Bench as KindBench;
use super::results::Measured;
use super::scratch::Scratch;
use super::series::{Series, Unit};
use super::threshold::{Bound, Statistic, Threshold, Verdict};
use super::{Figure, Plan, Progress};
use argo::Argo;
use ground::Ground;
use killed::Killed;
use ours::Spans;
use told::Told;
use traffic::PER_SECOND;

/// The service that is released.
const SERVICE: &str = "market-data-service";

/// How many requests a good release is to fail none of: in a round as many releases of ours as that
/// takes.
const HAPPY: u64 = 30_000;
const HAPPY_RELEASES: usize = 3;

/// Half the users, or fewer, that releases have otherwise.
const FEW_PER_SECOND: u64 = 50;

/// How many good versions are made up for each rate.
const SIMULATED: usize = 2_000;

const FAILED: &str = "good releases, ours: failed, of 30000 or more";
const OWN_TIME: &str = "good release, ours: the deployer's own time";
const REVERT: &str = "bad release, ours: revert once measurable";
const REVERT_OF_TENTH: &str = "1 in 10 fails, 200/s: revert once measurable";
const REVERT_OF_FEW: &str = "1 in 10 fails, 50/s: revert once measurable";
const FALSE_REVERTS: &str = "good versions taken back by chance, a share";

/// What no round may exceed.
const fn never(series: &'static str, bound: Bound) -> Threshold {
    Threshold {
        series,
        statistic: Statistic::Max,
        bound,
    }
}

const STATED: [Threshold; 6] = [
    never(FAILED, Bound::AtMost(0.0)),
    never(OWN_TIME, Bound::Below(3_000.0)),
    never(REVERT, Bound::Below(5_000.0)),
    never(REVERT_OF_TENTH, Bound::Below(5_000.0)),
    never(REVERT_OF_FEW, Bound::Below(5_000.0)),
    never(FALSE_REVERTS, Bound::AtMost(0.01)),
];

/// Who releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Ours,
    Argo,
    Script,
}

impl By {
    const ALL: [By; 3] = [By::Ours, By::Argo, By::Script];
}

/// What is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quality {
    /// A version that holds.
    Good,
    /// One that answers with 500 from when it has traffic on.
    Bad,
    /// One that does so to one request in ten.
    OneInTen,
}

impl Quality {
    /// What fails of it.
    fn error_share(self) -> Option<f64> {
        match self {
            Quality::Good => None,
            Quality::Bad => Some(1.0),
            Quality::OneInTen => Some(0.1),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            By::Ours => "ours",
            By::Argo => "Argo",
            By::Script => "the script",
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

/// A release that is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    by: By,
    quality: Quality,
    /// How many requests users make meanwhile.
    per_second: u64,
}

/// One release, measured.
#[derive(Debug)]
struct Release {
    attempt: Attempt,
    /// From its start to its end, milliseconds.
    millis: f64,
    /// What it was made of; of ours alone.
    spans: Option<Spans>,
    /// The most that whoever released held, MiB.
    memory: Option<f64>,
    told: Told,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attempt {
            by,
            quality,
            per_second,
        } = &self.attempt;
        let Told {
            figures,
            switch,
            once_measurable,
            ..
        } = &self.told;
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
        match &self.told.behind {
            Some(why) => write!(f, "; not counted: {why}"),
            None => Ok(()),
        }
    }
}

/// All that was seen.
#[derive(Debug)]
struct Seen {
    /// Round by round.
    releases: Vec<Vec<Release>>,
    killed: Vec<Killed>,
    /// By rate, of good versions that were made up those that were taken back.
    false_reverts: Vec<f64>,
    /// Why Argo Rollouts was not measured, where it was not.
    no_argo: Option<String>,
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

    /// Stands one environment up, and has each release all versions as often as planned.
    pub async fn measure(
        &self,
        plan: &Plan,
        scratch: &Scratch,
        progress: Progress<'_>,
    ) -> Result<Measured, BenchError> {
        progress("blue-green: an environment comes up first: minutes, if images are missing");
        let mut ground = Ground::stand_up(&self.0, plan, scratch).await?;
        progress("blue-green: Argo Rollouts comes up: minutes, if its image is missing");
        let no_argo = match Argo::stand_up(&ground, plan).await {
            Ok(argo) => {
                ground.argo = Some(argo);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let policy = &self.0.config.blue_green;
        let mut seen = Seen {
            releases: Vec::new(),
            killed: Vec::new(),
            false_reverts: false_reverts(policy),
            no_argo,
        };
        for round in 1..=plan.rounds {
            let told = |what: &dyn fmt::Display| {
                progress(&format!(
                    "blue-green: round {round} of {}: {what}",
                    plan.rounds
                ));
            };
            let contenders = in_turn(round, ground.contenders());
            let mut releases = Vec::new();
            for attempt in attempts(&contenders) {
                let release = ground.release(attempt).await?;
                told(&release);
                releases.push(release);
            }
            seen.releases.push(releases);
            for by in contenders {
                let killed = ground.killed(by).await?;
                told(&killed);
                seen.killed.push(killed);
            }
        }
        scratch.take_down().await?;
        Ok(judge(&seen, policy))
    }
}

/// Who is first changes with every round.
fn in_turn(round: u32, contenders: impl Iterator<Item = By>) -> Vec<By> {
    let mut contenders: Vec<By> = contenders.collect();
    let first = round as usize % contenders.len().max(1);
    contenders.rotate_left(first);
    contenders
}

/// The releases of a round.
fn attempts(contenders: &[By]) -> Vec<Attempt> {
    let attempt = |by, quality, per_second| Attempt {
        by,
        quality,
        per_second,
    };
    let mut attempts = Vec::new();
    for by in contenders {
        let times = if *by == By::Ours { HAPPY_RELEASES } else { 1 };
        attempts.extend(vec![attempt(*by, Quality::Good, PER_SECOND); times]);
        attempts.push(attempt(*by, Quality::Bad, PER_SECOND));
    }
    for per_second in [PER_SECOND, FEW_PER_SECOND] {
        attempts.push(attempt(By::Ours, Quality::OneInTen, per_second));
    }
    attempts
}

/// How often chance takes back a version that is just as bad as is allowed, over all the time that
/// a release is watched: no release is made, the analysis alone is asked.
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

/// What is read from a release, where it has it.
type Value = fn(&Release) -> Option<f64>;

/// Shown of all, side by side.
const OF_ALL: [(Quality, &str, Unit, Value); 10] = [
    (Quality::Good, "requests", Unit::Requests, requests),
    (Quality::Good, "failed requests", Unit::Requests, failed),
    (Quality::Good, "switch time", Unit::Milliseconds, |it| {
        it.told.counted()?.switch
    }),
    (Quality::Good, "whole time", Unit::Milliseconds, whole),
    (Quality::Good, "memory", Unit::Mebibytes, |it| it.memory),
    (Quality::Bad, "requests", Unit::Requests, requests),
    (Quality::Bad, "failed requests", Unit::Requests, failed),
    (Quality::Bad, "time to revert", Unit::Milliseconds, |it| {
        it.told.counted()?.revert
    }),
    (
        Quality::Bad,
        "revert once measurable",
        Unit::Milliseconds,
        once_measurable,
    ),
    (Quality::Bad, "whole time", Unit::Milliseconds, whole),
];

fn requests(release: &Release) -> Option<f64> {
    Some(release.told.counted()?.figures.requests as f64)
}

fn failed(release: &Release) -> Option<f64> {
    Some(release.told.counted()?.figures.failed() as f64)
}

fn once_measurable(release: &Release) -> Option<f64> {
    release.told.counted()?.once_measurable
}

fn whole(release: &Release) -> Option<f64> {
    Some(release.millis)
}

/// The figure, and what it says of what is stated. `policy` is what our releases waited by.
fn judge(seen: &Seen, policy: &Policy) -> Measured {
    let mut series = Vec::new();
    for (quality, what, unit, value) in OF_ALL {
        for by in By::ALL {
            let values = seen.of(by, quality, PER_SECOND).filter_map(value);
            let name = format!("{quality}, {by}: {what}");
            series.push(Series::new(name, unit, values.collect()));
        }
    }
    for (name, per_second) in [
        (REVERT_OF_TENTH, PER_SECOND),
        (REVERT_OF_FEW, FEW_PER_SECOND),
    ] {
        let its = seen.of(By::Ours, Quality::OneInTen, per_second);
        let values = its.filter_map(once_measurable).collect();
        series.push(Series::new(name, Unit::Milliseconds, values));
    }
    let happy = seen.releases.iter().filter_map(|round| happy(round));
    series.push(Series::new(FAILED, Unit::Requests, happy.collect()));
    series.extend(parts(seen, policy));
    let false_reverts = seen.false_reverts.clone();
    series.push(Series::new(FALSE_REVERTS, Unit::Ratio, false_reverts));
    let verdicts = Threshold::judge_all(&STATED, &series);
    measured(series, notes(seen, policy), verdicts)
}

impl Seen {
    fn of(&self, by: By, quality: Quality, per_second: u64) -> impl Iterator<Item = &Release> {
        let attempt = Attempt {
            by,
            quality,
            per_second,
        };
        let all = self.releases.iter().flatten();
        all.filter(move |it| it.attempt == attempt)
    }
}

/// How many requests all good releases of ours in a round have failed; none where too few were made,
/// or some do not count.
fn happy(round: &[Release]) -> Option<f64> {
    let ours = round.iter().filter(|it| {
        let Attempt { by, quality, .. } = it.attempt;
        (by, quality) == (By::Ours, Quality::Good)
    });
    let mut all = Figures::default();
    for release in ours {
        all.merge(&release.told.counted()?.figures);
    }
    (all.requests >= HAPPY).then_some(all.failed() as f64)
}

/// What the whole time of our good releases is made of.
fn parts(seen: &Seen, policy: &Policy) -> [Series; 3] {
    let waits = waits(policy).as_secs_f64() * 1000.0;
    let good = || {
        let good = seen.of(By::Ours, Quality::Good, PER_SECOND);
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

fn notes(seen: &Seen, policy: &Policy) -> Vec<String> {
    let human = |wait: Duration| human(wait.as_millis() as u64);
    let mut notes = vec![format!(
        "ours waits {} by harness.toml: baseline {}, analysis {}, drain {}",
        human(waits(policy)),
        human(policy.baseline),
        human(policy.watch),
        human(policy.drain),
    )];
    notes.push(match &seen.no_argo {
        Some(why) => format!("Argo Rollouts was not measured: {why}"),
        None => format!(
            "Argo Rollouts waits {} from the switch on, the first {} of it for its analysis",
            human(policy.watch + policy.drain),
            human(policy.watch),
        ),
    });
    for by in By::ALL {
        let mut all = Figures::default();
        let good = seen.of(by, Quality::Good, PER_SECOND);
        let counted = good.filter_map(|it| it.told.counted());
        counted.for_each(|told| all.merge(&told.figures));
        if all.requests > 0 {
            notes.push(format!("good releases, {by}: {all}"));
        }
    }
    notes.extend(seen.killed.iter().map(Killed::to_string));
    let all = || seen.releases.iter().flatten();
    match all().filter(|it| it.told.behind.is_some()).count() {
        0 => {}
        some => notes.push(format!(
            "in {some} of {} releases the prober fell behind: their requests, switches and \
             reverts are not counted",
            all().count()
        )),
    }
    notes
}

/// The figure where this machine cannot have it, because of `why`: every stated one counts
/// as not measured.
pub fn not_measured(why: &str) -> Measured {
    let unit = |stated: &Threshold| match stated.series {
        FAILED => Unit::Requests,
        FALSE_REVERTS => Unit::Ratio,
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

fn measured(series: Vec<Series>, notes: Vec<String>, verdicts: Vec<Verdict>) -> Measured {
    Measured {
        figure: Figure::BlueGreen,
        about: format!(
            "blue-green: {SERVICE} released by our deployer, by Argo Rollouts and by the guide's \
             script, under {PER_SECOND} requests/s through the ingress"
        ),
        series,
        notes,
        verdicts,
    }
}

#[cfg(test)]
mod tests;
