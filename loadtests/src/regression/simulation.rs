//! Measures how often comparisons are right, on simulated runs.
//!
//! Latencies are lognormal. The machine's noise has several levels: a pair of runs, each run, and
//! each block, which passes on a part of its noise to the next one (an autoregressive process of
//! order 1).

use std::fmt;

use jiff::Timestamp;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::{ComparedMetric, ComparisonVerdict, Settings, compare_pairs};
use crate::result::{
    Block, Distribution, Ended, Endpoint, EngineKind, Fingerprint, Generator, LoadResult, SCHEMA,
};

/// The parameters of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Simulation {
    /// The number of comparisons.
    pub comparisons: u32,
    /// The number of pairs of runs in each.
    pub pairs: u32,
    /// The number of endpoints of each run, with medians of 5 ms, 10 ms, 15 ms, ...
    pub endpoints: u32,
    /// The number of blocks of 1 s of each run, including the warm-up.
    pub blocks: u32,
    /// The number of requests of each block, at each endpoint.
    pub requests: u32,
    /// The factor on the first endpoint's latencies in B: 1.1 is 10 % slower.
    pub slower: f64,
    /// The machine's noise.
    pub noise: Noise,
    /// The seed of the random numbers.
    pub seed: u64,
}

/// A machine's effect on latencies, as standard deviations of their logarithm: 0.02 is about 2 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Noise {
    /// On both runs of a pair.
    pub pair: f64,
    /// On each run.
    pub run: f64,
    /// On each block of each endpoint.
    pub block: f64,
    /// The part of a block's noise that the next one has too, 0 to 1.
    pub handed_on: f64,
}

impl Default for Simulation {
    /// 200 comparisons of a version with itself.
    fn default() -> Self {
        Simulation {
            comparisons: 200,
            pairs: 7,
            endpoints: 3,
            blocks: 62,
            requests: 200,
            slower: 1.0,
            noise: Noise {
                pair: 0.03,
                run: 0.015,
                block: 0.05,
                handed_on: 0.6,
            },
            seed: 1,
        }
    }
}

/// How often the comparison was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rates {
    /// The number of comparisons.
    pub comparisons: u32,
    /// The number that reported an unchanged metric of any endpoint as regressed.
    pub false_alarms: u32,
    /// The number that reported an unchanged metric as improved.
    pub false_praise: u32,
    /// The number that reported the first endpoint's p95 as regressed.
    pub found: u32,
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |of: u32| 100.0 * f64::from(of) / f64::from(self.comparisons);
        write!(
            f,
            "of {} comparisons {:.1} % called regressed, and {:.1} % improved, what had not \
             changed; {:.1} % called the first endpoint's p95 regressed",
            self.comparisons,
            percent(self.false_alarms),
            percent(self.false_praise),
            percent(self.found)
        )
    }
}

/// Simulates runs, compares them, and counts how often the verdicts are right.
///
/// Results over 200 comparisons each, with the defaults of [`Simulation`] and of [`Settings`]: no
/// false alarm, and a first endpoint that is 10 % slower is found in 99.5 %. With 5 pairs it is
/// found in 92.0 %, also without a false alarm. With 5 pairs, and runs that differ by 5 % and
/// blocks by 10 %, 1.0 % of the comparisons are false alarms.
pub fn simulate(simulation: &Simulation, settings: &Settings) -> Rates {
    let mut rates = Rates {
        comparisons: simulation.comparisons,
        false_alarms: 0,
        false_praise: 0,
        found: 0,
    };
    let load = SimulatedLoad::new(simulation);
    for number in 0..u64::from(simulation.comparisons) {
        let seed = simulation.seed.wrapping_add(number);
        let pairs = load.pairs(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
        let settings = Settings {
            seed,
            ..settings.clone()
        };
        let comparison = compare_pairs(&pairs, &settings);
        let wrongly = |verdict| {
            let mut reported = comparison.rows.iter().filter(|row| row.verdict == verdict);
            let wrong = reported.any(|row| {
                simulation.slower == 1.0
                    || row.endpoint != name(0)
                    || row.metric > ComparedMetric::P99
            });
            u32::from(wrong)
        };
        rates.false_alarms += wrongly(ComparisonVerdict::Regressed);
        rates.false_praise += wrongly(ComparisonVerdict::Improved);
        let found = comparison.rows.iter().any(|row| {
            row.endpoint == name(0)
                && row.metric == ComparedMetric::P95
                && row.verdict == ComparisonVerdict::Regressed
        });
        rates.found += u32::from(found);
    }
    rates
}

/// Returns the first pairs of a simulation.
#[cfg(test)]
pub(crate) fn simulated_pairs(simulation: &Simulation) -> Vec<(LoadResult, LoadResult)> {
    let random = &mut Xoshiro256PlusPlus::seed_from_u64(simulation.seed);
    SimulatedLoad::new(simulation).pairs(random)
}

fn name(endpoint: u32) -> String {
    format!("GET /{endpoint}")
}

/// The standard deviation of one request's log latency.
const SPREAD: f64 = 0.5;
/// The share of requests that fail.
const FAILING: f64 = 0.002;
/// How much the number of requests in a block varies (the standard deviation of the logarithm), as
/// a share of the latencies' variation: users who wait longer send fewer requests.
const ARRIVALS: f64 = 0.3;

/// Generates simulated runs.
struct SimulatedLoad<'a> {
    simulation: &'a Simulation,
    /// Evenly spaced standard normal quantiles: a random one of them is a normal value.
    normal: Vec<f64>,
    /// e to the power of each of `normal`, times the spread: a lognormal value.
    lognormal: Vec<f64>,
}

