//! The scenarios and their checks. Failed checks come first and are open, then those that are
//! inconclusive, skipped, and passed.

use maud::{Markup, html};

use super::super::model::{Report, ScenarioReport};
use super::super::tone::Tone;
use super::elements::{badge, icon};
use super::{Reason, failure, first_line, in_a_sentence};
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
                (card(report, index, scenario))
            }
        }
    }
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
                }
            }
            @for (number, (check, because)) in scenario.inconclusive_checks().enumerate() {
                details.check.warn open id=(anchor("inconclusive", index, number)) {
                    (check_summary(Tone::Warn, check))
                    p.because { "Inconclusive: " (because) }
                }
            }
            (skipped_checks(scenario))
            (passed_checks(scenario))
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
