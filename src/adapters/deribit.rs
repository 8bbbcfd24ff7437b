//! [Deribit](https://docs.deribit.com), JSON-RPC API v2 over WebSocket.
//!
//! Apart from the session because these are one venue's words: what its channels are called and what
//! its messages hold. A program takes its channels from the functions here, such as [`ticker`] and
//! [`book`], and reads typed messages.
//!
//! Invariants: no text of an error repeats what the venue sent.

mod book;
mod channels;
mod decode;
mod order_book;
mod orders;
mod portfolio;
mod quote;
mod ticker;
mod trades;

pub use book::{Action, Book, BookChange, BookKind, GroupedBook, Level};
pub use channels::{
    Interval, book, grouped_book, portfolio, quote, ticker, trades, user_changes, user_orders,
    user_trades,
};
pub use order_book::{BookError, OrderBook};
pub use orders::{Direction, Order, OrderState, Position, UserChanges, UserOrders};
pub use portfolio::Portfolio;
pub use quote::Quote;
pub use ticker::{Greeks, InstrumentState, Stats, Ticker};
pub use trades::{Trade, Trades, UserTrade, UserTrades};
