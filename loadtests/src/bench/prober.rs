//! What the prober costs at 2,000 requests/s, and how late it is then.
//!
//! It asks a bare axum server, half of the requests on a new connection each, half on kept
//! ones. Each has one core. What a prober may claim to see depends on it not being its own
//! bottleneck: half a core leaves the other half to whatever it shares a node with.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use harness::prober::line::{Reader, Said};
use harness::prober::{Lag, Lane, Spec, Target};
use harness::subprocess;

use super::cores::Cores;
use super::error::BenchError;
use super::hello;
use super::release::{self, RELEASE};
use super::results::Measured;
use super::scratch::Scratch;
use super::series::{Series, Unit};
use super::threshold::{Bound, Threshold};
use super::{Figure, Plan, Progress};

const RATE: &str = "requests answered";
const CPU: &str = "CPU time, as a share of a core";
const LAG: &str = "lag at the 99th percentile";
const WORST: &str = "lag at worst";

const STATED: [Threshold; 2] = [
    Threshold::of_median(CPU, Bound::AtMost(0.5)),
    Threshold::of_median(LAG, Bound::AtMost(5.0)),
];

const PER_SECOND: f64 = 2_000.0;
const SECONDS: f64 = 10.0;
const POOL: usize = 8;
/// Beyond its time: to start, and to finish what is in flight.
const GRACE: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);

/// What the measurement needs of this machine, found.
pub struct Bench {
    cores: Cores,
}

/// What one round came to.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Good answers.
    pub good: u64,
    /// The prober's own word.
    pub lag: Lag,
}

impl Bench {
    /// Looks whether this machine has what is needed.
    pub fn prepare() -> Result<Bench, BenchError> {
        Ok(Bench {
            cores: Cores::choose()?,
        })
    }

    /// Probes the server as often as planned.
    pub async fn measure(
        &self,
        plan: &Plan,
        scratch: &Scratch,
        progress: Progress<'_>,
    ) -> Result<Measured, BenchError> {
        progress("prober: builds what is measured: minutes, the first time");
        let program = hello::build(&plan.workspace).await?;
        let prober = ["--package=prober"];
        let prober = release::build(&plan.workspace, RELEASE, &prober, "prober").await?;
        let (mut child, server) =
            hello::start(&self.cores.server, &program, &scratch.root()).await?;
        let mut rounds = Vec::new();
        for number in 1..=plan.rounds {
            let round = self.probe(&prober, &server.url).await?;
            progress(&format!(
                "prober: round {number} of {}: {round}",
                plan.rounds
            ));
            rounds.push(round);
        }
        child
            .stop(STOP)
            .await
            .map_err(BenchError::file("stop", &program))?;
        Ok(judge(&rounds))
    }

    async fn probe(&self, prober: &Path, url: &str) -> Result<Round, BenchError> {
        let does_not_count = |reason: String| BenchError::Prober { reason };
        let spec = serde_json::to_string(&spec(url));
        let mut argv = self.cores.generator.command(prober);
        argv.push(spec.map_err(|error| does_not_count(error.to_string()))?);
        let heard = Mutex::new((Reader::default(), Heard::default()));
        let listen = |line: &str| {
            if let Ok(mut heard) = heard.lock() {
                let (reader, heard) = &mut *heard;
                heard.hear(reader.read(line).ok());
            }
        };
        subprocess::run(&argv, Duration::from_secs_f64(SECONDS) + GRACE, &listen).await?;
        let (_, heard) = heard.into_inner().unwrap_or_default();
        heard.round().map_err(does_not_count)
    }
}

/// Half of the requests on new connections, half on kept ones.
fn spec(url: &str) -> Spec {
    let half = PER_SECOND / 2.0;
    Spec {
        lanes: vec![
            Lane::new_connection(Target::of(url), half),
            Lane::pooled(Target::of(url), half, POOL),
        ],
        seconds: SECONDS,
    }
}

/// What the prober has printed.
#[derive(Default)]
struct Heard {
    good: u64,
    bad: Option<String>,
    lag: Option<Lag>,
}

