//! `cargo xtask`: parses the command line, calls an operation, and prints its outcome.

#[macro_use]
mod output;

mod annotations;
mod cli;
mod commands;
mod console;
#[cfg(test)]
mod pipelines;

use base::exit::ExitCode;
use clap::Parser;
use cli::{Cli, Command};
use operations::problem::Problem;

fn main() {
    output::set_error_format();
    let code = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => output::usage(&error),
    };
    std::process::exit(output::exit_code(code) as i32);
}

fn run(cli: Cli) -> ExitCode {
    // Before any thread starts: this process is replaced by another program.
    if let Command::RunBound(bound) = &cli.command {
        let error = base::process::run_bound::run(&bound.binding(), &bound.program);
        say!("{error}");
        return ExitCode::NoEnvironment;
    }
    base::process::run_bound::offer_run_bound();
    base::tls::use_ring();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let code = runtime.block_on(commands::run(cli.command));
            // Does not wait for a read of standard input that never ends.
            runtime.shutdown_background();
            code
        }
        Err(error) => output::problem(&Problem::system("start the runtime", error)),
    }
}
