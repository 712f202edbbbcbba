use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::blue_green::retry::ABSENCE;
use crate::cluster::mock::{Fault, Objects, Server};

const SPAN: Duration = Duration::from_secs(15);

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/trii/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/trii/leases/api-gateway-blue-green";

/// An API server with one Lease, that may be away, and on which others may write.
struct Store {
    objects: Arc<Mutex<Objects>>,
    cluster: Cluster,
    server: Server,
}

impl Store {
    fn new(lease: Option<Value>) -> Store {
        let mut objects = Objects::default();
        if let Some(lease) = lease {
            objects.put(LEASES, lease);
        }
        let objects = Arc::new(Mutex::new(objects));
        let shared = Arc::clone(&objects);
        let server = Server::new(move |asked| shared.lock().unwrap().answer(asked));
        Store {
            objects,
            cluster: server.cluster("trii"),
            server,
        }
    }

    fn is(&self) -> Value {
        self.objects.lock().unwrap().get(LEASE).unwrap().clone()
    }

    fn holder(&self) -> String {
        let holder = self.is()["spec"]["holderIdentity"].clone();
        holder.as_str().unwrap_or_default().to_owned()
    }

    /// Another writes.
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

    async fn take(&self, pid: u32) -> Result<Lock, LockError> {
        Lock::take(&self.cluster, "api-gateway", &holder(pid), SPAN, &|_| {}).await
    }
}

fn holder(pid: u32) -> Holder {
    Holder {
        user: "ana".into(),
        host: "laptop".into(),
        pid,
        run: format!("r{pid}"),
    }
}

/// Held by process 1, renewed at a time that is long past, or to come, by our clock.
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
async fn one_that_is_not_there_is_made_with_its_labels() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    lock.ours().await.unwrap();
    let lease = store.is();
    assert_eq!(store.holder(), "ana@laptop, pid 1, run r1");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
    let labels = &lease["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/name"], "api-gateway");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "trii-rehearsal");
    assert!(
        store.server.requests()[1]
            .query
            .contains("fieldManager=trii-blue-green")
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_every_third_of_its_span_for_as_long_as_it_is_held() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    pass(61).await;
    lock.ours().await.unwrap();
    let puts = |store: &Store| {
        let requests = store.server.requests();
        requests.iter().filter(|it| it.method == "PUT").count()
    };
    assert_eq!(puts(&store), 12);
    assert!(
        timeout(Duration::from_secs(30), lock.lost()).await.is_err(),
        "it is not lost"
    );
    drop(lock);
    let before = puts(&store);
    pass(60).await;
    assert_eq!(puts(&store), before);
    assert_eq!(store.holder(), holder(1).to_string(), "only left to lapse");
}

