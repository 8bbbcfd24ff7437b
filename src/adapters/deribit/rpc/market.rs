//! Public market data, asked for once.

use serde::Deserialize;

use super::{SHORT, USUAL};
use crate::adapters::deribit::{InstrumentState, Stats, Ticker};

crate::rpc! {
    /// The venue's clock, in milliseconds since the Unix epoch (`public/get_time`). A session keeps time
    /// by itself: [`Session::venue_time`](crate::Session::venue_time).
    pub fn time() -> u64 = "public/get_time", idempotent, within SHORT;
    /// Whether trading is locked (`public/status`).
    pub fn status() -> PlatformStatus = "public/status", idempotent, within SHORT;
    /// The instruments of a currency (`any` for all), of one kind (`future`, `option`, `spot`,
    /// `future_combo`, `option_combo`) or of all, expired ones instead if asked for
    /// (`public/get_instruments`). The venue allows one call a second.
    pub fn instruments(currency: &str, kind: Option<&str>, expired: Option<bool>) -> Vec<Instrument>
        = "public/get_instruments", idempotent, within USUAL;
    /// An instrument's order book with the `depth` best levels of each side (the venue knows 1, 5, 10,
    /// 20, 50, 100, 1000 and 10000; its default is 5) (`public/get_order_book`).
    pub fn order_book(instrument_name: &str, depth: Option<u32>) -> PriceLevels
        = "public/get_order_book", idempotent, within USUAL;
    /// Prices, statistics and greeks of an instrument (`public/ticker`).
    pub fn ticker(instrument_name: &str) -> Ticker = "public/ticker", idempotent, within USUAL;
    /// Summaries of a currency's instruments, of one kind or of all
    /// (`public/get_book_summary_by_currency`).
    pub fn book_summary_by_currency(currency: &str, kind: Option<&str>) -> Vec<BookSummary>
        = "public/get_book_summary_by_currency", idempotent, within USUAL;
    /// The summary of one instrument, in a list (`public/get_book_summary_by_instrument`).
    pub fn book_summary_by_instrument(instrument_name: &str) -> Vec<BookSummary>
        = "public/get_book_summary_by_instrument", idempotent, within USUAL;
    /// The price of an index such as `btc_usd` (`public/get_index_price`).
    pub fn index_price(index_name: &str) -> IndexPrice = "public/get_index_price", idempotent,
        within USUAL;
}

/// Whether trading is locked, and where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct PlatformStatus {
    /// How much of the platform is locked.
    pub locked: Locked,
    /// The locked currency indices.
    #[serde(default)]
    pub locked_indices: Vec<String>,
}

/// How much of the platform is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "LockedWord")]
#[non_exhaustive]
pub enum Locked {
    /// Nothing.
    No,
    /// Some currencies.
    Partly,
    /// Everything.
    Wholly,
    /// A word that this version does not know.
    Other,
}

/// The venue writes words; older descriptions have booleans.
#[derive(Deserialize)]
#[serde(untagged)]
enum LockedWord {
    Flag(bool),
    Word(String),
    Other(serde::de::IgnoredAny),
}

impl From<LockedWord> for Locked {
    fn from(word: LockedWord) -> Self {
        match word {
            LockedWord::Flag(true) => Self::Wholly,
            LockedWord::Flag(false) => Self::No,
            LockedWord::Word(word) => match word.as_str() {
                "true" => Self::Wholly,
                "partial" => Self::Partly,
                "false" => Self::No,
                _ => Self::Other,
            },
            LockedWord::Other(_) => Self::Other,
        }
    }
}

/// An instrument and the rules of its trading.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Instrument {
    /// Its name.
    pub instrument_name: String,
    /// `future`, `option`, `spot`, `future_combo`, `option_combo`.
    pub kind: Option<String>,
    /// Whether it can be traded.
    pub is_active: Option<bool>,
    /// The currency that is traded.
    pub base_currency: Option<String>,
    /// The currency that prices are in.
    pub quote_currency: Option<String>,
    /// The currency that is paid in.
    pub settlement_currency: Option<String>,
    /// Prices are multiples of it.
    pub tick_size: Option<f64>,
    /// The least amount of an order.
    pub min_trade_amount: Option<f64>,
    /// Amounts are multiples of it.
    pub contract_size: Option<f64>,
    /// Milliseconds since the Unix epoch.
    pub creation_timestamp: Option<u64>,
    /// Milliseconds since the Unix epoch; far away for perpetuals.
    pub expiration_timestamp: Option<u64>,
    /// Options only.
    pub strike: Option<f64>,
    /// `call` or `put`; options only.
    pub option_type: Option<String>,
    /// Fee of who was in the book first, as a fraction.
    pub maker_commission: Option<f64>,
    /// Fee of who came later, as a fraction.
    pub taker_commission: Option<f64>,
}

