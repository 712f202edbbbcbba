//! What arrivals of an open profile ask: quotes, as anybody may.

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::{HeaderMap, Method};
use load_engine::open::{Check, Template};
use serde_json::Value;

use crate::money::price;

/// What the platform is seeded with.
const SYMBOLS: [&str; 4] = ["ECOPETROL", "ISA", "GEB", "CIBEST"];

/// Reads of quotes: all, one, its past.
pub fn templates() -> Vec<Template> {
    let one = |path: &dyn Fn(&str) -> String| SYMBOLS.map(path).to_vec();
    vec![
        template(
            "GET /market-data/quotes",
            6,
            vec!["/quotes".to_owned()],
            is_list_of_quotes,
        ),
        template(
            "GET /market-data/quotes/{symbol}",
            3,
            one(&|symbol| format!("/quotes/{symbol}")),
            |answer| price(&answer["price"]).is_some(),
        ),
        template(
            "GET /market-data/quotes/{symbol}/history",
            1,
            one(&|symbol| format!("/quotes/{symbol}/history?limit=50")),
            is_list_of_quotes,
        ),
    ]
}

fn template(
    name: &str,
    weight: u32,
    paths: Vec<String>,
    holds: impl Fn(&Value) -> bool + Send + Sync + 'static,
) -> Template {
    let reads = move |body: &[u8]| serde_json::from_slice(body).is_ok_and(|answer| holds(&answer));
    Template {
        name: name.to_owned(),
        weight,
        method: Method::GET,
        paths,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        good: Vec::new(),
        check: Some(Check {
            claim: "prices that are numbers above 0".to_owned(),
            holds: Arc::new(reads),
        }),
    }
}

fn is_list_of_quotes(answer: &Value) -> bool {
    let quotes = answer.as_array().filter(|quotes| !quotes.is_empty());
    quotes.is_some_and(|quotes| quotes.iter().all(|it| price(&it["price"]).is_some()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_prices_are_good_answers() {
        assert!(is_list_of_quotes(&json!([{"price": "1.50"}])));
        for wrong in [
            json!([]),
            json!({}),
            json!([{"price": "dear"}]),
            json!([{}]),
        ] {
            assert!(!is_list_of_quotes(&wrong), "{wrong}");
        }
    }
}
