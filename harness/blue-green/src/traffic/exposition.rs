//! Reads samples of Prometheus' and OpenMetrics' text formats. Of the crates for this, one breaks
//! at a `}` within a label (`/orders/{id}`), and one is under the LGPL.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use thiserror::Error;

/// One line of a counter, or of a histogram's bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The name: `http_requests_total`.
    pub name: &'a str,
    /// Names and values, in the line's order.
    pub labels: Vec<(&'a str, String)>,
    /// The value, which may be infinite or not a number.
    pub value: f64,
}

impl Sample<'_> {
    /// Returns the value of a label, if the sample has it.
    pub fn label(&self, name: &str) -> Option<&str> {
        let label = self.labels.iter().find(|(it, _)| *it == name);
        label.map(|(_, value)| value.as_str())
    }
}

/// A line that is not of the format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line} is not of Prometheus' text format: {text:?}")]
pub struct Malformed {
    /// The line's number, from 1.
    pub line: usize,
    /// The line's beginning.
    pub text: String,
}

/// Returns the samples whose names `wanted` accepts, without timestamps and exemplars.
///
/// # Errors
/// [`Malformed`] for the first line that cannot be read. Of other lines only the name is read.
pub fn samples(text: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Sample<'_>>, Malformed> {
    const EXCERPT: usize = 60;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let read = lines.filter_map(|(at, line)| match sample(line, &wanted) {
        Some(Line::Sample(sample)) => Some(Ok(sample)),
        Some(Line::Unwanted) => None,
        None => Some(Err(Malformed {
            line: at + 1,
            text: line.chars().take(EXCERPT).collect(),
        })),
    });
    read.collect()
}

enum Line<'a> {
    Sample(Sample<'a>),
    Unwanted,
}

fn sample<'a>(line: &'a str, wanted: &impl Fn(&str) -> bool) -> Option<Line<'a>> {
    let (name, mut rest) = name(line.trim_start())?;
    if !rest.starts_with([' ', '\t', '{']) {
        return None;
    }
    if !wanted(name) {
        return Some(Line::Unwanted);
    }
    let mut labels = Vec::new();
    rest = rest.trim_start();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside.trim_start();
        while !rest.starts_with('}') {
            let (label, after) = self::name(rest)?;
            let value = after.trim_start().strip_prefix('=')?.trim_start();
            let (value, after) = quoted(value)?;
            labels.push((label, value));
            rest = after.trim_start();
            match rest.strip_prefix(',') {
                Some(after) => rest = after.trim_start(),
                None if rest.starts_with('}') => {}
                None => return None,
            }
        }
        rest = &rest[1..];
    }
    // A timestamp or an exemplar may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Line::Sample(Sample {
        name,
        labels,
        value,
    }))
}

/// Returns the name at the beginning of the text, and the rest.
fn name(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let is_name = text.starts_with(|c: char| is_part(c) && !c.is_ascii_digit());
    is_name.then(|| text.split_at(end))
}

/// Returns the quoted text at the beginning, and the rest. `\\`, `\"` and `\n` are escapes; a
/// backslash before another character is itself.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('\\' | '"') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<Sample<'_>> {
        samples(text, |_| true).unwrap()
    }

    #[test]
    fn both_formats_are_read_with_braces_quotes_timestamps_and_exemplars() {
        let text = r#"
# HELP http_requests HTTP requests answered.
# TYPE http_requests counter
http_requests_total{method="GET",route="/orders/{id}",status="200"} 17
http_requests_total { route = "a,\"b\"\\\n" , } 1.5e3 1395066363000
up 1
seconds_bucket{le="+Inf"} 3 # {trace_id="KOO5S4vxi0o"} 0.67
seconds_sum NaN
# EOF
"#;
        let read = all(text);
        assert_eq!(read[0].label("route"), Some("/orders/{id}"));
        assert_eq!(read[0].label("status"), Some("200"));
        assert_eq!(read[0].value, 17.0);
        assert_eq!(read[1].label("route"), Some("a,\"b\"\\\n"));
        assert_eq!(read[1].value, 1500.0);
        assert_eq!((read[2].name, read[2].labels.len()), ("up", 0));
        assert_eq!((read[3].label("le"), read[3].value), (Some("+Inf"), 3.0));
        assert!(read[4].value.is_nan());
    }

    #[test]
    fn a_malformed_line_is_refused_with_its_number() {
        for text in [
            "<!doctype html>",
            "{\"status\": 404}",
            "not found",
            "up",
            "up{a=\"1\" 2",
            "up{a=1} 2",
            "up{a=\"1\"} two",
            "up{a=\"1",
            "9lives 1",
        ] {
            let error = samples(&format!("# a comment\n{text}\n"), |_| true).unwrap_err();
            assert_eq!((error.line, error.text.as_str()), (2, text));
        }
    }

    #[test]
    fn unwanted_lines_are_not_read() {
        let read = samples("other{{{ x\nup 1\n", |name| name == "up").unwrap();
        assert_eq!(read.len(), 1);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(up|[{}\"\\\\=, \n#a1.+é])*") {
            let _ = samples(&text, |_| true);
        }

        #[test]
        fn written_samples_are_read_back(
            labels in proptest::collection::vec(("[a-z_]{1,8}", any::<String>()), 0..4),
            value in any::<u32>(), comma in any::<bool>(),
        ) {
            let escape = |it: &str| it.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // `lines` treats `\r\n` as one line end; no exporter writes it.
            prop_assume!(labels.iter().all(|(_, value)| !value.contains('\r')));
            let written: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
            let comma = if comma && !labels.is_empty() { "," } else { "" };
            let text = format!("up{{{}{comma}}} {value}\n", written.join(","));
            let read = all(&text);
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(read[0].value, f64::from(value));
            let got: Vec<_> = read[0].labels.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
            prop_assert_eq!(got, labels);
        }
    }
}
