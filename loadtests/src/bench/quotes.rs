//! How fast cached quotes are read, as a share of what a bare HTTP server does on the same
//! core. The ratio says what the service's own work costs, whatever the machine.
//!
//! Both servers have one worker thread and the same core, the load generator the next one;
//! only one of the servers is under load at a time. Where the bare server was not kept
//! busy, something else was the bottleneck, the ratio would flatter, and the pair does not
//! count.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::environment::SEEDED_SYMBOL;
use harness::service::Service;

use super::cores::{Core, Cores};
use super::error::BenchError;
use super::hello::{self, Server};
use super::results::Measured;
use super::scratch::{Scratch, TARGET};
use super::series::{Series, Unit};
use super::threshold::{Bound, Threshold};
use super::wrk::{CONNECTIONS, Wrk};
use super::{Figure, Plan, Progress};

const HELLO: &str = "a bare axum server";
const HELLO_BUSY: &str = "a bare axum server: busy, of its core";
const QUOTES: &str = "cached quotes";
const QUOTES_BUSY: &str = "cached quotes: busy, of its core";
const SHARE: &str = "cached quotes, as a share of bare";
const SHARE_BY_CPU: &str = "the same, by second of CPU time";

const STATED: Threshold = Threshold::of_median(SHARE, Bound::AtLeast(0.25));

/// Of its core, what the bare server has to have used for its rate to be its own limit.
const BUSY: f64 = 0.8;

const SECONDS: u64 = 5;
/// Not counted: connections are made, caches filled.
const WARM_UP_SECONDS: u64 = 1;

const ANSWER: Duration = Duration::from_secs(5);
const STOP: Duration = Duration::from_secs(5);

/// What the measurement needs of this machine, found.
pub struct Bench {
    wrk: Wrk,
    server: Core,
}

impl Bench {
    /// Looks whether this machine has what is needed.
    pub fn prepare() -> Result<Bench, BenchError> {
        let Cores { server, generator } = Cores::choose()?;
        let wrk = Wrk::on(generator)?;
        Ok(Bench { wrk, server })
    }

    /// Loads the two servers in turn, as often as planned.
    pub async fn measure(
        &self,
        plan: &Plan,
        scratch: &Scratch,
        progress: Progress<'_>,
    ) -> Result<Measured, BenchError> {
        progress("quotes: builds and starts what is measured: minutes, the first time");
        let program = hello::build(&plan.workspace).await?;
        let service = self.start_service(plan, scratch).await?;
        let (mut child, hello) = hello::start(&self.server, &program, &scratch.root()).await?;
        self.load(&hello, WARM_UP_SECONDS).await?;
        self.load(&service, WARM_UP_SECONDS).await?;
        let mut pairs = Vec::new();
        for round in 1..=plan.rounds {
            let bare = self.load(&hello, SECONDS).await?;
            is_cached(&service.url).await?;
            let cached = self.load(&service, SECONDS).await?;
            let pair = Pair { bare, cached };
            progress(&format!("quotes: round {round} of {}: {pair}", plan.rounds));
            pairs.push(pair);
        }
        child
            .stop(STOP)
            .await
            .map_err(BenchError::file("stop", &program))?;
        scratch.take_down().await?;
        Ok(judge(&pairs))
    }

    async fn load(&self, server: &Server, seconds: u64) -> Result<Load, BenchError> {
        let loading = self.wrk.load(&server.url, seconds);
        let (rate, busy) = server.busy_during(loading).await?;
        Ok(Load { rate: rate?, busy })
    }

