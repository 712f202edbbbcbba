//! The prober's CPU time at 2,000 requests/s, and its lag.
//!
//! It sends requests to a bare axum server, half of them on new connections, half on pooled ones.
//! Each of the two has one core. A prober's results are valid only if it is not the bottleneck:
//! half a core leaves the other half to the other programs on its node.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use base::process;
use kubernetes::prober::output_line::{LineReader, ProberMessage};
use kubernetes::prober::{IdentityHeaders, Lag, Lane, ProbeTarget, Spec};

use super::cargo_build::{self, RELEASE};
use super::cores::{Core, Cores};
use super::error::BenchError;
use super::hello;
use super::results::Measured;
use super::scratch::Scratch;
use super::series::{Series, Unit};
use super::stated_figure::{Bound, StatedFigure};
use super::{BenchPlan, Figure, Progress};

const RATE: &str = "requests answered";
const CPU: &str = "CPU time, as a share of a core";
const LAG: &str = "lag at the 99th percentile";
const WORST: &str = "lag at worst";

const STATED: [StatedFigure; 2] = [
    StatedFigure::of_median(CPU, Bound::AtMost(0.5)),
    StatedFigure::of_median(LAG, Bound::AtMost(5.0)),
];

const PER_SECOND: f64 = 2_000.0;
const SECONDS: f64 = 10.0;
const POOL: usize = 8;
/// Additional time to start, and to finish requests in flight.
const GRACE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
pub struct ProberRound {
    /// Good answers.
    pub good: u64,
    pub lag: Lag,
}

/// Probes the server in every round.
pub async fn measure(
    cores: &Cores,
    plan: &BenchPlan,
    scratch: &Scratch,
    progress: Progress<'_>,
) -> Result<Measured, BenchError> {
    progress("prober: builds the prober and its server: minutes, the first time");
    let program = hello::build(&plan.workspace).await?;
    let prober = ["--package=prober"];
    let prober = cargo_build::build(&plan.workspace, RELEASE, &prober, "prober").await?;
    let (child, server) = hello::start(&cores.server, &program, &scratch.root()).await?;
    let mut rounds = Vec::new();
    for number in 1..=plan.rounds {
        let round = probe(&cores.generator, &prober, &server.url).await?;
        progress(&format!(
            "prober: round {number} of {}: {round}",
            plan.rounds
        ));
        rounds.push(round);
    }
    hello::stop(child, &program).await?;
    Ok(evaluate(&rounds))
}

async fn probe(core: &Core, prober: &Path, url: &str) -> Result<ProberRound, BenchError> {
    let spec = serde_json::to_string(&spec(url));
    let mut argv = core.command(prober);
    argv.push(spec.map_err(BenchError::does_not_count("the prober"))?);
    let output = Mutex::new((LineReader::default(), ProberOutput::default()));
    let listen = |line: &str| {
        if let Ok(mut output) = output.lock() {
            let (reader, output) = &mut *output;
            output.read(reader.read(line).ok());
        }
    };
    process::run(&argv, Duration::from_secs_f64(SECONDS) + GRACE, &listen).await?;
    let (_, output) = output.into_inner().unwrap_or_default();
    let round = output.round();
    round.map_err(BenchError::does_not_count("the prober"))
}

/// Half of the requests on new connections, half on pooled ones.
fn spec(url: &str) -> Spec {
    let half = PER_SECOND / 2.0;
    Spec {
        lanes: vec![
            Lane::new_connection(ProbeTarget::of(url), half),
            Lane::pooled(ProbeTarget::of(url), half, POOL),
        ],
        seconds: SECONDS,
        headers: IdentityHeaders::default(),
    }
}

#[derive(Default)]
struct ProberOutput {
    good: u64,
    bad: Option<String>,
    lag: Option<Lag>,
}

impl ProberOutput {
    fn read(&mut self, message: Option<ProberMessage>) {
        match message {
            Some(ProberMessage::Answer(answer)) if answer.good => self.good += 1,
            Some(ProberMessage::Answer(answer)) => self.bad = Some(answer.outcome.to_string()),
            Some(ProberMessage::End(_, lag)) => self.lag = Some(lag),
            _ => {}
        }
    }

