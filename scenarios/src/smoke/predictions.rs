//! A prediction from prices that lie on a straight line.

use environments::capability::Capability;
use kubernetes::Action;
use reqwest::Method;
use serde_json::{Value, json};
use tokens::{FEED, INVESTOR};

use super::Smoke;
use crate::client::Response;
use crate::{Mismatch, RunResult, Scenario};

const PREDICTS: &str = "a straight line is predicted to go on";
const DAYS: u32 = 40;

impl Smoke<'_> {
    pub(super) async fn prediction(&self, scenario: &mut Scenario<'_>) -> RunResult {
        let orders = Capability::Allowed(Action::Orders);
        if !scenario.can(orders, &[PREDICTS]).await? {
            return Ok(());
        }
        let symbol = format!("SMT{:06X}", rand::random::<u32>() & 0x00ff_ffff);
        let predicted = scenario.check(PREDICTS, async {
            self.send_line(&symbol).await?;
            let (first, second) = (self.predict(&symbol).await?, self.predict(&symbol).await?);
            let last = 100 + DAYS;
            let expected = f64::from(last + 1);
            let predicted = number(&first, "/prediction")?;
            if (predicted - expected).abs() > expected * 1e-3 {
                let expected = format!("{expected}, to a thousandth");
                return Err(first.mismatch(expected, predicted.to_string()));
            }
            match number(&second, "/prediction")? == predicted {
                true => Ok(((), format!("{predicted} after {last}, twice the same"))),
                false => Err(second.mismatch("the same prediction twice", second.summary())),
            }
        });
        predicted.await.map(drop)
    }

    /// Sends a price a day, each higher by 1 than the one before.
    async fn send_line(&self, symbol: &str) -> Result<(), Mismatch> {
        let feed = self.tokens.token("smoke-feed", FEED);
        for day in 1..=DAYS {
            let price = format!("{}.00", 100 + day);
            let request = self.client.api(Method::POST, "/api/market-data/ticks");
            let request = request.bearer(&feed);
            let tick = json!({"symbol": symbol, "price": price});
            request.json(tick).expect(201).await?;
        }
        Ok(())
    }

    async fn predict(&self, symbol: &str) -> Result<Response, Mismatch> {
        let investor = self.tokens.token("smoke-prediction", INVESTOR);
        let path = "/api/ml-prediction/predictions";
        let request = self.client.api(Method::POST, path).bearer(&investor);
        let of = json!({"symbol": symbol, "observations": DAYS});
        request.json(of).expect(200).await
    }
}

/// Returns a number, which may be written as a string.
fn number(response: &Response, field: &str) -> Result<f64, Mismatch> {
    let seen = response.json()?.pointer(field).cloned().unwrap_or_default();
    let number = match &seen {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    };
    number.ok_or_else(|| response.mismatch(format!("a number at {field}"), seen.to_string()))
}
