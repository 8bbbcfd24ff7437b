//! The names of Deribit's channels: how they are written, and what a name says about its stream.
//!
//! Apart from the messages because both sides need the grammar: the constructors bind a name to the
//! type of its messages, and the platform reads from a name alone whether the stream is private and
//! whether a consumer is whole again after a resubscription.
//!
//! Invariants: a channel that is not known counts as a public stream of events, so that a loss is
//! reported rather than glossed over. Names are not checked: the venue leaves out what it does not
//! know, and the session reports that as a rejection.

use super::{
    Book, GroupedBook, Portfolio, Quote, Ticker, Trades, UserChanges, UserOrders, UserTrades,
};
use crate::platform::{Channel, ChannelKind};

/// How often a channel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Interval {
    /// On every change. Public raw channels need a session with credentials.
    Raw,
    /// At most every 100 ms.
    Ms100,
    /// Aggregated by the venue to about one message a second.
    Agg2,
}

impl Interval {
    /// The word that stands in a channel's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Ms100 => "100ms",
            Self::Agg2 => "agg2",
        }
    }
}

/// Prices, statistics and greeks of an instrument, whole in every message.
///
/// ```
/// use mainstay::adapters::deribit::{self, Interval};
///
/// let channel = deribit::ticker("BTC-PERPETUAL", Interval::Ms100);
/// assert_eq!(&**channel.name(), "ticker.BTC-PERPETUAL.100ms");
/// ```
#[must_use]
pub fn ticker(instrument: &str, interval: Interval) -> Channel<Ticker> {
    Channel::new(format!("ticker.{instrument}.{}", interval.as_str()))
}

/// An instrument's whole order book: a snapshot, then changes. Feed them to an
/// [`OrderBook`](super::OrderBook).
#[must_use]
pub fn book(instrument: &str, interval: Interval) -> Channel<Book> {
    Channel::new(format!("book.{instrument}.{}", interval.as_str()))
}

/// The best levels of an instrument's order book, whole in every message: `depth` levels (1, 10 or
/// 20) with prices grouped to `group` (such as `5`, or `none`).
#[must_use]
pub fn grouped_book(
    instrument: &str,
    group: &str,
    depth: u32,
    interval: Interval,
) -> Channel<GroupedBook> {
    Channel::new(format!(
        "book.{instrument}.{group}.{depth}.{}",
        interval.as_str()
    ))
}

/// Trades of an instrument. For all instruments of a kind write `KIND.CURRENCY`, such as
/// `option.BTC`; the trades of such a channel have no common sequence that could be checked.
#[must_use]
pub fn trades(instrument: &str, interval: Interval) -> Channel<Trades> {
    Channel::new(format!("trades.{instrument}.{}", interval.as_str()))
}

/// Best bid and ask of an instrument, whole in every message.
#[must_use]
pub fn quote(instrument: &str) -> Channel<Quote> {
    Channel::new(format!("quote.{instrument}"))
}

/// Our orders in an instrument, or in `KIND.CURRENCY` (`any.any` for all). Needs credentials.
#[must_use]
pub fn user_orders(instrument: &str, interval: Interval) -> Channel<UserOrders> {
    Channel::new(format!("user.orders.{instrument}.{}", interval.as_str()))
}

/// Our trades in an instrument, or in `KIND.CURRENCY` (`any.any` for all). Needs credentials.
#[must_use]
pub fn user_trades(instrument: &str, interval: Interval) -> Channel<UserTrades> {
    Channel::new(format!("user.trades.{instrument}.{}", interval.as_str()))
}

/// Our orders, trades and positions in an instrument, or in `KIND.CURRENCY` (`any.any` for all),
/// as they change together. Needs credentials.
#[must_use]
pub fn user_changes(instrument: &str, interval: Interval) -> Channel<UserChanges> {
    Channel::new(format!("user.changes.{instrument}.{}", interval.as_str()))
}

/// Balance and margin in a currency (`any` for all), whole in every message. Needs credentials.
#[must_use]
pub fn portfolio(currency: &str) -> Channel<Portfolio> {
    Channel::new(format!("user.portfolio.{}", currency.to_ascii_lowercase()))
}

