//! The requests of an open profile: quotes, which need no token.

use std::sync::Arc;

use load_engine::open::{BodyCheck, Template};
use serde_json::Value;

use crate::money::price;

/// The seeded symbols of the platform.
const SYMBOLS: [&str; 4] = ["ECOPETROL", "ISA", "GEB", "CIBEST"];

/// Returns the requests for all quotes, for one, and for its history.
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
    let check = move |body: &[u8]| serde_json::from_slice(body).is_ok_and(|answer| holds(&answer));
    Template {
        name: name.to_owned(),
        weight,
        paths,
        check: Some(BodyCheck {
            claim: "prices that are numbers above 0".to_owned(),
            holds: Arc::new(check),
        }),
        ..Template::get(name)
    }
}

fn is_list_of_quotes(answer: &Value) -> bool {
    let quotes = answer.as_array().filter(|quotes| !quotes.is_empty());
    quotes.is_some_and(|quotes| quotes.iter().all(|quote| price(&quote["price"]).is_some()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_without_prices_is_wrong() {
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
