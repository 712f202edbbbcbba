//! The load on a platform, and the validation of `[load]` and `[profiles]`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use base::text::nearest;
use toml::Spanned;

pub use super::schema::DataRows;
use super::shared_rules::{fault, validate_deadline};
use super::{Fault, schema};

/// More would exceed the sockets of one machine.
const MOST_USERS: u32 = 20_000;
const MOST_ARRIVALS: u32 = 200_000;
const LONGEST_STAGE_SECONDS: u32 = 24 * 3600;
const LONGEST_THINKING_MILLIS: u32 = 3_600_000;
/// The open engine lists as many arrivals as the sum of the weights, to mix them exactly.
const MOST_WEIGHT: u32 = 1000;

/// The behaviour of users, in every profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadConfig {
    /// The journeys by name, also those without a weight.
    pub journeys: BTreeMap<String, JourneyConfig>,
    /// The timeout of a request.
    pub request_timeout: Duration,
    /// The time for requests in flight when a run is cancelled.
    pub drain: Duration,
    /// The profile that `e2e` runs after its scenarios.
    pub e2e: Option<String>,
}

/// The requests that a simulated user repeats, and its pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JourneyConfig {
    /// The requests.
    pub source: JourneySource,
    /// The share of users or arrivals, of the sum of all weights.
    pub weight: u32,
    /// The wait between requests: uniformly distributed, in whole milliseconds.
    pub thinks: RangeInclusive<Duration>,
}

/// Where the requests of a journey are described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JourneySource {
    /// In code, because they must calculate.
    Code(Journey),
    /// In a file.
    File(JourneyFile),
}

/// A journey in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journey {
    /// Logs in and reads a portfolio.
    Portfolio,
    /// Places an order, and checks that it is in the portfolio.
    Order,
}

/// A journey in Hurl's format. <https://hurl.dev>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JourneyFile {
    /// The file, relative to the repository.
    pub path: PathBuf,
    /// Where harness.toml names it.
    pub place: Range<usize>,
    /// Rows for its users.
    pub data: Option<JourneyData>,
}

/// A CSV file whose columns are variables of the journey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JourneyData {
    /// The file, relative to the repository.
    pub path: PathBuf,
    /// Where harness.toml names it.
    pub place: Range<usize>,
    /// Who takes the next row.
    pub each: DataRows,
}

impl Journey {
    /// All journeys in code, by their names in `[load.journeys]`.
    const ALL: [(&str, Journey); 2] =
        [("order", Journey::Order), ("portfolio", Journey::Portfolio)];
}

/// A load over time, with its thresholds.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The load.
    pub traffic: Traffic,
    /// What its users or arrivals do, by name. Each weight is that in this profile, 1 or more.
    pub journeys: BTreeMap<String, JourneyConfig>,
    /// The thresholds of its result.
    pub thresholds: Vec<ProfileThreshold>,
}

/// Load over time. It begins at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// By users who wait for their answers. A stage leads to a number of users.
    Closed {
        /// The stages, in their order.
        stages: Vec<LoadStage>,
    },
    /// By arrivals, independent of the answers. A stage leads to a number of arrivals a second.
    Open {
        /// The stages, in their order.
        stages: Vec<LoadStage>,
        /// The maximum of requests in flight. Further arrivals are dropped.
        max_in_flight: u32,
    },
}

/// A linear change from the end of the previous stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadStage {
    /// Users, or arrivals a second, at its end.
    pub to: u32,
    /// Its duration; 0 is a jump.
    pub lasts: Duration,
}

/// A threshold as in the file, with k6's expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileThreshold {
    /// The metric, optionally of one endpoint: `http_req_duration{name:GET /quotes}`.
    pub metric: String,
    /// The condition: `p(95)<500`.
    pub expression: String,
    /// If set, a run that breaks it is aborted, after this time at the earliest.
    pub abort_after: Option<Duration>,
    /// Its place in the text, for [`Config::refuse`](super::Config::refuse).
    pub place: Range<usize>,
}

