//! `cargo xtask`: parses, dispatches, prints. What is done is done by the libraries.

#[macro_use]
mod output;

mod cli;
mod commands;
mod console;
mod problem;

use clap::Parser;
use cli::{Cli, Command};
use harness::exit::ExitCode;
use problem::Problem;

fn main() {
    problem::show_as_people_read();
    let code = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => output::usage(&error),
    };
    std::process::exit(output::exit_code(code) as i32);
}

fn run(cli: Cli) -> ExitCode {
    // Before there are threads: it becomes another program.
    if let Command::RunBound(bound) = &cli.command {
        let error = harness::process::bound::run(&bound.binding(), &bound.program);
        say!("{error}");
        return ExitCode::NoEnvironment;
    }
    harness::process::bound::offer_run_bound();
    harness::tls::use_ring();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let done = runtime.block_on(commands::dispatch(cli.command));
            // A read of standard input that never ends must not keep the process.
            runtime.shutdown_background();
            done.unwrap_or_else(|problem| problem.show())
        }
        Err(error) => Problem::system("start the runtime", error).show(),
    }
}
