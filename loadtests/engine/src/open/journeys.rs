//! The journeys of a plan, prepared: a request that is the same for every arrival is made once, or
//! once for each row. All others are made when they are sent.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use hurl_checks::{Response, Variables};
use hyper::Request;
use tokens::Tokens;
use tokio::time::Instant;

use super::origin::{Body, Origin};
use super::plan::{LoadPlan, PlanError};
use super::turns::{Turn, Turns};
use crate::journey::{
    JourneyStep, Rows, UserVariables, WrittenJourney, given_variables, user_name,
};
use crate::names::Names;

/// Requests are made for each of this many rows at most: more would fill the memory.
const ROWS_PREPARED: usize = 1000;

/// The journeys of a plan.
pub struct PreparedJourneys {
    journeys: Vec<PreparedJourney>,
    turns: Turns,
    names: Names,
    origin: Origin,
    users: UserVariables,
    tokens: Tokens,
}

struct PreparedJourney {
    /// At least one.
    steps: Vec<PreparedStep>,
    rows: Option<Rows>,
    thinks: RangeInclusive<Duration>,
}

struct PreparedStep {
    step: JourneyStep,
    /// The number of its name.
    name: u16,
    /// The request of each row, if it is the same for every arrival; one without rows.
    requests: Vec<Request<Body>>,
}

/// An arrival of the schedule.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its number among all arrivals, from 0.
    pub number: u64,
    /// Its journey.
    pub turn: Turn,
    /// Its first request.
    pub first: DueRequest,
}

/// A request that is due at a certain time.
#[derive(Clone, Copy, Debug)]
pub struct DueRequest {
    /// The number of its name.
    pub name: u16,
    /// When it is due, after the start.
    pub after: Duration,
    /// The same, as a moment.
    pub due: Instant,
    /// Whether it follows another one of its arrival. It is due when it is sent.
    pub follows: bool,
}

impl PreparedJourneys {
    /// # Errors
    /// The first journey that is invalid.
    pub fn of(plan: &LoadPlan) -> Result<PreparedJourneys, PlanError> {
        let origin = Origin::of(plan)?;
        let weights: Vec<u32> = plan.journeys.iter().map(|journey| journey.weight).collect();
        let turns = Turns::by(&weights).ok_or_else(|| PlanError::new("journeys", "have no weight"));
        let mut names = Names::default();
        let journeys = plan.journeys.iter().map(|journey| {
            let prepared = prepared(journey, &plan.users, &origin, &mut names);
            prepared.map_err(|why| PlanError::new(format!("the journey {:?}", journey.name), why))
        });
        Ok(PreparedJourneys {
            journeys: journeys.collect::<Result<_, _>>()?,
            turns: turns?,
            names,
            origin,
            users: plan.users.clone(),
            tokens: Tokens::new(&plan.users.jwt_secret),
        })
    }

    /// Returns all names, by number.
    pub fn names(&self) -> &[String] {
        self.names.listed()
    }

    /// Returns arrival `number`, which is due at `due`, and `after` the start. Its journey is the
    /// same in every run of the plan: two runs differ only by their target.
    pub fn arrival(&self, number: u64, after: Duration, due: Instant) -> Arrival {
        let turn = self.turns.of(number);
        Arrival {
            number,
            turn,
            first: DueRequest {
                name: self.journeys[turn.journey].steps[0].name,
                after,
                due,
                follows: false,
            },
        }
    }

    /// Returns the name of its user: each arrival is another one.
    fn unique(&self, arrival: Arrival) -> String {
        user_name(&self.users.run, arrival.number + 1)
    }

    /// Begins the journey of an arrival.
    pub fn begin(&self, arrival: Arrival) -> RunningJourney<'_> {
        let journey = &self.journeys[arrival.turn.journey];
        let rows = journey.rows.as_ref().map_or(1, |rows| rows.values.len());
        RunningJourney {
            all: self,
            journey,
            arrival,
            row: (arrival.turn.repetition % rows as u64) as usize,
            variables: None,
        }
    }
}

fn prepared(
    journey: &WrittenJourney,
    users: &UserVariables,
    origin: &Origin,
    names: &mut Names,
) -> Result<PreparedJourney, String> {
    let rows = journey.rows.clone();
    if rows.as_ref().is_some_and(|rows| rows.values.is_empty()) {
        return Err("has data without rows".to_owned());
    }
    let steps = journey.steps(&users.tokens);
    let steps = steps.map_err(|error| format!("cannot be read: {error}"))?;
    let captured: BTreeSet<String> = steps
        .iter()
        .flat_map(|step| step.entry.captures().map(str::to_owned))
        .collect();
    let is_fixed = |name: &str| {
        !captured.contains(name) && name != "unique" && !users.tokens.contains_key(name)
    };
    let steps = steps.into_iter().map(|step| {
        let requests = match step.entry.reads().all(is_fixed) {
            true => requests(&step, rows.as_ref(), users, origin)?,
            false => Vec::new(),
        };
        Ok(PreparedStep {
            name: names.number(&step.endpoint),
            step,
            requests,
        })
    });
    Ok(PreparedJourney {
        steps: steps.collect::<Result<_, String>>()?,
        rows,
        thinks: journey.thinks.clone(),
    })
}

