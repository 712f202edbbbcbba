//! An OCI runtime for machines whose root lacks capabilities: `runc`, asked for no more
//! than there is.
//!
//! A privileged container, as every kind node is, asks for all capabilities the kernel
//! knows. Where the bounding set of this process lacks one, `runc` ends with `unable to
//! apply caps: operation not permitted`. This program takes what is lacking out of the
//! container's `config.json` (on `create` and `run`) or out of the process file (on
//! `exec`), then becomes `runc`. `cargo xtask doctor --provision` registers it as
//! Docker's default runtime on such machines, and on no others.

mod bounds;
mod request;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::{fs, io};

use bounds::Bounds;

/// What runs containers.
const RUNTIME: &str = "runc";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Err(error) = narrow(&arguments) {
        // runc will say what it makes of the file as it is.
        say(&format!("capabilities are left as they are: {error}"));
    }
    let error = Command::new(RUNTIME).args(&arguments).exec();
    say(&format!("cannot run {RUNTIME}: {error}"));
    ExitCode::FAILURE
}

/// Whether it can be read or not: what is asked for is done.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "oci-runtime: {what}");
}

/// Takes out of the file that `arguments` name what this machine does not grant.
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
