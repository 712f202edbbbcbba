//! What becomes of requests, against servers of this machine.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use prober::{Answer, Lane, Outcome, Spec, Target};
use support::{Manner, Server, certificate, count, probe, probe_all};
use tokio::time::{Instant, timeout};

const OK: Outcome = Outcome::Status(200);

fn connections(answers: &[Answer]) -> BTreeSet<u64> {
    let on = answers.iter().filter_map(|answer| answer.on);
    on.map(|on| on.connection).collect()
}

#[tokio::test]
async fn every_answer_says_who_gave_it_and_on_which_connection() {
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
    // Three, or more where the machine was busy and an answer took its time.
    let many = connections(&pooled).len();
    assert!(
        (3..15).contains(&many),
        "{many} for {} requests",
        pooled.len()
    );
    let first = |answer: &&Answer| answer.on.unwrap().request == 1;
    assert_eq!(pooled.iter().filter(first).count(), many);
}

/// By the server's watch, and not by what the prober says: whatever the server does, a request
/// comes in when it is due, none before that, and none waits for another's answer.
#[tokio::test]
async fn requests_come_in_at_a_fixed_rate_whatever_the_server_does() {
    const RATE: f64 = 100.0;
    let stands_still = Duration::from_millis(700);
    for manner in [
        Manner::Status(200),
        Manner::After(Duration::from_millis(200)),
        Manner::FrozenUntil(Instant::now() + 4 * stands_still),
        Manner::Silent,
    ] {
        let server = Server::start(manner).await;
        for mut lane in [
            Lane::new_connection(server.target(), RATE),
            Lane::pooled(server.target(), RATE, 1),
        ] {
            lane.timeout_seconds = 1.0;
            let (before, begun) = (server.arrivals(Instant::now()).len(), Instant::now());
            let (mut answers, _) = probe(lane, stands_still.as_secs_f64()).await;
            let arrivals = server.arrivals(begun).split_off(before);
            assert_eq!((arrivals.len(), answers.len()), (70, 70), "{manner:?}");
            let due = (0..70).map(|number| f64::from(number) / RATE);
            let mut late: Vec<f64> = arrivals.iter().zip(due).map(|(at, due)| at - due).collect();
            late.sort_by(f64::total_cmp);
            assert!(late[0] >= 0.0, "{manner:?}: {} s early", -late[0]);
            // As on a busy machine, where not all are in time, the half that is tells. What all
            // are late by is the time that it took to start.
            let usual = late[35] - late[0];
            assert!(usual < 0.02, "{manner:?}: {usual} s late");
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
    let many = connections(&answers).len();
    assert!((8..=30).contains(&many), "{many}");
}

#[tokio::test]
async fn a_server_that_closes_between_requests_costs_none() {
    for manner in [Manner::ThenClose(3), Manner::SaysClose] {
        let server = Server::start(manner).await;
        let (answers, _) = probe(Lane::pooled(server.target(), 50.0, 2), 0.5).await;
        assert_eq!((answers.len(), count(&answers, &OK)), (25, 25));
        assert!(connections(&answers).len() > 2);
    }
}

#[tokio::test]
async fn a_request_that_a_server_closes_on_is_a_reset_and_is_not_tried_again() {
    let server = Server::start(Manner::ThenCutOff(3)).await;
    let (answers, lag) = probe(Lane::pooled(server.target(), 50.0, 1), 0.4).await;
    assert_eq!((answers.len(), lag.due), (20, 20));
    let resets: Vec<&Answer> = answers.iter().filter(|answer| answer.failed()).collect();
    // Every fourth of a connection; the pool may have had more than one.
    assert!((1..=5).contains(&resets.len()), "{}", resets.len());
    for reset in resets {
        assert_eq!(reset.outcome, Outcome::Reset);
        assert_eq!(reset.on.unwrap().request, 4);
        // Whom it was sent to; but that is no answer of that version's.
        assert_eq!(reset.by.as_ref().unwrap().instance, "pod-1");
        assert_eq!(reset.version(), None);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_reset() {
    let server = Server::start(Manner::CutShort).await;
    let (answers, _) = probe(Lane::new_connection(server.target(), 50.0), 0.2).await;
    assert_eq!(count(&answers, &Outcome::Reset), 10);
}

#[tokio::test]
async fn a_port_where_nothing_listens_refuses() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::of(format!("http://{}/", listener.local_addr().unwrap()));
    drop(listener);
    for lane in [
        Lane::new_connection(target.clone(), 50.0),
        Lane::pooled(target, 50.0, 2),
    ] {
        let (answers, _) = probe(lane, 0.2).await;
        assert_eq!(count(&answers, &Outcome::Refused), 10);
        assert!(answers.iter().all(|it| it.failed() && it.on.is_none()));
    }
}

#[tokio::test]
async fn silence_is_a_time_out_from_when_the_request_was_due() {
    let server = Server::start(Manner::Silent).await;
    let mut lane = Lane::pooled(server.target(), 20.0, 1);
    lane.timeout_seconds = 0.2;
    let (answers, _) = probe(lane, 0.2).await;
    assert_eq!(count(&answers, &Outcome::TimedOut), 4);
    for answer in &answers {
        assert!(
            (200_000..1_000_000).contains(&answer.took),
            "{}",
            answer.took
        );
    }
    assert_eq!(
        connections(&answers).len(),
        4,
        "one that timed out is not kept"
    );
}

#[tokio::test]
async fn what_is_not_http_is_told_of_as_such() {
    let server = Server::start(Manner::Garbage).await;
    let (answers, _) = probe(Lane::new_connection(server.target(), 50.0), 0.1).await;
    assert_eq!(answers.len(), 5);
    for answer in answers {
        assert!(
            matches!(answer.outcome, Outcome::Protocol(_)),
            "{}",
            answer.outcome
        );
    }
}

#[tokio::test]
async fn a_status_is_good_or_bad_as_the_lane_says() {
    for (status, good) in [(200, true), (302, true), (404, false), (503, false)] {
        let server = Server::start(Manner::Status(status)).await;
        let (answers, _) = probe(Lane::new_connection(server.target(), 50.0), 0.1).await;
        assert_eq!(count(&answers, &Outcome::Status(status)), 5);
        assert!(
            answers
                .iter()
                .all(|it| it.good == good && it.failed() != good)
        );
    }
    let server = Server::start(Manner::Status(404)).await;
    let mut lane = Lane::new_connection(server.target(), 50.0);
    lane.good = vec![404];
    let (answers, _) = probe(lane, 0.1).await;
    assert!(answers.iter().all(|answer| answer.good));
}

#[tokio::test]
async fn a_bad_answer_is_told_of_in_its_own_words() {
    let says_why = r#"{"title":"Service Unavailable","detail":"no database"}"#;
    let in_its_words = Outcome::Problem(503, "no database".into());
    let too_long = format!(r#"{{"detail":"{}"}}"#, "long ".repeat(1000));
    for (document, told) in [
        (says_why, in_its_words),
        (r#"{"title":"Service Unavailable"}"#, Outcome::Status(503)),
        ("no document", Outcome::Status(503)),
        (too_long.leak(), Outcome::Status(503)),
    ] {
        let server = Server::start(Manner::Unavailable(document)).await;
        let (answers, _) = probe(Lane::pooled(server.target(), 50.0, 1), 0.1).await;
        assert_eq!(count(&answers, &told), 5, "{document}");
        assert!(
            answers
                .iter()
                .all(|it| it.failed() && it.version().is_some())
        );
        assert_eq!(connections(&answers).len(), 1, "it is kept as any");
    }
}

#[tokio::test]
async fn a_stall_shows_in_every_request_that_was_due_in_it() {
    let thaw = Instant::now() + Duration::from_secs(1);
    let server = Server::start(Manner::FrozenUntil(thaw)).await;
    let (answers, lag) = probe(Lane::new_connection(server.target(), 100.0), 1.2).await;
    assert_eq!((answers.len(), count(&answers, &OK)), (120, 120));
    let in_it = server.arrivals(thaw).iter().filter(|at| **at < 0.0).count();
    assert!(in_it >= 80, "{in_it} were sent while it stood still");
    // Of one request a time, one would be slow. Due evenly over the second, half wait longer
    // than half of it.
    let slow = answers
        .iter()
        .filter(|answer| answer.took > 500_000)
        .count();
    assert!(slow >= 40, "{slow}");
    assert_eq!(lag.dropped, 0);
}

#[tokio::test]
async fn at_its_bound_in_flight_it_drops_says_so_and_proves_nothing() {
    let thaw = Instant::now() + Duration::from_secs(3);
    let server = Server::start(Manner::FrozenUntil(thaw)).await;
    let mut lane = Lane::new_connection(server.target(), 100.0);
    lane.max_in_flight = 5;
    let (answers, lag) = probe(lane, 0.5).await;
    assert_eq!(answers.len(), 50, "none is passed over in silence");
    assert_eq!(count(&answers, &OK), 5);
    assert_eq!((count(&answers, &Outcome::Dropped), lag.dropped), (45, 45));
    assert!(answers.iter().all(|answer| !answer.failed()));
    let why = lag.fell_behind().unwrap().to_string();
    assert!(why.contains("45 of 50 requests dropped"), "{why}");
}

#[tokio::test]
async fn a_rate_beyond_its_means_is_a_falling_behind() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::of(format!("http://{}/", listener.local_addr().unwrap()));
    drop(listener);
    // A fast machine is refused 100,000 times a second, and none ten times as often.
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
async fn stopped_it_waits_for_what_is_in_flight() {
    let server = Server::start(Manner::After(Duration::from_millis(500))).await;
    let lane = Lane::slow(server.target(), 50.0, 0.5);
    let spec = Spec {
        lanes: vec![lane],
        seconds: 600.0,
    };
    let (probing, mut answers) = prober::start(&spec).await.unwrap();
    let first = answers.recv().await.unwrap();
    assert_eq!(first.outcome, OK);
    probing.stop();
    let mut all = vec![first];
    while let Some(answer) = answers.recv().await {
        all.push(answer);
    }
    assert!(all.len() > 15, "those that were in flight: {}", all.len());
    assert_eq!(count(&all, &OK), all.len());
    let counted = probing.so_far();
    assert_eq!((counted.good, counted.failed), (all.len() as u64, 0));
    assert_eq!(probing.ended().await.due, all.len() as u64);
}

#[tokio::test]
async fn dropped_it_ends_at_once() {
    let server = Server::start(Manner::Silent).await;
    let spec = Spec {
        lanes: vec![Lane::slow(server.target(), 50.0, 600.0)],
        seconds: 600.0,
    };
    let (probing, mut answers) = prober::start(&spec).await.unwrap();
    drop(probing);
    let ended = timeout(Duration::from_secs(5), answers.recv()).await;
    assert_eq!(ended, Ok(None));
}

#[tokio::test]
async fn tls_is_spoken_with_the_name_of_the_url_and_trust_in_one_authority() {
    let (server, authority) = Server::start_tls().await;
    let target = Target {
        url: "https://localhost:443/quotes".into(),
        connect: Some(server.address.to_string()),
        authority: Some(authority),
    };
    let (pooled, _) = probe(Lane::pooled(target.clone(), 50.0, 2), 0.2).await;
    assert_eq!(count(&pooled, &OK), 10);
    assert!((2..10).contains(&connections(&pooled).len()), "kept");
    let (fresh, _) = probe(Lane::new_connection(target.clone(), 50.0), 0.2).await;
    assert_eq!(count(&fresh, &OK), 10);
    let strange = [
        Target {
            authority: Some(certificate().1),
            ..target.clone()
        },
        Target {
            url: "https://elsewhere.example/quotes".into(),
            ..target
        },
    ];
    for target in strange {
        let (answers, _) = probe(Lane::new_connection(target, 50.0), 0.1).await;
        assert_eq!(answers.len(), 5);
        for answer in answers {
            assert!(
                matches!(answer.outcome, Outcome::Tls(_)),
                "{}",
                answer.outcome
            );
        }
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_at_once() {
    let mut spec = Spec {
        lanes: vec![Lane::new_connection(Target::of("http://127.0.0.1:1/"), 1.0)],
        seconds: 0.0,
    };
    let error = prober::start(&spec).await.err().unwrap().to_string();
    assert!(error.starts_with("seconds is 0"), "{error}");
    spec.lanes.clear();
    assert!(prober::start(&spec).await.is_err());
}
