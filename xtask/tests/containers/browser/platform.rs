//! The platform's own page: an investor logs in and sees the portfolio, through the gateway.

use chromiumoxide::Browser;
use environments::environment::Environment;
use serde_json::Value;

use super::chromium::{Tab, View, in_browser};
use crate::rig::Rig;

const PORTFOLIO: &str = "/api/analysis-engine/analysis/portfolio";

#[test]
fn an_investor_logs_in_and_sees_the_portfolio_that_the_gateway_answers() {
    let rig = Rig::new();
    rig.up();
    let environment = rig.typed_environment();
    let password = &rig.secrets()["demo_password"];
    let hosts = format!("MAP {} 127.0.0.1", environment.site_host);
    in_browser(&[("host-resolver-rules", &hosts)], async |browser| {
        log_in(browser, &environment, password).await;
    });
    rig.run(&["down"]).expect_code(0);
}

async fn log_in(browser: &Browser, environment: &Environment, password: &str) {
    let site = environment.entry.url(&environment.site_host);
    let mut tab = Tab::new(browser, View::WIDE).await;
    tab.open(&site).await;
    fits(&tab).await;
    assert!(
        tab.read::<bool>("document.getElementById('desk').hidden")
            .await
    );
    tab.write("#investor", "demo").await;
    tab.write("#password", password).await;
    tab.press("#password", &["Enter"]).await;
    tab.becomes("document.getElementById('answered').textContent !== ''")
        .await;
    let requests = tab.requests();
    let portfolio = requests
        .iter()
        .rfind(|it| it.request.url.ends_with(PORTFOLIO));
    let portfolio = tab.answer(portfolio.expect("the page asks for it")).await;
    shows(&tab, &serde_json::from_str(&portfolio).unwrap()).await;
    fits(&tab).await;
    for request in &requests {
        let url = &request.request.url;
        assert!(
            url.starts_with(&format!("{site}/")),
            "{url} is not of {site}"
        );
    }
    assert_eq!(tab.messages(), [] as [String; 0]);
    tab.click("#leave").await;
    let left: String = tab
        .read("document.getElementById('value').textContent")
        .await;
    assert_eq!(left, "–", "nothing of the investor's is left");
    assert!(
        !tab.read::<bool>("document.getElementById('door').hidden")
            .await
    );
}

/// Checks that the page is not wider than the window.
async fn fits(tab: &Tab) {
    for view in View::ALL {
        tab.show(view).await;
        assert!(!tab.scrolls_sideways().await, "{view:?}");
    }
}

/// Checks what the page shows against the answer of the API.
async fn shows(tab: &Tab, portfolio: &Value) {
    let text = |id: &str| format!("document.getElementById('{id}').textContent");
    for (id, key) in [
        ("value", "value"),
        ("cash", "cash"),
        ("profit", "unrealised_profit"),
    ] {
        assert_eq!(
            number(&tab.read::<String>(&text(id)).await),
            amount(&portfolio[key]),
            "{id}"
        );
    }
    let rows: Vec<Vec<String>> = tab
        .read("[...document.querySelectorAll('#positions tbody tr')].map(row => [...row.cells].map(it => it.textContent))")
        .await;
    let positions = portfolio["positions"].as_array().unwrap();
    assert!(!positions.is_empty(), "demo is seeded with positions");
    assert_eq!(rows.len(), positions.len());
    for (row, position) in rows.iter().zip(positions) {
        assert_eq!(position["symbol"], row[0]);
        for (cell, key) in
            row[1..]
                .iter()
                .zip(["quantity", "price", "market_value", "unrealised_profit"])
        {
            assert_eq!(number(cell), amount(&position[key]), "{key} of {}", row[0]);
        }
        let percent = 100.0 * amount(&position["weight"]);
        assert!(
            (number(row[5].trim_end_matches(" %")) - percent).abs() <= 0.05,
            "{row:?}"
        );
    }
    let visible: bool = tab
        .read("document.getElementById('positions').checkVisibility()")
        .await;
    assert!(visible);
    let answered: String = tab.read(&text("answered")).await;
    assert!(
        answered.contains("analysis-engine-service v2.1.0"),
        "{answered}"
    );
}

/// Parses an amount as the page writes it: `+1,234.50`, `−3.00`.
fn number(text: &str) -> f64 {
    let text = text.replace([',', '+'], "").replace('\u{2212}', "-");
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// An amount in the API, which is a text, or a count.
fn amount(value: &Value) -> f64 {
    let parsed = value.as_str().map(|text| text.parse().unwrap());
    parsed
        .or(value.as_f64())
        .unwrap_or_else(|| panic!("{value} is no number"))
}