/// Makes the request of each row; none if there are too many.
fn requests(
    step: &JourneyStep,
    rows: Option<&Rows>,
    users: &UserVariables,
    origin: &Origin,
) -> Result<Vec<Request<Body>>, String> {
    let count = rows.map_or(1, |rows| rows.values.len());
    if count > ROWS_PREPARED {
        return Ok(Vec::new());
    }
    let of_row = |row| {
        let mut variables = given_variables(&origin.base, "", &users.demo_password);
        take_row(&mut variables, rows, row);
        request(step, &variables, origin)
    };
    (0..count).map(of_row).collect()
}

fn request(
    step: &JourneyStep,
    variables: &Variables,
    origin: &Origin,
) -> Result<Request<Body>, String> {
    let request = step.entry.request(variables);
    let request = request.map_err(|error| error.to_string())?;
    let addressed = origin.addressed(request);
    addressed.map_err(|why| format!("line {}: {why}", step.entry.line()))
}

fn take_row(variables: &mut Variables, rows: Option<&Rows>, number: usize) {
    for (name, value) in rows.into_iter().flat_map(|rows| rows.row(number)) {
        variables.insert(name, value.as_str());
    }
}

/// The journey of one arrival, with what its requests read and capture.
pub struct RunningJourney<'a> {
    all: &'a PreparedJourneys,
    journey: &'a PreparedJourney,
    arrival: Arrival,
    row: usize,
    /// Made when a request needs them.
    variables: Option<Variables>,
}

impl<'a> RunningJourney<'a> {
    /// Returns the number of its requests.
    pub fn steps(&self) -> usize {
        self.journey.steps.len()
    }

    /// Returns the number of a request's name.
    pub fn name(&self, step: usize) -> u16 {
        self.journey.steps[step].name
    }

    /// Whether all that a request reads was captured. Else the request that captures it has failed.
    pub fn can_send(&mut self, step: usize) -> bool {
        let PreparedStep { step, requests, .. } = &self.journey.steps[step];
        requests.len() > self.row || {
            let tokens = &self.all.users.tokens;
            let variables = self.variables();
            let mut without = step.entry.without_value(variables);
            without.all(|name| tokens.contains_key(name))
        }
    }

    /// Returns a request. `Host` and the like are set.
    ///
    /// # Errors
    /// Why it cannot be made from the variables.
    pub fn request(&mut self, step: usize) -> Result<Cow<'a, Request<Body>>, String> {
        let PreparedStep { step, requests, .. } = &self.journey.steps[step];
        if let Some(request) = requests.get(self.row) {
            return Ok(Cow::Borrowed(request));
        }
        let all = self.all;
        let unique = all.unique(self.arrival);
        let variables = self.variables();
        step.sign(variables, &unique, &all.users.tokens, &all.tokens);
        request(step, variables, &all.origin).map(Cow::Owned)
    }

    /// Whether the body and the headers of an answer are needed.
    pub fn needs_status_only(&self, step: usize) -> bool {
        self.journey.steps[step].step.entry.needs_status_only()
    }

    /// Returns the whole URL of a request.
    pub fn url(&self, request: &Request<Body>) -> String {
        self.all.origin.url(request)
    }

    /// Evaluates an answer, and captures from it.
    ///
    /// # Errors
    /// The name of the failure.
    pub fn evaluate(&mut self, step: usize, response: &Response) -> Result<(), String> {
        let PreparedStep { step, .. } = &self.journey.steps[step];
        match step.entry.needs_status_only() {
            true => step.evaluate(response, &mut Variables::new()),
            false => step.evaluate(response, self.variables()),
        }
    }

    /// Returns how long the user thinks before a request: the same in every run of the plan.
    pub fn thinks(&self, step: usize) -> Duration {
        let (least, most) = (self.journey.thinks.start(), self.journey.thinks.end());
        let range = most.saturating_sub(*least).as_millis() as u64 + 1;
        let random = mixed(self.arrival.number ^ (step as u64).rotate_right(16));
        *least + Duration::from_millis(below(range, random))
    }

    fn variables(&mut self) -> &mut Variables {
        let (all, arrival) = (self.all, self.arrival);
        let (rows, row) = (self.journey.rows.as_ref(), self.row);
        self.variables.get_or_insert_with(|| {
            let (unique, password) = (all.unique(arrival), &all.users.demo_password);
            let mut variables = given_variables(&all.origin.base, &unique, password);
            take_row(&mut variables, rows, row);
            variables
        })
    }
}

/// SplitMix64's mixing step (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014): close numbers become unrelated.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Maps a uniform random number to one below `bound`.
fn below(bound: u64, random: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests;
