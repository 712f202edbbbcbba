//! Traffic during a scenario: through the ingress, and from inside the cluster.

use std::time::Duration;

use base::wait::{self, Observation};
use k8s_openapi::api::core::v1::Service;
use kubernetes::prober::{
    self, Inside, Lane, Outside, Owner, ProbeTarget, Recording, Spec, Vantage,
};

use super::setup::{SERVICE, Setup};
use crate::Mismatch;

/// For a few hundred answers.
pub const A_WHILE: Duration = Duration::from_secs(60);

const POLL_EVERY: Duration = Duration::from_millis(200);

const QUICK: &str = "/quotes";
const SLOW: &str = "/slow?seconds=20";
const PORT: u16 = 8000;

/// The probers stop after this number of seconds, which is longer than any scenario.
const MAX_SECONDS: f64 = 900.0;

/// The rates of the kinds of requests, in requests/s, from each vantage.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    new_connection: f64,
    pooled: f64,
    slow: f64,
    inside: bool,
    preview: bool,
}

impl Lanes {
    const NONE: Lanes = Lanes {
        new_connection: 0.0,
        pooled: 0.0,
        slow: 0.0,
        inside: false,
        preview: false,
    };

    /// 400 requests/s over the three lanes, half of them from inside. Most use pooled connections,
    /// because a TLS handshake is expensive on a machine that runs everything.
    pub fn full() -> Lanes {
        Lanes {
            new_connection: 50.0,
            pooled: 149.0,
            slow: 1.0,
            inside: true,
            ..Lanes::NONE
        }
    }

    /// Enough for a verdict on a share of the traffic. From inside too, where there is no share.
    pub fn shared() -> Lanes {
        Lanes {
            new_connection: 20.0,
            pooled: 100.0,
            inside: true,
            ..Lanes::NONE
        }
    }

    /// Enough for a verdict, through the ingress.
    pub fn quick() -> Lanes {
        Lanes {
            new_connection: 20.0,
            pooled: 30.0,
            ..Lanes::NONE
        }
    }

    /// Requests of 20 s, and some quick ones for the verdict.
    pub fn slow() -> Lanes {
        Lanes {
            pooled: 30.0,
            slow: 2.0,
            inside: true,
            ..Lanes::NONE
        }
    }

    /// Pooled connections, also directly to the Service.
    pub fn pooled() -> Lanes {
        Lanes {
            pooled: 50.0,
            inside: true,
            ..Lanes::NONE
        }
    }

    /// The idle colour, from inside.
    pub fn of_preview() -> Lanes {
        Lanes {
            new_connection: 25.0,
            pooled: 25.0,
            inside: true,
            preview: true,
            ..Lanes::NONE
        }
    }

    fn spec(&self, quick: &ProbeTarget, slow: &ProbeTarget) -> Spec {
        const CONNECTIONS: usize = 8;
        let lanes = [
            Lane::new_connection(quick.clone(), self.new_connection),
            Lane::pooled(quick.clone(), self.pooled, CONNECTIONS),
            Lane::slow(slow.clone(), self.slow, 20.0),
        ];
        Spec {
            lanes: lanes.into_iter().filter(|it| it.rate > 0.0).collect(),
            seconds: MAX_SECONDS,
        }
    }
}

/// Running traffic.
pub struct Traffic {
    lanes: Lanes,
    outside: Option<Outside>,
    inside: Option<InsideProber>,
}

/// A prober that sends its requests to the Service, not to the ingress.
enum InsideProber {
    Pod(Box<Inside>),
    /// In this process, if this machine reaches the Service's address.
    Here(Outside),
}

impl InsideProber {
    fn so_far(&self) -> u64 {
        match self {
            InsideProber::Pod(inside) => inside.so_far(),
            InsideProber::Here(outside) => answered(outside),
        }
    }
}

fn answered(outside: &Outside) -> u64 {
    outside.so_far().ended()
}

impl Traffic {
    /// Starts traffic, and waits for the first answers.
    pub async fn start(setup: &Setup<'_>, lanes: Lanes) -> Result<Traffic, Mismatch> {
        let outside = match lanes.preview {
            true => None,
            false => Some(outside(setup, lanes).await?),
        };
        let inside = match lanes.inside {
            true => Some(inside(setup, lanes).await?),
            false => None,
        };
        let traffic = Traffic {
            lanes,
            outside,
            inside,
        };
        traffic.until(10, A_WHILE).await;
        Ok(traffic)
    }