    /// Returns the result, if every request was answered.
    fn round(self) -> Result<ProberRound, String> {
        match (self.lag, self.bad) {
            (None, _) => Err("it did not report how well it kept up".into()),
            (_, Some(bad)) => Err(format!("a request was not answered: {bad}")),
            (Some(lag), None) => Ok(ProberRound {
                good: self.good,
                lag,
            }),
        }
    }
}

impl std::fmt::Display for ProberRound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ProberRound { good, lag } = self;
        let p99 = lag.p99 as f64 / 1e3;
        let share = lag.share_of_a_core();
        write!(
            f,
            "{good} answered, {share:.3} of a core, lag {p99:.1} ms at p99"
        )
    }
}

/// The figure, with the verdicts on what is stated.
pub fn evaluate(rounds: &[ProberRound]) -> Measured {
    let of_all = |name, unit, value: fn(&ProberRound) -> f64| {
        Series::new(name, unit, rounds.iter().map(value).collect())
    };
    let rate = |round: &ProberRound| round.good as f64 / SECONDS;
    let series = vec![
        of_all(RATE, Unit::RequestsPerSecond, rate),
        of_all(CPU, Unit::Ratio, |round| round.lag.share_of_a_core()),
        of_all(LAG, Unit::Milliseconds, |round| round.lag.p99 as f64 / 1e3),
        of_all(WORST, Unit::Milliseconds, |round| {
            round.lag.max as f64 / 1e3
        }),
    ];
    let fell_behind = |round: &&ProberRound| round.lag.fell_behind().is_some();
    let behind = rounds.iter().filter(fell_behind);
    let note = match behind.count() {
        0 => None,
        some => Some(format!(
            "in {some} of {} rounds the prober fell behind: its results would be inconclusive",
            rounds.len()
        )),
    };
    let about = format!(
        "prober: {PER_SECOND} requests/s on a bare axum server for {SECONDS} s, half on new \
         connections, half on pooled ones, plain HTTP, one core each"
    );
    let notes = note.into_iter().collect();
    Measured::new(Figure::Prober, about, &STATED, series, notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::FigureOutcome;

    fn round(cpu_seconds: f64, p99: u64) -> ProberRound {
        ProberRound {
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

    fn outcomes(rounds: &[ProberRound]) -> Vec<FigureOutcome> {
        let verdicts = evaluate(rounds).verdicts;
        verdicts.iter().map(|verdict| verdict.outcome).collect()
    }

    #[test]
    fn half_a_core_and_five_milliseconds_are_the_limits() {
        use FigureOutcome::{Failed, Held};
        assert_eq!(outcomes(&[round(5.0, 5_000)]), [Held, Held]);
        assert_eq!(outcomes(&[round(5.1, 1_000)]), [Failed, Held]);
        assert_eq!(outcomes(&[round(1.0, 5_100)]), [Held, Failed]);
    }

    #[test]
    fn a_note_reports_rounds_that_fell_behind() {
        let notes = evaluate(&[round(1.0, 900), round(1.0, 59_000)]).notes;
        assert!(notes[0].starts_with("in 1 of 2 rounds"), "{notes:?}");
        assert!(evaluate(&[round(1.0, 900)]).notes.is_empty());
    }

    #[test]
    fn only_a_round_with_every_answer_counts() {
        assert!(ProberOutput::default().round().is_err());
        let output = ProberOutput {
            bad: Some("timed out".into()),
            lag: Some(Lag::default()),
            good: 1,
        };
        assert!(output.round().unwrap_err().contains("timed out"));
    }

    #[test]
    fn the_specification_is_valid() {
        let spec = spec("http://127.0.0.1:1/");
        assert_eq!(spec.check(), Ok(()));
        let rates = spec.lanes.iter().map(|lane| lane.rate);
        assert_eq!(rates.sum::<f64>(), PER_SECOND);
    }
}