impl Heard {
    fn hear(&mut self, said: Option<Said>) {
        match said {
            Some(Said::Answer(answer)) if answer.good => self.good += 1,
            Some(Said::Answer(answer)) => self.bad = Some(answer.outcome.to_string()),
            Some(Said::End(_, lag)) => self.lag = Some(lag),
            _ => {}
        }
    }

    /// Only one whose every request was answered counts.
    fn round(self) -> Result<Round, String> {
        match (self.lag, self.bad) {
            (None, _) => Err("it did not say how it kept up".into()),
            (_, Some(bad)) => Err(format!("a request was not answered: {bad}")),
            (Some(lag), None) => Ok(Round {
                good: self.good,
                lag,
            }),
        }
    }
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Round { good, lag } = self;
        let p99 = lag.p99 as f64 / 1e3;
        let share = lag.share_of_a_core();
        write!(
            f,
            "{good} answered, {share:.3} of a core, lag {p99:.1} ms at p99"
        )
    }
}

/// The figure, and what it says of what is stated.
pub fn judge(rounds: &[Round]) -> Measured {
    let of_all = |name, unit, value: fn(&Round) -> f64| {
        Series::new(name, unit, rounds.iter().map(value).collect())
    };
    let series = vec![
        of_all(RATE, Unit::RequestsPerSecond, |it| it.good as f64 / SECONDS),
        of_all(CPU, Unit::Ratio, |it| it.lag.share_of_a_core()),
        of_all(LAG, Unit::Milliseconds, |it| it.lag.p99 as f64 / 1e3),
        of_all(WORST, Unit::Milliseconds, |it| it.lag.max as f64 / 1e3),
    ];
    let behind = rounds.iter().filter(|it| it.lag.fell_behind().is_some());
    let note = match behind.count() {
        0 => None,
        some => Some(format!(
            "in {some} of {} rounds the prober fell behind: its results would be inconclusive",
            rounds.len()
        )),
    };
    Measured {
        figure: Figure::Prober,
        about: format!(
            "prober: {PER_SECOND} requests/s on a bare axum server for {SECONDS} s, half on new \
             connections, half on kept ones, plain HTTP, one core each"
        ),
        verdicts: Threshold::judge_all(&STATED, &series),
        series,
        notes: note.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Outcome;

    fn round(cpu_seconds: f64, p99: u64) -> Round {
        Round {
            good: 20_000,
            lag: Lag {
                due: 20_000,
                p99,
                max: p99,
                cpu_seconds,
                seconds: 10.0,
                dropped: 0,
            },
        }
    }

    fn outcomes(rounds: &[Round]) -> Vec<Outcome> {
        let judged = judge(rounds);
        judged.verdicts.iter().map(|it| it.outcome).collect()
    }

    #[test]
    fn half_a_core_and_five_milliseconds_are_the_limits() {
        use Outcome::{Failed, Held};
        assert_eq!(outcomes(&[round(5.0, 5_000)]), [Held, Held]);
        assert_eq!(outcomes(&[round(5.1, 1_000)]), [Failed, Held]);
        assert_eq!(outcomes(&[round(1.0, 5_100)]), [Held, Failed]);
    }

    #[test]
    fn one_that_fell_behind_is_said() {
        let judged = judge(&[round(1.0, 900), round(1.0, 29_000)]);
        assert!(
            judged.notes[0].starts_with("in 1 of 2 rounds"),
            "{:?}",
            judged.notes
        );
        assert!(judge(&[round(1.0, 900)]).notes.is_empty());
    }

    #[test]
    fn only_a_round_with_every_answer_counts() {
        assert!(Heard::default().round().is_err());
        let heard = Heard {
            bad: Some("timed out".into()),
            lag: Some(Lag::default()),
            good: 1,
        };
        assert!(heard.round().unwrap_err().contains("timed out"));
    }

    #[test]
    fn what_is_asked_can_be() {
        let spec = spec("http://127.0.0.1:1/");
        assert_eq!(spec.check(), Ok(()));
        assert_eq!(
            spec.lanes.iter().map(|lane| lane.rate).sum::<f64>(),
            PER_SECOND
        );
    }
}
