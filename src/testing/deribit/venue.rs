//! The market of the simulated venue: instruments, trades, orders, and what each period says of them.
//!
//! A file of its own because it knows no connection: it moves on whether or not anybody listens.
//!
//! Invariants: a tick's number rises by one; `trade_seq` is consecutive per instrument; each update
//! carries the number its channel reached by it; only channels of [`Venue::channels`] ever speak.

mod instrument;

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use serde::Serialize;
use serde_json::{Value, json};

use self::instrument::Instrument;

/// How often a channel speaks: its name, and every how many ticks.
const INTERVALS: [(&str, u64); 3] = [("raw", 1), ("100ms", 1), ("agg2", 10)];

/// Every how many ticks private channels speak.
const PRIVATE_EVERY: u64 = 10;

/// What one period said.
#[derive(Debug)]
pub(super) struct Tick {
    /// Its number; an update between two ticks bears the next tick's.
    pub(super) number: u64,
    pub(super) updates: Vec<Update>,
}

/// One notification, the same for all who listen.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) channel: String,
    /// JSON.
    pub(super) data: String,
}

/// A resting order.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) id: String,
    /// The connection that placed it.
    pub(super) connection: u64,
    pub(super) instrument: String,
    pub(super) label: String,
    direction: &'static str,
    amount: f64,
    price: f64,
    state: &'static str,
    created: u64,
}

#[derive(Debug)]
pub(super) struct Venue {
    rng: Rng,
    number: u64,
    instruments: Vec<Instrument>,
    currencies: Vec<String>,
    channels: HashSet<String>,
    orders: Vec<Order>,
    next_order: u64,
    cancelled: usize,
}

/// The most orders that rest at once.
const MOST_ORDERS: usize = 10_000;

impl Venue {
    pub(super) fn new(names: &[String], seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut instruments = Vec::new();
        let mut currencies = Vec::new();
        for (index, name) in (0u32..).zip(names) {
            let middle = 180_000 / (i64::from(index % 64) * 4 + 1) + 1_000;
            instruments.push(Instrument::new(name, middle, &mut rng));
            let currency = currency(name).to_owned();
            if !currencies.contains(&currency) {
                currencies.push(currency);
            }
        }
        let mut channels: HashSet<String> =
            ["platform_state", "announcements"].map(String::from).into();
        for name in names {
            for (interval, _) in INTERVALS {
                for kind in ["ticker", "book", "trades", "user.orders", "user.changes"] {
                    channels.insert(format!("{kind}.{name}.{interval}"));
                }
            }
            channels.insert(format!("quote.{name}"));
        }
        for currency in &currencies {
            channels.insert(format!("user.portfolio.{}", currency.to_lowercase()));
            channels.insert(format!("user.portfolio.{currency}"));
        }
        Self {
            rng,
            number: 0,
            instruments,
            currencies,
            channels,
            orders: Vec::new(),
            next_order: 1,
            cancelled: 0,
        }
    }

    /// Whether there is such a channel.
    pub(super) fn has_channel(&self, channel: &str) -> bool {
        self.channels.contains(channel)
    }

    pub(super) fn instrument_names(&self) -> Vec<&str> {
        let names = self.instruments.iter();
        names.map(|instrument| instrument.name.as_str()).collect()
    }

    /// The number of the tick that happened last.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Lets one period go by.
    pub(super) fn tick(&mut self) -> Tick {
        self.number += 1;
        let (number, now) = (self.number, milliseconds());
        let mut updates = Vec::new();
        for instrument in &mut self.instruments {
            instrument.step(&mut self.rng, now);
            instrument.speak(number, now, &mut updates);
        }
        if number.is_multiple_of(PRIVATE_EVERY) {
            self.speak_privately(now, &mut updates);
        }
        Tick { number, updates }
    }

    /// What a new subscriber of `channel` gets first.
    pub(super) fn first(&self, channel: &str) -> Option<String> {
        let now = milliseconds();
        if let Some(currency) = channel.strip_prefix("user.portfolio.") {
            return Some(portfolio(currency, self.number).to_string());
        }
        let (kind, rest) = channel.split_once('.')?;
        let (name, interval) = match kind {
            "quote" => (rest, 0),
            _ => split(rest)?,
        };
        let instrument = self.instruments.iter().find(|found| found.name == name)?;
        match kind {
            "ticker" => Some(instrument.ticker(now)),
            "quote" => Some(instrument.quote(now)),
            "book" => Some(text(&instrument.feeds.get(interval)?.snapshot(name, now))),
            _ => None,
        }
    }

    /// See [`super::DeribitSimulator::last_sequence`].
    pub(super) fn last_sequence(&self, channel: &str) -> Option<u64> {
        let (kind, rest) = channel.split_once('.')?;
        let (name, interval) = split(rest)?;
        let instrument = self.instruments.iter().find(|found| found.name == name)?;
        match kind {
            "book" => Some(instrument.feeds.get(interval)?.change_id),
            "trades" => {
                let untold = instrument.untold.get(interval)?.len() as u64;
                Some(instrument.trade_seq - untold)
            }
            _ => None,
        }
    }

    /// Places an order that rests for ever; `None` if there is no such instrument or no room.
    pub(super) fn place(
        &mut self,
        connection: u64,
        instrument: &str,
        direction: &'static str,
        amount: f64,
        price: Option<f64>,
        label: &str,
    ) -> Option<(Value, Tick)> {
        if self.orders.len() >= MOST_ORDERS {
            return None;
        }
        let found = self
            .instruments
            .iter()
            .find(|found| found.name == instrument)?;
        let order = Order {
            id: format!("{}-{}", currency(instrument), self.next_order),
            connection,
            instrument: instrument.to_owned(),
            label: label.to_owned(),
            direction,
            amount,
            price: price.unwrap_or(found.last_price),
            state: "open",
            created: milliseconds(),
        };
        self.next_order += 1;
        let (shown, tick) = (order.json(), self.told(std::slice::from_ref(&order)));
        self.orders.push(order);
        Some((shown, tick))
    }

