//! An order flows from quote to position to analysis, and each number is exact.
//!
//! The prices are chosen so that every number can be worked out by hand:
//! 100 → 110 → 99 → 118.80 are returns of +10 %, −10 % and +20 %.

use std::str::FromStr;

use harness::capability::Capability;
use harness::config::remote::Action;
use harness::run::RunFolderError;
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::Smoke;
use crate::client::{Answer, Call};
use crate::{Mismatch, Scenario};
use harness::tokens::{FEED, INVESTOR};

const PRICES: [&str; 4] = ["100.00", "110.00", "99.00", "118.80"];
/// Analysis rounds to ten decimals.
const ROUNDING: f64 = 1e-9;

const PRICED: &str = "new ticks become the current quote";
const OPENS: &str = "an investor opens a portfolio";
const BUYS: &str = "an order moves cash and position exactly";
const ANALYSES: &str = "returns, volatility and drawdown are exact";
const AFTER_THE_FIRST_ORDER: [&str; 4] = [
    "the same order again has no second effect",
    "a sale gives the cash back exactly",
    "neither cash nor position can go below zero",
    "the portfolio's value is exact",
];
const PREDICTS: &str = "a straight line is predicted to go on";

/// This run's own investor and symbols.
struct Own {
    investor: String,
    feed: String,
    symbol: String,
    trend: String,
}

