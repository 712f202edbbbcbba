//! How answers are evaluated.

use bytes::Bytes;

use super::{answer, entry, parse, variables};
use crate::{Assertion, Value, Variables};

const BODY: &str = r#"{
  "token": "t0ken", "id": 9007199254740993, "max": 18446744073709551615, "least": -9223372036854775808,
  "price": 0.30, "sum": 0.30000000000000004, "whole": 2.0, "big": 1e300,
  "items": [{"name": "a"}, {"name": "b"}], "none": [], "null": null, "yes": true,
  "at": "2026-02-28T10:00:00.5Z", "uuid": "0194f3a6-5e2b-7cc0-8000-00000000000a",
  "ip": "10.0.0.1", "encoded": "aGk_", "json": "{\"a\": 1}", "url": "http://a/?b=c%20d", "amount": "12.50"
}"#;

fn evaluated(asserts: &str, variables: &mut Variables) -> Vec<Assertion> {
    let headers = [
        ("content-type", "application/json"),
        ("vary", "a"),
        ("vary", "b"),
        ("set-cookie", "session=x=y; Max-Age=60; Path=/; HttpOnly"),
    ];
    let response = answer(200, &headers, BODY);
    entry(&format!("GET {{{{site}}}}/a\n{asserts}")).evaluate(&response, variables)
}

fn failures(assertions: &[Assertion]) -> String {
    let failed = assertions
        .iter()
        .filter(|assertion| assertion.failure.is_some());
    failed.map(|assertion| format!("{assertion}\n")).collect()
}

/// Asserts that hold; each line also fails if `not` changes it.
const HOLD: &str = r#"status == 200
version == "1.1"
url endsWith "/login"
header "Content-Type" startsWith "application/"
header "vary" contains "b"
header "vary" count == 2
header "x-none" not exists
cookie "session" == "x=y"
cookie "session[Max-Age]" == 60
cookie "session[HttpOnly]" exists
cookie "session[Secure]" not exists
cookie "other" not exists
body contains "t0ken"
bytes startsWith hex,7b0a;
bytes endsWith base64,fQ==;
bytes contains hex,0a20;
sha256 == hex,1111111111111111111111111111111111111111111111111111111111111111;
duration < 1000
regex "\"token\": \"(\\w+)\"" == "t0ken"
regex /"tok(\w+)"/ == "en"
variable "password" exists
variable "nobody" not exists
jsonpath "$.id" == 9007199254740993
jsonpath "$.id" != 9007199254740992
jsonpath "$.id" > 9007199254740992
jsonpath "$.id" isInteger
jsonpath "$.max" == 18446744073709551615
jsonpath "$.least" == -9223372036854775808
jsonpath "$.price" == 0.3
jsonpath "$.sum" != 0.3
jsonpath "$.sum" > 0.3
jsonpath "$.price" >= 0.30
jsonpath "$.price" isFloat
jsonpath "$.price" isNumber
jsonpath "$.whole" == 2
jsonpath "$.whole" <= 2.0
jsonpath "$.whole" not isInteger
jsonpath "$.big" > 1
jsonpath "$.items" isCollection
jsonpath "$.items" isList
jsonpath "$.items[0]" isObject
jsonpath "$.items[*].name" contains "b"
jsonpath "$.items[*].name" includes "b"
jsonpath "$.items[*]" count == 2
jsonpath "$.items" nth 1 exists
jsonpath "$.items" nth -1 exists
jsonpath "$.items" nth 2 not exists
jsonpath "$.items[*].name" first == "a"
jsonpath "$.items[*].name" last == "b"
jsonpath "$.none" isEmpty
jsonpath "$.items" not isEmpty
jsonpath "$.null" == null
jsonpath "$.null" exists
jsonpath "$.yes" == true
jsonpath "$.yes" isBoolean
jsonpath "$.token" isString
jsonpath "$.token" matches /^t\d/
jsonpath "$.token" matches "^t\\d"
jsonpath "$.token" not matches /^x/
jsonpath "$.token" < "u"
jsonpath "$.at" isIsoDate
jsonpath "$.token" not isIsoDate
jsonpath "$.uuid" isUuid
jsonpath "$.ip" isIpv4
jsonpath "$.ip" not isIpv6
jsonpath "$.token" replace "t" "T" == "T0ken"
jsonpath "$.token" replaceRegex /\d/ "_" == "t_ken"
jsonpath "$.token" split "0" count == 2
jsonpath "$.token" regex /t(\d)/ toInt == 0
jsonpath "$.amount" toFloat == 12.5
jsonpath "$.max" toString == "18446744073709551615"
jsonpath "$.encoded" base64UrlSafeDecode utf8Decode == "hi?"
jsonpath "$.token" utf8Encode base64Encode base64Decode toHex == "74306b656e"
jsonpath "$.encoded" utf8Encode base64UrlSafeEncode == "YUdrXw"
jsonpath "$.json" jsonpath "$.a" == 1
jsonpath "$.url" urlQueryParam "b" == "c d"
jsonpath "$.url" urlEncode urlDecode startsWith "http://"
jsonpath "$.token" == {{token}}
jsonpath "$['{{name}}']" exists"#;

