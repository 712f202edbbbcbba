//! What is refused, and how the message helps.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use proptest::prelude::*;

use super::parse;
use crate::HurlFileError;

const GET: &str = "GET {{site}}/a\nHTTP 200\n";

fn refusals(files: &[String]) -> String {
    let refusal = |file: &String| {
        let error = parse(file).expect_err(file);
        format!("{error}\n  help: {}\n", error.help().unwrap())
    };
    files.iter().map(refusal).collect()
}

fn with_asserts(asserts: &[&str]) -> Vec<String> {
    let file = |assert: &&str| format!("{GET}[Asserts]\n{assert}\n");
    asserts.iter().map(file).collect()
}

#[test]
fn syntax_errors() {
    let files = [
        "",
        "# only a comment\n",
        "GOT it\n",
        "GET shop.test/a\n",
        "GET {{site}}/a\nHTTP abc\n",
        "GET {{site}}/a\n[Assert]\nstatus == 200\n",
        "GET {{site}}/a\nHTTP 200\n[Asserts]\njsonpath \"$.a\" equals 1\n",
        "GET {{site}}/a\nHTTP 200\n[Asserts]\nbody matches /(/\n",
        "POST {{site}}/a\n{\"a\": 1,}\n",
        "POST {{site}}/a\n<a/>\n",
        "POST {{site}}/a\n{\"a\": 1e}\n",
        "POST {{site}}/a\n[Form]\na: 1\n{\"a\": 1}\n",
    ];
    insta::assert_snapshot!(refusals(&files.map(str::to_owned)));
}

#[test]
fn parts_of_requests_that_are_not_supported() {
    let files = [
        "POST {{site}}/a\nfile,a.json;\n",
        "POST {{site}}/a\n```json\n{}\n```\n",
        "POST {{site}}/a\n```graphql\n{ a }\n```\n",
        "POST {{site}}/a\n[Multipart]\na: b\n",
        "GET {{site}}/a\n[Options]\ninsecure: true\n",
        "GET {{site}}/a\n[Options]\nretry: -1\n",
        "GET {{site}}/a\n[Options]\nretry-interval: {{site}}\n",
        "GET {{site}}/a?id={{newUuid}}\n",
        "GET {{site}}/a\nHTTP 200\n[Captures]\n{{site}}: body\n",
    ];
    insta::assert_snapshot!(refusals(&files.map(str::to_owned)));
}

#[test]
fn asserts_that_are_not_supported() {
    let files = with_asserts(&[
        "xpath \"string(//a)\" == \"b\"",
        "md5 == hex,00;",
        "rawbytes count == 1",
        "certificate \"Subject\" == \"a\"",
        "ip == \"::1\"",
        "redirects count == 0",
        "body xpath \"string(//a)\" == \"b\"",
        "body toDate \"%Y\" exists",
        "jsonpath \"$.a\" nth {{site}} == 1",
        "jsonpath \"$.a\" isDate",
        "body == file,a.txt;",
        "body == /a/",
        "body matches 1",
        "body matches \"(\"",
        "jsonpath \"$.[*].a\" == 1",
        "jsonpath \"$.a\" == 1.2345678901234567",
        "jsonpath \"$.a\" == 18446744073709551616",
        "jsonpath \"$.a\" == -9223372036854775809",
    ]);
    insta::assert_snapshot!(refusals(&files));
}

#[test]
fn a_variable_must_be_known_or_captured_before() {
    let captures = "GET {{site}}/a\nHTTP 200\n[Captures]\ntoken: jsonpath \"$.token\"\n";
    let reads = "GET {{site}}/b\nAuthorization: Bearer {{token}}\n";
    assert!(parse(&format!("{captures}{reads}")).is_ok());
    // Captures come before the asserts of the same entry.
    assert!(
        parse(&format!(
            "{captures}[Asserts]\nbody contains \"{{{{token}}}}\"\n"
        ))
        .is_ok()
    );
    let files = [
        format!("{reads}HTTP 200\n{captures}"),
        format!("{captures}{}", reads.replace("token", "tokne")),
        "GET http://shop.test/a\n[Query]\na: {{pasword}}\n".to_owned(),
        "POST {{site}}/a\n{\"a\": [\"{{nobody}}\"]}\n".to_owned(),
    ];
    insta::assert_snapshot!(refusals(&files));
}

#[test]
fn the_report_shows_the_line() {
    let error = parse("GET {{site}}/é\u{301}/{{ tokne }}/x # why\nHTTP 200\n").unwrap_err();
    insta::assert_snapshot!(report(&error));
}

fn report(error: &HurlFileError) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
    let mut text = String::new();
    handler.render_report(&mut text, error).unwrap();
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_text_makes_it_panic(
        at in 0.0..1.0_f64,
        cut in 0..12_usize,
        inserted in r#"[\{\}\[\]"'`#:\\\n <|a-f0-9é\u{301}-]{0,6}"#,
    ) {
        let mut text: Vec<char> = super::requests::EVERYTHING.chars().collect();
        let at = (text.len() as f64 * at) as usize;
        let end = (at + cut).min(text.len());
        text.splice(at..end, inserted.chars());
        let text: String = text.into_iter().collect();
        if let Err(error) = parse(&text) {
            prop_assert!(report(&error).contains("help: "), "{}", error);
        }
    }
}