impl Smoke<'_> {
    pub(super) async fn account(&self, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
        let [again, sale, floor, value] = AFTER_THE_FIRST_ORDER;
        let all = [
            PRICED, OPENS, BUYS, again, sale, floor, value, ANALYSES, PREDICTS,
        ];
        let orders = Capability::Allowed(Action::Orders);
        if !scenario.can(orders, &all).await? {
            return Ok(());
        }
        let unique = format!("{:06X}", rand::random::<u32>() & 0x00ff_ffff);
        let own = Own {
            investor: self.tokens.token(&format!("smoke-{unique}"), INVESTOR),
            feed: self.tokens.token("smoke-feed", FEED),
            symbol: format!("SMK{unique}"),
            trend: format!("SMT{unique}"),
        };
        let priced = self.ticks(scenario, &own).await?;
        let opened = self.opens(scenario, &own).await?;
        let bought = match (priced, opened) {
            (Some(()), Some(())) => self.buys(scenario, &own).await?,
            _ => {
                let because = "there is no price or no portfolio to trade with";
                scenario.skip(BUYS, because).await?;
                None
            }
        };
        match bought {
            Some(()) => {
                self.trades_on(scenario, &own).await?;
                self.values(scenario, &own).await?;
            }
            None => {
                for claim in AFTER_THE_FIRST_ORDER {
                    scenario.skip(claim, "there was no first order").await?;
                }
            }
        }
        match priced {
            Some(()) => self.analyses(scenario, &own).await?,
            None => scenario.skip(ANALYSES, "there are no prices").await?,
        }
        self.prediction(scenario, &own).await
    }

    async fn ticks(
        &self,
        scenario: &mut Scenario<'_>,
        own: &Own,
    ) -> Result<Option<()>, RunFolderError> {
        scenario
            .check(PRICED, async {
                self.send_ticks(own, &own.symbol, PRICES.map(str::to_owned))
                    .await?;
                let answer = self.quote(own, &own.symbol).await?;
                exact(&answer, "/price", PRICES[3])?;
                Ok(((), format!("{} at {}", own.symbol, PRICES[3])))
            })
            .await
    }

    async fn send_ticks(
        &self,
        own: &Own,
        symbol: &str,
        prices: impl IntoIterator<Item = String>,
    ) -> Result<(), Mismatch> {
        for price in prices {
            self.client
                .api(Method::POST, "/api/market-data/ticks")
                .bearer(&own.feed)
                .json(json!({"symbol": symbol, "price": price}))
                .send()
                .await?
                .expect(201)?;
        }
        Ok(())
    }

    async fn quote(&self, own: &Own, symbol: &str) -> Result<Answer, Mismatch> {
        let path = format!("/api/market-data/quotes/{symbol}");
        let call = self.client.api(Method::GET, &path).bearer(&own.investor);
        call.send().await?.expect(200)
    }

    async fn opens(
        &self,
        scenario: &mut Scenario<'_>,
        own: &Own,
    ) -> Result<Option<()>, RunFolderError> {
        scenario
            .check(OPENS, async {
                let call = self
                    .client
                    .api(Method::POST, "/api/portfolio-manager/portfolios");
                let cash = json!({"cash": "10000.00"});
                call.bearer(&own.investor)
                    .json(cash)
                    .send()
                    .await?
                    .expect(201)?;
                self.holds(own, "10000.00", 0).await
            })
            .await
    }

    async fn buys(
        &self,
        scenario: &mut Scenario<'_>,
        own: &Own,
    ) -> Result<Option<()>, RunFolderError> {
        scenario
            .check(BUYS, async {
                let answer = self
                    .order(own, "buy-10", "buy", 10)
                    .send()
                    .await?
                    .expect(201)?;
                exact(&answer, "/price", "118.80")?;
                exact(&answer, "/amount", "1188.00")?;
                self.holds(own, "8812.00", 10).await
            })
            .await
    }

    async fn trades_on(
        &self,
        scenario: &mut Scenario<'_>,
        own: &Own,
    ) -> Result<(), RunFolderError> {
        let [again, sale, floor, _] = AFTER_THE_FIRST_ORDER;
        scenario
            .check(again, async {
                let again = self
                    .order(own, "buy-10", "buy", 10)
                    .send()
                    .await?
                    .expect(200)?;
                exact(&again, "/amount", "1188.00")?;
                self.order(own, "buy-10", "buy", 11)
                    .send()
                    .await?
                    .expect(422)?;
                self.holds(own, "8812.00", 10).await
            })
            .await?;
        scenario
            .check(sale, async {
                self.order(own, "sell-4", "sell", 4)
                    .send()
                    .await?
                    .expect(201)?;
                self.holds(own, "9287.20", 6).await
            })
            .await?;
        scenario
            .check(floor, async {
                self.order(own, "sell-7", "sell", 7)
                    .send()
                    .await?
                    .expect(409)?;
                self.order(own, "buy-79", "buy", 79)
                    .send()
                    .await?
                    .expect(409)?;
                self.holds(own, "9287.20", 6).await
            })
            .await?;
        Ok(())
    }

    fn order(&self, own: &Own, key: &str, side: &str, quantity: u32) -> Call<'_> {
        self.client
            .api(Method::POST, "/api/portfolio-manager/orders")
            .bearer(&own.investor)
            .header("idempotency-key", format!("{}-{key}", own.symbol))
            .json(json!({"symbol": own.symbol, "side": side, "quantity": quantity}))
    }

    /// What the portfolio manager says the investor has.
    async fn holds(&self, own: &Own, cash: &str, quantity: u64) -> Result<((), String), Mismatch> {
        let path = "/api/portfolio-manager/portfolios/me";
        let call = self.client.api(Method::GET, path).bearer(&own.investor);
        let answer = call.send().await?.expect(200)?;
        exact(&answer, "/cash", cash)?;
        let held = position(&answer.json()?, &own.symbol)["quantity"]
            .as_u64()
            .unwrap_or(0);
        match held == quantity {
            true => Ok(((), format!("cash {cash}, {quantity} of {}", own.symbol))),
            false => {
                Err(answer.mismatch(format!("{quantity} of {}", own.symbol), held.to_string()))
            }
        }
    }

    async fn analyses(&self, scenario: &mut Scenario<'_>, own: &Own) -> Result<(), RunFolderError> {
        scenario
            .check(ANALYSES, async {
                let path = format!("/api/analysis-engine/analysis/symbols/{}", own.symbol);
                let call = self.client.api(Method::GET, &path).bearer(&own.investor);
                let answer = call.send().await?.expect(200)?;
                let expected = [
                    ("/returns/0", 0.1),
                    ("/returns/1", -0.1),
                    ("/returns/2", 0.2),
                    ("/cumulative_return", 0.188),
                    ("/mean_return", 0.2 / 3.0),
                    // Deviations of ±1/30, 5/30, 4/30 from the mean: √(42/900 / 2).
                    ("/volatility", (42.0_f64 / 1800.0).sqrt()),
                    ("/max_drawdown", 0.1),
                ];
                for (field, value) in expected {
                    close(&answer, field, value)?;
                }
                Ok((
                    (),
                    "+10 %, −10 %, +20 %; 18.8 % in all; volatility 0.1528; drawdown 10 %".into(),
                ))
            })
            .await?;
        Ok(())
    }

    async fn values(&self, scenario: &mut Scenario<'_>, own: &Own) -> Result<(), RunFolderError> {
        let [.., value] = AFTER_THE_FIRST_ORDER;
        scenario
            .check(value, async {
                let path = "/api/analysis-engine/analysis/portfolio";
                let call = self.client.api(Method::GET, path).bearer(&own.investor);
                let answer = call.send().await?.expect(200)?;
                // 9287.20 in cash and six at 118.80, bought at the same price.
                exact(&answer, "/value", "10000.00")?;
                exact(&answer, "/cash", "9287.20")?;
                let position = position(&answer.json()?, &own.symbol).clone();
                let worth = position["market_value"].as_str().map(Decimal::from_str);
                match worth {
                    Some(Ok(worth)) if worth == Decimal::new(71280, 2) => {
                        Ok(((), "9287.20 + 6 × 118.80 = 10000.00".into()))
                    }
                    _ => Err(answer.mismatch("a position worth 712.80", position.to_string())),
                }
            })
            .await?;
        Ok(())
    }

    async fn prediction(
        &self,
        scenario: &mut Scenario<'_>,
        own: &Own,
    ) -> Result<(), RunFolderError> {
        const DAYS: u32 = 40;
        scenario
            .check(PREDICTS, async {
                let line = (1..=DAYS).map(|day| format!("{}.00", 100 + day));
                self.send_ticks(own, &own.trend, line).await?;
                let ask = || async {
                    self.client
                        .api(Method::POST, "/api/ml-prediction/predictions")
                        .bearer(&own.investor)
                        .json(json!({"symbol": own.trend, "observations": DAYS}))
                        .send()
                        .await?
                        .expect(200)
                };
                let (first, second) = (ask().await?, ask().await?);
                let expected = f64::from(100 + DAYS + 1);
                let predicted = number(&first, "/prediction")?;
                if (predicted - expected).abs() > expected * 1e-3 {
                    return Err(first.mismatch(
                        format!("{expected}, to a thousandth"),
                        predicted.to_string(),
                    ));
                }
                match number(&second, "/prediction")? == predicted {
                    true => Ok((
                        (),
                        format!("{predicted} after {}, twice the same", 100 + DAYS),
                    )),
                    false => Err(second.mismatch("the same prediction twice", second.in_words())),
                }
            })
            .await?;
        Ok(())
    }
}