impl<'a> SimulatedLoad<'a> {
    fn new(simulation: &'a Simulation) -> Self {
        let steps = 1 << 12;
        let shares = (0..steps).map(|step| (f64::from(step) + 0.5) / f64::from(steps));
        let standard = Normal::standard();
        let normal: Vec<f64> = shares.map(|share| standard.inverse_cdf(share)).collect();
        let lognormal = normal.iter().map(|z| (SPREAD * z).exp()).collect();
        SimulatedLoad {
            simulation,
            normal,
            lognormal,
        }
    }

    fn pairs(&self, random: &mut impl Rng) -> Vec<(LoadResult, LoadResult)> {
        let pairs = (0..self.simulation.pairs).map(|_| {
            let pair = self.noise(random, self.simulation.noise.pair);
            let slower = self.simulation.slower;
            (self.run(random, pair, 1.0), self.run(random, pair, slower))
        });
        pairs.collect()
    }

    fn noise(&self, random: &mut impl Rng, deviation: f64) -> f64 {
        deviation * self.normal[random.random_range(0..self.normal.len())]
    }

    fn run(&self, random: &mut impl Rng, pair: f64, slower: f64) -> LoadResult {
        let run = pair + self.noise(random, self.simulation.noise.run);
        let endpoints = (0..self.simulation.endpoints).map(|number| {
            let slower = if number == 0 { slower } else { 1.0 };
            let median = 5_000.0 * f64::from(number + 1) * slower * run.exp();
            (name(number), self.endpoint(random, median))
        });
        LoadResult {
            endpoints: endpoints.collect(),
            ..simulated_result()
        }
    }

    fn endpoint(&self, random: &mut impl Rng, median: f64) -> Endpoint {
        let Noise {
            block, handed_on, ..
        } = self.simulation.noise;
        let mut endpoint = Endpoint::default();
        let mut now = self.noise(random, block);
        let fresh = block * (1.0 - handed_on * handed_on).sqrt();
        for number in 0..self.simulation.blocks {
            let requests = f64::from(self.simulation.requests) * (-ARRIVALS * now).exp();
            let simulated = self.block(random, requests as u64, median * now.exp());
            endpoint.blocks.insert(number, simulated);
            now = handed_on * now + self.noise(random, fresh);
        }
        endpoint
    }

    fn block(&self, random: &mut impl Rng, requests: u64, median: f64) -> Block {
        let mut block = Block {
            requests,
            ..Block::default()
        };
        let mut latencies = Vec::with_capacity(requests as usize);
        for _ in 0..requests {
            // The low bits choose the latency. The high bits decide whether the request fails.
            let bits = random.next_u64();
            let latency = median * self.lognormal[bits as usize % self.lognormal.len()];
            latencies.push(latency as u64);
            let failed = (bits >> 32) as f64 / f64::from(u32::MAX) < FAILING;
            block.failed += u64::from(failed);
        }
        block.latency = latencies.into_iter().collect();
        block
    }
}

/// Returns a result without endpoints.
pub(crate) fn simulated_result() -> LoadResult {
    LoadResult {
        schema: SCHEMA,
        run: "made-up".into(),
        engine: EngineKind::Open,
        fingerprint: Fingerprint::default(),
        begun: Timestamp::UNIX_EPOCH,
        block_millis: 1_000,
        ended: Ended::Whole,
        generator: Generator {
            cores_used: 0.5,
            cores: 1,
            lag: Distribution::default(),
            bottleneck: None,
        },
        endpoints: [].into(),
    }
}
