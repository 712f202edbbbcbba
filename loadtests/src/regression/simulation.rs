//! How often the comparison is right, by load that was made up and whose truth is known.
//!
//! Latencies are lognormal. What a machine does to them is noise on several levels: a pair of
//! runs as a whole, each run, and block by block, one block handing on part of its noise to
//! the next (an autoregressive process of order 1).

use std::fmt;

use jiff::Timestamp;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::{Metric, Settings, Verdict, compare_pairs};
use crate::result::{
    Block, Distribution, Ended, Endpoint, Engine, Fingerprint, Generator, LoadResult, SCHEMA,
};

/// How often what is compared, and what is true of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Simulation {
    /// How many comparisons.
    pub comparisons: u32,
    /// How many pairs of runs in each.
    pub pairs: u32,
    /// How many endpoints each run has, with medians of 5 ms, 10 ms, 15 ms, ...
    pub endpoints: u32,
    /// How many blocks each run has, of 1 s, the warm-up among them.
    pub blocks: u32,
    /// How many requests each block has, at each endpoint.
    pub requests: u32,
    /// What the first endpoint's latencies are multiplied by in B: 1.1 is 10 % slower.
    pub slower: f64,
    /// What the machine does.
    pub noise: Noise,
    /// Of the random numbers.
    pub seed: u64,
}

/// What a machine does to latencies, each as the standard deviation of their logarithm: 0.02
/// is about 2 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Noise {
    /// To both runs of a pair.
    pub pair: f64,
    /// To each run.
    pub run: f64,
    /// To each block of each endpoint.
    pub block: f64,
    /// Which part of a block's noise the next one has too, 0 to 1.
    pub handed_on: f64,
}

impl Default for Simulation {
    /// 200 comparisons of a thing with itself.
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
    /// How many comparisons there were.
    pub comparisons: u32,
    /// How many called regressed what had not changed: any metric, any endpoint.
    pub false_alarms: u32,
    /// How many called improved what had not changed.
    pub false_praise: u32,
    /// How many called the first endpoint's p95 regressed.
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

/// Makes up runs, compares them, and counts how often the verdicts are right.
///
/// Seen with the defaults of [`Simulation`] (7 pairs, 3 endpoints, 60 blocks after the warm-up)
/// and of [`Settings`], over 200 comparisons each: no false alarm, and of a first endpoint that
/// is 10 % slower 99.5 % found. With 5 pairs 92.0 % are, and without false alarm too; with 5
/// pairs and runs that differ by 5 %, their blocks by 10 %, 1.0 % of comparisons alarm wrongly.
pub fn simulate(simulation: &Simulation, settings: &Settings) -> Rates {
    let mut rates = Rates {
        comparisons: simulation.comparisons,
        false_alarms: 0,
        false_praise: 0,
        found: 0,
    };
    let load = Load::new(simulation);
    for number in 0..u64::from(simulation.comparisons) {
        let seed = simulation.seed.wrapping_add(number);
        let pairs = load.pairs(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
        let settings = Settings {
            seed,
            ..settings.clone()
        };
        let comparison = compare_pairs(&pairs, &settings);
        let wrongly = |verdict| {
            let called = comparison.rows.iter().filter(|row| row.verdict == verdict);
            let mut unchanged = called.filter(|row| {
                simulation.slower == 1.0 || row.endpoint != name(0) || row.metric > Metric::P99
            });
            u32::from(unchanged.next().is_some())
        };
        rates.false_alarms += wrongly(Verdict::Regressed);
        rates.false_praise += wrongly(Verdict::Improved);
        let found = comparison.rows.iter().any(|row| {
            row.endpoint == name(0)
                && row.metric == Metric::P95
                && row.verdict == Verdict::Regressed
        });
        rates.found += u32::from(found);
    }
    rates
}

/// The first pairs of a simulation.
#[cfg(test)]
pub(crate) fn made_up_pairs(simulation: &Simulation) -> Vec<(LoadResult, LoadResult)> {
    let random = &mut Xoshiro256PlusPlus::seed_from_u64(simulation.seed);
    Load::new(simulation).pairs(random)
}

fn name(endpoint: u32) -> String {
    format!("GET /{endpoint}")
}

/// The standard deviation of one request's log latency.
const SPREAD: f64 = 0.5;
/// Which share of the requests fails.
const FAILING: f64 = 0.002;
/// How much as many requests come in a block as in another (the standard deviation of the
/// logarithm), as a share of what the latencies vary: users who wait longer ask less often.
const ARRIVALS: f64 = 0.3;

/// Draws made-up runs.
struct Load<'a> {
    simulation: &'a Simulation,
    /// Standard normal quantiles, evenly spaced: drawing one of these draws a normal value.
    normal: Vec<f64>,
    /// e to the power of each, times the spread: a lognormal value.
    lognormal: Vec<f64>,
}

impl<'a> Load<'a> {
    fn new(simulation: &'a Simulation) -> Self {
        let steps = 1 << 12;
        let shares = (0..steps).map(|step| (f64::from(step) + 0.5) / f64::from(steps));
        let standard = Normal::standard();
        let normal: Vec<f64> = shares.map(|share| standard.inverse_cdf(share)).collect();
        let lognormal = normal.iter().map(|z| (SPREAD * z).exp()).collect();
        Load {
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
            ..made_up()
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
            let made_up = self.block(random, requests as u64, median * now.exp());
            endpoint.blocks.insert(number, made_up);
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
            // One draw for both: the low bits choose the latency, the high ones whether it fails.
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

fn made_up() -> LoadResult {
    LoadResult {
        schema: SCHEMA,
        run: "made-up".into(),
        engine: Engine::Open,
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
