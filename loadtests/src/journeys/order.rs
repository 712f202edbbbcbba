//! An investor places an order: reads the portfolio, buys or sells one share, and checks that it is
//! in the portfolio. It must match exactly, as no other user has this portfolio.

use std::sync::Arc;

use environments::environment::SEEDED_SYMBOL;
use goose::goose::{GooseUser, Transaction, TransactionResult};
use goose::transaction;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::checks::{PRICED, Wrong, claim, shares_of};
use super::money::{money, price};
use super::visitor::Visitor;
use super::{arrives, endpoint};
use crate::users::UserContext;

/// Sufficient for a share of any seeded symbol.
const OPENING_CASH: &str = "1000000.00";

const PORTFOLIO: &str = "/api/portfolio-manager/portfolios/me";

#[derive(Clone)]
struct Trader {
    visitor: Visitor,
    /// The number of orders so far, for unique idempotency keys.
    orders: u64,
    /// The shares in the portfolio before the order.
    has: Option<u64>,
    /// The shares that it must have after the order.
    must_have: Option<u64>,
}

pub(super) fn steps(users: &Arc<UserContext>) -> Vec<Transaction> {
    let arrive = arrives(users, |visitor| Trader {
        visitor,
        orders: 0,
        has: None,
        must_have: None,
    });
    vec![
        arrive,
        transaction!(opens).set_on_start(),
        transaction!(reads),
        transaction!(orders),
        transaction!(checks_portfolio),
    ]
}

async fn opens(user: &mut GooseUser) -> TransactionResult {
    let trader: &mut Trader = user.get_session_data_unchecked_mut();
    let path = "/api/portfolio-manager/portfolios";
    let cash = json!({"cash": OPENING_CASH});
    let visitor = &trader.visitor;
    let request = visitor.post(endpoint::NEW_PORTFOLIO, path, &cash);
    let request = request.signed().expects(201);
    let check = |portfolio: &Value| {
        let own = portfolio["investor"] == visitor.investor.as_str();
        claim("the portfolio of who opened it", own)
    };
    request.send_and_check(check).await;
    Ok(())
}

async fn reads(user: &mut GooseUser) -> TransactionResult {
    let trader: &mut Trader = user.get_session_data_unchecked_mut();
    let request = trader.visitor.get(endpoint::PORTFOLIO, PORTFOLIO).signed();
    let check = |portfolio: &Value| {
        let shares = shares_of(portfolio, SEEDED_SYMBOL);
        shares.ok_or("positions of whole shares")
    };
    trader.has = request.send_and_check(check).await;
    trader.must_have = None;
    Ok(())
}

/// Sells a share if there is one, else buys one: cash and shares never run out.
async fn orders(user: &mut GooseUser) -> TransactionResult {
    let trader: &mut Trader = user.get_session_data_unchecked_mut();
    let Some(has) = trader.has else {
        return Ok(());
    };
    let (side, after) = match has {
        0 => ("buy", 1),
        some => ("sell", some - 1),
    };
    trader.orders += 1;
    let visitor = &trader.visitor;
    let key = format!("{}-{}", visitor.investor, trader.orders);
    let order = json!({"symbol": SEEDED_SYMBOL, "side": side, "quantity": 1});
    let path = "/api/portfolio-manager/orders";
    let request = visitor.post(endpoint::ORDERS, path, &order).signed();
    let request = request.header("idempotency-key", key).expects(201);
    let check = |placed: &Value| is_placed(placed, side);
    let placed = request.send_and_check(check).await;
    trader.must_have = placed.map(|()| after);
    Ok(())
}

async fn checks_portfolio(user: &mut GooseUser) -> TransactionResult {
    let trader: &mut Trader = user.get_session_data_unchecked_mut();
    if let Some(must_have) = trader.must_have {
        let request = trader.visitor.get(endpoint::PORTFOLIO, PORTFOLIO).signed();
        let check = |portfolio: &Value| {
            let matches = shares_of(portfolio, SEEDED_SYMBOL) == Some(must_have);
            claim("the order in the portfolio", matches)
        };
        request.send_and_check(check).await;
    }
    Ok(())
}

fn is_placed(order: &Value, side: &str) -> Result<(), Wrong> {
    let as_placed =
        order["symbol"] == SEEDED_SYMBOL && order["side"] == side && order["quantity"] == 1;
    claim("the order as it was placed", as_placed)?;
    let price = price(&order["price"]).ok_or(PRICED)?;
    // The quantity is 1.
    let matches = money(&order["amount"]) == Some(price);
    claim("an amount of quantity times price", matches)?;
    let cash = money(&order["cash"]).is_some_and(|cash| cash >= Decimal::ZERO);
    claim("cash that is a number, 0 or more", cash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_the_requested_fields_and_the_quoted_price() {
        let of = |side: &str, price: &str, amount: &str| {
            let order = json!({
                "symbol": SEEDED_SYMBOL, "side": side, "quantity": 1,
                "price": price, "amount": amount, "cash": "10.00",
            });
            is_placed(&order, "buy")
        };
        assert_eq!(of("buy", "118.80", "118.80"), Ok(()));
        assert_eq!(of("buy", "118.80", "118.8"), Ok(()));
        assert_eq!(
            of("sell", "118.80", "118.80"),
            Err("the order as it was placed")
        );
        assert!(of("buy", "118.80", "237.60").is_err());
        assert!(of("buy", "0", "0").is_err());
    }
}
