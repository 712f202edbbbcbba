//! The record of a load run, as the engine would leave it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use base::exit::ExitCode;
use base::run::event::{Event, Happening, Stage, StageResult};
use base::run::load::{CURVES_AT_MOST, LoadMeasurement};
use base::run::{EVENTS, this_host};
use environments::config::load::LoadStage;
use jiff::{SignedDuration, Timestamp};

use crate::result::{
    Distribution, EndedRequest, Endpoint, EndpointCounts, EngineKind, Fingerprint, Generator,
    LoadResult, SCHEMA, block_of,
};
use crate::result::{Ended, count, growing};
use crate::{arrivals, measurement, threshold};

/// The rate, in requests/s.
const RATE: u32 = 1_000;
/// Some more than have curves.
const ENDPOINTS: u64 = CURVES_AT_MOST as u64 + 6;
/// One request in so many fails.
const ONE_FAILS_IN: u64 = 127;

/// Writes the record of a run of so many requests into a run folder. The engine's own code counts
/// the requests, and their times are always the same.
///
/// # Errors
/// The operating system's, if the file cannot be written.
pub fn write_load_record(folder: &Path, requests: u64) -> io::Result<()> {
    let lines = happenings(requests).map(|(after, what)| {
        let at = Timestamp::UNIX_EPOCH + after;
        Ok(serde_json::to_string(&Event { at, what })? + "\n")
    });
    let lines: io::Result<String> = lines.into_iter().collect();
    std::fs::write(folder.join(EVENTS), lines?)
}

fn happenings(requests: u64) -> [(SignedDuration, Happening); 7] {
    let takes = Duration::from_secs(requests.div_ceil(RATE.into()));
    let result = result(requests, takes);
    let rules = ["http_req_duration: p(95)<60", "http_req_failed: rate<0.05"];
    let rules = rules.map(|rule| rule.parse().expect("a constant that is a threshold"));
    let verdicts = threshold::evaluate_all(&rules, &result);
    let of = "steady".to_owned();
    let [first, second] = [0, 1].map(|number: usize| Happening::ThresholdJudged {
        threshold: verdicts[number].report(&of),
    });
    let holds = verdicts.iter().all(|verdict| verdict.holds());
    let block = Duration::from_millis(result.block_millis);
    let jump = LoadStage {
        to: RATE,
        lasts: Duration::ZERO,
    };
    let stages = [
        jump,
        LoadStage {
            lasts: takes,
            ..jump
        },
    ];
    let asked = arrivals::asked(&stages, f64::INFINITY, block, result.blocks());
    let load = Box::new(LoadMeasurement {
        of,
        ..measurement::of(&result, asked, &verdicts)
    });
    let millis = u64::try_from(takes.as_millis()).unwrap_or(u64::MAX);
    let stage = Stage::Load;
    let (result, exit_code) = match holds {
        true => (StageResult::Done, ExitCode::Held),
        false => (StageResult::Failed, ExitCode::ThresholdFailed),
    };
    let started = Happening::RunStarted {
        run: "load".to_owned(),
        command: "load run steady".to_owned(),
        platform: "TRII".to_owned(),
        target: crate::bench::TARGET.to_owned(),
        environment: "bench".to_owned(),
        host: this_host(),
    };
    let (begin, end) = (
        SignedDuration::ZERO,
        SignedDuration::from_millis(millis as i64),
    );
    [
        (begin, started),
        (begin, Happening::StageStarted { stage }),
        (end, Happening::LoadMeasured { load }),
        (end, first),
        (end, second),
        (
            end,
            Happening::StageFinished {
                stage,
                millis,
                result,
            },
        ),
        (end, Happening::RunFinished { exit_code, millis }),
    ]
}

fn result(requests: u64, takes: Duration) -> LoadResult {
    let block = block_of(takes);
    let mut counts: BTreeMap<u64, EndpointCounts> = BTreeMap::new();
    let mut lag = growing::<u32>();
    for number in 0..requests {
        let due = takes.mul_f64(number as f64 / requests as f64);
        let request = request(number, (due.as_nanos() / block.as_nanos()) as u32);
        count(&mut lag, request.latency - request.service_time);
        // The first endpoints have the most requests.
        let endpoint = spread(number) % ENDPOINTS * (spread(number + 1) % ENDPOINTS) / ENDPOINTS;
        counts.entry(endpoint).or_default().ended(request);
    }
    let endpoints = counts.into_iter().filter_map(|(number, counts)| {
        let name = format!("GET /api/market-data/quotes/{{symbol}}/history/{number}");
        Some((name, counts.endpoint()?))
    });
    let endpoints: BTreeMap<String, Endpoint> = endpoints.collect();
    LoadResult {
        schema: SCHEMA,
        run: "load".to_owned(),
        engine: EngineKind::Open,
        fingerprint: Fingerprint::default(),
        begun: Timestamp::UNIX_EPOCH,
        block_millis: u64::try_from(block.as_millis()).unwrap_or(u64::MAX),
        ended: Ended::Whole,
        generator: Generator {
            cores_used: 0.42,
            cores: 2,
            lag: Distribution::from(lag),
            bottleneck: None,
        },
        endpoints,
    }
}

/// A request with a latency between 3 and about 200 ms, of which few are long.
fn request(number: u64, block: u32) -> EndedRequest<'static> {
    let share = (spread(number) >> 11) as f64 / (1_u64 << 53) as f64;
    let lag = Duration::from_micros(spread(number + 2) % 300);
    let service_time = Duration::from_micros((3_000.0 / (1.0 - 0.985 * share)) as u64);
    let fails = number % ONE_FAILS_IN == ONE_FAILS_IN - 1;
    EndedRequest {
        block,
        arrives: true,
        latency: lag + service_time,
        service_time,
        status: Some(if fails { 503 } else { 200 }),
        received: 512,
        failure: fails.then_some("status 503"),
    }
}

/// Returns a number that looks random: SplitMix64.
fn spread(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_the_report() {
        for requests in [10, 20_000] {
            let folder = tempfile::tempdir().unwrap();
            write_load_record(folder.path(), requests).unwrap();
            let report = report::render(folder.path()).unwrap();
            let load = &report.loads[0];
            assert_eq!(load.whole.requests, requests);
            let blocks = load.whole.blocks.as_ref().unwrap();
            assert_eq!(blocks.requests.iter().sum::<u64>(), requests);
            assert_eq!(load.whole.failed, requests / ONE_FAILS_IN);
            assert_eq!(report.thresholds.len(), 2);
        }
    }
}
