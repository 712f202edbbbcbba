use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::cluster::mock::{Answer, Server};

const PATIENCE: Duration = Duration::from_secs(1);

/// As the platform's services show it, `good` and `bad` answers, the bad ones slow.
fn page(good: u64, bad: u64) -> String {
    let all = |labels: &str, fast: u64, count: u64| {
        format!(
            "http_requests_total{{{labels}}} {count}\n\
             http_request_duration_seconds_bucket{{le=\"0.0025\",{labels}}} {fast}\n\
             http_request_duration_seconds_bucket{{le=\"0.5\",{labels}}} {count}\n\
             http_request_duration_seconds_bucket{{le=\"+Inf\",{labels}}} {count}\n\
             http_request_duration_seconds_count{{{labels}}} {count}\n"
        )
    };
    format!(
        "# TYPE http_requests counter\n{}{}# EOF\n",
        all(
            "method=\"GET\",route=\"/orders/{id}\",status=\"200\"",
            good,
            good
        ),
        all(
            "method=\"GET\",route=\"/orders/{id}\",status=\"503\"",
            0,
            bad
        ),
    )
}

fn pod(name: &str, restarts: i32) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"containers": [{"name": "api-gateway",
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}]}]},
        "status": {"containerStatuses": [{"name": "api-gateway", "image": "i", "imageID": "",
            "ready": true, "restartCount": restarts}]},
    }))
    .unwrap()
}

