//! Sums of money in JSON.

use std::str::FromStr;

use rust_decimal::Decimal;
use serde_json::Value;

/// Parses a sum of money. It is a string in JSON, as it must be exact.
pub(super) fn money(json: &Value) -> Option<Decimal> {
    Decimal::from_str(json.as_str()?).ok()
}

/// Parses a price: a sum above 0.
pub(super) fn price(json: &Value) -> Option<Decimal> {
    money(json).filter(|price| *price > Decimal::ZERO)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_price_is_a_decimal_above_0() {
        assert_eq!(price(&json!("118.80")), Some(Decimal::new(11_880, 2)));
        for wrong in [
            json!("0"),
            json!("-1"),
            json!("NaN"),
            json!("cheap"),
            json!(1.5),
            json!(null),
        ] {
            assert_eq!(price(&wrong), None, "{wrong}");
        }
    }
}
