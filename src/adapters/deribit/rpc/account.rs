//! What is ours: balance, orders, positions. All of it needs credentials.

use serde::Deserialize;

use super::USUAL;
use crate::adapters::deribit::{Order, Position};

crate::rpc! {
    /// Balance and margin in a currency, and the account's own limits; `extended` adds who the account is
    /// (`private/get_account_summary`).
    pub fn account_summary(currency: &str, extended: Option<bool>) -> AccountSummary
        = "private/get_account_summary", idempotent, within USUAL;
    /// Positions in a currency (`any` for all), of one kind or of all (`private/get_positions`).
    pub fn positions(currency: &str, kind: Option<&str>) -> Vec<Position>
        = "private/get_positions", idempotent, within USUAL;
    /// The position in an instrument; its size is 0 if there is none (`private/get_position`).
    pub fn position(instrument_name: &str) -> Position = "private/get_position", idempotent,
        within USUAL;
    /// All open orders, of one kind or of all (`private/get_open_orders`).
    pub fn open_orders(kind: Option<&str>) -> Vec<Order> = "private/get_open_orders", idempotent,
        within USUAL;
    /// Open orders in a currency, of one kind or of all (`private/get_open_orders_by_currency`).
    pub fn open_orders_by_currency(currency: &str, kind: Option<&str>) -> Vec<Order>
        = "private/get_open_orders_by_currency", idempotent, within USUAL;
    /// Open orders in an instrument (`private/get_open_orders_by_instrument`).
    pub fn open_orders_by_instrument(instrument_name: &str) -> Vec<Order>
        = "private/get_open_orders_by_instrument", idempotent, within USUAL;
    /// What has become of an order: what to ask when the fate of one is unknown
    /// (`private/get_order_state`).
    pub fn order_state(order_id: &str) -> Order = "private/get_order_state", idempotent, within USUAL;
}

/// Balance, margin and limits.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct AccountSummary {
    /// The currency.
    pub currency: String,
    /// Balance together with what open positions have won or lost.
    pub equity: f64,
    /// What the account holds.
    pub balance: f64,
    /// What may back positions.
    pub margin_balance: Option<f64>,
    /// What is free for new orders.
    pub available_funds: Option<f64>,
    /// What may be withdrawn.
    pub available_withdrawal_funds: Option<f64>,
    /// What open orders and positions need.
    pub initial_margin: Option<f64>,
    /// Below this, positions are liquidated.
    pub maintenance_margin: Option<f64>,
    /// Sum of all deltas.
    pub delta_total: Option<f64>,
    /// Won or lost, in all.
    pub total_pl: Option<f64>,
    /// Won or lost in this session for good.
    pub session_rpl: Option<f64>,
    /// Won or lost in this session, if all were closed now.
    pub session_upl: Option<f64>,
    /// How many requests the venue takes of this account.
    pub limits: Option<AccountLimits>,
    /// The account's number; extended summaries only.
    pub id: Option<u64>,
    /// Its name; extended summaries only.
    pub username: Option<String>,
    /// `main` or `subaccount`; extended summaries only.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// How many requests the venue takes of an account.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct AccountLimits {
    /// For what does not reach the matching engine.
    pub non_matching_engine: Option<Rate>,
    /// For what does.
    pub matching_engine: Option<EngineLimits>,
}

/// Limits of the matching engine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct EngineLimits {
    /// Cancelling everything at once.
    pub cancel_all: Option<Rate>,
    /// Spot trading.
    pub spot: Option<Rate>,
    /// Quotes.
    pub quotes: Option<Rate>,
    /// All trading together, in accounts that have but one limit.
    #[serde(flatten)]
    pub total: Option<Rate>,
}

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Rate {
    /// Requests a second, in the long run.
    pub rate: f64,
    /// Requests at once.
    pub burst: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(limits: &str) -> AccountLimits {
        let summary: AccountSummary = serde_json::from_str(&format!(
            r#"{{"currency":"BTC","equity":302.61869214,"balance":302.6,"id":10,"type":"main",
            "username":"user","options_pl":0,"limits":{limits},"fee_group":null}}"#
        ))
        .unwrap();
        assert_eq!(
            (summary.id, summary.kind.as_deref()),
            (Some(10), Some("main"))
        );
        summary.limits.unwrap()
    }

    #[test]
    fn limits_of_both_forms_are_read() {
        let limits = read(
            r#"{"non_matching_engine":{"burst":1500,"rate":1000},"limits_per_currency":false,
            "matching_engine":{"trading":{"total":{"burst":250,"rate":200}},
            "spot":{"burst":250,"rate":200},"cancel_all":{"burst":250,"rate":200}}}"#,
        );
        let rate = Rate {
            rate: 200.0,
            burst: 250.0,
        };
        let engine = limits.matching_engine.unwrap();
        assert_eq!((engine.spot, engine.cancel_all), (Some(rate), Some(rate)));
        assert_eq!(engine.total, None);
        let limits = read(r#"{"matching_engine":{"burst":20,"rate":5}}"#);
        let engine = limits.matching_engine.unwrap();
        assert_eq!(engine.total.map(|total| total.rate), Some(5.0));
    }
}
