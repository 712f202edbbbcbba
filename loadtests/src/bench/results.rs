//! All that was measured: as a document for programs, as a table for people.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::Figure;
use super::machine::Machine;
use super::series::Series;
use super::threshold::Verdict;

/// The results of one benchmark.
///
/// A reader may rely on `schema` and `version`: a change that breaks readers raises the
/// version; a field that is only added does not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// Always [`Results::SCHEMA`].
    pub schema: &'static str,
    /// Always [`Results::VERSION`].
    pub version: u32,
    /// When it began, UTC.
    pub at: Timestamp,
    /// Where.
    pub machine: Machine,
    /// How often each figure was measured.
    pub rounds: u32,
    /// What was measured.
    pub measured: Vec<Measured>,
}

/// One figure, measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Which.
    pub figure: Figure,
    /// What the numbers are of, in one line.
    pub about: String,
    /// The numbers.
    pub series: Vec<Series>,
    /// What a reader should know of them.
    pub notes: Vec<String>,
    /// How the stated figures fared.
    pub verdicts: Vec<Verdict>,
}

impl Results {
    /// The name of the document's schema.
    pub const SCHEMA: &str = "trii-rehearsal/bench";
    /// The version of the schema.
    pub const VERSION: u32 = 1;

    /// What was measured, dated and placed.
    pub fn new(at: Timestamp, machine: Machine, rounds: u32, measured: Vec<Measured>) -> Self {
        Results {
            schema: Self::SCHEMA,
            version: Self::VERSION,
            at,
            machine,
            rounds,
            measured,
        }
    }

    /// How every stated figure fared.
    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.measured.iter().flat_map(|figure| &figure.verdicts)
    }
}

/// The widest name of a series.
const NAME: usize = 46;
/// The widest value.
const VALUE: usize = 12;

impl fmt::Display for Results {
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
    use harness::exit::ExitCode;
    use harness::run::event::Host;

    use super::*;
    use crate::bench::exit_code;
    use crate::bench::quotes::{Load, Pair};
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

    fn results(memory: Vec<f64>, quotes_per_second: [f64; 3]) -> Results {
        let time =
            |name: &str, values: [f64; 3]| Series::new(name, Unit::Milliseconds, values.into());
        let local = local::judge(
            vec![
                time(
                    "up: Postgres accepts connections",
                    [1_397.0, 1_254.0, 1_300.0],
                ),
                time(local::UP, [1_702.0, 1_650.0, 1_688.0]),
                time(local::E2E, [2_030.0, 15_100.0, 16_000.0]),
                Series::new(local::MEMORY, Unit::Mebibytes, memory),
            ],
            "backing services: postgres as a container, redis as a container".into(),
        );
        let pair = |bare, busy, cached| Pair {
            bare: Load { rate: bare, busy },
            cached: Load {
                rate: cached,
                busy: 0.975,
            },
        };
        let [first, second, third] = quotes_per_second;
        let quotes = quotes::judge(&[
            pair(100_000.0, 0.971, first),
            pair(104_000.0, 0.982, second),
            pair(26_000.0, 0.273, third),
        ]);
        let at = "2026-03-02T09:00:00Z".parse().unwrap();
        Results::new(at, machine(), 3, vec![local, quotes])
    }

    #[test]
    fn the_table_says_what_was_measured_where_and_what_holds() {
        let results = results(vec![41.2, 40.9, 43.0], [31_000.0, 32_000.0, 25_000.0]);
        insta::assert_snapshot!(results);
        assert_eq!(exit_code(&results), ExitCode::ThresholdFailed);
    }

    #[test]
    fn the_document_carries_every_round() {
        let results = results(vec![41.2, 40.9, 43.0], [31_000.0, 32_000.0, 25_000.0]);
        insta::assert_json_snapshot!(results);
    }

    #[test]
    fn what_was_not_measured_is_said_and_decides_nothing() {
        let mut results = results(Vec::new(), [31_000.0, 32_000.0, 25_000.0]);
        let text = results.to_string();
        assert!(text.contains("not measured  e2e: memory"), "{text}");
        assert!(text.contains("/proc"), "{text}");
        for figure in &mut results.measured {
            figure
                .verdicts
                .retain(|verdict| verdict.threshold.series != local::E2E);
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