/// Each pod's page; the reading of the pods that have one, through a server.
async fn reading(pods: &[(&str, i32, &str)]) -> Reading {
    let pages: BTreeMap<String, String> = pods
        .iter()
        .map(|(name, _, page)| {
            (
                format!("/api/v1/namespaces/trii/pods/http:{name}:9090/proxy/metrics"),
                (*page).to_owned(),
            )
        })
        .collect();
    let server = Server::new(move |asked| match pages.get(&asked.path) {
        Some(page) if page == "away" => (503, json!("no endpoints")),
        Some(page) => (200, json!(page)),
        None => (404, json!(asked.path)),
    });
    let pods: Vec<_> = pods.iter().map(|(name, n, _)| pod(name, *n)).collect();
    Reading::of(
        &server.cluster("trii"),
        &pods,
        &MetricNames::default(),
        PATIENCE,
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_between_two_readings_is_their_difference() {
    let earlier = reading(&[("a", 0, &page(100, 5)), ("b", 0, &page(50, 0))]).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let later = reading(&[("a", 0, &page(1100, 7)), ("b", 0, &page(60, 0))]).await;
    let window = Window::between(&earlier, &later);
    assert_eq!((window.requests, window.errors), (1012, 2));
    assert_eq!(window.durations.total(), 1012);
    assert_eq!(window.span, Duration::from_secs(10));
    assert_eq!((window.pods, window.unread.len()), (2, 0));
    assert!(window.quantile(0.95).unwrap() <= Duration::from_micros(2500));
    assert!(window.quantile(0.999).unwrap() > Duration::from_micros(2500));
    let kept = serde_json::to_string(&window).unwrap();
    assert_eq!(serde_json::from_str::<Window>(&kept).unwrap(), window);
}

#[tokio::test(start_paused = true)]
async fn new_pods_count_from_zero_gone_ones_not_at_all_and_restarted_ones_again() {
    let earlier = reading(&[
        ("gone", 0, &page(900, 9)),
        ("fell", 0, &page(100, 9)),
        ("fast", 0, &page(10, 0)),
    ])
    .await;
    let later = reading(&[
        ("new", 0, &page(7, 1)),
        ("fell", 0, &page(20, 0)),
        // It has counted more since it was started again than before.
        ("fast", 1, &page(300, 0)),
    ])
    .await;
    let window = Window::between(&earlier, &later);
    assert_eq!((window.requests, window.errors), (8 + 20 + 300, 1));
    assert_eq!((window.pods, window.restarts), (3, 1));
}

/// Those whose clients have gone are told from those that are still waited for.
#[tokio::test(start_paused = true)]
async fn requests_that_are_never_answered_are_known() {
    let page = |answered: u64, started: u64, in_flight: u64| {
        format!(
            "{}http_requests_started_total {started}\nhttp_requests_in_flight {in_flight}\n",
            page(answered, 0).replace("# EOF\n", "")
        )
    };
    let earlier = reading(&[("a", 0, &page(100, 101, 1))]).await;
    let later = reading(&[("a", 0, &page(170, 201, 11))]).await;
    let window = Window::between(&earlier, &later);
    assert_eq!(
        (window.requests, window.given_up, window.in_flight),
        (70, 20, 11)
    );
}

/// Looked at in between, what a pod counted before it went or fell is not lost.
#[tokio::test(start_paused = true)]
async fn from_look_to_look_nothing_is_forgotten() {
    let looks = [
        reading(&[("goes", 0, &page(0, 0)), ("falls", 0, &page(0, 0))]).await,
        reading(&[("goes", 0, &page(50, 10)), ("falls", 0, &page(40, 10))]).await,
        reading(&[("falls", 1, &page(5, 0)), ("comes", 0, &page(3, 0))]).await,
    ];
    let windows = looks.windows(2).map(|it| Window::between(&it[0], &it[1]));
    let all = windows.fold(Window::default(), Window::and);
    assert_eq!((all.requests, all.errors), (60 + 50 + 8, 20));
    assert_eq!((all.restarts, all.pods), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_silent_once_is_counted_from_its_last_word() {
    let looks = [
        reading(&[("a", 0, &page(10, 0))]).await,
        reading(&[("a", 0, "away")]).await,
        reading(&[("a", 0, &page(30, 1))]).await,
    ];
    let [first, silent, last] = looks;
    let silent = silent.since(&first);
    let missing = Window::between(&first, &silent);
    assert_eq!((missing.requests, missing.unread.len()), (0, 1));
    let all = missing.and(Window::between(&silent, &last));
    assert_eq!((all.requests, all.errors, all.unread.len()), (21, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_asked_is_told_and_its_history_not_taken_for_news() {
    let good = page(1000, 10);
    let html = "<html>";
    let earlier = reading(&[("a", 0, &good), ("b", 0, "away"), ("c", 0, &good)]).await;
    let unread: Vec<_> = earlier.unread().collect();
    assert_eq!((unread.len(), unread[0].pod.as_str()), (1, "b"));
    let later = reading(&[("a", 0, &good), ("b", 0, &good), ("c", 0, html)]).await;
    let window = Window::between(&earlier, &later);
    assert_eq!((window.requests, window.pods), (0, 1));
    let told: Vec<_> = window.unread.iter().map(|it| it.pod.as_str()).collect();
    assert_eq!(told, ["b", "c"]);
    assert!(
        window.unread[1].reason.contains("line 1"),
        "{:?}",
        window.unread
    );
}

#[tokio::test(start_paused = true)]
async fn pods_are_asked_at_once_and_each_in_time() {
    // Nothing ever answers; all are given up after the patience of one.
    let server = Server::new(|_| Answer::Silence);
    let cluster = server.cluster("trii");
    let pods: Vec<_> = (0..10).map(|n| pod(&format!("p{n}"), 0)).collect();
    let begun = Instant::now();
    let reading = Reading::of(&cluster, &pods, &MetricNames::default(), PATIENCE).await;
    assert_eq!(begun.elapsed(), PATIENCE);
    assert_eq!(server.requests().len(), 10);
    assert_eq!(reading.unread().count(), 10);
}

#[tokio::test]
async fn a_pod_without_the_port_is_told() {
    let mut pod = pod("a", 0);
    pod.spec.as_mut().unwrap().containers[0].ports = None;
    let server = Server::new(|_| (500, json!("not asked")));
    let reading = Reading::of(
        &server.cluster("trii"),
        &[pod],
        &MetricNames::default(),
        PATIENCE,
    )
    .await;
    let unread = reading.unread().next().unwrap();
    assert_eq!(
        unread.reason,
        "it has no port that is named \"metrics\" or \"http\""
    );
}

#[test]
fn other_libraries_names_are_known() {
    let text =
        "http_requests_total_total{code=\"500\",method=\"get\"} 3\nhttp_requests{code=\"200\"} 4\n";
    let counters = read(text, &MetricNames::default()).unwrap();
    let kinds: Vec<_> = counters
        .answered
        .iter()
        .map(|(it, n)| (it.kind, *n))
        .collect();
    let expected = [(Kind::Answered, 4), (Kind::Answered, 3), (Kind::Error, 3)];
    assert_eq!(kinds, expected);
}

#[test]
fn a_service_may_call_its_metrics_otherwise() {
    let names = MetricNames {
        requests: "served".to_owned(),
        durations: "took_seconds".to_owned(),
        ..MetricNames::default()
    };
    let text = "served_total{code=\"200\"} 4\ntook_seconds_bucket{le=\"+Inf\"} 4\n\
        http_requests_total 9\n";
    let page = read(text, &names).unwrap();
    let kinds: Vec<_> = page.answered.iter().map(|(it, n)| (it.kind, *n)).collect();
    assert_eq!(
        kinds,
        [(Kind::Answered, 4), (Kind::Within(Duration::MAX), 4)]
    );
}

#[test]
fn counts_that_are_none_and_bounds_that_are_none_are_refused() {
    for text in [
        "http_requests_total NaN\n",
        "http_requests_total -1\n",
        "http_requests_total +Inf\n",
        "http_request_duration_seconds_bucket 1\n",
        "http_request_duration_seconds_bucket{le=\"NaN\"} 1\n",
        "http_request_duration_seconds_bucket{le=\"-1\"} 1\n",
    ] {
        assert!(read(text, &MetricNames::default()).is_err(), "{text}");
    }
}

fn counted(counts: [u64; 2], restarts: i32) -> Reading {
    let counted = Counted {
        pod: "a".into(),
        restarts,
        counters: read(&page(counts[0], counts[1]), &MetricNames::default()).ok(),
        unread: None,
    };
    Reading {
        refusals: BTreeMap::new(),
        at: Instant::now(),
        pods: [("uid-a".to_owned(), counted)].into(),
    }
}

proptest! {
    #[test]
    fn no_window_has_more_than_was_ever_counted_nor_more_errors_than_requests(
        before in proptest::array::uniform2(0..1000u64),
        now in proptest::array::uniform2(0..1000u64), restarted in any::<bool>(),
    ) {
        let window = Window::between(&counted(before, 0), &counted(now, restarted.into()));
        prop_assert!(window.errors <= window.requests);
        prop_assert!(window.requests <= now[0] + now[1]);
        prop_assert_eq!(window.durations.total(), window.requests);
        let grew = !restarted && now[0] >= before[0] && now[1] >= before[1];
        if grew {
            prop_assert_eq!(window.requests, now[0] + now[1] - before[0] - before[1]);
        }
    }
}

#[test]
fn metrics_are_at_the_port_of_that_name_else_at_the_one_for_requests() {
    let mut pod = pod("a", 0);
    assert_eq!(port(&pod), Some(9090));
    let mut only = |name: &str| {
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        let ports = container.ports.as_mut().unwrap();
        ports.retain(|it| it.name.as_deref() == Some(name));
        port(&pod)
    };
    assert_eq!(only("http"), Some(8080));
    assert_eq!(only("other"), None);
}
