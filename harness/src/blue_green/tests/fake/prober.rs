//! The pod of a prober: whenever its log is read, it has asked what was due by then.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::State;
use crate::api_server::status;
use crate::cluster::mock::Asked;
use crate::prober::line::Writer;
use crate::prober::{Answer, Outcome, Spec};

/// What it has said.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct FakeProber {
    spec: Spec,
    since: Instant,
    /// How many requests of each lane it has told of.
    told: Vec<u64>,
    log: Log,
    writer: Writer<Log>,
}

impl FakeProber {
    fn of(pod: &Value) -> FakeProber {
        let env = &pod["spec"]["containers"][0]["env"][0];
        let spec: Spec = serde_json::from_str(env["value"].as_str().unwrap()).unwrap();
        let names = spec.lanes.iter().map(|lane| lane.name.as_str().into());
        let log = Log::default();
        FakeProber {
            since: Instant::now(),
            told: vec![0; spec.lanes.len()],
            writer: Writer::ready(log.clone(), 0, names.collect()).unwrap(),
            log,
            spec,
        }
    }

    /// Tells of what was due since it was last looked at, as the cluster is now.
    fn ask(&mut self, answers: impl Fn(&str) -> u16) {
        let seconds = self.since.elapsed().as_secs_f64();
        for (lane, told) in self.spec.lanes.iter().zip(&mut self.told) {
            let service = lane.name.split(' ').next().unwrap();
            while (*told as f64) < seconds * lane.rate {
                *told += 1;
                let status = answers(service);
                let answer = Answer {
                    lane: lane.name.as_str().into(),
                    intended: *told,
                    sent_after: 0,
                    took: 4_000,
                    good: lane.is_good(status),
                    outcome: Outcome::Status(status),
                    by: None,
                    on: None,
                };
                self.writer.answer(&answer).unwrap();
            }
        }
    }
}

/// The namespace of probers.
pub fn pods(state: &mut State, asked: &Asked) -> (u16, Value) {
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "prober-a"},
        "status": {"phase": "Running"}});
    let (active, preview, fails) = (state.active(), state.preview(), state.fails);
    match (asked.method.as_str(), &mut state.prober) {
        ("POST", None) => {
            state.prober = Some(FakeProber::of(&asked.body));
            (201, pod)
        }
        ("DELETE", prober) => {
            *prober = None;
            match asked.path.ends_with("/pods") {
                true => (
                    200,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []}),
                ),
                false => (200, pod),
            }
        }
        ("GET", Some(prober)) if asked.path.ends_with("/log") => {
            prober.ask(|service| {
                let colour = match service.ends_with("-preview") {
                    true => preview,
                    false => active,
                };
                if colour.is_some() && colour == fails {
                    503
                } else {
                    200
                }
            });
            let said = prober.log.0.lock().unwrap().clone();
            (200, Value::String(String::from_utf8(said).unwrap()))
        }
        ("GET", Some(_)) if state.prober_runs => (200, pod),
        ("GET", Some(_)) => {
            let failed = json!({"kind": "Pod", "apiVersion": "v1",
                "metadata": {"name": "prober-a"}, "status": {"phase": "Failed", "reason": "Evicted"}});
            (200, failed)
        }
        _ => (404, status(404, "NotFound", "no such pod")),
    }
}
