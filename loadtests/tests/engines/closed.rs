//! The closed engine.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::entry_point::EntryPoint;
use environments::config::Config;
use environments::config::load::{JourneyConfig, LoadConfig, LoadStage};
use environments::environment::Credentials;
use loadtests::closed::{self, ClosedLoad};
use loadtests::journeys::JourneyFiles;
use loadtests::raw_log::{RawLogReader, RawOutcome, RawRecord};
use loadtests::result::{Ended, EngineKind, LoadResult};
use loadtests::run::{LoadRun, Session};
use loadtests::threshold::Threshold;
use loadtests::users::{PlatformAccess, UserContext};
use tokio_util::sync::CancellationToken;

use crate::platform::{self, Fault, Platform};

const TIMEOUT: Duration = Duration::from_secs(30);

type Journeys = BTreeMap<String, JourneyConfig>;

/// The journeys of users, each with the same weight and pace.
fn shipped(thinks: Duration) -> (LoadConfig, Journeys, JourneyFiles) {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut config = Config::read(&workspace.join("harness.toml")).unwrap();
    let mut journeys = config.profiles["smoke"].journeys.clone();
    for journey in journeys.values_mut() {
        journey.weight = 1;
        journey.thinks = thinks..=thinks;
    }
    config.load.drain = Duration::from_millis(300);
    let files = JourneyFiles::read(&config, workspace).unwrap();
    (config.load, journeys, files)
}

/// Four users, one for each journey, for this many seconds.
fn stages(seconds: u64) -> [LoadStage; 2] {
    [0, seconds].map(|seconds| LoadStage {
        to: 4,
        lasts: Duration::from_secs(seconds),
    })
}

fn users(entry: &EntryPoint, max_rate: Option<u32>) -> Arc<UserContext> {
    let credentials = Credentials {
        jwt_secret: "key".into(),
        demo_password: platform::PASSWORD.into(),
    };
    let reach = PlatformAccess {
        entry,
        api_host: "api.trii.co",
        credentials: &credentials,
        max_rate: max_rate.map(|rate| NonZeroU32::new(rate).unwrap()),
        timeout: Duration::from_secs(10),
        run: "run",
        headers: &platform::headers(),
    };
    Arc::new(UserContext::new(&reach).unwrap())
}

async fn run(
    entry: &EntryPoint,
    max_rate: Option<u32>,
    cancelled: &CancellationToken,
) -> LoadResult {
    let session = Session {
        stop: cancelled.clone(),
        ..Session::default()
    };
    run_of(2, &[], session, &users(entry, max_rate))
        .await
        .result
}

/// Runs for this many seconds, unless a threshold aborts it.
async fn run_of(
    seconds: u64,
    thresholds: &[Threshold],
    session: Session,
    users: &Arc<UserContext>,
) -> LoadRun {
    let (load, journeys, files) = shipped(Duration::from_millis(20));
    let load = ClosedLoad {
        load: &load,
        journeys: &journeys,
        files: &files,
        stages: &stages(seconds),
        thresholds,
    };
    let ran = closed::run(load, session, users, &|_| {});
    tokio::time::timeout(TIMEOUT, ran).await.unwrap().unwrap()
}

