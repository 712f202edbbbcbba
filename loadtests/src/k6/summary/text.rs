//! The summary as text: what k6 1.x prints at the end of a run, without colours.

use super::{MetricSummary, Summary, TREND};
use crate::k6::metric::{Contains, K6Metric, K6MetricKind};

/// The sections of metrics, in k6's order, with the prefixes of their metrics' names.
const SECTIONS: [(&str, &[&str]); 4] = [
    ("CUSTOM", &["error_share"]),
    ("HTTP", &["http_"]),
    ("EXECUTION", &["iterations", "dropped_iterations"]),
    ("NETWORK", &["data_"]),
];

/// The line of a metric.
struct Line {
    name: String,
    values: Values,
}

enum Values {
    Trend([String; TREND.len()]),
    Single { value: String, more: String },
}

impl Summary {
    /// Returns the lines that k6 prints at the end of a run.
    pub fn text(&self) -> Vec<String> {
        let mut lines = vec![String::new(), "  █ TOTAL RESULTS ".to_owned()];
        if let Some(checks) = self.metrics.get(K6Metric::CHECKS.name) {
            lines.push(String::new());
            lines.extend(aligned(&[self.checks(checks)]).into_iter().flatten());
            lines.push(String::new());
            lines.extend(check(checks));
        }
        let sections = SECTIONS.map(|(_, prefixes)| {
            let is_in = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
            let metrics = self.metrics.iter().filter(|(name, _)| is_in(name));
            metrics.map(|(name, metric)| line(name, metric)).collect()
        });
        for ((title, _), section) in SECTIONS.iter().zip(aligned(&sections)) {
            if !section.is_empty() {
                lines.extend([String::new(), format!("    {title}")]);
                lines.extend(section);
            }
        }
        lines
    }

    /// Returns k6's three metrics of checks.
    fn checks(&self, checks: &MetricSummary) -> Vec<Line> {
        let (passes, fails) = (checks.value("passes"), checks.value("fails"));
        let total = passes + fails;
        let per_second = match self.lasted.is_zero() {
            true => 0.0,
            false => total / self.lasted.as_secs_f64(),
        };
        let count = Values::Single {
            value: decimal(total, 6),
            more: format!("{}/s", decimal(per_second, 6)),
        };
        let metrics = [
            ("checks_total", count),
            ("checks_succeeded", share(passes, total)),
            ("checks_failed", share(fails, total)),
        ];
        let metrics = metrics.map(|(name, values)| Line {
            name: name.to_owned(),
            values,
        });
        metrics.into()
    }
}

impl MetricSummary {
    /// Returns a value by its name; 0 if the metric has none of this name.
    fn value(&self, name: &str) -> f64 {
        let mut values = self.values.iter();
        let found = values.find(|(other, _)| *other == name);
        found.map_or(0.0, |(_, value)| *value)
    }
}

/// Returns the lines of the only check: each request is one.
fn check(checks: &MetricSummary) -> Vec<String> {
    let (passes, fails) = (checks.value("passes"), checks.value("fails"));
    if fails == 0.0 {
        return vec!["    ✓ a good answer".to_owned()];
    }
    let percent = (100.0 * passes / (passes + fails)).floor();
    vec![
        "    ✗ a good answer".to_owned(),
        format!("      ↳  {percent}% — ✓ {passes} / ✗ {fails}"),
    ]
}

fn line(name: &str, summary: &MetricSummary) -> Line {
    let metric = summary.metric;
    let value = |name| humanized(summary.value(name), metric.contains);
    let values = match metric.kind {
        K6MetricKind::Trend => Values::Trend(TREND.map(|(name, _)| value(name))),
        K6MetricKind::Counter => Values::Single {
            value: value("count"),
            more: format!("{}/s", value("rate")),
        },
        // A summary has no gauges.
        K6MetricKind::Rate | K6MetricKind::Gauge => {
            let passes = summary.value("passes");
            share(passes, passes + summary.value("fails"))
        }
    };
    let name = match name.split_once('{') {
        Some((_, selector)) => format!("  {{ {} }}", selector.trim_end_matches('}')),
        None => name.to_owned(),
    };
    Line { name, values }
}

/// Returns a share in percent. It is cut off, as in k6: 99.999 % is not shown as all.
fn share(part: f64, total: f64) -> Values {
    let share = match total == 0.0 {
        true => 0.0,
        false => part / total,
    };
    Values::Single {
        value: format!("{:.2}%", (share * 100.0 * 100.0).trunc() / 100.0),
        more: format!("{part} out of {total}"),
    }
}

