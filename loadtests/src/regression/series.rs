//! One endpoint's blocks in one run, in a form that is resampled without adding histograms.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt};

use super::metric::{ComparedMetric, Each};
use crate::result::{Block, Endpoint};

/// The most units. Longer runs are resampled in units of several blocks.
const MOST_UNITS: usize = 240;

/// One endpoint's blocks in one run, without the warm-up.
///
/// They are resampled by the circular block bootstrap. Chunks of neighbouring blocks keep the noise
/// that one block passes on to the next (Künsch, "The jackknife and the bootstrap for general
/// stationary observations", Annals of Statistics 17, 1989). The run is treated as a circle: every
/// block is drawn equally often (Politis & Romano, "A circular block-resampling procedure for
/// stationary data", 1992).
#[derive(Debug)]
pub(super) struct BlockSeries {
    /// The number of units to draw from.
    units: usize,
    /// The number of neighbouring units that are drawn at once.
    chunk: usize,
    /// The times that occur, in microseconds, ascending.
    times: Vec<u64>,
    /// A row for each of `times`: the number of times up to that, in the units before each unit.
    up_to: Vec<u64>,
    /// Cumulative sums by unit.
    requests: Vec<f64>,
    failed: Vec<f64>,
    seconds: Vec<f64>,
    /// The sums of the whole run.
    pub total: Total,
}

/// The sums of a whole run, without its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Total {
    /// Requests sent.
    pub requests: u64,
    /// Requests among them without a good answer.
    pub failed: u64,
    /// Arrivals that were not sent.
    pub dropped: u64,
    /// The number of latencies.
    pub samples: u64,
    /// The number of blocks with requests.
    pub blocks: u32,
}

/// One block: its unit, and each of its times with their number, ascending.
struct BlockTimes {
    unit: usize,
    times: Vec<(u64, u64)>,
}

/// From one unit (included) to another (excluded).
type Chunk = (usize, usize);

impl BlockSeries {
    /// The blocks `from..to` of an endpoint, each of `block_millis`.
    pub fn new(endpoint: &Endpoint, from: u32, to: u32, block_millis: u64) -> Self {
        let blocks = to.saturating_sub(from) as usize;
        let unit = blocks.div_ceil(MOST_UNITS).max(1);
        let units = blocks.div_ceil(unit);
        let mut total = Total::default();
        let (mut requests, mut failed, mut seconds) =
            (vec![0.0; units], vec![0.0; units], vec![0.0; units]);
        for number in 0..blocks {
            seconds[number / unit] += block_millis as f64 / 1000.0;
        }
        let mut counted = Vec::new();
        for (number, block) in endpoint.blocks.range(from..to) {
            let unit = (number - from) as usize / unit;
            requests[unit] += block.requests as f64;
            failed[unit] += block.failed as f64;
            total.add(block);
            let histogram = block.latency.histogram();
            let times = histogram.iter_recorded();
            let times = times.map(|time| (time.value_iterated_to(), time.count_at_value()));
            let times = times.collect();
            counted.push(BlockTimes { unit, times });
        }
        // The rate that is best for a variance (Künsch 1989).
        let chunk = (units as f64).cbrt().ceil() as usize;
        let times = all_times(&counted);
        BlockSeries {
            units,
            chunk,
            up_to: table(&times, &counted, units, chunk),
            times,
            requests: summed_up(&requests, chunk),
            failed: summed_up(&failed, chunk),
            seconds: summed_up(&seconds, chunk),
            total,
        }
    }

    /// Returns the metrics of the run itself, each on its scale: the logarithm of times and
    /// throughput. They are not finite without data.
    pub fn measured(&self) -> Each<f64> {
        self.measure(&[(0, self.units)])
    }

    /// Returns the metrics of a resampled run. A sample without requests is drawn again.
    pub fn resampled(&self, random: &mut Xoshiro256PlusPlus) -> Each<f64> {
        loop {
            let chunks = self.draw(random);
            if sum(&self.requests, &chunks) > 0.0 {
                return self.measure(&chunks);
            }
        }
    }

    /// Draws random chunks with as many units as the run.
    fn draw(&self, random: &mut impl Rng) -> Vec<Chunk> {
        let starts = (0..self.units).step_by(self.chunk);
        let chunks = starts.map(|done| {
            let start = random.random_range(0..self.units);
            (start, start + self.chunk.min(self.units - done))
        });
        chunks.collect()
    }

    fn measure(&self, chunks: &[Chunk]) -> Each<f64> {
        let [requests, failed, seconds] =
            [&self.requests, &self.failed, &self.seconds].map(|sums| sum(sums, chunks));
        ComparedMetric::ALL.map(|metric| match metric {
            ComparedMetric::P50 | ComparedMetric::P95 | ComparedMetric::P99 => {
                let time = metric.quantile().and_then(|q| self.quantile(q, chunks));
                // 0 is shorter than the clock's resolution.
                time.map_or(f64::NAN, |time| (time.max(1) as f64).ln())
            }
            ComparedMetric::ErrorShare => failed / requests,
            // Half an answer is added, as 0 has no logarithm.
            ComparedMetric::Throughput => ((requests - failed + 0.5) / seconds).ln(),
        })
    }

