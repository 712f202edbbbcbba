use std::collections::BTreeMap;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::{HeaderMap, StatusCode, Version};
use prober::ProbeTarget;
use tokens::TokenClaims;

use super::*;

/// Logs in, and reads what the login returned.
const LOGIN: &str = "
POST {{api}}/login
{ \"user\": \"{{unique}}\", \"password\": \"{{demo_password}}\" }
HTTP 200
[Captures]
account: jsonpath \"$.account\"

GET {{api}}/accounts/{{account}}
Authorization: Bearer {{visitor}}
HTTP 200
[Asserts]
jsonpath \"$.symbol\" == \"{{symbol}}\"
";

fn plan(journeys: Vec<WrittenJourney>) -> LoadPlan {
    let mut plan = LoadPlan::of(ProbeTarget::of("http://quotes.test"), vec![], journeys);
    let visitor = TokenClaims {
        subject: "{unique}".into(),
        role: "investor".into(),
    };
    plan.users = UserVariables {
        run: "run".into(),
        tokens: BTreeMap::from([("visitor".to_owned(), visitor)]),
        jwt_secret: "key".into(),
        demo_password: "open sesame".into(),
    };
    plan
}

fn with_symbols(mut journey: WrittenJourney) -> WrittenJourney {
    journey.rows = Some(Rows {
        columns: vec!["symbol".into()],
        values: ["ISA", "GEB"].map(|symbol| vec![symbol.to_owned()]).into(),
    });
    journey
}

fn prepared(journeys: Vec<WrittenJourney>) -> PreparedJourneys {
    PreparedJourneys::of(&plan(journeys)).unwrap()
}

fn begin(journeys: &PreparedJourneys, number: u64) -> RunningJourney<'_> {
    journeys.begin(journeys.arrival(number, Duration::ZERO, Instant::now()))
}

fn refusal(journey: WrittenJourney) -> String {
    let refused = PreparedJourneys::of(&plan(vec![journey]));
    refused.err().unwrap().to_string()
}

fn answer(body: &'static str) -> Response {
    Response {
        url: String::new(),
        version: Version::HTTP_11,
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        duration: Duration::ZERO,
    }
}

#[test]
fn a_request_without_captures_is_made_once_for_each_row() {
    let text = "GET {{api}}/quotes/{{symbol}}\nHTTP 200\n";
    let journeys = prepared(vec![with_symbols(WrittenJourney::of("quote", text))]);
    assert_eq!(journeys.journeys[0].steps[0].requests.len(), 2);
    let sent = (0..5).map(|number| {
        let request = begin(&journeys, number).request(0).unwrap();
        assert!(matches!(request, Cow::Borrowed(_)));
        request.uri().to_string()
    });
    let isa_and_geb = ["/quotes/ISA", "/quotes/GEB"].into_iter().cycle();
    assert!(sent.eq(isa_and_geb.take(5)));
    assert_eq!(journeys.names(), ["(other)", "GET /quotes/{symbol}"]);
}

#[test]
fn each_repetition_of_a_journey_takes_the_next_row() {
    let quote = WrittenJourney::of("quote", "GET {{api}}/quotes/{{symbol}}\nHTTP 200\n");
    let journeys = prepared(vec![WrittenJourney::get("/"), with_symbols(quote)]);
    let sent = (0..6).map(|number| {
        begin(&journeys, number)
            .request(0)
            .unwrap()
            .uri()
            .to_string()
    });
    let sent: Vec<String> = sent.collect();
    assert_eq!(
        sent,
        ["/", "/quotes/ISA", "/", "/quotes/GEB", "/", "/quotes/ISA"]
    );
}

#[tokio::test]
async fn a_request_reads_what_an_earlier_one_captured() {
    let journeys = prepared(vec![with_symbols(WrittenJourney::of("login", LOGIN))]);
    let mut journey = begin(&journeys, 2);
    let login = journey.request(0).unwrap().into_owned();
    let body = login.into_body().collect().await.unwrap().to_bytes();
    let expected = r#"{ "user": "load-run-3", "password": "open sesame" }"#;
    assert_eq!(body, expected);
    assert!(!journey.can_send(1), "nothing is captured yet");
    journey.evaluate(0, &answer(r#"{"account": 7}"#)).unwrap();
    assert!(journey.can_send(1));
    let account = journey.request(1).unwrap();
    assert_eq!(account.uri(), "/accounts/7");
    let bearer = account.headers()["authorization"].to_str().unwrap();
    assert_eq!(bearer.split('.').count(), 3, "a token has three parts");
    assert!(account.headers()["authorization"].is_sensitive());
    journey
        .evaluate(1, &answer(r#"{"symbol": "ISA"}"#))
        .unwrap();
    let wrong = journey.evaluate(1, &answer(r#"{"symbol": "GEB"}"#));
    let line = "check: jsonpath \"$.symbol\" == \"{{symbol}}\"";
    assert_eq!(wrong, Err(line.to_owned()));
    // Another arrival knows nothing of it.
    assert!(!begin(&journeys, 3).can_send(1));
}

#[test]
fn a_user_thinks_within_its_limits_and_alike_in_every_run() {
    let mut journey = WrittenJourney::get("/");
    journey.thinks = Duration::from_millis(5)..=Duration::from_millis(7);
    let journeys = prepared(vec![journey]);
    let thinks = |number| begin(&journeys, number).thinks(1).as_millis();
    let mut times = [0; 3];
    (0..3000).for_each(|number| times[usize::try_from(thinks(number)).unwrap() - 5] += 1);
    assert!(
        times.iter().all(|count| (900..1100).contains(count)),
        "{times:?}"
    );
    assert_eq!(thinks(1), thinks(1));
}

#[test]
fn an_invalid_journey_is_refused() {
    let mut weightless = WrittenJourney::get("/a");
    weightless.weight = 0;
    let mut rowless = with_symbols(WrittenJourney::get("/a"));
    rowless.rows.as_mut().unwrap().values.clear();
    let elsewhere = WrittenJourney::of("elsewhere", "\nGET http://other.test/\nHTTP 200\n");
    let unknown = WrittenJourney::of("unknown", "GET {{api}}/{{name}}\nHTTP 200\n");
    let refusals = [
        weightless,
        rowless,
        WrittenJourney::get("/a b"),
        elsewhere,
        unknown,
    ];
    insta::assert_snapshot!(refusals.map(refusal).join("\n"), @r#"
    journeys have no weight
    the journey "GET /a" has data without rows
    the journey "GET /a b" line 1: the URL "http://quotes.test/a b" is not valid: invalid uri character
    the journey "elsewhere" line 2: http://other.test is not at {{api}}
    the journey "unknown" cannot be read: unknown.hurl:1: reads {{name}}, which no earlier request captures; known: api, demo_password, unique, visitor
    "#);
    assert!(PreparedJourneys::of(&plan(vec![])).is_err());
}

#[test]
fn requests_beyond_the_limit_share_a_name() {
    let many = (0..2000).map(|number| WrittenJourney::get(&format!("/{number}")));
    let journeys = prepared(many.collect());
    assert_eq!(journeys.names().len(), 501);
    assert_eq!(begin(&journeys, 1999).name(0), 0);
}
