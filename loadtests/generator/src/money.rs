//! Sums of money, as answers have them.

use std::str::FromStr;

use rust_decimal::Decimal;
use serde_json::Value;

/// A sum of money: exact, and so a string in JSON.
pub fn money(json: &Value) -> Option<Decimal> {
    Decimal::from_str(json.as_str()?).ok()
}

/// A price: money, and more than none.
pub fn price(json: &Value) -> Option<Decimal> {
    money(json).filter(|price| *price > Decimal::ZERO)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_price_is_a_decimal_above_nothing() {
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
