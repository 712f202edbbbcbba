//! What an answer says, and whether it may be right.

use jiff::Timestamp;
use serde_json::Value;

/// The claim that did not hold, as failures are named by it.
pub(super) type Wrong = &'static str;

/// That `holds`, or it is wrong by the claim's name.
pub(super) fn claim(claim: Wrong, holds: bool) -> Result<(), Wrong> {
    match holds {
        true => Ok(()),
        false => Err(claim),
    }
}

/// A moment (RFC 3339).
pub(super) fn moment(json: &Value) -> Option<Timestamp> {
    json.as_str()?.parse().ok()
}

/// How much of `symbol` a portfolio has.
pub(super) fn held(portfolio: &Value, symbol: &str) -> Option<u64> {
    let positions = portfolio["positions"].as_array()?;
    let position = positions.iter().find(|it| it["symbol"] == symbol);
    match position {
        Some(position) => position["quantity"].as_u64(),
        None => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_among_the_positions_is_not_held() {
        let portfolio = json!({"positions": [{"symbol": "ISA", "quantity": 3}]});
        assert_eq!(held(&portfolio, "ISA"), Some(3));
        assert_eq!(held(&portfolio, "GEB"), Some(0));
        assert_eq!(held(&json!({}), "ISA"), None);
    }
}
