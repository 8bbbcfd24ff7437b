//! The order book of one simulated instrument, and the chains of changes it is told in.
//!
//! A file of its own because a client's book must equal this one after any number of changes: it is
//! the truth the test compares with.
//!
//! Invariants: the best bid is below the best ask; both sides have at least [`LEAST_LEVELS`] levels;
//! every move changes something; a feed's `change_id` rises by more than one, and applying a feed's
//! changes to its snapshot gives its next snapshot.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde::Serialize;

/// The least number of levels of a side.
const LEAST_LEVELS: usize = 5;

/// How far from the middle a level may be, in ticks.
const WIDTH: i64 = 40;

/// A side of a book: amount by price, the price in ticks.
type Side = BTreeMap<i64, u64>;

/// The book itself.
#[derive(Debug)]
pub(super) struct Book {
    /// The price no order rests at.
    pub(super) middle: i64,
    bids: Side,
    asks: Side,
    pub(super) change_id: u64,
}

/// What one kind of channel was told last, of one book.
#[derive(Debug)]
pub(super) struct Feed {
    bids: Side,
    asks: Side,
    pub(super) change_id: u64,
}

/// `[action, price, amount]`.
type Row = (&'static str, f64, f64);

/// A notification's data, in the key order of the venue.
#[derive(Debug, Serialize)]
pub(super) struct BookData<'a> {
    r#type: &'static str,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_change_id: Option<u64>,
    instrument_name: &'a str,
    change_id: u64,
    bids: Vec<Row>,
    asks: Vec<Row>,
}

impl Book {
    pub(super) fn new(middle: i64, rng: &mut Rng) -> Self {
        let mut book = Self {
            middle,
            bids: Side::new(),
            asks: Side::new(),
            change_id: rng.u64(14_000_000_000..80_000_000_000),
        };
        book.repair(rng);
        book
    }

    pub(super) fn best_bid(&self) -> (f64, f64) {
        best(self.bids.last_key_value())
    }

    pub(super) fn best_ask(&self) -> (f64, f64) {
        best(self.asks.first_key_value())
    }

    /// Lets one period go by.
    pub(super) fn step(&mut self, rng: &mut Rng) {
        self.middle = (self.middle + rng.i64(-1..=1)).max(WIDTH * 2);
        for _ in 0..rng.u32(1..4) {
            let distance = rng.i64(1..WIDTH);
            let (side, price) = match rng.bool() {
                true => (&mut self.bids, self.middle - distance),
                false => (&mut self.asks, self.middle + distance),
            };
            if side.remove(&price).is_none() || rng.bool() {
                side.insert(price, amount(rng));
            }
        }
        self.repair(rng);
        // The best bid always gets another amount, so that no move is empty.
        if let Some(mut best) = self.bids.last_entry() {
            let before = *best.get();
            *best.get_mut() = before % 100_000 + 10;
        }
        self.change_id += rng.u64(2..60);
    }

    /// Makes the invariants true again after the middle has moved.
    fn repair(&mut self, rng: &mut Rng) {
        let middle = self.middle;
        self.bids
            .retain(|price, _| *price < middle && *price >= middle - WIDTH);
        self.asks
            .retain(|price, _| *price > middle && *price <= middle + WIDTH);
        for distance in 1..=WIDTH {
            if self.bids.len() < LEAST_LEVELS {
                self.bids
                    .entry(middle - distance)
                    .or_insert_with(|| amount(rng));
            }
            if self.asks.len() < LEAST_LEVELS {
                self.asks
                    .entry(middle + distance)
                    .or_insert_with(|| amount(rng));
            }
        }
    }
}

impl Feed {
    pub(super) fn new(book: &Book) -> Self {
        Self {
            bids: book.bids.clone(),
            asks: book.asks.clone(),
            change_id: book.change_id,
        }
    }

