//! The objects of an API server that is made up, of any kind, by their paths.

use serde_json::Value;
use tokio::time::Instant;

use super::{Answer, Asked};
use crate::api_server::store::{Store, name_of};
use crate::api_server::{self, Place, status};

/// Objects, and what goes wrong when they are asked for. A collection is the path of a kind,
/// `/api/v1/namespaces/trii/services`; what follows from objects is the test's to put beside them.
#[derive(Default)]
pub struct Objects {
    store: Store,
    faults: Vec<Fault>,
}

/// Requests that are not answered as they should be: with 503, for good, unless it says otherwise.
pub struct Fault {
    is_of: fn(&Asked) -> bool,
    says: Option<(u16, &'static str)>,
    times: u32,
    until: Option<Instant>,
}

impl Fault {
    /// The API server is away.
    pub fn everywhere() -> Fault {
        Fault::of(|_| true)
    }

    pub fn of(is_of: fn(&Asked) -> bool) -> Fault {
        Fault {
            is_of,
            says: Some((503, "etcd is away")),
            times: u32::MAX,
            until: None,
        }
    }

    pub fn saying(self, code: u16, message: &'static str) -> Fault {
        let says = Some((code, message));
        Fault { says, ..self }
    }

    /// They are not answered at all.
    pub fn silent(self) -> Fault {
        Fault { says: None, ..self }
    }

    pub fn times(self, times: u32) -> Fault {
        Fault { times, ..self }
    }

    pub fn until(self, end: Instant) -> Fault {
        let until = Some(end);
        Fault { until, ..self }
    }

    fn is_over(&self) -> bool {
        self.times == 0 || self.until.is_some_and(|end| Instant::now() >= end)
    }
}

impl Objects {
    /// From now on this goes wrong.
    pub fn fail(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    /// What goes wrong with a request, if anything does.
    pub fn fault(&mut self, asked: &Asked) -> Option<Answer> {
        self.faults.retain(|it| !it.is_over());
        let fault = self.faults.iter_mut().find(|it| (it.is_of)(asked))?;
        fault.times -= 1;
        Some(match fault.says {
            Some((code, message)) => Answer::Says(code, status(code, "", message)),
            None => Answer::Silence,
        })
    }

    pub fn answer(&mut self, asked: &Asked) -> Answer {
        if let Some(fault) = self.fault(asked) {
            return fault;
        }
        let Some(place) = Place::of(&asked.path) else {
            return Answer::Says(404, status(404, "NotFound", &asked.path));
        };
        match api_server::answer(&mut self.store, place.collection, &place, asked) {
            Ok(object) => Answer::Says(200, object),
            Err(refusal) => refusal.status().into(),
        }
    }

    pub fn list(&self, collection: &str) -> impl Iterator<Item = &Value> {
        self.store.list(collection)
    }

    /// The object at a path.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let place = Place::of(path)?;
        self.store.get(place.collection, place.name)
    }

    /// As a hand does it: whatever is there.
    pub fn put(&mut self, collection: &str, object: Value) {
        self.store.put(collection, object);
    }

    /// Puts these, and removes all others of their kind.
    pub fn put_all(&mut self, collection: &str, objects: Vec<Value>) {
        let names: Vec<String> = self.list(collection).map(|it| name_of(it).into()).collect();
        let gone = names
            .iter()
            .filter(|name| !objects.iter().any(|it| name_of(it) == **name));
        for name in gone {
            self.store.delete(collection, name).unwrap();
        }
        for object in objects {
            self.put(collection, object);
        }
    }

    /// A hand that edits.
    pub fn change(&mut self, path: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap().clone();
        edit(&mut object);
        self.put(Place::of(path).unwrap().collection, object);
    }

    pub fn remove(&mut self, path: &str) {
        let place = Place::of(path).unwrap();
        self.store.delete(place.collection, place.name).unwrap();
    }
}
