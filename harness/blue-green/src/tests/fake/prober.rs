//! The pod of a prober. Each read of its log adds the answers that were due by then.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::State;
use kubernetes::in_memory_api::status;
use kubernetes::mock::ApiRequest;
use kubernetes::prober::output_line::LineWriter;
use kubernetes::prober::{Answer, RequestOutcome, Spec};

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
    /// How many answers of each lane are in the log.
    reported: Vec<u64>,
    log: Log,
    writer: LineWriter<Log>,
}

impl FakeProber {
    fn of(pod: &Value) -> FakeProber {
        let env = &pod["spec"]["containers"][0]["env"][0];
        let spec: Spec = serde_json::from_str(env["value"].as_str().unwrap()).unwrap();
        let names = spec.lanes.iter().map(|lane| lane.name.as_str().into());
        let log = Log::default();
        FakeProber {
            since: Instant::now(),
            reported: vec![0; spec.lanes.len()],
            writer: LineWriter::ready(log.clone(), 0, names.collect()).unwrap(),
            log,
            spec,
        }
    }

    /// Logs the answers that were due since the last read. `status_of` returns the current status
    /// of a service.
    fn report(&mut self, status_of: impl Fn(&str) -> u16) {
        let seconds = self.since.elapsed().as_secs_f64();
        for (lane, reported) in self.spec.lanes.iter().zip(&mut self.reported) {
            let service = lane.name.split(' ').next().unwrap();
            while (*reported as f64) < seconds * lane.rate {
                *reported += 1;
                let status = status_of(service);
                let answer = Answer {
                    lane: lane.name.as_str().into(),
                    intended: *reported,
                    sent_after: 0,
                    took: 4_000,
                    good: lane.is_good(status),
                    outcome: RequestOutcome::Status(status),
                    by: None,
                    on: None,
                };
                self.writer.answer(&answer).unwrap();
            }
        }
    }
}

/// Answers requests about the pods of the probers' namespace.
pub fn pods(state: &mut State, request: &ApiRequest) -> (u16, Value) {
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "prober-a"},
        "status": {"phase": "Running"}});
    let (active, preview, failing) = (state.active(), state.preview(), state.probe_fails);
    match (request.method.as_str(), &mut state.prober) {
        ("POST", None) => {
            state.prober = Some(FakeProber::of(&request.body));
            (201, pod)
        }
        ("DELETE", prober) => {
            *prober = None;
            let none = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []});
            let all = request.path.ends_with("/pods");
            (200, if all { none } else { pod })
        }
        ("GET", Some(prober)) if request.path.ends_with("/log") => {
            prober.report(|service| {
                let colour = match service.ends_with("-preview") {
                    true => preview,
                    false => active,
                };
                let fails = colour.is_some() && colour == failing;
                if fails { 503 } else { 200 }
            });
            let log = prober.log.0.lock().unwrap().clone();
            (200, Value::String(String::from_utf8(log).unwrap()))
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
