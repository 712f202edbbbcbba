//! `summary.md`: what a person reads first, in the summary of a CI job.
//!
//! GitHub-flavoured Markdown. Text of the run never forms Markdown of its own:
//! [`escaped`] and [`code`] stand between.

use std::fmt::Write;

use super::model::{Report, ScenarioResult, StageEnd};
use super::verdict::Verdict;
use crate::duration::human;
use crate::run::comparison::{self, Comparison};
use crate::run::event::{Failure, Outcome};

/// Renders `summary.md`.
pub(super) fn render(report: &Report) -> String {
    let sections = [
        head(report),
        failures(report),
        scenarios(report),
        thresholds(report),
        comparisons(report),
        inconclusive(report),
        skipped(report),
        stages(report),
        parts(report),
        notes(report),
        again(report),
    ];
    let sections: Vec<_> = sections.into_iter().filter(|it| !it.is_empty()).collect();
    sections.join("\n")
}

fn head(report: &Report) -> String {
    let mark = match report.verdict {
        Verdict::Held => "✅",
        Verdict::Failed | Verdict::NotHad => "❌",
        _ => "⚠️",
    };
    let mut text = format!(
        "# {mark} {}: {}\n\n**{}**\n\n",
        report.verdict,
        code(&format!("cargo xtask {}", report.command)),
        escaped(&report.headline())
    );
    let facts = [
        Some(format!("target {}", escaped(&report.target))),
        Some(format!("environment {}", escaped(&report.environment))),
        Some(report.judged()),
        Some(human(report.millis)),
        report.exit_code.map(|it| format!("exit code {}", it as u8)),
        report.host.as_ref().map(|it| escaped(&it.to_string())),
        Some(format!("run {}", code(&report.run))),
    ];
    let facts: Vec<_> = facts.into_iter().flatten().collect();
    text += &facts.join(" · ");
    text.push('\n');
    if let Some(line) = report.torn_line {
        text += &format!(
            "\n> Line {line} of the record was cut short in the middle of a write and is left out.\n"
        );
    }
    if let Some(command) = report.cleanup_advice() {
        text += &format!(
            "\n> If no run is going on, clean up what this one may have left: {}\n",
            code(command)
        );
    }
    text
}

fn failures(report: &Report) -> String {
    let mut text = String::new();
    for it in &report.failures {
        let place = it.stage.map_or("run".to_owned(), |stage| stage.to_string());
        text += &failure(&place, &it.failure);
    }
    for (scenario, check, it) in report.failed_checks() {
        let place = format!("{} › {}", scenario.scenario, check.name);
        text += &failure(&place, it);
    }
    for lost in &report.lost_parts {
        text += &format!(
            "\n### {} was lost\n\n{} after {}. Its last words: {}\n",
            escaped(&lost.part),
            escaped(&lost.how),
            human(lost.after_millis),
            code(&lost.log)
        );
    }
    if text.is_empty() {
        return text;
    }
    format!("## What went wrong\n{text}")
}

fn failure(place: &str, failure: &Failure) -> String {
    let rows = table(
        ["", ""],
        [
            ["expected".to_owned(), escaped(&failure.expected)],
            ["seen".to_owned(), escaped(&failure.seen)],
            ["look at".to_owned(), code(&failure.look_at)],
        ],
    );
    format!(
        "\n### {}\n\n{}\n\n{rows}\nNext:\n\n{}",
        escaped(place),
        escaped(&failure.what),
        code_block(&failure.next)
    )
}

fn scenarios(report: &Report) -> String {
    if report.scenarios.is_empty() && report.is_of_load() {
        return String::new();
    }
    if report.scenarios.is_empty() {
        return "## Scenarios\n\nNone ran.\n".to_owned();
    }
    let rows = report.scenarios.iter().map(|it| {
        [
            format!("{} {}", scenario_mark(it.result), it.result),
            escaped(&it.scenario),
            escaped(&it.claim),
            it.counts.to_string(),
            human(it.millis),
        ]
    });
    let heads = ["result", "scenario", "claim", "checks", "time"];
    format!("## Scenarios\n\n{}", table(heads, rows))
}

fn scenario_mark(result: ScenarioResult) -> &'static str {
    match result {
        ScenarioResult::Held => "✅",
        ScenarioResult::Failed => "❌",
        ScenarioResult::Skipped => "⏭️",
        ScenarioResult::Inconclusive | ScenarioResult::Unproven | ScenarioResult::Unfinished => {
            "⚠️"
        }
    }
}

fn thresholds(report: &Report) -> String {
    if report.thresholds.is_empty() {
        return String::new();
    }
    let rows = report.thresholds.iter().map(|it| {
        let result = if it.holds { "✅ holds" } else { "❌ fails" };
        [
            result.to_owned(),
            escaped(&it.of),
            code(&it.threshold),
            escaped(&it.seen),
        ]
    });
    let heads = ["result", "load", "threshold", "seen"];
    format!("## Thresholds\n\n{}", table(heads, rows))
}

fn comparisons(report: &Report) -> String {
    let comparisons = report.comparisons.iter().map(comparison);
    comparisons.collect::<Vec<_>>().join("\n")
}

