//! The open engine, with journeys of `harness.toml`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use environments::config::Config;
use environments::config::load::LoadStage;
use environments::environment::Credentials;
use loadtests::arrivals::{self, OpenLoad};
use loadtests::journeys::JourneyFiles;
use loadtests::result::{Ended, LoadResult};
use loadtests::run::Session;
use loadtests::users::PlatformAccess;

use crate::platform::{self, Fault, Platform};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A login whose token the next request reads, and a row for each arrival.
const PORTFOLIO: &str = r#"
POST {{api}}/api/login
{ "investor": "{{unique}}", "password": "{{demo_password}}" }
HTTP 200
[Captures]
token: jsonpath "$.token" redact

GET {{api}}/api/portfolio-manager/portfolios/me
Authorization: Bearer {{token}}
HTTP 200
[Asserts]
jsonpath "$.investor" == "{{unique}}"

GET {{api}}/api/market-data/quotes/{{symbol}}
Authorization: Bearer {{visitor}}
HTTP 200
[Asserts]
jsonpath "$.symbol" == "{{symbol}}"
jsonpath "$.price" toFloat > 0
"#;

/// Sends 20 arrivals/s for 2 s, of `PORTFOLIO` and of a single request in turn.
async fn run(fault: Fault, max_rate: Option<u32>) -> (LoadResult, u64) {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portfolio.hurl");
    std::fs::write(&file, PORTFOLIO).unwrap();
    let analysis = folder.path().join("analysis.hurl");
    let text = "GET {{api}}/api/analysis-engine/analysis/symbols/ISA\nHTTP 200\n";
    std::fs::write(&analysis, text).unwrap();
    let shipped = include_str!("../../../harness.toml");
    let text = shipped
        .replace(
            "fixtures/platform/journeys/quote.hurl",
            file.to_str().unwrap(),
        )
        .replace(
            "fixtures/platform/journeys/quotes.hurl",
            analysis.to_str().unwrap(),
        )
        .replace(
            "quotes = 6, quote = 3, history = 1",
            "quotes = 1, quote = 1",
        );
    let config = Config::parse(Path::new("harness.toml"), &text).unwrap();
    let files = JourneyFiles::read(&config, workspace).unwrap();
    let platform = Platform::start(fault).await;
    let credentials = Credentials {
        jwt_secret: "key".into(),
        demo_password: platform::PASSWORD.into(),
    };
    let second = |seconds| LoadStage {
        to: 20,
        lasts: Duration::from_secs(seconds),
    };
    let load = OpenLoad {
        reach: &PlatformAccess {
            entry: platform.entry(),
            api_host: "api.trii.co",
            credentials: &credentials,
            max_rate: max_rate.and_then(NonZeroU32::new),
            timeout: Duration::from_secs(10),
            run: "run",
            headers: &platform::headers(),
        },
        load: &config.load,
        journeys: &config.profiles["steady"].journeys,
        files: &files,
        stages: &[second(0), second(2)],
        max_in_flight: 100,
        thresholds: &[],
        generators: None,
    };
    let ran = arrivals::run(load, Session::default(), &|_| {});
    let ran = tokio::time::timeout(TIMEOUT, ran).await.unwrap().unwrap();
    assert_eq!(ran.result.ended, Ended::Whole);
    (ran.result, platform.requests())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arrival_is_one_run_of_a_journey() {
    let (result, received) = run(Fault::None, None).await;
    let counts = result.endpoints.iter().map(|(name, endpoint)| {
        let whole = endpoint.whole();
        let (requests, arrivals) = (whole.requests, whole.arrivals);
        format!(
            "{name}: {requests} requests, {arrivals} arrivals, {:?}",
            endpoint.failures
        )
    });
    insta::assert_snapshot!(counts.collect::<Vec<_>>().join("\n"), @"
    GET /api/analysis-engine/analysis/symbols/ISA: 20 requests, 20 arrivals, {}
    GET /api/market-data/quotes/{symbol}: 20 requests, 0 arrivals, {}
    GET /api/portfolio-manager/portfolios/me: 20 requests, 0 arrivals, {}
    POST /api/login: 20 requests, 20 arrivals, {}
    ");
    assert_eq!(result.whole().requests, received);
    assert_eq!(result.fingerprint.versions["stand-in"], "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_is_a_failure_by_its_line() {
    let (result, _) = run(Fault::Wrong, None).await;
    let quote = &result.endpoints["GET /api/market-data/quotes/{symbol}"];
    let line = "check: jsonpath \"$.price\" toFloat > 0".to_owned();
    assert_eq!(quote.failures, BTreeMap::from([(line, 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_target_is_for_requests() {
    let (result, received) = run(Fault::None, Some(15)).await;
    // The longest journey has three requests: five arrivals a second.
    let whole = result.whole();
    assert_eq!(whole.arrivals, 10);
    assert_eq!((whole.requests, received), (20, 20));
}
