//! Whole releases, against a simulated API server.

mod fake;

use std::sync::LazyLock;
use std::time::Duration;

use hyper::header::HeaderName;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::analysis::Thresholds;
use super::lock::LeaseError;
use super::policy::{Canary, Evidence};
use super::record::ReleaseOutcome;
use super::record::ReleaseStep::{Analyse, BringUp, Check, Drain, Retire, Revert, Switch};
use super::*;
use fake::{Fake, LEASE, QUOTAS, SERVICE, SERVICES};
use kubernetes::mock::Fault;
use kubernetes::prober::IdentityHeaders;

static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy {
    lease: Duration::from_secs(15),
    green_ready: Duration::from_secs(60),
    baseline: Duration::from_secs(5),
    watch: Duration::from_secs(10),
    analysis: Evidence::Required,
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
    versions: VersionSources {
        headers: IdentityHeaders {
            version: Some(HeaderName::from_static("x-trii-version")),
            ..IdentityHeaders::default()
        },
        ..VersionSources::default()
    },
    smoke: std::collections::BTreeMap::new(),
});

/// Asserts that a value matches a pattern.
macro_rules! assert_is {
    ($value:expr, $pattern:pat $(if $guard:expr)?) => {{
        let value = &$value;
        assert!(matches!(value, $pattern $(if $guard)?), "{value:?}");
    }};
}

fn holder(run: &str) -> DeployerIdentity {
    DeployerIdentity {
        user: "ana".into(),
        host: "laptop".into(),
        pid: 1,
        run: run.into(),
    }
}

fn deployer<'a>(fake: &'a Fake, run: &str) -> Deployer<'a> {
    Deployer {
        cluster: &fake.cluster,
        service: SERVICE,
        policy: &POLICY,
        smoke: &[],
        probe_from: ProbeFrom::Nowhere,
        helpers_namespace: fake::HELPERS,
        holder: holder(run),
        release: run.to_owned(),
        cancellation: CancellationToken::new(),
    }
}

fn deploy(version: &str, manual: bool) -> Operation<'_> {
    Operation::Deploy { version, manual }
}

/// Runs an operation. `on_event` is called for each event.
async fn observed(
    deployer: &Deployer<'_>,
    operation: Operation<'_>,
    mut on_event: impl FnMut(&EventKind),
) -> Result<Conclusion, BlueGreenError> {
    let mut observe = async |event: &ReleaseEvent| on_event(&event.what);
    deployer.run(operation, &mut observe).await
}

async fn run(
    deployer: &Deployer<'_>,
    operation: Operation<'_>,
) -> Result<Conclusion, BlueGreenError> {
    observed(deployer, operation, |_| {}).await
}

/// Releases v2.
async fn release(fake: &Fake, run: &str, on_event: impl FnMut(&EventKind)) -> Conclusion {
    let concluded = observed(&deployer(fake, run), deploy("v2", false), on_event).await;
    concluded.unwrap()
}

async fn release_by(fake: &Fake, policy: &Policy, version: &str) -> Conclusion {
    let deployer = Deployer {
        policy,
        ..deployer(fake, "first")
    };
    run(&deployer, deploy(version, false)).await.unwrap()
}

fn begins(event: &EventKind, step: ReleaseStep) -> bool {
    matches!(event, EventKind::Began { step: it } if *it == step)
}

