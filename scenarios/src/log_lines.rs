//! The lines of the parts' logs that may explain why a scenario failed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::run::LOGS;
use base::run::event::LogExcerpt;
use environments::environment::{ClusterPlace, Environment, EnvironmentFolder, Secrets};
use kubernetes::pods;

use crate::Subject;

/// A line with one of these, in any case, may explain a failure.
const SIGNS: [&str; 9] = [
    "error",
    "warn",
    "panic",
    "fatal",
    "critical",
    "exception",
    "traceback",
    "refused",
    "timed out",
];
/// The last of these lines of each log are kept.
const LINES_OF_A_LOG: usize = 8;
/// The most characters of a line.
const LONGEST_LINE: usize = 300;
/// The last bytes of a log are read.
const BYTES_OF_A_LOG: u64 = 1 << 20;
/// For the API server to send the logs of all pods.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How far the logs of an environment were when a scenario began, in bytes.
pub struct LogPositions(BTreeMap<PathBuf, u64>);

impl LogPositions {
    /// Returns how far the logs are now.
    pub fn now(environment: &Environment) -> LogPositions {
        let logs = logs_in(&environment.run_folder);
        LogPositions(logs.map(|log| (log.clone(), length(&log))).collect())
    }

    /// Returns the lines since then, `elapsed` ago, that may explain a failure, of each log that has
    /// any. Logs in `run_folder`, the folder of this run, have a path.
    ///
    /// There are none of an environment that the harness does not own: its logs may hold what no
    /// report should.
    pub async fn excerpts(
        self,
        subject: &Subject<'_>,
        run_folder: &Path,
        elapsed: Duration,
    ) -> Vec<LogExcerpt> {
        let environment = subject.environment;
        let folder = EnvironmentFolder::of(subject.home, &environment.name);
        let Ok(secrets) = folder.read_secrets(&environment.name) else {
            return Vec::new();
        };
        let mut excerpts = match environment.releases() {
            Some(place) => of_pods(place, elapsed.as_secs() + 1, &secrets).await,
            None => Vec::new(),
        };
        let folder = environment.run_folder.clone();
        let of_files = tokio::task::spawn_blocking(move || self.of_files(&folder, &secrets));
        excerpts.extend(of_files.await.unwrap_or_default());
        if environment.run_folder != run_folder {
            excerpts.iter_mut().for_each(|it| it.log = None);
        }
        excerpts
    }

    fn of_files(&self, run_folder: &Path, secrets: &Secrets) -> Vec<LogExcerpt> {
        let excerpts = logs_in(run_folder).filter_map(|log| {
            let from = self.0.get(&log).copied().unwrap_or(0);
            let part = log.file_stem()?.to_string_lossy().into_owned();
            let path = Path::new(LOGS).join(log.file_name()?);
            let link = path.to_string_lossy().into_owned();
            excerpt(part, Some(link), &read_from(&log, from), secrets)
        });
        excerpts.collect()
    }
}

async fn of_pods(place: &ClusterPlace, seconds: u64, secrets: &Secrets) -> Vec<LogExcerpt> {
    let logs = async {
        let cluster = place.open().await.ok()?;
        Some(pods::logs_of_all(&cluster, seconds).await)
    };
    // Without them, the failed checks still say what was seen.
    let logs = tokio::time::timeout(TIMEOUT, logs).await.ok().flatten();
    let excerpts = logs.unwrap_or_default().into_iter();
    let excerpts = excerpts.filter_map(|(pod, log)| excerpt(pod, None, &log, secrets));
    excerpts.collect()
}

/// Returns the lines of a log that may explain a failure; none if there are none.
fn excerpt(part: String, log: Option<String>, text: &str, secrets: &Secrets) -> Option<LogExcerpt> {
    let lines = text.lines().filter(|line| has_sign(line));
    let lines: Vec<&str> = lines.collect();
    let last = &lines[lines.len().saturating_sub(LINES_OF_A_LOG)..];
    if last.is_empty() {
        return None;
    }
    let masked = last.iter().map(|line| {
        let masked = masked(line, secrets);
        masked.chars().take(LONGEST_LINE).collect()
    });
    Some(LogExcerpt {
        part,
        log,
        lines: masked.collect(),
        left_out: lines.len() - last.len(),
    })
}

fn has_sign(line: &str) -> bool {
    let line = line.to_lowercase();
    SIGNS.iter().any(|sign| line.contains(sign))
}

/// A service may log the URL with which it cannot connect.
fn masked(line: &str, secrets: &Secrets) -> String {
    let secrets = [
        &secrets.postgres_password,
        &secrets.redis_password,
        &secrets.jwt_secret,
        &secrets.demo_password,
    ];
    let written = secrets.into_iter().filter(|secret| !secret.is_empty());
    written.fold(line.trim().to_owned(), |line, secret| {
        line.replace(secret.as_str(), "*****")
    })
}

fn logs_in(run_folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(run_folder.join(LOGS)).into_iter().flatten();
    let mut logs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "log"))
        .collect();
    logs.sort();
    logs.into_iter()
}

fn length(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |it| it.len())
}

/// Returns what was written after `from`, but no more than the last bytes.
fn read_from(log: &Path, from: u64) -> String {
    let from = from.max(length(log).saturating_sub(BYTES_OF_A_LOG));
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(BYTES_OF_A_LOG).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets {
            postgres_password: "p0stgres".into(),
            redis_password: "r3dis".into(),
            jwt_secret: "k3y".into(),
            demo_password: String::new(),
        }
    }

    #[test]
    fn only_lines_since_the_start_that_tell_of_trouble_are_kept_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join(LOGS);
        fs::create_dir(&logs).unwrap();
        let log = logs.join("order-service.log");
        fs::write(&log, "ERROR of before\n").unwrap();
        fs::write(logs.join("quiet.log"), "listening\n").unwrap();
        let lengths = logs_in(folder.path()).map(|log| (log.clone(), length(&log)));
        let position = LogPositions(lengths.collect());
        let more =
            "ERROR of before\nINFO served\nWARN cannot reach postgres://trii:p0stgres@10.0.0.1\n";
        fs::write(&log, more).unwrap();
        let excerpts = position.of_files(folder.path(), &secrets());
        assert_eq!(
            excerpts,
            [LogExcerpt {
                part: "order-service".into(),
                log: Some("logs/order-service.log".into()),
                lines: vec!["WARN cannot reach postgres://trii:*****@10.0.0.1".into()],
                left_out: 0,
            }]
        );
    }

    #[test]
    fn the_last_lines_are_kept_and_the_others_counted() {
        let text: String = (0..20).map(|number| format!("panic {number}\n")).collect();
        let excerpt = excerpt("pod".into(), None, &text, &secrets()).unwrap();
        assert_eq!(excerpt.lines.len(), LINES_OF_A_LOG);
        assert_eq!(excerpt.lines.last().unwrap(), "panic 19");
        assert_eq!(excerpt.left_out, 12);
    }

    #[test]
    fn a_log_of_any_length_and_any_bytes_is_read_from_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("big.log");
        let mut bytes = vec![b'x'; 3 << 20];
        bytes.extend(b"\nfatal \xff\n");
        fs::write(&log, bytes).unwrap();
        let text = read_from(&log, 7);
        assert!(text.ends_with("fatal \u{fffd}\n"));
        assert!(text.len() <= BYTES_OF_A_LOG as usize + 3);
        assert_eq!(read_from(&folder.path().join("none.log"), 0), "");
    }
}
