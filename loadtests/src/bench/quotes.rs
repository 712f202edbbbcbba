//! How fast cached quotes are read, as a share of the rate of a bare HTTP server on the same core.
//! The ratio shows the cost of the service's own work, whatever the machine.
//!
//! Both servers have one worker thread and the same core, the load generator has the next core.
//! Only one server is under load at a time. If the bare server was not busy, something else was the
//! bottleneck, so that the ratio would be too high, and the pair does not count.

use std::path::{Path, PathBuf};
use std::time::Duration;

use environments::environment::SEEDED_SYMBOL;

use super::cores::{Core, Cores};
use super::error::BenchError;
use super::hello::{self, ServerUnderLoad};
use super::results::Measured;
use super::scratch::{Scratch, TARGET};
use super::series::{Series, Unit};
use super::stated_figure::{Bound, StatedFigure};
use super::wrk::{CONNECTIONS, Wrk};
use super::{BenchPlan, Figure, Progress};

/// The service that answers.
const SERVICE: &str = "market-data-service";

const HELLO: &str = "a bare axum server";
const HELLO_BUSY: &str = "a bare axum server: busy, of its core";
const QUOTES: &str = "cached quotes";
const QUOTES_BUSY: &str = "cached quotes: busy, of its core";
const SHARE: &str = "cached quotes, as a share of bare";
const SHARE_BY_CPU: &str = "the same, by second of CPU time";

const STATED: [StatedFigure; 1] = [StatedFigure::of_median(SHARE, Bound::AtLeast(0.25))];

/// The share of its core that the bare server must use for its rate to be its own limit.
const BUSY: f64 = 0.8;

const SECONDS: u64 = 5;
/// Not counted: connections open, and caches fill.
const WARM_UP_SECONDS: u64 = 1;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

pub struct QuotesBench {
    wrk: Wrk,
    server: Core,
}

impl QuotesBench {
    pub fn prepare() -> Result<QuotesBench, BenchError> {
        let Cores { server, generator } = Cores::choose()?;
        let wrk = Wrk::on(generator)?;
        Ok(QuotesBench { wrk, server })
    }

    /// Loads the two servers in turn in every round.
    pub async fn measure(
        &self,
        plan: &BenchPlan,
        scratch: &Scratch,
        progress: Progress<'_>,
    ) -> Result<Measured, BenchError> {
        progress("quotes: builds and starts both servers: minutes, the first time");
        let program = hello::build(&plan.workspace).await?;
        let service = self.start_service(plan, scratch).await?;
        let (child, hello) = hello::start(&self.server, &program, &scratch.root()).await?;
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
        hello::stop(child, &program).await?;
        scratch.tear_down().await?;
        Ok(evaluate(&pairs))
    }

    async fn load(&self, server: &ServerUnderLoad, seconds: u64) -> Result<ServerLoad, BenchError> {
        let loading = self.wrk.load(&server.url, seconds);
        let (rate, busy) = server.busy_during(loading).await?;
        Ok(ServerLoad { rate: rate?, busy })
    }

    /// Starts the platform, with one worker thread for market-data-service, and pins that service
    /// to its core.
    async fn start_service(
        &self,
        plan: &BenchPlan,
        scratch: &Scratch,
    ) -> Result<ServerUnderLoad, BenchError> {
        let config = with_one_worker(&plan.config, &scratch.root())?;
        scratch.rehearse("up", TARGET, &config).await?;
        let environment = scratch.environment()?;
        let part = environment.parts.iter().find(|part| part.name == SERVICE);
        let part = part.ok_or_else(|| scratch.report_lacks("up", SERVICE))?;
        let no_process = || BenchError::NoProcess {
            runs_as: format!("{} at {}", part.runs_as, part.address),
        };
        let process = part.process_id().ok_or_else(no_process)?;
        self.server.pin(process).await?;
        Ok(ServerUnderLoad {
            url: format!("http://{}/quotes/{SEEDED_SYMBOL}", part.address),
            process,
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ServerLoad {
    /// Answers per second.
    pub rate: f64,
    /// The share of its core that the server used, from 0 to 1.
    pub busy: f64,
}

impl ServerLoad {
    /// Answers per second of the server's CPU time: its rate if it had the core for itself.
    fn per_cpu_second(self) -> f64 {
        self.rate / self.busy
    }
}

/// The loads of one round, on the bare server and on the service.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub bare: ServerLoad,
    pub cached: ServerLoad,
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
                "; does not count, the bare server used {:.0} % of its core",
                bare.busy * 100.0
            ),
        }
    }
}

