//! `trades.*` and `user.trades.*`: what was traded, by anyone and by us.
//!
//! Apart from the orders because a trade is a fact that never changes.
//!
//! Invariants: a channel of one instrument claims the venue's trade numbers as its sequence, so that
//! a missed trade shows as a gap; a channel of several instruments claims none, because each
//! instrument counts for itself; neither does `user.trades`, because others trade in between.

use serde::Deserialize;

use super::{Direction, channels, decode};
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::platform::Message;
use crate::protocol::sequence::Step;

/// A message of `trades.*`: one or more trades.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Trades {
    /// The trades, as the venue lists them.
    pub trades: Vec<Trade>,
    /// Whether the channel is about one instrument, whose trades are numbered without holes.
    of_one_instrument: bool,
}

/// A trade.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Trade {
    /// Unique within the instrument's currency.
    pub trade_id: String,
    /// Counts the instrument's trades.
    pub trade_seq: u64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// The instrument.
    pub instrument_name: String,
    /// The price.
    pub price: f64,
    /// The amount: US dollars for inverse futures, else units of the base currency.
    pub amount: f64,
    /// What the taker did.
    pub direction: Direction,
    /// How the price moved: 0 up, 1 same after up, 2 down, 3 same after down.
    pub tick_direction: Option<u8>,
    /// Price of the index at that moment.
    pub index_price: Option<f64>,
    /// Mark price at that moment.
    pub mark_price: Option<f64>,
    /// The amount in contracts.
    pub contracts: Option<f64>,
    /// Implied volatility, in percent; options only.
    pub iv: Option<f64>,
    /// Who was being liquidated: `M` the maker, `T` the taker, `MT` both.
    pub liquidation: Option<String>,
    /// The block trade that it belongs to.
    pub block_trade_id: Option<String>,
    /// The combo that it belongs to.
    pub combo_id: Option<String>,
}

impl Message for Trades {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        let params: decode::Params<'_, Vec<Trade>> = decode::params(frame, "list of trades")?;
        let of_one_instrument = channels::is_of_one_instrument(&params.channel);
        Ok(Self {
            trades: params.data,
            of_one_instrument,
        })
    }

    fn sequence(&self) -> Option<Step> {
        if !self.of_one_instrument {
            return None;
        }
        let last = self.trades.iter().map(|trade| trade.trade_seq).max()?;
        // Counted back from the last one, so that a hole within the message shows like any other.
        let first = last.saturating_sub(self.trades.len() as u64 - 1);
        Some(Step::Run { first, last })
    }
}

/// A message of `user.trades.*`: one or more trades of ours.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct UserTrades {
    /// The trades, as the venue lists them.
    pub trades: Vec<UserTrade>,
}

/// A trade of ours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct UserTrade {
    /// Unique within the instrument's currency.
    pub trade_id: String,
    /// The order that was filled by it.
    pub order_id: String,
    /// Counts the instrument's trades, ours and others'.
    pub trade_seq: Option<u64>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// The instrument.
    pub instrument_name: String,
    /// The price.
    pub price: f64,
    /// The amount: US dollars for inverse futures, else units of the base currency.
    pub amount: f64,
    /// What we did.
    pub direction: Direction,
    /// What it cost; negative if we were paid.
    pub fee: Option<f64>,
    /// In which currency.
    pub fee_currency: Option<String>,
    /// `M` if we were the maker, `T` the taker.
    pub liquidity: Option<String>,
    /// The label that we gave the order.
    pub label: Option<String>,
    /// What was won or lost by it.
    pub profit_loss: Option<f64>,
}

impl Message for UserTrades {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        decode::data(frame, "list of own trades").map(|trades| Self { trades })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sequence::{SequenceCheck, Verdict};

