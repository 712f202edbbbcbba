//! Checks of answers.

use serde_json::Value;

/// The claim that does not hold. Failures are counted by it.
pub(super) type Wrong = &'static str;

pub(super) const PRICED: Wrong = "a price that is a number above 0";

/// Returns the claim as the error unless it `holds`.
pub(super) fn claim(claim: Wrong, holds: bool) -> Result<(), Wrong> {
    match holds {
        true => Ok(()),
        false => Err(claim),
    }
}

/// Returns how many shares of `symbol` a portfolio has.
pub(super) fn shares_of(portfolio: &Value, symbol: &str) -> Option<u64> {
    let positions = portfolio["positions"].as_array()?;
    match positions
        .iter()
        .find(|position| position["symbol"] == symbol)
    {
        Some(position) => position["quantity"].as_u64(),
        None => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_portfolio_has_no_shares_without_a_position() {
        let portfolio = json!({"positions": [{"symbol": "ISA", "quantity": 3}]});
        assert_eq!(shares_of(&portfolio, "ISA"), Some(3));
        assert_eq!(shares_of(&portfolio, "GEB"), Some(0));
        assert_eq!(shares_of(&json!({}), "ISA"), None);
    }
}
