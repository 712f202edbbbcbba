//! `cargo xtask`: parses, dispatches, prints. What is done is done by the libraries.

#[macro_use]
mod say;

mod cli;
mod commands;
mod console;
mod problem;

use clap::Parser;
use cli::{Cli, Command};
use harness::exit::ExitCode;
use problem::Problem;

fn main() {
    let cli = Cli::parse();
    problem::show_as_people_read();
    // Before there are threads: it becomes another program.
    if let Command::RunBound(bound) = &cli.command {
        let error = harness::process::bound::run(&bound.binding(), &bound.program);
        say!("{error}");
        std::process::exit(ExitCode::NoEnvironment as i32);
    }
    harness::process::bound::offer_run_bound();
    harness::tls::use_ring();
    let code = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let done = runtime.block_on(commands::dispatch(cli.command));
            // A read of standard input that never ends must not keep the process.
            runtime.shutdown_background();
            done.unwrap_or_else(|problem| problem.show())
        }
        Err(error) => Problem::system("start the runtime", error).show(),
    };
    std::process::exit(code as i32);
}
