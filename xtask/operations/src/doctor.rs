//! Reports what this machine has and lacks.

use base::exit::ExitCode;
use environments::config::Target;
use environments::preflight;
use machine::doctor;
use machine::provision::Need;

use crate::invocation::{Context, Invocation};
use crate::outcome::CommandOutcome;
use crate::problem::Problem;

/// Inspects this machine. With `provision`, first installs what is missing.
pub async fn run(context: &Context, provision: bool) -> Result<CommandOutcome, Problem> {
    let invocation = Invocation::find(context).await?;
    if provision {
        // The registry takes minutes to compile, and only the project's tests need it.
        let needs = Need::ALL.into_iter().filter(|need| *need != Need::Registry);
        invocation.provision(&needs.collect::<Vec<_>>()).await?;
    }
    let tools_dir = invocation.home.tools();
    let ports = invocation.config.ports();
    let tools = match invocation.target() {
        Target::Local(_) => invocation.config.platform.local.tools.as_slice(),
        Target::Kind(_) | Target::Remote(_) => &[],
    };
    let findings = doctor::examine(invocation.home.root(), &tools_dir, &ports, tools);
    let findings = context.output.waiting("inspecting this machine", findings);
    let findings = findings.await;
    // This target may not need everything that is missing.
    let looked = preflight::look(&invocation.config, invocation.target(), &tools_dir);
    let outcome = match looked.await {
        Ok(_) => CommandOutcome::of(ExitCode::Held).with_note(format_args!(
            "the target {} can be brought up: cargo xtask e2e",
            invocation.target_name
        )),
        Err(missing) => {
            let problem = Problem::no_environment(missing);
            CommandOutcome::of(problem.exit_code()).with_problem(problem)
        }
    };
    let lines = findings.iter().map(ToString::to_string);
    outcome.with_answer(lines).with_document(&findings)
}
