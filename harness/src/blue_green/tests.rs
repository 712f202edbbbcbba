//! Whole releases, against an API server that is made up.

mod fake;

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::analysis::Thresholds;
use super::lock::LockError;
use super::policy::Policy;
use super::record::{Book, Outcome};
use super::*;
use crate::cluster::mock::Fault;
use fake::{Fake, LEASE, QUOTAS, SERVICE, SERVICES};

fn policy() -> Policy {
    Policy {
        lease: Duration::from_secs(15),
        green_ready: Duration::from_secs(60),
        baseline: Duration::from_secs(5),
        watch: Duration::from_secs(10),
        analysis: policy::Evidence::Required,
        metrics: traffic::MetricNames::default(),
        ingress: None,
        canary: None,
        prometheus: None,
        warm_up: Duration::from_secs(2),
        drain: Duration::from_secs(5),
        thresholds: Thresholds {
            min_requests: 50,
            max_error_share: 0.01,
            max_error_increase: 0.005,
            latency_quantile: 0.95,
            max_latency_ratio: 1.5,
            min_latency_increase: Duration::from_millis(50),
            max_latency: None,
        },
        smoke: std::collections::BTreeMap::new(),
    }
}

fn holder(run: &str) -> Holder {
    Holder {
        user: "ana".into(),
        host: "laptop".into(),
        pid: 1,
        run: run.into(),
    }
}

fn deployer<'a>(fake: &'a Fake, policy: &'a Policy, run: &str) -> Deployer<'a> {
    Deployer {
        cluster: &fake.cluster,
        service: SERVICE,
        policy,
        smoke: &[],
        probe_from: ProbeFrom::Nowhere,
        holder: holder(run),
        release: run.to_owned(),
        called_off: CancellationToken::new(),
    }
}

fn deploy(version: &str, manual: bool) -> Ask<'_> {
    Ask::Deploy { version, manual }
}

/// Releases v2; `meanwhile` is asked after every event.
async fn release(
    fake: &Fake,
    run: &str,
    mut meanwhile: impl FnMut(&Happened),
) -> Result<Conclusion, BlueGreenError> {
    let policy = policy();
    let deployer = deployer(fake, &policy, run);
    let mut observe = async |event: &Event| meanwhile(&event.what);
    deployer.run(deploy("v2", false), &mut observe).await
}

