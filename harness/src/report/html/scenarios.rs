//! The scenarios and their checks: what failed first and open, then what came to no
//! conclusion, what was skipped, and what passed with its evidence.

use maud::{Markup, html};

use super::super::model::{Report, ScenarioReport, ScenarioResult};
use super::failure;
use super::look::{Tone, badge, icon};
use crate::duration::human;
use crate::run::event::{Check, Outcome};

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

/// Links to the inconclusive checks.
pub(super) fn inconclusive_links(report: &Report) -> Markup {
    html! {
        ul.card.warn.links {
            @for (index, scenario) in report.scenarios.iter().enumerate() {
                @for (number, (check, because)) in scenario.inconclusive_checks().enumerate() {
                    li {
                        (icon(Tone::Warn))
                        div {
                            a href={ "#" (inconclusive_anchor(index, number)) } {
                                (scenario.scenario) " › " (check.name)
                            }
                            p { (because) }
                        }
                    }
                }
            }
        }
    }
}

fn inconclusive_anchor(scenario: usize, inconclusive_check: usize) -> String {
    format!("inconclusive-{scenario}-{inconclusive_check}")
}

fn card(report: &Report, index: usize, scenario: &ScenarioReport) -> Markup {
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
                    (check_summary(Tone::Bad, check))
                    (failure(report, what))
                }
            }
            @for (number, (check, because)) in scenario.inconclusive_checks().enumerate() {
                details.check.warn open id=(inconclusive_anchor(index, number)) {
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

fn tone(result: ScenarioResult) -> Tone {
    match result {
        ScenarioResult::Held => Tone::Good,
        ScenarioResult::Failed => Tone::Bad,
        ScenarioResult::Skipped => Tone::Quiet,
        ScenarioResult::Inconclusive | ScenarioResult::Unproven | ScenarioResult::Unfinished => {
            Tone::Warn
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
                        @if let Outcome::Skipped { because } = &check.outcome {
                            tr { (name(Tone::Quiet, check)) td.evidence { (because) } }
                        }
                    }
                }
            }
        }
    }
}

/// Closed where a check failed: then the evidence of the others is not what is looked for.
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
                        @if let Outcome::Passed { seen } = &check.outcome {
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
