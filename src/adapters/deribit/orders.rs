//! `user.orders.*` and `user.changes.*`: what becomes of our orders and positions.
//!
//! Apart from the trades because an order is a state that each message replaces.
//!
//! Invariants: one order alone and a list of orders read alike, because the raw channels send the
//! former; a word that is not known is no failure, because losing sight of an order is worse.

use serde::Deserialize;

use super::{UserTrade, decode};
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::platform::Message;

/// A message of `user.orders.*`: one or more orders of ours, each as it is now.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
#[non_exhaustive]
pub struct UserOrders {
    /// The orders.
    #[serde(deserialize_with = "decode::one_or_many")]
    pub orders: Vec<Order>,
}

/// An order of ours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Order {
    /// The venue's name for it.
    pub order_id: String,
    /// What has become of it.
    pub order_state: OrderState,
    /// The instrument.
    pub instrument_name: String,
    /// Buy or sell.
    pub direction: Direction,
    /// The limit; none for orders at the market's price.
    #[serde(default, deserialize_with = "decode::price")]
    pub price: Option<f64>,
    /// The amount ordered: US dollars for inverse futures, else units of the base currency.
    pub amount: Option<f64>,
    /// The amount filled; none for an order that waits for its trigger.
    pub filled_amount: Option<f64>,
    /// Average price of what was filled.
    pub average_price: Option<f64>,
    /// `limit`, `market`, `stop_limit` and so on.
    pub order_type: Option<String>,
    /// The label that we gave it.
    pub label: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub creation_timestamp: Option<u64>,
    /// Milliseconds since the Unix epoch.
    pub last_update_timestamp: Option<u64>,
    /// Why the venue cancelled it.
    pub cancel_reason: Option<String>,
}

/// What has become of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OrderState {
    /// It is in the book.
    Open,
    /// It is filled.
    Filled,
    /// It was not accepted.
    Rejected,
    /// It was cancelled, perhaps after it had been filled in part.
    Cancelled,
    /// It waits for its trigger.
    Untriggered,
    /// Its trigger came; another order stands for it now.
    Triggered,
    /// A word that this version does not know.
    #[serde(other)]
    Other,
}

/// Buy or sell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Buy.
    Buy,
    /// Sell.
    Sell,
}

impl Message for UserOrders {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        decode::data(frame, "list of own orders")
    }
}

/// A message of `user.changes.*`: what changed together.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct UserChanges {
    /// Orders, each as it is now.
    #[serde(default)]
    pub orders: Vec<Order>,
    /// New trades.
    #[serde(default)]
    pub trades: Vec<UserTrade>,
    /// Positions, each as it is now.
    #[serde(default)]
    pub positions: Vec<Position>,
}

/// A position of ours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Position {
    /// The instrument.
    pub instrument_name: String,
    /// How much; negative if we are short.
    pub size: f64,
    /// Average price at which it was built.
    pub average_price: Option<f64>,
    /// Mark price.
    pub mark_price: Option<f64>,
    /// Won or lost, if it were closed at the mark price.
    pub floating_profit_loss: Option<f64>,
    /// Won or lost for good.
    pub realized_profit_loss: Option<f64>,
}

impl Message for UserChanges {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        decode::data(frame, "list of own changes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"order_id":"4008314325","order_state":"open","max_show":40,"api":true,
        "amount":40,"web":false,"time_in_force":"good_til_cancelled","replaced":false,
        "reduce_only":false,"profit_loss":0.0,"price":9050.5,"post_only":false,"order_type":"limit",
        "last_update_timestamp":1590484645991,"label":"","instrument_name":"BTC-PERPETUAL",
        "filled_amount":0,"direction":"buy","creation_timestamp":1590484645991,"average_price":0.0}"#;

    fn frame(data: &str) -> Frame {
        Frame::text(format!(
            r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":
            "user.orders.BTC-PERPETUAL.raw","data":{data}}}}}"#
        ))
    }

    fn read(data: &str) -> Vec<Order> {
        UserOrders::decode(&frame(data)).unwrap().orders
    }

    #[test]
    fn one_order_alone_and_a_list_read_alike() {
        let alone = read(ORDER);
        assert_eq!(alone, read(&format!("[{ORDER}]")));
        assert_eq!(read(&format!("[{ORDER},{ORDER}]")).len(), 2);
        assert!(read("[]").is_empty());
        let order = &alone[0];
        assert_eq!(
            (order.order_state, order.direction),
            (OrderState::Open, Direction::Buy)
        );
        assert_eq!(
            (order.price, order.amount, order.filled_amount),
            (Some(9050.5), Some(40.0), Some(0.0))
        );
        assert_eq!(order.creation_timestamp, Some(1_590_484_645_991));
    }

    #[test]
    fn an_order_at_the_markets_price_has_no_limit() {
        for (price, expected) in [
            ("\"market_price\"", None),
            ("null", None),
            ("7", Some(7.0)),
            ("-2", Some(-2.0)),
        ] {
            let order = ORDER.replace("9050.5", price);
            assert_eq!(read(&order)[0].price, expected, "{price}");
        }
        assert_eq!(
            read(&ORDER.replace(r#""price":9050.5,"#, ""))[0].price,
            None
        );
    }

    #[test]
    fn an_order_that_waits_for_its_trigger_is_read() {
        let order = ORDER
            .replace(r#""filled_amount":0,"#, "")
            .replace("\"open\"", "\"untriggered\"");
        let order = &read(&order)[0];
        assert_eq!(
            (order.order_state, order.filled_amount),
            (OrderState::Untriggered, None)
        );
    }

    #[test]
    fn an_unknown_state_is_no_failure() {
        assert_eq!(
            read(&ORDER.replace("\"open\"", "\"pondered\""))[0].order_state,
            OrderState::Other
        );
    }

    #[test]
    fn what_is_no_order_is_undecodable() {
        for data in ["null", "1", "\"x\"", "{}", "[{}]", "[[]]"] {
            assert!(UserOrders::decode(&frame(data)).is_err(), "{data}");
        }
        assert!(UserOrders::decode(&frame(&ORDER.replace("9050.5", "[1]"))).is_err());
    }

    #[test]
    fn orders_trades_and_positions_change_together() {
        let changes = UserChanges::decode(&frame(&format!(
            r#"{{"instrument_name":"BTC-PERPETUAL","trades":[{{"trade_id":"1","order_id":"4008314325",
            "timestamp":1,"instrument_name":"BTC-PERPETUAL","price":9050.5,"amount":40,
            "direction":"buy"}}],"positions":[{{"instrument_name":"BTC-PERPETUAL","size":-40.0,
            "direction":"zero","average_price":9050.5,"kind":"future"}}],"orders":[{ORDER}]}}"#
        )))
        .unwrap();
        assert_eq!((changes.orders.len(), changes.trades.len()), (1, 1));
        assert_eq!(changes.positions[0].size, -40.0);
        assert_eq!(changes.sequence(), None);
    }
}
