//! `ticker.{instrument}.{interval}`: the state of an instrument, whole in every message.
//!
//! Invariants: what an instrument does not have, or the venue does not know yet, is `None`; fields
//! that the venue adds are ignored until they get a name here.

use serde::Deserialize;

use super::decode;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::platform::Message;

/// Prices, statistics and greeks of an instrument.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Ticker {
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// The instrument.
    pub instrument_name: String,
    /// Whether it is traded.
    pub state: InstrumentState,
    /// The last 24 hours.
    #[serde(default)]
    pub stats: Stats,
    /// Price of the index.
    pub index_price: Option<f64>,
    /// Price that positions are valued at.
    pub mark_price: Option<f64>,
    /// Price of the last trade, if there was one.
    pub last_price: Option<f64>,
    /// Highest price that somebody would pay.
    pub best_bid_price: Option<f64>,
    /// For how much.
    pub best_bid_amount: Option<f64>,
    /// Lowest price at which somebody would sell.
    pub best_ask_price: Option<f64>,
    /// How much.
    pub best_ask_amount: Option<f64>,
    /// Price of the last settlement.
    pub settlement_price: Option<f64>,
    /// Lowest price that an order may have.
    pub min_price: Option<f64>,
    /// Highest price that an order may have.
    pub max_price: Option<f64>,
    /// Open contracts, in units of the amount.
    pub open_interest: Option<f64>,
    /// Delivery price as of now.
    pub estimated_delivery_price: Option<f64>,
    /// Current funding rate; perpetuals only.
    pub current_funding: Option<f64>,
    /// Funding rate over eight hours; perpetuals only.
    pub funding_8h: Option<f64>,
    /// Value behind the realised funding; perpetuals only.
    pub interest_value: Option<f64>,
    /// Price of the underlying; options only.
    pub underlying_price: Option<f64>,
    /// Name of the underlying; options only.
    pub underlying_index: Option<String>,
    /// Implied volatility at the mark price, in percent; options only.
    pub mark_iv: Option<f64>,
    /// Implied volatility at the best bid, in percent; options only.
    pub bid_iv: Option<f64>,
    /// Implied volatility at the best ask, in percent; options only.
    pub ask_iv: Option<f64>,
    /// Interest rate behind the volatilities; options only.
    pub interest_rate: Option<f64>,
    /// Sensitivities; options only.
    pub greeks: Option<Greeks>,
}

/// Whether an instrument is traded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InstrumentState {
    /// It is.
    Open,
    /// It has expired or was closed.
    Closed,
    /// A word that this version does not know.
    #[serde(other)]
    Other,
}

/// The last 24 hours; before the first trade there is nothing to say.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Traded, in the base currency.
    pub volume: Option<f64>,
    /// Traded, in US dollars.
    pub volume_usd: Option<f64>,
    /// Traded, in the quote currency.
    pub volume_notional: Option<f64>,
    /// Change of the price, in percent.
    pub price_change: Option<f64>,
    /// Lowest price.
    pub low: Option<f64>,
    /// Highest price.
    pub high: Option<f64>,
}

/// Sensitivities of an option's price.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Greeks {
    /// To the underlying's price.
    pub delta: f64,
    /// Of delta to the underlying's price.
    pub gamma: f64,
    /// To volatility.
    pub vega: f64,
    /// To time.
    pub theta: f64,
    /// To the interest rate.
    pub rho: f64,
}

impl Message for Ticker {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        decode::data(frame, "ticker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Ticker {
        Ticker::decode(&Frame::text(text.to_owned())).unwrap()
    }

    #[test]
    fn the_ticker_of_a_perpetual_is_read() {
        let ticker = read(
            r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.BTC-PERPETUAL.100ms",
            "data":{"timestamp":1765541474086,"state":"open","stats":{"high":93612.0,"low":89277.5,
            "price_change":2.3275,"volume":11897.27640428,"volume_usd":1092371540.0,
            "volume_notional":1092371540.0},"index_price":92263.55,"instrument_name":"BTC-PERPETUAL",
            "last_price":92283.5,"settlement_price":92464.66,"min_price":90897.5,"max_price":93666.5,
            "open_interest":1132329370,"mark_price":92281.78,"interest_value":0.0028213400122472977,
            "best_ask_price":92284.0,"best_bid_price":92283.5,"estimated_delivery_price":92263.55,
            "best_ask_amount":186520.0,"best_bid_amount":117660.0,"current_funding":0.0,
            "funding_8h":0.00001742}}}"#,
        );
        assert_eq!(ticker.state, InstrumentState::Open);
        assert_eq!(ticker.mark_price, Some(92281.78));
        assert_eq!(ticker.open_interest, Some(1_132_329_370.0));
        assert_eq!(ticker.funding_8h, Some(0.000_017_42));
        assert_eq!((ticker.greeks, ticker.mark_iv), (None, None));
        assert_eq!(ticker.sequence(), None);
    }

    #[test]
    fn the_ticker_of_an_option_without_trades_is_read() {
        let ticker = read(
            r#"{"params":{"channel":"ticker.BTC-31DEC21-50000-C.raw","data":{"underlying_price":33400.1,
            "underlying_index":"SYN.BTC-31DEC21","timestamp":1,"stats":{"volume":null,"price_change":null,
            "low":null,"high":null},"state":"open","last_price":null,"mark_iv":80.5,"bid_iv":0,
            "ask_iv":0.0,"interest_rate":0,"greeks":{"vega":1.5,"theta":-2,"rho":0.1,"gamma":0,
            "delta":0.25},"instrument_name":"BTC-31DEC21-50000-C","best_bid_price":null,
            "brand_new":{"deep":[1,2]}}}}"#,
        );
        assert_eq!(ticker.stats, Stats::default());
        assert_eq!(
            (
                ticker.last_price,
                ticker.best_bid_price,
                ticker.best_ask_price
            ),
            (None, None, None)
        );
        assert_eq!(ticker.greeks.unwrap().delta, 0.25);
        assert_eq!(ticker.underlying_index.as_deref(), Some("SYN.BTC-31DEC21"));
    }

    #[test]
    fn an_unknown_state_is_no_failure() {
        let ticker = read(
            r#"{"params":{"channel":"c","data":{"timestamp":1,"instrument_name":"X","state":"halted"}}}"#,
        );
        assert_eq!(ticker.state, InstrumentState::Other);
    }
}
