//! `p(95)<500`: a statistic of a metric, and its limit.

use std::fmt;

use super::error::{Misread, Mistake, misread};
use super::metric::{Metric, MetricKind};

/// A statistic of a metric, and its limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// The statistic.
    pub statistic: Statistic,
    /// The comparison.
    pub operator: Operator,
    /// The limit: ms, a share from 0 to 1, a count, or a count a second.
    pub limit: f64,
    written: String,
}

/// A statistic of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// A counter's sum.
    Count,
    /// A counter's sum for each second; a rate's share.
    Rate,
    /// The mean time.
    Average,
    /// The shortest time.
    Min,
    /// The median time.
    Median,
    /// The longest time.
    Max,
    /// A percentile of the times, 0 to 100.
    Percentile(f64),
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `==`, `===`
    Equal,
    /// `!=`
    Unequal,
}

/// Each operator comes before its prefixes.
const OPERATORS: [(&str, Operator); 7] = [
    ("<=", Operator::AtMost),
    ("<", Operator::Below),
    (">=", Operator::AtLeast),
    (">", Operator::Above),
    ("===", Operator::Equal),
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
];

impl Operator {
    /// Returns whether the comparison holds. It never holds for a number that is not finite.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        value.is_finite()
            && limit.is_finite()
            && match self {
                Operator::Below => value < limit,
                Operator::AtMost => value <= limit,
                Operator::Above => value > limit,
                Operator::AtLeast => value >= limit,
                Operator::Equal => value == limit,
                Operator::Unequal => value != limit,
            }
    }
}

impl Expression {
    /// Returns whether it holds for `value`.
    pub fn holds(&self, value: f64) -> bool {
        self.operator.holds(value, self.limit)
    }

    /// Parses an expression of `metric`, or of the metric that its word selects. Returns both.
    pub(super) fn read(
        text: &str,
        metric: Option<Metric>,
    ) -> Result<(Metric, Expression), Misread> {
        let (left, operator, right) = split(text)?;
        let word = read_word(left, metric).map_err(|mistake| misread(text, left, mistake));
        let (metric, statistic) = word?;
        let limit = read_limit(right, metric).map_err(|mistake| misread(text, right, mistake))?;
        let expression = Expression {
            statistic,
            operator,
            limit,
            written: text.trim().to_owned(),
        };
        Ok((metric, expression))
    }
}

fn split(text: &str) -> Result<(&str, Operator, &str), Misread> {
    let Some(at) = text.find(['<', '>', '=', '!']) else {
        return Err(misread(text, &text[text.len()..], Mistake::NoOperator));
    };
    let (left, rest) = text.split_at(at);
    let mut known = OPERATORS.into_iter();
    let found = known.find_map(|(sign, operator)| Some((operator, rest.strip_prefix(sign)?)));
    let Some((operator, right)) = found else {
        let end = rest
            .find(|sign| !"<>=!".contains(sign))
            .unwrap_or(rest.len());
        let sign = rest[..end].to_owned();
        return Err(misread(text, rest, Mistake::Operator(sign)));
    };
    Ok((left.trim(), operator, right.trim()))
}

fn read_word(word: &str, of: Option<Metric>) -> Result<(Metric, Statistic), Mistake> {
    let (own, statistic) = match word {
        "avg" => (Some(Metric::Duration), Statistic::Average),
        "min" => (Some(Metric::Duration), Statistic::Min),
        "med" => (Some(Metric::Duration), Statistic::Median),
        "max" => (Some(Metric::Duration), Statistic::Max),
        "rps" => return own_word(word, of, Metric::Requests, Statistic::Rate),
        "dropped" => return own_word(word, of, Metric::Dropped, Statistic::Count),
        "error share" | "error_share" => {
            return own_word(word, of, Metric::ErrorShare, Statistic::Rate);
        }
        "count" => (Some(Metric::Requests), Statistic::Count),
        "rate" => (None, Statistic::Rate),
        // Only gauges have it, which are not measured.
        "value" => return Err(not_of(word, of)),
        _ => (Some(Metric::Duration), read_percentile(word)?),
    };
    let metric = of.or(own).ok_or(Mistake::RateOfWhat)?;
    let fits = match statistic {
        Statistic::Count => metric.kind() == MetricKind::Counter,
        Statistic::Rate => metric.kind() != MetricKind::Trend,
        _ => metric.kind() == MetricKind::Trend,
    };
    let known = fits.then_some((metric, statistic));
    known.ok_or_else(|| not_of(word, Some(metric)))
}

fn not_of(word: &str, metric: Option<Metric>) -> Mistake {
    let word = word.to_owned();
    match metric {
        Some(metric) => Mistake::NotOfMetric { word, metric },
        None => Mistake::Word(word),
    }
}

/// Reads a word that selects its metric. It is invalid for other metrics.
fn own_word(
    word: &str,
    of: Option<Metric>,
    own: Metric,
    statistic: Statistic,
) -> Result<(Metric, Statistic), Mistake> {
    match of {
        Some(metric) if metric != own => Err(not_of(word, of)),
        _ => Ok((own, statistic)),
    }
}

fn read_percentile(word: &str) -> Result<Statistic, Mistake> {
    if word == "p" {
        return Err(Mistake::Percentile(word.to_owned()));
    }
    let inner = word
        .strip_prefix("p(")
        .and_then(|rest| rest.strip_suffix(')'));
    let inner = inner.ok_or_else(|| Mistake::Word(word.to_owned()))?;
    let percentile = read_number(inner).filter(|number| (0.0..=100.0).contains(number));
    let percentile = percentile.ok_or_else(|| Mistake::Percentile(inner.to_owned()))?;
    Ok(Statistic::Percentile(percentile))
}

/// A unit, the conversion of its numbers, and the kind of metric that has it.
type Unit = (&'static str, fn(f64) -> f64, MetricKind);

const UNITS: [Unit; 5] = [
    ("us", |micros| micros / 1000.0, MetricKind::Trend),
    ("µs", |micros| micros / 1000.0, MetricKind::Trend),
    ("ms", |millis| millis, MetricKind::Trend),
    ("s", |seconds| seconds * 1000.0, MetricKind::Trend),
    ("%", |percent| percent / 100.0, MetricKind::Rate),
];

fn read_limit(text: &str, metric: Metric) -> Result<f64, Mistake> {
    let mut units = UNITS.into_iter();
    let unit = units.find_map(|unit| Some((text.strip_suffix(unit.0)?, unit)));
    let digits = unit.map_or(text, |(digits, _)| digits.trim_end());
    let number = read_number(digits).ok_or_else(|| Mistake::Number(text.to_owned()))?;
    let limit = match unit {
        None => number,
        Some((_, (_, convert, kind))) if kind == metric.kind() => convert(number),
        Some((_, (unit, ..))) => {
            let unit = unit.to_owned();
            return Err(Mistake::Unit { unit, metric });
        }
    };
    let finite = limit.is_finite().then_some(limit);
    finite.ok_or_else(|| Mistake::NotFinite(text.to_owned()))
}

/// Parses a number as Go does, without hexadecimal ones. Underscores may separate digits.
fn read_number(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let separates = |(at, _): (usize, &str)| at > 0 && is_digit(at - 1) && is_digit(at + 1);
    if !text.match_indices('_').all(separates) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// The original text.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}
