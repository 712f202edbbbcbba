//! Tests of the charts: the numbers in their tables, and that the SVG has a line for each series.

use base::run::load::{
    BLOCKS_AT_MOST, BlockValues, CURVES_AT_MOST, EndpointMeasurement, FailureCount,
    GeneratorHealth, Limit, Limited, LoadMeasurement, Percentiles,
};
use base::run::release::{
    ColourReplicas, LaneTraffic, LatencyBlocks, PhaseTraffic, ReleaseTraffic,
};

use super::*;

fn page(name: &str) -> String {
    html::render(&Report::from_events(&sample(name)))
}

/// Returns the figure with this id.
fn figure<'a>(page: &'a str, id: &str) -> &'a str {
    let start = page.find(&format!("id=\"{id}\"><figcaption>"));
    let figure = &page[start.unwrap_or_else(|| panic!("no chart {id}"))..];
    &figure[..figure.find("</figure>").unwrap()]
}

/// Returns the roles of the lines in a figure, by the colour that stands for each.
fn roles(figure: &str) -> Vec<u8> {
    let series = figure.split("<polyline").skip(1);
    let colours = series.filter_map(|it| it.split_once("stroke=\"#0000")?.1.get(..2));
    let mut roles: Vec<u8> = colours.map(|it| it.parse().unwrap()).collect();
    roles.sort_unstable();
    roles.dedup();
    // From 10 on, it is the axes.
    roles.retain(|role| *role < 10);
    roles
}

fn rows(figure: &str) -> Vec<Vec<String>> {
    let body = figure.split_once("<tbody>").unwrap().1;
    let rows = body.split("<tr>").skip(1);
    let cells = |row: &str| {
        let cells = row
            .split("</t")
            .map(|it| it.rsplit_once('>').map_or("", |(_, it)| it));
        let cells = cells.filter(|it| !it.is_empty());
        cells.map(str::to_owned).collect()
    };
    rows.map(cells).collect()
}

#[test]
fn each_chart_of_a_load_has_its_lines_and_the_same_numbers_as_a_table() {
    let page = page("stress");
    for (id, expected, count) in [
        ("rate", vec![1, 2, 4], 60),
        ("latency", vec![1, 2, 3, 5], 60),
        ("percentiles", vec![1, 3, 5], 31),
        ("failures", vec![4, 5], 60),
        ("endpoint-3", vec![1, 5], 60),
    ] {
        let figure = figure(&page, id);
        assert_eq!(roles(figure), expected, "{id}");
        assert_eq!(rows(figure).len(), count, "{id}");
        for part in [
            "role=\"img\"",
            "<title id=",
            "<desc id=",
            "<summary>Numbers",
        ] {
            assert!(figure.contains(part), "{id} has no {part}");
        }
    }
    let rate = rows(figure(&page, "rate"));
    // Asked for, held, dropped: the platform stalled from 34 s to 39 s.
    assert_eq!(rate[0], ["0 s", "20", "20", "0"]);
    assert_eq!(rate[34][1], "120");
    assert_ne!(rate[34][3], "0");
    let curve = rows(figure(&page, "percentiles"));
    assert_eq!(curve[0][0], "0 %");
    assert_eq!(curve[24][0], "99.9 %");
    let thresholds = figure(&page, "latency");
    assert!(thresholds.contains("http_req_duration: p(95)&lt;20 fails</li>"));
}

#[test]
fn the_table_of_endpoints_sorts_by_exact_values_and_is_whole_without_scripts() {
    let page = page("stress");
    let table = page.split_once("<div class=\"sortable\">").unwrap().1;
    let table = &table[..table.find("</table>").unwrap()];
    assert_eq!(rows(table).len(), 4);
    assert!(table.contains("<td class=\"time\" data-value="));
    assert_eq!(page.matches("<script>").count(), 1);
    assert_eq!(page.matches("script-src 'sha256-").count(), 1);
    assert!(page.contains("<th scope=\"row\">no answer in time</th>"));
}

#[test]
fn users_who_set_the_rate_are_asked_for_none() {
    let page = page("load");
    let rate = figure(&page, "rate");
    assert_eq!(roles(rate), [1]);
    assert!(rate.contains("They set the rate by waiting for answers"));
    assert!(!page.contains("id=\"failures\""), "nothing failed");
}

#[test]
fn a_release_shows_who_answered_in_each_lane_with_its_phases_and_gap() {
    let page = page("release");
    let pooled = figure(&page, "release-0-lane-1");
    assert_eq!(roles(pooled), [1, 2, 4, 6]);
    assert!(pooled.contains("pooled, outside: answers/s by version"));
    assert!(pooled.contains("without a good answer was 312 ms, from 23.4 s"));
    assert!(
        pooled.contains("3: after the last blue, 25 s</li>"),
        "{pooled}"
    );
    let rows = rows(pooled);
    assert_eq!(rows[0], ["0 s", "150", "0", "0"]);
    assert_eq!(rows[46][3], "6");
    assert_eq!(rows[89], ["44.5 s", "0", "150", "0"]);
    assert_eq!(roles(figure(&page, "release-0-lane-0")), [1, 2, 6]);
    assert!(page.contains("<th scope=\"row\">patch to first green</th>"));
}

