//! Durations in the form of Go and k6: `1m30s`.

use std::time::Duration;

/// Units and their nanoseconds; k6 adds the day. Each unit comes before its prefixes.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Parses numbers with units, or a number of milliseconds. None if it is negative or invalid.
pub fn read(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Ok(millis) = text.parse::<f64>() {
        return from_nanos(millis * 1e6);
    }
    let mut rest = text;
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, size) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        nanos += number * size as f64;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty()).then(|| from_nanos(nanos))?
}

/// Returns none if it is negative or too long.
fn from_nanos(nanos: f64) -> Option<Duration> {
    let fits = (0.0..u64::MAX as f64).contains(&nanos);
    fits.then(|| Duration::from_nanos(nanos.round() as u64))
}

/// Formats a duration as Go does: from the largest unit above 0; below a second with one unit.
pub fn written(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000, "ms"),
        _ => {
            let below = fraction(nanos % 60_000_000_000, 1_000_000_000, "s");
            match (hours, minutes) {
                (0, 0) => below,
                (0, _) => format!("{minutes}m{below}"),
                _ => format!("{hours}h{minutes}m{below}"),
            }
        }
    }
}

fn fraction(nanos: u128, unit: u128, name: &str) -> String {
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", nanos % unit);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}{name}", nanos / unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_has_the_form_of_go() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (245_006_000_000_000 + 60_000_000_000, "68h4m26s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(written(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn invalid_text_is_refused() {
        for text in [
            "", "ten", "10 s", "-5s", "1m 30s", "s", "5x", "1.2.3s", "NaN", "inf", "1e30",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_is_read_back(nanos in 0u64..1 << 50) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(read(&written(duration)), Some(duration));
        }

        #[test]
        fn no_text_causes_a_panic(text in "[-+0-9.a-zµ ]{0,12}|\\PC*") {
            read(&text);
        }
    }
}
