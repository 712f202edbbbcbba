//! wrk, a load generator (<https://github.com/wg/wrk>).

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use base::process;
use machine::tools::on_path;

use super::cores::Core;
use super::error::BenchError;

/// The connections of a round, all driven by one thread of wrk.
pub const CONNECTIONS: u32 = 64;

/// Additional time of wrk to connect and to print.
const GRACE: Duration = Duration::from_secs(10);

/// wrk, pinned to a core.
pub struct Wrk {
    program: PathBuf,
    core: Core,
}

impl Wrk {
    /// Finds the installed wrk, or fails with [`BenchError::NoWrk`].
    pub fn on(core: Core) -> Result<Wrk, BenchError> {
        let program = on_path("wrk").ok_or(BenchError::NoWrk)?;
        Ok(Wrk { program, core })
    }

    /// Loads `url` on this machine with all connections for `seconds`. Returns the answers per
    /// second. Fails if an answer was not 2xx or 3xx, if a connection failed, or if there was no
    /// answer.
    pub async fn load(&self, url: &str, seconds: u64) -> Result<f64, BenchError> {
        let mut argv = self.core.command(&self.program);
        argv.extend([
            "-t1".into(),
            format!("-c{CONNECTIONS}"),
            format!("-d{seconds}s"),
            url.into(),
        ]);
        let output = Mutex::new(String::new());
        let listen = |line: &str| {
            if let Ok(mut output) = output.lock() {
                output.push_str(line);
                output.push('\n');
            }
        };
        process::run(&argv, Duration::from_secs(seconds) + GRACE, &listen).await?;
        let output = output.into_inner().unwrap_or_default();
        answers_per_second(&output).map_err(|reason| BenchError::Load {
            url: url.to_owned(),
            reason,
        })
    }
}

/// Returns the rate in wrk's output, if every answer counts.
fn answers_per_second(output: &str) -> Result<f64, String> {
    let after = |label| {
        output
            .lines()
            .find_map(|line| line.trim().strip_prefix(label))
            .map(str::trim)
    };
    if let Some(refused) = after("Non-2xx or 3xx responses:") {
        return Err(format!("{refused} answers were neither 2xx nor 3xx"));
    }
    if let Some(errors) = after("Socket errors:") {
        return Err(format!("connections failed: {errors}"));
    }
    let rate: Option<f64> = after("Requests/sec:").and_then(|rate| rate.parse().ok());
    match rate {
        Some(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        Some(_) => Err("there was no answer".into()),
        None => {
            let output = output.trim();
            Err(format!("wrk reported no rate; its output: {output}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The output of wrk 4.1.0.
    const OUTPUT: &str = "\
Running 3s test @ http://127.0.0.1:38871/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   589.99us  175.73us   5.05ms   89.90%
    Req/Sec   103.77k    12.84k  120.53k    54.84%
  319490 requests in 3.10s, 36.87MB read
Requests/sec: 103008.09
Transfer/sec:     11.89MB
";

    fn with(line: &str) -> String {
        OUTPUT.replace("Requests/sec:", &format!("  {line}\nRequests/sec:"))
    }

    #[test]
    fn the_rate_is_read() {
        assert_eq!(answers_per_second(OUTPUT), Ok(103_008.09));
    }

    #[test]
    fn a_rate_with_failures_does_not_count() {
        for (output, reason) in [
            (
                with("Non-2xx or 3xx responses: 109683"),
                "109683 answers were neither 2xx nor 3xx",
            ),
            (
                with("Socket errors: connect 0, read 3, write 0, timeout 12"),
                "connections failed: connect 0, read 3, write 0, timeout 12",
            ),
            (OUTPUT.replace("103008.09", "0.00"), "there was no answer"),
            (
                "wrk: usage".into(),
                "wrk reported no rate; its output: wrk: usage",
            ),
        ] {
            assert_eq!(answers_per_second(&output), Err(reason.into()));
        }
    }

    proptest! {
        #[test]
        fn any_rate_wrk_prints_is_read(rate in 0.01..1e7f64) {
            let output = OUTPUT.replace("103008.09", &format!("{rate:.2}"));
            let read = answers_per_second(&output).unwrap();
            prop_assert!((read - rate).abs() <= 0.005 + rate * 1e-12);
        }

        #[test]
        fn nonsense_is_never_a_rate_and_never_panics(output in "[^R]{0,200}") {
            prop_assert!(answers_per_second(&output).is_err());
        }
    }
}
