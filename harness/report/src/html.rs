//! `index.html`: the report for people, in one file without dependencies.
//!
//! All that it says is there without scripts. Its only one sorts tables, and its content security
//! policy allows no other.

mod chart;
mod elements;
mod load;
mod measurements;
mod releases;
mod scenarios;
mod timeline;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::elements::{badge, icon, wide_table};
use sha2::{Digest, Sha256};

use super::links::inside_run_folder;
use super::model::{Report, RunVerdict};
use super::tone::Tone;
use base::duration::human;
use base::run::EVENTS;
use base::run::counts::Counts;
use base::run::event::{Failure, Part};

const STYLE: &str = include_str!("html/style.css");
const SORT: &str = include_str!("html/sort.js");

/// Allows the styles of this page, and the script that sorts.
fn policy() -> String {
    let hash = BASE64_STANDARD.encode(Sha256::digest(SORT));
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
}

/// Renders `index.html`.
pub(super) fn render(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (report.verdict) ": " (report.command) " on " (report.target) }
                link rel="icon" href=(elements::favicon(report.verdict.into()));
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#results" { "Skip to the results" }
                (banner(report))
                main #results {
                    (figures(report))
                    (what_went_wrong(report))
                    (scenarios::section(report))
                    (load::thresholds(report))
                    (load::comparisons(report))
                    (measurements::section(report))
                    (releases::section(report))
                    (timeline::section(report))
                    (parts(report))
                    (notes(report))
                    (again(report))
                }
                (footer(report))
                @if !report.loads.is_empty() { script { (PreEscaped(SORT)) } }
            }
        }
    };
    page.into_string()
}

fn banner(report: &Report) -> Markup {
    let tone = Tone::from(report.verdict);
    html! {
        header class={ "banner " (tone.class()) } {
            p.product { (report.product()) }
            h1 { (icon(tone)) (report.verdict) }
            p.headline { (report.headline) }
            (reasons(report))
            dl.facts {
                @for (name, value) in facts(report) {
                    div { dt { (name) } dd { (value) } }
                }
            }
        }
    }
}

fn facts(report: &Report) -> Vec<(&'static str, Markup)> {
    let mut facts = vec![
        (
            "Command",
            html! { code { "cargo xtask " (report.command) } },
        ),
        ("Target", html! { (report.target) }),
        ("Environment", html! { (report.environment) }),
    ];
    let versions = report.versions();
    if !versions.is_empty() {
        facts.push(("Versions", html! { (versions.join(", ")) }));
    }
    if let Some(checkout) = &report.checkout {
        facts.push(("Checkout", html! { (checkout) }));
    }
    facts.push(("Run", html! { code { (report.run) } }));
    if let Some(at) = report.started_at {
        let text = at.strftime("%Y-%m-%d %H:%M:%S UTC");
        facts.push(("Started", html! { time datetime=(at) { (text) } }));
    }
    if let Some(code) = report.exit_code {
        facts.push((
            "Exit code",
            html! { (code as u8) " (" (code.meaning()) ")" },
        ));
    }
    if let Some(host) = &report.host {
        facts.push(("Host", html! { (host) }));
    }
    facts
}

fn figures(report: &Report) -> Markup {
    let checks = report.checks;
    let slowest = report.stages.iter().max_by_key(|stage| stage.millis);
    html! {
        section aria-label="Figures" {
            ul.figures {
                @if checks.total() > 0 || !report.is_of_load() {
                    li.bad[checks.failed > 0].warn[checks.failed == 0 && checks.inconclusive > 0] {
                        span.name { "Checks passed" }
                        strong { (checks.passed) @if checks.total() > 0 { small { " of " (checks.total()) } } }
                        span.aside { (rest_of_checks(report)) }
                    }
                }
                (load::figures(report))
                li {
                    span.name { "Duration" }
                    strong { (human(report.millis)) }
                    span.aside {
                        @match slowest {
                            Some(stage) => { "longest: " (stage.stage) ", " (human(stage.millis)) }
                            None => "no stage began"
                        }
                    }
                }
                (environment(report))
            }
        }
    }
}