    fn trade(number: u64) -> String {
        format!(
            r#"{{"timestamp":1765531356452,"price":92294.5,"amount":10.0,"direction":"sell",
            "index_price":92276.75,"instrument_name":"BTC-PERPETUAL","trade_seq":{number},
            "mark_price":92287.11,"tick_direction":2,"contracts":1.0,"trade_id":"403691824"}}"#
        )
    }

    fn read(channel: &str, numbers: &[u64]) -> Trades {
        let list: Vec<_> = numbers.iter().map(|number| trade(*number)).collect();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":[{}]}}}}"#,
            list.join(",")
        );
        Trades::decode(&Frame::text(text)).unwrap()
    }

    #[test]
    fn trades_are_read() {
        let trades = read("trades.BTC-PERPETUAL.100ms", &[271_252_854, 271_252_855]).trades;
        assert_eq!(trades.len(), 2);
        assert_eq!(
            (trades[0].price, trades[0].direction),
            (92294.5, Direction::Sell)
        );
        assert_eq!(trades[1].trade_seq, 271_252_855);
        assert_eq!(trades[0].liquidation, None);
    }

    #[test]
    fn trades_of_one_instrument_are_a_run_of_numbers() {
        let step = read("trades.BTC-PERPETUAL.100ms", &[8, 9, 10]).sequence();
        assert_eq!(step, Some(Step::Run { first: 8, last: 10 }));
        let step = read("trades.BTC-PERPETUAL.raw", &[8]).sequence();
        assert_eq!(step, Some(Step::Run { first: 8, last: 8 }));
    }

    #[test]
    fn the_order_within_a_message_does_not_matter() {
        let step = read("trades.BTC-PERPETUAL.100ms", &[10, 9, 8]).sequence();
        assert_eq!(step, Some(Step::Run { first: 8, last: 10 }));
    }

    #[test]
    fn a_hole_within_a_message_shows_as_one_before_it() {
        let step = read("trades.BTC-PERPETUAL.100ms", &[8, 10]).sequence();
        assert_eq!(step, Some(Step::Run { first: 9, last: 10 }));
    }

    #[test]
    fn the_check_follows_trades_and_sees_each_hole_once() {
        let mut check = SequenceCheck::new();
        let mut verdict =
            |numbers: &[u64]| check.on_step(read("trades.X.raw", numbers).sequence().unwrap());
        assert_eq!(verdict(&[5]), Verdict::Contiguous);
        assert_eq!(verdict(&[6, 7, 8]), Verdict::Contiguous);
        assert_eq!(verdict(&[7, 8]), Verdict::Duplicate);
        assert_eq!(
            verdict(&[10]),
            Verdict::Broken {
                expected: 9,
                found: 10
            }
        );
        assert_eq!(
            verdict(&[11, 13]),
            Verdict::Broken {
                expected: 11,
                found: 12
            }
        );
        assert_eq!(verdict(&[15, 14]), Verdict::Contiguous);
    }

    #[test]
    fn trades_of_several_instruments_have_no_common_sequence() {
        assert_eq!(read("trades.option.BTC.100ms", &[8, 3]).sequence(), None);
    }

    #[test]
    fn a_message_without_trades_has_no_place_in_the_sequence() {
        assert_eq!(read("trades.BTC-PERPETUAL.100ms", &[]).sequence(), None);
    }

    #[test]
    fn own_trades_are_read_without_a_sequence() {
        let message = UserTrades::decode(&Frame::text(
            r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"user.trades.any.any.raw",
            "data":[{"trade_id":"BTC-1","order_id":"BTC-101","instrument_name":"BTC-PERPETUAL",
            "direction":"buy","price":92294.5,"amount":10,"fee":-0.0000027,"fee_currency":"BTC",
            "timestamp":1590480712800,"trade_seq":1,"liquidity":"M","order_type":"limit",
            "state":"filled","label":"mine","reduce_only":false,"liquidation":null,
            "profit_loss":null}]}}"#,
        ))
        .unwrap();
        assert_eq!(message.trades[0].order_id, "BTC-101");
        assert_eq!(message.trades[0].fee, Some(-0.000_002_7));
        assert_eq!(message.sequence(), None);
    }
}
