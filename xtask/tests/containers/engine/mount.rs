//! `doctor` reports what the engine's containers find, and not what its own process finds. In a
//! pipeline's container that process has fewer rights and sees other processes.

mod images;

use std::process::Command;

/// Returns the output of `doctor`, run through a program that executes it.
fn doctor(through: &[&str]) -> String {
    let line = [through, &[env!("CARGO_BIN_EXE_xtask"), "doctor"]].concat();
    let output = Command::new(line[0]).args(&line[1..]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Returns what a line of the output has after `name`.
fn line<'a>(output: &'a str, name: &str) -> &'a str {
    let found = output.lines().find_map(|line| line.split_once(name));
    let (_, value) = found.unwrap_or_else(|| panic!("no {name:?} in {output}"));
    value.trim()
}

#[test]
fn a_process_with_fewer_rights_reports_those_of_the_engine() {
    let usual = doctor(&[]);
    let without = [
        "setpriv",
        "--bounding-set=-sys_admin,-net_admin",
        "--inh-caps=-sys_admin",
    ];
    let restricted = doctor(&without);
    for name in ["engine's machine", "capabilities"] {
        assert_eq!(line(&restricted, name), line(&usual, name));
    }
}

#[test]
fn from_another_pid_namespace_the_engines_machine_is_another() {
    let output = doctor(&["unshare", "--pid", "--fork", "--mount-proc"]);
    let machine = line(&output, "engine's machine");
    assert!(machine.starts_with("another, "), "{output}");
    let capabilities = line(&output, "capabilities");
    assert_eq!(
        capabilities,
        "the engine's runtime uses those that exist there"
    );
}
