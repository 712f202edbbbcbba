//! Reports: whole in themselves, legible on a phone and a wide screen, and with the run's numbers.

use std::time::Duration;

use base::run::event::Failure;
use chromiumoxide::Browser;
use loadtests::bench::write_load_record;
use report::Report;

use super::chart::{self, Shown};
use super::chromium::{Tab, View, in_browser};
use super::samples::{Rendered, other_failures, samples};

/// The texts that are visible as a whole before the reader scrolls.
const FIRST_SCREEN: &str = r"[...document.querySelectorAll('h1, .headline, .reasons li')].filter(it => {
  const place = it.getBoundingClientRect();
  return place.height > 0 && place.bottom <= innerHeight && place.right <= innerWidth;
}).map(it => it.innerText)";

#[test]
fn a_report_loads_nothing_and_its_first_screen_names_what_failed() {
    in_browser(&[], async |browser| {
        for rendered in samples().into_iter().chain(other_failures()) {
            for view in View::ALL {
                opens(browser, &rendered, view).await;
            }
        }
    });
}

async fn opens(browser: &Browser, rendered: &Rendered, view: View) {
    let what = format!("{}, {view:?}", rendered.name);
    let mut tab = Tab::new(browser, view).await;
    tab.open(&rendered.url()).await;
    let first_screen: Vec<String> = tab.read(FIRST_SCREEN).await;
    let first_screen = words(&first_screen.join(" "));
    for text in named_first(&rendered.report) {
        assert!(
            first_screen.contains(&words(&text)),
            "{what}: {text:?} is not in {first_screen:?}"
        );
    }
    assert!(
        !tab.scrolls_sideways().await,
        "{what}: wider than the window"
    );
    let dark: bool = tab
        .read("matchMedia('(prefers-color-scheme: dark)').matches")
        .await;
    assert_eq!(dark, view.theme == "dark");
    assert_eq!(
        lightness(&tab).await < 0.5,
        dark,
        "{what}: the page's background"
    );
    assert_eq!(tab.messages(), [] as [String; 0], "{what}");
    let requests = tab.requests();
    let urls: Vec<&String> = requests.iter().map(|it| &it.request.url).collect();
    assert_eq!(urls, [&rendered.url()], "{what}");
    tab.page.close().await.unwrap();
}

/// The lightness of the page's background, 0 to 1.
async fn lightness(tab: &Tab) -> f64 {
    let colour: Vec<f64> = tab
        .read("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        .await;
    colour.iter().take(3).sum::<f64>() / 765.0
}

/// Returns what the first screen must say: the verdict with its reason, and each cause.
fn named_first(report: &Report) -> Vec<String> {
    let first_line = |text: &str| -> String {
        let line = text.lines().next().unwrap_or_default();
        line.chars().take(200).collect()
    };
    let seen = |failure: &Failure| first_line(&failure.seen);
    let mut texts = vec![report.verdict.to_string(), report.headline.clone()];
    texts.extend(report.failures.iter().map(|it| seen(&it.failure)));
    texts.extend(report.lost_parts.iter().map(|it| it.how.clone()));
    for (scenario, check, failure) in report.failed_checks() {
        texts.extend([scenario.scenario.clone(), check.name.clone(), seen(failure)]);
    }
    let open = report.inconclusive_checks();
    texts.extend(open.map(|(_, _, because)| because.to_owned()));
    texts
}

/// Spaces and line breaks are the page's.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_chart_has_the_numbers_of_the_run() {
    let record = |requests| {
        Rendered::from(&format!("{requests} requests"), |folder| {
            write_load_record(folder, requests)
        })
    };
    let (few, many) = (record(10), record(1_000_000));
    assert!(many.bytes() < 2_000_000, "{} bytes", many.bytes());
    assert_eq!(many.report.loads[0].whole.requests, 1_000_000);
    in_browser(&[], async |browser| {
        let mut charts = 0;
        for rendered in samples().iter().chain([&few, &many]) {
            charts += has_its_numbers(browser, rendered).await;
        }
        assert!(charts > 50, "only {charts} charts");
    });
}

