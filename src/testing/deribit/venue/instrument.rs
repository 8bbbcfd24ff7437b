//! One instrument of the simulated market: its book, its trades, its statistics.
//!
//! A file of its own because a venue is a number of these, and each moves without the others.
//!
//! Invariants: `trade_seq` is consecutive; every interval is told every trade once; a step changes
//! the book before anybody trades.

use fastrand::Rng;
use serde::Serialize;
use serde_json::json;

use super::super::book::{Book, Feed, price};
use super::{INTERVALS, Update, currency, text};

#[derive(Debug)]
pub(super) struct Instrument {
    pub(super) name: String,
    book: Book,
    /// One per interval.
    pub(super) feeds: Vec<Feed>,
    pub(super) trade_seq: u64,
    /// Trades an interval has not told yet.
    pub(super) untold: Vec<Vec<Trade>>,
    pub(super) last_price: f64,
    open: f64,
    pub(super) low: f64,
    high: f64,
    volume: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Trade {
    trade_seq: u64,
    trade_id: String,
    timestamp: u64,
    tick_direction: u8,
    price: f64,
    mark_price: f64,
    instrument_name: String,
    index_price: f64,
    direction: &'static str,
    amount: f64,
}

#[derive(Serialize)]
struct Ticker<'a> {
    timestamp: u64,
    stats: Stats,
    state: &'static str,
    settlement_price: f64,
    open_interest: f64,
    min_price: f64,
    max_price: f64,
    mark_price: f64,
    last_price: f64,
    interest_value: f64,
    instrument_name: &'a str,
    index_price: f64,
    funding_8h: f64,
    estimated_delivery_price: f64,
    current_funding: f64,
    best_bid_price: f64,
    best_bid_amount: f64,
    best_ask_price: f64,
    best_ask_amount: f64,
}

#[derive(Serialize)]
struct Stats {
    volume: f64,
    price_change: f64,
    low: f64,
    high: f64,
}

impl Instrument {
    pub(super) fn new(name: &str, middle: i64, rng: &mut Rng) -> Self {
        let book = Book::new(middle, rng);
        let start = price(middle);
        Self {
            name: name.to_owned(),
            feeds: INTERVALS.iter().map(|_| Feed::new(&book)).collect(),
            trade_seq: rng.u64(100_000..90_000_000),
            untold: INTERVALS.iter().map(|_| Vec::new()).collect(),
            book,
            last_price: start,
            open: start,
            low: start,
            high: start,
            volume: 0.0,
        }
    }

    pub(super) fn step(&mut self, rng: &mut Rng, now: u64) {
        self.book.step(rng);
        for _ in 0..rng.u32(0..3) {
            let buys = rng.bool();
            let (paid, _) = match buys {
                true => self.book.best_ask(),
                false => self.book.best_bid(),
            };
            self.trade_seq += 1;
            let trade = Trade {
                trade_seq: self.trade_seq,
                trade_id: format!("{}-{}", currency(&self.name), self.trade_seq),
                timestamp: now,
                tick_direction: match paid.total_cmp(&self.last_price) {
                    std::cmp::Ordering::Greater => 0,
                    std::cmp::Ordering::Equal => 1,
                    std::cmp::Ordering::Less => 2,
                },
                price: paid,
                mark_price: self.mark(),
                instrument_name: self.name.clone(),
                index_price: self.mark(),
                direction: if buys { "buy" } else { "sell" },
                amount: f64::from(rng.u32(1..500) * 10),
            };
            self.last_price = paid;
            self.low = self.low.min(paid);
            self.high = self.high.max(paid);
            self.volume += trade.amount / paid;
            for untold in &mut self.untold {
                untold.push(trade.clone());
            }
        }
    }

    pub(super) fn speak(&mut self, number: u64, now: u64, updates: &mut Vec<Update>) {
        let (ticker, quote) = (self.ticker(now), self.quote(now));
        let name = &self.name;
        updates.push(Update {
            channel: format!("quote.{name}"),
            data: quote,
        });
        let parts = self.feeds.iter_mut().zip(&mut self.untold);
        for ((interval, every), (feed, untold)) in INTERVALS.iter().zip(parts) {
            if !number.is_multiple_of(*every) {
                continue;
            }
            updates.push(Update {
                channel: format!("ticker.{name}.{interval}"),
                data: ticker.clone(),
            });
            updates.push(Update {
                channel: format!("book.{name}.{interval}"),
                data: text(&feed.change(&self.book, name, now)),
            });
            let trades = std::mem::take(untold);
            if !trades.is_empty() {
                updates.push(Update {
                    channel: format!("trades.{name}.{interval}"),
                    data: text(&trades),
                });
            }
        }
    }

    fn mark(&self) -> f64 {
        price(self.book.middle)
    }

    pub(super) fn ticker(&self, now: u64) -> String {
        let (bid, ask) = (self.book.best_bid(), self.book.best_ask());
        let mark = self.mark();
        text(&Ticker {
            timestamp: now,
            stats: Stats {
                volume: self.volume,
                price_change: (self.last_price / self.open - 1.0) * 100.0,
                low: self.low,
                high: self.high,
            },
            state: "open",
            settlement_price: self.open,
            open_interest: 45_000_000.0 + self.volume,
            min_price: mark * 0.985,
            max_price: mark * 1.015,
            mark_price: mark,
            last_price: self.last_price,
            interest_value: 0.0,
            instrument_name: &self.name,
            index_price: mark,
            funding_8h: 0.000_01,
            estimated_delivery_price: mark,
            current_funding: 0.0,
            best_bid_price: bid.0,
            best_bid_amount: bid.1,
            best_ask_price: ask.0,
            best_ask_amount: ask.1,
        })
    }

    pub(super) fn quote(&self, now: u64) -> String {
        let (bid, ask) = (self.book.best_bid(), self.book.best_ask());
        json!({
            "timestamp": now,
            "instrument_name": self.name,
            "best_bid_price": bid.0,
            "best_bid_amount": bid.1,
            "best_ask_price": ask.0,
            "best_ask_amount": ask.1,
        })
        .to_string()
    }
}
