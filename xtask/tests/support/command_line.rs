//! Runs the command line in a folder of the test.

use std::path::Path;

use assert_cmd::Command;

/// Returns the exit code and the output at 80 columns, with the test's folder written as `[folder]`.
pub fn xtask(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .env("TRII_HARNESS_HOME", folder.join("home"))
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .env("NO_COLOR", "1")
        .env("COLUMNS", "80")
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let output = format!("exit code {code}\n{stdout}{stderr}");
    output.replace(folder.to_str().unwrap(), "[folder]")
}
