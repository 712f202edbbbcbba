//! Traffic while a scenario goes on: through the ingress, and from inside the cluster.

use std::time::Duration;

use harness::prober::{self, Inside, Lane, Outside, Owner, Recording, Spec, Target, Vantage};
use harness::wait::{self, Observation};
use k8s_openapi::api::core::v1::Service;

use super::ground::{Done, Ground, SERVICE};

/// For a few hundred answers.
pub const A_WHILE: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is asked: a read of all quotes, and one that takes its time.
const QUICK: &str = "/quotes";
const SLOW: &str = "/slow?seconds=20";
const PORT: u16 = 8000;

/// No scenario takes longer: the probers end by themselves then.
const LONGEST: f64 = 900.0;

/// How much of which traffic, requests a second, from each vantage.
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

    /// 400 requests/s over the three lanes, half of them from inside. Kept connections are cheap
    /// to the machine that all of it runs on; new ones, each with its TLS handshake, are not.
    pub fn full() -> Lanes {
        Lanes {
            new_connection: 50.0,
            pooled: 149.0,
            slow: 1.0,
            inside: true,
            preview: false,
        }
    }

    /// Enough for a verdict of a share of them, and from where no share is led.
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

    /// Kept connections, from where the Service itself decides.
    pub fn kept() -> Lanes {
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

    fn spec(&self, quick: &Target, slow: &Target) -> Spec {
        const CONNECTIONS: usize = 8;
        let lanes = [
            Lane::new_connection(quick.clone(), self.new_connection),
            Lane::pooled(quick.clone(), self.pooled, CONNECTIONS),
            Lane::slow(slow.clone(), self.slow, 20.0),
        ];
        Spec {
            lanes: lanes.into_iter().filter(|it| it.rate > 0.0).collect(),
            seconds: LONGEST,
        }
    }
}

/// Traffic that goes on.
pub struct Load {
    lanes: Lanes,
    outside: Option<Outside>,
    inside: Option<Within>,
}

/// A prober that asks a Service itself.
enum Within {
    /// From a pod in the cluster.
    Pod(Box<Inside>),
    /// From this process, where the Service's address is this machine's.
    Here(Outside),
}

impl Within {
    fn so_far(&self) -> u64 {
        match self {
            Within::Pod(inside) => inside.so_far(),
            Within::Here(outside) => answered(outside),
        }
    }
}

fn answered(outside: &Outside) -> u64 {
    let counted = outside.so_far();
    counted.good + counted.failed
}

impl Load {
    /// Has it begin, and has seen the first answers.
    pub async fn begin(ground: &Ground<'_>, lanes: Lanes) -> Done<Load> {
        let outside = match lanes.preview {
            true => None,
            false => Some(outside(ground, lanes).await?),
        };
        let inside = match lanes.inside {
            true => Some(inside(ground, lanes).await?),
            false => None,
        };
        let load = Load {
            lanes,
            outside,
            inside,
        };
        load.until(10, A_WHILE).await;
        Ok(load)
    }

    /// How many answers the slowest lane needs to be under way.
    pub fn warm(&self) -> u64 {
        match self.lanes.slow > 0.0 {
            // A few seconds of the others.
            true => 200,
            false => 100,
        }
    }

    /// Goes on until there are so many answers, or for so long. One request that failed is
    /// evidence enough, too.
    pub async fn until(&self, answers: u64, at_most: Duration) {
        // Whether there were enough is judged by the number itself.
        let _ = wait::until(
            "enough was asked",
            at_most,
            LOOK_EVERY,
            async || match self.so_far() {
                enough if enough >= answers || self.has_failed() => Observation::Ready(()),
                few => Observation::NotYet(format!("{few} answers")),
            },
        )
        .await;
    }

    /// Whether a request has failed, as far as is known here: a pod tells at its end.
    fn has_failed(&self) -> bool {
        let inside = match &self.inside {
            Some(Within::Here(here)) => Some(here),
            _ => None,
        };
        let mut probers = self.outside.iter().chain(inside);
        probers.any(|it| it.so_far().failed > 0)
    }

    fn so_far(&self) -> u64 {
        let outside = self.outside.as_ref().map_or(0, answered);
        let inside = self.inside.as_ref().map_or(0, Within::so_far);
        outside + inside
    }

    /// Ends it: what is in flight is waited for.
    pub async fn end(self) -> Done<Vec<Recording>> {
        let told = |seen: String| crate::Mismatch {
            expected: "what the probers saw".to_owned(),
            seen,
            look_at: "the prober's pod".to_owned(),
            next: "cargo xtask status".to_owned(),
        };
        let mut recordings = Vec::new();
        if let Some(outside) = self.outside {
            recordings.push(outside.end().await);
        }
        match self.inside {
            None => {}
            Some(Within::Pod(inside)) => {
                let ended = inside.end().await;
                recordings.push(ended.map_err(|error| told(error.to_string()))?);
            }
            Some(Within::Here(here)) => recordings.push(Recording {
                from: Vantage::Inside,
                ..here.end().await
            }),
        }
        Ok(recordings)
    }
}

async fn outside(ground: &Ground<'_>, lanes: Lanes) -> Done<Outside> {
    let subject = ground.subject;
    let host = &subject.environment.api_host;
    let route = |path: &str| prober::through(subject.entry, host, &format!("/market-data{path}"));
    let targets = route(QUICK).and_then(|quick| Ok((quick, route(SLOW)?)));
    let (quick, slow) = targets.map_err(|error| ground.trouble("a way in", error))?;
    let started = Outside::start(&lanes.spec(&quick, &slow)).await;
    started.map_err(|error| ground.trouble("a prober here", error))
}

async fn inside(ground: &Ground<'_>, lanes: Lanes) -> Done<Within> {
    let name = match lanes.preview {
        true => format!("{SERVICE}-preview"),
        false => SERVICE.to_owned(),
    };
    let Some(image) = ground.prober_image else {
        return here(ground, &name, lanes).await;
    };
    let target = |path| prober::service(&name, &ground.cluster.namespace, PORT, path);
    let spec = lanes.spec(&target(QUICK), &target(SLOW));
    let client = ground.cluster.client().clone();
    let ours = (image, &Owner::this_process());
    let started = Inside::start(client, prober::MONITORING, ours, &spec, A_WHILE).await;
    let started = started.map_err(|error| ground.trouble("a prober inside", error))?;
    Ok(Within::Pod(Box::new(started)))
}

/// Asks the Service's own address, past whatever is before it.
async fn here(ground: &Ground<'_>, name: &str, lanes: Lanes) -> Done<Within> {
    let found = ground.api::<Service>().get(name).await;
    let found = found.map_err(|error| ground.trouble("a Service", error))?;
    let spec = found.spec.unwrap_or_default();
    let port = spec.ports.iter().flatten().next().map(|it| it.port);
    let address = spec.cluster_ip.zip(port);
    let (ip, port) = address.ok_or_else(|| ground.trouble("a Service's address", "none"))?;
    let target = |path| Target::of(format!("http://{ip}:{port}{path}"));
    let started = Outside::start(&lanes.spec(&target(QUICK), &target(SLOW))).await;
    let started = started.map_err(|error| ground.trouble("a prober here", error))?;
    Ok(Within::Here(started))
}
