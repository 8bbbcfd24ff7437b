//! Keeps one instrument's order book from the messages of its channel.
//!
//! Apart from [`Book`] because a message only says what happened, and somebody has to keep what there
//! is now.
//!
//! ```text
//!            snapshot                 change, linked
//!  Waiting -----------> Following ---------------------> Following
//!     ^                     |
//!     +---- clear, break ---+
//! ```
//!
//! Invariants: what is shown is exact or empty, never a book with a hole in it. Deliberately absent:
//! asking for a new snapshot, which is the subscription's business.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::book::{Action, Book, BookChange, BookKind, Level};
use crate::error::{Category, Entry, Recovery, explained, told_with_causes};

/// One instrument's order book.
///
/// Give every message of the channel to [`apply`](Self::apply), and call [`clear`](Self::clear) when
/// the subscription reports a gap.
#[derive(Debug, Clone, Default)]
pub struct OrderBook {
    bids: BTreeMap<Price, f64>,
    asks: BTreeMap<Price, f64>,
    /// What the last message was; none while a snapshot is awaited.
    last: Option<Last>,
}

#[derive(Debug, Clone)]
struct Last {
    instrument_name: String,
    change_id: u64,
}

/// A change could not be applied; the book is empty until the next snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BookError {
    /// A change came while a snapshot was awaited.
    #[error("change {found} came before a snapshot")]
    NoSnapshot {
        /// The change's number.
        found: u64,
    },
    /// A change does not follow the last message.
    #[error(
        "book is broken: expected a change that follows {expected}, found one that follows {found}"
    )]
    Broken {
        /// The number of the last message.
        expected: u64,
        /// The number that the change follows.
        found: u64,
    },
    /// A change of another instrument.
    #[error("book of {expected:?} was given a change of {found:?}")]
    OtherInstrument {
        /// The book's instrument.
        expected: String,
        /// The change's instrument.
        found: String,
    },
}

impl BookError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::NoSnapshot { .. } | Self::Broken { .. } => Recovery::Retry,
            Self::OtherInstrument { .. } => Recovery::Stop,
        }
    }

    fn entry(&self) -> Entry {
        match self {
            Self::NoSnapshot { .. } | Self::Broken { .. } => Entry::new(
                "book-broken",
                Category::Protocol,
                "wait for the next snapshot, which a new subscription brings; a subscription of the session's does so \
                 by itself",
            ),
            Self::OtherInstrument { .. } => Entry::new(
                "book-other-instrument",
                Category::Configuration,
                "keep a book for each instrument",
            ),
        }
    }
}

explained!(BookError);
told_with_causes!(BookError);

impl OrderBook {
    /// An empty book that waits for a snapshot.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a message in: a snapshot replaces the book, a change alters it, a change that has been
    /// taken in before is ignored.
    ///
    /// # Errors
    ///
    /// A [`BookError`] if a change does not follow the last message. The book is empty then, and so
    /// it stays until a snapshot comes; a new subscription brings one.
    pub fn apply(&mut self, book: &Book) -> Result<(), BookError> {
        match book.kind {
            BookKind::Snapshot => {
                self.clear();
                self.last = Some(Last {
                    instrument_name: book.instrument_name.clone(),
                    change_id: book.change_id,
                });
            }
            BookKind::Change => match self.follow(book) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    self.clear();
                    return Err(error);
                }
            },
        }
        alter(&mut self.bids, &book.bids);
        alter(&mut self.asks, &book.asks);
        Ok(())
    }

    /// Forgets everything and waits for a snapshot.
    pub fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
        self.last = None;
    }

    /// The number of the last message; none while a snapshot is awaited.
    #[must_use]
    pub fn change_id(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.change_id)
    }

    /// Highest price that somebody would pay.
    #[must_use]
    pub fn best_bid(&self) -> Option<Level> {
        self.bids().next()
    }

    /// Lowest price at which somebody would sell.
    #[must_use]
    pub fn best_ask(&self) -> Option<Level> {
        self.asks().next()
    }

    /// Prices that somebody would pay, best first.
    pub fn bids(&self) -> impl Iterator<Item = Level> {
        self.bids.iter().rev().map(level)
    }

    /// Prices at which somebody would sell, best first.
    pub fn asks(&self) -> impl Iterator<Item = Level> {
        self.asks.iter().map(level)
    }

    /// Whether a change is new.
    fn follow(&mut self, book: &Book) -> Result<bool, BookError> {
        let Some(last) = &mut self.last else {
            return Err(BookError::NoSnapshot {
                found: book.change_id,
            });
        };
        if book.instrument_name != last.instrument_name {
            let (expected, found) = (last.instrument_name.clone(), book.instrument_name.clone());
            return Err(BookError::OtherInstrument { expected, found });
        }
        match book.prev_change_id {
            Some(previous) if previous == last.change_id => {
                last.change_id = book.change_id;
                Ok(true)
            }
            _ if book.change_id <= last.change_id => Ok(false),
            previous => Err(BookError::Broken {
                expected: last.change_id,
                found: previous.unwrap_or_default(),
            }),
        }
    }
}

/// A price as a key: JSON has neither NaN nor infinity, and both zeros are made one.
#[derive(Debug, Clone, Copy)]
struct Price(f64);

impl Price {
    fn new(price: f64) -> Self {
        Self(price + 0.0)
    }
}