#[tokio::test(start_paused = true)]
async fn a_second_deployer_is_told_by_whom_and_since_when_within_a_third_of_the_span() {
    let store = Store::new(None);
    let _lock = store.take(1).await.unwrap();
    pass(1).await;
    let begun = Instant::now();
    let error = store.take(2).await.err().unwrap();
    assert!(begun.elapsed() <= SPAN / 3 + Duration::from_secs(1));
    let LockError::Held {
        holder: who, since, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(who, &holder(1).to_string());
    assert!(since.is_some() && error.to_string().contains(" since 20"));
    assert_eq!(store.holder(), holder(1).to_string());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_renewed_is_taken_over_after_its_span_whatever_the_clocks_say() {
    for renewed in ["2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"] {
        let store = Store::new(Some(held(renewed)));
        let told = Mutex::new(Vec::new());
        let progress = |words: &str| told.lock().unwrap().push(words.to_owned());
        let begun = Instant::now();
        let cluster = &store.cluster;
        let lock = Lock::take(cluster, "api-gateway", &holder(2), SPAN, &progress).await;
        lock.unwrap().ours().await.unwrap();
        let waited = begun.elapsed();
        assert!(waited >= SPAN && waited <= SPAN + PAUSE, "{waited:?}");
        assert_eq!(store.is()["spec"]["leaseTransitions"], 4);
        let told = told.into_inner().unwrap();
        let year = &renewed[..4];
        assert_eq!(
            told[0],
            format!(
                "held by ana@laptop, pid 1, run r1 since 2026-11-25T09:00:00Z, renewed at \
                 {year}-01-01T00:00:00Z; taking over in 15 s if it is not renewed"
            )
        );
        assert!(told.last().unwrap().contains("in 1 s"), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_who_wait_for_the_same_lease_one_has_it() {
    let store = Store::new(Some(held("2001-01-01T00:00:00.000000Z")));
    let (one, two) = tokio::join!(store.take(2), store.take(3));
    let (lock, error) = match (one, two) {
        (Ok(lock), Err(error)) | (Err(error), Ok(lock)) => (lock, error),
        (one, two) => panic!("{} {}", one.is_ok(), two.is_ok()),
    };
    assert!(matches!(error, LockError::Held { .. }), "{error}");
    lock.ours().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_was_released_is_free_at_once() {
    let store = Store::new(None);
    store.take(1).await.unwrap().release().await.unwrap();
    assert_eq!(store.holder(), "");
    assert_eq!(
        Lock::held(&store.cluster, "api-gateway").await.unwrap(),
        None
    );
    let begun = Instant::now();
    let _lock = store.take(2).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let held = Lock::held(&store.cluster, "api-gateway").await.unwrap();
    assert_eq!(held.unwrap().holder, holder(2).to_string());
    assert_eq!(store.is()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_another_took_is_lost_at_the_next_renewal_and_left_to_them() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    store.write("holderIdentity", json!(holder(2).to_string()));
    let begun = Instant::now();
    let error = lock.lost().await;
    assert!(begun.elapsed() <= SPAN / 3);
    assert!(
        matches!(&error, LockError::Taken { by, .. } if by.starts_with("ana@laptop, pid 2")),
        "{error}"
    );
    assert!(matches!(lock.ours().await, Err(LockError::Taken { .. })));
    assert!(lock.release().await.is_err());
    assert_eq!(store.holder(), holder(2).to_string());
}

#[tokio::test(start_paused = true)]
async fn one_that_was_deleted_is_lost() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    store.objects.lock().unwrap().remove(LEASE);
    assert!(matches!(lock.lost().await, LockError::Deleted { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_hand_that_edits_something_else_of_it_does_no_harm() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    for look in 0..10 {
        pass(5).await;
        store.write("strategy", json!(look.to_string()));
        lock.ours().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_away_it_lapses_and_is_ours_again_after() {
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
async fn one_that_lapsed_and_was_taken_is_not_ours_again() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    store.set_away(true);
    pass(60).await;
    store.write("holderIdentity", json!(holder(2).to_string()));
    store.set_away(false);
    assert!(matches!(lock.ours().await, Err(LockError::Taken { .. })));
    assert_eq!(store.holder(), holder(2).to_string());
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_long_loses_it() {
    let store = Store::new(None);
    let lock = store.take(1).await.unwrap();
    store.set_away(true);
    let begun = Instant::now();
    let error = lock.lost().await;
    assert!(begun.elapsed() <= ABSENCE + SPAN, "{:?}", begun.elapsed());
    assert!(error.to_string().contains("no leader"), "{error}");
    assert!(matches!(
        lock.ours().await,
        Err(LockError::NotRenewed { .. })
    ));
    // Nobody took it meanwhile, so its holder has it again at once.
    store.set_away(false);
    let begun = Instant::now();
    store.take(1).await.unwrap().ours().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_says_no_is_quoted() {
    let store = Store::new(None);
    store.set_away(true);
    let error = store.take(1).await.err().unwrap().to_string();
    assert!(
        error.contains("get Lease api-gateway-blue-green"),
        "{error}"
    );
}

#[test]
fn this_process_is_a_holder() {
    let this = Holder::this("20261125-034512-blue-green-7f3a").to_string();
    let pid = std::process::id();
    assert!(this.contains(&format!(", pid {pid}, run 2026")), "{this}");
    assert!(!this.starts_with('@') && !this.contains("@,"), "{this}");
}
