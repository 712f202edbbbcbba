//! Traffic during a scenario: through the ingress, and from inside the cluster.

use std::time::Duration;

use base::wait::{self, Observation};
use blue_green::ProbeFrom;
use environments::config::ScenarioRequest;
use kubernetes::prober::{
    self, Inside, Lane, Outside, Owner, ProbeTarget, Recording, Spec, Vantage,
};

use super::setup::Setup;
use crate::Mismatch;

/// For a few hundred answers.
pub const A_WHILE: Duration = Duration::from_secs(60);

const POLL_EVERY: Duration = Duration::from_millis(200);

/// The time of a slow answer, in seconds.
const SLOW: f64 = 20.0;

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

    /// 300 requests/s over the three lanes, half of them from inside. Most use pooled connections,
    /// because a TLS handshake is expensive on a machine that runs everything, and pods start
    /// meanwhile.
    pub fn full() -> Lanes {
        Lanes {
            new_connection: 20.0,
            pooled: 129.0,
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

    /// Without `slow`, there is no lane of slow requests.
    fn spec(&self, setup: &Setup<'_>, Targets { quick, slow }: Targets) -> Spec {
        const CONNECTIONS: usize = 8;
        let lanes = [
            Some(Lane::new_connection(quick.clone(), self.new_connection)),
            Some(Lane::pooled(quick, self.pooled, CONNECTIONS)),
            slow.map(|slow| Lane::slow(slow, self.slow, SLOW)),
        ];
        let lanes = lanes.into_iter().flatten();
        Spec {
            lanes: lanes.filter(|it| it.rate > 0.0).collect(),
            seconds: MAX_SECONDS,
            headers: setup.subject.version_sources.headers.clone(),
        }
    }
}

/// The targets of one prober.
struct Targets {
    quick: ProbeTarget,
    slow: Option<ProbeTarget>,
}

impl Targets {
    fn of<E>(
        setup: &Setup<'_>,
        target: impl Fn(&ScenarioRequest) -> Result<ProbeTarget, E>,
    ) -> Result<Targets, E> {
        let slow = setup.config.slow_request.as_ref();
        Ok(Targets {
            quick: target(&setup.config.request)?,
            slow: slow.map(target).transpose()?,
        })
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
    let through = |request: &ScenarioRequest| {
        let (host, path) = (&request.host, &request.path_at_ingress);
        prober::through(setup.subject.entry, host, path)
    };
    let targets = Targets::of(setup, through);
    let targets = targets.map_err(|error| setup.mismatch("a route to the service", error))?;
    here(setup, lanes, targets).await
}

async fn inside(setup: &Setup<'_>, lanes: Lanes) -> Result<InsideProber, Mismatch> {
    let name = match lanes.preview {
        true => setup.objects().preview(),
        false => setup.service().to_owned(),
    };
    let service = setup.named_service(&name).await?;
    let port = setup.port_of(&service)?.port;
    let at = |host: &str| {
        let target = |request: &ScenarioRequest| {
            let path = &request.path;
            Ok::<_, Mismatch>(ProbeTarget::of(format!("http://{host}:{port}{path}")))
        };
        Targets::of(setup, target)
    };
    let ProbeFrom::Pod { image } = setup.probe_from else {
        let spec = service.spec.as_ref();
        let address = spec.and_then(|it| it.cluster_ip.as_deref());
        let address = address.ok_or_else(|| setup.mismatch("a Service's address", "none"))?;
        let started = here(setup, lanes, at(address)?).await?;
        return Ok(InsideProber::Here(started));
    };
    let targets = at(&format!("{name}.{}", setup.cluster.namespace))?;
    let (client, namespace) = (setup.cluster.client().clone(), setup.helpers_namespace);
    let (ours, spec) = ((image, &Owner::this_process()), lanes.spec(setup, targets));
    let started = Inside::start(client, namespace, ours, &spec, A_WHILE).await;
    let started = started.map_err(|error| setup.mismatch("a prober in the cluster", error))?;
    Ok(InsideProber::Pod(Box::new(started)))
}

/// Sends requests from this process.
async fn here(setup: &Setup<'_>, lanes: Lanes, targets: Targets) -> Result<Outside, Mismatch> {
    let started = Outside::start(&lanes.spec(setup, targets)).await;
    started.map_err(|error| setup.mismatch("a prober on this machine", error))
}
