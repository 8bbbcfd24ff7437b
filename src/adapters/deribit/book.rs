//! `book.*`: an order book, as a snapshot with changes or as the best levels again and again.
//!
//! Apart from [`OrderBook`](super::OrderBook), which keeps the book: here is only what a message says.
//!
//! Invariants: a change always names the message before it, else it is undecodable, because without
//! that name a hole in the stream could not be seen.

use serde::Deserialize;

use super::decode;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::platform::Message;
use crate::protocol::sequence::Step;

/// A message of `book.{instrument}.{interval}`: the first is a snapshot, the others are changes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Book {
    /// Snapshot or change.
    #[serde(rename = "type")]
    pub kind: BookKind,
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// The instrument.
    pub instrument_name: String,
    /// The number of this message; numbers rise but do not follow one another.
    pub change_id: u64,
    /// The number of the message before; a change always has one, a snapshot none.
    pub prev_change_id: Option<u64>,
    /// What happened to prices that somebody would pay.
    pub bids: Vec<BookChange>,
    /// What happened to prices at which somebody would sell.
    pub asks: Vec<BookChange>,
}

/// What a book's message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BookKind {
    /// The whole book.
    Snapshot,
    /// What changed since the message before.
    Change,
}

/// What happened to one price: the venue writes `[action, price, amount]`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct BookChange {
    /// What happened.
    pub action: Action,
    /// The price.
    pub price: f64,
    /// The amount there is now; 0 after a deletion.
    pub amount: f64,
}

/// What happened to a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// There was nothing at this price before.
    New,
    /// There is another amount.
    Change,
    /// There is nothing any more.
    Delete,
}

impl Message for Book {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        let book: Self = decode::data(frame, EXPECTED)?;
        if book.kind == BookKind::Change && book.prev_change_id.is_none() {
            return Err(DecodeError::new(
                EXPECTED,
                "a change without prev_change_id",
            ));
        }
        Ok(book)
    }

    fn sequence(&self) -> Option<Step> {
        match (self.kind, self.prev_change_id) {
            (BookKind::Change, Some(previous)) => Some(Step::Linked {
                previous,
                current: self.change_id,
            }),
            (BookKind::Snapshot, _) | (BookKind::Change, None) => Some(Step::Snapshot {
                current: self.change_id,
            }),
        }
    }
}

/// A message of `book.{instrument}.{group}.{depth}.{interval}`: the best levels, whole each time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct GroupedBook {
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// The instrument.
    pub instrument_name: String,
    /// The number of the book's state that this is a picture of.
    pub change_id: u64,
    /// Best first.
    pub bids: Vec<Level>,
    /// Best first.
    pub asks: Vec<Level>,
}

/// One price of a book: the venue writes `[price, amount]`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Level {
    /// The price.
    pub price: f64,
    /// The amount.
    pub amount: f64,
}

impl Message for GroupedBook {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        decode::data(frame, EXPECTED)
    }
}

const EXPECTED: &str = "book";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sequence::{SequenceCheck, Verdict};

    const SNAPSHOT: &str = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":
        "book.BTC-PERPETUAL.raw","data":{"type":"snapshot","timestamp":1612345678901,
        "instrument_name":"BTC-PERPETUAL","change_id":27873428810,
        "bids":[["new",36000.5,1000.0],["new",36000.0,20]],"asks":[]}}}"#;
    const CHANGE: &str = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":
        "book.BTC-PERPETUAL.raw","data":{"type":"change","timestamp":1612345678955,
        "prev_change_id":27873428810,"instrument_name":"BTC-PERPETUAL","change_id":27873428815,
        "bids":[["delete",36000.0,0.0]],"asks":[["change",36001.0,5.0],["new",36001.5,6.0]]}}}"#;

    fn read(text: &str) -> Result<Book, DecodeError> {
        Book::decode(&Frame::text(text.to_owned()))
    }

    #[test]
    fn a_snapshot_begins_the_sequence() {
        let book = read(SNAPSHOT).unwrap();
        assert_eq!(book.kind, BookKind::Snapshot);
        assert_eq!(
            book.bids[1],
            BookChange {
                action: Action::New,
                price: 36000.0,
                amount: 20.0
            }
        );
        assert!(book.asks.is_empty());
        assert_eq!(
            book.sequence(),
            Some(Step::Snapshot {
                current: 27_873_428_810
            })
        );
    }

    #[test]
    fn a_change_is_linked_to_the_message_before() {
        let book = read(CHANGE).unwrap();
        assert_eq!(book.bids[0].action, Action::Delete);
        assert_eq!(book.asks[0].action, Action::Change);
        let expected = Step::Linked {
            previous: 27_873_428_810,
            current: 27_873_428_815,
        };
        assert_eq!(book.sequence(), Some(expected));
    }

    #[test]
    fn the_check_follows_a_snapshot_and_its_changes() {
        let mut check = SequenceCheck::new();
        let mut verdict = |text: &str| check.on_step(read(text).unwrap().sequence().unwrap());
        assert_eq!(verdict(CHANGE), Verdict::Ignored);
        assert_eq!(verdict(SNAPSHOT), Verdict::Resynced);
        assert_eq!(verdict(CHANGE), Verdict::Contiguous);
        assert_eq!(verdict(CHANGE), Verdict::Duplicate);
        let later = CHANGE
            .replace("27873428815", "27873428899")
            .replace("428810", "428888");
        let (expected, found) = (27_873_428_815, 27_873_428_888);
        assert_eq!(verdict(&later), Verdict::Broken { expected, found });
        assert_eq!(verdict(SNAPSHOT), Verdict::Resynced);
    }

    #[test]
    fn a_snapshot_may_say_null_or_a_number_before_itself() {
        for previous in ["null", "7"] {
            let with = format!(r#""type":"snapshot","prev_change_id":{previous},"#);
            let book = read(&SNAPSHOT.replace(r#""type":"snapshot","#, &with)).unwrap();
            assert_eq!(
                book.sequence(),
                Some(Step::Snapshot {
                    current: 27_873_428_810
                })
            );
        }
    }

    #[test]
    fn a_change_that_does_not_name_the_message_before_is_undecodable() {
        for previous in ["", r#""prev_change_id":null,"#] {
            let text = CHANGE.replace(r#""prev_change_id":27873428810,"#, previous);
            assert_eq!(
                read(&text).unwrap_err().detail,
                "a change without prev_change_id"
            );
        }
    }

    #[test]
    fn an_unknown_action_or_type_is_undecodable() {
        assert!(read(&CHANGE.replace(r#"["delete""#, r#"["explode""#)).is_err());
        assert!(read(&CHANGE.replace(r#""type":"change""#, r#""type":"whole""#)).is_err());
    }

    #[test]
    fn a_grouped_book_is_a_whole_picture_without_a_sequence() {
        let book = GroupedBook::decode(&Frame::text(
            r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":
            "book.BTC-PERPETUAL.none.10.100ms","data":{"timestamp":1769246173071,"instrument_name":
            "BTC-PERPETUAL","change_id":136725664747,"bids":[[89532.5,254900.0],[89532.0,1000]],
            "asks":[[89533.0,91570.0]]}}}"#,
        ))
        .unwrap();
        assert_eq!(
            book.bids[0],
            Level {
                price: 89532.5,
                amount: 254_900.0
            }
        );
        assert_eq!(book.sequence(), None);
    }
}
