//! The scenarios and their checks: what failed first and open, then what was skipped,
//! then what passed with its evidence.

use maud::{Markup, html};

use super::super::model::{Report, ScenarioReport, ScenarioResult};
use super::failure;
use super::look::{Tone, badge, icon};
use crate::duration::human;
use crate::run::event::{Check, Outcome};

pub(super) fn section(report: &Report) -> Markup {
    html! {
        section aria-labelledby="scenarios" {
            h2 #scenarios { "Scenarios" }
            @if report.scenarios.is_empty() {
                p.card.empty { "None ran: this run proves nothing about the platform." }
            }
            @for (index, scenario) in report.scenarios.iter().enumerate() {
                (card(index, scenario))
            }
        }
    }
}

/// Links to the failed checks.
pub(super) fn failed_links(report: &Report) -> Markup {
    html! {
        ul.card.bad.links {
            @for (index, scenario) in report.scenarios.iter().enumerate() {
                @for (number, (check, failure)) in scenario.failed_checks().enumerate() {
                    li {
                        (icon(Tone::Bad))
                        div {
                            a href={ "#" (anchor(index, number)) } {
                                (scenario.scenario) " › " (check.name)
                            }
                            p { (failure.what) }
                        }
                    }
                }
            }
        }
    }
}

fn anchor(scenario: usize, failed_check: usize) -> String {
    format!("failed-{scenario}-{failed_check}")
}

fn card(index: usize, scenario: &ScenarioReport) -> Markup {
    let skipped: Vec<_> = scenario.checks.iter().filter_map(skipped).collect();
    let passed: Vec<_> = scenario.checks.iter().filter_map(passed).collect();
    html! {
        article class={ "card scenario " (tone(scenario.result).class()) } {
            header {
                h3 { (badge(tone(scenario.result), &scenario.result.to_string())) (scenario.scenario) }
                p.aside {
                    (scenario.counts) " · " (human(scenario.millis))
                    @if !scenario.finished { " · did not finish" }
                }
            }
            p.claim { (scenario.claim) }
            @for (number, (check, what)) in scenario.failed_checks().enumerate() {
                details.check open id=(anchor(index, number)) {
                    summary {
                        (icon(Tone::Bad))
                        span { (check.name) }
                        span.time { (human(check.millis)) }
                    }
                    (failure(what))
                }
            }
            @if !skipped.is_empty() {
                (checks(Tone::Quiet, "skipped", "Because", &skipped, true))
            }
            @if !passed.is_empty() {
                (checks(Tone::Good, "passed", "Evidence", &passed, scenario.result != ScenarioResult::Failed))
            }
        }
    }
}

fn tone(result: ScenarioResult) -> Tone {
    match result {
        ScenarioResult::Held => Tone::Good,
        ScenarioResult::Failed => Tone::Bad,
        ScenarioResult::Skipped => Tone::Quiet,
        ScenarioResult::Unproven | ScenarioResult::Unfinished => Tone::Warn,
    }
}

fn skipped(check: &Check) -> Option<(&Check, &str)> {
    match &check.outcome {
        Outcome::Skipped { because } => Some((check, because)),
        _ => None,
    }
}

fn passed(check: &Check) -> Option<(&Check, &str)> {
    match &check.outcome {
        Outcome::Passed { seen } => Some((check, seen)),
        _ => None,
    }
}

/// The checks of one outcome, each with one line of text.
fn checks(
    tone: Tone,
    outcome: &str,
    text_head: &str,
    checks: &[(&Check, &str)],
    open: bool,
) -> Markup {
    html! {
        details.checks open[open] {
            summary { (checks.len()) " " (outcome) }
            table {
                thead { tr { th scope="col" { "Check" } th scope="col" { (text_head) } th.time scope="col" { "Time" } } }
                tbody {
                    @for (check, text) in checks {
                        tr {
                            th scope="row" { span.name { (icon(tone)) span { (check.name) } } }
                            td.evidence { (text) }
                            td.time { (human(check.millis)) }
                        }
                    }
                }
            }
        }
    }
}