/// For people, and to detect a change: `closed: 5 users within 10 s, ...`.
impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (engine, of, bound) = match self {
            Traffic::Closed { .. } => ("closed", "users", String::new()),
            Traffic::Open { max_in_flight, .. } => {
                let bound = format!("; at most {max_in_flight} in flight");
                ("open", "arrivals/s", bound)
            }
        };
        let stages = self.stages().iter();
        let stages = stages.map(|stage| match stage.lasts.as_secs() {
            0 => format!("{} {of} at once", stage.to),
            seconds => format!("{} {of} within {seconds} s", stage.to),
        });
        let stages = stages.collect::<Vec<_>>().join(", ");
        write!(f, "{engine}: {stages}{bound}")
    }
}

impl Profile {
    /// Returns the journeys for people, and to detect a change: `browse 6, thinking 500 to 1500 ms`.
    pub fn mix(&self) -> String {
        let journeys = self.journeys.iter().map(|(name, journey)| {
            let (least, most) = (journey.thinks.start(), journey.thinks.end());
            let (least, most) = (least.as_millis(), most.as_millis());
            let thinking = match most {
                0 => String::new(),
                most => format!(", thinking {least} to {most} ms"),
            };
            format!("{name} {}{thinking}", journey.weight)
        });
        journeys.collect::<Vec<_>>().join("; ")
    }
}

impl Traffic {
    /// Returns the stages.
    pub fn stages(&self) -> &[LoadStage] {
        match self {
            Traffic::Closed { stages } | Traffic::Open { stages, .. } => stages,
        }
    }

    /// Returns the duration of all stages.
    pub fn lasts(&self) -> Duration {
        self.stages().iter().map(|stage| stage.lasts).sum()
    }
}

pub(super) fn validate(
    load: &schema::LoadTable,
    profiles: &BTreeMap<Spanned<String>, schema::ProfileTable>,
) -> Result<LoadConfig, Fault> {
    let journeys = load.journeys.get_ref().iter();
    let journeys = journeys.map(|(name, journey)| {
        let journey = validate_journey(name, journey)?;
        Ok((name.get_ref().clone(), journey))
    });
    let e2e = load.e2e.as_ref();
    Ok(LoadConfig {
        journeys: journeys.collect::<Result<_, Fault>>()?,
        request_timeout: validate_deadline(&load.request_timeout)?,
        drain: validate_deadline(&load.drain)?,
        e2e: e2e.map(|name| validate_e2e(name, profiles)).transpose()?,
    })
}

fn validate_e2e(
    name: &Spanned<String>,
    profiles: &BTreeMap<Spanned<String>, schema::ProfileTable>,
) -> Result<String, Fault> {
    match profiles.contains_key(name.get_ref().as_str()) {
        true => Ok(name.get_ref().clone()),
        false => Err(Fault {
            span: name.span(),
            message: format!("no profile is called {:?}", name.get_ref()),
            help: nearest(
                name.get_ref(),
                profiles.keys().map(|it| it.get_ref().as_str()),
            ),
        }),
    }
}

fn validate_journey(
    name: &Spanned<String>,
    journey: &schema::JourneyTable,
) -> Result<JourneyConfig, Fault> {
    let [least, most] = *journey.think_ms.get_ref();
    if least > most || most > LONGEST_THINKING_MILLIS {
        return Err(fault(
            &journey.think_ms,
            format!("thinking for {least} to {most} ms is not possible"),
            format!("the least and the most, up to {LONGEST_THINKING_MILLIS}, e.g. [500, 1500]"),
        ));
    }
    let millis = |millis: u32| Duration::from_millis(millis.into());
    Ok(JourneyConfig {
        source: validate_source(name, journey)?,
        weight: validate_amount(&journey.weight, 0, MOST_WEIGHT, "shares of the load")?,
        thinks: millis(least)..=millis(most),
    })
}

fn validate_source(
    name: &Spanned<String>,
    journey: &schema::JourneyTable,
) -> Result<JourneySource, Fault> {
    let in_code = Journey::ALL.into_iter();
    let in_code = in_code.clone().find(|(code, _)| code == name.get_ref());
    match (&journey.file, &journey.data, in_code) {
        (Some(file), data, _) => Ok(JourneySource::File(JourneyFile {
            path: file.get_ref().clone(),
            place: file.span(),
            data: data.as_ref().map(|data| JourneyData {
                path: data.file.get_ref().clone(),
                place: data.file.span(),
                each: data.each,
            }),
        })),
        (None, Some(data), _) => Err(fault(
            &data.file,
            "only a journey in a file has data".into(),
            "name the journey's requests: file = \"...hurl\"",
        )),
        (None, None, Some((_, journey))) => Ok(JourneySource::Code(journey)),
        (None, None, None) => Err(fault(
            name,
            format!("the journey {:?} has no requests", name.get_ref()),
            "name a file with them: file = \"fixtures/platform/journeys/browse.hurl\"; order and portfolio are code",
        )),
    }
}

