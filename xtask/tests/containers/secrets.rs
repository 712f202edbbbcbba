//! Secrets are only in files and environments of this user.

use std::fs;
use std::path::Path;

use crate::machine::no_command_line_shows;
use crate::rig::Rig;

#[test]
fn no_secret_is_in_a_command_line_a_log_an_event_or_a_report() {
    let rig = Rig::new();
    rig.up();
    let secrets = rig.secrets();
    assert_eq!(secrets.len(), 4);

    rig.run(&["smoke"]).expect_code(0);
    // A failed check shows commands and answers.
    let market = rig.find("serve market-data-service").unwrap();
    market.signal(nix::sys::signal::Signal::SIGKILL);
    let failed = rig.run(&["smoke", "--json"]);
    failed.expect_code(1);
    let events = rig.events("smoke");
    assert!(events.iter().any(|it| it["event"] == "log-lines"));
    no_command_line_shows(secrets.values());
    for secret in secrets.values() {
        assert!(!failed.stdout.contains(secret) && !failed.stderr.contains(secret));
    }
    rig.run(&["down"]).expect_code(0);
    let mut files = 0;
    every_file(rig.home(), &mut |path| {
        files += 1;
        let text = fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&text);
        for secret in secrets.values() {
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
