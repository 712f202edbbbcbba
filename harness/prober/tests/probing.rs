//! The prober with servers on this machine.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use prober::{Answer, Lane, ProbeTarget, RequestOutcome, Spec};
use support::{
    Manner, Server, certificate, closed_port, count, headers, probe, probe_all, received,
};
use tokio::time::{Instant, timeout};

const OK: RequestOutcome = RequestOutcome::Status(200);

fn connections(answers: &[Answer]) -> BTreeSet<u64> {
    let on = answers.iter().filter_map(|answer| answer.on);
    on.map(|on| on.connection).collect()
}

#[tokio::test]
async fn every_answer_has_its_identity_and_connection() {
    let server = Server::start(Manner::Status(200)).await;
    let (fresh, lag) = probe(Lane::new_connection(server.target(), 100.0), 0.3).await;
    assert_eq!((fresh.len(), count(&fresh, &OK)), (30, 30));
    assert_eq!((lag.due, lag.dropped), (30, 0));
    assert_eq!(connections(&fresh).len(), 30);
    for answer in &fresh {
        let by = answer.by.as_ref().unwrap();
        assert_eq!(
            (by.service.as_str(), by.instance.as_str()),
            ("market-data-service", "pod-1")
        );
        assert_eq!(answer.version(), Some("v2.1.0"));
        assert_eq!(answer.on.unwrap().request, 1);
        assert!(answer.good && answer.took >= answer.sent_after);
    }
    let (pooled, _) = probe(Lane::pooled(server.target(), 100.0, 3), 0.3).await;
    // Three, or more if the machine was busy and an answer was late.
    let opened = connections(&pooled).len();
    assert!((3..15).contains(&opened), "{opened}");
    let first = |answer: &&Answer| answer.on.unwrap().request == 1;
    assert_eq!(pooled.iter().filter(first).count(), opened);
}

/// By the server's clock: each request arrives when it is due, and waits for no other answer.
#[tokio::test]
async fn requests_arrive_at_a_fixed_rate_whatever_the_server_does() {
    const RATE: f64 = 100.0;
    let duration = Duration::from_millis(700);
    for manner in [
        Manner::Status(200),
        Manner::After(Duration::from_millis(200)),
        Manner::FrozenUntil(Instant::now() + 4 * duration),
        Manner::Silent,
    ] {
        let server = Server::start(manner).await;
        for mut lane in [
            Lane::new_connection(server.target(), RATE),
            Lane::pooled(server.target(), RATE, 1),
        ] {
            lane.timeout_seconds = 1.0;
            let (before, started) = (server.arrivals(Instant::now()).len(), Instant::now());
            let (mut answers, _) = probe(lane, duration.as_secs_f64()).await;
            let arrivals = server.arrivals(started).split_off(before);
            assert_eq!((arrivals.len(), answers.len()), (70, 70), "{manner:?}");
            let due = (0..70).map(|number| f64::from(number) / RATE);
            let mut late: Vec<f64> = arrivals.iter().zip(due).map(|(at, due)| at - due).collect();
            late.sort_by(f64::total_cmp);
            assert!(late[0] >= 0.0, "{manner:?}: {} s early", -late[0]);
            // On a busy machine some are late: the median decides. The first one's delay is the
            // time of the start.
            let median = late[35] - late[0];
            assert!(median < 0.02, "{manner:?}: {median} s late");
            answers.sort_by_key(|answer| answer.intended);
            for pair in answers.windows(2) {
                let apart = pair[1].intended - pair[0].intended;
                assert!((9_990..=10_010).contains(&apart), "{apart}");
            }
        }
    }
}

#[tokio::test]
async fn a_pool_grows_when_its_connections_are_busy() {
    let server = Server::start(Manner::After(Duration::from_millis(100))).await;
    let (answers, _) = probe(Lane::pooled(server.target(), 100.0, 1), 0.3).await;
    assert_eq!(count(&answers, &OK), 30);
    // 100 requests/s of 100 ms each: ten in flight (Little's law).
    let opened = connections(&answers).len();
    assert!((8..=30).contains(&opened), "{opened}");
}

#[tokio::test]
async fn no_request_fails_if_a_server_closes_between_requests() {
    for manner in [Manner::ThenClose(3), Manner::CloseHeader] {
        let server = Server::start(manner).await;
        let (answers, _) = probe(Lane::pooled(server.target(), 50.0, 2), 0.5).await;
        assert_eq!((answers.len(), count(&answers, &OK)), (25, 25));
        assert!(connections(&answers).len() > 2);
    }
}