/// All failures by name.
fn failures(result: &LoadResult) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for endpoint in result.endpoints.values() {
        for (failure, count) in &endpoint.failures {
            *all.entry(failure.clone()).or_default() += count;
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_every_journey_is_made_and_answered() {
    let platform = Platform::start(Fault::None).await;
    let result = run(platform.entry(), None, &CancellationToken::new()).await;
    assert_eq!(failures(&result), BTreeMap::new());
    let endpoints: Vec<&str> = result.endpoints.keys().map(String::as_str).collect();
    insta::assert_snapshot!(endpoints.join("\n"), @r"
    GET /api/analysis-engine/analysis/portfolio
    GET /api/analysis-engine/analysis/symbols/{symbol}
    GET /api/market-data/quotes
    GET /api/market-data/quotes/{symbol}
    GET /api/market-data/quotes/{symbol}/history
    GET /api/portfolio-manager/portfolios/me
    POST /api/login
    POST /api/ml-prediction/predictions
    POST /api/portfolio-manager/orders
    POST /api/portfolio-manager/portfolios
    ");
    let whole = result.whole();
    assert!(whole.requests > 40, "{whole:?}");
    assert_eq!(whole.latency.count(), whole.requests);
    assert_eq!(whole.requests, platform.requests());
    assert!(whole.received > 0 && whole.dropped == 0);
    assert_eq!(
        (result.engine, &result.ended),
        (EngineKind::Closed, &Ended::Whole)
    );
    assert_eq!(result.fingerprint.versions["stand-in"], "v1");
    assert!(
        (2.0..6.0).contains(&result.seconds()),
        "{}",
        result.seconds()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_is_a_failure_by_the_name_of_the_claim() {
    let platform = Platform::start(Fault::Wrong).await;
    let result = run(platform.entry(), None, &CancellationToken::new()).await;
    let failures = failures(&result);
    let names: Vec<&str> = failures.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "check: a value that is the sum of cash and positions",
            "check: jsonpath \"$.price\" toFloat > 0",
            "check: jsonpath \"$[?@.symbol != '{{symbol}}']\" count == 0",
            "check: the order in the portfolio",
            "status 503",
        ]
    );
    assert_eq!(failures.values().sum::<u64>(), result.whole().failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_every_request_has_failed() {
    let platform = Platform::start(Fault::None).await;
    let entry = platform.entry().clone();
    platform.stop().await;
    let result = run(&entry, None, &CancellationToken::new()).await;
    let whole = result.whole();
    assert!(whole.requests > 0 && whole.failed == whole.requests);
    let failures = failures(&result);
    assert_eq!(failures.keys().collect::<Vec<_>>(), ["connection refused"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_dies_midway_is_measured_to_the_end() {
    let platform = Platform::start(Fault::None).await;
    let entry = platform.entry().clone();
    let dies = async {
        platform.wait_for_requests(20).await;
        platform.stop().await;
    };
    let cancelled = CancellationToken::new();
    let (result, ()) = tokio::join!(run(&entry, None, &cancelled), dies);
    let whole = result.whole();
    assert!(
        0 < whole.failed && whole.failed < whole.requests,
        "{whole:?}"
    );
    assert_eq!(result.ended, Ended::Whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_ends_within_its_deadline_whatever_is_in_flight() {
    let platform = Platform::start(Fault::Silent).await;
    let cancelled = CancellationToken::new();
    let cancel = async {
        platform.wait_for_requests(4).await;
        cancelled.cancel();
        Instant::now()
    };
    let (result, since) = tokio::join!(run(platform.entry(), None, &cancelled), cancel);
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(result.ended, Ended::Interrupted);
    let cut = "cut off: no answer when the run ended".to_owned();
    assert_eq!(failures(&result), BTreeMap::from([(cut, 4)]));
    assert_eq!(result.whole().requests, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_cancelled_before_its_start_sends_nothing() {
    let platform = Platform::start(Fault::None).await;
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let result = run(platform.entry(), None, &cancelled).await;
    assert_eq!(result.ended, Ended::Interrupted);
    assert_eq!(result.whole().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_ends_the_run_that_breaks_it() {
    let platform = Platform::start(Fault::Wrong).await;
    let [fails, waits]: [Threshold; 2] = [
        "checks: rate>0.99".parse().unwrap(),
        "http_req_duration: avg<0".parse().unwrap(),
    ];
    let an_hour = Duration::from_secs(3600);
    let thresholds = [waits.aborting(Some(an_hour)), fails.aborting(None)];
    let users = users(platform.entry(), None);
    let run = run_of(3600, &thresholds, Session::default(), &users).await;
    let threshold = "checks: rate>0.99".to_owned();
    assert_eq!(run.result.ended, Ended::Aborted { threshold });
    // An hour's: the blocks are longer.
    assert_eq!(run.result.block_millis, 30_000);
    let whole = run.result.whole();
    assert_eq!(whole.requests, platform.requests());
    assert!(whole.failed > 0, "{whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_raw_log_has_every_request_under_its_name() {
    let platform = Platform::start(Fault::Wrong).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("load-smoke.log");
    let session = Session {
        raw_log: Some(path.clone()),
        ..Session::default()
    };
    let LoadRun { result, raw_log } = run_of(2, &[], session, &users(platform.entry(), None)).await;
    assert_eq!(raw_log.unwrap().unwrap().records, result.whole().requests);
    let mut reader = RawLogReader::open(&path).unwrap();
    let begun = result.begun.as_microsecond();
    assert_eq!(reader.begun().as_microsecond(), begun);
    let names = reader.names().to_vec();
    let mut logged: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for record in reader.by_ref() {
        let RawRecord { name, outcome, .. } = record.unwrap();
        let (requests, failed) = logged.entry(names[usize::from(name)].clone()).or_default();
        *requests += 1;
        *failed += u64::from(!matches!(outcome, RawOutcome::Status { good: true, .. }));
    }
    let counted = result.endpoints.iter().map(|(name, endpoint)| {
        let whole = endpoint.whole();
        (name.clone(), (whole.requests, whole.failed))
    });
    assert_eq!(logged, counted.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_users_together_keep_to_the_rate() {
    let platform = Platform::start(Fault::None).await;
    let result = run(platform.entry(), Some(10), &CancellationToken::new()).await;
    // Ten a second, and the one that each of four users may be waiting with at the end.
    let most = 10.0 * result.seconds() + 4.0;
    let requests = result.whole().requests;
    assert!(
        requests > 0 && requests as f64 <= most,
        "{requests} of {most}"
    );
}