    /// Stands the platform up, market-data-service with one worker thread, and puts that
    /// service on its core.
    async fn start_service(&self, plan: &Plan, scratch: &Scratch) -> Result<Server, BenchError> {
        let config = with_one_worker(&plan.config, &scratch.root())?;
        scratch.rehearse("up", TARGET, &config).await?;
        let environment = scratch.environment()?;
        let name = Service::MarketDataService.name();
        let part = environment.parts.iter().find(|part| part.name == name);
        let part = part.ok_or_else(|| scratch.report_lacks("up", "market-data-service"))?;
        let no_process = || BenchError::NoProcess {
            runs_as: format!("{} at {}", part.runs_as, part.address),
        };
        let process = part.process_id().ok_or_else(no_process)?;
        self.server.pin(process).await?;
        Ok(Server {
            url: format!("http://{}/quotes/{SEEDED_SYMBOL}", part.address),
            process,
        })
    }
}

/// What one load came to.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Answers a second.
    pub rate: f64,
    /// Of its core, what the server used meanwhile, from 0 to 1.
    pub busy: f64,
}

impl Load {
    /// Answers a second of the server's own CPU time: what it would do were its core its own.
    fn per_cpu_second(self) -> f64 {
        self.rate / self.busy
    }
}

/// The loads of one round.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// On the bare server.
    pub bare: Load,
    /// On the service.
    pub cached: Load,
}

impl Pair {
    fn counts(&self) -> bool {
        self.bare.busy >= BUSY
    }
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Pair { bare, cached } = self;
        write!(f, "bare {:.0}/s, quotes {:.0}/s", bare.rate, cached.rate)?;
        match self.counts() {
            true => Ok(()),
            false => write!(
                f,
                "; does not count, the bare server had {:.0} % of its core",
                bare.busy * 100.0
            ),
        }
    }
}

/// The figure, and what it says of what is stated.
pub fn judge(pairs: &[Pair]) -> Measured {
    let of_all = |name, unit, value: fn(&Pair) -> f64| {
        Series::new(name, unit, pairs.iter().map(value).collect())
    };
    let counted: Vec<&Pair> = pairs.iter().filter(|pair| pair.counts()).collect();
    let ratios = counted.iter().map(|pair| pair.cached.rate / pair.bare.rate);
    let share = Series::new(SHARE, Unit::Ratio, ratios.collect());
    let excluded = pairs.len() - counted.len();
    let note = format!(
        "{excluded} of {} rounds do not count: the bare server had less than {:.0} % of its core, \
         so something else was the bottleneck; repeat on a quieter machine",
        pairs.len(),
        BUSY * 100.0
    );
    Measured {
        figure: Figure::Quotes,
        about: format!(
            "quotes: GET /quotes/{SEEDED_SYMBOL} against a bare GET, one core each for server and \
             generator, {CONNECTIONS} connections, {SECONDS} s"
        ),
        verdicts: vec![STATED.judge(&share)],
        series: vec![
            of_all(HELLO, Unit::RequestsPerSecond, |pair| pair.bare.rate),
            of_all(HELLO_BUSY, Unit::Ratio, |pair| pair.bare.busy),
            of_all(QUOTES, Unit::RequestsPerSecond, |pair| pair.cached.rate),
            of_all(QUOTES_BUSY, Unit::Ratio, |pair| pair.cached.busy),
            share,
            of_all(SHARE_BY_CPU, Unit::Ratio, |pair| {
                pair.cached.per_cpu_second() / pair.bare.per_cpu_second()
            }),
        ],
        notes: (excluded > 0).then_some(note).into_iter().collect(),
    }
}

/// The configuration in `path`, but with one worker thread for market-data-service.
fn with_one_worker(path: &Path, folder: &Path) -> Result<PathBuf, BenchError> {
    let text = std::fs::read_to_string(path).map_err(BenchError::file("read", path))?;
    let changed = set_one_worker(&text).map_err(|reason| BenchError::Configuration {
        path: path.to_owned(),
        reason,
    })?;
    let copy = folder.join("harness.toml");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&copy, changed))
        .map_err(BenchError::file("write", &copy))?;
    Ok(copy)
}