pub(super) fn validate_profiles(
    profiles: BTreeMap<Spanned<String>, schema::ProfileTable>,
    load: &LoadConfig,
) -> Result<BTreeMap<String, Profile>, Fault> {
    let validated = profiles.into_iter().map(|(name, profile)| {
        let traffic = validate_traffic(&profile)?;
        let journeys = match &profile.journeys {
            Some(named) => named_journeys(named, load)?,
            None => weighted_journeys(&name, load)?,
        };
        if let Traffic::Open { .. } = traffic {
            let named = profile
                .journeys
                .iter()
                .flat_map(|named| named.get_ref().keys());
            let place = |journey: &str| named.clone().find(|name| name.get_ref() == journey);
            for (journey, config) in &journeys {
                runs_without_users(place(journey).unwrap_or(&name), journey, config)?;
            }
        }
        let thresholds = profile.thresholds.into_iter();
        let thresholds = thresholds.flat_map(|(metric, all)| {
            let metric = metric.into_inner();
            all.into_iter().map(move |one| threshold(&metric, one))
        });
        let thresholds = thresholds.collect();
        let profile = Profile {
            traffic,
            journeys,
            thresholds,
        };
        Ok((validate_name(&name)?, profile))
    });
    validated.collect()
}

/// Returns the journeys that a profile names, with its weights.
fn named_journeys(
    named: &Spanned<BTreeMap<Spanned<String>, Spanned<u32>>>,
    load: &LoadConfig,
) -> Result<BTreeMap<String, JourneyConfig>, Fault> {
    if named.get_ref().is_empty() {
        return Err(fault(
            named,
            "a profile without a journey is no load".into(),
            "name one with its weight, e.g. { browse = 1 }, or leave journeys out for all of [load.journeys]",
        ));
    }
    let journeys = named.get_ref().iter().map(|(name, weight)| {
        let known = load.journeys.keys().map(String::as_str);
        let journey = load.journeys.get(name.get_ref()).ok_or_else(|| {
            let message = format!("there is no journey {:?}", name.get_ref());
            let define = || "define it under [load.journeys]: docs/load.md".to_owned();
            fault(
                name,
                message,
                nearest(name.get_ref(), known).unwrap_or_else(define),
            )
        })?;
        let weight = validate_amount(weight, 1, MOST_WEIGHT, "shares of the load")?;
        let journey = JourneyConfig {
            weight,
            ..journey.clone()
        };
        Ok((name.get_ref().clone(), journey))
    });
    journeys.collect()
}

/// Returns the journeys of a profile that names none: all that have a weight.
fn weighted_journeys(
    profile: &Spanned<String>,
    load: &LoadConfig,
) -> Result<BTreeMap<String, JourneyConfig>, Fault> {
    let mut journeys = load.journeys.clone();
    journeys.retain(|_, journey| journey.weight > 0);
    let name = profile.get_ref();
    match (journeys.is_empty(), load.journeys.is_empty()) {
        (false, _) => Ok(journeys),
        (true, true) => Err(fault(
            profile,
            format!("{name} is a load without a journey"),
            "define one under [load.journeys]: docs/load.md",
        )),
        (true, false) => Err(fault(
            profile,
            format!("{name} is a load without a journey: all have the weight 0"),
            "a weight of 1 or more for one of them, or name them in the profile: journeys = { browse = 1 }",
        )),
    }
}

/// The open engine runs files, and each arrival is another user.
fn runs_without_users(
    place: &Spanned<String>,
    name: &str,
    journey: &JourneyConfig,
) -> Result<(), Fault> {
    let refuse = |why: &str, help: &str| {
        let message = format!("an open profile cannot have the journey {name:?}: {why}");
        Err(fault(place, message, help))
    };
    match &journey.source {
        JourneySource::Code(_) => refuse(
            "it is code, and arrivals run only files",
            "name journeys of files, e.g. journeys = { browse = 1 }",
        ),
        JourneySource::File(JourneyFile {
            data:
                Some(JourneyData {
                    each: DataRows::User,
                    ..
                }),
            ..
        }) => refuse(
            "each of its users has a row, and an arrival is no such user",
            "let each repetition take a row: data = { file = \"...csv\", each = \"iteration\" }",
        ),
        JourneySource::File(_) => Ok(()),
    }
}

