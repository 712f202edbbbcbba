//! `cargo xtask scenario`, and `cargo xtask smoke`, which runs one of them.

use harness::exit::ExitCode;
use harness::run::event::StageResult;
use scenarios::catalogue::{self, Entry};

use super::remote;
use super::verify::{Selection, leave, prove};
use super::workplace::{Workplace, conclude, interrupts, print_json};
use crate::cli::{Named, ScenarioRun};
use crate::problem::Problem;

/// Shows every scenario.
pub fn list(json: bool) -> Result<ExitCode, Problem> {
    match json {
        true => print_json(&catalogue::ALL)?,
        false => print_line!("{}", table(catalogue::ALL)),
    }
    Ok(ExitCode::Held)
}

/// Runs scenarios against an environment that is up. The run is called `verb`.
pub async fn run(verb: &'static str, arguments: ScenarioRun) -> Result<ExitCode, Problem> {
    let selection = Selection::of(&arguments.names, arguments.sabotage)?;
    let Named { name, common } = &arguments.named;
    let place = Workplace::find(common).await?;
    if arguments.sabotage {
        remote::refuse(&place, "scenario run --sabotage")?;
    }
    if let Some(site) = remote::site(&place) {
        return remote::prove(&place, site, verb, &selection, common).await;
    }
    let (environment, secrets) = place.environment(&arguments.named)?;
    let mut interrupts = interrupts()?;
    let why = "which is up";
    let mut run = place.start_run_on(verb, &environment.target, name, why)?;
    let credentials = secrets.credentials();
    let proven = prove(&mut run, &place, &environment, &credentials, &selection);
    let interrupted = tokio::select! {
        done = proven => { done?; None }
        code = interrupts.next() => Some(code),
    };
    let (result, code) = match interrupted {
        Some(code) => {
            leave(&run, &place, &environment, &selection, &mut interrupts).await;
            (StageResult::Interrupted, code)
        }
        None => {
            let checks = run.checks();
            (StageResult::of_checks(checks), ExitCode::of_checks(checks))
        }
    };
    run.end_stages(result)?;
    run.finish(code)?;
    conclude(&run, code, common.json)
}

/// `scenario  number  needs  claim`, each as wide as its widest.
fn table(scenarios: &[Entry]) -> String {
    const HEADS: [&str; 4] = ["scenario", "number", "needs", "claim"];
    let heads = HEADS.map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(heads)
        .chain(scenarios.iter().map(row))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name_width, needs_width) = (width(0), width(2));
    let lines = rows.iter().map(|[name, number, needs, claim]| {
        format!("{name:<name_width$}  {number:<6}  {needs:<needs_width$}  {claim}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn row(entry: &Entry) -> [String; 4] {
    let needs: Vec<String> = entry.needs.iter().map(ToString::to_string).collect();
    let needs = match needs.is_empty() {
        true => "-".to_owned(),
        false => needs.join(", "),
    };
    let number = entry.number.to_string();
    [entry.name.to_owned(), number, needs, entry.claim.to_owned()]
}

#[cfg(test)]
mod tests {
    use harness::capability::Capability;
    use scenarios::catalogue::Family;

    use super::*;

    #[test]
    fn the_table_says_what_each_proves_and_needs() {
        let entry = |name, number, needs| Entry {
            name,
            number,
            claim: "it holds",
            needs,
            sabotage: None,
            family: Family::Smoke,
        };
        let needs = &[Capability::Cluster, Capability::NetworkPolicy];
        insta::assert_snapshot!(table(&[
            entry("smoke", 1, &[]),
            entry("network/partition", 26, needs),
        ]));
    }
}
