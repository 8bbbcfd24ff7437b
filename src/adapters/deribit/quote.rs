//! `quote.{instrument}`: best bid and ask.
//!
//! Invariants: an empty side is `None`.

use serde::Deserialize;

use super::decode;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::platform::Message;

/// Best bid and ask of an instrument.
///
/// Prices and amounts are the venue's decimal numbers as binary floating point: exact to about 16
/// digits, which is more than any instrument has.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Quote {
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// The instrument.
    pub instrument_name: String,
    /// Highest price that somebody would pay.
    pub best_bid_price: Option<f64>,
    /// For how much.
    pub best_bid_amount: Option<f64>,
    /// Lowest price at which somebody would sell.
    pub best_ask_price: Option<f64>,
    /// How much.
    pub best_ask_amount: Option<f64>,
}

impl Message for Quote {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        decode::data(frame, "quote")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_read() {
        let quote = Quote::decode(&Frame::text(
            r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"quote.BTC-PERPETUAL",
            "data":{"timestamp":1765541767174,"instrument_name":"BTC-PERPETUAL","best_bid_price":92287.5,
            "best_bid_amount":117660.0,"best_ask_price":92288,"best_ask_amount":186520.0}}}"#,
        ))
        .unwrap();
        assert_eq!(quote.instrument_name, "BTC-PERPETUAL");
        assert_eq!(
            (quote.best_bid_price, quote.best_ask_price),
            (Some(92287.5), Some(92288.0))
        );
        assert_eq!(quote.sequence(), None);
    }

    #[test]
    fn an_empty_side_is_none() {
        let quote = Quote::decode(&Frame::text(
            r#"{"params":{"channel":"quote.X","data":{"timestamp":1,"instrument_name":"X",
            "best_bid_price":null,"best_bid_amount":0,"best_ask_amount":0.0}}}"#,
        ))
        .unwrap();
        assert_eq!((quote.best_bid_price, quote.best_ask_price), (None, None));
    }
}
