//! wrk, the load generator (<https://github.com/wg/wrk>), and what it says.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use harness::subprocess;
use harness::tools::on_path;

use super::cores::Core;
use super::error::BenchError;

/// Connections of one round. One thread of wrk drives them all.
pub const CONNECTIONS: u32 = 64;

/// What wrk needs beside its load: to connect, and to print.
const GRACE: Duration = Duration::from_secs(10);

/// wrk, kept on a core.
pub struct Wrk {
    /// The program.
    pub program: PathBuf,
    /// The core.
    pub core: Core,
}

impl Wrk {
    /// The one that is installed.
    ///
    /// # Errors
    /// [`BenchError::NoWrk`].
    pub fn on(core: Core) -> Result<Wrk, BenchError> {
        let program = on_path("wrk").ok_or(BenchError::NoWrk)?;
        Ok(Wrk { program, core })
    }

    /// Loads `url`, which is of this machine, with all connections for `seconds`. Returns the
    /// answers a second.
    ///
    /// # Errors
    /// When an answer was not 2xx or 3xx, when a connection failed, when there was none.
    pub async fn load(&self, url: &str, seconds: u64) -> Result<f64, BenchError> {
        let mut argv = self.core.command(&self.program);
        argv.extend([
            "-t1".into(),
            format!("-c{CONNECTIONS}"),
            format!("-d{seconds}s"),
            url.into(),
        ]);
        let said = Mutex::new(String::new());
        let listen = |line: &str| {
            if let Ok(mut said) = said.lock() {
                said.push_str(line);
                said.push('\n');
            }
        };
        subprocess::run(&argv, Duration::from_secs(seconds) + GRACE, &listen).await?;
        let said = said.into_inner().unwrap_or_default();
        answers_per_second(&said).map_err(|reason| BenchError::Load {
            url: url.to_owned(),
            reason,
        })
    }
}

/// The rate, if every answer counts; else why it does not.
fn answers_per_second(said: &str) -> Result<f64, String> {
    let after = |label| {
        said.lines()
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
        None => Err(format!("wrk named no rate; it said: {}", said.trim())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// wrk 4.1.0, as it prints.
    const SAID: &str = "\
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
        SAID.replace("Requests/sec:", &format!("  {line}\nRequests/sec:"))
    }

    #[test]
    fn the_rate_is_read() {
        assert_eq!(answers_per_second(SAID), Ok(103_008.09));
    }

    #[test]
    fn a_rate_of_refusals_does_not_count() {
        let said = with("Non-2xx or 3xx responses: 109683");
        let reason = answers_per_second(&said).unwrap_err();
        assert_eq!(reason, "109683 answers were neither 2xx nor 3xx");
    }

    #[test]
    fn a_rate_with_failed_connections_does_not_count() {
        let said = with("Socket errors: connect 0, read 3, write 0, timeout 12");
        let reason = answers_per_second(&said).unwrap_err();
        assert!(
            reason.ends_with("connect 0, read 3, write 0, timeout 12"),
            "{reason}"
        );
    }

    #[test]
    fn no_answers_are_no_rate() {
        let said = SAID.replace("103008.09", "0.00");
        assert_eq!(answers_per_second(&said), Err("there was no answer".into()));
        let reason = answers_per_second("wrk: usage").unwrap_err();
        assert!(reason.contains("wrk: usage"), "{reason}");
    }

    proptest! {
        #[test]
        fn any_rate_wrk_prints_is_read(rate in 0.01..1e7f64) {
            let said = SAID.replace("103008.09", &format!("{rate:.2}"));
            let read = answers_per_second(&said).unwrap();
            prop_assert!((read - rate).abs() <= 0.005 + rate * 1e-12);
        }

        #[test]
        fn nonsense_is_never_a_rate_and_never_panics(said in "[^R]{0,200}") {
            prop_assert!(answers_per_second(&said).is_err());
        }
    }
}