/// The figure, with the verdicts on what is stated.
pub fn evaluate(pairs: &[Pair]) -> Measured {
    let of_all = |name, unit, value: fn(&Pair) -> f64| {
        Series::new(name, unit, pairs.iter().map(value).collect())
    };
    let counted: Vec<&Pair> = pairs.iter().filter(|pair| pair.counts()).collect();
    let ratios = counted.iter().map(|pair| pair.cached.rate / pair.bare.rate);
    let share = Series::new(SHARE, Unit::Ratio, ratios.collect());
    let excluded = pairs.len() - counted.len();
    let note = format!(
        "{excluded} of {} rounds do not count: the bare server used less than {:.0} % of its core, \
         so something else was the bottleneck; repeat on a quieter machine",
        pairs.len(),
        BUSY * 100.0
    );
    let about = format!(
        "quotes: GET /quotes/{SEEDED_SYMBOL} against a bare GET, one core each for server and \
         generator, {CONNECTIONS} connections, {SECONDS} s"
    );
    let series = vec![
        of_all(HELLO, Unit::RequestsPerSecond, |pair| pair.bare.rate),
        of_all(HELLO_BUSY, Unit::Ratio, |pair| pair.bare.busy),
        of_all(QUOTES, Unit::RequestsPerSecond, |pair| pair.cached.rate),
        of_all(QUOTES_BUSY, Unit::Ratio, |pair| pair.cached.busy),
        share,
        of_all(SHARE_BY_CPU, Unit::Ratio, |pair| {
            pair.cached.per_cpu_second() / pair.bare.per_cpu_second()
        }),
    ];
    let notes = (excluded > 0).then_some(note).into_iter().collect();
    Measured::new(Figure::Quotes, about, &STATED, series, notes)
}

/// Copies the configuration, with one worker thread for market-data-service.
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
    let path = ["services", SERVICE, "env"];
    let mut table = &mut config;
    for key in path {
        let next = table
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = next
            .as_table_mut()
            .ok_or_else(|| format!("{key:?} is not a table"))?;
    }
    table.insert("WORKER_THREADS".into(), "1".into());
    Ok(config.to_string())
}

/// Ensures that the second read comes from the cache, which the first may fill.
async fn is_cached(url: &str) -> Result<(), BenchError> {
    let not_cached = |seen: String| BenchError::NotCached {
        url: url.to_owned(),
        seen,
    };
    let unanswered = |error: reqwest::Error| not_cached(base::chain(&error));
    base::tls::use_ring();
    let client = reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
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
    use environments::config::Config;

    use super::*;
    use crate::bench::FigureOutcome;

    fn pair(bare: f64, busy: f64, cached: f64) -> Pair {
        let load = |rate, busy| ServerLoad { rate, busy };
        Pair {
            bare: load(bare, busy),
            cached: load(cached, 0.8),
        }
    }

    fn values<'a>(evaluated: &'a Measured, name: &str) -> &'a [f64] {
        let series = evaluated.series.iter().find(|series| series.name == name);
        &series.unwrap().values
    }

    #[test]
    fn the_ratio_is_computed_for_each_pair() {
        let evaluated = evaluate(&[pair(100e3, 0.96, 30e3), pair(50e3, 0.95, 20e3)]);
        assert_eq!(values(&evaluated, SHARE), [0.3, 0.4]);
        assert_eq!(evaluated.verdicts[0].outcome, FigureOutcome::Held);
        assert_eq!(evaluated.notes, [""; 0]);
    }

    #[test]
    fn a_pair_whose_bare_server_was_not_busy_does_not_count() {
        let evaluated = evaluate(&[pair(100e3, 0.96, 20e3), pair(25e3, 0.25, 20e3)]);
        assert_eq!(values(&evaluated, SHARE), [0.2]);
        // By CPU time the pair does count: 20,000 by 0.8 against 25,000 by 0.25.
        assert_eq!(values(&evaluated, SHARE_BY_CPU), [0.24, 0.25]);
        assert_eq!(evaluated.verdicts[0].outcome, FigureOutcome::Failed);
        let notes = evaluated.notes;
        assert!(notes[0].starts_with("1 of 2 rounds"), "{notes:?}");
        let none = evaluate(&[pair(25e3, 0.25, 20e3)]);
        assert_eq!(none.verdicts[0].outcome, FigureOutcome::NotMeasured);
    }

    #[test]
    fn one_worker_is_set_and_the_configuration_stays_valid() {
        let shipped = include_str!("../../../harness.toml");
        let text = set_one_worker(shipped).unwrap();
        let config = Config::parse(Path::new("harness.toml"), &text).unwrap();
        let of = |service| config.service(service).unwrap().env.clone();
        assert_eq!(of(SERVICE)["WORKER_THREADS"], "1");
        assert_eq!(of("api-gateway")["RATE_LIMIT_PER_SECOND"], "100");
        // A user's own setting would distort the measurement.
        assert_eq!(set_one_worker(&text).unwrap(), text);
    }

    #[test]
    fn a_configuration_that_cannot_be_changed_is_refused() {
        let error = set_one_worker("services = 3").unwrap_err();
        assert!(error.contains("services"), "{error}");
        assert!(set_one_worker("[").is_err());
    }
}