impl Ord for Price {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Price {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Price {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Price {}

fn level((price, amount): (&Price, &f64)) -> Level {
    Level {
        price: price.0,
        amount: *amount,
    }
}

/// New and changed prices are set alike: the link to the message before has shown already that
/// nothing is missing.
fn alter(side: &mut BTreeMap<Price, f64>, changes: &[BookChange]) {
    for change in changes {
        let price = Price::new(change.price);
        match change.action {
            Action::New | Action::Change => {
                side.insert(price, change.amount);
            }
            Action::Delete => {
                side.remove(&price);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Frame;
    use crate::platform::Message;

    fn message(kind: &str, ids: (Option<u64>, u64), bids: &str, asks: &str) -> Book {
        let previous = ids.0.map_or("null".to_owned(), |id| id.to_string());
        Book::decode(&Frame::text(format!(
            r#"{{"params":{{"channel":"book.X.raw","data":{{"type":"{kind}","timestamp":1,
            "prev_change_id":{previous},"instrument_name":"X","change_id":{},"bids":{bids},
            "asks":{asks}}}}}}}"#,
            ids.1
        )))
        .unwrap()
    }

    fn started() -> OrderBook {
        let mut book = OrderBook::new();
        let bids = r#"[["new",9.5,1],["new",10.0,2],["new",9.0,3]]"#;
        book.apply(&message(
            "snapshot",
            (None, 7),
            bids,
            r#"[["new",11.0,4],["new",10.5,5]]"#,
        ))
        .unwrap();
        book
    }

    #[test]
    fn the_best_prices_come_first() {
        let book = started();
        assert_eq!(
            book.best_bid(),
            Some(Level {
                price: 10.0,
                amount: 2.0
            })
        );
        assert_eq!(
            book.best_ask(),
            Some(Level {
                price: 10.5,
                amount: 5.0
            })
        );
        assert_eq!(
            book.bids().map(|level| level.price).collect::<Vec<_>>(),
            [10.0, 9.5, 9.0]
        );
    }

    #[test]
    fn a_change_alters_the_book() {
        let mut book = started();
        let bids = r#"[["delete",10.0,0.0],["change",9.5,7]]"#;
        book.apply(&message(
            "change",
            (Some(7), 12),
            bids,
            r#"[["new",10.25,1]]"#,
        ))
        .unwrap();
        assert_eq!(
            book.best_bid(),
            Some(Level {
                price: 9.5,
                amount: 7.0
            })
        );
        assert_eq!(
            book.best_ask(),
            Some(Level {
                price: 10.25,
                amount: 1.0
            })
        );
        assert_eq!(book.change_id(), Some(12));
    }

    #[test]
    fn a_change_that_does_not_follow_empties_the_book() {
        let mut book = started();
        let error = book
            .apply(&message("change", (Some(8), 9), "[]", "[]"))
            .unwrap_err();
        assert_eq!(
            error,
            BookError::Broken {
                expected: 7,
                found: 8
            }
        );
        assert_eq!(
            (book.best_bid(), book.best_ask(), book.change_id()),
            (None, None, None)
        );
        let error = book
            .apply(&message("change", (Some(9), 10), "[]", "[]"))
            .unwrap_err();
        assert_eq!(error, BookError::NoSnapshot { found: 10 });
    }

    #[test]
    fn a_change_that_comes_twice_changes_nothing() {
        let mut book = started();
        let first = message("change", (Some(7), 8), r#"[["new",10.2,1]]"#, "[]");
        let second = message("change", (Some(8), 9), r#"[["delete",10.2,0]]"#, "[]");
        for change in [&first, &first, &second, &first, &second] {
            book.apply(change).unwrap();
        }
        assert_eq!(
            (book.best_bid().unwrap().price, book.change_id()),
            (10.0, Some(9))
        );
    }

    #[test]
    fn a_second_snapshot_replaces_the_book() {
        let mut book = started();
        book.apply(&message("snapshot", (None, 20), "[]", r#"[["new",3,1]]"#))
            .unwrap();
        assert_eq!(book.best_bid(), None);
        assert_eq!(book.asks().count(), 1);
    }

    #[test]
    fn another_instruments_change_is_refused() {
        let mut book = started();
        let mut change = message("change", (Some(7), 8), "[]", "[]");
        change.instrument_name = "Y".to_owned();
        assert!(matches!(
            book.apply(&change),
            Err(BookError::OtherInstrument { .. })
        ));
    }

    #[test]
    fn prices_of_combos_may_be_zero_or_negative() {
        let mut book = OrderBook::new();
        let bids = r#"[["new",-1.5,1],["new",-0.0,2],["new",0.0,3]]"#;
        book.apply(&message("snapshot", (None, 1), bids, "[]"))
            .unwrap();
        let levels: Vec<_> = book
            .bids()
            .map(|level| (level.price, level.amount))
            .collect();
        assert_eq!(levels, [(0.0, 3.0), (-1.5, 1.0)]);
    }

    proptest! {
        #[test]
        fn bids_fall_and_asks_rise(prices in prop::collection::vec(-1e6..1e6f64, 0..40)) {
            let rows: Vec<String> = prices.iter().map(|price| format!(r#"["new",{price},1]"#)).collect();
            let rows = format!("[{}]", rows.join(","));
            let mut book = OrderBook::new();
            book.apply(&message("snapshot", (None, 1), &rows, &rows)).unwrap();
            let bids: Vec<f64> = book.bids().map(|level| level.price).collect();
            let asks: Vec<f64> = book.asks().map(|level| level.price).collect();
            prop_assert!(bids.windows(2).all(|pair| pair[0] > pair[1]));
            prop_assert!(asks.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
