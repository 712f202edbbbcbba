//! Secrets are only in files and environments of this user.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::machine::processes;
use crate::rig::Rig;

#[test]
fn no_secret_is_in_a_command_line_a_log_an_event_or_a_report() {
    let rig = Rig::new();
    rig.up();
    let text = fs::read_to_string(rig.environment_folder().join("secrets.json")).unwrap();
    let secrets: Value = serde_json::from_str(&text).unwrap();
    let secrets = secrets.as_object().unwrap().values();
    let secrets: Vec<&str> = secrets.map(|secret| secret.as_str().unwrap()).collect();
    assert_eq!(secrets.len(), 4);

    rig.run(&["smoke"]).expect_code(0);
    // A failed check shows commands and answers.
    let market = rig.find("serve market-data-service").unwrap();
    market.signal(nix::sys::signal::Signal::SIGKILL);
    let failed = rig.run(&["smoke", "--json"]);
    failed.expect_code(1);
    for secret in &secrets {
        for process in processes() {
            assert!(!process.command.contains(secret), "{}", process.command);
        }
        assert!(!failed.stdout.contains(secret) && !failed.stderr.contains(secret));
    }
    rig.run(&["down"]).expect_code(0);
    let mut files = 0;
    every_file(rig.home(), &mut |path| {
        files += 1;
        let text = fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&text);
        for secret in &secrets {
            assert!(!text.contains(secret), "{} has a secret", path.display());
        }
    });
    assert!(files > 20, "logs, events and reports are read");
}

fn every_file(folder: &Path, look: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => every_file(&entry.path(), look),
            false => look(&entry.path()),
        }
    }
}