/// The limits of the record keep the page small: here are the most blocks and endpoints, and all
/// counts and times have as many digits as those of a million requests.
#[test]
fn the_page_of_a_long_load_is_smaller_than_2_mb() {
    let blocks = usize::try_from(BLOCKS_AT_MOST).unwrap();
    let times = |it: u64| {
        (0..blocks as u64)
            .map(|at| Some(it + at * 7919 % 100_000))
            .collect()
    };
    let values = || BlockValues {
        arrivals: vec![8333; blocks],
        requests: vec![8333; blocks],
        failed: vec![123; blocks],
        dropped: vec![456; blocks],
        p50: times(41_234),
        p95: times(141_234),
        p99: times(941_234),
    };
    let endpoint = |number: usize| EndpointMeasurement {
        name: format!("GET /api/market-data/quotes/{{symbol}}/history/{number}"),
        requests: 2_000,
        latency: Some(Percentiles::default()),
        blocks: (number < CURVES_AT_MOST).then(values),
        ..EndpointMeasurement::default()
    };
    let load = LoadMeasurement {
        block_millis: 30_000,
        asked: vec![8789.5; blocks],
        whole: endpoint(0),
        endpoints: (0..500).map(endpoint).collect(),
        ..LoadMeasurement::default()
    };
    let begun = std::time::Instant::now();
    let page = html::render(&report_of([Happening::LoadMeasured {
        load: Box::new(load),
    }]));
    println!("{} bytes in {:?}", page.len(), begun.elapsed());
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
}

/// A load and a release whose lists may have different lengths, and any numbers.
pub(super) fn any_measurement() -> impl Strategy<Value = Happening> {
    prop_oneof![
        any_load().prop_map(|load| Happening::LoadMeasured {
            load: Box::new(load)
        }),
        any_release().prop_map(|traffic| Happening::ReleaseObserved {
            traffic: Box::new(traffic)
        }),
    ]
}

fn counts() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(any_millis(), 0..4)
}

fn times() -> impl Strategy<Value = Vec<Option<u64>>> {
    prop::collection::vec(prop::option::of(any_millis()), 0..4)
}

fn any_load() -> impl Strategy<Value = LoadMeasurement> {
    let percentiles = (
        any_millis(),
        prop::collection::vec((0.0..=100.0, any_millis()), 0..4),
    );
    let percentiles = percentiles.prop_map(|(p50, curve)| Percentiles {
        p50,
        curve,
        ..Percentiles::default()
    });
    let blocks = (counts(), counts(), times(), times());
    let endpoint = (
        any_text(),
        any_millis(),
        percentiles,
        prop::option::of(blocks),
    );
    let endpoint = endpoint.prop_map(|(name, requests, latency, blocks)| EndpointMeasurement {
        name,
        requests,
        failed: requests,
        dropped: requests,
        latency: Some(latency),
        blocks: blocks.map(|(requests, failed, p50, p95)| BlockValues {
            arrivals: requests.clone(),
            dropped: failed.clone(),
            requests,
            failed,
            p99: p95.clone(),
            p50,
            p95,
        }),
    });
    let endpoints = prop::collection::vec(endpoint, 1..3);
    (endpoints, any_text(), any_millis(), any::<bool>()).prop_map(|(endpoints, text, it, holds)| {
        LoadMeasurement {
            of: text.clone(),
            side: holds.then(|| "A".to_owned()),
            block_millis: it,
            asked: vec![1.5; usize::from(holds)],
            whole: endpoints[0].clone(),
            failures: vec![FailureCount {
                endpoint: text.clone(),
                reason: text.clone(),
                count: it,
            }],
            generator: GeneratorHealth {
                lag: endpoints[0].latency.clone(),
                bottleneck: holds.then(|| text.clone()),
                ..GeneratorHealth::default()
            },
            limits: vec![Limit {
                threshold: text,
                endpoints: Vec::new(),
                of: Limited::Latency,
                limit: it as f64,
                holds,
            }],
            endpoints,
            ..LoadMeasurement::default()
        }
    })
}

fn any_release() -> impl Strategy<Value = ReleaseTraffic> {
    let lane = (any_text(), counts(), counts());
    let lane = lane.prop_map(|(lane, old, failed)| LaneTraffic {
        lane,
        new: failed.clone(),
        other: failed.clone(),
        old,
        failed,
        ..LaneTraffic::default()
    });
    let lanes = prop::collection::vec(lane, 0..3);
    (any_text(), any_millis(), lanes, times()).prop_map(|(text, it, lanes, p50)| ReleaseTraffic {
        scenario: text.clone(),
        old: text.clone(),
        new: text.clone(),
        block_millis: it,
        phases: vec![PhaseTraffic {
            phase: text,
            from_millis: it,
            ..PhaseTraffic::default()
        }],
        lanes,
        replicas: vec![ColourReplicas {
            colour: String::new(),
            ready: p50.clone(),
        }],
        latency: LatencyBlocks {
            p99: p50.clone(),
            p50,
        },
    })
}
