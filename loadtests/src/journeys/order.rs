//! An investor places an order: looks at the portfolio, buys or sells one share, and looks
//! whether that is in the portfolio. The portfolio is the user's own, so that it must be
//! there exactly.

use std::sync::Arc;

use goose::goose::{GooseUser, Transaction, TransactionResult};
use goose::transaction;
use harness::environment::SEEDED_SYMBOL;
use load_generator::money::{money, price};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::answer::{Wrong, claim, held};
use super::visitor::Visitor;
use super::{arrives, endpoint};
use crate::closed::Ground;

/// In any currency of the seed data enough for a share.
const OPENING_CASH: &str = "1000000.00";

const PORTFOLIO: &str = "/api/portfolio-manager/portfolios/me";

#[derive(Clone)]
struct Trader {
    visitor: Visitor,
    /// Orders so far: the keys of no two are the same.
    orders: u64,
    /// What the portfolio has before the order.
    has: Option<u64>,
    /// What it must have after it, once that is done.
    must_have: Option<u64>,
}

pub(super) fn steps(ground: &Arc<Ground>) -> Vec<Transaction> {
    let arrive = arrives(ground, |visitor| Trader {
        visitor,
        orders: 0,
        has: None,
        must_have: None,
    });
    vec![
        arrive,
        transaction!(opens).set_on_start(),
        transaction!(looks),
        transaction!(orders),
        transaction!(looks_again),
    ]
}

async fn opens(user: &mut GooseUser) -> TransactionResult {
    let trader: &mut Trader = user.get_session_data_unchecked_mut();
    let path = "/api/portfolio-manager/portfolios";
    let cash = json!({"cash": OPENING_CASH});
    let visitor = &trader.visitor;
    let question = visitor
        .post(endpoint::NEW_PORTFOLIO, path, &cash)
        .signed()
        .expects(201);
    let judge = |portfolio: &Value| {
        let own = portfolio["investor"] == visitor.investor();
        claim("the portfolio of who opened it", own)
    };
    question.judged(judge).await;
    Ok(())
}

async fn looks(user: &mut GooseUser) -> TransactionResult {
    let trader: &mut Trader = user.get_session_data_unchecked_mut();
    let question = trader.visitor.get(endpoint::PORTFOLIO, PORTFOLIO).signed();
    let judge =
        |portfolio: &Value| held(portfolio, SEEDED_SYMBOL).ok_or("positions of whole shares");
    trader.has = question.judged(judge).await;
    trader.must_have = None;
    Ok(())
}

/// Sells what it has, else buys: it never runs out of either.
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
    let key = format!("{}-{}", visitor.investor(), trader.orders);
    let order = json!({"symbol": SEEDED_SYMBOL, "side": side, "quantity": 1});
    let path = "/api/portfolio-manager/orders";
    let question = visitor.post(endpoint::ORDERS, path, &order).signed();
    let question = question.header("idempotency-key", key).expects(201);
    let placed = question.judged(|placed| is_placed(placed, side)).await;
    trader.must_have = placed.map(|()| after);
    Ok(())
}

async fn looks_again(user: &mut GooseUser) -> TransactionResult {
    let trader: &mut Trader = user.get_session_data_unchecked_mut();
    if let Some(must_have) = trader.must_have {
        let question = trader.visitor.get(endpoint::PORTFOLIO, PORTFOLIO).signed();
        let judge = |portfolio: &Value| {
            let is_in = held(portfolio, SEEDED_SYMBOL) == Some(must_have);
            claim("the order in the portfolio", is_in)
        };
        question.judged(judge).await;
    }
    Ok(())
}

fn is_placed(order: &Value, side: &str) -> Result<(), Wrong> {
    let as_asked =
        order["symbol"] == SEEDED_SYMBOL && order["side"] == side && order["quantity"] == 1;
    claim("the order as it was placed", as_asked)?;
    let price = price(&order["price"]).ok_or("a price that is a number above 0")?;
    // Of one share.
    claim(
        "an amount of quantity times price",
        money(&order["amount"]) == Some(price),
    )?;
    let cash = money(&order["cash"]).is_some_and(|cash| cash >= Decimal::ZERO);
    claim("cash that is a number, 0 or more", cash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_what_was_asked_for_at_its_price() {
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
