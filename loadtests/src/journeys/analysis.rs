//! An investor asks for an analysis and a prediction.

use std::sync::Arc;

use goose::goose::{GooseUser, Transaction, TransactionResult};
use goose::transaction;
use harness::environment::SEEDED_SYMBOL;
use serde_json::{Value, json};

use super::answer::{Wrong, claim};
use super::visitor::Visitor;
use super::{arrives, endpoint};
use crate::closed::Ground;

/// What a prediction is made from: its cost grows with it.
const OBSERVATIONS: u64 = 60;

const OF_SYMBOL: &str = "the symbol that was asked for";

#[derive(Clone)]
struct Analyst {
    visitor: Visitor,
}

pub(super) fn steps(ground: &Arc<Ground>) -> Vec<Transaction> {
    let arrive = arrives(ground, |visitor| Analyst { visitor });
    vec![arrive, transaction!(analyses), transaction!(predicts)]
}

async fn analyses(user: &mut GooseUser) -> TransactionResult {
    let analyst: &mut Analyst = user.get_session_data_unchecked_mut();
    let path = format!("/api/analysis-engine/analysis/symbols/{SEEDED_SYMBOL}");
    let question = analyst.visitor.get(endpoint::ANALYSIS, &path);
    question.signed().judged(is_analysis).await;
    Ok(())
}

async fn predicts(user: &mut GooseUser) -> TransactionResult {
    let analyst: &mut Analyst = user.get_session_data_unchecked_mut();
    let path = "/api/ml-prediction/predictions";
    let asked = json!({"symbol": SEEDED_SYMBOL, "observations": OBSERVATIONS});
    let question = analyst.visitor.post(endpoint::PREDICTIONS, path, &asked);
    question.signed().judged(is_prediction).await;
    Ok(())
}

fn is_analysis(analysis: &Value) -> Result<(), Wrong> {
    claim(OF_SYMBOL, analysis["symbol"] == SEEDED_SYMBOL)?;
    let observations = analysis["observations"].as_u64().unwrap_or(0);
    let returns = analysis["returns"].as_array();
    let returns = returns.ok_or("a list of returns")?;
    let one_fewer = returns.len() as u64 + 1 == observations;
    claim("a return from each price to the next", one_fewer)?;
    let numbers = returns.iter().all(Value::is_number);
    claim("returns that are numbers", numbers)?;
    let drawdown = analysis["max_drawdown"].as_f64();
    let share = drawdown.is_some_and(|drawdown| (0.0..=1.0).contains(&drawdown));
    claim("a drawdown from 0 to 1", share)
}

fn is_prediction(prediction: &Value) -> Result<(), Wrong> {
    claim(OF_SYMBOL, prediction["symbol"] == SEEDED_SYMBOL)?;
    let observations = prediction["observations"].as_u64().unwrap_or(0);
    let as_asked = (1..=OBSERVATIONS).contains(&observations);
    claim("as many observations as were asked for", as_asked)?;
    let price = prediction["prediction"].as_f64();
    claim(
        "a prediction above 0",
        price.is_some_and(|price| price > 0.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_analysis_has_a_return_from_each_price_to_the_next() {
        let of = |observations: u64, returns: Value, drawdown: Value| {
            let symbol = SEEDED_SYMBOL;
            is_analysis(&json!({
                "symbol": symbol, "observations": observations,
                "returns": returns, "max_drawdown": drawdown,
            }))
        };
        assert_eq!(of(3, json!([0.1, -0.1]), json!(0.1)), Ok(()));
        assert!(of(2, json!([0.1, -0.1]), json!(0.1)).is_err());
        assert!(of(3, json!([0.1, null]), json!(0.1)).is_err());
        assert!(of(3, json!([0.1, -0.1]), json!(1.1)).is_err());
        assert!(of(3, json!([0.1, -0.1]), json!(null)).is_err());
    }

    #[test]
    fn a_prediction_is_a_price() {
        let of = |symbol: &str, prediction: Value| {
            is_prediction(&json!({
                "symbol": symbol, "observations": 60, "prediction": prediction,
            }))
        };
        assert_eq!(of(SEEDED_SYMBOL, json!(141.2)), Ok(()));
        assert!(of("ISA", json!(141.2)).is_err());
        assert!(of(SEEDED_SYMBOL, json!(0.0)).is_err());
        assert!(of(SEEDED_SYMBOL, json!(null)).is_err());
    }
}
