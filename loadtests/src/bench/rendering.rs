//! The report of a load of a million requests: how long it takes to render, how large it is, and
//! how long a browser takes to show it.

mod record;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base::duration::human;
use base::process::describe;
use machine::tools;
use tokio::process::Command;

use super::error::BenchError;
use super::memory::peak_during;
use super::results::Measured;
use super::scratch::Scratch;
use super::series::{Series, Unit, millis_since};
use super::stated_figure::{Bound, StatedFigure};
use super::{BenchPlan, Figure, Progress};

pub use record::write_load_record;

const REQUESTS: u64 = 1_000_000;
/// The name of the run.
const RUN: &str = "load";
/// For a command, and for a browser.
const TIMEOUT: Duration = Duration::from_secs(60);

const RENDER: &str = "report: the whole command";
const MEMORY: &str = "report: memory of the command";
const SIZE: &str = "report: index.html";
const INTERACTIVE: &str = "report: until it is interactive";

const STATED: [StatedFigure; 4] = [
    StatedFigure::of_median(RENDER, Bound::Below(1_000.0)),
    StatedFigure::of_max(MEMORY, Bound::Below(200.0)),
    StatedFigure::of_max(SIZE, Bound::Below(1.9)),
    StatedFigure::of_median(INTERACTIVE, Bound::Below(1_000.0)),
];

const NO_BROWSER: &str =
    "not opened in a browser: `cargo xtask doctor --provision` installs Chromium";

/// Renders the report and opens it, in every round.
pub async fn measure(
    plan: &BenchPlan,
    scratch: &Scratch,
    progress: Progress<'_>,
) -> Result<Measured, BenchError> {
    progress("report: a million requests are counted");
    let folder = scratch.root().join("reports").join(RUN);
    std::fs::create_dir_all(&folder).map_err(BenchError::file("create", &folder))?;
    write_load_record(&folder, REQUESTS).map_err(BenchError::file("write", &folder))?;
    let page = folder.join("index.html");
    let browser = tools::chromium();
    let [mut render, mut memory, mut size, mut interactive] = [const { Vec::new() }; 4];
    for round in 1..=plan.rounds {
        let started = Instant::now();
        memory.extend(render_again(&scratch.root()).await?);
        render.push(millis_since(started));
        let length = std::fs::metadata(&page).map_err(BenchError::file("read", &page))?;
        size.push(length.len() as f64 / f64::from(1 << 20));
        if let Some(browser) = &browser {
            interactive.push(open(browser, &page, &scratch.root()).await?);
        }
        let took = human(millis_since(started) as u64);
        progress(&format!("report: round {round} of {}: {took}", plan.rounds));
    }
    let series = vec![
        Series::new(RENDER, Unit::Milliseconds, render),
        Series::new(MEMORY, Unit::Mebibytes, memory),
        Series::new(SIZE, Unit::Mebibytes, size),
        Series::new(INTERACTIVE, Unit::Milliseconds, interactive),
    ];
    let about = "report: of a load of 1,000,000 requests, rendered and opened in a browser";
    let notes = Vec::from_iter(browser.is_none().then(|| NO_BROWSER.to_owned()));
    Ok(Measured::new(Figure::Report, about, &STATED, series, notes))
}

/// Runs `cargo xtask report` with this executable. Returns its peak memory, in MiB.
async fn render_again(home: &Path) -> Result<Option<f64>, BenchError> {
    let own = std::env::current_exe().map_err(BenchError::file("find", Path::new("xtask")))?;
    let mut command = Command::new(&own);
    command.args(["report", RUN, "--home"]).arg(home);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (_, memory) = output_of("cargo xtask report", &mut command).await?;
    Ok(memory)
}

/// Opens the page in a new browser. Returns how long it took until it was interactive, in
/// milliseconds.
async fn open(browser: &Path, page: &Path, home: &Path) -> Result<f64, BenchError> {
    const WHO: &str = "the browser";
    let timed = home.join("timed.html");
    let text = std::fs::read_to_string(page).map_err(BenchError::file("read", page))?;
    let text = timing_itself(&text);
    let text = text.ok_or("the page has no policy to remove");
    let text = text.map_err(BenchError::does_not_count(WHO))?;
    std::fs::write(&timed, text).map_err(BenchError::file("write", &timed))?;
    let profile = tempfile::tempdir_in(home).map_err(BenchError::file("create", home))?;
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--no-first-run", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", timed.display()))
        .envs([("HOME", profile.path()), ("TMPDIR", profile.path())])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let (page, _) = output_of(WHO, &mut command).await?;
    let millis = page.split_once(ATTRIBUTE).and_then(|(_, rest)| {
        let (number, _) = rest.strip_prefix("=\"")?.split_once('"')?;
        number.parse().ok()
    });
    millis
        .ok_or("the page does not show when it was interactive")
        .map_err(BenchError::does_not_count(WHO))
}

const ATTRIBUTE: &str = "data-interactive";

/// Returns the page with a script that writes into the page when it was interactive. The page's own
/// policy would refuse it.
fn timing_itself(page: &str) -> Option<String> {
    const SCRIPT: &str = "<script>addEventListener('load', () => document.documentElement.dataset.interactive = performance.getEntriesByType('navigation')[0].domInteractive)</script>";
    let (before, policy) = page.split_once("<meta http-equiv=\"Content-Security-Policy\"")?;
    let (_, after) = policy.split_once('>')?;
    Some(format!("{before}{SCRIPT}{after}"))
}

/// Runs a command to its end. Returns its output and its peak memory, in MiB.
async fn output_of(
    who: &'static str,
    command: &mut Command,
) -> Result<(String, Option<f64>), BenchError> {
    let failed = |why: String| BenchError::does_not_count(who)(why);
    // A terminal's Ctrl-C is for the benchmark.
    command
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let pid = child.id().unwrap_or_default();
    let ended = tokio::time::timeout(TIMEOUT, child.wait_with_output());
    match peak_during(pid, ended).await {
        (Ok(Ok(output)), peak) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok((text, peak))
        }
        (Ok(Ok(output)), _) => Err(failed(describe(output.status))),
        (Ok(Err(error)), _) => Err(failed(error.to_string())),
        (Err(_), _) => Err(failed(format!("no result within {TIMEOUT:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_reads_the_time_takes_the_place_of_the_policy() {
        let page = "<head><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\"><title>a</title>";
        let timed = timing_itself(page).unwrap();
        assert!(timed.starts_with("<head><script>"), "{timed}");
        assert!(timed.ends_with("</script><title>a</title>"), "{timed}");
        assert_eq!(timing_itself("<head>"), None);
    }
}