    /// Returns the same value as HdrHistogram for the merged histograms of the chunks.
    fn quantile(&self, q: f64, chunks: &[Chunk]) -> Option<u64> {
        let last = self.times.len().checked_sub(1)?;
        let rank = (q * self.up_to(last, chunks) as f64).ceil().max(1.0) as u64;
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = (low + high) / 2;
            if self.up_to(middle, chunks) < rank {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(self.times[low])
    }

    fn up_to(&self, row: usize, chunks: &[Chunk]) -> u64 {
        let width = width(self.units, self.chunk);
        let row = &self.up_to[row * width..][..width];
        chunks.iter().map(|&(from, to)| row[to] - row[from]).sum()
    }
}

impl Total {
    fn add(&mut self, block: &Block) {
        self.requests += block.requests;
        self.failed += block.failed;
        self.dropped += block.dropped;
        self.samples += block.latency.count();
        self.blocks += u32::from(block.requests > 0);
    }
}

fn all_times(counted: &[BlockTimes]) -> Vec<u64> {
    let times = counted.iter().flat_map(|block| &block.times);
    let mut times: Vec<u64> = times.map(|(time, _)| *time).collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// Returns the length of a row, which continues around the circle by one chunk.
fn width(units: usize, chunk: usize) -> usize {
    units + chunk + 1
}

/// Returns the table for quantiles: see [`BlockSeries::up_to`].
fn table(times: &[u64], counted: &[BlockTimes], units: usize, chunk: usize) -> Vec<u64> {
    let mut counts = vec![0; times.len() * units];
    for block in counted {
        let mut row = 0;
        for (time, count) in &block.times {
            while times[row] < *time {
                row += 1;
            }
            counts[row * units + block.unit] += count;
        }
    }
    let width = width(units, chunk);
    let mut table = vec![0; times.len() * width];
    let mut so_far = vec![0; units];
    for (row, counts) in table.chunks_mut(width).zip(counts.chunks(units.max(1))) {
        let mut sum = 0;
        for (so_far, count) in so_far.iter_mut().zip(counts) {
            *so_far += count;
        }
        for (cell, so_far) in row[1..].iter_mut().zip(so_far.iter().cycle()) {
            sum += so_far;
            *cell = sum;
        }
    }
    table
}

/// Returns the sum over chunks, from cumulative sums.
fn sum(sums: &[f64], chunks: &[Chunk]) -> f64 {
    chunks.iter().map(|&(from, to)| sums[to] - sums[from]).sum()
}

/// Returns the cumulative sums before each value, around the circle and `more` values further.
fn summed_up(values: &[f64], more: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums = vec![0.0];
    for value in values.iter().cycle().take(values.len() + more) {
        sum += value;
        sums.push(sum);
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn endpoint(blocks: &[Vec<u64>]) -> Endpoint {
        let mut endpoint = Endpoint::default();
        for (number, times) in blocks.iter().enumerate() {
            let block = endpoint.blocks.entry(number as u32).or_default();
            for time in times {
                block.requests += 1;
                block.failed += u64::from(time % 7 == 0);
            }
            block.latency = times.iter().copied().collect();
        }
        endpoint
    }

    /// The block bootstrap of the textbook: histograms are added.
    fn merged(endpoint: &Endpoint, chunks: &[Chunk]) -> Block {
        let blocks = endpoint.blocks.len();
        let mut merged = Block::default();
        for number in chunks.iter().flat_map(|&(from, to)| from..to) {
            merged.add(&endpoint.blocks[&((number % blocks) as u32)]);
        }
        merged
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn a_resampled_run_equals_its_merged_histograms(
            blocks in prop::collection::vec(prop::collection::vec(1u64..50_000, 1..40), 2..30),
            seed: u64,
        ) {
            let endpoint = endpoint(&blocks);
            let series = BlockSeries::new(&endpoint, 0, blocks.len() as u32, 500);
            let chunks = series.draw(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
            prop_assert_eq!(chunks.iter().map(|(from, to)| to - from).sum::<usize>(), blocks.len());
            let merged = merged(&endpoint, &chunks);
            let measured = series.measure(&chunks);
            for (metric, value) in ComparedMetric::ALL.into_iter().zip(measured) {
                if let Some(q) = metric.quantile() {
                    let expected = merged.latency.quantile(q).unwrap();
                    prop_assert_eq!(value, (expected as f64).ln(), "{}", metric);
                }
            }
            prop_assert_eq!(measured[3], merged.error_share().unwrap());
            let good = (merged.requests - merged.failed) as f64;
            prop_assert!((measured[4].exp() * 0.5 * blocks.len() as f64 - 0.5 - good).abs() < 1e-6);
        }
    }

    #[test]
    fn the_warm_up_and_empty_blocks_are_handled() {
        let mut endpoint = endpoint(&[vec![9_000_000], vec![100, 100], vec![], vec![100]]);
        endpoint.blocks.remove(&2);
        let series = BlockSeries::new(&endpoint, 1, 5, 1_000);
        let measured = series.measured();
        assert_eq!(measured[2].exp().round(), 100.0);
        // Three answers in 4 s, and half an answer.
        assert!((measured[4].exp() - 3.5 / 4.0).abs() < 1e-9);
    }

    #[test]
    fn an_empty_series_has_no_values() {
        let measured = BlockSeries::new(&Endpoint::default(), 0, 10, 1_000).measured();
        assert!(measured[0].is_nan() && measured[3].is_nan());
    }

    #[test]
    fn a_long_run_is_resampled_in_longer_units() {
        let blocks = vec![vec![10, 20, 4_000]; 1_001];
        let endpoint = endpoint(&blocks);
        let series = BlockSeries::new(&endpoint, 0, 1_001, 1_000);
        assert!(series.units <= MOST_UNITS);
        assert_eq!(series.total.samples, 3_003);
        assert!((series.measured()[4].exp() - 3_003.5 / 1_001.0).abs() < 1e-9);
    }
}