#[tokio::test]
async fn a_request_is_a_reset_and_not_retried_if_the_server_closes_during_it() {
    let server = Server::start(Manner::ThenCutOff(3)).await;
    let (answers, lag) = probe(Lane::pooled(server.target(), 50.0, 1), 0.4).await;
    assert_eq!((answers.len(), lag.due), (20, 20));
    let resets: Vec<&Answer> = answers.iter().filter(|answer| answer.failed()).collect();
    // Every fourth of a connection; the pool may have had more than one.
    assert!((1..=5).contains(&resets.len()), "{}", resets.len());
    for reset in resets {
        assert_eq!(reset.outcome, RequestOutcome::Reset);
        assert_eq!(reset.on.unwrap().request, 4);
        // It received the request, but did not answer.
        assert_eq!(reset.by.as_ref().unwrap().instance, "pod-1");
        assert_eq!(reset.version(), None);
    }
}

#[tokio::test]
async fn an_incomplete_answer_is_a_reset() {
    let server = Server::start(Manner::CutShort).await;
    let (answers, _) = probe(Lane::new_connection(server.target(), 50.0), 0.2).await;
    assert_eq!(count(&answers, &RequestOutcome::Reset), 10);
}

#[tokio::test]
async fn a_port_where_nothing_listens_refuses() {
    let target = closed_port();
    for lane in [
        Lane::new_connection(target.clone(), 50.0),
        Lane::pooled(target, 50.0, 2),
    ] {
        let (answers, _) = probe(lane, 0.2).await;
        assert_eq!(count(&answers, &RequestOutcome::Refused), 10);
        assert!(answers.iter().all(|it| it.failed() && it.on.is_none()));
    }
}