/// Releases v2 of these services. All deployers die at the first event for which `dies` is true.
async fn die_when(deployers: &[Deployer<'_>], dies: impl Fn(&str, &EventKind) -> bool) {
    let (sender, died) = tokio::sync::oneshot::channel();
    let mut sender = Some(sender);
    let mut observe = async |service: &str, event: &ReleaseEvent| {
        if dies(service, &event.what) {
            sender.take().map(|it| it.send(()));
            std::future::pending::<()>().await;
        }
    };
    let running = run_together(deployers, deploy("v2", false), &mut observe);
    tokio::select! {
        concluded = running => panic!("{concluded:?}"),
        _ = died => {}
    }
}

async fn die_at(fake: &Fake, step: ReleaseStep) {
    die_when(&[deployer(fake, "first")], |_, event| begins(event, step)).await;
}

fn released(conclusion: &Conclusion) -> bool {
    matches!(conclusion, Conclusion::Released { version, .. } if version == "v2")
}

/// Why a version was rolled back after it had traffic.
fn why_reverted(conclusion: Conclusion) -> String {
    match conclusion {
        Conclusion::Reverted { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

/// Why a version was rolled back before it had traffic.
fn why_rolled_back(conclusion: Conclusion) -> String {
    match conclusion {
        Conclusion::RolledBack { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

fn assert_blue_as_before(fake: &Fake) {
    fake.with(|it| {
        assert_eq!(it.active(), Some(Colour::Blue));
        assert_eq!(it.preview(), Some(Colour::Green));
        assert_eq!(Colour::ALL.map(|colour| it.replicas(colour)), [2, 0]);
        assert_eq!(Colour::ALL.map(|colour| it.is_live(colour)), [true, false]);
    });
}

async fn records(fake: &Fake) -> RecordMap {
    RecordMap::read(&fake.cluster, SERVICE).await.unwrap()
}

async fn outcomes(fake: &Fake) -> Vec<ReleaseOutcome> {
    let records = records(fake).await;
    assert_eq!(records.record, None, "no release is in progress");
    records.audit.into_iter().map(|it| it.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn a_release_moves_all_traffic_and_empties_the_old_colour() {
    let fake = Fake::new();
    let mut steps = Vec::new();
    let concluded = release(&fake, "first", |event| {
        if let EventKind::Began { step } = event {
            steps.push(*step);
        }
    })
    .await;
    assert!(released(&concluded), "{concluded:?}");
    assert_eq!(steps, [BringUp, Check, Switch, Analyse, Drain, Retire]);
    fake.with(|it| {
        assert_eq!(it.active(), Some(Colour::Green));
        assert_eq!(it.preview(), Some(Colour::Blue));
        assert_eq!(it.version(Colour::Green), "v2");
        assert_eq!(Colour::ALL.map(|colour| it.replicas(colour)), [0, 2]);
        assert_eq!(Colour::ALL.map(|colour| it.is_live(colour)), [false, true]);
    });
    assert_eq!(outcomes(&fake).await, [ReleaseOutcome::Released]);
    // The same version again.
    let again = release(&fake, "again", |_| {}).await;
    assert_is!(again, Conclusion::AlreadyLive { .. });
}

/// `refuses`: the number of requests that the ingress answers by itself between two reads.
async fn release_behind_ingress(fake: &Fake, refuses: u64) -> Conclusion {
    fake.with(|it| it.refuses = refuses);
    let ingress = ingress::IngressMetrics {
        namespace: "edge".to_owned(),
        pods: "app=router".to_owned(),
        port: 9000,
        requests: "answers_total".to_owned(),
        labels: [("service".to_owned(), "{namespace}-{service}-*".to_owned())].into(),
    };
    let policy = Policy {
        ingress: Some(ingress),
        ..POLICY.clone()
    };
    release_by(fake, &policy, "v2").await
}

#[tokio::test(start_paused = true)]
async fn error_responses_of_the_ingress_itself_are_errors() {
    let fake = Fake::new();
    let why = why_reverted(release_behind_ingress(&fake, 20).await);
    assert!(why.contains("answered by the ingress itself"), "{why}");
    assert_blue_as_before(&fake);
    // Those from before, and those of other services, do not count.
    let concluded = release_behind_ingress(&Fake::new(), 0).await;
    assert!(released(&concluded), "{concluded:?}");
}

#[test]
fn an_error_of_a_pod_that_the_ingress_also_counts_is_one_error() {
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

#[tokio::test(start_paused = true)]
async fn a_configuration_is_released_as_a_version_is() {
    let fake = Fake::new();
    fake.with(|it| it.configure(Colour::Green, "b"));
    let concluded = release_by(&fake, &POLICY, "v1").await;
    let expected = Conclusion::Released {
        version: "v1".to_owned(),
        colour: Colour::Green,
    };
    assert_eq!(concluded, expected);
    fake.with(|it| {
        assert_eq!(it.active(), Some(Colour::Green));
        // Otherwise the next release would bring the old configuration back.
        assert_eq!(it.configuration(Colour::Blue), "b");
    });
    assert!(records(&fake).await.audit[0].record.reconfigured);
    let again = release_by(&fake, &POLICY, "v1").await;
    assert_is!(again, Conclusion::AlreadyLive { .. });
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_fails_is_on_one_colour_only() {
    let fake = Fake::new();
    fake.with(|it| {
        it.configure(Colour::Green, "b");
        it.pods(Colour::Green).waiting = Some(("CrashLoopBackOff", "back-off restarting"));
    });
    let concluded = release_by(&fake, &POLICY, "v1").await;
    assert_is!(concluded, Conclusion::RolledBack { .. });
    assert_blue_as_before(&fake);
    fake.with(|it| assert_eq!(it.configuration(Colour::Blue), "a"));
}

#[tokio::test(start_paused = true)]
async fn a_release_gets_as_many_pods_as_the_autoscaler_wants() {
    let fake = Fake::new();
    fake.with(|it| it.autoscale(Colour::Blue, 1, 7));
    release(&fake, "first", |_| {}).await;
    fake.with(|it| assert_eq!(it.replicas(Colour::Green), 7));
}

#[tokio::test(start_paused = true)]
async fn the_new_colour_grows_with_the_live_one() {
    let fake = Fake::new();
    let concluded = release(&fake, "first", |event| match event {
        EventKind::Began { step: Check } => fake.with(|it| it.scale(Colour::Blue, 5)),
        EventKind::Patched { .. } => fake.with(|it| assert_eq!(it.replicas(Colour::Green), 5)),
        _ => {}
    })
    .await;
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_does_not_exist_is_reported_and_blue_is_not_changed() {
    let fake = Fake::new();
    let message = "failed to pull: not found";
    fake.with(|it| it.pods(Colour::Green).waiting = Some(("ErrImagePull", message)));
    let why = why_rolled_back(release(&fake, "first", |_| {}).await);
    assert!(why.contains("ErrImagePull"), "{why}");
    assert!(why.contains("quotes:v2"), "{why}");
    assert_blue_as_before(&fake);
    assert_eq!(outcomes(&fake).await, [ReleaseOutcome::RolledBack]);
}

#[tokio::test(start_paused = true)]
async fn one_pod_that_fails_its_health_check_stops_the_release() {
    let fake = Fake::new();
    fake.with(|it| it.pods(Colour::Green).last_status = 503);
    let why = why_rolled_back(release(&fake, "first", |_| {}).await);
    assert!(why.contains("1 of 2 pods") && why.contains("503"), "{why}");
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn errors_after_the_switch_roll_the_release_back() {
    let fake = Fake::new();
    let mut reverted = false;
    let concluded = release(&fake, "first", |event| match event {
        EventKind::Settled { to, .. } if *to == Colour::Green => {
            fake.with(|it| it.each_read = (200, 100));
        }
        EventKind::Reverted { .. } => reverted = true,
        _ => {}
    })
    .await;
    assert_is!(concluded, Conclusion::Reverted { inconclusive, .. } if !inconclusive);
    assert!(reverted);
    assert_blue_as_before(&fake);
    assert_eq!(outcomes(&fake).await, [ReleaseOutcome::Reverted]);
}

/// Releases v2, which is slow for as many reads after the switch.
async fn released_slow_for(reads: usize) -> Conclusion {
    let fake = Fake::new();
    let mut done = 0;
    release(&fake, "first", |event| match event {
        EventKind::Patched { to, .. } if *to == Colour::Green => fake.with(|it| it.slow = true),
        EventKind::Progress { text } if text.starts_with("green: ") => {
            done += 1;
            fake.with(|it| it.slow &= done < reads);
        }
        _ => {}
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_is_ignored_and_slowness_is_not() {
    let concluded = released_slow_for(1).await;
    assert!(released(&concluded), "{concluded:?}");
    let concluded = released_slow_for(usize::MAX).await;
    assert_is!(concluded, Conclusion::Reverted { inconclusive, .. } if !inconclusive);
    let why = why_reverted(concluded);
    assert!(why.contains("latency"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_killed_during_the_watch_has_a_successor() {
    let fake = Fake::new();
    let concluded = release(&fake, "first", |event| match event {
        EventKind::Progress { text } if text.starts_with("green: ") => {
            fake.with(|it| it.pods(Colour::Green).killed = 1);
        }
        _ => {}
    })
    .await;
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn without_traffic_a_release_is_inconclusive() {
    let fake = Fake::new();
    fake.with(|it| it.each_read = (0, 0));
    let concluded = release(&fake, "first", |_| {}).await;
    let code = concluded.exit_code();
    assert_eq!(code, ExitCode::Inconclusive, "{concluded:?}");
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn the_next_deployer_continues_from_every_step() {
    for step in [BringUp, Check, Switch, Analyse, Drain, Retire] {
        let fake = Fake::new();
        die_at(&fake, step).await;
        let mut found = None;
        let concluded = release(&fake, "second", |event| {
            if let EventKind::Found { step, .. } = event {
                found = Some(*step);
            }
            fake.with(|it| assert!(it.active().is_some(), "no single colour at {step}"));
        })
        .await;
        assert_eq!(found, Some(step));
        assert!(released(&concluded), "{step}: {concluded:?}");
        assert_eq!(outcomes(&fake).await, [ReleaseOutcome::Released], "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_release_can_be_ended_at_every_step() {
    for step in [BringUp, Switch, Analyse, Drain, Retire] {
        let fake = Fake::new();
        die_at(&fake, step).await;
        // The same release, by another process.
        let deployer = Deployer {
            holder: holder("second"),
            ..deployer(&fake, "first")
        };
        let ended = run(&deployer, Operation::End).await;
        assert!(ended.is_ok(), "{step}: {ended:?}");
        assert_eq!(outcomes(&fake).await.len(), 1, "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_of_another_deployer_is_not_ended() {
    for step in [BringUp, Switch, Retire] {
        let fake = Fake::new();
        die_at(&fake, step).await;
        let before = records(&fake).await.record;
        let ended = run(&deployer(&fake, "second"), Operation::End).await;
        let error = ended.unwrap_err();
        assert_is!(error, BlueGreenError::OfAnother { .. });
        assert_eq!(error.exit_code(), ExitCode::Refused);
        let owner = "ana@laptop, pid 1, run first";
        assert!(error.to_string().contains(owner), "{error}");
        assert_eq!(records(&fake).await.record, before, "{step}");
    }
    let ended = run(&deployer(&Fake::new(), "second"), Operation::End).await;
    assert_is!(ended, Err(BlueGreenError::NothingInProgress { .. }));
}

/// It waits for a person, and nobody has died.
#[tokio::test(start_paused = true)]
async fn another_version_does_not_replace_a_release_of_another_deployer_at_the_gate() {
    let fake = Fake::new();
    let first = deployer(&fake, "first");
    let at_gate = run(&first, deploy("v2", true)).await;
    assert_is!(at_gate, Ok(Conclusion::AtGate { .. }));
    let refused = run(&deployer(&fake, "second"), deploy("v3", false)).await;
    assert_is!(refused, Err(BlueGreenError::OfAnother { .. }));
    let concluded = run(&first, Operation::Promote).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn another_version_rolls_back_the_release_of_a_dead_deployer() {
    let fake = Fake::new();
    die_at(&fake, Analyse).await;
    let concluded = run(&deployer(&fake, "second"), deploy("v3", false)).await;
    assert_is!(concluded, Ok(Conclusion::Released { version, .. }) if version == "v3");
    assert_eq!(
        outcomes(&fake).await,
        [ReleaseOutcome::Reverted, ReleaseOutcome::Released]
    );
}

#[tokio::test(start_paused = true)]
async fn the_gate_waits_for_promote_or_abort() {
    for promote in [true, false] {
        let fake = Fake::new();
        let deployer = deployer(&fake, "first");
        let at_gate = run(&deployer, deploy("v2", true)).await;
        assert_is!(at_gate, Ok(Conclusion::AtGate { .. }));
        fake.with(|it| assert_eq!(it.active(), Some(Colour::Blue)));
        match promote {
            true => {
                let concluded = run(&deployer, Operation::Promote).await.unwrap();
                assert!(released(&concluded), "{concluded:?}");
            }
            false => {
                run(&deployer, Operation::Abort).await.unwrap();
                assert_blue_as_before(&fake);
                assert_eq!(outcomes(&fake).await, [ReleaseOutcome::RolledBack]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_cancelled_is_rolled_back() {
    for step in [BringUp, Check, Switch, Analyse, Drain] {
        let fake = Fake::new();
        let deployer = deployer(&fake, "first");
        let concluded = observed(&deployer, deploy("v2", false), |event| {
            if begins(event, step) {
                deployer.cancellation.cancel();
            }
        });
        let concluded = concluded.await.unwrap();
        let code = concluded.exit_code();
        assert_eq!(code, ExitCode::CheckFailed, "{step}: {concluded:?}");
        assert_blue_as_before(&fake);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_20_or_60_seconds_is_waited_for() {
    for (seconds, silent) in [(20, false), (60, false), (60, true)] {
        for step in [BringUp, Check, Switch, Analyse, Drain, Retire] {
            let fake = Fake::new();
            let deployer = deployer(&fake, "first");
            let concluded = observed(&deployer, deploy("v2", false), |event| {
                if begins(event, step) {
                    let end = Instant::now() + Duration::from_secs(seconds);
                    let fault = Fault::everywhere().until(end);
                    let fault = if silent { fault.silent() } else { fault };
                    fake.with(|it| it.objects.fail(fault));
                }
            });
            let concluded = concluded.await;
            let concluded =
                concluded.unwrap_or_else(|error| panic!("{step}, {seconds} s: {error}"));
            assert!(released(&concluded), "{step}, {seconds} s: {concluded:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_deployer_is_refused_with_the_holder_of_the_lock() {
    let fake = Fake::new();
    let second = deployer(&fake, "second");
    let mut refused = None;
    let mut observe = async |event: &ReleaseEvent| {
        if matches!(event.what, EventKind::Locked { .. }) {
            refused = Some(Box::pin(run(&second, deploy("v3", false))).await);
        }
    };
    let first = deployer(&fake, "first");
    let concluded = first.run(deploy("v2", false), &mut observe).await.unwrap();
    assert!(released(&concluded));
    let Some(Err(BlueGreenError::Lock(error @ LeaseError::Held { .. }))) = refused else {
        panic!("{refused:?}");
    };
    let holder = "ana@laptop, pid 1, run first";
    assert!(error.to_string().contains(holder), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_user_who_moves_traffic_back_ends_the_release() {
    let fake = Fake::new();
    let concluded = release(&fake, "first", |event| {
        if begins(event, Analyse) {
            fake.with(|it| it.activate(Colour::Blue));
        }
    });
    let why = why_rolled_back(concluded.await);
    assert!(why.contains("changed by"), "{why}");
    assert_blue_as_before(&fake);
}

/// Without the track in the active Service's selector, traffic goes to both colours.
#[tokio::test(start_paused = true)]
async fn if_a_user_removes_the_track_traffic_returns_to_the_old_colour() {
    for step in [BringUp, Switch, Analyse, Drain] {
        let fake = Fake::new();
        let concluded = release(&fake, "first", |event| {
            if begins(event, step) {
                fake.with(|it| it.activate_both());
            }
        });
        let code = concluded.await.exit_code();
        assert_eq!(code, ExitCode::CheckFailed, "{step}");
        assert_blue_as_before(&fake);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_deployer_repairs_a_service_without_a_live_colour() {
    for step in [BringUp, Switch, Analyse, Retire] {
        for operation in [Operation::Abort, deploy("v2", false), deploy("v3", false)] {
            let fake = Fake::new();
            die_at(&fake, step).await;
            fake.with(|it| it.activate_both());
            let concluded = run(&deployer(&fake, "second"), operation).await;
            let failed = concluded.is_err();
            // A release cannot be aborted once its old colour is being retired.
            let is_too_late = (step, operation) == (Retire, Operation::Abort);
            assert_eq!(failed, is_too_late, "{step} {operation:?}: {concluded:?}");
            fake.with(|it| assert!(it.active().is_some(), "{step} {operation:?}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_release_abort_restores_the_selector() {
    let fake = Fake::new();
    fake.with(|it| it.activate_both());
    let status = ServiceStatus::of(&fake.cluster, SERVICE).await.unwrap();
    assert_eq!(status.live, None);
    let deployer = deployer(&fake, "first");
    let refused = run(&deployer, deploy("v2", false)).await;
    assert_is!(refused, Err(BlueGreenError::NoLiveColour { .. }));
    run(&deployer, Operation::Abort).await.unwrap();
    assert_blue_as_before(&fake);
    // If both are marked, the live one is unknown.
    fake.with(|it| {
        it.activate_both();
        it.mark_live(Colour::Green);
        it.scale(Colour::Green, 2);
    });
    let error = run(&deployer, Operation::Abort).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Refused);
    let message = "both are marked as live";
    assert!(error.to_string().contains(message), "{error}");
}

/// An operator may move the Service back, as the chart's README describes.
#[tokio::test(start_paused = true)]
async fn a_colour_that_is_live_again_is_not_retired() {
    for operation in [deploy("v2", false), deploy("v3", false), Operation::Abort] {
        let fake = Fake::new();
        die_at(&fake, Retire).await;
        fake.with(|it| it.activate(Colour::Blue));
        let next = deployer(&fake, "second");
        let concluded = observed(&next, operation, |_| {
            fake.with(|it| {
                let live = it.active().unwrap();
                assert!(it.replicas(live) > 0, "{operation:?}: {live} is live");
            });
        });
        drop(concluded.await);
    }
    // Between the step and the scale-down.
    let fake = Fake::new();
    let deployer = deployer(&fake, "first");
    let concluded = observed(&deployer, deploy("v2", false), |event| {
        if begins(event, Retire) {
            fake.with(|it| it.activate(Colour::Blue));
        }
    });
    let error = concluded.await.unwrap_err();
    let message = "stopped at the step retire";
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!(error.exit_code(), ExitCode::NoEnvironment);
    fake.with(|it| {
        assert_eq!(it.replicas(Colour::Blue), 2);
        assert!(it.is_live(Colour::Blue));
    });
}

#[tokio::test(start_paused = true)]
async fn a_live_version_that_crashes_is_unhealthy() {
    let fake = Fake::new();
    fake.with(|it| it.pods(Colour::Blue).waiting = Some(("CrashLoopBackOff", "")));
    let concluded = release_by(&fake, &POLICY, "v1").await;
    assert_is!(concluded, Conclusion::LiveUnhealthy { .. });
    assert_eq!(concluded.exit_code(), ExitCode::CheckFailed);
}

#[tokio::test(start_paused = true)]
async fn pods_at_the_gate_are_kept_and_replaced() {
    let fake = Fake::new();
    fake.with(|it| it.autoscale(Colour::Green, 1, 1));
    let deployer = deployer(&fake, "first");
    run(&deployer, deploy("v2", true)).await.unwrap();
    fake.with(|it| {
        it.shrink(Colour::Green);
        assert_eq!(it.replicas(Colour::Green), 2, "the autoscaler is held");
        // A user can still scale it.
        it.scale(Colour::Green, 1);
    });
    let concluded = run(&deployer, Operation::Promote).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
    fake.with(|it| {
        assert_eq!(it.replicas(Colour::Green), 2);
        assert_eq!(it.scaler(Colour::Green), (1, None));
    });
}

#[tokio::test(start_paused = true)]
async fn the_old_colour_keeps_enough_pods_to_take_traffic_back() {
    for by_user in [false, true] {
        let fake = Fake::new();
        fake.with(|it| it.autoscale(Colour::Blue, 1, 2));
        let concluded = release(&fake, "first", |event| match event {
            EventKind::Began { step: Analyse } => fake.with(|it| {
                it.each_read = (200, 40);
                match by_user {
                    true => it.scale(Colour::Blue, 1),
                    false => it.shrink(Colour::Blue),
                }
            }),
            EventKind::Patched { to, .. } if *to == Colour::Blue => {
                fake.with(|it| assert_eq!(it.replicas(Colour::Blue), 2, "{by_user}"));
            }
            _ => {}
        })
        .await;
        assert_is!(concluded, Conclusion::Reverted { .. });
        assert_blue_as_before(&fake);
        fake.with(|it| assert_eq!(it.scaler(Colour::Blue), (1, None)));
    }
}

/// Refused means that nothing was changed.
#[tokio::test(start_paused = true)]
async fn a_release_that_cannot_be_rolled_back_is_left_unfinished() {
    let fake = Fake::new();
    die_at(&fake, Analyse).await;
    fake.with(|it| it.pods(Colour::Blue).waiting = Some(("CrashLoopBackOff", "")));
    let ended = run(&deployer(&fake, "second"), Operation::Abort).await;
    let error = ended.unwrap_err();
    let message = "stopped at the step revert";
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!(error.exit_code(), ExitCode::NoEnvironment);
    fake.with(|it| assert_eq!(it.active(), Some(Colour::Green)));
}

/// One that was suspended, or cut off, finds its successor when it resumes.
#[tokio::test(start_paused = true)]
async fn a_deployer_that_lost_the_lock_moves_no_traffic() {
    let fake = Fake::new();
    let deployer = deployer(&fake, "first");
    let concluded = observed(&deployer, deploy("v2", false), |event| match event {
        EventKind::Began { step: Analyse } => fake.with(|it| it.each_read = (200, 40)),
        EventKind::Breached { .. } => fake.with(|it| {
            it.away_until(Instant::now() + Duration::from_secs(40));
            it.objects.change(LEASE, |lease| {
                lease["spec"]["holderIdentity"] = json!("bob@server, pid 2, run second");
            });
        }),
        _ => {}
    });
    let error = concluded.await.unwrap_err();
    assert!(error.to_string().contains("bob@server"), "{error}");
    // Something was changed.
    assert_eq!(error.exit_code(), ExitCode::NoEnvironment);
    fake.with(|it| assert_eq!(it.active(), Some(Colour::Green)));
}

#[tokio::test(start_paused = true)]
async fn a_baseline_of_an_earlier_deployer_is_not_used() {
    let fake = Fake::new();
    die_at(&fake, Switch).await;
    let mut records = records(&fake).await;
    let mut record = records.record.clone().unwrap();
    record.baseline = Some(traffic::Window {
        requests: 1_000,
        errors: 500,
        ..traffic::Window::default()
    });
    records.write(record).await.unwrap();
    let concluded = release(&fake, "second", |event| {
        if matches!(event, EventKind::Patched { .. }) {
            fake.with(|it| it.each_read = (200, 40));
        }
    })
    .await;
    assert_is!(concluded, Conclusion::Reverted { .. });
}

/// It answers two of three requests, quickly and without errors.
#[tokio::test(start_paused = true)]
async fn a_version_that_leaves_requests_unanswered_is_rolled_back() {
    for given_up in [false, true] {
        let fake = Fake::new();
        let concluded = release(&fake, "first", |event| match event {
            EventKind::Patched { to, .. } if *to == Colour::Green => {
                fake.with(|it| it.unanswered = Some(given_up));
            }
            _ => {}
        });
        let why = why_reverted(concluded.await);
        assert!(why.contains("without an answer"), "{given_up}: {why}");
    }
}

/// They happen before the first read of the metrics.
#[tokio::test(start_paused = true)]
async fn errors_right_after_the_switch_count() {
    let fake = Fake::new();
    let mut errors = 0;
    let concluded = release(&fake, "first", |event| match event {
        EventKind::Patched { to, .. } if *to == Colour::Green => {
            fake.with(|it| it.each_read = (0, 0));
        }
        EventKind::Settled { to, .. } if *to == Colour::Green => fake.with(|it| {
            errors += 1;
            it.each_answers(Colour::Green, 100, 50);
        }),
        _ => {}
    });
    let why = why_reverted(concluded.await);
    assert_eq!(errors, 1);
    assert!(why.contains("100 of 200"), "{why}");
}

fn policy_by(analysis: Evidence) -> Policy {
    Policy {
        analysis,
        ..POLICY.clone()
    }
}

/// Releases a service without users: only the deployer's own requests count.
async fn probed(
    fake: &Fake,
    probe_from: ProbeFrom<'_>,
    on_event: impl FnMut(&EventKind),
) -> Result<Conclusion, BlueGreenError> {
    fake.with(|it| it.each_read = (0, 0));
    let policy = policy_by(Evidence::Probe);
    let paths = ["/quotes".to_owned()];
    let deployer = Deployer {
        policy: &policy,
        smoke: &paths,
        probe_from,
        ..deployer(fake, "first")
    };
    observed(&deployer, deploy("v2", false), on_event).await
}

fn assert_no_prober(fake: &Fake) {
    fake.with(|it| assert!(it.prober.is_none(), "its pod still exists"));
}

const POD: ProbeFrom<'static> = ProbeFrom::Pod { image: "prober:1" };

#[tokio::test(start_paused = true)]
async fn without_users_a_prober_shows_that_a_version_is_good() {
    let fake = Fake::new();
    let mut ran_before_the_switch = false;
    let concluded = probed(&fake, POD, |event| {
        if let EventKind::Patched { .. } = event {
            ran_before_the_switch = fake.with(|it| it.prober.is_some());
        }
    });
    let concluded = concluded.await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
    assert!(ran_before_the_switch);
    let records = records(&fake).await;
    let record = &records.audit[0].record;
    assert_eq!(record.analysis, Evidence::Probe);
    let baseline = record.baseline.as_ref().unwrap();
    assert!((80..=120).contains(&baseline.requests), "{baseline:?}");
    assert_no_prober(&fake);
}

#[tokio::test(start_paused = true)]
async fn without_any_requests_the_health_of_its_pods_is_enough() {
    let fake = Fake::new();
    fake.with(|it| it.each_read = (0, 0));
    let concluded = release_by(&fake, &policy_by(Evidence::None), "v2").await;
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn a_prober_without_paths_or_image_is_refused_before_any_change() {
    let fake = Fake::new();
    let error = probed(&fake, ProbeFrom::Nowhere, |_| {}).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Refused);
    let help = miette::Diagnostic::help(&error).unwrap().to_string();
    assert!(help.contains("prober_image"), "{help}");
    let policy = policy_by(Evidence::Probe);
    let deployer = Deployer {
        policy: &policy,
        probe_from: POD,
        ..deployer(&fake, "first")
    };
    let error = run(&deployer, deploy("v2", false)).await.unwrap_err();
    assert!(error.to_string().contains("no `smoke` paths"), "{error}");
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_fails_the_probes_of_its_preview_gets_no_traffic() {
    let fake = Fake::new();
    fake.with(|it| it.probe_fails = Some(Colour::Green));
    let concluded = probed(&fake, POD, |event| {
        let moves = matches!(event, EventKind::Patched { .. });
        assert!(!moves, "{event:?}");
    });
    let concluded = concluded.await.unwrap();
    assert_is!(concluded, Conclusion::RolledBack { inconclusive, .. } if !inconclusive);
    let why = why_rolled_back(concluded);
    assert!(why.starts_with("before the switch: errors: "), "{why}");
    assert_blue_as_before(&fake);
    assert_no_prober(&fake);
}

/// The new version is no worse than the old one.
#[tokio::test(start_paused = true)]
async fn a_version_is_released_if_only_the_old_colour_fails() {
    let fake = Fake::new();
    fake.with(|it| it.probe_fails = Some(Colour::Blue));
    let concluded = probed(&fake, POD, |_| {}).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn failed_probes_after_the_switch_roll_the_release_back() {
    let fake = Fake::new();
    let concluded = probed(&fake, POD, |event| {
        if begins(event, Analyse) {
            fake.with(|it| it.probe_fails = Some(Colour::Green));
        }
    });
    let why = why_reverted(concluded.await.unwrap());
    assert!(why.starts_with("errors: "), "{why}");
    assert_no_prober(&fake);
}

#[tokio::test(start_paused = true)]
async fn a_prober_that_stops_reporting_makes_the_analysis_inconclusive() {
    let fake = Fake::new();
    let concluded = probed(&fake, POD, |event| {
        if let EventKind::Patched { .. } = event {
            fake.with(|it| it.prober_runs = false);
        }
    });
    let concluded = concluded.await.unwrap();
    assert_eq!(concluded.exit_code(), ExitCode::Inconclusive);
    let why = why_reverted(concluded);
    assert!(why.contains("it reported nothing for"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn the_next_deployer_deletes_the_prober_of_a_dead_one() {
    let fake = Fake::new();
    let deploying = probed(&fake, POD, |_| {});
    let started = async {
        loop {
            if let Some(prober) = fake.with(|it| it.prober.take()) {
                return prober;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let prober = tokio::select! {
        concluded = deploying => panic!("{concluded:?}"),
        prober = started => prober,
    };
    // A process that dies does not delete it.
    sleep(Duration::from_secs(1)).await;
    fake.with(|it| it.prober = Some(prober));
    let concluded = probed(&fake, POD, |_| {}).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
    assert_no_prober(&fake);
}

#[tokio::test(start_paused = true)]
async fn a_release_succeeds_if_its_lock_cannot_be_released() {
    let fake = Fake::new();
    let concluded = release(&fake, "first", |event| {
        if matches!(event, EventKind::Released { .. }) {
            let full = Fault::of(|it| it.method == "PUT" && it.path.contains("/leases/"));
            fake.with(|it| it.objects.fail(full.saying(500, "the disk is full")));
        }
    })
    .await;
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn a_readiness_probe_without_http_is_left_to_the_kubelet() {
    let fake = Fake::new();
    let probe = json!({"exec": {"command": ["true"]}});
    fake.with(|it| {
        for colour in Colour::ALL {
            it.change_container(colour, "readinessProbe", probe.clone());
        }
    });
    let concluded = release(&fake, "first", |_| {}).await;
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_once_is_no_failure() {
    let fake = Fake::new();
    let paths = ["/quotes".to_owned()];
    let deployer = Deployer {
        smoke: &paths,
        ..deployer(&fake, "first")
    };
    let mut smoked = 0;
    let concluded = observed(&deployer, deploy("v2", false), |event| match event {
        EventKind::Began { .. } => fake.with(|it| it.break_smoke(1)),
        EventKind::SmokeHeld { .. } => smoked += 1,
        _ => {}
    });
    let concluded = concluded.await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
    assert_eq!(smoked, 2);
}

/// Releases v2 with one smoke request. Its version is known by `source`.
async fn release_named_by(source: VersionSource) -> Conclusion {
    let fake = Fake::new();
    let policy = Policy {
        versions: VersionSources {
            services: [(SERVICE.to_owned(), source)].into(),
            ..VersionSources::default()
        },
        ..POLICY.clone()
    };
    let paths = ["/quotes".to_owned()];
    let deployer = Deployer {
        policy: &policy,
        smoke: &paths,
        ..deployer(&fake, "first")
    };
    run(&deployer, deploy("v2", false)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_version_may_name_itself_by_a_path_or_by_the_image_of_its_pods() {
    let path = |json: &str| {
        VersionSource::Path(VersionPath {
            path: "/version".to_owned(),
            json: Some(json.to_owned()),
        })
    };
    for source in [path("/x-trii-version"), VersionSource::Image] {
        let concluded = release_named_by(source).await;
        assert!(released(&concluded), "{concluded:?}");
    }
    let why = why_rolled_back(release_named_by(path("/build")).await);
    insta::assert_snapshot!(why, @r#"quotes-preview does not name version v2 by "/build" of GET /version after 10s: the answer to /version has no text at "/build""#);
    let header = VersionSource::Header(HeaderName::from_static("x-other"));
    let why = why_rolled_back(release_named_by(header).await);
    insta::assert_snapshot!(why, @"the answer of quotes-preview to /quotes does not name its version");
}

#[tokio::test(start_paused = true)]
async fn the_proxy_of_the_api_server_may_follow_later_than_traffic() {
    let fake = Fake::new();
    // Both colours have one version: it does not tell who answered.
    fake.with(|it| it.configure(Colour::Green, "b"));
    let paths = ["/quotes".to_owned()];
    let deployer = Deployer {
        smoke: &paths,
        ..deployer(&fake, "first")
    };
    let concluded = observed(&deployer, deploy("v1", false), |event| {
        if begins(event, Analyse) {
            fake.with(|it| it.requests_fail = Some(Colour::Green));
        }
    });
    let why = why_reverted(concluded.await.unwrap());
    assert!(why.ends_with("quotes answers /quotes with 500"), "{why}");
    assert_eq!(fake.with(|it| it.active()), Some(Colour::Blue));
}

/// A deployer on another machine.
fn on_server(fake: &Fake) -> Deployer<'_> {
    let mut deployer = deployer(fake, "second");
    deployer.holder.host = "server".into();
    deployer
}

#[tokio::test(start_paused = true)]
async fn a_release_is_rolled_back_by_another_machine_within_two_seconds() {
    let fake = Fake::new();
    let (first, second) = (deployer(&fake, "first"), on_server(&fake));
    let mut reverting = None;
    let releasing = observed(&first, deploy("v2", false), |event| {
        if begins(event, Revert) {
            reverting = Some(Instant::now());
        }
    });
    let aborting = async {
        sleep(Duration::from_secs(9)).await;
        (Instant::now(), run(&second, Operation::Abort).await)
    };
    let (concluded, (requested, aborted)) = tokio::join!(releasing, aborting);
    let concluded = concluded.unwrap();
    assert_eq!(aborted.unwrap(), concluded);
    let why = why_reverted(concluded);
    assert!(why.contains("`abort` was requested by ana@server"), "{why}");
    assert!(reverting.unwrap() - requested <= Duration::from_secs(2));
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_paused_by_another_machine_and_promoted_later() {
    let fake = Fake::new();
    let (first, second) = (deployer(&fake, "first"), on_server(&fake));
    fake.with(|it| it.pods(Colour::Green).waiting = Some(("ContainerCreating", "")));
    let pausing = async {
        sleep(Duration::from_secs(3)).await;
        let starting = async {
            sleep(Duration::from_secs(3)).await;
            fake.with(|it| it.pods(Colour::Green).waiting = None);
        };
        tokio::join!(run(&second, Operation::Pause), starting).0
    };
    let (concluded, paused) = tokio::join!(run(&first, deploy("v2", false)), pausing);
    let concluded = concluded.unwrap();
    assert_is!(concluded, Conclusion::AtGate { .. });
    assert_eq!(paused.unwrap(), concluded);
    let concluded = run(&second, Operation::Promote).await.unwrap();
    assert!(released(&concluded), "{concluded:?}");
}

#[tokio::test(start_paused = true)]
async fn obstacles_to_a_release_are_reported_before_any_change() {
    type Change = fn(&mut fake::State);
    let cases: [(Change, &str); 7] = [
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
        (
            |it| {
                let quota = json!({"metadata": {"name": "q"}, "status": {
                    "hard": {"requests.cpu": "1"}, "used": {"requests.cpu": "900m"}}});
                it.objects.put(QUOTAS, quota);
            },
            "requests.cpu: 2 pods need 0.2, 0.1 is left of 1",
        ),
    ];
    for (change, message) in cases {
        let fake = Fake::new();
        fake.with(change);
        let refused = run(&deployer(&fake, "first"), deploy("v2", false)).await;
        let error = refused.expect_err(message);
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Refused);
        let patches = fake.count_requests(|it| it.method == "PATCH");
        assert_eq!(patches, 0, "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_services_and_impossible_versions_are_bad_usage() {
    let fake = Fake::new();
    let unknown = Deployer {
        service: "quote",
        ..deployer(&fake, "first")
    };
    let error = run(&unknown, deploy("v2", false)).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
    let known = deployer(&fake, "first");
    let error = run(&known, deploy("latest", false)).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_changes_nothing() {
    let fake = Fake::new();
    let plan = deployer(&fake, "dry-run").plan("v2").await.unwrap();
    let colours = (plan.from, plan.to);
    assert_eq!(colours, (Colour::Blue, Colour::Green));
    assert_eq!(plan.replicas, 2);
    assert_eq!(fake.count_requests(|it| it.method != "GET"), 0);
}

fn canary_policy(weights: Vec<u8>, header: Option<String>) -> Policy {
    Policy {
        canary: Some(Canary { weights, header }),
        ..POLICY.clone()
    }
}

/// An ingress of this controller routes to the service.
fn route_by(fake: &Fake, controller: &str) {
    fake.with(|it| {
        it.route_by_ingress(controller);
        it.share_of_green = Some((40, 0));
    });
}

/// Routes 20 % and then 50 % of the ingress' traffic to v2 before the switch.
async fn release_by_weights(
    fake: &Fake,
    controller: &str,
    on_event: impl FnMut(&EventKind),
) -> Conclusion {
    route_by(fake, controller);
    let policy = canary_policy(vec![20, 50], Some("x-preview".to_owned()));
    let deployer = Deployer {
        policy: &policy,
        ..deployer(fake, "first")
    };
    let concluded = observed(&deployer, deploy("v2", false), on_event);
    concluded.await.unwrap()
}

const NGINX: &str = "k8s.io/ingress-nginx";

#[tokio::test(start_paused = true)]
async fn shares_of_the_ingress_traffic_come_before_all_of_it() {
    let fake = Fake::new();
    let mut weights = Vec::new();
    let concluded = release_by_weights(&fake, NGINX, |event| match event {
        EventKind::PreviewHeaderSet { header, .. } => {
            assert_eq!(header, "x-preview");
            fake.with(|it| weights.push(it.weight(SERVICE)));
        }
        EventKind::CanaryWeightSet { .. } => fake.with(|it| {
            assert_eq!(it.active(), Some(Colour::Blue));
            weights.push(it.weight(SERVICE));
        }),
        EventKind::Patched { .. } => fake.with(|it| weights.push(it.weight(SERVICE))),
        _ => {}
    })
    .await;
    assert!(released(&concluded), "{concluded:?}");
    assert_eq!(weights, [Some(0), Some(20), Some(50), Some(50)]);
    fake.with(|it| {
        assert_eq!(it.active(), Some(Colour::Green));
        assert_eq!(it.weight(SERVICE), None, "the canary routes to no colour");
    });
}

#[tokio::test(start_paused = true)]
async fn the_canary_has_only_the_rules_of_the_service() {
    let fake = Fake::new();
    let mut canary = serde_json::Value::Null;
    release_by_weights(&fake, NGINX, |event| {
        if let EventKind::CanaryWeightSet { weight: 20, .. } = event {
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
    assert_eq!(owner["kind"], "Ingress");
    assert_eq!(owner["uid"], "i");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_fails_with_a_share_gets_no_more_traffic() {
    let fake = Fake::new();
    fake.with(|it| it.failing = Some(SERVICE));
    let mut most = 0;
    let concluded = release_by_weights(&fake, NGINX, |event| match event {
        EventKind::CanaryWeightSet { weight, .. } => most = most.max(*weight),
        EventKind::Patched { .. } => panic!("{event}"),
        // The ingress follows.
        EventKind::Breached { .. } => fake.with(|it| it.share_of_green = Some((0, 0))),
        _ => {}
    })
    .await;
    assert_is!(concluded, Conclusion::Reverted { .. });
    assert_eq!(most, 20);
    assert_blue_as_before(&fake);
    fake.with(|it| assert_eq!(it.weight(SERVICE), None));
    assert_eq!(outcomes(&fake).await, [ReleaseOutcome::Reverted]);
}

#[tokio::test(start_paused = true)]
async fn a_revert_that_the_ingress_does_not_follow_is_not_reported_as_verified() {
    let fake = Fake::new();
    fake.with(|it| it.failing = Some(SERVICE));
    let concluded = release_by_weights(&fake, NGINX, |event| match event {
        EventKind::Reverted { .. } => panic!("{event}"),
        EventKind::Breached { .. } => fake.with(|it| it.ingress_is_stuck = true),
        _ => {}
    })
    .await;
    assert_is!(concluded, Conclusion::Reverted { .. });
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn an_ingress_without_canary_support_gets_no_canary() {
    let fake = Fake::new();
    let mut skipped = None;
    let concluded = release_by_weights(&fake, "haproxy.org/ingress", |event| match event {
        EventKind::CanaryWeightSet { .. } => panic!("{event}"),
        EventKind::CanarySkipped { because } => skipped = Some(because.clone()),
        _ => {}
    })
    .await;
    assert!(released(&concluded), "{concluded:?}");
    let because = skipped.unwrap();
    assert!(because.contains("haproxy.org/ingress"), "{because}");
}

#[tokio::test(start_paused = true)]
async fn after_a_deployer_died_with_a_share_the_next_starts_without_one() {
    let fake = Fake::new();
    route_by(&fake, NGINX);
    let policy = canary_policy(vec![20], None);
    let first = Deployer {
        policy: &policy,
        ..deployer(&fake, "first")
    };
    let sets_weight =
        |_: &str, event: &EventKind| matches!(event, EventKind::CanaryWeightSet { .. });
    die_when(&[first], sets_weight).await;
    fake.with(|it| assert_eq!(it.weight(SERVICE), Some(20)));
    // The policy of the next deployer has no weights.
    let mut weights = Vec::new();
    let concluded = release(&fake, "second", |event| {
        if let EventKind::Began { step } = event {
            fake.with(|it| weights.push((*step, it.weight(SERVICE))));
        }
    })
    .await;
    assert!(released(&concluded), "{concluded:?}");
    let at = |step: ReleaseStep| weights.iter().find(|(it, _)| *it == step).unwrap().1;
    assert_eq!(at(Check), None, "it begins without a share");
    assert_eq!(at(Switch), Some(20));
    fake.with(|it| assert_eq!(it.weight(SERVICE), None));
}

/// The second calls the first.
const SEVERAL: [&str; 2] = [SERVICE, "orders"];

fn both<'a>(fake: &'a Fake, run: &str) -> [Deployer<'a>; 2] {
    SEVERAL.map(|service| Deployer {
        service,
        ..deployer(fake, run)
    })
}

async fn run_both(fake: &Fake, run: &str, operation: Operation<'_>) -> GroupConclusion {
    run_together(
        &both(fake, run),
        operation,
        &mut async |_: &str, _: &ReleaseEvent| {},
    )
    .await
}

/// Releases v2 of both services.
async fn release_both(fake: &Fake, mut on_event: impl FnMut(&str, &EventKind)) -> GroupConclusion {
    let mut observe = async |service: &str, event: &ReleaseEvent| on_event(service, &event.what);
    run_together(&both(fake, "first"), deploy("v2", false), &mut observe).await
}

/// The live colour of each service.
fn live(fake: &Fake) -> [Option<Colour>; 2] {
    fake.with(|it| SEVERAL.map(|service| it.selected_by(service)))
}

fn conclusions(concluded: &GroupConclusion) -> [&Conclusion; 2] {
    let each = concluded.each.iter().map(|(_, it)| it.as_ref().unwrap());
    each.collect::<Vec<_>>().try_into().unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_service_is_released_after_those_that_it_calls() {
    let fake = Fake::of(&SEVERAL);
    let mut steps = Vec::new();
    let concluded = release_both(&fake, |service, event| {
        if let EventKind::Began { step } = event {
            steps.push((service.to_owned(), *step));
        }
    })
    .await;
    let all_released = conclusions(&concluded).into_iter().all(released);
    assert!(all_released, "{concluded:?}");
    assert_eq!(concluded.failed, None);
    assert_eq!(live(&fake), [Some(Colour::Green); 2]);
    let at = |service: &str, step: ReleaseStep| {
        let is_it = |(name, it): &(String, ReleaseStep)| name == service && *it == step;
        steps.iter().position(is_it).unwrap()
    };
    assert!(at("orders", Check) < at(SERVICE, Switch), "{steps:?}");
    assert!(at(SERVICE, Drain) < at("orders", Switch), "{steps:?}");
    assert!(at("orders", Drain) < at(SERVICE, Retire), "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn if_one_service_fails_none_is_released() {
    let fake = Fake::of(&SEVERAL);
    fake.with(|it| it.failing = Some("orders"));
    let mut reverted = Vec::new();
    let concluded = release_both(&fake, |service, event| {
        if let EventKind::Reverted { .. } = event {
            reverted.push(service.to_owned());
        }
    })
    .await;
    let [quotes, orders] = conclusions(&concluded).map(|it| why_reverted(it.clone()));
    assert!(quotes.contains("orders, of the same release"), "{quotes}");
    assert!(orders.starts_with("errors"), "{orders}");
    assert_eq!(concluded.failed.as_deref(), Some("orders"));
    assert_eq!(reverted, ["orders", SERVICE], "callers first");
    assert_eq!(live(&fake), [Some(Colour::Blue); 2]);
    assert_blue_as_before(&fake);
}

#[tokio::test(start_paused = true)]
async fn an_obstacle_to_one_service_stops_all_before_any_change() {
    let fake = Fake::of(&SEVERAL);
    fake.with(|it| it.select("orders-preview", json!("blue")));
    let concluded = release_both(&fake, |_, _| {}).await;
    let [(_, quotes), (_, orders)] = &concluded.each[..] else {
        panic!("{concluded:?}");
    };
    assert_is!(quotes, Err(BlueGreenError::Together { .. }));
    assert_is!(orders, Err(BlueGreenError::Preflight { .. }));
    assert_eq!(concluded.failed.as_deref(), Some("orders"));
    assert_blue_as_before(&fake);
    assert_eq!(outcomes(&fake).await, [] as [ReleaseOutcome; 0]);
}

/// Releases both until `service` begins `step`.
async fn leave_both_at(fake: &Fake, service: &str, step: ReleaseStep) {
    let dies = |name: &str, event: &EventKind| name == service && begins(event, step);
    die_when(&both(fake, "first"), dies).await;
}

#[tokio::test(start_paused = true)]
async fn unfinished_services_are_released_together() {
    for (service, step) in [
        (SERVICE, BringUp),
        ("orders", Check),
        (SERVICE, Switch),
        (SERVICE, Analyse),
        ("orders", Switch),
        ("orders", Analyse),
        ("orders", Drain),
        (SERVICE, Retire),
        ("orders", Retire),
    ] {
        let fake = Fake::of(&SEVERAL);
        leave_both_at(&fake, service, step).await;
        let concluded = run_both(&fake, "second", deploy("v2", false)).await;
        for (name, concluded) in &concluded.each {
            let is_live = matches!(
                concluded,
                Ok(Conclusion::Released { .. } | Conclusion::AlreadyLive { .. })
            );
            assert!(
                is_live,
                "left at {step} of {service}: {name}: {concluded:?}"
            );
        }
        assert_eq!(live(&fake), [Some(Colour::Green); 2], "{service} {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn unfinished_services_are_rolled_back_together() {
    for (service, step) in [
        (SERVICE, Check),
        (SERVICE, Analyse),
        ("orders", Switch),
        ("orders", Drain),
    ] {
        let fake = Fake::of(&SEVERAL);
        leave_both_at(&fake, service, step).await;
        run_both(&fake, "second", Operation::Abort).await;
        assert_eq!(live(&fake), [Some(Colour::Blue); 2], "{service} {step}");
        assert_blue_as_before(&fake);
    }
    let fake = Fake::of(&SEVERAL);
    leave_both_at(&fake, "orders", Retire).await;
    let concluded = run_both(&fake, "second", Operation::Abort).await;
    for (service, concluded) in &concluded.each {
        let refused = matches!(
            concluded,
            Err(BlueGreenError::WrongStep { .. } | BlueGreenError::NothingInProgress { .. })
        );
        assert!(refused, "{service}: {concluded:?}");
    }
    assert_eq!(live(&fake), [Some(Colour::Green); 2]);
}

#[tokio::test(start_paused = true)]
async fn another_version_rolls_all_unfinished_services_back() {
    let fake = Fake::of(&SEVERAL);
    leave_both_at(&fake, "orders", Analyse).await;
    let concluded = run_both(&fake, "second", deploy("v3", false)).await;
    for (_, concluded) in &concluded.each {
        assert_is!(concluded, Ok(Conclusion::Released { version, .. }) if version == "v3");
    }
    let outcome = records(&fake).await.audit[0].outcome;
    assert_eq!(outcome, ReleaseOutcome::Reverted);
}

#[tokio::test(start_paused = true)]
async fn one_service_of_several_is_not_released_alone() {
    let fake = Fake::of(&SEVERAL);
    leave_both_at(&fake, "orders", Check).await;
    let refused = run(&deployer(&fake, "second"), deploy("v2", false)).await;
    assert_is!(refused, Err(BlueGreenError::OfSeveral { .. }));
}