    /// The resting orders, of one connection or of all.
    pub(super) fn open_orders(&self, connection: Option<u64>) -> Vec<Value> {
        let ours = |order: &&Order| connection.is_none_or(|id| order.connection == id);
        self.orders.iter().filter(ours).map(Order::json).collect()
    }

    /// The resting order of this id.
    pub(super) fn order(&self, id: &str) -> Option<Value> {
        self.orders
            .iter()
            .find(|order| order.id == id)
            .map(Order::json)
    }

    /// Changes a resting order; `None` if there is none of this id.
    pub(super) fn edit(
        &mut self,
        id: &str,
        amount: Option<f64>,
        price: Option<f64>,
    ) -> Option<(Value, Tick)> {
        let order = self.orders.iter_mut().find(|order| order.id == id)?;
        order.amount = amount.unwrap_or(order.amount);
        order.price = price.unwrap_or(order.price);
        let order = order.clone();
        Some((order.json(), self.told(std::slice::from_ref(&order))))
    }

    /// Cancels the resting orders that `which` says.
    pub(super) fn cancel(&mut self, which: impl Fn(&Order) -> bool) -> (Vec<Value>, Tick) {
        let (mut gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.orders)
            .into_iter()
            .partition(which);
        self.orders = kept;
        for order in &mut gone {
            order.state = "cancelled";
        }
        let tick = self.told(&gone);
        (gone.iter().map(Order::json).collect(), tick)
    }

    /// Notes that `count` orders were cancelled because their connection ended.
    pub(super) fn note_cancelled_on_disconnect(&mut self, count: usize) {
        self.cancelled += count;
    }

    pub(super) fn orders_cancelled(&self) -> usize {
        self.cancelled
    }

    /// What the private channels say of these orders.
    fn told(&self, orders: &[Order]) -> Tick {
        let mut updates = Vec::new();
        for order in orders {
            for (interval, _) in INTERVALS {
                order.speak(interval, &mut updates);
            }
        }
        Tick {
            number: self.number + 1,
            updates,
        }
    }

    fn speak_privately(&self, now: u64, updates: &mut Vec<Update>) {
        for currency in &self.currencies {
            for name in [currency.clone(), currency.to_lowercase()] {
                updates.push(Update {
                    data: portfolio(&name, self.number).to_string(),
                    channel: format!("user.portfolio.{name}"),
                });
            }
        }
        for instrument in &self.instruments {
            // An order of the account that is amended for ever, so that the channel is alive.
            let order = Order {
                id: format!("{}-0", currency(&instrument.name)),
                connection: 0,
                instrument: instrument.name.clone(),
                label: String::new(),
                direction: "buy",
                amount: 10.0,
                price: instrument.low,
                state: "open",
                created: now,
            };
            for (interval, _) in INTERVALS {
                order.speak(interval, updates);
            }
        }
    }
}

impl Order {
    fn json(&self) -> Value {
        json!({
            "order_id": self.id,
            "order_state": self.state,
            "order_type": "limit",
            "time_in_force": "good_til_cancelled",
            "instrument_name": self.instrument,
            "direction": self.direction,
            "amount": self.amount,
            "filled_amount": 0.0,
            "average_price": 0.0,
            "price": self.price,
            "creation_timestamp": self.created,
            "last_update_timestamp": milliseconds(),
            "label": self.label,
            "api": true,
        })
    }

    fn speak(&self, interval: &str, updates: &mut Vec<Update>) {
        let (name, order) = (&self.instrument, self.json());
        updates.push(Update {
            channel: format!("user.orders.{name}.{interval}"),
            // Raw channels tell one order, the others a list of them.
            data: match interval {
                "raw" => order.to_string(),
                _ => json!([order]).to_string(),
            },
        });
        let changes = json!({
            "instrument_name": name,
            "orders": [order],
            "trades": [],
            "positions": [],
        });
        updates.push(Update {
            channel: format!("user.changes.{name}.{interval}"),
            data: changes.to_string(),
        });
    }
}

pub(super) fn portfolio(currency: &str, number: u64) -> Value {
    // Counts up, so that two updates differ.
    let equity = 10.0 + (number % 100_000) as f64 / 1_000_000.0;
    json!({
        "currency": currency.to_uppercase(),
        "equity": equity,
        "balance": 10.0,
        "available_funds": equity,
        "margin_balance": equity,
        "initial_margin": 0.0,
        "maintenance_margin": 0.0,
        "session_upl": equity - 10.0,
        "total_pl": 0.0,
    })
}

pub(super) fn currency(instrument: &str) -> &str {
    let end = instrument.find(['-', '_']);
    end.map_or(instrument, |end| &instrument[..end])
}

/// An instrument and the index of an interval.
fn split(rest: &str) -> Option<(&str, usize)> {
    let (name, interval) = rest.rsplit_once('.')?;
    let index = INTERVALS.iter().position(|(name, _)| *name == interval)?;
    Some((name, index))
}

fn text(value: &impl Serialize) -> String {
    // Strings, finite numbers and lists of them always have a JSON form.
    serde_json::to_string(value).unwrap_or_default()
}

pub(super) fn milliseconds() -> u64 {
    microseconds() / 1000
}

pub(super) fn microseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
