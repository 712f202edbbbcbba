//! An entry's options. <https://hurl.dev/docs/request.html#options>

use std::time::Duration;

use hurl_core::ast::{self, CountOption, DurationOption, EntryOption, OptionKind};
use hurl_core::types::{Count, DurationUnit};

use crate::error::Refusal;

/// The options of an entry that the caller carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often the caller sends the request again while an assertion fails; 0 without `retry`.
    pub retry: usize,
    /// The pause before each further attempt; one second without `retry-interval`.
    pub retry_interval: Duration,
    /// The pause before the request; none without `delay`.
    pub delay: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            retry: 0,
            retry_interval: Duration::from_secs(1),
            delay: Duration::ZERO,
        }
    }
}

impl Options {
    pub(crate) fn read(options: &[EntryOption]) -> Result<Options, Refusal> {
        let mut read = Options::default();
        for option in options {
            match &option.kind {
                OptionKind::Retry(CountOption::Literal(Count::Finite(count))) => {
                    read.retry = *count
                }
                OptionKind::RetryInterval(DurationOption::Literal(interval)) => {
                    read.retry_interval = duration(interval);
                }
                OptionKind::Delay(DurationOption::Literal(delay)) => read.delay = duration(delay),
                _ => return Err(refused(option)),
            }
        }
        Ok(read)
    }
}

/// Hurl's default unit is the millisecond.
fn duration(duration: &ast::Duration) -> Duration {
    let millis = match duration.unit {
        None | Some(DurationUnit::MilliSecond) => 1,
        Some(DurationUnit::Second) => 1_000,
        Some(DurationUnit::Minute) => 60_000,
        Some(DurationUnit::Hour) => 3_600_000,
    };
    Duration::from_millis(duration.value.as_u64().saturating_mul(millis))
}

fn refused(option: &EntryOption) -> Refusal {
    let (at, name) = (option.space0.source_info, option.kind.identifier());
    match option.kind {
        OptionKind::Retry(_) => Refusal::new(
            at,
            "has a retry that is no number of attempts",
            "write a number, as in `retry: 10`: a check must end",
        ),
        OptionKind::RetryInterval(_) | OptionKind::Delay(_) => {
            let message = format!("has a {name} that is no duration");
            Refusal::new(
                at,
                message,
                format!("write a duration, as in `{name}: 500ms`"),
            )
        }
        _ => Refusal::new(
            at,
            format!("has the option {name}, which is not supported"),
            "remove it; the supported options are retry, retry-interval and delay",
        ),
    }
}