/// An order book as it is now.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct PriceLevels {
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// The instrument.
    pub instrument_name: String,
    /// The number of the book's last change; it fits the `book` channel's.
    pub change_id: Option<u64>,
    /// Whether it is traded.
    pub state: Option<InstrumentState>,
    /// Price and amount, the highest price first.
    pub bids: Vec<(f64, f64)>,
    /// Price and amount, the lowest price first.
    pub asks: Vec<(f64, f64)>,
    /// Highest price that somebody would pay.
    pub best_bid_price: Option<f64>,
    /// For how much.
    pub best_bid_amount: Option<f64>,
    /// Lowest price at which somebody would sell.
    pub best_ask_price: Option<f64>,
    /// How much.
    pub best_ask_amount: Option<f64>,
    /// Price that positions are valued at.
    pub mark_price: Option<f64>,
    /// Price of the index.
    pub index_price: Option<f64>,
    /// Price of the last trade.
    pub last_price: Option<f64>,
    /// Open contracts, in units of the amount.
    pub open_interest: Option<f64>,
    /// The last 24 hours.
    #[serde(default)]
    pub stats: Stats,
}

/// An instrument in a few numbers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct BookSummary {
    /// The instrument.
    pub instrument_name: String,
    /// Milliseconds since the Unix epoch.
    pub creation_timestamp: Option<u64>,
    /// Highest price that somebody would pay.
    pub bid_price: Option<f64>,
    /// Lowest price at which somebody would sell.
    pub ask_price: Option<f64>,
    /// Between the two.
    pub mid_price: Option<f64>,
    /// Price that positions are valued at.
    pub mark_price: Option<f64>,
    /// Price of the last trade.
    pub last: Option<f64>,
    /// Highest price of the last 24 hours.
    pub high: Option<f64>,
    /// Lowest price of the last 24 hours.
    pub low: Option<f64>,
    /// Traded in the last 24 hours, in the base currency.
    pub volume: Option<f64>,
    /// Traded in the last 24 hours, in US dollars.
    pub volume_usd: Option<f64>,
    /// Open contracts, in units of the amount.
    pub open_interest: Option<f64>,
    /// Change of the price in the last 24 hours, in percent.
    pub price_change: Option<f64>,
    /// The currency that is traded.
    pub base_currency: Option<String>,
    /// The currency that prices are in.
    pub quote_currency: Option<String>,
}

/// The price of an index.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct IndexPrice {
    /// The price now.
    pub index_price: f64,
    /// Delivery price as of now.
    pub estimated_delivery_price: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_as_word_and_as_boolean() {
        for (word, expected) in [
            ("\"true\"", Locked::Wholly),
            ("\"partial\"", Locked::Partly),
            ("\"false\"", Locked::No),
            ("true", Locked::Wholly),
            ("false", Locked::No),
            ("\"maybe\"", Locked::Other),
            ("null", Locked::Other),
        ] {
            let status: PlatformStatus =
                serde_json::from_str(&format!(r#"{{"locked":{word}}}"#)).unwrap();
            assert_eq!(status.locked, expected, "{word}");
        }
    }

    #[test]
    fn an_order_book_is_read_as_the_venue_sends_it() {
        let book: PriceLevels = serde_json::from_str(
            r#"{"timestamp":1550757626706,"stats":{"volume":93.35589552,"price_change":0.6913,
            "low":3940.75,"high":3976.25},"state":"open","settlement_price":3925.85,
            "open_interest":45.27600333464605,"min_price":3932.22,"max_price":3971.74,
            "mark_price":3931.97,"last_price":3955.75,"instrument_name":"BTC-PERPETUAL",
            "index_price":3910.46,"funding_8h":0.00455263,"current_funding":0.00500063,
            "change_id":474988,"bids":[[3955.75,30.0],[3940.75,102020]],"best_bid_price":3955.75,
            "best_bid_amount":30.0,"best_ask_price":0.0,"best_ask_amount":0.0,"asks":[]}"#,
        )
        .unwrap();
        assert_eq!(book.bids, [(3955.75, 30.0), (3940.75, 102_020.0)]);
        assert_eq!((book.change_id, book.asks.len()), (Some(474_988), 0));
    }

    #[test]
    fn an_instrument_with_unknown_fields_is_read() {
        let instrument: Instrument = serde_json::from_str(
            r#"{"tick_size":0.5,"taker_commission":0.0005,"settlement_period":"perpetual",
            "settlement_currency":"BTC","rfq":false,"quote_currency":"USD","price_index":"btc_usd",
            "min_trade_amount":10,"max_leverage":50,"maker_commission":0,"kind":"future",
            "is_active":true,"instrument_name":"BTC-PERPETUAL","tick_size_steps":[{"a":1}],
            "expiration_timestamp":32503708800000,"contract_size":10,"base_currency":"BTC"}"#,
        )
        .unwrap();
        assert_eq!(instrument.min_trade_amount, Some(10.0));
        assert_eq!(instrument.strike, None);
    }
}
