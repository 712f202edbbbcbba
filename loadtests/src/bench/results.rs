//! All results: as a document for programs, and as a table for people.

use std::fmt;

use base::run::event::Host;
use base::run::this_host;
use jiff::Timestamp;
use serde::Serialize;
use sysinfo::System;

use super::Figure;

use super::series::Series;
use super::stated_figure::{FigureVerdict, StatedFigure};

/// The results of one benchmark.
///
/// A change that breaks readers raises the `version` of the `schema`; an additional field does not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchResults {
    /// Always [`BenchResults::SCHEMA`].
    pub schema: &'static str,
    /// Always [`BenchResults::VERSION`].
    pub version: u32,
    /// When it started, in UTC.
    pub at: Timestamp,
    /// The machine.
    pub machine: Machine,
    /// How often each figure was measured.
    pub rounds: u32,
    /// The figures.
    pub measured: Vec<Measured>,
}

/// The machine that was measured, and how busy it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// System, cores, memory, processor.
    #[serde(flatten)]
    pub host: Host,
    /// The load average over the minute before the first measurement, if the system has it: near 0
    /// on a quiet machine.
    pub load_average: Option<f64>,
}

impl Machine {
    /// Inspects this machine.
    pub fn this() -> Self {
        Machine {
            host: this_host(),
            load_average: System::load_average().ok().map(|load| load.one),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        if let Some(load) = self.load_average {
            write!(f, "; load average before: {load:.2}")?;
        }
        Ok(())
    }
}

/// A figure that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The figure.
    pub figure: Figure,
    /// What was measured, on one line.
    pub about: String,
    /// The values.
    pub series: Vec<Series>,
    /// Notes for the reader.
    pub notes: Vec<String>,
    /// The verdicts on the stated figures.
    pub verdicts: Vec<FigureVerdict>,
}

impl Measured {
    /// Creates a figure, with the verdicts on those of `stated` that `series` has.
    pub(super) fn new(
        figure: Figure,
        about: impl Into<String>,
        stated: &[StatedFigure],
        series: Vec<Series>,
        notes: Vec<String>,
    ) -> Self {
        Measured {
            figure,
            about: about.into(),
            verdicts: StatedFigure::evaluate_all(stated, &series),
            series,
            notes,
        }
    }
}

impl BenchResults {
    /// The name of the document's schema.
    pub const SCHEMA: &str = "trii-rehearsal/bench";
    /// The version of the schema.
    pub const VERSION: u32 = 1;

    /// The figures, with time and machine.
    pub fn new(at: Timestamp, machine: Machine, rounds: u32, measured: Vec<Measured>) -> Self {
        BenchResults {
            schema: Self::SCHEMA,
            version: Self::VERSION,
            at,
            machine,
            rounds,
            measured,
        }
    }

    /// The verdicts on all stated figures.
    pub fn verdicts(&self) -> impl Iterator<Item = &FigureVerdict> {
        self.measured.iter().flat_map(|figure| &figure.verdicts)
    }
}

/// The width of a series' name.
const NAME: usize = 46;
/// The width of a value.
const VALUE: usize = 12;

impl fmt::Display for BenchResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "machine: {}", self.machine)?;
        let rounds = match self.rounds {
            1 => "1 round".into(),
            more => format!("{more} rounds"),
        };
        for figure in &self.measured {
            writeln!(f, "\n{}", figure.about)?;
            writeln!(
                f,
                "{rounds:<NAME$}{:>VALUE$}{:>VALUE$}{:>VALUE$}",
                "min", "median", "max"
            )?;
            for series in &figure.series {
                row(f, series)?;
            }
            for note in &figure.notes {
                writeln!(f, "{note}")?;
            }
        }
        writeln!(f)?;
        for verdict in self.verdicts() {
            writeln!(f, "{verdict}")?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, series: &Series) -> fmt::Result {
    let name = &series.name;
    let Some(summary) = series.summary else {
        return writeln!(
            f,
            "{name:<NAME$}{:>width$}",
            "not measured",
            width = 3 * VALUE
        );
    };
    let [min, median, max] =
        [summary.min, summary.median, summary.max].map(|value| series.unit.human(value));
    writeln!(f, "{name:<NAME$}{min:>VALUE$}{median:>VALUE$}{max:>VALUE$}")
}

#[cfg(test)]
mod tests {
    use base::exit::ExitCode;

    use super::*;
    use crate::bench::exit_code;
    use crate::bench::quotes::{Pair, ServerLoad};
    use crate::bench::series::Unit;
    use crate::bench::{local, quotes};

    fn machine() -> Machine {
        Machine {
            host: Host {
                system: "Debian GNU/Linux 12".into(),
                cores: 2,
                memory_mib: 16_000,
                processor: Some("Some Processor 9000".into()),
            },
            load_average: Some(0.123),
        }
    }

    fn results(memory: Vec<f64>, quotes_per_second: [f64; 3]) -> BenchResults {
        let time =
            |name: &str, values: [f64; 3]| Series::new(name, Unit::Milliseconds, values.into());
        let step = "up: Postgres accepts connections";
        let local = local::evaluate(
            vec![
                time(step, [1_397.0, 1_254.0, 1_300.0]),
                time(local::UP, [1_702.0, 1_650.0, 1_688.0]),
                time(local::E2E, [2_030.0, 15_100.0, 16_000.0]),
                Series::new(local::MEMORY, Unit::Mebibytes, memory),
            ],
            "backing services: postgres as a container, redis as a container".into(),
        );
        let load = |rate, busy| ServerLoad { rate, busy };
        let pair = |bare, busy, cached| Pair {
            bare: load(bare, busy),
            cached: load(cached, 0.975),
        };
        let [first, second, third] = quotes_per_second;
        let quotes = quotes::evaluate(&[
            pair(100_000.0, 0.971, first),
            pair(104_000.0, 0.982, second),
            pair(26_000.0, 0.273, third),
        ]);
        let at = "2026-03-02T09:00:00Z".parse().unwrap();
        BenchResults::new(at, machine(), 3, vec![local, quotes])
    }

    #[test]
    fn the_table_shows_measurements_machine_and_verdicts() {
        let results = results(vec![41.2, 40.9, 43.0], [31_000.0, 32_000.0, 25_000.0]);
        insta::assert_snapshot!(results);
        assert_eq!(exit_code(&results), ExitCode::ThresholdFailed);
    }

    #[test]
    fn the_document_has_every_round() {
        let results = results(vec![41.2, 40.9, 43.0], [31_000.0, 32_000.0, 25_000.0]);
        insta::assert_json_snapshot!(results);
    }

    #[test]
    fn what_was_not_measured_is_reported_and_inconclusive() {
        let mut results = results(Vec::new(), [31_000.0, 32_000.0, 25_000.0]);
        let text = results.to_string();
        assert!(text.contains("not measured  e2e: memory"), "{text}");
        assert!(text.contains("/proc"), "{text}");
        let other = |verdict: &FigureVerdict| verdict.threshold.series != local::E2E;
        for figure in &mut results.measured {
            figure.verdicts.retain(other);
        }
        assert_eq!(exit_code(&results), ExitCode::Inconclusive);
    }

    #[test]
    fn a_slow_quote_path_fails() {
        let mut slow = results(vec![41.2], [20_000.0, 30_000.0, 25_000.0]);
        slow.measured.remove(0);
        assert_eq!(exit_code(&slow), ExitCode::ThresholdFailed);
        let mut fast = results(vec![41.2], [30_000.0, 25_000.0, 2_000.0]);
        fast.measured.remove(0);
        assert_eq!(exit_code(&fast), ExitCode::Held);
    }
}
