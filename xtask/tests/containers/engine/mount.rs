//! What the engine's containers meet is told of its machine, and not of the process that asks: a
//! pipeline's container has fewer rights than they, and another view of the processes.

mod images;

use std::process::Command;

/// What `doctor` says of it, run through a program that becomes it.
fn doctor(through: &[&str]) -> String {
    let line = [through, &[env!("CARGO_BIN_EXE_xtask"), "doctor"]].concat();
    let told = Command::new(line[0]).args(&line[1..]).output().unwrap();
    String::from_utf8(told.stdout).unwrap()
}

/// Its line about this, its name aside.
fn line<'a>(told: &'a str, name: &str) -> &'a str {
    let mut lines = told.lines();
    let line = lines.find_map(|line| line.split_once(name));
    line.unwrap_or_else(|| panic!("no {name:?} in {told}"))
        .1
        .trim()
}

#[test]
fn a_process_with_fewer_rights_sees_those_of_the_engine() {
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
    let told = doctor(&["unshare", "--pid", "--fork", "--mount-proc"]);
    assert!(
        line(&told, "engine's machine").starts_with("another, "),
        "{told}"
    );
    let capabilities = line(&told, "capabilities");
    assert_eq!(capabilities, "those that the engine's runtime finds there");
}