fn set_one_worker(config: &str) -> Result<String, String> {
    let mut config: toml::Table = config.parse().map_err(|error| format!("{error}"))?;
    let path = ["services", Service::MarketDataService.name(), "env"];
    let mut table = &mut config;
    for key in path {
        let next = table
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = next
            .as_table_mut()
            .ok_or_else(|| format!("{key:?} is no table"))?;
    }
    table.insert("WORKER_THREADS".into(), "1".into());
    Ok(config.to_string())
}

/// The first read may fill the cache; the second has to come from it.
async fn is_cached(url: &str) -> Result<(), BenchError> {
    let not_cached = |seen: String| BenchError::NotCached {
        url: url.to_owned(),
        seen,
    };
    let unanswered = |error: reqwest::Error| not_cached(harness::chain(&error));
    harness::tls::use_ring();
    let client = reqwest::Client::builder()
        .timeout(ANSWER)
        .no_proxy()
        .build()
        .map_err(unanswered)?;
    client.get(url).send().await.map_err(unanswered)?;
    let answer = client.get(url).send().await.map_err(unanswered)?;
    match answer.headers().get("x-cache") {
        Some(found) if found == "hit" => Ok(()),
        found => Err(not_cached(format!(
            "{}, x-cache: {found:?}",
            answer.status()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use harness::config::Config;

    use super::*;
    use crate::bench::Outcome;

    fn pair(bare: f64, busy: f64, cached: f64) -> Pair {
        let load = |rate, busy| Load { rate, busy };
        Pair {
            bare: load(bare, busy),
            cached: load(cached, 0.8),
        }
    }

    fn values<'a>(judged: &'a Measured, name: &str) -> &'a [f64] {
        let series = judged.series.iter().find(|series| series.name == name);
        &series.unwrap().values
    }

    #[test]
    fn the_ratio_is_taken_pair_by_pair() {
        let judged = judge(&[pair(100e3, 0.96, 30e3), pair(50e3, 0.95, 20e3)]);
        assert_eq!(values(&judged, SHARE), [0.3, 0.4]);
        assert_eq!(judged.verdicts[0].outcome, Outcome::Held);
        assert_eq!(judged.notes, [""; 0]);
    }

    #[test]
    fn a_pair_whose_bare_server_was_held_back_does_not_count() {
        let judged = judge(&[pair(100e3, 0.96, 20e3), pair(25e3, 0.25, 20e3)]);
        assert_eq!(values(&judged, SHARE), [0.2]);
        // By CPU time the pair does count: 20,000 by 0.8 against 25,000 by 0.25.
        assert_eq!(values(&judged, SHARE_BY_CPU), [0.24, 0.25]);
        assert_eq!(judged.verdicts[0].outcome, Outcome::Failed);
        assert!(
            judged.notes[0].starts_with("1 of 2 rounds"),
            "{:?}",
            judged.notes
        );
        let none = judge(&[pair(25e3, 0.25, 20e3)]);
        assert_eq!(none.verdicts[0].outcome, Outcome::NotMeasured);
    }

    #[test]
    fn one_worker_is_set_in_a_configuration_that_stays_good() {
        let shipped = include_str!("../../../harness.toml");
        let text = set_one_worker(shipped).unwrap();
        let config = Config::parse(Path::new("harness.toml"), &text).unwrap();
        let of = |service| config.service_env[&service].clone();
        assert_eq!(of(Service::MarketDataService)["WORKER_THREADS"], "1");
        assert_eq!(of(Service::ApiGateway)["RATE_LIMIT_PER_SECOND"], "100");
        // A user's own setting is in the way of the measurement, and gives way.
        assert_eq!(set_one_worker(&text).unwrap(), text);
    }

    #[test]
    fn a_configuration_that_cannot_be_changed_is_refused() {
        assert!(
            set_one_worker("services = 3")
                .unwrap_err()
                .contains("services")
        );
        assert!(set_one_worker("[").is_err());
    }
}
