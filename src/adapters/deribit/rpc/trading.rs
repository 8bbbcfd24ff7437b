//! Orders. None of these is ever written twice: when a fate is unknown, ask
//! [`order_state`](super::order_state), [`open_orders`](super::open_orders) or the `user.orders` channel.

use serde::{Deserialize, Serialize};

use super::USUAL;
use crate::adapters::deribit::{Order, UserTrade};

crate::rpc! {
    /// Buys (`private/buy`).
    pub fn buy(params: &NewOrder) -> Placed = "private/buy", at_most_once, within USUAL;
    /// Sells (`private/sell`).
    pub fn sell(params: &NewOrder) -> Placed = "private/sell", at_most_once, within USUAL;
    /// Changes an open order (`private/edit`).
    pub fn edit(params: &Edit) -> Placed = "private/edit", at_most_once, within USUAL;
    /// Closes the position in an instrument: `type` is `limit`, with a price, or `market`
    /// (`private/close_position`).
    pub fn close_position(instrument_name: &str, r#type: OrderType, price: Option<f64>) -> Placed
        = "private/close_position", at_most_once, within USUAL;
    /// Cancels an order, which is the result (`private/cancel`).
    pub fn cancel(order_id: &str) -> Order = "private/cancel", at_most_once, within USUAL;
    /// Cancels the orders that bear a label, in a currency or in all; the result is how many
    /// (`private/cancel_by_label`).
    pub fn cancel_by_label(label: &str, currency: Option<&str>) -> u64
        = "private/cancel_by_label", at_most_once, within USUAL;
    /// Cancels every order of the account; the result is how many (`private/cancel_all`).
    pub fn cancel_all() -> u64 = "private/cancel_all", at_most_once, within USUAL;
    /// Cancels the orders in a currency, of one kind or of all; the result is how many
    /// (`private/cancel_all_by_currency`).
    pub fn cancel_all_by_currency(currency: &str, kind: Option<&str>) -> u64
        = "private/cancel_all_by_currency", at_most_once, within USUAL;
    /// Cancels the orders in an instrument; the result is how many
    /// (`private/cancel_all_by_instrument`).
    pub fn cancel_all_by_instrument(instrument_name: &str) -> u64
        = "private/cancel_all_by_instrument", at_most_once, within USUAL;
}

/// An order to be. Amounts are US dollars for inverse futures, else units of the base currency.
///
/// ```
/// use mainstay::adapters::deribit::rpc::{NewOrder, TimeInForce};
///
/// let order = NewOrder::limit("BTC-PERPETUAL", 10.0, 9_000.5)
///     .label("maker-1")
///     .post_only(true)
///     .time_in_force(TimeInForce::GoodTilDay);
/// # let _ = order;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[must_use = "an order does nothing until it is sent"]
pub struct NewOrder {
    instrument_name: String,
    amount: f64,
    #[serde(rename = "type")]
    kind: OrderType,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_in_force: Option<TimeInForce>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reject_post_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reduce_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_show: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger_price: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<Trigger>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<u64>,
}

impl NewOrder {
    /// At this price or better.
    pub fn limit(instrument: impl Into<String>, amount: f64, price: f64) -> Self {
        Self {
            price: Some(price),
            ..Self::of(instrument.into(), amount, OrderType::Limit)
        }
    }

    /// At the market's price.
    pub fn market(instrument: impl Into<String>, amount: f64) -> Self {
        Self::of(instrument.into(), amount, OrderType::Market)
    }

    /// At the market's price as soon as `trigger` reaches `trigger_price`.
    pub fn stop_market(
        instrument: impl Into<String>,
        amount: f64,
        trigger_price: f64,
        trigger: Trigger,
    ) -> Self {
        Self {
            trigger_price: Some(trigger_price),
            trigger: Some(trigger),
            ..Self::of(instrument.into(), amount, OrderType::StopMarket)
        }
    }

    /// At `price` or better as soon as `trigger` reaches `trigger_price`.
    pub fn stop_limit(
        instrument: impl Into<String>,
        amount: f64,
        price: f64,
        trigger_price: f64,
        trigger: Trigger,
    ) -> Self {
        Self {
            price: Some(price),
            trigger_price: Some(trigger_price),
            trigger: Some(trigger),
            ..Self::of(instrument.into(), amount, OrderType::StopLimit)
        }
    }

    /// A name of ours for it, at most 64 characters. With it an order of unknown fate can be found again.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// How long it stays. Default, the venue's: until it is cancelled.
    pub fn time_in_force(mut self, time_in_force: TimeInForce) -> Self {
        self.time_in_force = Some(time_in_force);
        self
    }

    /// Never take from the book: the venue moves the price if it would. Default, the venue's: it may take.
    pub fn post_only(mut self, on: bool) -> Self {
        self.post_only = Some(on);
        self
    }

    /// With [`NewOrder::post_only`]: refuse the order (11054) instead of moving its price.
    pub fn reject_post_only(mut self, on: bool) -> Self {
        self.reject_post_only = Some(on);
        self
    }

    /// Only make a position smaller.
    pub fn reduce_only(mut self, on: bool) -> Self {
        self.reduce_only = Some(on);
        self
    }

    /// How much of it others see; 0 hides it.
    pub fn max_show(mut self, amount: f64) -> Self {
        self.max_show = Some(amount);
        self
    }

    /// The venue refuses it (13888) if it gets to it later than this, in milliseconds since the Unix epoch by the venue's
    /// clock ([`VenueTime`](crate::VenueTime)).
    pub fn valid_until(mut self, milliseconds: u64) -> Self {
        self.valid_until = Some(milliseconds);
        self
    }

    fn of(instrument_name: String, amount: f64, kind: OrderType) -> Self {
        Self {
            instrument_name,
            amount,
            kind,
            price: None,
            label: None,
            time_in_force: None,
            post_only: None,
            reject_post_only: None,
            reduce_only: None,
            max_show: None,
            trigger_price: None,
            trigger: None,
            valid_until: None,
        }
    }
}

/// A change of an open order. What is not set stays.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[must_use = "a change does nothing until it is sent"]
pub struct Edit {
    order_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reduce_only: Option<bool>,
}

impl Edit {
    /// A change of this order.
    pub fn order(order_id: impl Into<String>) -> Self {
        Self {
            order_id: order_id.into(),
            amount: None,
            price: None,
            post_only: None,
            reduce_only: None,
        }
    }

    /// Its new amount, with what is filled already.
    pub fn amount(mut self, amount: f64) -> Self {
        self.amount = Some(amount);
        self
    }

    /// Its new price.
    pub fn price(mut self, price: f64) -> Self {
        self.price = Some(price);
        self
    }

    /// As [`NewOrder::post_only`].
    pub fn post_only(mut self, on: bool) -> Self {
        self.post_only = Some(on);
        self
    }

    /// As [`NewOrder::reduce_only`].
    pub fn reduce_only(mut self, on: bool) -> Self {
        self.reduce_only = Some(on);
        self
    }
}

/// What decides an order's price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OrderType {
    /// A limit.
    Limit,
    /// The market.
    Market,
    /// A limit, once it is triggered.
    StopLimit,
    /// The market, once it is triggered.
    StopMarket,
}

