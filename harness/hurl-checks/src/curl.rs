//! A request as a command of curl, without its secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::body::Body;
use crate::request::{Pair, Request, joined};
use crate::template::{Form, Part, Template, written};
use crate::value::Value;
use crate::variables::Variables;

/// Writes the command. The shell puts the secrets in, from its own variables.
pub(crate) fn command(request: &Request, variables: &Variables) -> String {
    let mut words = vec![format!(
        "curl --silent --include --request {}",
        request.method
    )];
    let mut option = |name: &str, pairs: &[Pair], separator: &str| {
        let value = quoted(&joined(pairs, separator), variables);
        words.push(format!("{name} {value}"));
    };
    for (name, pairs, separator) in [
        ("--header", request.headers.as_slice(), ": "),
        ("--user", request.basic_auth.as_slice(), ":"),
        ("--url-query", request.query.as_slice(), "="),
        ("--data-urlencode", request.form.as_slice(), "="),
    ] {
        pairs
            .chunks(1)
            .for_each(|pair| option(name, pair, separator));
    }
    if !request.cookies.is_empty() {
        option("--cookie", &request.cookies, "=");
    }
    let mut input = String::new();
    match &request.body {
        None => {}
        Some(Body::Json(text) | Body::Text(text)) => {
            let implied = request
                .content_type()
                .filter(|_| !names_content_type(request));
            words.extend(implied.map(|value| format!("--header 'Content-Type: {value}'")));
            words.push(format!("--data-raw {}", quoted(text, variables)));
        }
        Some(Body::Bytes(bytes)) => {
            input = format!("echo {} | base64 --decode | ", STANDARD.encode(bytes));
            words.push("--data-binary @-".to_owned());
        }
    }
    words.push(quoted(&request.url, variables));
    input + &words.join(" ")
}

fn names_content_type(request: &Request) -> bool {
    let mut names = request.headers.iter().filter_map(|pair| pair.name.fixed());
    names.any(|name| name.eq_ignore_ascii_case("content-type"))
}

/// Writes a template as one word of a POSIX shell.
fn quoted(template: &Template, variables: &Variables) -> String {
    let (mut word, mut text) = (String::new(), String::new());
    for part in &template.parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Variable { name, form } if variables.is_secret(name) => {
                let is_text = matches!(variables.get(name), Some(Value::String(_)));
                let is_json_string = *form == Form::Json && is_text;
                let quote = if is_json_string { "\"" } else { "" };
                word += &single_quoted(&(text + quote), variables);
                word += &format!("\"${}\"", shell_name(name));
                text = quote.to_owned();
            }
            Part::Variable { name, form } => {
                let value = written(name, *form, variables);
                text += &value.unwrap_or_else(|_| format!("{{{{{name}}}}}"));
            }
        }
    }
    word += &single_quoted(&text, variables);
    match word.is_empty() {
        true => "''".to_owned(),
        false => word,
    }
}

fn single_quoted(text: &str, variables: &Variables) -> String {
    match text.is_empty() {
        true => String::new(),
        false => format!("'{}'", variables.redact(text).replace('\'', r"'\''")),
    }
}

fn shell_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}
