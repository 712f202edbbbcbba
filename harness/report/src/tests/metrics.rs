//! Tests of `metrics.txt`.

use std::collections::HashSet;

use super::*;

/// Returns the samples of a file, as name and labels, and checks what OpenMetrics asks of lines.
fn series(text: &str) -> Vec<(String, f64)> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().expect(line))
    });
    series.collect()
}

/// Checks that no two samples are of one series, and all are of a gauge that is declared above.
pub(super) fn assert_valid(text: &str) {
    let series = series(text);
    let different: HashSet<_> = series.iter().map(|(series, _)| series).collect();
    assert_eq!(different.len(), series.len(), "{text}");
    let mut gauges = HashSet::new();
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(declared) => {
                let name = declared.strip_suffix(" gauge").unwrap();
                assert!(gauges.insert(name.to_owned()), "{name} twice");
            }
            None if line.starts_with('#') => {}
            None => {
                let end = line.find(['{', ' ']).unwrap();
                assert!(gauges.contains(&line[..end]), "{line}");
            }
        }
    }
}

#[test]
fn a_run_can_be_charted_beside_others() {
    let text = openmetrics::render(&Report::from_events(&sample("load"))).unwrap();
    let of_run: Vec<_> = text.lines().filter(|it| it.contains("20260302")).collect();
    assert_eq!(of_run.len(), 1, "the id is a label of the info alone");
    assert!(of_run[0].starts_with("rehearsal_run_info{"), "{of_run:?}");
    let command = r#"command="load run smoke""#;
    assert!(series(&text).iter().all(|(it, _)| it.contains(command)));
}

#[test]
fn text_of_a_label_stays_one() {
    let report = Report {
        platform: "a \"b\"\\ c\nd 1".into(),
        ..Report::default()
    };
    let text = openmetrics::render(&report).unwrap();
    assert_valid(&text);
    assert!(text.contains(r#"{platform="a \"b\"\\ c\nd 1","#), "{text}");
}

#[test]
fn the_load_of_two_runs_with_one_name_is_a_series_once() {
    let mut report = Report::from_events(&sample("load"));
    report.loads.extend(report.loads.clone());
    report.releases = Report::from_events(&sample("release")).releases;
    report.releases.extend(report.releases.clone());
    report.comparisons = Report::from_events(&sample("regressed")).comparisons;
    report.comparisons.extend(report.comparisons.clone());
    assert_valid(&openmetrics::render(&report).unwrap());
}
