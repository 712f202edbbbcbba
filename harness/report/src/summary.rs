//! `summary.md`: the summary of a CI job, in GitHub-flavoured Markdown.
//!
//! [`escaped`] and [`code`] keep text of the run from becoming Markdown.

use super::model::{Report, ScenarioReport, StageEnd};
use super::tone::Tone;
use base::duration::human;
use base::run::comparison::{ComparisonSummary, ComparisonVerdict};
use base::run::event::{Check, CheckOutcome, Failure};

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
    let mut text = format!(
        "# {} {}: {}\n\n**{}**\n\n",
        Tone::from(report.verdict).mark(),
        report.verdict,
        code(&format!("cargo xtask {}", report.command)),
        escaped(&report.headline)
    );
    let (versions, checkout) = (report.versions(), report.checkout.as_ref());
    let facts = [
        (!report.platform.is_empty()).then(|| format!("platform {}", escaped(&report.platform))),
        Some(format!("target {}", escaped(&report.target))),
        Some(format!("environment {}", escaped(&report.environment))),
        (!versions.is_empty()).then(|| format!("versions {}", escaped(&versions.join(", ")))),
        checkout.map(|it| format!("checkout {}", escaped(&it.to_string()))),
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
        text +=
            &format!("\n> Line {line} of the record was not completely written, and is skipped.\n");
    }
    if let Some(command) = report.cleanup_advice() {
        text += &format!(
            "\n> If no run is active, clean up what this one may have left: {}\n",
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
            "\n### {} was lost\n\n{} after {}. Its log: {}\n",
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
            format!("{} {}", Tone::from(it.result).mark(), it.result),
            escaped(&it.scenario),
            escaped(&it.claim),
            it.counts.to_string(),
            human(it.millis),
        ]
    });
    let heads = ["result", "scenario", "claim", "checks", "time"];
    format!("## Scenarios\n\n{}", table(heads, rows))
}

fn thresholds(report: &Report) -> String {
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
    section("Thresholds", heads, rows)
}

fn comparisons(report: &Report) -> String {
    let comparisons = report.comparisons.iter().map(comparison);
    comparisons.collect::<Vec<_>>().join("\n")
}

fn comparison(comparison: &ComparisonSummary) -> String {
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

fn verdict_mark(verdict: ComparisonVerdict) -> &'static str {
    match verdict {
        ComparisonVerdict::Unchanged | ComparisonVerdict::Improved => "✅",
        ComparisonVerdict::Inconclusive | ComparisonVerdict::NotComparable => "⚠️",
        ComparisonVerdict::Regressed => "❌",
    }
}

fn inconclusive(report: &Report) -> String {
    let checks = report.inconclusive_checks();
    let rows = checks.map(|(scenario, check, because)| reason_row(scenario, check, because));
    section("Inconclusive", ["check", "because"], rows)
}

fn skipped(report: &Report) -> String {
    let mut rows = Vec::new();
    for scenario in &report.scenarios {
        for check in &scenario.checks {
            if let CheckOutcome::Skipped { because } = &check.outcome {
                rows.push(reason_row(scenario, check, because));
            }
        }
    }
    section("Skipped", ["check", "because"], rows)
}

fn reason_row(scenario: &ScenarioReport, check: &Check, because: &str) -> [String; 2] {
    let place = format!("{} › {}", scenario.scenario, check.name);
    [escaped(&place), escaped(because)]
}

fn stages(report: &Report) -> String {
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
    section("Stages", heads, rows)
}

fn parts(report: &Report) -> String {
    let rows = report.parts.iter().map(|part| {
        [
            escaped(&part.name),
            escaped(&part.runs_as),
            code(&part.address),
            part.log.as_deref().map_or(String::new(), code),
        ]
    });
    let heads = ["part", "runs as", "address", "log"];
    section("Environment", heads, rows)
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

/// A section with a table. Empty if there are no rows.
fn section<const COLUMNS: usize>(
    title: &str,
    heads: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return String::new();
    }
    format!("## {title}\n\n{}", table(heads, rows))
}

fn table<const COLUMNS: usize>(
    heads: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut text = format!("| {} |\n", heads.join(" | "));
    text += &format!("|{}\n", "---|".repeat(COLUMNS));
    for row in rows {
        let cells = row.map(|cell| cell.replace('|', "\\|"));
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

/// Escapes Markdown and HTML, and keeps the text on one line. [`table`] escapes `|`.
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

/// Formats text as a code span.
fn code(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
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

/// Formats text as a code block.
fn code_block(text: &str) -> String {
    let fence = "`".repeat(longest_backtick_run(text).max(2) + 1);
    format!("{fence}sh\n{}\n{fence}\n", text.trim_end())
}

fn longest_backtick_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
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