    /// Everything there is, as this feed was told last.
    pub(super) fn snapshot<'a>(&self, instrument_name: &'a str, timestamp: u64) -> BookData<'a> {
        let nothing = Side::new();
        BookData {
            r#type: "snapshot",
            timestamp,
            prev_change_id: None,
            instrument_name,
            change_id: self.change_id,
            bids: difference(&nothing, &self.bids, true),
            asks: difference(&nothing, &self.asks, false),
        }
    }

    /// What has changed since the feed was told last; from now on it has been told.
    pub(super) fn change<'a>(
        &mut self,
        book: &Book,
        instrument_name: &'a str,
        timestamp: u64,
    ) -> BookData<'a> {
        let data = BookData {
            r#type: "change",
            timestamp,
            prev_change_id: Some(self.change_id),
            instrument_name,
            change_id: book.change_id,
            bids: difference(&self.bids, &book.bids, true),
            asks: difference(&self.asks, &book.asks, false),
        };
        *self = Self::new(book);
        data
    }
}

/// A price in ticks as the venue writes it.
pub(super) fn price(ticks: i64) -> f64 {
    // Prices are far below 2^53 ticks.
    ticks as f64 / 2.0
}

fn amount(rng: &mut Rng) -> u64 {
    rng.u64(1..5_000) * 10
}

fn best(level: Option<(&i64, &u64)>) -> (f64, f64) {
    level.map_or((0.0, 0.0), |(ticks, amount)| {
        (price(*ticks), *amount as f64)
    })
}

/// The rows that lead from `before` to `after`, the best price first.
fn difference(before: &Side, after: &Side, descending: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for (ticks, amount) in after {
        match before.get(ticks) {
            None => rows.push(("new", price(*ticks), *amount as f64)),
            Some(old) if old != amount => rows.push(("change", price(*ticks), *amount as f64)),
            Some(_) => {}
        }
    }
    for ticks in before.keys().filter(|ticks| !after.contains_key(ticks)) {
        rows.push(("delete", price(*ticks), 0.0));
    }
    rows.sort_by(|a, b| a.1.total_cmp(&b.1));
    if descending {
        rows.reverse();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(side: &mut BTreeMap<u64, f64>, rows: &[Row]) {
        for (action, price, amount) in rows {
            match *action {
                "delete" => assert!(side.remove(&price.to_bits()).is_some()),
                "new" => assert!(side.insert(price.to_bits(), *amount).is_none()),
                _ => assert!(side.insert(price.to_bits(), *amount).is_some()),
            }
        }
    }

    #[test]
    fn changes_applied_to_a_snapshot_give_the_next_snapshot() {
        let mut rng = Rng::with_seed(7);
        let mut book = Book::new(18_000, &mut rng);
        let mut feed = Feed::new(&book);
        let snapshot = feed.snapshot("X", 0);
        let (mut bids, mut asks) = (BTreeMap::new(), BTreeMap::new());
        apply(&mut bids, &snapshot.bids);
        apply(&mut asks, &snapshot.asks);
        let mut previous = snapshot.change_id;
        for _ in 0..2_000 {
            book.step(&mut rng);
            let change = feed.change(&book, "X", 0);
            assert!(!change.bids.is_empty() || !change.asks.is_empty());
            assert_eq!(change.prev_change_id, Some(previous));
            assert!(change.change_id > previous + 1);
            previous = change.change_id;
            apply(&mut bids, &change.bids);
            apply(&mut asks, &change.asks);
            assert!(book.best_bid().0 < book.best_ask().0);
            assert!(bids.len() >= LEAST_LEVELS && asks.len() >= LEAST_LEVELS);
        }
        let (mut all_bids, mut all_asks) = (BTreeMap::new(), BTreeMap::new());
        let snapshot = feed.snapshot("X", 0);
        apply(&mut all_bids, &snapshot.bids);
        apply(&mut all_asks, &snapshot.asks);
        assert_eq!((bids, asks), (all_bids, all_asks));
    }
}
