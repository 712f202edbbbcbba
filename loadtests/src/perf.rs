//! Load runs for a comparison: their order, and the result of the command.

use std::fmt;
use std::path::Path;

use base::exit::ExitCode;
use base::run::event::Failure;

use crate::regression::{Comparison, ComparisonVerdict, FEWEST_RUNS, Row, Settings, unfit};
use crate::result::LoadResult;

/// The number of pairs that detect a change of 10 % in 19 of 20 cases, on a machine as noisy as the
/// default of [`Noise`](crate::regression::Noise).
pub const PAIRS: u32 = 7;

/// Fewer pairs do not show how much runs differ from each other.
pub const FEWEST_PAIRS: u32 = FEWEST_RUNS as u32;

/// The side that a run belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The reference.
    A,
    /// The side that is compared with it.
    B,
}

/// One of the runs of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its side.
    pub side: Side,
    /// Its number on that side, from 1.
    pub number: u32,
}

impl Side {
    /// Returns the folder of its runs, in the command's folder.
    pub fn folder(self) -> &'static str {
        match self {
            Side::A => "a",
            Side::B => "b",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::A => "A",
            Side::B => "B",
        })
    }
}

/// `A's run 3`.
impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}'s run {}", self.side, self.number)
    }
}

/// Returns this many runs of one side.
pub fn one_side(side: Side, runs: u32) -> Vec<Turn> {
    (1..=runs).map(|number| Turn { side, number }).collect()
}

/// Returns A B, B A, A B, ...: drift then affects both sides equally.
pub fn alternating(pairs: u32) -> Vec<Turn> {
    let pairs = (1..=pairs).flat_map(|number| {
        let sides = match number % 2 {
            1 => [Side::A, Side::B],
            _ => [Side::B, Side::A],
        };
        sides.map(|side| Turn { side, number })
    });
    pairs.collect()
}

/// Returns each run of A with B's run of the same number.
pub fn paired(measured: Vec<(Turn, LoadResult)>) -> Vec<(LoadResult, LoadResult)> {
    let of = |side| {
        let of_side = measured.iter().filter(move |(turn, _)| turn.side == side);
        of_side.map(|(_, result)| result.clone())
    };
    of(Side::A).zip(of(Side::B)).collect()
}

/// Returns a comparison with the reason if this run cannot be compared with any other. `version` is
/// the version that was deployed for it, if any.
pub fn obstacle(
    turn: Turn,
    version: Option<&str>,
    result: &LoadResult,
    settings: &Settings,
) -> Option<Comparison> {
    let why = unfit(result, settings.warm_up_blocks).or_else(|| other_version(result, version?))?;
    Some(Comparison {
        of: "incomplete runs".to_owned(),
        obstacles: vec![format!("{turn}: {why}")],
        rows: Vec::new(),
    })
}

/// Returns an obstacle if `version` answered no request. If some services answered in it, their
/// endpoints are compared, and the others are the same on both sides.
fn other_version(result: &LoadResult, version: &str) -> Option<String> {
    let answered = &result.fingerprint.versions;
    let has_it = |versions: &String| versions.split(", ").any(|answered| answered == version);
    if answered.is_empty() || answered.values().any(has_it) {
        return None;
    }
    let answered = answered.iter();
    let answered = answered.map(|(service, version)| format!("{service} {version}"));
    Some(format!(
        "{version} was deployed, but only {} answered: a service that is released blue-green keeps \
         its live version; compare it with `perf --save` before its release and `perf --against` after",
        answered.collect::<Vec<_>>().join(", ")
    ))
}

/// Returns a command's exit code: first a regression, then a threshold, a bad answer, no evidence.
pub fn exit_code(compared: ExitCode, runs: &[ExitCode]) -> ExitCode {
    const FIRST: [ExitCode; 4] = [
        ExitCode::Regression,
        ExitCode::ThresholdFailed,
        ExitCode::CheckFailed,
        ExitCode::Inconclusive,
    ];
    let is = |code: &ExitCode| *code == compared || runs.contains(code);
    FIRST.into_iter().find(is).unwrap_or(ExitCode::Held)
}

/// Returns the failure of a comparison, unless nothing became worse. `file` is the path of the
/// comparison, `next` the command that shows it again.
pub fn failure(comparison: &Comparison, file: &Path, next: String) -> Option<Failure> {
    let verdict = comparison.verdict();
    let summary = |how| summary(comparison, verdict, how);
    let (what, expected) = match verdict {
        ComparisonVerdict::Unchanged | ComparisonVerdict::Improved => return None,
        ComparisonVerdict::Regressed => (
            summary("regressed"),
            "no significant and relevant change for the worse",
        ),
        ComparisonVerdict::Inconclusive => (
            summary("may have changed or not"),
            "enough evidence for a verdict",
        ),
        ComparisonVerdict::NotComparable if comparison.rows.is_empty() => {
            ("the runs cannot be compared".to_owned(), "comparable runs")
        }
        ComparisonVerdict::NotComparable => (summary("cannot be compared"), "comparable runs"),
    };
    let reasons = rows(comparison, verdict).map(|row| format!("{}: {}", name(row), row.reason));
    let reasons = comparison.obstacles.iter().cloned().chain(reasons);
    Some(Failure {
        what,
        expected: expected.into(),
        seen: reasons.take(MOST_NAMED).collect::<Vec<_>>().join("; "),
        look_at: file.display().to_string(),
        next,
    })
}

/// The most metrics in a message. The table has all.
const MOST_NAMED: usize = 3;