/// How long an order stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TimeInForce {
    /// Until it is cancelled.
    GoodTilCancelled,
    /// Until the day ends, by UTC.
    GoodTilDay,
    /// Filled whole at once, or not at all.
    FillOrKill,
    /// What cannot be filled at once is cancelled.
    ImmediateOrCancel,
}

/// The price that triggers an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Trigger {
    /// The index.
    IndexPrice,
    /// The mark price.
    MarkPrice,
    /// The last trade.
    LastPrice,
}

/// An order that the venue accepted, and what it was filled with at once.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Placed {
    /// The order as it is now.
    pub order: Order,
    /// Its trades so far.
    #[serde(default)]
    pub trades: Vec<UserTrade>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::rpc::{Class, TypedCall};

    fn params<R>(call: &TypedCall<R>) -> String {
        call.call().unwrap().params().unwrap().get().to_owned()
    }

    #[test]
    fn an_order_whose_price_is_no_number_is_not_sent_without_one() {
        let limit = |price| buy(&NewOrder::limit("BTC-PERPETUAL", 10.0, price)).call();
        assert!(limit(9000.5).is_ok());
        for odd in [f64::NAN, f64::INFINITY] {
            let error = limit(odd).unwrap_err().to_string();
            assert!(
                error.contains("\"private/buy\"") && error.contains("price: "),
                "{error}"
            );
        }
        assert!(edit(&Edit::order("1").amount(f64::NAN)).call().is_err());
        let close = |price| close_position("BTC-PERPETUAL", OrderType::Limit, price).call();
        assert!(close(None).is_ok());
        assert!(close(Some(f64::NAN)).is_err());
    }

    #[test]
    fn orders_are_written_as_the_venue_reads_them() {
        let market = buy(&NewOrder::market("BTC-PERPETUAL", 10.0).label("m"));
        assert_eq!(market.method(), "private/buy");
        assert_eq!(
            params(&market),
            r#"{"instrument_name":"BTC-PERPETUAL","amount":10.0,"type":"market","label":"m"}"#
        );
        let stop = NewOrder::stop_limit("X", 1.5, 9.0, 10.0, Trigger::MarkPrice)
            .time_in_force(TimeInForce::ImmediateOrCancel)
            .reduce_only(true);
        assert_eq!(
            params(&sell(&stop)),
            r#"{"instrument_name":"X","amount":1.5,"type":"stop_limit","price":9.0,"time_in_force":"immediate_or_cancel","reduce_only":true,"trigger_price":10.0,"trigger":"mark_price"}"#
        );
        assert_eq!(
            params(&edit(&Edit::order("ETH-1").price(2.0))),
            r#"{"order_id":"ETH-1","price":2.0}"#
        );
        assert_eq!(
            params(&close_position("X", OrderType::Market, None)),
            r#"{"instrument_name":"X","type":"market"}"#
        );
    }

    #[test]
    fn nothing_that_reaches_the_matching_engine_is_written_twice() {
        let order = NewOrder::market("X", 1.0);
        for class in [
            buy(&order).class(),
            sell(&order).class(),
            edit(&Edit::order("1")).class(),
            close_position("X", OrderType::Market, None).class(),
            cancel("1").class(),
            cancel_by_label("l", None).class(),
            cancel_all().class(),
            cancel_all_by_currency("BTC", None).class(),
            cancel_all_by_instrument("X").class(),
        ] {
            assert_eq!(class, Class::AtMostOnce);
        }
    }
}