fn comparison(comparison: &Comparison) -> String {
    let mut text = format!(
        "## Verdicts\n\n{}: **{}**\n",
        escaped(&comparison.of),
        comparison.verdict
    );
    for obstacle in &comparison.obstacles {
        text += &format!("\nNot comparable: {}\n", escaped(obstacle));
    }
    if comparison.rows.is_empty() {
        return text;
    }
    let rows = comparison.rows.iter().map(|row| {
        [
            format!("{} {}", verdict_mark(row.verdict), row.verdict),
            escaped(&row.endpoint),
            escaped(&row.metric),
            escaped(&row.a),
            escaped(&row.b),
            escaped(&row.change),
            escaped(&row.reason),
        ]
    });
    let heads = [
        "verdict", "endpoint", "metric", "A", "B", "change", "reason",
    ];
    format!("{text}\n{}", table(heads, rows))
}

fn verdict_mark(verdict: comparison::Verdict) -> &'static str {
    match verdict {
        comparison::Verdict::Unchanged | comparison::Verdict::Improved => "✅",
        comparison::Verdict::Inconclusive | comparison::Verdict::NotComparable => "⚠️",
        comparison::Verdict::Regressed => "❌",
    }
}

fn inconclusive(report: &Report) -> String {
    let rows = report
        .inconclusive_checks()
        .map(|(scenario, check, because)| {
            let place = format!("{} › {}", scenario.scenario, check.name);
            [escaped(&place), escaped(because)]
        });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("## Inconclusive\n\n{}", table(["check", "because"], rows))
}

fn skipped(report: &Report) -> String {
    let mut rows = Vec::new();
    for scenario in &report.scenarios {
        for check in &scenario.checks {
            if let Outcome::Skipped { because } = &check.outcome {
                let place = format!("{} › {}", scenario.scenario, check.name);
                rows.push([escaped(&place), escaped(because)]);
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!("## Skipped\n\n{}", table(["check", "because"], rows))
}

fn stages(report: &Report) -> String {
    if report.stages.is_empty() {
        return String::new();
    }
    let mut rows = Vec::new();
    for stage in &report.stages {
        let result = match stage.end {
            StageEnd::Done => stage.end.to_string(),
            _ => format!("**{}**", stage.end),
        };
        rows.push([
            format!("**{}**", stage.stage),
            result,
            human(stage.start_millis),
            human(stage.millis),
        ]);
        for step in &stage.steps {
            rows.push([
                format!("↳ {}", escaped(&step.step)),
                String::new(),
                human(step.start_millis),
                human(step.millis),
            ]);
        }
    }
    let heads = ["stage", "result", "began after", "time"];
    format!("## Stages\n\n{}", table(heads, rows))
}

fn parts(report: &Report) -> String {
    if report.parts.is_empty() {
        return String::new();
    }
    let rows = report.parts.iter().map(|part| {
        [
            escaped(&part.name),
            escaped(&part.runs_as),
            code(&part.address),
            part.log.as_deref().map_or(String::new(), code),
        ]
    });
    let heads = ["part", "runs as", "address", "log"];
    format!("## Environment\n\n{}", table(heads, rows))
}

fn notes(report: &Report) -> String {
    let notes: String = report
        .notes()
        .map(|(stage, note)| format!("- {stage}: {}\n", escaped(note)))
        .collect();
    if notes.is_empty() {
        return notes;
    }
    format!("## Notes\n\n{notes}")
}

fn again(report: &Report) -> String {
    format!(
        "## Again\n\n{}",
        code_block(&format!(
            "cargo xtask {}  # run it again\ncargo xtask report {}  # render this report again",
            report.command, report.run
        ))
    )
}

fn table<const COLUMNS: usize>(
    heads: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut text = format!("| {} |\n", heads.join(" | "));
    text += &format!("|{}\n", "---|".repeat(COLUMNS));
    for row in rows {
        // Infallible: the text is in memory.
        let cells = row.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// Text as text: nothing in it is read as Markdown or HTML, and it stays on one line.
/// [`table`] takes care of the `|`.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.trim().chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '\n' => escaped += "<br>",
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '#' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ if character.is_control() => {}
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Text as a code span.
fn code(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect();
    if line.trim().is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_backtick_run(&line) + 1);
    let pad = if line.starts_with('`') || line.ends_with('`') {
        " "
    } else {
        ""
    };
    format!("{fence}{pad}{line}{pad}{fence}")
}

/// Text as a code block of its own.
fn code_block(text: &str) -> String {
    let fence = "`".repeat(longest_backtick_run(text).max(2) + 1);
    format!("{fence}sh\n{}\n{fence}\n", text.trim_end())
}

fn longest_backtick_run(text: &str) -> usize {
    text.split(|it| it != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_a_table_or_become_markup() {
        assert_eq!(
            table(["", ""], [[escaped("a|b\nc"), code("d|e")]]),
            "|  |  |\n|---|---|\n| a\\|b<br>c | `d\\|e` |\n"
        );
        assert_eq!(
            escaped("<img src=x> **b** _i_ [l](u) `c`"),
            "&lt;img src=x&gt; \\*\\*b\\*\\* \\_i\\_ \\[l\\](u) \\`c\\`"
        );
    }

    #[test]
    fn a_code_span_has_a_longer_fence_than_its_text() {
        assert_eq!(code("cargo xtask up"), "`cargo xtask up`");
        assert_eq!(code("a `b` ``c"), "```a `b` ``c```");
        assert_eq!(code("`b`"), "`` `b` ``");
        assert_eq!(code("a | b\nc"), "`a | b c`");
        assert_eq!(code(" "), "");
    }

    #[test]
    fn a_code_block_has_a_longer_fence_than_its_text() {
        assert_eq!(code_block("ls"), "```sh\nls\n```\n");
        assert_eq!(code_block("```\nls"), "````sh\n```\nls\n````\n");
    }
}
