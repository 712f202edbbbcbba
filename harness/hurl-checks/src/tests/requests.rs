//! What is sent.

use std::time::Duration;

use proptest::prelude::*;

use super::{entry, parse, variables};
use crate::{Value, Variables};

/// Every part of a request.
pub const EVERYTHING: &str = r#"# The first comment.

# An investor logs in.
# It needs a password.
POST {{site}}/login?lang=es # not the title
X-Request: a
[Options]
delay: 2
retry: 3
retry-interval: 1s
[Query]
name: a b&c
[BasicAuth]
ana: {{password}}
[Cookies]
theme: dark
trace: {{password}}
{ "user": "é\n", "password": "{{password}}", "again": {{password}}, "amount": 1.10 }

HTTP/1.1 200
Content-Type: application/json
[Captures]
token: jsonpath "$.token" redact
id: jsonpath "$['id']" toString
[Asserts]
jsonpath "$.items[*].name" count == 2
cookie "session[Max-Age]" <= 3600
header "Location" not exists
sha256 == hex,00ff;
body matches /^a+$/

GET {{site}}/investors/{{id}}
Authorization: Bearer {{token}}
HTTP *
[Asserts]
status < 300

PUT {{site}}
```
Hello, {{id}}
```

PATCH https://{{id}}.test
[Form]
a-b: c&d é
secret: {{token}}

DELETE https://shop.test/a?b
hex,00ff;
"#;

fn sent(number: usize, variables: &Variables) -> String {
    let file = parse(EVERYTHING).unwrap();
    let request = file.entries()[number].request(variables).unwrap();
    let (parts, body) = request.into_parts();
    let mut text = format!("{} {}\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        let sensitive = if value.is_sensitive() {
            " (sensitive)"
        } else {
            ""
        };
        text += &format!("{name}: {}{sensitive}\n", value.to_str().unwrap());
    }
    format!("{text}\n{}", body.escape_ascii())
}

fn after_login() -> Variables {
    let mut variables = variables();
    variables.insert_secret("token", "t0ken");
    variables.insert("id", "7");
    variables
}

#[test]
fn every_part_of_a_request() {
    let variables = after_login();
    let requests: Vec<String> = (0..5).map(|number| sent(number, &variables)).collect();
    insta::assert_snapshot!(requests.join("\n---\n"));
}

#[test]
fn curl_shows_no_secret() {
    let file = parse(EVERYTHING).unwrap();
    let variables = after_login();
    let commands = file.entries().iter().map(|entry| entry.curl(&variables));
    let mut commands: Vec<String> = commands.collect();
    commands.push(file.entries()[1].curl(&Variables::new()));
    insta::assert_snapshot!(commands.join("\n"));
}

#[test]
fn titles_lines_and_options() {
    let file = parse(EVERYTHING).unwrap();
    let titles = file.entries().iter();
    let titles: Vec<_> = titles.map(|entry| (entry.line(), entry.title())).collect();
    assert_eq!(
        titles,
        [
            (5, "An investor logs in."),
            (32, "GET /investors/{{id}}"),
            (38, "PUT /"),
            (43, "PATCH /"),
            (48, "DELETE /a"),
        ]
    );
    let options = file.entries()[0].options();
    assert_eq!(options.retry, 3);
    assert_eq!(options.retry_interval, Duration::from_secs(1));
    assert_eq!(options.delay, Duration::from_millis(2));
    assert_eq!(file.entries()[1].options(), crate::Options::default());
}

#[test]
fn requests_that_cannot_be_made() {
    let file = |request: &str, value: Value| {
        let mut variables = variables();
        variables.insert("site", value);
        entry(request).request(&variables).unwrap_err().to_string()
    };
    let no_list = Value::List(Vec::new());
    let errors = [
        entry("GET {{site}}/a\n")
            .request(&Variables::new())
            .unwrap_err()
            .to_string(),
        file("GET {{site}}/a\n", no_list),
        file("GET {{site}}/a\n", "shop.test".into()),
        file("GET {{site}}/{{password}}\n", "http://shop.test".into()),
        file("GET http://shop.test\nA: {{site}}\n", "a\nb".into()),
        file("GET http://shop.test\n{{password}}: a\n", "".into()),
        file(
            "POST http://shop.test\n{\"a\": {{site}}}\n",
            Value::Bytes("a".into()),
        ),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

proptest! {
    #[test]
    fn a_json_body_has_the_values_of_its_variables(text in any::<String>(), number in any::<i64>()) {
        let entry = entry("POST http://shop.test\n{\"a{{site}}\": [\"<{{site}}>\", {{site}}, {{password}}]}\n");
        let mut variables = Variables::new();
        variables.insert("site", text.as_str());
        variables.insert("password", number);
        let request = entry.request(&variables).unwrap();
        let json: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        let name = format!("a{text}");
        prop_assert_eq!(json, serde_json::json!({name: [format!("<{text}>"), text, number]}));
    }

    #[test]
    fn a_query_keeps_every_text(text in any::<String>()) {
        let entry = entry("GET http://shop.test\n[Query]\na: {{site}}\n");
        let mut variables = Variables::new();
        variables.insert("site", text.as_str());
        let request = entry.request(&variables).unwrap();
        let value = request.uri().query().unwrap().strip_prefix("a=").unwrap();
        prop_assert_eq!(crate::percent::decoded(value), Ok(text));
    }
}

#[test]
fn a_variable_of_a_failed_capture_is_named() {
    let text = "GET {{site}}/\nHTTP 200\n[Captures]\nid: jsonpath \"$.id\"\n[Asserts]\n\
                variable \"id\" exists\n\nGET {{site}}/{{id}}\nHTTP 200\n";
    let file = parse(text).unwrap();
    let mut variables = Variables::new();
    let [first, second] = file.entries() else {
        panic!("two entries");
    };
    assert_eq!(
        first.without_value(&variables).collect::<Vec<_>>(),
        ["site"]
    );
    variables.insert("site", "http://127.0.0.1");
    assert_eq!(first.without_value(&variables).next(), None);
    assert_eq!(second.without_value(&variables).collect::<Vec<_>>(), ["id"]);
    assert_eq!(first.captures().collect::<Vec<_>>(), ["id"]);
}