    /// Returns the number of answers after which the slowest lane has requests in flight.
    pub fn warm(&self) -> u64 {
        match self.lanes.slow > 0.0 {
            // A few seconds of the other lanes.
            true => 200,
            false => 100,
        }
    }

    /// Waits for this number of answers, for the first failure, or until `timeout`.
    pub async fn until(&self, answers: u64, timeout: Duration) {
        let what = "there are enough answers";
        let waiting = wait::until(what, timeout, POLL_EVERY, async || match self.so_far() {
            enough if enough >= answers || self.has_failed() => Observation::Ready(()),
            few => Observation::NotYet(format!("{few} answers")),
        });
        // The checks count the answers themselves.
        let _ = waiting.await;
    }

    /// Whether a request has failed. A prober in a pod reports failures only at its end.
    fn has_failed(&self) -> bool {
        let inside = match &self.inside {
            Some(InsideProber::Here(here)) => Some(here),
            _ => None,
        };
        let mut probers = self.outside.iter().chain(inside);
        probers.any(|it| it.so_far().failed > 0)
    }

    fn so_far(&self) -> u64 {
        let outside = self.outside.as_ref().map_or(0, answered);
        let inside = self.inside.as_ref().map_or(0, InsideProber::so_far);
        outside + inside
    }

    /// Stops traffic, and waits for the requests in flight.
    pub async fn end(self) -> Result<Vec<Recording>, Mismatch> {
        let mut recordings = Vec::new();
        if let Some(outside) = self.outside {
            recordings.push(outside.end().await);
        }
        match self.inside {
            None => {}
            Some(InsideProber::Pod(inside)) => {
                recordings.push(inside.end().await.map_err(|error| Mismatch {
                    expected: "the prober's recording".to_owned(),
                    seen: error.to_string(),
                    look_at: "the prober's pod".to_owned(),
                    next: "cargo xtask status".to_owned(),
                })?);
            }
            Some(InsideProber::Here(here)) => recordings.push(Recording {
                from: Vantage::Inside,
                ..here.end().await
            }),
        }
        Ok(recordings)
    }
}

async fn outside(setup: &Setup<'_>, lanes: Lanes) -> Result<Outside, Mismatch> {
    let subject = setup.subject;
    let host = &subject.environment.api_host;
    let route = |path: &str| prober::through(subject.entry, host, &format!("/market-data{path}"));
    let targets = route(QUICK).and_then(|quick| Ok((quick, route(SLOW)?)));
    let (quick, slow) = targets.map_err(|error| setup.mismatch("a route to the service", error))?;
    let started = Outside::start(&lanes.spec(&quick, &slow)).await;
    started.map_err(|error| setup.mismatch("a prober on this machine", error))
}

async fn inside(setup: &Setup<'_>, lanes: Lanes) -> Result<InsideProber, Mismatch> {
    let name = match lanes.preview {
        true => format!("{SERVICE}-preview"),
        false => SERVICE.to_owned(),
    };
    let Some(image) = setup.prober_image else {
        return here(setup, &name, lanes).await;
    };
    let target = |path| prober::service(&name, &setup.cluster.namespace, PORT, path);
    let spec = lanes.spec(&target(QUICK), &target(SLOW));
    let client = setup.cluster.client().clone();
    let ours = (image, &Owner::this_process());
    let started = Inside::start(client, prober::MONITORING, ours, &spec, A_WHILE).await;
    let started = started.map_err(|error| setup.mismatch("a prober in the cluster", error))?;
    Ok(InsideProber::Pod(Box::new(started)))
}

/// Sends requests from this process to the Service's own address.
async fn here(setup: &Setup<'_>, name: &str, lanes: Lanes) -> Result<InsideProber, Mismatch> {
    let found = setup.api::<Service>().get(name).await;
    let found = found.map_err(|error| setup.mismatch("a Service", error))?;
    let spec = found.spec.unwrap_or_default();
    let port = spec.ports.iter().flatten().next().map(|it| it.port);
    let address = spec.cluster_ip.zip(port);
    let (ip, port) = address.ok_or_else(|| setup.mismatch("a Service's address", "none"))?;
    let target = |path| ProbeTarget::of(format!("http://{ip}:{port}{path}"));
    let started = Outside::start(&lanes.spec(&target(QUICK), &target(SLOW))).await;
    let started = started.map_err(|error| setup.mismatch("a prober on this machine", error))?;
    Ok(InsideProber::Here(started))
}