#[tokio::test]
async fn silence_is_a_time_out_from_when_the_request_was_due() {
    let server = Server::start(Manner::Silent).await;
    let mut lane = Lane::pooled(server.target(), 20.0, 1);
    lane.timeout_seconds = 0.2;
    let (answers, _) = probe(lane, 0.2).await;
    assert_eq!(count(&answers, &RequestOutcome::TimedOut), 4);
    for answer in &answers {
        let took = answer.took;
        assert!((200_000..1_000_000).contains(&took), "{took}");
    }
    let opened = connections(&answers).len();
    assert_eq!(opened, 4, "no connection is used again after a time-out");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_protocol_error() {
    let server = Server::start(Manner::Garbage).await;
    let (answers, _) = probe(Lane::new_connection(server.target(), 50.0), 0.1).await;
    assert_eq!(answers.len(), 5);
    for Answer { outcome, .. } in answers {
        assert!(matches!(outcome, RequestOutcome::Protocol(_)), "{outcome}");
    }
}

#[tokio::test]
async fn the_lane_determines_the_good_statuses() {
    for (status, lanes_good, good) in [
        (200, vec![], true),
        (302, vec![], true),
        (404, vec![], false),
        (503, vec![], false),
        (404, vec![404], true),
    ] {
        let server = Server::start(Manner::Status(status)).await;
        let mut lane = Lane::new_connection(server.target(), 50.0);
        lane.good = lanes_good;
        let (answers, _) = probe(lane, 0.1).await;
        assert_eq!(count(&answers, &RequestOutcome::Status(status)), 5);
        let mut answers = answers.iter();
        assert!(answers.all(|it| it.good == good && it.failed() != good));
    }
}

#[tokio::test]
async fn a_bad_answer_has_the_detail_of_its_problem_document() {
    let with_detail = r#"{"title":"Service Unavailable","detail":"no database"}"#;
    let problem = RequestOutcome::Problem(503, "no database".into());
    let too_long = format!(r#"{{"detail":"{}"}}"#, "long ".repeat(1000));
    for (document, outcome) in [
        (with_detail, problem),
        (
            r#"{"title":"Service Unavailable"}"#,
            RequestOutcome::Status(503),
        ),
        ("no document", RequestOutcome::Status(503)),
        (too_long.leak(), RequestOutcome::Status(503)),
    ] {
        let server = Server::start(Manner::Unavailable(document)).await;
        let (answers, _) = probe(Lane::pooled(server.target(), 50.0, 1), 0.1).await;
        assert_eq!(count(&answers, &outcome), 5, "{document}");
        let mut bad = answers.iter();
        assert!(bad.all(|it| it.failed() && it.version().is_some()));
        assert_eq!(connections(&answers).len(), 1, "the connection is kept");
    }
}

#[tokio::test]
async fn a_stall_delays_every_request_that_was_due_in_it() {
    let thaw = Instant::now() + Duration::from_secs(1);
    let server = Server::start(Manner::FrozenUntil(thaw)).await;
    let (answers, lag) = probe(Lane::new_connection(server.target(), 100.0), 1.2).await;
    assert_eq!((answers.len(), count(&answers, &OK)), (120, 120));
    let arrivals = server.arrivals(thaw);
    let stalled = arrivals.iter().filter(|at| **at < 0.0).count();
    assert!(stalled >= 80, "{stalled} were sent during the stall");
    // With one request at a time, one would be slow. Of requests that are due evenly over the
    // second, half wait longer than half of it.
    let slow = answers.iter().filter(|it| it.took > 500_000).count();
    assert!(slow >= 40, "{slow}");
    assert_eq!(lag.dropped, 0);
}

#[tokio::test]
async fn with_too_many_in_flight_it_drops_and_is_inconclusive() {
    let thaw = Instant::now() + Duration::from_secs(3);
    let server = Server::start(Manner::FrozenUntil(thaw)).await;
    let mut lane = Lane::new_connection(server.target(), 100.0);
    lane.max_in_flight = 5;
    let (answers, lag) = probe(lane, 0.5).await;
    assert_eq!(answers.len(), 50, "each request is reported");
    assert_eq!(count(&answers, &OK), 5);
    assert_eq!(
        (count(&answers, &RequestOutcome::Dropped), lag.dropped),
        (45, 45)
    );
    assert!(answers.iter().all(|answer| !answer.failed()));
    let why = lag.fell_behind().unwrap().to_string();
    assert!(why.contains("45 of 50 requests dropped"), "{why}");
}

#[tokio::test]
async fn it_falls_behind_at_a_rate_that_is_too_high() {
    let target = closed_port();
    // A fast machine makes 100,000 refused connections a second, and none makes a million.
    let lanes = (0..10).map(|number| Lane {
        name: format!("lane-{number}"),
        max_in_flight: 1_000_000,
        ..Lane::new_connection(target.clone(), 100_000.0)
    });
    let (_, lag) = probe_all(lanes.collect(), 0.1).await;
    assert_eq!((lag.due, lag.dropped), (100_000, 0));
    assert!(lag.fell_behind().is_some(), "{lag:?}");
    assert!(lag.cpu_seconds > 0.01, "{lag:?}");
}

#[tokio::test]
async fn it_stops_after_the_requests_in_flight() {
    let server = Server::start(Manner::After(Duration::from_millis(500))).await;
    let spec = Spec {
        lanes: vec![Lane::slow(server.target(), 50.0, 0.5)],
        seconds: 600.0,
        headers: headers(),
    };
    let (probing, mut answers) = prober::start(&spec).await.unwrap();
    let first = answers.recv().await.unwrap();
    assert_eq!(first.outcome, OK);
    probing.stop();
    let in_flight = received(answers).await;
    assert!(in_flight.len() > 15, "{}", in_flight.len());
    assert_eq!(count(&in_flight, &OK), in_flight.len());
    let all = 1 + in_flight.len() as u64;
    let counts = probing.so_far();
    assert_eq!((counts.good, counts.failed), (all, 0));
    assert_eq!(probing.ended().await.due, all);
}

#[tokio::test]
async fn it_stops_immediately_when_it_is_dropped() {
    let server = Server::start(Manner::Silent).await;
    let spec = Spec {
        lanes: vec![Lane::slow(server.target(), 50.0, 600.0)],
        seconds: 600.0,
        headers: headers(),
    };
    let (probing, mut answers) = prober::start(&spec).await.unwrap();
    drop(probing);
    let ended = timeout(Duration::from_secs(5), answers.recv()).await;
    assert_eq!(ended, Ok(None));
}

#[tokio::test]
async fn tls_uses_the_name_of_the_url_and_trusts_one_authority() {
    let (server, authority) = Server::start_tls().await;
    let target = ProbeTarget {
        url: "https://localhost:443/quotes".into(),
        connect: Some(server.address.to_string()),
        authority: Some(authority),
    };
    let (pooled, _) = probe(Lane::pooled(target.clone(), 50.0, 2), 0.2).await;
    assert_eq!(count(&pooled, &OK), 10);
    assert!((2..10).contains(&connections(&pooled).len()));
    let (fresh, _) = probe(Lane::new_connection(target.clone(), 50.0), 0.2).await;
    assert_eq!(count(&fresh, &OK), 10);
    let untrusted = [
        ProbeTarget {
            authority: Some(certificate().1),
            ..target.clone()
        },
        ProbeTarget {
            url: "https://elsewhere.example/quotes".into(),
            ..target
        },
    ];
    for target in untrusted {
        let (answers, _) = probe(Lane::new_connection(target, 50.0), 0.1).await;
        assert_eq!(answers.len(), 5);
        for Answer { outcome, .. } in answers {
            assert!(matches!(outcome, RequestOutcome::Tls(_)), "{outcome}");
        }
    }
}

#[tokio::test]
async fn an_invalid_spec_fails_immediately() {
    let mut spec = Spec {
        lanes: vec![Lane::new_connection(
            ProbeTarget::of("http://127.0.0.1:1/"),
            1.0,
        )],
        seconds: 0.0,
        headers: headers(),
    };
    let error = prober::start(&spec).await.err().unwrap().to_string();
    assert!(error.starts_with("seconds is 0"), "{error}");
    spec.lanes.clear();
    assert!(prober::start(&spec).await.is_err());
}
