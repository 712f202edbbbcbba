//! Runs of load that are made to be held against each other: in which order, and what they
//! come to.

use std::fmt;
use std::path::Path;

use harness::exit::ExitCode;
use harness::run::event::Failure;

use crate::regression::{Comparison, FEWEST_RUNS, Row, Settings, Verdict, unfit};
use crate::result::LoadResult;

/// How many pairs find a change of a tenth in 19 of 20 cases, on a machine as noisy as
/// [`Noise`](crate::regression::Noise) has it.
pub const PAIRS: u32 = 7;

/// Fewer do not tell how much runs differ from each other.
pub const FEWEST_PAIRS: u32 = FEWEST_RUNS as u32;

/// What a run is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What is held against.
    A,
    /// What is judged.
    B,
}

/// One run of several in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Of which side.
    pub side: Side,
    /// Which of that side's, from 1.
    pub number: u32,
}

impl Side {
    /// The folder of its runs, in the command's.
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

/// So many runs of one side.
pub fn alone(side: Side, runs: u32) -> Vec<Turn> {
    (1..=runs).map(|number| Turn { side, number }).collect()
}

/// A B, B A, A B, ...: what drifts is no more on one side than on the other.
pub fn in_turn(pairs: u32) -> Vec<Turn> {
    let pairs = (1..=pairs).flat_map(|number| {
        let sides = match number % 2 {
            1 => [Side::A, Side::B],
            _ => [Side::B, Side::A],
        };
        sides.map(|side| Turn { side, number })
    });
    pairs.collect()
}

/// Each of A's runs with B's of the same number.
pub fn paired(measured: Vec<(Turn, LoadResult)>) -> Vec<(LoadResult, LoadResult)> {
    let of = |side| {
        let of_side = measured.iter().filter(move |(turn, _)| turn.side == side);
        of_side.map(|(_, result)| result.clone())
    };
    of(Side::A).zip(of(Side::B)).collect()
}

/// Why a run makes those to come pointless: nothing can be held against it. `version` is the
/// one that was brought for it, where one was.
pub fn ends_it(
    turn: Turn,
    version: Option<&str>,
    result: &LoadResult,
    settings: &Settings,
) -> Option<Comparison> {
    let why = unfit(result, settings.warm_up_blocks)
        .or_else(|| version.and_then(|version| of_another(result, version)))?;
    Some(Comparison {
        of: "runs that were not all made".to_owned(),
        obstacles: vec![format!("{turn}: {why}")],
        rows: Vec::new(),
    })
}

/// That none of those that answered did so in `version`. Where some do, their endpoints are
/// compared; those of the others are the same on both sides.
fn of_another(result: &LoadResult, version: &str) -> Option<String> {
    let answered = &result.fingerprint.versions;
    let is_it = |versions: &String| versions.split(", ").any(|it| it == version);
    if answered.is_empty() || answered.values().any(is_it) {
        return None;
    }
    let answered = answered.iter();
    let answered: Vec<String> = answered.map(|(of, it)| format!("{of} {it}")).collect();
    Some(format!(
        "{version} was brought, and only {} answered: a service that is released blue-green keeps \
         its live version; `perf --save` before its release and `perf --against` after it compare it",
        answered.join(", ")
    ))
}

/// What a command ends with. A regression says more than a threshold that some run broke, and
/// that more than an answer that was not good; only then does it count that there was too
/// little evidence.
pub fn comes_to(compared: ExitCode, runs: &[ExitCode]) -> ExitCode {
    const FIRST: [ExitCode; 4] = [
        ExitCode::Regression,
        ExitCode::ThresholdFailed,
        ExitCode::CheckFailed,
        ExitCode::Inconclusive,
    ];
    let is = |code: &ExitCode| *code == compared || runs.contains(code);
    FIRST.into_iter().find(is).unwrap_or(ExitCode::Held)
}

/// What a person needs to go on, where nothing says that all is as it was or better. `file` is
/// where the comparison is, `next` the command that shows it again.
pub fn failure(comparison: &Comparison, file: &Path, next: String) -> Option<Failure> {
    let verdict = comparison.verdict();
    let (what, expected) = match verdict {
        Verdict::Unchanged | Verdict::Improved => return None,
        Verdict::Regressed => (
            told(comparison, Verdict::Regressed, "regressed"),
            "no change for the worse that is no chance and matters",
        ),
        Verdict::Inconclusive => (
            told(comparison, Verdict::Inconclusive, "may have changed or not"),
            "enough evidence for a verdict",
        ),
        Verdict::NotComparable if comparison.rows.is_empty() => (
            "the runs cannot be compared".to_owned(),
            "runs that bear a comparison",
        ),
        Verdict::NotComparable => (
            told(comparison, Verdict::NotComparable, "cannot be compared"),
            "runs that bear a comparison",
        ),
    };
    let reasons = rows(comparison, verdict).map(|row| format!("{}: {}", name(row), row.reason));
    let reasons = comparison.obstacles.iter().cloned().chain(reasons);
    Some(Failure {
        what,
        expected: expected.into(),
        seen: reasons.take(ENOUGH).collect::<Vec<_>>().join("; "),
        look_at: file.display().to_string(),
        next,
    })
}

/// So many are named; the table has them all.
const ENOUGH: usize = 3;

/// `2 metrics regressed: GET /quotes p95, GET /quotes p99`.
fn told(comparison: &Comparison, verdict: Verdict, how: &str) -> String {
    let all: Vec<String> = rows(comparison, verdict).map(name).collect();
    let metrics = if all.len() == 1 { "metric" } else { "metrics" };
    let more = match all.len().saturating_sub(ENOUGH) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<&str> = all.iter().take(ENOUGH).map(String::as_str).collect();
    format!("{} {metrics} {how}: {}{more}", all.len(), named.join(", "))
}

fn rows(comparison: &Comparison, verdict: Verdict) -> impl Iterator<Item = &Row> {
    let rows = comparison.rows.iter();
    rows.filter(move |row| row.verdict == verdict)
}

fn name(row: &Row) -> String {
    let Row {
        endpoint, metric, ..
    } = row;
    format!("{endpoint} {metric}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regression::{Simulation, compare_pairs, made_up_pairs};

    fn order(turns: &[Turn]) -> String {
        let sides = turns.iter().map(|turn| turn.side.to_string());
        sides.collect()
    }

    #[test]
    fn sides_take_turns_and_neither_is_always_first() {
        assert_eq!(order(&in_turn(5)), "ABBAABBAAB");
        assert_eq!(order(&alone(Side::B, 2)), "BB");
        let numbers = in_turn(3)
            .iter()
            .map(|turn| turn.number)
            .collect::<Vec<_>>();
        assert_eq!(numbers, [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn runs_are_paired_by_their_number_whoever_was_first() {
        let made_up = made_up_pairs(&Simulation {
            pairs: 2,
            blocks: 12,
            requests: 5,
            ..Simulation::default()
        });
        let named = in_turn(2).into_iter().map(|turn| {
            let mut result = made_up[0].0.clone();
            result.run = turn.to_string();
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
    fn a_regression_counts_more_than_a_threshold_and_that_more_than_no_evidence() {
        use ExitCode::{CheckFailed, Held, Inconclusive, Regression, ThresholdFailed};
        assert_eq!(comes_to(Held, &[]), Held);
        assert_eq!(
            comes_to(Regression, &[CheckFailed, ThresholdFailed]),
            Regression
        );
        assert_eq!(
            comes_to(Held, &[CheckFailed, ThresholdFailed]),
            ThresholdFailed
        );
        assert_eq!(comes_to(Inconclusive, &[ThresholdFailed]), ThresholdFailed);
        assert_eq!(comes_to(Inconclusive, &[CheckFailed]), CheckFailed);
        assert_eq!(comes_to(Inconclusive, &[]), Inconclusive);
        assert_eq!(comes_to(Held, &[Inconclusive]), Inconclusive);
    }

    #[test]
    fn a_run_that_measures_nothing_ends_it() {
        let mut run = made_up_pairs(&Simulation {
            pairs: 1,
            ..Simulation::default()
        })
        .remove(0)
        .0;
        let turn = in_turn(3)[2];
        assert_eq!(ends_it(turn, None, &run, &Settings::default()), None);
        run.generator.bottleneck = Some("0.99 of 1 core".into());
        let comparison = ends_it(turn, None, &run, &Settings::default()).unwrap();
        assert_eq!(comparison.verdict(), Verdict::NotComparable);
        assert!(comparison.obstacles[0].starts_with("B's run 2: "));
    }

    /// Two sides that the same version answered would be told to be unchanged.
    #[test]
    fn a_run_that_another_version_answered_ends_it() {
        let one = Simulation {
            pairs: 1,
            ..Simulation::default()
        };
        let (mut run, _) = made_up_pairs(&one).remove(0);
        let ends = |run: &LoadResult, version| {
            let ended = ends_it(in_turn(1)[1], Some(version), run, &Settings::default());
            ended.map(|comparison| comparison.obstacles.join("; "))
        };
        let answered = [("gateway", "v1"), ("market-data", "v1, v2")];
        run.fingerprint.versions = answered
            .map(|(service, version)| (service.into(), version.into()))
            .into();
        assert_eq!(ends(&run, "v1"), None);
        assert_eq!(ends(&run, "v2"), None, "some of it is of that version");
        insta::assert_snapshot!(ends(&run, "v3").unwrap(), @"B's run 1: v3 was brought, and only gateway v1, market-data v1, v2 answered: a service that is released blue-green keeps its live version; `perf --save` before its release and `perf --against` after it compare it");
        // A target that says no versions cannot be held to any.
        run.fingerprint.versions.clear();
        assert_eq!(ends(&run, "v3"), None);
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
            let comparison = compare_pairs(&made_up_pairs(&slower), &Settings::default());
            failure(&comparison, file, "cargo xtask load compare a b".into())
        };
        let regressed = of(slower).unwrap();
        assert_eq!(
            regressed.what,
            "3 metrics regressed: GET /0 p50, GET /0 p95, GET /0 p99"
        );
        assert!(
            regressed.seen.contains("GET /0 p50: +"),
            "{}",
            regressed.seen
        );
        let few = of(Simulation { pairs: 4, ..slower }).unwrap();
        assert_eq!(few.what, "the runs cannot be compared");
        assert_eq!(few.seen, "there are 4 pairs, 5 are needed");
    }
}
