//! `user.portfolio.{currency}`: balance and margin, whole in every message.
//!
//! Invariants: what an account's margin model does not have is `None`.

use serde::Deserialize;

use super::decode;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::platform::Message;

/// Balance and margin in one currency.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Portfolio {
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
}

impl Message for Portfolio {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        decode::data(frame, "portfolio")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portfolio_is_read() {
        let portfolio = Portfolio::decode(&Frame::text(
            r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"user.portfolio.btc",
            "data":{"total_pl":0,"session_upl":0,"margin_balance":0.1,"maintenance_margin":5.5e-17,
            "margin_model":"segregated_sm","initial_margin":0,"equity":0.1,"currency":"BTC",
            "cross_collateral_enabled":false,"balance":0.1,"available_funds":null}}}"#,
        ))
        .unwrap();
        assert_eq!(
            (portfolio.currency.as_str(), portfolio.equity),
            ("BTC", 0.1)
        );
        assert_eq!(portfolio.maintenance_margin, Some(5.5e-17));
        assert_eq!(portfolio.available_funds, None);
        assert_eq!(portfolio.sequence(), None);
    }
}