/// `2 metrics regressed: GET /quotes p95, GET /quotes p99`.
fn summary(comparison: &Comparison, verdict: ComparisonVerdict, how: &str) -> String {
    let all: Vec<String> = rows(comparison, verdict).map(name).collect();
    let metrics = if all.len() == 1 { "metric" } else { "metrics" };
    let more = match all.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<&str> = all.iter().take(MOST_NAMED).map(String::as_str).collect();
    format!("{} {metrics} {how}: {}{more}", all.len(), named.join(", "))
}

fn rows(comparison: &Comparison, verdict: ComparisonVerdict) -> impl Iterator<Item = &Row> {
    let rows = comparison.rows.iter();
    rows.filter(move |row| row.verdict == verdict)
}

fn name(row: &Row) -> String {
    format!("{} {}", row.endpoint, row.metric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regression::{Simulation, compare_pairs, simulated_pairs, simulated_result};

    fn order(turns: &[Turn]) -> String {
        turns.iter().map(|turn| turn.side.to_string()).collect()
    }

    #[test]
    fn sides_alternate_and_neither_is_always_first() {
        assert_eq!(order(&alternating(5)), "ABBAABBAAB");
        assert_eq!(order(&one_side(Side::B, 2)), "BB");
        let numbers = alternating(3).into_iter().map(|turn| turn.number);
        assert_eq!(numbers.collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn runs_are_paired_by_their_number() {
        let named = alternating(2).into_iter().map(|turn| {
            let result = LoadResult {
                run: turn.to_string(),
                ..simulated_result()
            };
            (turn, result)
        });
        let pairs = paired(named.collect());
        let names: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(a, b)| (&a.run[..], &b.run[..]))
            .collect();
        assert_eq!(
            names,
            [("A's run 1", "B's run 1"), ("A's run 2", "B's run 2")]
        );
    }

    #[test]
    fn exit_codes_have_a_priority() {
        use ExitCode::{CheckFailed, Held, Inconclusive, Regression, ThresholdFailed};
        let both = [CheckFailed, ThresholdFailed];
        let cases: [(ExitCode, &[ExitCode], ExitCode); 7] = [
            (Held, &[], Held),
            (Regression, &both, Regression),
            (Held, &both, ThresholdFailed),
            (Inconclusive, &[ThresholdFailed], ThresholdFailed),
            (Inconclusive, &[CheckFailed], CheckFailed),
            (Inconclusive, &[], Inconclusive),
            (Held, &[Inconclusive], Inconclusive),
        ];
        for (compared, runs, expected) in cases {
            assert_eq!(exit_code(compared, runs), expected, "{compared:?} {runs:?}");
        }
    }

    #[test]
    fn an_unfit_run_is_an_obstacle() {
        let mut run = simulated_run();
        let turn = alternating(3)[2];
        assert_eq!(obstacle(turn, None, &run, &Settings::default()), None);
        run.generator.bottleneck = Some("0.99 of 1 core".into());
        let comparison = obstacle(turn, None, &run, &Settings::default()).unwrap();
        assert_eq!(comparison.verdict(), ComparisonVerdict::NotComparable);
        assert!(comparison.obstacles[0].starts_with("B's run 2: "));
    }

    fn simulated_run() -> LoadResult {
        let one = Simulation {
            pairs: 1,
            ..Simulation::default()
        };
        simulated_pairs(&one).remove(0).0
    }

    /// Otherwise two sides with the same version would be reported as unchanged.
    #[test]
    fn a_run_that_another_version_answered_is_an_obstacle() {
        let mut run = simulated_run();
        let reason = |run: &LoadResult, version| {
            let obstacle = obstacle(alternating(1)[1], Some(version), run, &Settings::default());
            obstacle.map(|comparison| comparison.obstacles.join("; "))
        };
        let answered = [("gateway", "v1"), ("market-data", "v1, v2")];
        run.fingerprint.versions = answered
            .map(|(service, version)| (service.into(), version.into()))
            .into();
        assert_eq!(reason(&run, "v1"), None);
        assert_eq!(reason(&run, "v2"), None, "one service has that version");
        insta::assert_snapshot!(reason(&run, "v3").unwrap(), @"B's run 1: v3 was deployed, but only gateway v1, market-data v1, v2 answered: a service that is released blue-green keeps its live version; compare it with `perf --save` before its release and `perf --against` after");
        // Without reported versions there is nothing to check.
        run.fingerprint.versions.clear();
        assert_eq!(reason(&run, "v3"), None);
    }

    #[test]
    fn what_regressed_is_named() {
        let slower = Simulation {
            pairs: 5,
            endpoints: 1,
            blocks: 14,
            requests: 80,
            slower: 1.3,
            ..Simulation::default()
        };
        let file = Path::new("comparison.json");
        let of = |slower| {
            let comparison = compare_pairs(&simulated_pairs(&slower), &Settings::default());
            failure(&comparison, file, "cargo xtask load compare a b".into())
        };
        let regressed = of(slower).unwrap();
        assert_eq!(
            regressed.what,
            "3 metrics regressed: GET /0 p50, GET /0 p95, GET /0 p99"
        );
        let seen = regressed.seen;
        assert!(seen.contains("GET /0 p50: +"), "{seen}");
        let few = of(Simulation { pairs: 4, ..slower }).unwrap();
        assert_eq!(few.what, "the runs cannot be compared");
        assert_eq!(few.seen, "there are 4 pairs, 5 are needed");
    }
}
