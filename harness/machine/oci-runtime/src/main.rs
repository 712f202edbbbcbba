//! An OCI runtime for machines whose root lacks capabilities.
//!
//! A privileged container, such as a kind node, requests all capabilities that the kernel knows. If
//! the bounding set of this process lacks one, `runc` fails with `unable to apply caps: operation
//! not permitted`. This program removes the missing ones from the container's `config.json` (on
//! `create` and `run`) or from the process file (on `exec`), then becomes `runc`. `cargo xtask
//! doctor --provision` registers it as Docker's default runtime, on such machines only.

mod bounds;
mod request;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::{fs, io};

use bounds::Bounds;

const RUNTIME: &str = "runc";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Err(error) = narrow(&arguments) {
        // runc reports an error in the file, if there is one.
        print(&format!("capabilities are not changed: {error}"));
    }
    let error = Command::new(RUNTIME).args(&arguments).exec();
    print(&format!("cannot run {RUNTIME}: {error}"));
    ExitCode::FAILURE
}

/// Ignores a standard error that is closed.
fn print(message: &str) {
    let _ = writeln!(io::stderr(), "oci-runtime: {message}");
}

/// Removes from the file that `arguments` name what this machine does not grant.
fn narrow(arguments: &[OsString]) -> io::Result<()> {
    let Some(request) = request::of(arguments) else {
        return Ok(());
    };
    let bounds = Bounds::of_this_process()?;
    let mut document = serde_json::from_slice(&fs::read(&request.file)?)?;
    if bounds.narrow(request.process_in(&mut document)) {
        fs::write(&request.file, serde_json::to_vec(&document)?)?;
    }
    Ok(())
}
