use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::retry::RETRIED_FOR;
use kubernetes::mock::{Fault, MockObjects, MockServer};

const SPAN: Duration = Duration::from_secs(15);

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/trii/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/trii/leases/api-gateway-blue-green";

/// An API server with one Lease. It may be away, and others may write the Lease.
struct Store {
    objects: Arc<Mutex<MockObjects>>,
    cluster: Cluster,
    server: MockServer,
}

impl Store {
    fn new(lease: Option<Value>) -> Store {
        let mut objects = MockObjects::default();
        if let Some(lease) = lease {
            objects.put(LEASES, lease);
        }
        let objects = Arc::new(Mutex::new(objects));
        let shared = Arc::clone(&objects);
        let server = MockServer::new(move |request| shared.lock().unwrap().answer(request));
        Store {
            objects,
            cluster: server.cluster("trii"),
            server,
        }
    }

    fn lease(&self) -> Value {
        self.objects.lock().unwrap().get(LEASE).unwrap().clone()
    }

    fn holder(&self) -> String {
        let holder = self.lease()["spec"]["holderIdentity"].clone();
        holder.as_str().unwrap_or_default().to_owned()
    }

    /// Another process writes the Lease.
    fn write(&self, key: &str, value: Value) {
        let mut objects = self.objects.lock().unwrap();
        objects.change(LEASE, |lease| lease["spec"][key] = value);
    }

    fn set_away(&self, away: bool) {
        let mut objects = self.objects.lock().unwrap();
        match away {
            true => objects.fail(Fault::everywhere().saying(500, "etcdserver: no leader")),
            false => objects.heal(),
        }
    }

    async fn take(&self, pid: u32) -> Result<ReleaseLock, LeaseError> {
        ReleaseLock::take(&self.cluster, "api-gateway", &holder(pid), SPAN, &|_| {}).await
    }
}

fn holder(pid: u32) -> DeployerIdentity {
    DeployerIdentity {
        user: "ana".into(),
        host: "laptop".into(),
        pid,
        run: format!("r{pid}"),
    }
}

/// A Lease of process 1. By our clock, `renewed` is in the distant past or future.
fn held(renewed: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "api-gateway-blue-green"},
        "spec": {"holderIdentity": holder(1).to_string(), "leaseDurationSeconds": 15,
            "leaseTransitions": 3, "acquireTime": "2026-11-25T09:00:00.000000Z",
            "renewTime": renewed},
    })
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_lease_is_created_with_its_labels() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    lock.ours().await.unwrap();
    let lease = store.lease();
    assert_eq!(store.holder(), "ana@laptop, pid 1, run r1");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
    let labels = &lease["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/name"], "api-gateway");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "trii-rehearsal");
    let query = &store.server.requests()[1].query;
    assert!(query.contains("fieldManager=trii-blue-green"), "{query}");
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_renewed_every_third_of_its_span_until_it_is_dropped() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    pass(61).await;
    lock.ours().await.unwrap();
    let puts = |store: &Store| {
        let requests = store.server.requests();
        requests.iter().filter(|it| it.method == "PUT").count()
    };
    assert_eq!(puts(&store), 12);
    let lost = timeout(Duration::from_secs(30), lock.lost()).await;
    assert!(lost.is_err(), "it is not lost");
    drop(lock);
    let before = puts(&store);
    pass(60).await;
    assert_eq!(puts(&store), before);
    assert_eq!(store.holder(), holder(1).to_string(), "it only expires");
}

