//! The objects of the mock API server, of any kind, by their paths.

use serde_json::Value;
use tokio::time::Instant;

use super::{ApiRequest, MockAnswer};
use crate::in_memory_api::store::{Store, name_of};
use crate::in_memory_api::{self, ObjectPath, status};

/// Objects, and the faults of requests for them. A collection is the path of a kind,
/// `/api/v1/namespaces/trii/services`. No controller runs: a test adds the objects that one would
/// create.
#[derive(Default)]
pub struct MockObjects {
    store: Store,
    faults: Vec<Fault>,
}

/// A fault of some requests. By default they fail with 503, permanently.
pub struct Fault {
    affects: fn(&ApiRequest) -> bool,
    answer: Option<(u16, &'static str)>,
    times: u32,
    until: Option<Instant>,
}

impl Fault {
    /// A fault of every request.
    pub fn everywhere() -> Fault {
        Fault::of(|_| true)
    }

    /// A fault of the requests for which `affects` returns true.
    pub fn of(affects: fn(&ApiRequest) -> bool) -> Fault {
        Fault {
            affects,
            answer: Some((503, "etcd is away")),
            times: u32::MAX,
            until: None,
        }
    }

    /// Answers with this status code and message instead.
    pub fn saying(self, code: u16, message: &'static str) -> Fault {
        let answer = Some((code, message));
        Fault { answer, ..self }
    }

    /// Does not answer at all.
    pub fn silent(self) -> Fault {
        let answer = None;
        Fault { answer, ..self }
    }

    /// Ends after this number of requests.
    pub fn times(self, times: u32) -> Fault {
        Fault { times, ..self }
    }

    /// Ends at `end`.
    pub fn until(self, end: Instant) -> Fault {
        let until = Some(end);
        Fault { until, ..self }
    }

    fn is_over(&self) -> bool {
        self.times == 0 || self.until.is_some_and(|end| Instant::now() >= end)
    }
}

impl MockObjects {
    /// Adds a fault.
    pub fn fail(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    /// Returns the answer of the first fault that affects the request.
    pub fn fault(&mut self, request: &ApiRequest) -> Option<MockAnswer> {
        self.faults.retain(|it| !it.is_over());
        let fault = self.faults.iter_mut().find(|it| (it.affects)(request))?;
        fault.times -= 1;
        Some(match fault.answer {
            Some((code, message)) => MockAnswer::Says(code, status(code, "", message)),
            None => MockAnswer::Silence,
        })
    }

    /// Answers a request, unless a [`Fault`] affects it.
    pub fn answer(&mut self, request: &ApiRequest) -> MockAnswer {
        if let Some(fault) = self.fault(request) {
            return fault;
        }
        let Some(place) = ObjectPath::of(&request.path) else {
            return MockAnswer::Says(404, status(404, "NotFound", &request.path));
        };
        match in_memory_api::answer(&mut self.store, place.collection, &place, request) {
            Ok(object) => MockAnswer::Says(200, object),
            Err(refusal) => refusal.status().into(),
        }
    }

    /// Returns all objects of a collection.
    pub fn list(&self, collection: &str) -> impl Iterator<Item = &Value> {
        self.store.list(collection)
    }

    /// Returns the object at a path.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let place = ObjectPath::of(path)?;
        self.store.get(place.collection, place.name)
    }

    /// Creates or overwrites an object.
    pub fn put(&mut self, collection: &str, object: Value) {
        self.store.put(collection, object);
    }

    /// Writes these objects, and removes all others of the collection.
    pub fn put_all(&mut self, collection: &str, objects: Vec<Value>) {
        let names: Vec<String> = self.list(collection).map(|it| name_of(it).into()).collect();
        for name in names {
            if !objects.iter().any(|it| name_of(it) == name) {
                self.store.delete(collection, &name).unwrap();
            }
        }
        for object in objects {
            self.put(collection, object);
        }
    }

    /// Edits the object at a path.
    pub fn change(&mut self, path: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap().clone();
        edit(&mut object);
        self.put(ObjectPath::of(path).unwrap().collection, object);
    }

    /// Removes the object at a path.
    pub fn remove(&mut self, path: &str) {
        let place = ObjectPath::of(path).unwrap();
        self.store.delete(place.collection, place.name).unwrap();
    }
}
