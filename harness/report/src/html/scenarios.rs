//! The scenarios and their checks. Failed checks come first and are open, then those that are
//! inconclusive, skipped, and passed.

use maud::{Markup, html};

use super::super::model::{Report, ScenarioReport, ScenarioResult};
use super::super::tone::Tone;
use super::elements::{badge, icon};
use super::{Reason, failure, first_line, in_a_sentence, log};
use base::duration::human;
use base::run::event::{Check, CheckOutcome};

pub(super) fn section(report: &Report) -> Markup {
    if report.scenarios.is_empty() && report.is_of_load() {
        return html! {};
    }
    html! {
        section aria-labelledby="scenarios" {
            h2 #scenarios { "Scenarios" }
            @if report.scenarios.is_empty() {
                p.card.empty { "None ran: this run proves nothing about the platform." }
            }
            @for (index, scenario) in report.scenarios.iter().enumerate() {
                @if scenario.result != ScenarioResult::Skipped { (card(report, index, scenario)) }
            }
            (skipped_scenarios(report))
        }
    }
}

/// The scenarios of which every check was skipped, in one card.
fn skipped_scenarios(report: &Report) -> Markup {
    let scenarios = report.scenarios.iter();
    let skipped = scenarios.filter(|it| it.result == ScenarioResult::Skipped);
    let count = skipped.clone().count();
    if count == 0 {
        return html! {};
    }
    html! {
        article.card.scenario.quiet {
            header {
                h3 { (badge(Tone::Quiet, "skipped")) @if count == 1 { "1 scenario" } @else { (count) " scenarios" } }
            }
            details.checks open {
                summary { "Scenarios that could not be checked here" }
                table {
                    thead { tr { th scope="col" { "Scenario" } th scope="col" { "Because" } } }
                    tbody {
                        @for it in skipped {
                            tr {
                                th scope="row" { span.name { (icon(Tone::Quiet)) span { (it.scenario) } } }
                                td.evidence { (reasons_to_skip(it)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the reasons of a scenario's skipped checks, each once.
fn reasons_to_skip(scenario: &ScenarioReport) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for check in &scenario.checks {
        match &check.outcome {
            CheckOutcome::Skipped { because } if !reasons.contains(&because.as_str()) => {
                reasons.push(because);
            }
            _ => {}
        }
    }
    reasons.join("; ")
}

/// The checks that failed or are open.
pub(super) fn reasons(report: &Report) -> Vec<Reason> {
    let (mut failed, mut open) = (Vec::new(), Vec::new());
    for (index, scenario) in report.scenarios.iter().enumerate() {
        let place = |check: &Check| format!("{} › {}", scenario.scenario, check.name);
        for (number, (check, failure)) in scenario.failed_checks().enumerate() {
            failed.push(Reason {
                tone: Tone::Bad,
                details: anchor("failed", index, number),
                place: place(check),
                why: match failure.what.contains(&check.name) {
                    // The place says it already.
                    true => first_line(&failure.seen),
                    false => in_a_sentence(failure),
                },
            });
        }
        for (number, (check, because)) in scenario.inconclusive_checks().enumerate() {
            open.push(Reason {
                tone: Tone::Warn,
                details: anchor("inconclusive", index, number),
                place: place(check),
                why: because.to_owned(),
            });
        }
    }
    failed.append(&mut open);
    failed
}

fn anchor(result: &str, scenario: usize, check: usize) -> String {
    format!("{result}-{scenario}-{check}")
}

fn card(report: &Report, index: usize, scenario: &ScenarioReport) -> Markup {
    let tone = Tone::from(scenario.result);
    html! {
        article class={ "card scenario " (tone.class()) } {
            header {
                h3 { (badge(tone, &scenario.result.to_string())) (scenario.scenario) }
                p.aside {
                    (scenario.counts) " · " (human(scenario.millis))
                    @if !scenario.finished { " · did not finish" }
                }
            }
            p.claim { (scenario.claim) }
            @for (number, (check, what)) in scenario.failed_checks().enumerate() {
                details.check open id=(anchor("failed", index, number)) {
                    (check_summary(Tone::Bad, check))
                    (failure(report, what))
                    (link_to_logs(index, scenario))
                }
            }
            @for (number, (check, because)) in scenario.inconclusive_checks().enumerate() {
                details.check.warn open id=(anchor("inconclusive", index, number)) {
                    (check_summary(Tone::Warn, check))
                    p.because { "Inconclusive: " (because) }
                }
            }
            (logs(index, scenario))
            (skipped_checks(scenario))
            (passed_checks(scenario))
        }
    }
}

fn link_to_logs(index: usize, scenario: &ScenarioReport) -> Markup {
    let parts: Vec<&str> = scenario.logs.iter().map(|it| it.part.as_str()).collect();
    if parts.is_empty() {
        return html! {};
    }
    html! {
        p.logs { a href={ "#logs-" (index) } { "Log lines" } " of " (parts.join(", ")) }
    }
}

/// The lines of logs that may explain the failed checks.
fn logs(index: usize, scenario: &ScenarioReport) -> Markup {
    if scenario.logs.is_empty() {
        return html! {};
    }
    let lines: usize = scenario.logs.iter().map(|it| it.lines.len()).sum();
    html! {
        details.checks open id={ "logs-" (index) } {
            summary { (lines) " log lines with errors or warnings, while it ran" }
            @for it in &scenario.logs {
                h4 {
                    @match &it.log { Some(path) => (log(path, &it.part)), None => (it.part) }
                    @if it.left_out > 0 { span.aside { " and " (it.left_out) " such lines before" } }
                }
                pre { code { (it.lines.join("\n")) } }
            }
        }
    }
}

fn check_summary(tone: Tone, check: &Check) -> Markup {
    html! {
        summary {
            (icon(tone))
            span { (check.name) }
            span.time { (human(check.millis)) }
        }
    }
}

fn skipped_checks(scenario: &ScenarioReport) -> Markup {
    if scenario.counts.skipped == 0 {
        return html! {};
    }
    html! {
        details.checks open {
            summary { (scenario.counts.skipped) " skipped" }
            table {
                thead { tr { th scope="col" { "Check" } th scope="col" { "Because" } } }
                tbody {
                    @for check in &scenario.checks {
                        @if let CheckOutcome::Skipped { because } = &check.outcome {
                            tr { (name(Tone::Quiet, check)) td.evidence { (because) } }
                        }
                    }
                }
            }
        }
    }
}

/// Closed if a check failed: then the evidence of the others is less important.
fn passed_checks(scenario: &ScenarioReport) -> Markup {
    if scenario.counts.passed == 0 {
        return html! {};
    }
    html! {
        details.checks open[scenario.counts.failed == 0] {
            summary { (scenario.counts.passed) " passed" }
            table {
                thead {
                    tr {
                        th scope="col" { "Check" }
                        th scope="col" { "Evidence" }
                        th.time scope="col" { "Time" }
                    }
                }
                tbody {
                    @for check in &scenario.checks {
                        @if let CheckOutcome::Passed { seen } = &check.outcome {
                            tr {
                                (name(Tone::Good, check))
                                td.evidence { (seen) }
                                td.time { (human(check.millis)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn name(tone: Tone, check: &Check) -> Markup {
    html! { th scope="row" { span.name { (icon(tone)) span { (check.name) } } } }
}
