use proptest::prelude::*;
use serde_json::json;

use super::*;
use kubernetes::mock::{MockAnswer, MockServer};

const TIMEOUT: Duration = Duration::from_secs(1);

/// The metrics of a platform service after `good` answers and `bad`, slow ones.
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

/// Reads pods with these names, restarts and pages.
async fn reading(pods: &[(&str, i32, &str)]) -> Reading {
    let pages = pods.iter().map(|(name, _, page)| {
        let path = format!("/api/v1/namespaces/trii/pods/http:{name}:9090/proxy/metrics");
        (path, (*page).to_owned())
    });
    let pages: BTreeMap<String, String> = pages.collect();
    let server = MockServer::new(move |request| match pages.get(&request.path) {
        Some(page) if page == "away" => (503, json!("no endpoints")),
        Some(page) => (200, json!(page)),
        None => (404, json!(request.path)),
    });
    let pods: Vec<_> = pods.iter().map(|(name, n, _)| pod(name, *n)).collect();
    reading_of(&server, &pods).await
}

async fn reading_of(server: &MockServer, pods: &[Pod]) -> Reading {
    let (cluster, names) = (server.cluster("trii"), MetricNames::default());
    Reading::of(&cluster, pods, &names, TIMEOUT).await
}

#[tokio::test(start_paused = true)]
async fn a_window_is_the_difference_of_two_readings() {
    let earlier = reading(&[("a", 0, &page(100, 5)), ("b", 0, &page(50, 0))]).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let later = reading(&[("a", 0, &page(1100, 7)), ("b", 0, &page(60, 0))]).await;
    let window = Window::between(&earlier, &later);
    assert_eq!((window.requests, window.errors), (1012, 2));
    assert_eq!(window.durations.total(), 1012);
    assert_eq!(window.span, Duration::from_secs(10));
    assert_eq!((window.pods, window.unread.len()), (2, 0));
    assert!(window.durations.quantile(0.95).unwrap() <= Duration::from_micros(2500));
    assert!(window.durations.quantile(0.999).unwrap() > Duration::from_micros(2500));
    let kept = serde_json::to_string(&window).unwrap();
    assert_eq!(serde_json::from_str::<Window>(&kept).unwrap(), window);
}

#[tokio::test(start_paused = true)]
async fn new_and_restarted_pods_count_from_zero_and_deleted_ones_not_at_all() {
    let earlier = reading(&[
        ("deleted", 0, &page(900, 9)),
        ("reset", 0, &page(100, 9)),
        ("fast", 0, &page(10, 0)),
    ])
    .await;
    let later = reading(&[
        ("new", 0, &page(7, 1)),
        ("reset", 0, &page(20, 0)),
        // It has counted more after its restart than before.
        ("fast", 1, &page(300, 0)),
    ])
    .await;
    let window = Window::between(&earlier, &later);
    assert_eq!((window.requests, window.errors), (8 + 20 + 300, 1));
    assert_eq!((window.pods, window.restarts), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn requests_that_clients_gave_up_are_not_in_flight() {
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

#[tokio::test(start_paused = true)]
async fn the_sum_of_windows_has_the_counts_before_a_restart_or_deletion() {
    let readings = [
        reading(&[("old", 0, &page(0, 0)), ("restarts", 0, &page(0, 0))]).await,
        reading(&[("old", 0, &page(50, 10)), ("restarts", 0, &page(40, 10))]).await,
        reading(&[("restarts", 1, &page(5, 0)), ("new", 0, &page(3, 0))]).await,
    ];
    let windows = readings.windows(2);
    let windows = windows.map(|it| Window::between(&it[0], &it[1]));
    let all = windows.fold(Window::default(), Window::and);
    assert_eq!((all.requests, all.errors), (60 + 50 + 8, 20));
    assert_eq!((all.restarts, all.pods), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_unread_once_is_counted_from_its_last_reading() {
    let first = reading(&[("a", 0, &page(10, 0))]).await;
    let silent = reading(&[("a", 0, "away")]).await.since(&first);
    let last = reading(&[("a", 0, &page(30, 1))]).await;
    let missing = Window::between(&first, &silent);
    assert_eq!((missing.requests, missing.unread.len()), (0, 1));
    let all = missing.and(Window::between(&silent, &last));
    assert_eq!((all.requests, all.errors, all.unread.len()), (21, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_unread_pod_is_reported_and_its_earlier_requests_do_not_count() {
    let good = page(1000, 10);
    let html = "<html>";
    let earlier = reading(&[("a", 0, &good), ("b", 0, "away"), ("c", 0, &good)]).await;
    let unread: Vec<_> = earlier.unread().collect();
    assert_eq!((unread.len(), unread[0].pod.as_str()), (1, "b"));
    let later = reading(&[("a", 0, &good), ("b", 0, &good), ("c", 0, html)]).await;
    let window = Window::between(&earlier, &later);
    assert_eq!((window.requests, window.pods), (0, 1));
    let unread: Vec<_> = window.unread.iter().map(|it| it.pod.as_str()).collect();
    assert_eq!(unread, ["b", "c"]);
    let reason = &window.unread[1].reason;
    assert!(reason.contains("line 1"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn pods_are_read_concurrently_with_one_timeout() {
    let server = MockServer::new(|_| MockAnswer::Silence);
    let pods: Vec<_> = (0..10).map(|n| pod(&format!("p{n}"), 0)).collect();
    let begun = Instant::now();
    let reading = reading_of(&server, &pods).await;
    assert_eq!(begun.elapsed(), TIMEOUT);
    assert_eq!(server.requests().len(), 10);
    assert_eq!(reading.unread().count(), 10);
}

#[tokio::test]
async fn a_pod_without_the_port_is_reported() {
    let mut pod = pod("a", 0);
    pod.spec.as_mut().unwrap().containers[0].ports = None;
    let server = MockServer::new(|_| (500, json!("no request is expected")));
    let reading = reading_of(&server, &[pod]).await;
    let unread = reading.unread().next().unwrap();
    assert_eq!(
        unread.reason,
        "it has no port that is named \"metrics\" or \"http\""
    );
}

#[test]
fn names_of_other_libraries_are_known() {
    let text =
        "http_requests_total_total{code=\"500\",method=\"get\"} 3\nhttp_requests{code=\"200\"} 4\n";
    let page = read(text, &MetricNames::default()).unwrap();
    let kinds: Vec<_> = page.answered.iter().map(|(it, n)| (it.kind, *n)).collect();
    let expected = [
        (SeriesKind::Answered, 4),
        (SeriesKind::Answered, 3),
        (SeriesKind::Error, 3),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn the_names_of_metrics_are_configurable() {
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
        [
            (SeriesKind::Answered, 4),
            (SeriesKind::Within(Duration::MAX), 4)
        ]
    );
}

#[test]
fn invalid_counts_and_bounds_are_refused() {
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
    let counted = PodReading {
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
    fn a_window_has_no_more_requests_than_counted_and_no_more_errors_than_requests(
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
fn metrics_are_at_the_port_metrics_or_else_http() {
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
