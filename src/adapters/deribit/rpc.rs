//! Deribit's methods as typed requests, one constructor each.
//!
//! Give them to [`Session::invoke`](crate::Session::invoke):
//!
//! ```no_run
//! use mainstay::adapters::deribit::rpc::{self, NewOrder};
//!
//! # async fn run(session: mainstay::Session) -> Result<(), mainstay::error::RequestError> {
//! let book = session.invoke(rpc::order_book("BTC-PERPETUAL", Some(10))).await?;
//! let order = NewOrder::limit("BTC-PERPETUAL", 10.0, book.best_bid_price.unwrap_or(1.0)).label("mine");
//! let placed = session.invoke(rpc::buy(&order)).await?;
//! session.invoke(rpc::cancel(&placed.order.order_id)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Apart from the channels because these are asked once and answered once. By theme: `market` needs no
//! credentials, `account` reads what is ours, `trading` changes it, `connection` is about the connection
//! and its tokens.
//!
//! Invariants: whatever reaches the matching engine, and whatever spends a token, is written at most
//! once; reads may be asked again. Numbers are read as the venue sends them, fields that are not known are
//! ignored, and what an instrument or an account may lack is `None`.

mod account;
mod connection;
mod market;
mod trading;

use std::time::Duration;

pub use account::{
    AccountLimits, AccountSummary, EngineLimits, Rate, account_summary, open_orders,
    open_orders_by_currency, open_orders_by_instrument, order_state, position, positions,
};
pub use connection::{
    CancelOnDisconnect, Login, Token, Tokens, Version, authenticate, cancel_on_disconnect,
    disable_cancel_on_disconnect, disable_heartbeat, enable_cancel_on_disconnect, exchange_token,
    fork_token, hello, logout, set_heartbeat, subscribe, subscribe_private, test, unsubscribe,
    unsubscribe_all, unsubscribe_all_private, unsubscribe_private,
};
pub use market::{
    BookSummary, IndexPrice, Instrument, Locked, PlatformStatus, PriceLevels,
    book_summary_by_currency, book_summary_by_instrument, index_price, instruments, order_book,
    status, ticker, time,
};
pub use trading::{
    Edit, NewOrder, OrderType, Placed, TimeInForce, Trigger, buy, cancel, cancel_all,
    cancel_all_by_currency, cancel_all_by_instrument, cancel_by_label, close_position, edit, sell,
};

/// What most methods may take.
const USUAL: Duration = Duration::from_secs(10);

/// What the clock and the like may take.
const SHORT: Duration = Duration::from_secs(5);