/// Whether a channel is to be had from `private/subscribe` only.
pub(super) fn is_private(name: &str) -> bool {
    [
        "user.",
        "block_rfq.maker.",
        "block_rfq.taker.",
        "block_trade_confirmations",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

/// Whether a channel speaks on every change.
pub(super) fn is_raw(name: &str) -> bool {
    name.ends_with(".raw")
}

/// Whether the channel is about a single instrument: neither instruments nor intervals have dots.
pub(super) fn is_of_one_instrument(name: &str) -> bool {
    name.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// What kind of stream a channel is, in a session that is `authorized` or not.
pub(super) fn kind(name: &str, authorized: bool) -> ChannelKind {
    let family = name.split_once('.').map_or(name, |(family, _)| family);
    let kind = match family {
        // A book begins with a snapshot at each subscription, an incremental ticker with a whole
        // one; every message of the others is whole.
        "ticker"
        | "incremental_ticker"
        | "book"
        | "quote"
        | "perpetual"
        | "deribit_price_index"
        | "deribit_price_ranking"
        | "deribit_price_statistics"
        | "deribit_volatility_index"
        | "estimated_expiration_price" => ChannelKind::state(),
        "user" if name.starts_with("user.portfolio.") => ChannelKind::state(),
        _ => ChannelKind::events(),
    };
    if is_private(name) || (authorized && is_raw(name)) {
        kind.private()
    } else {
        kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_the_venue_reads_them() {
        assert_eq!(
            &**ticker("BTC-PERPETUAL", Interval::Agg2).name(),
            "ticker.BTC-PERPETUAL.agg2"
        );
        assert_eq!(
            &**book("ETH-PERPETUAL", Interval::Raw).name(),
            "book.ETH-PERPETUAL.raw"
        );
        assert_eq!(
            &**grouped_book("BTC-PERPETUAL", "none", 10, Interval::Ms100).name(),
            "book.BTC-PERPETUAL.none.10.100ms"
        );
        assert_eq!(
            &**trades("option.BTC", Interval::Ms100).name(),
            "trades.option.BTC.100ms"
        );
        assert_eq!(&**quote("BTC-PERPETUAL").name(), "quote.BTC-PERPETUAL");
        assert_eq!(
            &**user_orders("any.any", Interval::Raw).name(),
            "user.orders.any.any.raw"
        );
        assert_eq!(
            &**user_trades("BTC-PERPETUAL", Interval::Raw).name(),
            "user.trades.BTC-PERPETUAL.raw"
        );
        assert_eq!(
            &**user_changes("future.BTC", Interval::Ms100).name(),
            "user.changes.future.BTC.100ms"
        );
        assert_eq!(&**portfolio("BTC").name(), "user.portfolio.btc");
    }

    #[test]
    fn each_channel_has_its_kind() {
        let (state, events) = (ChannelKind::state(), ChannelKind::events());
        let table = [
            ("ticker.BTC-PERPETUAL.100ms", state),
            ("incremental_ticker.BTC-PERPETUAL", state),
            ("book.BTC-PERPETUAL.100ms", state),
            ("book.BTC-PERPETUAL.none.20.100ms", state),
            ("quote.BTC-PERPETUAL", state),
            ("deribit_price_index.btc_usd", state),
            ("perpetual.BTC-PERPETUAL.100ms", state),
            ("trades.BTC-PERPETUAL.100ms", events),
            ("trades.option.BTC.100ms", events),
            ("chart.trades.BTC-PERPETUAL.1", events),
            ("instrument.state.any.BTC", events),
            ("platform_state", events),
            ("announcements", events),
            ("block_rfq.trades.BTC", events),
            ("user.portfolio.btc", state.private()),
            ("user.orders.BTC-PERPETUAL.raw", events.private()),
            ("user.trades.any.any.100ms", events.private()),
            ("user.changes.future.BTC.100ms", events.private()),
            ("user.access_log", events.private()),
            ("block_rfq.maker.btc", events.private()),
            ("block_trade_confirmations", events.private()),
            ("no_such_channel", events),
            ("", events),
            (".", events),
        ];
        for (name, expected) in table {
            assert_eq!(kind(name, false), expected, "{name}");
            assert_eq!(kind(name, true), expected, "{name}");
        }
    }

    #[test]
    fn a_public_raw_channel_hangs_on_the_authorization_if_there_is_one() {
        assert!(kind("book.BTC-PERPETUAL.raw", true).private);
        assert!(kind("book.BTC-PERPETUAL.raw", true).restores_state);
        assert!(!kind("book.BTC-PERPETUAL.raw", false).private);
    }

    #[test]
    fn channels_of_a_kind_are_told_from_those_of_an_instrument() {
        assert!(is_of_one_instrument("trades.XRP_USDC-30DEC22-0d5-C.100ms"));
        assert!(!is_of_one_instrument("trades.option.BTC.100ms"));
    }
}
