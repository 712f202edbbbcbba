//! `cargo xtask load compare`.

use harness::exit::ExitCode;
use loadtests::compared;
use loadtests::regression::{Comparison, Settings, Verdict};
use serde::Serialize;

use super::workplace::print_json;
use crate::cli::LoadCompare;
use crate::problem::Problem;

/// What is printed for a script: what the rows come to, and the rows.
#[derive(Serialize)]
struct Answer<'a> {
    verdict: Verdict,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

/// Holds results that were kept against each other.
pub fn compare(arguments: &LoadCompare) -> Result<ExitCode, Problem> {
    let LoadCompare { a, b, json } = arguments;
    let comparison = compared::compare(a, b, &Settings::default()).map_err(Problem::usage)?;
    match json {
        true => print_json(&Answer {
            verdict: comparison.verdict(),
            comparison: &comparison,
        })?,
        false => print_line!("{}", comparison.to_string().trim_end()),
    }
    Ok(comparison.exit_code())
}