/// Checks all numbers of a report. Returns the number of its charts.
async fn has_its_numbers(browser: &Browser, rendered: &Rendered) -> usize {
    let (name, report) = (&rendered.name, &rendered.report);
    let mut tab = Tab::new(browser, View::WIDE).await;
    tab.open(&rendered.url()).await;
    let shown: Vec<Shown> = tab.read(chart::READ).await;
    let expected = chart::expected(report);
    for chart in &expected {
        let found = shown.iter().find(|it| it.id == chart.id);
        found
            .unwrap_or_else(|| panic!("{name} has no chart {}", chart.id))
            .has(chart);
    }
    if let [load] = &report.loads[..] {
        let endpoints = load.endpoints.iter().map(|it| {
            let times = it
                .latency
                .as_ref()
                .map(|it| [it.p50, it.p95, it.p99, it.max]);
            let [p50, p95, p99, max] = times.unwrap_or_default();
            [
                it.requests,
                it.requests,
                it.failed,
                it.dropped,
                p50,
                p95,
                p99,
                max,
            ]
        });
        assert_eq!(
            endpoint_rows(&tab).await,
            Vec::from_iter(endpoints),
            "{name}"
        );
    }
    // From when the navigation began.
    let interactive: f64 = tab
        .read("performance.getEntriesByType('navigation')[0].domInteractive")
        .await;
    let limit = Duration::from_secs(10);
    assert!(
        interactive < limit.as_secs_f64() * 1000.0,
        "{name}: interactive after {interactive} ms"
    );
    assert_eq!(tab.messages(), [] as [String; 0], "{name}");
    tab.page.close().await.unwrap();
    expected.len()
}

/// Returns the exact values in the table of endpoints, row by row.
async fn endpoint_rows(tab: &Tab) -> Vec<[u64; 8]> {
    tab.read("[...document.querySelectorAll('.sortable tbody tr')].map(row => [...row.cells].slice(1).map(it => +it.dataset.value))").await
}

#[test]
fn the_table_of_endpoints_is_sorted_by_a_click_and_by_a_key() {
    const P95: usize = 5;
    let button = ".sortable th:nth-child(7) button";
    let order = "document.querySelector('.sortable th:nth-child(7)').ariaSort";
    let stress = of("stress");
    in_browser(&[], async |browser| {
        let mut tab = Tab::new(browser, View::WIDE).await;
        tab.open(&stress.url()).await;
        let before = endpoint_rows(&tab).await;
        let times = |rows: &[[u64; 8]]| -> Vec<u64> { rows.iter().map(|row| row[P95]).collect() };
        let mut ascending = times(&before);
        ascending.sort_unstable();
        let descending: Vec<u64> = ascending.iter().rev().copied().collect();
        assert_ne!(times(&before), descending, "the click shows nothing");
        tab.click(button).await;
        assert_eq!(times(&endpoint_rows(&tab).await), descending);
        assert_eq!(tab.read::<String>(order).await, "descending");
        tab.press(button, &["Enter"]).await;
        assert_eq!(times(&endpoint_rows(&tab).await), ascending);
        assert_eq!(tab.read::<String>(order).await, "ascending");
        tab.press(button, &["Tab"]).await;
        let focused: String = tab.read("document.activeElement.textContent").await;
        assert_eq!(focused, "p99, ms");
        assert_eq!(tab.messages(), [] as [String; 0]);
    });
}

#[test]
fn a_report_says_the_same_without_scripts() {
    let text = "(() => { for (const it of document.querySelectorAll('details')) it.open = true; return document.body.innerText })()";
    in_browser(&[], async |browser| {
        for name in ["stress", "failed", "release"] {
            let rendered = of(name);
            let (with, mut without) = (
                Tab::new(browser, View::WIDE).await,
                Tab::new(browser, View::WIDE).await,
            );
            without.without_scripts().await;
            for tab in [&with, &without] {
                tab.open(&rendered.url()).await;
            }
            assert!(
                !without
                    .read::<bool>("!!document.querySelector('.sortable button')")
                    .await
            );
            let (with, text): (String, String) = (with.read(text).await, without.read(text).await);
            assert!(text.contains(&rendered.report.headline), "{name}");
            assert_eq!(with, text, "{name}");
            assert_eq!(without.messages(), [] as [String; 0], "{name}");
        }
    });
}

fn of(name: &str) -> Rendered {
    let mut samples = samples().into_iter();
    samples.find(|it| it.name == name).unwrap()
}