/// Releases v2 until this step begins, and dies there.
async fn die_at(fake: &Fake, step: Step) {
    let policy = policy();
    let deployer = deployer(fake, &policy, "first");
    let (tell, died) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let mut observe = async |event: &Event| {
        if matches!(event.what, Happened::Began { step: its } if its == step) {
            tell.take().map(|it| it.send(()));
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        concluded = deployer.run(deploy("v2", false), &mut observe) => panic!("{concluded:?}"),
        _ = died => {}
    }
}

fn released(conclusion: &Conclusion) -> bool {
    matches!(conclusion, Conclusion::Released { version, .. } if version == "v2")
}

fn assert_blue_as_before(fake: &Fake) {
    fake.with(|it| {
        assert_eq!(it.active(), Some(Colour::Blue));
        assert_eq!(it.preview(), Some(Colour::Green));
        assert_eq!(Colour::ALL.map(|colour| it.replicas(colour)), [2, 0]);
        assert_eq!(Colour::ALL.map(|colour| it.is_live(colour)), [true, false]);
    });
}

async fn outcomes(fake: &Fake) -> Vec<Outcome> {
    let book = Book::read(&fake.cluster, SERVICE).await.unwrap();
    assert_eq!(book.record, None, "nothing is under way");
    book.audit.into_iter().map(|it| it.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn a_release_moves_all_traffic_and_empties_the_old_colour() {
    let fake = Fake::new();
    let mut steps = Vec::new();
    let concluded = release(&fake, "first", |happened| {
        if let Happened::Began { step } = happened {
            steps.push(*step);
        }
    })
    .await
    .unwrap();
    assert!(released(&concluded), "{concluded:?}");
    use Step::{Analyse, BringUp, Check, Drain, Retire, Switch};
    assert_eq!(steps, [BringUp, Check, Switch, Analyse, Drain, Retire]);
    fake.with(|it| {
        assert_eq!(it.active(), Some(Colour::Green));
        assert_eq!(it.preview(), Some(Colour::Blue));
        assert_eq!(it.version(Colour::Green), "v2");
        assert_eq!(Colour::ALL.map(|colour| it.replicas(colour)), [0, 2]);
        assert_eq!(Colour::ALL.map(|colour| it.is_live(colour)), [false, true]);
    });
    assert_eq!(outcomes(&fake).await, [Outcome::Released]);
    // The same version again.
    let again = release(&fake, "again", |_| {}).await.unwrap();
    assert!(matches!(again, Conclusion::AlreadyLive { .. }), "{again:?}");
}

async fn release_by(fake: &Fake, policy: &Policy, version: &str) -> Conclusion {
    let deployer = deployer(fake, policy, "first");
    let mut observe = async |_: &Event| {};
    let concluded = deployer.run(deploy(version, false), &mut observe);
    concluded.await.unwrap()
}

/// With an ingress that refuses so many requests between two looks.
async fn release_behind_ingress(fake: &Fake, refuses: u64) -> Conclusion {
    fake.with(|it| it.refuses = refuses);
    let mut policy = policy();
    policy.ingress = Some(ingress::IngressMetrics {
        namespace: "edge".to_owned(),
        pods: "app=router".to_owned(),
        port: 9000,
        requests: "answers_total".to_owned(),
        labels: [("service".to_owned(), "{namespace}-{service}-*".to_owned())].into(),
    });
    release_by(fake, &policy, "v2").await
}

#[tokio::test(start_paused = true)]
async fn what_the_ingress_answers_by_itself_has_failed() {
    let fake = Fake::new();
    let concluded = release_behind_ingress(&fake, 20).await;
    let Conclusion::Reverted { why, .. } = &concluded else {
        panic!("{concluded:?}");
    };
    assert!(why.contains("answered by the ingress itself"), "{why}");
    assert_blue_as_before(&fake);
    // What it had answered so before, and of other services, is no matter.
    let concluded = release_behind_ingress(&Fake::new(), 0).await;
    assert!(released(&concluded), "{concluded:?}");
}

#[test]
fn what_pods_and_ingress_both_tell_of_counts_once() {
    let [by_pods, by_both] = [0, 20].map(|refused| {
        let window = traffic::Window {
            requests: 220,
            errors: 20,
            refused,
            ..traffic::Window::default()
        };
        (window.failed(), window.answered())
    });
    assert_eq!(by_pods, by_both);
}

/// The chart has given it to the idle colour.
async fn release_configuration(fake: &Fake) -> Conclusion {
    release_by(fake, &policy(), "v1").await
}

#[tokio::test(start_paused = true)]
async fn a_configuration_is_released_as_a_version_is() {
    let fake = Fake::new();
    fake.with(|it| it.configure(Colour::Green, "b"));
    let concluded = release_configuration(&fake).await;
    let expected = Conclusion::Released {
        version: "v1".to_owned(),
        colour: Colour::Green,
    };
    assert_eq!(concluded, expected);
    fake.with(|it| {
        assert_eq!(it.active(), Some(Colour::Green));
        // Nothing is left that would be released once more, or bring the old one back.
        assert_eq!(it.configuration(Colour::Blue), "b");
    });
    let book = Book::read(&fake.cluster, SERVICE).await.unwrap();
    assert!(book.audit[0].record.reconfigured);
    let again = release_configuration(&fake).await;
    assert!(matches!(again, Conclusion::AlreadyLive { .. }), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_does_not_hold_is_on_one_colour_alone() {
    let fake = Fake::new();
    fake.with(|it| {
        it.configure(Colour::Green, "b");
        it.pods(Colour::Green).waiting = Some(("CrashLoopBackOff", "back-off restarting"));
    });
    let concluded = release_configuration(&fake).await;
    assert!(
        matches!(concluded, Conclusion::TakenBack { .. }),
        "{concluded:?}"
    );
    assert_blue_as_before(&fake);
    fake.with(|it| assert_eq!(it.configuration(Colour::Blue), "a"));
}

#[tokio::test(start_paused = true)]
async fn a_release_gets_as_many_pods_as_the_autoscaler_wants() {
    let fake = Fake::new();
    fake.with(|it| it.autoscale(Colour::Blue, 1, 7));
    release(&fake, "first", |_| {}).await.unwrap();
    fake.with(|it| assert_eq!(it.replicas(Colour::Green), 7));
}

#[tokio::test(start_paused = true)]
async fn a_live_colour_that_grows_meanwhile_is_followed() {
    let fake = Fake::new();
    let concluded = release(&fake, "first", |happened| {
        if let Happened::Began { step: Step::Check } = happened {
            fake.with(|it| it.scale(Colour::Blue, 5));
        }
        if let Happened::Patched { .. } = happened {
            fake.with(|it| assert_eq!(it.replicas(Colour::Green), 5));
        }
    })
    .await
    .unwrap();
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_there_is_named_and_blue_is_untouched() {
    let fake = Fake::new();
    let words = "failed to pull: not found";
    fake.with(|it| it.pods(Colour::Green).waiting = Some(("ErrImagePull", words)));
    let concluded = release(&fake, "first", |_| {}).await.unwrap();
    let Conclusion::TakenBack { why, .. } = concluded else {
        panic!("{concluded:?}");
    };
    assert!(
        why.contains("ErrImagePull") && why.contains("quotes:v2"),
        "{why}"
    );
    assert_blue_as_before(&fake);
    assert_eq!(outcomes(&fake).await, [Outcome::TakenBack]);
}

#[tokio::test(start_paused = true)]
async fn one_pod_that_fails_its_health_check_stops_it() {
    let fake = Fake::new();
    fake.with(|it| it.pods(Colour::Green).last_says = 503);
    let concluded = release(&fake, "first", |_| {}).await.unwrap();
    let Conclusion::TakenBack { why, .. } = concluded else {
        panic!("{concluded:?}");
    };
    assert!(why.contains("1 of 2 pods") && why.contains("503"), "{why}");
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn errors_after_the_switch_bring_traffic_back() {
    let fake = Fake::new();
    let mut reverted = false;
    let concluded = release(&fake, "first", |happened| match happened {
        Happened::Settled {
            to: Colour::Green, ..
        } => fake.with(|it| it.each_look = (200, 100)),
        Happened::Reverted { .. } => reverted = true,
        _ => {}
    })
    .await
    .unwrap();
    assert!(
        matches!(
            concluded,
            Conclusion::Reverted {
                inconclusive: false,
                ..
            }
        ),
        "{concluded:?}"
    );
    assert!(reverted);
    assert_blue_as_before(&fake);
    assert_eq!(outcomes(&fake).await, [Outcome::Reverted]);
}

/// Releases v2, which is slow for as many looks after the switch.
async fn released_slow_for(looks: usize) -> Conclusion {
    let fake = Fake::new();
    let mut seen = 0;
    let concluded = release(&fake, "first", |happened| match happened {
        Happened::Patched {
            to: Colour::Green, ..
        } => fake.with(|it| it.slow = true),
        Happened::Progress { text } if text.starts_with("green: ") => {
            seen += 1;
            fake.with(|it| it.slow &= seen < looks);
        }
        _ => {}
    });
    concluded.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_is_not_held_against_a_version_but_slowness_is() {
    let concluded = released_slow_for(1).await;
    assert!(released(&concluded), "{concluded:?}");
    match released_slow_for(usize::MAX).await {
        Conclusion::Reverted { why, inconclusive } => {
            assert!(why.contains("latency") && !inconclusive, "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_killed_while_it_is_watched_is_followed_by_its_successor() {
    let fake = Fake::new();
    let concluded = release(&fake, "first", |happened| match happened {
        Happened::Progress { text } if text.starts_with("green: ") => {
            fake.with(|it| it.pods(Colour::Green).killed = 1);
        }
        _ => {}
    })
    .await
    .unwrap();
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn without_traffic_it_does_not_pass() {
    let fake = Fake::new();
    fake.with(|it| it.each_look = (0, 0));
    let concluded = release(&fake, "first", |_| {}).await.unwrap();
    assert_eq!(
        concluded.exit_code(),
        ExitCode::Inconclusive,
        "{concluded:?}"
    );
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_died_is_followed_at_every_step() {
    use Step::{Analyse, BringUp, Check, Drain, Retire, Switch};
    for step in [BringUp, Check, Switch, Analyse, Drain, Retire] {
        let fake = Fake::new();
        die_at(&fake, step).await;
        let mut found = None;
        let concluded = release(&fake, "second", |happened| {
            if let Happened::Found { step, .. } = happened {
                found = Some(*step);
            }
            fake.with(|it| assert!(it.active().is_some(), "no single colour at {step}"));
        })
        .await
        .unwrap();
        assert_eq!(found, Some(step));
        assert!(released(&concluded), "{step}: {concluded:?}");
        assert_eq!(outcomes(&fake).await, [Outcome::Released], "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_was_left_has_a_way_to_its_end() {
    for step in [
        Step::BringUp,
        Step::Switch,
        Step::Analyse,
        Step::Drain,
        Step::Retire,
    ] {
        let fake = Fake::new();
        die_at(&fake, step).await;
        let policy = policy();
        // The same release, by another process.
        let deployer = Deployer {
            holder: holder("second"),
            ..deployer(&fake, &policy, "first")
        };
        let ended = deployer.run(Ask::End, &mut async |_: &Event| {}).await;
        assert!(ended.is_ok(), "{step}: {ended:?}");
        assert_eq!(outcomes(&fake).await.len(), 1, "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_began_is_not_ended() {
    for step in [Step::BringUp, Step::Switch, Step::Retire] {
        let fake = Fake::new();
        die_at(&fake, step).await;
        let record = async || Book::read(&fake.cluster, SERVICE).await.unwrap().record;
        let before = record().await;
        let policy = policy();
        let deployer = deployer(&fake, &policy, "second");
        let ended = deployer.run(Ask::End, &mut async |_: &Event| {}).await;
        let error = ended.unwrap_err();
        assert!(matches!(error, BlueGreenError::Anothers { .. }), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Refused);
        assert!(
            error.to_string().contains("ana@laptop, pid 1, run first"),
            "{error}"
        );
        assert_eq!(record().await, before, "{step}");
    }
    let fake = Fake::new();
    let policy = policy();
    let nothing = deployer(&fake, &policy, "second");
    let ended = nothing.run(Ask::End, &mut async |_: &Event| {}).await;
    assert!(matches!(ended, Err(BlueGreenError::NothingUnderWay { .. })));
}

/// It waits for a person, and nobody has died.
#[tokio::test(start_paused = true)]
async fn another_version_does_not_take_back_what_another_has_at_the_gate() {
    let fake = Fake::new();
    let policy = policy();
    let mut observe = async |_: &Event| {};
    let colleague = deployer(&fake, &policy, "first");
    let at_gate = colleague.run(deploy("v2", true), &mut observe).await;
    assert!(
        matches!(at_gate, Ok(Conclusion::AtGate { .. })),
        "{at_gate:?}"
    );
    let ours = deployer(&fake, &policy, "second");
    let refused = ours.run(deploy("v3", false), &mut observe).await;
    assert!(
        matches!(refused, Err(BlueGreenError::Anothers { .. })),
        "{refused:?}"
    );
    let concluded = colleague.run(Ask::Promote, &mut observe).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn another_version_takes_back_what_a_dead_deployer_left() {
    let fake = Fake::new();
    die_at(&fake, Step::Analyse).await;
    let policy = policy();
    let deployer = deployer(&fake, &policy, "second");
    let mut observe = async |_: &Event| {};
    let concluded = deployer
        .run(deploy("v3", false), &mut observe)
        .await
        .unwrap();
    assert!(
        matches!(&concluded, Conclusion::Released { version, .. } if version == "v3"),
        "{concluded:?}"
    );
    assert_eq!(
        outcomes(&fake).await,
        [Outcome::Reverted, Outcome::Released]
    );
}

#[tokio::test(start_paused = true)]
async fn the_gate_waits_for_promote_and_for_abort() {
    for promote in [true, false] {
        let fake = Fake::new();
        let policy = policy();
        let deployer = deployer(&fake, &policy, "first");
        let mut observe = async |_: &Event| {};
        let at_gate = deployer
            .run(deploy("v2", true), &mut observe)
            .await
            .unwrap();
        assert!(matches!(at_gate, Conclusion::AtGate { .. }), "{at_gate:?}");
        fake.with(|it| assert_eq!(it.active(), Some(Colour::Blue)));
        match promote {
            true => {
                let concluded = deployer.run(Ask::Promote, &mut observe).await.unwrap();
                assert!(released(&concluded), "{concluded:?}");
            }
            false => {
                deployer.run(Ask::Abort, &mut observe).await.unwrap();
                assert_blue_as_before(&fake);
                assert_eq!(outcomes(&fake).await, [Outcome::TakenBack]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_called_off_is_taken_back() {
    for step in [
        Step::BringUp,
        Step::Check,
        Step::Switch,
        Step::Analyse,
        Step::Drain,
    ] {
        let fake = Fake::new();
        let policy = policy();
        let deployer = deployer(&fake, &policy, "first");
        let called_off = deployer.called_off.clone();
        let mut observe = async |event: &Event| {
            if matches!(event.what, Happened::Began { step: its } if its == step) {
                called_off.cancel();
            }
        };
        let concluded = deployer
            .run(deploy("v2", false), &mut observe)
            .await
            .unwrap();
        assert_eq!(
            concluded.exit_code(),
            ExitCode::CheckFailed,
            "{step}: {concluded:?}"
        );
        assert_blue_as_before(&fake);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_20_or_60_seconds_is_waited_for() {
    use Step::{Analyse, BringUp, Check, Drain, Retire, Switch};
    for (seconds, silent) in [(20, false), (60, false), (60, true)] {
        for step in [BringUp, Check, Switch, Analyse, Drain, Retire] {
            let fake = Fake::new();
            let concluded = release(&fake, "first", |happened| {
                if matches!(happened, Happened::Began { step: its } if *its == step) {
                    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
                    let fault = Fault::everywhere().until(end);
                    let fault = if silent { fault.silent() } else { fault };
                    fake.with(|it| it.objects.fail(fault));
                }
            })
            .await
            .unwrap_or_else(|error| panic!("{step}, {seconds} s, {silent}: {error}"));
            assert!(released(&concluded), "{step}, {seconds} s: {concluded:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_deployer_is_told_who_the_first_is() {
    let fake = Fake::new();
    let policy = policy();
    let first = deployer(&fake, &policy, "first");
    let second = deployer(&fake, &policy, "second");
    let mut refused = None;
    let mut observe = async |event: &Event| {
        if matches!(event.what, Happened::Locked { .. }) {
            let mut nobody = async |_: &Event| {};
            refused = Some(Box::pin(second.run(deploy("v3", false), &mut nobody)).await);
        }
    };
    let concluded = first.run(deploy("v2", false), &mut observe).await.unwrap();
    assert!(released(&concluded));
    let Some(Err(BlueGreenError::Lock(error @ LockError::Held { .. }))) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        error.to_string().contains("ana@laptop, pid 1, run first"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hand_that_moves_traffic_back_meanwhile_ends_the_release() {
    let fake = Fake::new();
    let concluded = release(&fake, "first", |happened| {
        if matches!(
            happened,
            Happened::Began {
                step: Step::Analyse
            }
        ) {
            fake.with(|it| it.activate(Colour::Blue));
        }
    })
    .await
    .unwrap();
    assert!(
        matches!(&concluded, Conclusion::TakenBack { why, .. } if why.contains("changed by")),
        "{concluded:?}"
    );
    assert_blue_as_before(&fake);
}

/// Whatever removes the track from the active Service's selector, traffic goes to both.
#[tokio::test(start_paused = true)]
async fn a_hand_that_removes_the_track_has_traffic_brought_back_to_the_old_colour() {
    for step in [Step::BringUp, Step::Switch, Step::Analyse, Step::Drain] {
        let fake = Fake::new();
        let concluded = release(&fake, "first", |happened| {
            if matches!(happened, Happened::Began { step: its } if *its == step) {
                fake.with(|it| it.activate_both());
            }
        })
        .await
        .unwrap();
        assert_eq!(concluded.exit_code(), ExitCode::CheckFailed, "{step}");
        assert_blue_as_before(&fake);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_left_without_a_live_colour_is_mended_by_whoever_comes() {
    for step in [Step::BringUp, Step::Switch, Step::Analyse, Step::Retire] {
        for ask in [Ask::Abort, deploy("v2", false), deploy("v3", false)] {
            let fake = Fake::new();
            die_at(&fake, step).await;
            fake.with(|it| it.activate_both());
            let policy = policy();
            let next = deployer(&fake, &policy, "second");
            let concluded = next.run(ask, &mut async |_: &Event| {}).await;
            // The old colour is going: that is not aborted any more.
            let is_too_late = (step, ask) == (Step::Retire, Ask::Abort);
            assert_eq!(
                concluded.is_err(),
                is_too_late,
                "{step} {ask:?}: {concluded:?}"
            );
            fake.with(|it| assert!(it.active().is_some(), "{step} {ask:?}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_release_too_abort_has_the_service_select_what_was_live() {
    let fake = Fake::new();
    fake.with(|it| it.activate_both());
    let status = Status::of(&fake.cluster, SERVICE).await.unwrap();
    assert_eq!(status.live, None);
    let policy = policy();
    let nobody = &mut async |_: &Event| {};
    let ours = deployer(&fake, &policy, "first");
    let refused = ours.run(deploy("v2", false), nobody).await.unwrap_err();
    assert!(
        matches!(refused, BlueGreenError::NoLiveColour { .. }),
        "{refused}"
    );
    ours.run(Ask::Abort, nobody).await.unwrap();
    assert_blue_as_before(&fake);
    // Both are marked: nobody can tell.
    fake.with(|it| {
        it.activate_both();
        it.mark_live(Colour::Green);
        it.scale(Colour::Green, 2);
    });
    let refused = ours.run(Ask::Abort, nobody).await.unwrap_err();
    assert_eq!(refused.exit_code(), ExitCode::Refused);
    assert!(
        refused.to_string().contains("both are marked as live"),
        "{refused}"
    );
}

/// As the chart's README teaches, an operator may move the Service back.
#[tokio::test(start_paused = true)]
async fn a_colour_that_is_live_again_is_not_retired() {
    for ask in [deploy("v2", false), deploy("v3", false), Ask::Abort] {
        let fake = Fake::new();
        die_at(&fake, Step::Retire).await;
        fake.with(|it| it.activate(Colour::Blue));
        let policy = policy();
        let next = deployer(&fake, &policy, "second");
        let mut observe = async |_: &Event| {
            fake.with(|it| {
                let live = it.active().unwrap();
                assert!(it.replicas(live) > 0, "{ask:?}: {live} is live");
            });
        };
        drop(next.run(ask, &mut observe).await);
    }
    // Between the step and the scale-down.
    let fake = Fake::new();
    let ended = release(&fake, "first", |happened| {
        if matches!(happened, Happened::Began { step: Step::Retire }) {
            fake.with(|it| it.activate(Colour::Blue));
        }
    })
    .await;
    let error = ended.unwrap_err();
    assert!(
        error.to_string().contains("left at the step retire"),
        "{error}"
    );
    assert_eq!(error.exit_code(), ExitCode::NoEnvironment);
    fake.with(|it| {
        assert_eq!(it.replicas(Colour::Blue), 2);
        assert!(it.is_live(Colour::Blue));
    });
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_live_and_crashes_is_not_well() {
    let fake = Fake::new();
    fake.with(|it| it.pods(Colour::Blue).waiting = Some(("CrashLoopBackOff", "")));
    let policy = policy();
    let ours = deployer(&fake, &policy, "first");
    let concluded = ours
        .run(deploy("v1", false), &mut async |_: &Event| {})
        .await;
    let concluded = concluded.unwrap();
    assert!(
        matches!(concluded, Conclusion::LiveUnwell { .. }),
        "{concluded:?}"
    );
    assert_eq!(concluded.exit_code(), ExitCode::CheckFailed);
}

#[tokio::test(start_paused = true)]
async fn pods_at_the_gate_are_held_and_made_up() {
    let fake = Fake::new();
    fake.with(|it| it.autoscale(Colour::Green, 1, 1));
    let policy = policy();
    let ours = deployer(&fake, &policy, "first");
    let nobody = &mut async |_: &Event| {};
    ours.run(deploy("v2", true), nobody).await.unwrap();
    fake.with(|it| {
        it.shrink(Colour::Green);
        assert_eq!(it.replicas(Colour::Green), 2, "it is held");
        // A hand is not.
        it.scale(Colour::Green, 1);
    });
    let concluded = ours.run(Ask::Promote, nobody).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
    fake.with(|it| {
        assert_eq!(it.replicas(Colour::Green), 2);
        assert_eq!(it.scaler(Colour::Green), (1, None));
    });
}

#[tokio::test(start_paused = true)]
async fn the_old_colour_keeps_what_it_needs_to_take_traffic_back() {
    for by_hand in [false, true] {
        let fake = Fake::new();
        fake.with(|it| it.autoscale(Colour::Blue, 1, 2));
        let concluded = release(&fake, "first", |happened| match happened {
            Happened::Began {
                step: Step::Analyse,
            } => fake.with(|it| {
                it.each_look = (200, 40);
                match by_hand {
                    true => it.scale(Colour::Blue, 1),
                    false => it.shrink(Colour::Blue),
                }
            }),
            Happened::Patched {
                to: Colour::Blue, ..
            } => {
                fake.with(|it| assert_eq!(it.replicas(Colour::Blue), 2, "{by_hand}"));
            }
            _ => {}
        })
        .await
        .unwrap();
        assert!(
            matches!(concluded, Conclusion::Reverted { .. }),
            "{concluded:?}"
        );
        assert_blue_as_before(&fake);
        fake.with(|it| assert_eq!(it.scaler(Colour::Blue), (1, None)));
    }
}

/// Refused means that nothing was changed.
#[tokio::test(start_paused = true)]
async fn a_release_that_cannot_be_taken_back_is_left_unfinished() {
    let fake = Fake::new();
    die_at(&fake, Step::Analyse).await;
    fake.with(|it| it.pods(Colour::Blue).waiting = Some(("CrashLoopBackOff", "")));
    let policy = policy();
    let next = deployer(&fake, &policy, "second");
    let ended = next.run(Ask::Abort, &mut async |_: &Event| {}).await;
    let error = ended.unwrap_err();
    assert!(
        error.to_string().contains("left at the step revert"),
        "{error}"
    );
    assert_eq!(error.exit_code(), ExitCode::NoEnvironment);
    fake.with(|it| assert_eq!(it.active(), Some(Colour::Green)));
}

/// One that was suspended, or cut off, finds its successor when it goes on.
#[tokio::test(start_paused = true)]
async fn who_lost_the_lock_moves_no_traffic() {
    let fake = Fake::new();
    let ended = release(&fake, "first", |happened| match happened {
        Happened::Began {
            step: Step::Analyse,
        } => fake.with(|it| it.each_look = (200, 40)),
        Happened::Breached { .. } => fake.with(|it| {
            it.away_until(tokio::time::Instant::now() + Duration::from_secs(40));
            it.objects.change(LEASE, |lease| {
                lease["spec"]["holderIdentity"] = json!("bob@server, pid 2, run second");
            });
        }),
        _ => {}
    })
    .await;
    let error = ended.unwrap_err();
    assert!(error.to_string().contains("bob@server"), "{error}");
    // Something was changed.
    assert_eq!(error.exit_code(), ExitCode::NoEnvironment);
    fake.with(|it| assert_eq!(it.active(), Some(Colour::Green)));
}

#[tokio::test(start_paused = true)]
async fn traffic_of_hours_ago_is_nothing_to_compare_with() {
    let fake = Fake::new();
    die_at(&fake, Step::Switch).await;
    let mut book = Book::read(&fake.cluster, SERVICE).await.unwrap();
    let mut record = book.record.clone().unwrap();
    record.baseline = Some(traffic::Window {
        requests: 1_000,
        errors: 500,
        ..traffic::Window::default()
    });
    book.write(record).await.unwrap();
    let concluded = release(&fake, "second", |happened| {
        if matches!(happened, Happened::Patched { .. }) {
            fake.with(|it| it.each_look = (200, 40));
        }
    })
    .await
    .unwrap();
    assert!(
        matches!(concluded, Conclusion::Reverted { .. }),
        "{concluded:?}"
    );
}

/// It answers two of three, well and quickly.
#[tokio::test(start_paused = true)]
async fn a_version_that_swallows_requests_is_taken_back() {
    for given_up in [false, true] {
        let fake = Fake::new();
        let concluded = release(&fake, "first", |happened| {
            if let Happened::Patched {
                to: Colour::Green, ..
            } = happened
            {
                fake.with(|it| it.swallows = Some(given_up));
            }
        })
        .await
        .unwrap();
        let Conclusion::Reverted { why, .. } = concluded else {
            panic!("{given_up}: {concluded:?}");
        };
        assert!(why.contains("without an answer"), "{why}");
    }
}

/// Users meet them before anybody looks at the metrics.
#[tokio::test(start_paused = true)]
async fn errors_right_after_the_switch_count() {
    let fake = Fake::new();
    let mut errors = 0;
    let concluded = release(&fake, "first", |happened| match happened {
        Happened::Patched {
            to: Colour::Green, ..
        } => fake.with(|it| it.each_look = (0, 0)),
        Happened::Settled {
            to: Colour::Green, ..
        } => fake.with(|it| {
            errors += 1;
            it.each_answers(Colour::Green, 100, 50);
        }),
        _ => {}
    })
    .await
    .unwrap();
    assert_eq!(errors, 1);
    let Conclusion::Reverted { why, .. } = concluded else {
        panic!("{concluded:?}");
    };
    assert!(why.contains("100 of 200"), "{why}");
}

/// Nobody uses the service, and its pods count nothing: by requests of the deployer's own.
async fn probed(
    fake: &Fake,
    probe_from: ProbeFrom<'_>,
    mut meanwhile: impl FnMut(&Happened),
) -> Result<Conclusion, BlueGreenError> {
    fake.with(|it| it.each_look = (0, 0));
    let policy = Policy {
        analysis: policy::Evidence::Probe,
        ..policy()
    };
    let paths = ["/quotes".to_owned(), "401 /orders".to_owned()];
    let ours = Deployer {
        smoke: &paths[..1],
        probe_from,
        ..deployer(fake, &policy, "first")
    };
    let mut observe = async |event: &Event| meanwhile(&event.what);
    ours.run(deploy("v2", false), &mut observe).await
}

const POD: ProbeFrom<'static> = ProbeFrom::Pod { image: "prober:1" };

#[tokio::test(start_paused = true)]
async fn without_users_a_prober_shows_that_a_version_holds() {
    let fake = Fake::new();
    let mut asked_before_the_switch = false;
    let concluded = probed(&fake, POD, |happened| {
        if let Happened::Patched { .. } = happened {
            asked_before_the_switch = fake.with(|it| it.prober.is_some());
        }
    });
    let concluded = concluded.await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
    assert!(asked_before_the_switch);
    let book = Book::read(&fake.cluster, SERVICE).await.unwrap();
    let record = &book.audit[0].record;
    assert_eq!(record.analysis, policy::Evidence::Probe);
    let baseline = record.baseline.as_ref().unwrap();
    assert!((80..=120).contains(&baseline.requests), "{baseline:?}");
    fake.with(|it| assert!(it.prober.is_none(), "its pod is left"));
}

#[tokio::test(start_paused = true)]
async fn without_users_and_requests_its_health_shows_that_a_version_holds() {
    let fake = Fake::new();
    fake.with(|it| it.each_look = (0, 0));
    let policy = Policy {
        analysis: policy::Evidence::None,
        ..policy()
    };
    let concluded = release_by(&fake, &policy, "v2").await;
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn a_prober_that_has_nothing_to_ask_or_no_image_is_told_of_before_anything_is_changed() {
    let fake = Fake::new();
    let refused = probed(&fake, ProbeFrom::Nowhere, |_| {}).await.unwrap_err();
    assert_eq!(refused.exit_code(), ExitCode::Refused);
    let help = miette::Diagnostic::help(&refused).unwrap().to_string();
    assert!(help.contains("prober_image"), "{help}");
    let policy = Policy {
        analysis: policy::Evidence::Probe,
        ..policy()
    };
    let ours = Deployer {
        probe_from: POD,
        ..deployer(&fake, &policy, "first")
    };
    let mut nobody = async |_: &Event| {};
    let refused = ours.run(deploy("v2", false), &mut nobody).await;
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains("nothing to ask"), "{refused}");
    assert_blue_as_before(&fake);
}

/// By the prober, on the preview Service: users had none of it.
#[tokio::test(start_paused = true)]
async fn what_fails_before_the_switch_never_gets_traffic() {
    let fake = Fake::new();
    fake.with(|it| it.fails = Some(Colour::Green));
    let concluded = probed(&fake, POD, |happened| {
        let moves = matches!(happened, Happened::Patched { .. });
        assert!(!moves, "{happened:?}");
    });
    let Conclusion::TakenBack { why, inconclusive } = concluded.await.unwrap() else {
        panic!("it had traffic");
    };
    assert!(why.starts_with("before the switch: errors: "), "{why}");
    assert!(!inconclusive);
    assert_blue_as_before(&fake);
    fake.with(|it| assert!(it.prober.is_none(), "its pod is left"));
}

/// What the old one did before is no matter: the new one is no worse.
#[tokio::test(start_paused = true)]
async fn what_fails_on_the_old_colour_alone_is_released() {
    let fake = Fake::new();
    fake.with(|it| it.fails = Some(Colour::Blue));
    let concluded = probed(&fake, POD, |_| {}).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_prober_sees_fail_after_the_switch_is_taken_back() {
    let fake = Fake::new();
    let concluded = probed(&fake, POD, |happened| {
        if let Happened::Began {
            step: Step::Analyse,
        } = happened
        {
            fake.with(|it| it.fails = Some(Colour::Green));
        }
    });
    let Conclusion::Reverted { why, .. } = concluded.await.unwrap() else {
        panic!("it is kept");
    };
    assert!(why.starts_with("errors: "), "{why}");
    fake.with(|it| assert!(it.prober.is_none(), "its pod is left"));
}

#[tokio::test(start_paused = true)]
async fn a_prober_that_is_not_heard_any_more_shows_nothing() {
    let fake = Fake::new();
    let concluded = probed(&fake, POD, |happened| {
        if let Happened::Patched { .. } = happened {
            fake.with(|it| it.prober_runs = false);
        }
    });
    let concluded = concluded.await.unwrap();
    assert_eq!(
        concluded.exit_code(),
        ExitCode::Inconclusive,
        "{concluded:?}"
    );
    let Conclusion::Reverted { why, .. } = concluded else {
        panic!("{concluded:?}");
    };
    assert!(why.contains("nothing was heard of it for"), "{why}");
}

/// Where its deployer died with the prober's pod in the cluster.
#[tokio::test(start_paused = true)]
async fn the_prober_of_a_deployer_that_died_is_swept_by_the_next() {
    let fake = Fake::new();
    let deploying = probed(&fake, POD, |_| {});
    let asks = async {
        loop {
            if let Some(prober) = fake.with(|it| it.prober.take()) {
                return prober;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let left = tokio::select! {
        concluded = deploying => panic!("{concluded:?}"),
        prober = asks => prober,
    };
    // A process that dies does not delete it.
    sleep(Duration::from_secs(1)).await;
    fake.with(|it| it.prober = Some(left));
    let concluded = probed(&fake, POD, |_| {}).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
    fake.with(|it| assert!(it.prober.is_none(), "its pod is left"));
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_cannot_be_given_up_is_no_failed_release() {
    let fake = Fake::new();
    let concluded = release(&fake, "first", |happened| {
        if matches!(happened, Happened::Released { .. }) {
            let full = Fault::of(|it| it.method == "PUT" && it.path.contains("/leases/"));
            fake.with(|it| it.objects.fail(full.saying(500, "the disk is full")));
        }
    })
    .await
    .unwrap();
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_not_http_is_the_kubelets_to_ask() {
    let fake = Fake::new();
    let probe = json!({"exec": {"command": ["true"]}});
    fake.with(|it| {
        for colour in Colour::ALL {
            it.change_container(colour, "readinessProbe", probe.clone());
        }
    });
    let concluded = release(&fake, "first", |_| {}).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_once_is_no_bad_version() {
    let fake = Fake::new();
    let policy = policy();
    let paths = ["/quotes".to_owned()];
    let ours = Deployer {
        smoke: &paths,
        ..deployer(&fake, &policy, "first")
    };
    let mut smoked = 0;
    let mut observe = async |event: &Event| match &event.what {
        Happened::Began { .. } => fake.with(|it| it.break_smoke(1)),
        Happened::SmokeHeld { .. } => smoked += 1,
        _ => {}
    };
    let concluded = ours.run(deploy("v2", false), &mut observe).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
    assert_eq!(smoked, 2);
}

/// From another process, while its deployer is at work.
#[tokio::test(start_paused = true)]
async fn a_release_is_taken_back_from_elsewhere_within_two_seconds() {
    let fake = Fake::new();
    let policy = policy();
    let (first, second) = (deployer(&fake, &policy, "first"), {
        let mut second = deployer(&fake, &policy, "second");
        second.holder.host = "server".into();
        second
    });
    let mut reverting = None;
    let mut observe = async |event: &Event| {
        if matches!(event.what, Happened::Began { step: Step::Revert }) {
            reverting = Some(tokio::time::Instant::now());
        }
    };
    let elsewhere = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        let asked = tokio::time::Instant::now();
        let concluded = second.run(Ask::Abort, &mut async |_: &Event| {}).await;
        (asked, concluded)
    };
    let (concluded, (asked, elsewhere)) =
        tokio::join!(first.run(deploy("v2", false), &mut observe), elsewhere);
    let concluded = concluded.unwrap();
    let Conclusion::Reverted { why, .. } = &concluded else {
        panic!("{concluded:?}");
    };
    assert!(why.contains("`abort` was asked for by ana@server"), "{why}");
    assert_eq!(elsewhere.unwrap(), concluded);
    assert!(reverting.unwrap() - asked <= Duration::from_secs(2));
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_paused_from_elsewhere_and_promoted_later() {
    let fake = Fake::new();
    let policy = policy();
    let first = deployer(&fake, &policy, "first");
    let mut second = deployer(&fake, &policy, "second");
    second.holder.host = "server".into();
    fake.with(|it| it.pods(Colour::Green).waiting = Some(("ContainerCreating", "")));
    let nobody = &mut async |_: &Event| {};
    let elsewhere = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let healed = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            fake.with(|it| it.pods(Colour::Green).waiting = None);
        };
        let paused = &mut async |_: &Event| {};
        tokio::join!(second.run(Ask::Pause, paused), healed).0
    };
    let (concluded, paused) = tokio::join!(first.run(deploy("v2", false), nobody), elsewhere);
    let concluded = concluded.unwrap();
    assert!(
        matches!(concluded, Conclusion::AtGate { .. }),
        "{concluded:?}"
    );
    assert_eq!(paused.unwrap(), concluded);
    let concluded = second.run(Ask::Promote, nobody).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn what_stands_against_a_release_is_told_before_anything_is_changed() {
    type Spoil = fn(&mut fake::State);
    let cases: [(Spoil, &str); 6] = [
        (
            |it| it.scale(Colour::Green, 1),
            "both colours run: green has 1 pods",
        ),
        (|it| it.scale(Colour::Blue, 0), "is scaled to 0"),
        (
            |it| it.pods(Colour::Blue).waiting = Some(("CrashLoopBackOff", "")),
            "0 of 2 pods are ready",
        ),
        (|it| it.activate_both(), "no colour is live"),
        (
            |it| it.select("quotes-preview", json!("blue")),
            "and so not the pods of green",
        ),
        (
            |it| {
                let selector = json!({"app.kubernetes.io/name": SERVICE});
                let beside =
                    json!({"metadata": {"name": "beside"}, "spec": {"selector": selector}});
                it.objects.put(SERVICES, beside);
            },
            "Service beside also selects the pods of green",
        ),
    ];
    for (spoil, told) in cases {
        let fake = Fake::new();
        fake.with(spoil);
        let refused = release(&fake, "first", |_| {}).await;
        let error = refused.expect_err(told);
        assert!(error.to_string().contains(told), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Refused);
        assert_eq!(fake.asked(|it| it.method == "PATCH"), 0, "{told}");
    }
    let fake = Fake::new();
    fake.with(|it| {
        let quota = json!({"metadata": {"name": "q"}, "status": {
            "hard": {"requests.cpu": "1"}, "used": {"requests.cpu": "900m"}}});
        it.objects.put(QUOTAS, quota);
    });
    let error = release(&fake, "first", |_| {})
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("requests.cpu: 2 pods ask for 0.2, 0.1 is left of 1"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn unknown_services_and_impossible_versions_are_bad_usage() {
    let fake = Fake::new();
    let policy = policy();
    let mut unknown = deployer(&fake, &policy, "first");
    unknown.service = "quote";
    let mut observe = async |_: &Event| {};
    let error = unknown
        .run(deploy("v2", false), &mut observe)
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
    let known = deployer(&fake, &policy, "first");
    let error = known
        .run(deploy("latest", false), &mut observe)
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_changes_nothing() {
    let fake = Fake::new();
    let policy = policy();
    let plan = deployer(&fake, &policy, "dry-run")
        .plan("v2")
        .await
        .unwrap();
    assert_eq!(
        (plan.from, plan.to, plan.replicas),
        (Colour::Blue, Colour::Green, 2)
    );
    assert_eq!(fake.asked(|it| it.method != "GET"), 0);
}

/// With an ingress of this controller that leads 20 % and then 50 % first.
async fn release_by_weights(
    fake: &Fake,
    controller: &str,
    meanwhile: impl FnMut(&Happened),
) -> Conclusion {
    fake.with(|it| {
        it.route_by_ingress(controller);
        it.share_of_green = Some((40, 0));
    });
    let policy = Policy {
        canary: Some(canary::Canary {
            weights: vec![20, 50],
            header: Some("x-preview".to_owned()),
        }),
        ..policy()
    };
    let deployer = deployer(fake, &policy, "first");
    let mut meanwhile = meanwhile;
    let mut observe = async |event: &Event| meanwhile(&event.what);
    let concluded = deployer.run(deploy("v2", false), &mut observe);
    concluded.await.unwrap()
}

const NGINX: &str = "k8s.io/ingress-nginx";

#[tokio::test(start_paused = true)]
async fn shares_of_the_ingress_traffic_come_before_all_of_it() {
    let fake = Fake::new();
    let mut weights = Vec::new();
    let concluded = release_by_weights(&fake, NGINX, |happened| match happened {
        Happened::PreviewHeaderSet { header, .. } => {
            assert_eq!(header, "x-preview");
            fake.with(|it| weights.push(it.weight(SERVICE)));
        }
        Happened::CanaryWeightSet { .. } => fake.with(|it| {
            assert_eq!(it.active(), Some(Colour::Blue));
            weights.push(it.weight(SERVICE));
        }),
        Happened::Patched { .. } => fake.with(|it| weights.push(it.weight(SERVICE))),
        _ => {}
    })
    .await;
    assert!(released(&concluded), "{concluded:?}");
    assert_eq!(weights, [Some(0), Some(20), Some(50), Some(50)]);
    fake.with(|it| {
        assert_eq!(it.active(), Some(Colour::Green));
        assert_eq!(it.weight(SERVICE), None, "nobody is led to the old colour");
    });
}

#[tokio::test(start_paused = true)]
async fn the_canary_leads_where_the_ingress_led_and_nowhere_else() {
    let fake = Fake::new();
    let mut canary = serde_json::Value::Null;
    release_by_weights(&fake, NGINX, |happened| {
        if let Happened::CanaryWeightSet { weight: 20, .. } = happened {
            let path = "/apis/networking.k8s.io/v1/namespaces/trii/ingresses/quotes-canary";
            canary = fake.with(|it| it.objects.get(path).unwrap().clone());
        }
    })
    .await;
    assert_eq!(
        canary["spec"],
        json!({"ingressClassName": "edge", "rules": [{"host": "a.example", "http": {"paths": [
            {"path": "/quotes", "pathType": "Prefix", "backend":
                {"service": {"name": "quotes-preview", "port": {"name": "http"}}}}]}}]})
    );
    let owner = &canary["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"]),
        (&json!("Ingress"), &json!("i"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_fails_with_a_share_gets_no_more_and_users_have_had_it() {
    let fake = Fake::new();
    fake.with(|it| it.ill = Some(SERVICE));
    let mut most = 0;
    let concluded = release_by_weights(&fake, NGINX, |happened| {
        if let Happened::CanaryWeightSet { weight, .. } = happened {
            most = most.max(*weight);
        }
        assert!(!matches!(happened, Happened::Patched { .. }), "{happened}");
        // The ingress follows.
        if let Happened::Breached { .. } = happened {
            fake.with(|it| it.share_of_green = Some((0, 0)));
        }
    })
    .await;
    assert!(
        matches!(concluded, Conclusion::Reverted { .. }),
        "{concluded:?}"
    );
    assert_eq!(most, 20);
    assert_blue_as_before(&fake);
    fake.with(|it| assert_eq!(it.weight(SERVICE), None));
    assert_eq!(outcomes(&fake).await, [Outcome::Reverted]);
}

#[tokio::test(start_paused = true)]
async fn a_revert_that_the_ingress_does_not_take_up_is_not_told_as_verified() {
    let fake = Fake::new();
    fake.with(|it| it.ill = Some(SERVICE));
    let concluded = release_by_weights(&fake, NGINX, |happened| {
        assert!(!matches!(happened, Happened::Reverted { .. }), "{happened}");
        if let Happened::Breached { .. } = happened {
            fake.with(|it| it.ingress_is_stuck = true);
        }
    })
    .await;
    assert!(
        matches!(concluded, Conclusion::Reverted { .. }),
        "{concluded:?}"
    );
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn an_ingress_that_is_not_known_to_lead_shares_is_not_told_to() {
    let fake = Fake::new();
    let mut skipped = None;
    let concluded = release_by_weights(&fake, "haproxy.org/ingress", |happened| {
        assert!(
            !matches!(happened, Happened::CanaryWeightSet { .. }),
            "{happened}"
        );
        if let Happened::CanarySkipped { because } = happened {
            skipped = Some(because.clone());
        }
    })
    .await;
    assert!(released(&concluded), "{concluded:?}");
    let because = skipped.unwrap();
    assert!(because.contains("haproxy.org/ingress"), "{because}");
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_dies_with_a_share_is_followed_from_the_beginning() {
    let fake = Fake::new();
    let policy = Policy {
        canary: Some(canary::Canary {
            weights: vec![20],
            header: None,
        }),
        ..policy()
    };
    fake.with(|it| {
        it.route_by_ingress(NGINX);
        it.share_of_green = Some((40, 0));
    });
    let first = deployer(&fake, &policy, "first");
    let (tell, died) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let mut observe = async |event: &Event| {
        if matches!(event.what, Happened::CanaryWeightSet { .. }) {
            tell.take().map(|it| it.send(()));
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        concluded = first.run(deploy("v2", false), &mut observe) => panic!("{concluded:?}"),
        _ = died => {}
    }
    fake.with(|it| assert_eq!(it.weight(SERVICE), Some(20)));
    // Whoever comes next has no weights configured.
    let mut weights = Vec::new();
    let concluded = release(&fake, "second", |happened| {
        if let Happened::Began { step } = happened {
            fake.with(|it| weights.push((*step, it.weight(SERVICE))));
        }
    })
    .await
    .unwrap();
    assert!(released(&concluded), "{concluded:?}");
    let at = |step: Step| weights.iter().find(|(it, _)| *it == step).unwrap().1;
    assert_eq!(at(Step::Check), None, "it begins without a share");
    assert_eq!(at(Step::Switch), Some(20));
    fake.with(|it| assert_eq!(it.weight(SERVICE), None));
}

const SEVERAL: [&str; 2] = [SERVICE, "orders"];

/// Releases v2 of quotes and of orders, which calls it.
async fn release_both(
    fake: &Fake,
    run: &str,
    ask: Ask<'_>,
    mut meanwhile: impl FnMut(&str, &Happened),
) -> Concluded {
    let policy = policy();
    let deployers = SEVERAL.map(|service| Deployer {
        service,
        ..deployer(fake, &policy, run)
    });
    let mut observe = async |service: &str, event: &Event| meanwhile(service, &event.what);
    run_together(&deployers, ask, &mut observe).await
}

/// Which colour of each is live.
fn live(fake: &Fake) -> [Option<Colour>; 2] {
    fake.with(|it| SEVERAL.map(|service| it.selected_by(service)))
}

fn conclusions(concluded: &Concluded) -> [&Conclusion; 2] {
    let each = concluded.each.iter().map(|(_, it)| it.as_ref().unwrap());
    each.collect::<Vec<_>>().try_into().unwrap()
}

#[tokio::test(start_paused = true)]
async fn several_services_are_released_each_after_those_that_it_calls() {
    let fake = Fake::of(&SEVERAL);
    let mut seen = Vec::new();
    let concluded = release_both(&fake, "first", deploy("v2", false), |service, happened| {
        if let Happened::Began { step } = happened {
            seen.push((service.to_owned(), *step));
        }
    })
    .await;
    assert!(
        conclusions(&concluded).into_iter().all(released),
        "{concluded:?}"
    );
    assert_eq!(concluded.failed, None);
    assert_eq!(live(&fake), [Some(Colour::Green); 2]);
    let at = |service: &str, step: Step| {
        let its = |(name, it): &(String, Step)| name == service && *it == step;
        seen.iter().position(its).unwrap()
    };
    assert!(
        at("orders", Step::Check) < at(SERVICE, Step::Switch),
        "{seen:?}"
    );
    assert!(
        at(SERVICE, Step::Drain) < at("orders", Step::Switch),
        "{seen:?}"
    );
    assert!(
        at("orders", Step::Drain) < at(SERVICE, Step::Retire),
        "{seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn where_one_does_not_hold_none_is_released() {
    let fake = Fake::of(&SEVERAL);
    fake.with(|it| it.ill = Some("orders"));
    let mut back = Vec::new();
    let concluded = release_both(&fake, "first", deploy("v2", false), |service, happened| {
        if let Happened::Reverted { .. } = happened {
            back.push(service.to_owned());
        }
    })
    .await;
    let [quotes, orders] = conclusions(&concluded);
    assert!(
        matches!(quotes, Conclusion::Reverted { why, .. } if why.contains("orders, of the same release")),
        "{quotes:?}"
    );
    assert!(
        matches!(orders, Conclusion::Reverted { why, .. } if why.starts_with("errors")),
        "{orders:?}"
    );
    assert_eq!(concluded.failed.as_deref(), Some("orders"));
    assert_eq!(back, ["orders", SERVICE], "first those that call others");
    assert_eq!(live(&fake), [Some(Colour::Blue); 2]);
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn what_stands_against_one_stands_against_all_and_nothing_is_changed() {
    let fake = Fake::of(&SEVERAL);
    fake.with(|it| it.select("orders-preview", json!("blue")));
    let concluded = release_both(&fake, "first", deploy("v2", false), |_, _| {}).await;
    let [quotes, orders] = &concluded.each[..] else {
        panic!("{concluded:?}");
    };
    assert!(
        matches!(quotes.1, Err(BlueGreenError::Together { .. })),
        "{quotes:?}"
    );
    assert!(
        matches!(orders.1, Err(BlueGreenError::Preflight { .. })),
        "{orders:?}"
    );
    assert_eq!(concluded.failed.as_deref(), Some("orders"));
    assert_blue_as_before(&fake);
    assert_eq!(outcomes(&fake).await, [] as [Outcome; 0]);
}

/// Both are under way until `service` begins `step`; nobody is at work on them then.
async fn leave_both_at(fake: &Fake, service: &str, step: Step) {
    let policy = policy();
    let deployers = SEVERAL.map(|service| Deployer {
        service,
        ..deployer(fake, &policy, "first")
    });
    let (tell, died) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let mut observe = async |its: &str, event: &Event| {
        if its == service && matches!(event.what, Happened::Began { step: at } if at == step) {
            tell.take().map(|it| it.send(()));
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        concluded = run_together(&deployers, deploy("v2", false), &mut observe) => panic!("{concluded:?}"),
        _ = died => {}
    }
}

#[tokio::test(start_paused = true)]
async fn several_services_that_were_left_are_gone_on_with_together() {
    for (service, step) in [
        (SERVICE, Step::BringUp),
        ("orders", Step::Check),
        (SERVICE, Step::Switch),
        (SERVICE, Step::Analyse),
        ("orders", Step::Switch),
        ("orders", Step::Analyse),
        ("orders", Step::Drain),
        (SERVICE, Step::Retire),
        ("orders", Step::Retire),
    ] {
        let fake = Fake::of(&SEVERAL);
        leave_both_at(&fake, service, step).await;
        let concluded = release_both(&fake, "second", deploy("v2", false), |_, _| {}).await;
        for (its, concluded) in &concluded.each {
            let is_live = matches!(
                concluded,
                Ok(Conclusion::Released { .. } | Conclusion::AlreadyLive { .. })
            );
            assert!(is_live, "left at {step} of {service}: {its}: {concluded:?}");
        }
        assert_eq!(live(&fake), [Some(Colour::Green); 2], "{service} {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn several_services_that_were_left_are_taken_back_together() {
    for (service, step) in [
        (SERVICE, Step::Check),
        (SERVICE, Step::Analyse),
        ("orders", Step::Switch),
        ("orders", Step::Drain),
    ] {
        let fake = Fake::of(&SEVERAL);
        leave_both_at(&fake, service, step).await;
        release_both(&fake, "second", Ask::Abort, |_, _| {}).await;
        assert_eq!(live(&fake), [Some(Colour::Blue); 2], "{service} {step}");
        assert_blue_as_before(&fake);
    }
    let fake = Fake::of(&SEVERAL);
    leave_both_at(&fake, "orders", Step::Retire).await;
    let concluded = release_both(&fake, "second", Ask::Abort, |_, _| {}).await;
    for (service, concluded) in &concluded.each {
        let refused = matches!(
            concluded,
            Err(BlueGreenError::WrongStep { .. } | BlueGreenError::NothingUnderWay { .. })
        );
        assert!(refused, "{service}: {concluded:?}");
    }
    assert_eq!(live(&fake), [Some(Colour::Green); 2]);
}

#[tokio::test(start_paused = true)]
async fn another_version_takes_back_all_of_what_was_left() {
    let fake = Fake::of(&SEVERAL);
    leave_both_at(&fake, "orders", Step::Analyse).await;
    let concluded = release_both(&fake, "second", deploy("v3", false), |_, _| {}).await;
    for (service, concluded) in &concluded.each {
        let is_v3 =
            matches!(concluded, Ok(Conclusion::Released { version, .. }) if version == "v3");
        assert!(is_v3, "{service}: {concluded:?}");
    }
    let book = Book::read(&fake.cluster, SERVICE).await.unwrap();
    assert_eq!(book.audit[0].outcome, Outcome::Reverted);
}

#[tokio::test(start_paused = true)]
async fn one_of_several_is_not_released_alone() {
    let fake = Fake::of(&SEVERAL);
    leave_both_at(&fake, "orders", Step::Check).await;
    let error = release(&fake, "second", |_| {}).await.unwrap_err();
    assert!(
        matches!(error, BlueGreenError::OfSeveral { .. }),
        "{error:?}"
    );
}