/// Returns the lines of each section. Dots fill the names, and the values are below each other.
fn aligned(sections: &[Vec<Line>]) -> Vec<Vec<String>> {
    let width = |text: &str| text.chars().count();
    let (mut names, mut singles, mut columns) = (0, 0, [0; TREND.len()]);
    for line in sections.iter().flatten() {
        names = width(&line.name).max(names);
        match &line.values {
            Values::Single { value, .. } => singles = width(value).max(singles),
            Values::Trend(values) => {
                for (column, value) in columns.iter_mut().zip(values) {
                    *column = width(value).max(*column);
                }
            }
        }
    }
    let shown = |line: &Line| {
        let dots = ".".repeat(names - width(&line.name) + 3);
        let values = match &line.values {
            Values::Single { value, more } => format!("{value:<singles$} {more}"),
            Values::Trend(values) => {
                let values = TREND.iter().zip(values).zip(columns);
                let values =
                    values.map(|(((name, _), value), width)| format!("{name}={value:<width$}"));
                values.collect::<Vec<_>>().join(" ")
            }
        };
        format!("    {}{dots}: {values}", line.name)
    };
    let sections = sections.iter();
    let lines = sections.map(|section| section.iter().map(shown).collect());
    lines.collect()
}

fn humanized(value: f64, contains: Contains) -> String {
    match contains {
        Contains::Default => decimal(value, 6),
        Contains::Data => bytes(value),
        Contains::Time => duration(value),
    }
}

/// Rounds to `digits` after the point, without zeros at the end.
fn decimal(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Like [`decimal`], but cut off.
fn cut_off(value: f64, digits: u8) -> String {
    let factor = 10f64.powi(digits.into());
    decimal((value * factor).trunc() / factor, digits.into())
}

/// Returns bytes with a unit: `519 kB`.
fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    if bytes < 10.0 {
        return format!("{bytes} B");
    }
    let thousands = (bytes.ln() / 1000f64.ln()).floor();
    let value = (bytes / 1000f64.powf(thousands) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[(thousands as usize).min(UNITS.len() - 1)];
    match value < 10.0 {
        true => format!("{value:.1} {unit}"),
        false => format!("{} {unit}", value.round()),
    }
}

/// Returns milliseconds with a unit: `148.21ms`.
fn duration(millis: f64) -> String {
    if millis == 0.0 {
        return "0s".to_owned();
    }
    if millis < 0.001 {
        return format!("{}ns", (millis * 1e6).trunc());
    }
    if millis < 1.0 {
        return format!("{}µs", cut_off(millis * 1000.0, 2));
    }
    if millis < 1000.0 {
        return format!("{}ms", cut_off(millis, 2));
    }
    let digits = if millis > 60_000.0 { 0 } else { 2 };
    let seconds = cut_off(millis % 60_000.0 / 1000.0, digits);
    match (millis / 60_000.0).trunc() {
        minutes if minutes < 1.0 => format!("{seconds}s"),
        minutes if minutes < 60.0 => format!("{minutes}m{seconds}s"),
        minutes => {
            let hours = (minutes / 60.0).trunc();
            format!("{hours}h{}m{seconds}s", minutes % 60.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forms are those of `humanizeValue` in k6's `summary.js`.
    #[test]
    fn values_are_shown_as_k6_shows_them() {
        let durations = [
            (0.0, "0s"),
            (0.000_5, "500ns"),
            (0.517_5, "517.5µs"),
            (35.0, "35ms"),
            (140.365_8, "140.36ms"),
            (999.999, "999.99ms"),
            (13_830.0, "13.83s"),
            (60_000.0, "1m0s"),
            (90_400.0, "1m30s"),
            (3_723_000.0, "1h2m3s"),
        ];
        for (millis, shown) in durations {
            assert_eq!(duration(millis), shown);
        }
        let sizes = [
            (7.5, "7.5 B"),
            (10.0, "10 B"),
            (999.0, "999 B"),
            (1_500.0, "1.5 kB"),
            (12_500.0, "13 kB"),
            (76_000.0, "76 kB"),
            (5_600_000.0, "5.6 MB"),
        ];
        for (size, shown) in sizes {
            assert_eq!(bytes(size), shown);
        }
        assert_eq!(decimal(6.561_089_9, 6), "6.56109");
        assert_eq!(decimal(45.0, 6), "45");
        let Values::Single { value, more } = share(999_999.0, 1_000_000.0) else {
            panic!("a share is a single value");
        };
        assert_eq!((&value[..], &more[..]), ("99.99%", "999999 out of 1000000"));
    }
}