/// When the environment was up, and the parts that exited. Empty if the run did not start it.
fn environment(report: &Report) -> Markup {
    if !report.stands_up() && report.lost_parts.is_empty() {
        return html! {};
    }
    html! {
        li {
            span.name { "Environment up after" }
            @match report.up_after_millis {
                Some(millis) => {
                    strong { (human(millis)) }
                    span.aside { (report.parts.len()) " parts" }
                }
                None => {
                    strong { "–" }
                    span.aside { "it did not come up" }
                }
            }
        }
        li.bad[!report.lost_parts.is_empty()] {
            span.name { "Parts lost" }
            strong { (report.lost_parts.len()) }
            span.aside {
                @match report.lost_parts.first() {
                    Some(lost) => (lost.part),
                    None if report.parts.is_empty() => "there were no parts",
                    None => "none exited unexpectedly",
                }
            }
        }
    }
}

/// The counts of the checks that did not pass: `1 failed, 2 skipped`.
fn rest_of_checks(report: &Report) -> String {
    let rest = Counts {
        passed: 0,
        ..report.checks
    };
    let mut text = match (report.checks.total(), rest.total()) {
        (0, _) => "no check ran".to_owned(),
        (_, 0) => "none failed, none skipped".to_owned(),
        _ => rest.to_string(),
    };
    if report.verdict == RunVerdict::Unfinished {
        text += ", then the record stops";
    }
    text
}

/// Something that failed or is open, on the first screen.
struct Reason {
    tone: Tone,
    /// The id of its details.
    details: String,
    place: String,
    why: String,
}

/// What failed or is open, and why, in a sentence each.
fn reasons(report: &Report) -> Markup {
    const MOST: usize = 8;
    let failures = report
        .failures
        .iter()
        .enumerate()
        .map(|(number, it)| Reason {
            tone: Tone::Bad,
            details: format!("failure-{number}"),
            place: it.stage.map_or("run".to_owned(), |stage| stage.to_string()),
            why: in_a_sentence(&it.failure),
        });
    let lost = report
        .lost_parts
        .iter()
        .enumerate()
        .map(|(number, it)| Reason {
            tone: Tone::Bad,
            details: format!("lost-{number}"),
            place: it.part.clone(),
            why: format!("it exited unexpectedly: {}", it.how),
        });
    let reasons: Vec<Reason> = failures
        .chain(lost)
        .chain(scenarios::reasons(report))
        .collect();
    if reasons.is_empty() {
        return html! {};
    }
    html! {
        ul.reasons {
            @for it in reasons.iter().take(MOST) {
                li {
                    (icon(it.tone))
                    div { a href={ "#" (it.details) } { (it.place) } ": " (it.why) }
                }
            }
            @if let more @ 1.. = reasons.len().saturating_sub(MOST) { li.aside { "and " (more) " more below" } }
        }
    }
}

/// Returns the problem and what was seen, on one line.
fn in_a_sentence(failure: &Failure) -> String {
    let what = failure.what.trim_end_matches('.');
    format!("{what}: {}", first_line(&failure.seen))
}

/// Returns as much of the first line as fits the first screen.
fn first_line(text: &str) -> String {
    const LONGEST: usize = 200;
    let line = text.lines().next().unwrap_or_default();
    let mut first: String = line.chars().take(LONGEST).collect();
    if first.len() < text.trim_end().len() {
        first.push('…');
    }
    first
}