/// The position in this symbol, or null.
fn position<'a>(portfolio: &'a Value, symbol: &str) -> &'a Value {
    portfolio["positions"]
        .as_array()
        .and_then(|all| all.iter().find(|position| position["symbol"] == symbol))
        .unwrap_or(&Value::Null)
}

/// The decimal at `field` is `expected`, whatever its trailing zeros.
fn exact(answer: &Answer, field: &str, expected: &str) -> Result<(), Mismatch> {
    let json = answer.json()?;
    let seen = json.pointer(field).cloned().unwrap_or(Value::Null);
    let decimal = seen.as_str().and_then(|text| Decimal::from_str(text).ok());
    match decimal.is_some() && decimal == Decimal::from_str(expected).ok() {
        true => Ok(()),
        false => Err(answer.mismatch(format!("{field} of {expected}"), seen.to_string())),
    }
}

fn close(answer: &Answer, field: &str, expected: f64) -> Result<(), Mismatch> {
    let seen = number(answer, field)?;
    match (seen - expected).abs() <= ROUNDING {
        true => Ok(()),
        false => Err(answer.mismatch(format!("{field} of {expected}"), seen.to_string())),
    }
}

/// A number, also where it is written as a string.
fn number(answer: &Answer, field: &str) -> Result<f64, Mismatch> {
    let json = answer.json()?;
    let seen = json.pointer(field).cloned().unwrap_or(Value::Null);
    let number = match &seen {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    };
    number.ok_or_else(|| answer.mismatch(format!("a number at {field}"), seen.to_string()))
}