#[tokio::test(start_paused = true)]
async fn a_second_deployer_fails_within_a_third_of_the_span() {
    let store = Store::new(None);
    let _lock = store.take(1).await.unwrap();
    pass(1).await;
    let begun = Instant::now();
    let error = store.take(2).await.err().unwrap();
    assert!(begun.elapsed() <= SPAN / 3 + Duration::from_secs(1));
    let LeaseError::Held { by, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(by.holder, holder(1).to_string());
    assert!(by.since.is_some() && error.to_string().contains(" since 20"));
    assert_eq!(store.holder(), holder(1).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_is_taken_over_after_its_span_by_our_clock() {
    for renewed in ["2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"] {
        let store = Store::new(Some(held(renewed)));
        let lines = Mutex::new(Vec::new());
        let progress = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let begun = Instant::now();
        let cluster = &store.cluster;
        let lock = ReleaseLock::take(cluster, "api-gateway", &holder(2), SPAN, &progress).await;
        lock.unwrap().ours().await.unwrap();
        let waited = begun.elapsed();
        assert!(waited >= SPAN && waited <= SPAN + PAUSE, "{waited:?}");
        assert_eq!(store.lease()["spec"]["leaseTransitions"], 4);
        let lines = lines.into_inner().unwrap();
        let year = &renewed[..4];
        assert_eq!(
            lines[0],
            format!(
                "held by ana@laptop, pid 1, run r1 since 2026-11-25T09:00:00Z, renewed at \
                 {year}-01-01T00:00:00Z; taking over in 15 s if it is not renewed"
            )
        );
        assert!(lines.last().unwrap().contains("in 1 s"), "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_that_wait_for_the_same_lease_one_takes_it() {
    let store = Store::new(Some(held("2001-01-01T00:00:00.000000Z")));
    let (one, two) = tokio::join!(store.take(2), store.take(3));
    let (lock, error) = match (one, two) {
        (Ok(lock), Err(error)) | (Err(error), Ok(lock)) => (lock, error),
        (one, two) => panic!("{} {}", one.is_ok(), two.is_ok()),
    };
    assert!(matches!(error, LeaseError::Held { .. }), "{error}");
    lock.ours().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_released_lock_is_free_immediately() {
    let store = Store::new(None);
    store.take(1).await.unwrap().release().await.unwrap();
    assert_eq!(store.holder(), "");
    let free = ReleaseLock::holder(&store.cluster, "api-gateway")
        .await
        .unwrap();
    assert_eq!(free, None);
    let begun = Instant::now();
    let _lock = store.take(2).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let held = ReleaseLock::holder(&store.cluster, "api-gateway")
        .await
        .unwrap();
    assert_eq!(held.unwrap().holder, holder(2).to_string());
    assert_eq!(store.lease()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_another_holder_took_is_lost_at_the_next_renewal() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    store.write("holderIdentity", json!(holder(2).to_string()));
    let begun = Instant::now();
    let error = lock.lost().await;
    assert!(begun.elapsed() <= SPAN / 3);
    assert!(
        matches!(&error, LeaseError::Taken { by, .. } if by.holder.starts_with("ana@laptop, pid 2")),
        "{error}"
    );
    assert!(matches!(lock.ours().await, Err(LeaseError::Taken { .. })));
    assert!(lock.release().await.is_err());
    assert_eq!(store.holder(), holder(2).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_lock_whose_lease_was_deleted_is_lost() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    store.objects.lock().unwrap().remove(LEASE);
    assert!(matches!(lock.lost().await, LeaseError::Deleted { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_another_field_does_no_harm() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    for edit in 0..10 {
        pass(5).await;
        store.write("strategy", json!(edit.to_string()));
        lock.ours().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_expires_while_the_api_server_is_away_and_is_ours_again_later() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    for seconds in [9, 20, 60] {
        store.set_away(true);
        pass(seconds).await;
        let ours = timeout(Duration::ZERO, lock.ours()).await;
        assert_eq!(ours.is_ok(), seconds < 12, "after {seconds} s");
        store.set_away(false);
        let begun = Instant::now();
        lock.ours().await.unwrap();
        assert!(begun.elapsed() <= SPAN / 15 * 2, "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_expired_and_was_taken_is_lost() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    store.set_away(true);
    pass(60).await;
    store.write("holderIdentity", json!(holder(2).to_string()));
    store.set_away(false);
    assert!(matches!(lock.ours().await, Err(LeaseError::Taken { .. })));
    assert_eq!(store.holder(), holder(2).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_lost_if_the_api_server_is_away_for_long() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    store.set_away(true);
    let begun = Instant::now();
    let error = lock.lost().await;
    let elapsed = begun.elapsed();
    assert!(elapsed <= RETRIED_FOR + SPAN, "{elapsed:?}");
    assert!(error.to_string().contains("no leader"), "{error}");
    let ours = lock.ours().await;
    assert!(matches!(ours, Err(LeaseError::NotRenewed { .. })));
    // Nobody took it meanwhile, so its holder can take it again immediately.
    store.set_away(false);
    let begun = Instant::now();
    store.take(1).await.unwrap().ours().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_api_server_is_reported_with_the_request() {
    let store = Store::new(None);
    store.set_away(true);
    let error = store.take(1).await.err().unwrap().to_string();
    let request = "get Lease api-gateway-blue-green";
    assert!(error.contains(request), "{error}");
}

#[test]
fn this_process_is_a_holder() {
    let this = DeployerIdentity::this("20261125-034512-blue-green-7f3a").to_string();
    let pid = std::process::id();
    assert!(this.contains(&format!(", pid {pid}, run 2026")), "{this}");
    assert!(!this.starts_with('@') && !this.contains("@,"), "{this}");
}