/// The problems outside of checks, in full.
fn what_went_wrong(report: &Report) -> Markup {
    let advice = report.cleanup_advice();
    let failed = !report.failures.is_empty() || !report.lost_parts.is_empty();
    if !failed && advice.is_none() && report.torn_line.is_none() {
        return html! {};
    }
    html! {
        section aria-labelledby="wrong" {
            h2 #wrong { @if failed { "What went wrong" } @else { "What needs attention" } }
            @for (number, it) in report.failures.iter().enumerate() {
                article.card.bad id={ "failure-" (number) } {
                    h3 {
                        (badge(Tone::Bad, "failed"))
                        @match it.stage { Some(stage) => (stage), None => "run" }
                    }
                    (failure(report, &it.failure))
                }
            }
            @for (number, lost) in report.lost_parts.iter().enumerate() {
                article.card.bad id={ "lost-" (number) } {
                    h3 { (badge(Tone::Bad, "lost")) (lost.part) }
                    p {
                        "Exited unexpectedly after " (human(lost.after_millis)) ": " (lost.how) "."
                    }
                    p { "Its log: " (log(&lost.log, &lost.log)) }
                }
            }
            @if let Some(command) = advice {
                article.card.warn {
                    p { "If no run is active, clean up what this one may have left:" }
                    pre { code { (command) } }
                }
            }
            @if let Some(line) = report.torn_line {
                article.card.warn {
                    p {
                        "Line " (line) " of " code { (EVENTS) }
                        " was not completely written, and is skipped."
                    }
                }
            }
        }
    }
}

fn failure(report: &Report, failure: &Failure) -> Markup {
    html! {
        p.what { (failure.what) }
        dl.failure {
            div { dt { "Expected" } dd { (failure.expected) } }
            div { dt { "Seen" } dd { (failure.seen) } }
            div { dt { "Look at" } dd { (look_at(report, &failure.look_at)) } }
            div { dt { "Next" } dd { pre { code { (failure.next) } } } }
        }
    }
}

/// A log by its name, as a link if it is in the run folder.
fn log(path: &str, name: &str) -> Markup {
    match inside_run_folder(path) {
        Some(link) => html! { a href=(link) { (name) } },
        None => html! { code { (name) } },
    }
}

/// A place to look at, as a link if it is a part's log. It may also be a URL or a file of the
/// project.
fn look_at(report: &Report, place: &str) -> Markup {
    let mut logs = report.parts.iter().filter_map(|part| part.log.as_deref());
    match logs.any(|log| log == place) {
        true => log(place, place),
        false => html! { code { (place) } },
    }
}

/// The parts of the environment, with their logs.
fn parts(report: &Report) -> Markup {
    if report.parts.is_empty() {
        return html! {};
    }
    let rows = html! { @for part in &report.parts { (part_row(report, part)) } };
    html! {
        section aria-labelledby="environment" {
            h2 #environment { "Environment" }
            (wide_table("card wide", "environment", &["Part", "Runs as", "Address", "Log"], rows))
        }
    }
}

fn part_row(report: &Report, part: &Part) -> Markup {
    let lost = report.lost_parts.iter().any(|lost| lost.part == part.name);
    html! {
        tr {
            th scope="row" { (part.name) @if lost { " " (badge(Tone::Bad, "lost")) } }
            td { (part.runs_as) }
            td { code { (part.address) } }
            td { @if let Some(path) = &part.log { (log(path, path)) } @else { "–" } }
        }
    }
}

fn notes(report: &Report) -> Markup {
    if report.notes().next().is_none() {
        return html! {};
    }
    html! {
        section aria-labelledby="notes" {
            h2 #notes { "Notes" }
            ul.card.notes {
                @for (stage, note) in report.notes() {
                    li { span.stage { (stage) } " " (note) }
                }
            }
        }
    }
}

fn again(report: &Report) -> Markup {
    html! {
        section aria-labelledby="again" {
            h2 #again { "Again" }
            div.card {
                p { "Run it again:" }
                pre { code { "cargo xtask " (report.command) } }
                p { "Render this report again, from its record:" }
                pre { code { "cargo xtask report " (report.run) } }
            }
        }
    }
}

fn footer(report: &Report) -> Markup {
    html! {
        footer {
            nav aria-label="Files of this run" {
                "The same run as "
                a href="./summary.md" { "summary.md" } ", "
                a href="./report.json" { "report.json" } ", "
                a href="./junit.xml" { "junit.xml" } " and its record, "
                a href={ "./" (EVENTS) } { (EVENTS) }
            }
            p { (report.schema) " version " (report.version) }
        }
    }
}
