//! An investor logs in, and reads the portfolio and its value.

use std::sync::Arc;

use environments::environment::DEMO_INVESTOR;
use goose::goose::{GooseUser, Transaction, TransactionResult};
use goose::transaction;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::checks::{Wrong, claim};
use super::money::money;
use super::visitor::Visitor;
use super::{arrives, endpoint};
use crate::users::UserContext;

#[derive(Clone)]
struct PortfolioReader {
    visitor: Visitor,
    /// The token from the login.
    token: Option<String>,
}

pub(super) fn steps(users: &Arc<UserContext>) -> Vec<Transaction> {
    let arrive = arrives(users, |visitor| PortfolioReader {
        visitor,
        token: None,
    });
    vec![
        arrive,
        transaction!(logs_in),
        transaction!(reads),
        transaction!(values),
    ]
}

async fn logs_in(user: &mut GooseUser) -> TransactionResult {
    let reader: &mut PortfolioReader = user.get_session_data_unchecked_mut();
    let visitor = &reader.visitor;
    let credentials = json!({"investor": DEMO_INVESTOR, "password": visitor.password()});
    let request = visitor.post(endpoint::LOGIN, "/api/login", &credentials);
    reader.token = request.send_and_check(token).await;
    Ok(())
}

async fn reads(user: &mut GooseUser) -> TransactionResult {
    let reader: &mut PortfolioReader = user.get_session_data_unchecked_mut();
    if let Some(token) = &reader.token {
        let path = "/api/portfolio-manager/portfolios/me";
        let request = reader.visitor.get(endpoint::PORTFOLIO, path);
        request.bearing(token).send_and_check(is_portfolio).await;
    }
    Ok(())
}

async fn values(user: &mut GooseUser) -> TransactionResult {
    let reader: &mut PortfolioReader = user.get_session_data_unchecked_mut();
    if let Some(token) = &reader.token {
        let path = "/api/analysis-engine/analysis/portfolio";
        let request = reader.visitor.get(endpoint::VALUATION, path);
        request.bearing(token).send_and_check(is_valuation).await;
    }
    Ok(())
}

fn token(login: &Value) -> Result<String, Wrong> {
    let token = login["token"].as_str().filter(|token| !token.is_empty());
    token.map(str::to_owned).ok_or("a token")
}

fn is_portfolio(portfolio: &Value) -> Result<(), Wrong> {
    let is_own = portfolio["investor"] == DEMO_INVESTOR;
    claim("the portfolio of who logged in", is_own)?;
    let cash = money(&portfolio["cash"]).is_some_and(|cash| !cash.is_sign_negative());
    claim("cash that is a number, 0 or more", cash)?;
    let positions = portfolio["positions"].as_array();
    let positions = positions.ok_or("a list of positions")?;
    let whole = |position: &Value| position["symbol"].is_string() && position["quantity"].is_u64();
    claim("positions of whole shares", positions.iter().all(whole))
}

/// The sum must be exact: the platform uses exact numbers.
fn is_valuation(valuation: &Value) -> Result<(), Wrong> {
    let positions = valuation["positions"].as_array();
    let positions = positions.ok_or("a list of positions")?;
    let values = positions
        .iter()
        .map(|position| money(&position["market_value"]));
    let values: Option<Decimal> = values.sum();
    let sum = values.zip(money(&valuation["cash"]));
    let sum = sum.map(|(values, cash)| cash + values);
    let adds_up = sum.is_some() && sum == money(&valuation["value"]);
    claim("a value that is the sum of cash and positions", adds_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_gives_a_token() {
        assert_eq!(token(&json!({"token": "abc"})), Ok("abc".to_owned()));
        assert_eq!(token(&json!({"token": ""})), Err("a token"));
        assert_eq!(token(&json!({})), Err("a token"));
    }

    #[test]
    fn a_portfolio_is_of_the_investor_and_has_numbers() {
        let of = |investor: &str, cash: &str, quantity: Value| {
            let positions = json!([{"symbol": "ISA", "quantity": quantity}]);
            is_portfolio(&json!({"investor": investor, "cash": cash, "positions": positions}))
        };
        assert_eq!(of("demo", "10.00", json!(3)), Ok(()));
        assert!(of("ana", "10.00", json!(3)).is_err());
        assert!(of("demo", "-10.00", json!(3)).is_err());
        assert!(of("demo", "much", json!(3)).is_err());
        assert!(of("demo", "10.00", json!(-3)).is_err());
    }

    #[test]
    fn a_value_is_the_exact_sum() {
        let of = |value: &str, market_value: &str| {
            let positions = json!([{"market_value": market_value}]);
            is_valuation(&json!({"value": value, "cash": "9287.20", "positions": positions}))
        };
        assert_eq!(of("10000.00", "712.80"), Ok(()));
        assert!(of("10000.01", "712.80").is_err());
        assert!(of("10000.00", "some").is_err());
        assert!(is_valuation(&json!({"value": null, "positions": []})).is_err());
    }
}
