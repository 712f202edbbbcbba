//! Runs scenarios against an environment that is up, and lists them.

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::Run;
use environments::environment::EnvironmentName;
use scenarios::catalogue::{self, CatalogueEntry};

use crate::invocation::{Context, Invocation};
use crate::outcome::CommandOutcome;
use crate::problem::Problem;
use crate::remote::{self, Then};
use crate::stages::verify::{Selection, stage};

/// The options of `scenario run`.
pub struct Options {
    /// The environment's name.
    pub name: EnvironmentName,
    /// Scenarios and families.
    pub names: Vec<String>,
    /// Whether to break each claim on purpose.
    pub sabotage: bool,
}

/// Lists every scenario.
pub fn list() -> Result<CommandOutcome, Problem> {
    let outcome = CommandOutcome::of(ExitCode::Held).with_answer([table(catalogue::ALL)]);
    outcome.with_document(&catalogue::ALL)
}

/// Runs the smoke scenario.
pub async fn smoke(context: &Context, name: EnvironmentName) -> Result<CommandOutcome, Problem> {
    let options = Options {
        name,
        names: vec![scenarios::smoke::NAME.to_owned()],
        sabotage: false,
    };
    prove("smoke", context, &options).await
}

/// Runs scenarios.
pub async fn run(context: &Context, options: &Options) -> Result<CommandOutcome, Problem> {
    prove("scenario", context, options).await
}

/// The run is called `verb`.
async fn prove(
    verb: &'static str,
    context: &Context,
    options: &Options,
) -> Result<CommandOutcome, Problem> {
    let invocation = Invocation::find(context).await?;
    let selection = Selection::of(&invocation, &options.names, options.sabotage)?;
    if options.sabotage {
        invocation.refuse_remote("scenario run --sabotage")?;
    }
    if let Some(site) = invocation.remote_site() {
        let prove = Then::Prove(&selection);
        return remote::work_as_it_is(&invocation, site, verb, prove).await;
    }
    let running = invocation.running(&options.name)?;
    let there = (running.environment.target.as_str(), &options.name);
    let stages = async |run: &mut Run, interrupts: &mut Interrupts| {
        stage(run, &invocation, &running, &selection, interrupts).await
    };
    invocation
        .perform_on(verb, there, "which is up", stages)
        .await
}

/// Returns a table with the columns scenario, number, needs and claim.
fn table(scenarios: &[CatalogueEntry]) -> String {
    let mut rows = vec![["scenario", "number", "needs", "claim"].map(str::to_owned)];
    rows.extend(scenarios.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name_width, needs_width) = (width(0), width(2));
    let lines = rows.iter().map(|[name, number, needs, claim]| {
        format!("{name:<name_width$}  {number:<6}  {needs:<needs_width$}  {claim}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn row(entry: &CatalogueEntry) -> [String; 4] {
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
    use environments::capability::Capability;
    use scenarios::catalogue::Family;

    use super::*;

    #[test]
    fn the_table_says_what_each_proves_and_needs() {
        let entry = |name, number, needs| CatalogueEntry {
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
