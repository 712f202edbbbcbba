//! Numbers that compare without rounding.

use std::cmp::Ordering;
use std::fmt;

use rust_decimal::Decimal;

/// A number of an answer, of a file or of the caller.
///
/// Integers and decimals compare exactly, whatever their types: `0.3` of an answer equals
/// `0.30` of a file. An answer's JSON is read by `serde_json`, which holds a number with a
/// fraction, an exponent or more digits than a `u64` as the nearest `f64`: it is exact up to 15
/// significant digits. A file cannot compare with a number of more digits. The filter `toFloat` reads
/// a text exactly, up to 28 digits. Within a JSONPath, as in `$[?@.id == 1]`, numbers are `f64`.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Any `i64` or `u64`.
    Integer(i128),
    /// A number with a fraction.
    Decimal(Decimal),
    /// A number too large, too small or too precise for a [`Decimal`]. It compares as `f64`.
    Float(f64),
}

impl Number {
    /// Reads an integer as it is written, in the range of `i64` and `u64`.
    pub(crate) fn integer(text: &str) -> Option<Number> {
        let signed = text.parse::<i64>().map(i128::from);
        let value = signed.or_else(|_| text.parse::<u64>().map(i128::from));
        value.ok().map(Number::Integer)
    }

    /// Reads a number with a fraction or an exponent as it is written.
    pub(crate) fn decimal(text: &str) -> Option<Number> {
        let exact = Decimal::from_str_exact(text).ok().map(Number::Decimal);
        let float = || text.parse::<f64>().ok().filter(|float| float.is_finite());
        exact.or_else(|| float().map(Number::from))
    }

    /// Whether it has no fraction by its type: `1.0` is no integer.
    pub(crate) fn is_integer(&self) -> bool {
        matches!(self, Number::Integer(_))
    }

    fn exact(self) -> Option<Decimal> {
        match self {
            Number::Integer(value) => Decimal::try_from_i128_with_scale(value, 0).ok(),
            Number::Decimal(value) => Some(value),
            Number::Float(_) => None,
        }
    }

    fn float(self) -> f64 {
        match self {
            Number::Integer(value) => value as f64,
            Number::Decimal(value) => f64::try_from(value).unwrap_or(f64::NAN),
            Number::Float(value) => value,
        }
    }
}

impl From<f64> for Number {
    /// By the shortest text that is read as the same `f64`.
    fn from(value: f64) -> Number {
        let short = format!("{value:?}");
        let text = match short.contains('e') {
            true => value.to_string(),
            false => short,
        };
        Decimal::from_str_exact(&text).map_or(Number::Float(value), Number::Decimal)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        match (self.exact(), other.exact()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => self.float().partial_cmp(&other.float()),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Integer(value) => value.fmt(f),
            Number::Decimal(value) => value.fmt(f),
            Number::Float(value) => write!(f, "{value:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_that_are_one_float_are_different() {
        let (one, other) = (
            Number::integer("9007199254740993"),
            Number::integer("9007199254740992"),
        );
        assert!(one > other);
        let (least, most) = (i64::MIN.to_string(), u64::MAX.to_string());
        assert_eq!(Number::integer(&most).unwrap().to_string(), most);
        assert!(Number::integer(&least) < Number::integer(&most));
        assert_eq!(Number::integer("18446744073709551616"), None);
    }

    #[test]
    fn a_decimal_equals_its_other_spellings() {
        assert_eq!(Number::from(0.3), Number::decimal("0.30").unwrap());
        assert_ne!(Number::from(0.1 + 0.2), Number::decimal("0.3").unwrap());
        assert_eq!(Number::from(2.0), Number::integer("2").unwrap());
        assert_eq!(Number::decimal("1e3"), Number::integer("1000"));
        assert!(Number::from(1e300) > Number::integer("1").unwrap());
        assert_eq!(Number::decimal("NaN"), None);
    }

    proptest! {
        #[test]
        fn cents_of_an_answer_are_exact(cents in -9_999_999_999_999_i64..=9_999_999_999_999) {
            let text = Decimal::new(cents, 2).to_string();
            let answered: f64 = text.parse().unwrap();
            prop_assert_eq!(Some(Number::from(answered)), Number::decimal(&text));
        }
    }
}
