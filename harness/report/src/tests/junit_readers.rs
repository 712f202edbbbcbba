//! The rules of the programs that read `junit.xml`.
//!
//! - Jenkins: the JUnit plugin tells cases apart by class name and name; the xUnit plugin
//!   validates with [`junit-10.xsd`](https://github.com/jenkinsci/xunit-plugin), whose elements and
//!   attributes are [`ELEMENTS`].
//! - [GitLab](https://docs.gitlab.com/ci/testing/unit_test_reports): at most 30 MB and 500,000
//!   cases; of two cases with the same name the first counts; the text of a failure is shown.
//! - GitHub: [dorny/test-reporter](https://github.com/dorny/test-reporter) shows cases whose class
//!   name is the suite's directly below it, and needs times; it shows the text of a failure.
//!   [mikepenz/action-junit-report](https://github.com/mikepenz/action-junit-report) shows the
//!   message and the text. [EnricoMi/publish-unit-test-result-action](https://github.com/EnricoMi/publish-unit-test-result-action)
//!   adds up the suites' counts, which must be those of the cases.

use std::collections::BTreeMap;

use junit_parser::{TestCase, TestStatus, TestSuite};
use quick_xml::events::Event as Xml;

use super::*;

/// The elements, with the attributes that are required, and the others that are allowed.
const ELEMENTS: [(&str, &[&str], &[&str]); 9] = [
    (
        "testsuites",
        &[],
        &["name", "time", "tests", "failures", "errors"],
    ),
    (
        "testsuite",
        &["name", "tests", "failures", "errors"],
        &["time", "skipped", "timestamp"],
    ),
    ("properties", &[], &[]),
    ("property", &["name", "value"], &[]),
    ("testcase", &["name"], &["time", "classname"]),
    ("failure", &[], &["type", "message"]),
    ("error", &[], &["type", "message"]),
    ("skipped", &[], &["type", "message"]),
    ("system-out", &[], &[]),
];

/// Checks `junit.xml` of a report by all rules.
pub(super) fn assert_readable(report: &Report) {
    let xml = junit::render(report).unwrap();
    assert!(xml.len() < 30_000_000, "{} bytes", xml.len());
    for (element, attributes) in elements(&xml) {
        assert_in_schema(&element, &attributes);
        if let Some(time) = attributes.get("time") {
            let (seconds, fraction) = time.split_once('.').expect(time);
            let is_number = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
            assert!(is_number(seconds) && is_number(fraction), "{time}");
        }
        if let Some(at) = attributes.get("timestamp") {
            assert!(at.parse::<jiff::Timestamp>().is_ok(), "{at}");
        }
        if ["failure", "error"].contains(&&element[..]) {
            assert!(attributes.contains_key("type"), "{attributes:?}");
        }
    }
    let junit = junit_parser::from_reader(xml.as_bytes()).unwrap();
    assert!(!junit.suites.is_empty());
    let (mut cases, mut bad) = (0, 0);
    for suite in &junit.suites {
        assert_counted(suite);
        cases += suite.cases.len();
        bad += suite.failures + suite.errors;
        for case in &suite.cases {
            assert_eq!(case.classname.as_ref(), Some(&suite.name));
            assert_explained(case);
        }
    }
    assert!(cases < 500_000);
    assert_eq!(bad == 0, report.verdict == RunVerdict::Held);
}

fn assert_in_schema(element: &str, attributes: &BTreeMap<String, String>) {
    let known = ELEMENTS.iter().find(|(name, ..)| *name == element);
    let (_, required, optional) = known.expect(element);
    for name in attributes.keys() {
        let is_known = required.contains(&&name[..]) || optional.contains(&&name[..]);
        assert!(is_known, "{element} has {name}");
    }
    for name in *required {
        assert!(attributes.contains_key(*name), "{element} has no {name}");
    }
}

fn assert_counted(suite: &TestSuite) {
    assert!(suite.suites.is_empty(), "suites in suites");
    assert!(!suite.name.is_empty() && !suite.cases.is_empty());
    let count = |is: fn(&TestStatus) -> bool| {
        suite.cases.iter().filter(|case| is(&case.status)).count() as u64
    };
    let counted = (suite.tests, suite.failures, suite.errors, suite.skipped);
    let expected = (
        suite.cases.len() as u64,
        count(TestStatus::is_failure),
        count(TestStatus::is_error),
        count(TestStatus::is_skipped),
    );
    assert_eq!(counted, expected, "{}", suite.name);
}

/// The text begins as the message does, for readers that show only one of them.
fn assert_explained(case: &TestCase) {
    let (message, text) = match &case.status {
        TestStatus::Failure(it) => (&it.message, &it.text),
        TestStatus::Error(it) => (&it.message, &it.text),
        TestStatus::Success | TestStatus::Skipped(_) => return,
    };
    // The reader loses some other characters of texts: references, such as `&lt;`.
    let letters = |text: &str| -> String {
        let letters = text.chars().filter(|it| it.is_alphanumeric());
        letters.take(40).collect()
    };
    assert!(
        letters(text).starts_with(&letters(message)),
        "{message}: {text}"
    );
}

/// Returns each element with its attributes.
fn elements(xml: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut elements = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Xml::Start(it) | Xml::Empty(it) => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).unwrap();
                let attributes = it.attributes().map(|attribute| {
                    let attribute = attribute.unwrap();
                    (text(attribute.key.as_ref()), text(&attribute.value))
                });
                elements.push((text(it.name().as_ref()), attributes.collect()));
            }
            Xml::Eof => return elements,
            _ => {}
        }
    }
}

#[test]
fn junit_of_every_sample_follows_the_rules_of_its_readers() {
    for (name, _) in SAMPLES {
        println!("{name}");
        assert_readable(&Report::from_events(&sample(name)));
    }
}
