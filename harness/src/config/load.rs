//! What load is put on a platform, and whether what `[load]` and `[profiles]` say of it is
//! possible.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;

use super::judge::{fault, judge_deadline};
use super::{Fault, schema};

/// More at once are no load but a flood, and more than the sockets of one machine.
const MOST_USERS: u32 = 20_000;
const MOST_ARRIVALS: u32 = 200_000;
const LONGEST_STAGE_SECONDS: u32 = 24 * 3600;
const LONGEST_THINKING_MILLIS: u32 = 3_600_000;

/// What users do, whatever the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Which journeys there are, of those that have a weight.
    pub journeys: BTreeMap<Journey, Habit>,
    /// How long an answer may take until it counts as none.
    pub request_timeout: Duration,
    /// How long what is in flight is waited for when a run is called off.
    pub drain: Duration,
}

/// What one simulated user does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Journey {
    /// Looks at all quotes, at one of them, and at its past.
    Browse,
    /// Logs in and reads a portfolio.
    Portfolio,
    /// Places an order, and looks whether it is in the portfolio.
    Order,
    /// Asks for an analysis and a prediction.
    Analysis,
}

impl Journey {
    /// As `[load.journeys]` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Journey::Browse => "browse",
            Journey::Portfolio => "portfolio",
            Journey::Order => "order",
            Journey::Analysis => "analysis",
        }
    }
}

/// How often a journey is made, and how slowly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Habit {
    /// Of the sum of all journeys' weights, so many users are on this one; 1 or more.
    pub weight: u32,
    /// A user waits so long after each request, drawn evenly, in whole milliseconds.
    pub thinks: RangeInclusive<Duration>,
}

/// How much load over time, and what must hold of it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The load.
    pub traffic: Traffic,
    /// What must hold of its result.
    pub thresholds: Vec<Threshold>,
}

/// Load over time. It begins at none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// By users who wait for their answers; a stage leads to so many users.
    Closed {
        /// One after the other.
        stages: Vec<Stage>,
    },
    /// By arrivals, whatever the answers do; a stage leads to so many a second.
    Open {
        /// One after the other.
        stages: Vec<Stage>,
        /// The most requests that are in flight at once: an arrival beyond them is dropped.
        max_in_flight: u32,
    },
}

/// A straight line from where the stage before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Users, or arrivals a second, at its end.
    pub to: u32,
    /// How long it takes; none is a jump.
    pub lasts: Duration,
}

/// A threshold as its user wrote it, k6's expression and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// The metric that it is about, perhaps of one endpoint: `http_req_duration{name:GET /quotes}`.
    pub metric: String,
    /// What must hold of it: `p(95)<500`.
    pub expression: String,
    /// Whether a run that breaks it is ended there and then, and after how long at the
    /// earliest.
    pub abort_after: Option<Duration>,
    /// Where it is in the text, for [`Config::refuse`](super::Config::refuse).
    pub place: Range<usize>,
}

/// What a profile's traffic is, as people read it: `closed: 5 users within 10 s, ...`. A
/// profile that was changed reads otherwise.
impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (engine, of, stages) = match self {
            Traffic::Closed { stages } => ("closed", "users", stages),
            Traffic::Open { stages, .. } => ("open", "arrivals/s", stages),
        };
        let stages = stages.iter().map(|stage| match stage.lasts.as_secs() {
            0 => format!("{} {of} at once", stage.to),
            seconds => format!("{} {of} within {seconds} s", stage.to),
        });
        let stages = stages.collect::<Vec<_>>().join(", ");
        write!(f, "{engine}: {stages}")?;
        match self {
            Traffic::Closed { .. } => Ok(()),
            Traffic::Open { max_in_flight, .. } => {
                write!(f, "; at most {max_in_flight} in flight")
            }
        }
    }
}

impl Traffic {
    /// The stages.
    pub fn stages(&self) -> &[Stage] {
        match self {
            Traffic::Closed { stages } | Traffic::Open { stages, .. } => stages,
        }
    }

    /// How long it lasts.
    pub fn lasts(&self) -> Duration {
        self.stages().iter().map(|stage| stage.lasts).sum()
    }
}

/// In the same form as [`Traffic`]'s.
impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let journeys = self.journeys.iter().map(|(journey, habit)| {
            let (least, most) = (habit.thinks.start(), habit.thinks.end());
            let (least, most) = (least.as_millis(), most.as_millis());
            let weight = habit.weight;
            format!("{} {weight}, thinking {least} to {most} ms", journey.name())
        });
        f.write_str(&journeys.collect::<Vec<_>>().join("; "))
    }
}

pub(super) fn judge(load: &schema::Load) -> Result<Load, Fault> {
    let journeys = &load.journeys;
    let all = [
        (Journey::Browse, &journeys.get_ref().browse),
        (Journey::Portfolio, &journeys.get_ref().portfolio),
        (Journey::Order, &journeys.get_ref().order),
        (Journey::Analysis, &journeys.get_ref().analysis),
    ];
    let made = all.iter().filter(|(_, habit)| habit.weight > 0);
    let made = made.map(|(journey, habit)| Ok((*journey, judge_habit(habit)?)));
    let made: BTreeMap<_, _> = made.collect::<Result<_, Fault>>()?;
    if made.is_empty() {
        return Err(fault(
            journeys,
            "every journey has the weight 0: nobody would do anything".into(),
            "1 or more for one of them",
        ));
    }
    Ok(Load {
        journeys: made,
        request_timeout: judge_deadline(&load.request_timeout)?,
        drain: judge_deadline(&load.drain)?,
    })
}

