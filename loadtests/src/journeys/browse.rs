//! An investor browses quotes: all of them, one of them, its past.

use std::sync::Arc;

use goose::goose::{GooseUser, Transaction, TransactionResult};
use goose::transaction;
use jiff::Timestamp;
use load_generator::money::price;
use serde_json::Value;

use super::answer::{Wrong, claim, moment};
use super::visitor::Visitor;
use super::{arrives, endpoint};
use crate::closed::Ground;

/// How much of the past is looked at.
const HISTORY: usize = 50;

const PRICED: &str = "a price that is a number above 0";
const OF_SYMBOL: &str = "the symbol that was asked for";

#[derive(Clone)]
struct Browser {
    visitor: Visitor,
    /// What it looks at.
    symbol: Option<String>,
}

pub(super) fn steps(ground: &Arc<Ground>) -> Vec<Transaction> {
    let arrive = arrives(ground, |visitor| Browser {
        visitor,
        symbol: None,
    });
    vec![
        arrive,
        transaction!(looks_at_all),
        transaction!(looks_at_one),
        transaction!(looks_back),
    ]
}

async fn looks_at_all(user: &mut GooseUser) -> TransactionResult {
    let browser: &mut Browser = user.get_session_data_unchecked_mut();
    let path = "/api/market-data/quotes";
    let question = browser.visitor.get(endpoint::QUOTES, path);
    browser.symbol = question.signed().judged(any_symbol).await;
    Ok(())
}

async fn looks_at_one(user: &mut GooseUser) -> TransactionResult {
    let browser: &mut Browser = user.get_session_data_unchecked_mut();
    if let Some(symbol) = &browser.symbol {
        let path = format!("/api/market-data/quotes/{symbol}");
        let question = browser.visitor.get(endpoint::QUOTE, &path);
        let judge = |quote: &Value| {
            claim(OF_SYMBOL, quote["symbol"] == symbol.as_str())?;
            claim(PRICED, price(&quote["price"]).is_some())
        };
        question.signed().judged(judge).await;
    }
    Ok(())
}

async fn looks_back(user: &mut GooseUser) -> TransactionResult {
    let browser: &mut Browser = user.get_session_data_unchecked_mut();
    if let Some(symbol) = &browser.symbol {
        let path = format!("/api/market-data/quotes/{symbol}/history?limit={HISTORY}");
        let question = browser.visitor.get(endpoint::HISTORY, &path);
        let judge = |history: &Value| is_history(history, symbol);
        question.signed().judged(judge).await;
    }
    Ok(())
}

/// One of the symbols, each of which has a price.
fn any_symbol(quotes: &Value) -> Result<String, Wrong> {
    let quotes = quotes.as_array().filter(|quotes| !quotes.is_empty());
    let quotes = quotes.ok_or("a list of quotes")?;
    let priced = quotes.iter().all(|it| price(&it["price"]).is_some());
    claim(PRICED, priced)?;
    let any = &quotes[rand::random_range(0..quotes.len())];
    let symbol = any["symbol"].as_str().filter(|symbol| !symbol.is_empty());
    symbol.map(str::to_owned).ok_or("a symbol to each price")
}

fn is_history(history: &Value, symbol: &str) -> Result<(), Wrong> {
    let history = history.as_array().ok_or("a list of past quotes")?;
    let as_many = (1..=HISTORY).contains(&history.len());
    claim("as many past quotes as were asked for", as_many)?;
    let mut quotes = history.iter();
    claim(OF_SYMBOL, quotes.all(|it| it["symbol"] == symbol))?;
    let mut quotes = history.iter();
    claim(PRICED, quotes.all(|it| price(&it["price"]).is_some()))?;
    let moments: Option<Vec<Timestamp>> = history.iter().map(|it| moment(&it["at"])).collect();
    let in_order = moments.is_some_and(|moments| moments.is_sorted());
    claim("past quotes from the oldest to the newest", in_order)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quote(symbol: &str, price: &str, minute: u32) -> Value {
        json!({"symbol": symbol, "price": price, "at": format!("2026-01-05T14:{minute:02}:00Z")})
    }

    #[test]
    fn quotes_have_symbols_and_prices() {
        let good = json!([quote("ISA", "1.50", 0)]);
        assert_eq!(any_symbol(&good), Ok("ISA".to_owned()));
        for (wrong, claim) in [
            (json!([]), "a list of quotes"),
            (json!({}), "a list of quotes"),
            (json!([quote("ISA", "dear", 0)]), PRICED),
            (json!([quote("", "1.50", 0)]), "a symbol to each price"),
        ] {
            assert_eq!(any_symbol(&wrong), Err(claim), "{wrong}");
        }
    }

    #[test]
    fn the_past_is_of_the_symbol_and_in_order() {
        let history = |quotes: &[Value]| is_history(&json!(quotes), "ISA");
        let (first, second) = (quote("ISA", "1.50", 0), quote("ISA", "1.60", 1));
        assert_eq!(history(&[first.clone(), second.clone()]), Ok(()));
        assert!(history(&[second, first.clone()]).is_err());
        assert_eq!(history(&[quote("GEB", "1.50", 0)]), Err(OF_SYMBOL));
        assert_eq!(history(&[quote("ISA", "-1", 0)]), Err(PRICED));
        assert!(history(&[]).is_err());
        assert!(history(&vec![first; HISTORY + 1]).is_err());
        assert!(is_history(&json!({}), "ISA").is_err());
    }
}