const CAPTURES: &str = "HTTP 200\n[Captures]\ntoken: jsonpath \"$.token\" redact\nname: jsonpath \"$.items\" count toString replace \"2\" \"token\"\n[Asserts]\n";

#[test]
fn asserts_that_hold_do_not_hold_when_they_are_negated() {
    // The digest of the body, whatever it is.
    let digest = <sha2::Sha256 as sha2::Digest>::digest(BODY);
    let hold = HOLD.replace(&"1".repeat(64), &crate::value::hex(&digest));
    let assertions = evaluated(&format!("{CAPTURES}{hold}\n"), &mut variables());
    assert_eq!(failures(&assertions), "");
    assert_eq!(assertions.len(), 1 + hold.lines().count());
    let negated: String = hold
        .lines()
        .map(|line| format!("{}\n", negated(line)))
        .collect();
    let assertions = evaluated(&format!("{CAPTURES}{negated}"), &mut variables());
    for assertion in &assertions[1..] {
        assert!(assertion.failure.is_some(), "{assertion}");
    }
}

/// Adds `not` to the predicate of an assert, or removes it.
fn negated(assert: &str) -> String {
    if assert.contains(" not ") {
        return assert.replace(" not ", " ");
    }
    let words = [
        "startsWith",
        "endsWith",
        "contains",
        "includes",
        "matches",
        "exists",
        "==",
        "!=",
        ">=",
        "<=",
        ">",
        "<",
    ];
    let found = words
        .iter()
        .find(|word| assert.contains(&format!(" {word}")));
    let at = match found {
        Some(word) => assert.rfind(&format!(" {word}")).unwrap(),
        None => assert.rfind(" is").unwrap(),
    };
    format!("{} not{}", &assert[..at], &assert[at..])
}

#[test]
fn failures_say_what_was_expected_and_seen() {
    let asserts = r#"jsonpath "$.id" == 9007199254740992
jsonpath "$.price" > 0.3
jsonpath "$.sum" == 0.3
jsonpath "$.nothing" == 1
jsonpath "$.nothing" not == 1
jsonpath "$.token" not exists
jsonpath "$.token" not > 1
jsonpath "$.token" isInteger
jsonpath "$.ip" matches /^x/
jsonpath "$.ip" matches "^x{{name}}"
jsonpath "$.uuid" not isUuid
jsonpath "$.items" == {{name}}
jsonpath "$.items" nth 0 count toInt first == 1
jsonpath "$.none[*]" contains "a"
jsonpath "$.ip" startsWith "{{token}}"
jsonpath "$[{{name}}" exists
jsonpath "$.ip" base64Decode exists
jsonpath "$.ip" toInt == 1
jsonpath "$.ip" jsonpath "$.a" exists
jsonpath "$.ip" regex /1/ exists
jsonpath "$.yes" split "," exists
bytes startsWith hex,00;
body == "a"
header "vary" == "a"
status == {{nobody}}
variable "password" == "a"
"#;
    let captures = format!("{CAPTURES}{asserts}")
        .replace("[Asserts]", "nobody: jsonpath \"$.nobody\"\n[Asserts]");
    let assertions = evaluated(&captures, &mut variables());
    insta::assert_snapshot!(failures(&assertions));
}

