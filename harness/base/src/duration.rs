//! Durations in readable form.

/// Formats a duration with its units: `830 ms`, `1.24 s`, `41.7 s`, `2 min 05 s`, `1 h 04 min`.
///
/// Rounds down: no result reaches the next unit (`60.0 s`).
pub fn human(millis: u64) -> String {
    let seconds = millis / 1_000;
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..10_000 => format!("{seconds}.{:02} s", millis % 1_000 / 10),
        10_000..60_000 => format!("{seconds}.{} s", millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn each_magnitude_has_its_units() {
        for (millis, text) in [
            (0, "0 ms"),
            (830, "830 ms"),
            (999, "999 ms"),
            (1_000, "1.00 s"),
            (1_249, "1.24 s"),
            (9_999, "9.99 s"),
            (10_000, "10.0 s"),
            (41_780, "41.7 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min 00 s"),
            (125_900, "2 min 05 s"),
            (3_599_999, "59 min 59 s"),
            (3_600_000, "1 h 00 min"),
            (90_240_000, "25 h 04 min"),
        ] {
            assert_eq!(human(millis), text, "{millis} ms");
        }
    }
}
