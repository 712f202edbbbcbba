//! Smoke checks of a user's own.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::rig::{E2E, Rig};

/// A rig whose first file of checks is this one.
fn rig_with(checks: &str) -> (Rig, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.hurl");
    fs::write(&path, checks).unwrap();
    let first = format!("[[checks]]\nfile = {path:?}\n\n[[checks]]");
    (Rig::new().change("[[checks]]", &first), path, folder)
}

#[test]
fn a_failed_check_names_its_line_and_what_depends_on_it_is_skipped() {
    let (rig, path, _folder) = rig_with(
        "# a quote has a colour\n\
         GET {{api}}/market-data/quotes/ECOPETROL\nHTTP 200\n\
         [Captures]\nsymbol: jsonpath \"$.symbol\"\ncolour: jsonpath \"$.colour\"\n\n\
         # it can be read again\n\
         GET {{api}}/market-data/quotes/{{symbol}}\nHTTP 200\n\n\
         # it is painted\n\
         GET {{api}}/market-data/quotes/{{colour}}\nHTTP 200\n\n\
         # the password is right\n\
         POST {{site}}/api/login\n{ \"investor\": \"demo\", \"password\": \"{{demo_password}}\" }\nHTTP 418\n",
    );
    let ended = rig.run(&E2E);
    ended.expect(1, &format!("{}:6", path.display()));
    let events = rig.events("e2e");
    let outcome = |name: &str| {
        let mut checks = events.iter().filter(|it| it["event"] == "check-finished");
        let check = checks.find(|it| it["check"]["name"] == name).unwrap();
        check["check"]["outcome"].clone()
    };
    assert_eq!(outcome("a quote has a colour")["result"], "failed");
    assert_eq!(outcome("it can be read again")["result"], "passed");
    let skipped = outcome("it is painted");
    assert_eq!(skipped["result"], "skipped");
    assert!(
        skipped["because"]
            .as_str()
            .unwrap()
            .starts_with("{{colour}}")
    );
    let refused = outcome("the password is right");
    let next = refused["failure"]["next"].as_str().unwrap();
    assert!(next.starts_with("curl "), "{next}");
    assert!(next.contains("$DEMO_PASSWORD"), "{next}");
    assert_eq!(
        outcome("an order moves cash and position exactly")["result"],
        "passed"
    );
    let text: Vec<String> = events.iter().map(Value::to_string).collect();
    assert!(
        !text.concat().contains("Bearer ey"),
        "a token is in the events"
    );
}

#[test]
fn a_bad_check_is_refused_before_anything_starts() {
    let (rig, path, _folder) = rig_with("# a check\nGET {{site}}/{{tokn}}\nHTTP 200\n");
    let ended = rig.run(&E2E);
    ended
        .expect(2, &format!("{}:2", path.display()))
        .expect_stderr("{{tokn}}, which no earlier request captures");
    assert_eq!(rig.run_folder("e2e"), None, "nothing was started");
}
