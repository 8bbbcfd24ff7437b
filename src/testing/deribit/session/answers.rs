//! What the venue answers to questions about the market and the account.
//!
//! A file of its own because these change nothing.
//!
//! Invariants: prices are the market's own, so that an answer fits the channels; nobody ever holds a
//! position, since orders rest for ever.

use serde_json::{Value, json};

use super::super::venue::{currency, milliseconds, portfolio};
use super::{Failure, Session};

impl Session {
    /// The answer, if `method` is such a question.
    pub(super) fn ask(&self, method: &str, params: &Value) -> Option<Result<Value, Failure>> {
        let word = |name: &str| params[name].as_str().unwrap_or_default();
        let instrument = word("instrument_name");
        Some(match method {
            "public/get_time" => Ok(json!(self.now())),
            "public/status" => Ok(match self.knobs.locked {
                None => json!({ "locked": "false", "locked_indices": [] }),
                Some(true) => json!({ "locked": "partial", "locked_indices": ["btc_usd"] }),
                Some(false) => {
                    json!({ "locked": "true", "locked_indices": ["btc_usd", "eth_usd"] })
                }
            }),
            "public/get_instruments" => Ok(self.instruments()),
            "public/ticker" => self.ticker(instrument),
            "public/get_order_book" => self.order_book(instrument, &params["depth"]),
            "public/get_book_summary_by_instrument" => {
                self.summary(instrument).map(|summary| json!([summary]))
            }
            "public/get_book_summary_by_currency" => {
                let names = self.names(word("currency"));
                let summaries = names.iter().map(|name| self.summary(name));
                summaries.collect::<Result<Vec<_>, _>>().map(Value::from)
            }
            "public/get_index_price" => {
                let currency = word("index_name").split('_').next().unwrap_or_default();
                let names = self.names(&currency.to_uppercase());
                let ticker = names.first().map(|name| self.ticker(name));
                match ticker {
                    Some(Ok(ticker)) => Ok(json!({
                        "index_price": ticker["index_price"],
                        "estimated_delivery_price": ticker["estimated_delivery_price"],
                    })),
                    _ => Err(Failure::parameter("index_name", "unknown index")),
                }
            }
            "private/get_account_summary" => {
                let currency = params["currency"].as_str().unwrap_or("BTC");
                let mut summary = portfolio(currency, self.shared.venue().number());
                summary["limits"] = json!({
                    "non_matching_engine": { "burst": 100, "rate": 20 },
                    "matching_engine": { "burst": 20, "rate": 5 },
                });
                if params["extended"] == true {
                    summary["id"] = json!(self.subject.unwrap_or(1));
                    summary["username"] = json!("simulated");
                    summary["type"] = json!(self.subject.map_or("main", |_| "subaccount"));
                }
                Ok(summary)
            }
            "private/get_positions" => {
                let names = self.names(word("currency"));
                Ok(names.iter().map(|name| no_position(name)).collect())
            }
            "private/get_position" => match self.names("any").iter().any(|name| name == instrument)
            {
                true => Ok(no_position(instrument)),
                false => Err(Failure::new(13020, "not_found")),
            },
            "private/get_open_orders" => Ok(self.orders(|_| true)),
            "private/get_open_orders_by_currency" => {
                let wanted = word("currency");
                Ok(self.orders(|order| of_currency(text(order, "instrument_name"), wanted)))
            }
            "private/get_open_orders_by_instrument" => {
                Ok(self.orders(|order| text(order, "instrument_name") == instrument))
            }
            "private/get_order_state" => {
                let order = self.shared.venue().order(word("order_id"));
                order.ok_or_else(|| Failure::new(10004, "order_not_found"))
            }
            _ => return None,
        })
    }

    fn now(&self) -> u64 {
        milliseconds().saturating_add_signed(self.knobs.clock_skew)
    }

    /// The instruments of a currency, or of `any`.
    fn names(&self, wanted: &str) -> Vec<String> {
        let venue = self.shared.venue();
        let names = venue.instrument_names().into_iter();
        names
            .filter(|name| of_currency(name, wanted))
            .map(str::to_owned)
            .collect()
    }

    fn orders(&self, which: impl Fn(&Value) -> bool) -> Value {
        let orders = self.shared.venue().open_orders(None);
        orders.into_iter().filter(which).collect()
    }

    fn instruments(&self) -> Value {
        let names = self.names("any").into_iter();
        names
            .map(|name| {
                json!({
                    "instrument_name": name,
                    "is_active": true,
                    "kind": "future",
                    "tick_size": 0.5,
                    "min_trade_amount": 10.0,
                    "contract_size": 10.0,
                    "base_currency": currency(&name),
                    "quote_currency": "USD",
                    "settlement_currency": currency(&name),
                })
            })
            .collect()
    }

    /// The first message of a channel, as an answer.
    fn first_of(&self, channel: &str) -> Result<Value, Failure> {
        let data = self.shared.venue().first(channel);
        let data = data.and_then(|data| serde_json::from_str(&data).ok());
        data.ok_or_else(|| Failure::new(13020, "not_found"))
    }

    fn ticker(&self, instrument: &str) -> Result<Value, Failure> {
        self.first_of(&format!("ticker.{instrument}.raw"))
    }

    fn order_book(&self, instrument: &str, depth: &Value) -> Result<Value, Failure> {
        let depth = depth.as_u64().unwrap_or(5);
        let depth = usize::try_from(depth).unwrap_or(usize::MAX);
        let mut answer = self.ticker(instrument)?;
        let book = self.first_of(&format!("book.{instrument}.raw"))?;
        for side in ["bids", "asks"] {
            let rows = book[side].as_array().into_iter().flatten();
            let mut rows: Vec<_> = rows.map(|row| json!([row[1], row[2]])).collect();
            rows.sort_by(|one, other| {
                let price = |row: &Value| row[0].as_f64().unwrap_or_default();
                let ascending = price(one).total_cmp(&price(other));
                if side == "bids" {
                    ascending.reverse()
                } else {
                    ascending
                }
            });
            rows.truncate(depth);
            answer[side] = rows.into();
        }
        answer["change_id"] = book["change_id"].clone();
        Ok(answer)
    }

    fn summary(&self, instrument: &str) -> Result<Value, Failure> {
        let ticker = self.ticker(instrument)?;
        Ok(json!({
            "instrument_name": instrument,
            "creation_timestamp": ticker["timestamp"],
            "bid_price": ticker["best_bid_price"],
            "ask_price": ticker["best_ask_price"],
            "mid_price": null,
            "mark_price": ticker["mark_price"],
            "last": ticker["last_price"],
            "high": ticker["stats"]["high"],
            "low": ticker["stats"]["low"],
            "volume": ticker["stats"]["volume"],
            "open_interest": ticker["open_interest"],
            "base_currency": currency(instrument),
            "quote_currency": "USD",
        }))
    }
}

/// Whether an instrument is of this currency.
pub(super) fn of_currency(instrument: &str, wanted: &str) -> bool {
    wanted == "any" || currency(instrument) == wanted
}

fn no_position(instrument: &str) -> Value {
    json!({
        "instrument_name": instrument,
        "kind": "future",
        "direction": "zero",
        "size": 0.0,
        "average_price": 0.0,
        "floating_profit_loss": 0.0,
        "realized_profit_loss": 0.0,
    })
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}