/// The name is part of a file's name.
fn validate_name(name: &Spanned<String>) -> Result<String, Fault> {
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

fn validate_traffic(profile: &schema::ProfileTable) -> Result<Traffic, Fault> {
    let stages = validate_stages(profile)?;
    match (profile.engine.get_ref(), &profile.max_in_flight) {
        (schema::EngineName::Closed, None) => Ok(Traffic::Closed { stages }),
        (schema::EngineName::Closed, Some(bound)) => Err(fault(
            bound,
            "max_in_flight does not apply to users: each has one request in flight".into(),
            "leave it out",
        )),
        (schema::EngineName::Open, Some(bound)) => Ok(Traffic::Open {
            stages,
            max_in_flight: validate_amount(bound, 1, MOST_USERS, "requests in flight")?,
        }),
        (schema::EngineName::Open, None) => Err(fault(
            &profile.engine,
            "an open profile needs max_in_flight".into(),
            "the most requests in flight at once, e.g. max_in_flight = 1000",
        )),
    }
}

fn validate_stages(profile: &schema::ProfileTable) -> Result<Vec<LoadStage>, Fault> {
    let stages = profile.stages.get_ref().iter();
    let stages = stages.map(|stage| validate_stage(*profile.engine.get_ref(), stage));
    let stages: Vec<LoadStage> = stages.collect::<Result<_, _>>()?;
    let no_load = stages.iter().all(|stage| stage.to == 0);
    let no_time = stages.iter().all(|stage| stage.lasts.is_zero());
    match no_load || no_time {
        false => Ok(stages),
        true => Err(fault(
            &profile.stages,
            "the stages are no load".into(),
            "at least one leads to more than 0, and one takes a second or more",
        )),
    }
}

fn validate_stage(
    engine: schema::EngineName,
    stage: &Spanned<schema::StageTable>,
) -> Result<LoadStage, Fault> {
    let schema::StageTable {
        users,
        rate,
        seconds,
    } = stage.get_ref();
    let to = match (engine, users, rate) {
        (schema::EngineName::Closed, Some(users), None) => {
            validate_amount(users, 0, MOST_USERS, "users")?
        }
        (schema::EngineName::Open, None, Some(rate)) => {
            validate_amount(rate, 0, MOST_ARRIVALS, "arrivals a second")?
        }
        (schema::EngineName::Closed, ..) => {
            return Err(fault(
                stage,
                "a stage of a closed profile leads to a number of users".into(),
                "e.g. { users = 20, seconds = 60 }",
            ));
        }
        (schema::EngineName::Open, ..) => {
            return Err(fault(
                stage,
                "a stage of an open profile leads to a rate, in arrivals a second".into(),
                "e.g. { rate = 100, seconds = 60 }",
            ));
        }
    };
    let seconds = validate_amount(seconds, 0, LONGEST_STAGE_SECONDS, "seconds")?;
    let lasts = Duration::from_secs(seconds.into());
    Ok(LoadStage { to, lasts })
}

fn validate_amount(value: &Spanned<u32>, least: u32, most: u32, of: &str) -> Result<u32, Fault> {
    match *value.get_ref() {
        some if (least..=most).contains(&some) => Ok(some),
        other => Err(fault(
            value,
            format!("{other} {of} are not possible"),
            format!("{least} to {most}"),
        )),
    }
}

/// The expression is validated where it is evaluated, with [`ProfileThreshold::place`].
fn threshold(metric: &str, written: Spanned<schema::AsWritten>) -> ProfileThreshold {
    let place = written.span();
    let schema::ThresholdTable {
        threshold,
        abort_on_fail,
        delay_abort_eval,
    } = written.into_inner().0;
    ProfileThreshold {
        metric: metric.to_owned(),
        expression: threshold,
        abort_after: abort_on_fail.then(|| Duration::from_secs(delay_abort_eval.into())),
        place,
    }
}