fn judge_habit(habit: &schema::Habit) -> Result<Habit, Fault> {
    let [least, most] = *habit.think_ms.get_ref();
    if least > most || most > LONGEST_THINKING_MILLIS {
        return Err(fault(
            &habit.think_ms,
            format!("nobody thinks for {least} to {most} ms"),
            format!("the least and the most, up to {LONGEST_THINKING_MILLIS}, e.g. [500, 1500]"),
        ));
    }
    let millis = |millis: u32| Duration::from_millis(millis.into());
    Ok(Habit {
        weight: habit.weight,
        thinks: millis(least)..=millis(most),
    })
}

pub(super) fn judge_profiles(
    profiles: BTreeMap<Spanned<String>, schema::Profile>,
) -> Result<BTreeMap<String, Profile>, Fault> {
    let judged = profiles.into_iter().map(|(name, profile)| {
        let traffic = judge_traffic(&profile)?;
        let thresholds = profile.thresholds.into_iter();
        let thresholds = thresholds.flat_map(|(metric, all)| {
            let metric = metric.into_inner();
            all.into_iter().map(move |one| threshold(&metric, one))
        });
        let thresholds = thresholds.collect();
        Ok((
            judge_name(&name)?,
            Profile {
                traffic,
                thresholds,
            },
        ))
    });
    judged.collect()
}

/// It is part of a file's name.
fn judge_name(name: &Spanned<String>) -> Result<String, Fault> {
    let text = name.get_ref();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match !text.is_empty() && text.len() <= 63 && text.chars().all(allowed) {
        true => Ok(text.clone()),
        false => Err(fault(
            name,
            format!("{text:?} cannot name a profile"),
            "1 to 63 lower-case letters, digits and '-', e.g. \"average\"",
        )),
    }
}

fn judge_traffic(profile: &schema::Profile) -> Result<Traffic, Fault> {
    let stages = judge_stages(profile)?;
    match (profile.engine.get_ref(), &profile.max_in_flight) {
        (schema::Engine::Closed, None) => Ok(Traffic::Closed { stages }),
        (schema::Engine::Closed, Some(bound)) => Err(fault(
            bound,
            "max_in_flight means nothing to users: each has one request in flight".into(),
            "leave it out",
        )),
        (schema::Engine::Open, Some(bound)) => Ok(Traffic::Open {
            stages,
            max_in_flight: judge_amount(bound, 1, MOST_USERS, "requests in flight")?,
        }),
        (schema::Engine::Open, None) => Err(fault(
            &profile.engine,
            "an open profile needs max_in_flight".into(),
            "the most requests in flight at once, e.g. max_in_flight = 1000",
        )),
    }
}

fn judge_stages(profile: &schema::Profile) -> Result<Vec<Stage>, Fault> {
    let stages = profile.stages.get_ref().iter();
    let stages = stages.map(|stage| judge_stage(*profile.engine.get_ref(), stage));
    let stages: Vec<Stage> = stages.collect::<Result<_, _>>()?;
    let (nobody, no_time) = (
        stages.iter().all(|stage| stage.to == 0),
        stages.iter().all(|stage| stage.lasts.is_zero()),
    );
    match nobody || no_time {
        false => Ok(stages),
        true => Err(fault(
            &profile.stages,
            "the stages are no load".into(),
            "at least one leads to more than 0, and one takes a second or more",
        )),
    }
}

fn judge_stage(engine: schema::Engine, stage: &Spanned<schema::Stage>) -> Result<Stage, Fault> {
    let schema::Stage {
        users,
        rate,
        seconds,
    } = stage.get_ref();
    let to = match (engine, users, rate) {
        (schema::Engine::Closed, Some(users), None) => judge_amount(users, 0, MOST_USERS, "users")?,
        (schema::Engine::Open, None, Some(rate)) => {
            judge_amount(rate, 0, MOST_ARRIVALS, "arrivals a second")?
        }
        (schema::Engine::Closed, ..) => {
            return Err(fault(
                stage,
                "a stage of a closed profile leads to a number of users".into(),
                "e.g. { users = 20, seconds = 60 }",
            ));
        }
        (schema::Engine::Open, ..) => {
            return Err(fault(
                stage,
                "a stage of an open profile leads to a rate, in arrivals a second".into(),
                "e.g. { rate = 100, seconds = 60 }",
            ));
        }
    };
    let seconds = judge_amount(seconds, 0, LONGEST_STAGE_SECONDS, "seconds")?;
    let lasts = Duration::from_secs(seconds.into());
    Ok(Stage { to, lasts })
}

fn judge_amount(value: &Spanned<u32>, least: u32, most: u32, of: &str) -> Result<u32, Fault> {
    match *value.get_ref() {
        some if (least..=most).contains(&some) => Ok(some),
        other => Err(fault(
            value,
            format!("{other} {of} are not possible"),
            format!("{least} to {most}"),
        )),
    }
}

/// The expression itself is judged by those who know how: [`Threshold::place`] is for them.
fn threshold(metric: &str, written: Spanned<schema::Threshold>) -> Threshold {
    let place = written.span();
    let schema::Threshold {
        threshold,
        abort_on_fail,
        delay_abort_eval,
    } = written.into_inner();
    Threshold {
        metric: metric.to_owned(),
        expression: threshold,
        abort_after: abort_on_fail.then(|| Duration::from_secs(delay_abort_eval.into())),
        place,
    }
}