#[test]
fn implicit_asserts() {
    let holds = "HTTP/1.1 200\nContent-Type: application/json\nVary: b\n{\"b\": [1.0], \"a\": \"{{password}}\"}\n";
    let file = entry(&format!("GET {{{{site}}}}\n{holds}"));
    let body = r#"{"a":"it's \"s3cret\"", "b":[1.00]}"#;
    let headers = [
        ("content-type", "application/json"),
        ("vary", "a"),
        ("vary", "b"),
    ];
    let evaluate = |status, headers: &[(&str, &str)], body: &str| {
        failures(&file.evaluate(&answer(status, headers, body), &mut variables()))
    };
    assert_eq!(evaluate(200, &headers, body), "");
    let texts = [
        evaluate(503, &headers, "password it's \"s3cret\" refused"),
        evaluate(200, &headers[..1], "{\"a\": \"s3cret\"}"),
        evaluate(
            200,
            &[("content-type", "text/html"), ("vary", "c"), ("vary", "d")],
            "<html>",
        ),
        evaluate(200, &headers, ""),
    ];
    insta::assert_snapshot!(texts.join("---\n"));
}

#[test]
fn bodies_of_text_and_bytes() {
    let holds = |expected: &str, body: &str| {
        let file = entry(&format!("GET {{{{site}}}}\nHTTP 200\n{expected}\n"));
        failures(&file.evaluate(&answer(200, &[], body), &mut variables())).is_empty()
    };
    assert!(holds("`at {{site}}`", "at http://shop.test:8080"));
    assert!(!holds("`at {{site}}`", "at http://shop.test"));
    assert!(holds("```\na\nb\n```", "a\nb\n"));
    assert!(!holds("```\na\nb\n```", "a\nb"));
    assert!(holds("base64,YQ==;", "a"));
    assert!(!holds("hex,61;", "b"));
}

#[test]
fn versions_and_any_status() {
    let holds = |line: &str| {
        let assertions = entry(&format!("GET {{{{site}}}}\n{line}\n"))
            .evaluate(&answer(404, &[], ""), &mut variables());
        failures(&assertions)
    };
    assert_eq!(holds("HTTP *") + &holds("HTTP/1.1 404") + &holds(""), "");
    insta::assert_snapshot!(holds("HTTP/2 404"), @r"
    line 2: HTTP/2 404
      expected: HTTP/2
      seen:     HTTP/1.1
    ");
}

#[test]
fn captures_are_set_only_after_the_expected_status() {
    let file = parse(
        "GET {{site}}\nHTTP 200\n[Captures]\nsize: body count\nraw: bytes\nkept: header \"a\"\n",
    )
    .unwrap();
    let entry = &file.entries()[0];
    let mut variables = variables();
    let assertions = entry.evaluate(&answer(500, &[], "abc"), &mut variables);
    assert_eq!((assertions.len(), variables.get("size")), (1, None));
    let assertions = entry.evaluate(&answer(200, &[], "abc"), &mut variables);
    assert_eq!(variables.get("size"), Some(&3_u64.into()));
    assert_eq!(
        variables.get("raw"),
        Some(&Value::Bytes(Bytes::from("abc")))
    );
    assert_eq!(variables.get("kept"), None);
    assert_eq!(
        failures(&assertions),
        "line 6: kept: header \"a\"\n  expected: a value to capture\n  seen:     nothing\n"
    );
}

#[test]
fn only_a_line_with_the_status_needs_nothing_but_the_status() {
    let needs = |response: &str| {
        let read = entry(&format!("GET {{{{site}}}}\n{response}\n"));
        assert!(!read.names_host());
        read.needs_status_only()
    };
    assert!(needs("HTTP 200") && needs("HTTP/1.1 *"));
    for more in [
        "[Asserts]\nstatus < 300",
        "[Captures]\nage: header \"Age\"",
        "Age: 1",
        "`body`",
    ] {
        assert!(!needs(&format!("HTTP *\n{more}")), "{more}");
    }
    let named = entry("GET http://{{site}}/\nHTTP 200\n");
    assert!(named.names_host());
    assert_eq!(named.reads().collect::<Vec<_>>(), ["site"]);
}
