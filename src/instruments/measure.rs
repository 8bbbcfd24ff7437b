//! The instruments as OpenTelemetry has them: one for each row, asked when somebody collects.
//!
//! Apart from the table because that says what there is, and this how it gets out.
//!
//! Invariants: the process is looked at once for each collection, by the first instrument that is asked; a time that
//! was recorded in a session is recorded once here, however many collect; nothing here panics or waits, since the
//! SDK's own thread would end with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter};
use opentelemetry::{KeyValue, StringValue};

use super::{Instrument, Source, TABLE};
use crate::protocol::latency::LatencyHistogram;
use crate::session::roster::{self, Counted, Look};

/// What one collection tells of, shared by the instruments of one meter.
struct Shared {
    times: Vec<Times>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    look: Arc<Look>,
    /// What of each session's times has been recorded, in the order of `Shared::times`.
    told: BTreeMap<Arc<str>, Vec<LatencyHistogram>>,
}

/// A row of times. OpenTelemetry has no histogram that can be asked, so what is new is recorded before each collection.
struct Times {
    row: &'static Instrument,
    histogram: Histogram<f64>,
}

/// Makes every instrument of the table; they last as long as the meter's provider.
pub(crate) fn register(meter: &Meter) {
    let times = TABLE.iter().filter_map(|row| match row.source {
        Source::Histogram(_, bounds) => Some(Times {
            row,
            histogram: meter
                .f64_histogram(row.name)
                .with_unit(row.unit)
                .with_description(row.description)
                .with_boundaries(bounds.to_vec())
                .build(),
        }),
        Source::Counter(_) | Source::UpDownCounter(_) | Source::Gauge(_) => None,
    });
    let shared = Arc::new(Shared {
        times: times.collect(),
        state: Mutex::default(),
    });
    // Callbacks are run in the order of their making, before anything is added up.
    let mut first = true;
    for row in TABLE {
        if let Source::Histogram(..) = row.source {
            continue;
        }
        observe(meter, row, &shared, std::mem::take(&mut first));
    }
}

fn observe(meter: &Meter, row: &'static Instrument, shared: &Arc<Shared>, first: bool) {
    let shared = Arc::clone(shared);
    let look = move || match first {
        true => shared.look(),
        false => shared.looked(),
    };
    macro_rules! instrument {
        ($make:ident, $of:ident, $read:expr) => {{
            let read = $read;
            // The provider keeps it.
            let _ = meter
                .$make(row.name)
                .with_unit(row.unit)
                .with_description(row.description)
                .with_callback(move |observer| {
                    let names = row.attributes;
                    read(&look(), &mut $of(Told { names, observer }));
                })
                .build();
        }};
    }
    match row.source {
        Source::Counter(read) => instrument!(u64_observable_counter, Sums, read),
        Source::UpDownCounter(read) => instrument!(i64_observable_up_down_counter, Levels, read),
        Source::Gauge(read) => instrument!(f64_observable_gauge, Ratios, read),
        Source::Histogram(..) => {}
    }
}

impl Shared {
    /// Looks at the process, and records the times that are new.
    fn look(&self) -> Arc<Look> {
        let mut state = self.lock();
        let look = Arc::new(roster::look());
        for (name, tally) in &look.sessions {
            let told = state.told.entry(Arc::clone(name)).or_default();
            told.resize_with(self.times.len(), LatencyHistogram::default);
            for (times, told) in self.times.iter().zip(told) {
                let Source::Histogram(of, _) = times.row.source else {
                    continue;
                };
                let session = [KeyValue::new("session", Arc::clone(name))];
                let now = of(tally);
                for (time, count) in now.since(told) {
                    for _ in 0..count {
                        times.histogram.record(time.as_secs_f64(), &session);
                    }
                }
                told.clone_from(now);
            }
        }
        state.look = Arc::clone(&look);
        look
    }

    /// What the first of this collection has seen.
    fn looked(&self) -> Arc<Look> {
        Arc::clone(&self.lock().look)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the numbers of one instrument.
pub(super) struct Told<'o, T> {
    names: &'static [&'static str],
    observer: &'o dyn AsyncInstrument<T>,
}

impl<T> Told<'_, T> {
    /// The values of the attributes in their order.
    fn tell(&self, number: T, values: &[Value<'_>]) {
        let names = self.names.iter();
        let attributes: Vec<KeyValue> = names
            .zip(values)
            .map(|(name, value)| KeyValue::new(*name, value.owned()))
            .collect();
        self.observer.observe(number, &attributes);
    }
}

/// An attribute's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'v> {
    Shared(&'v Arc<str>),
    Text(&'v str),
}

impl Value<'_> {
    fn owned(self) -> StringValue {
        match self {
            Self::Shared(name) => Arc::clone(name).into(),
            Self::Text(text) => text.to_owned().into(),
        }
    }
}

impl<'v> From<&'v Arc<str>> for Value<'v> {
    fn from(name: &'v Arc<str>) -> Self {
        Self::Shared(name)
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text)
    }
}

/// Takes what only rises.
pub(super) struct Sums<'o>(Told<'o, u64>);

impl Sums<'_> {
    pub(super) fn of(&mut self, count: u64, values: &[Value<'_>]) {
        self.0.tell(count, values);
    }

    pub(super) fn per_session(&mut self, look: &Look, of: fn(&Counted) -> u64) {
        for (name, tally) in &look.sessions {
            self.of(of(&tally.counted), &[name.into()]);
        }
    }

    /// What came in, and what went out.
    pub(super) fn per_direction(&mut self, look: &Look, of: fn(&Counted) -> (u64, u64)) {
        for (name, tally) in &look.sessions {
            let (received, sent) = of(&tally.counted);
            self.of(received, &[name.into(), "receive".into()]);
            self.of(sent, &[name.into(), "transmit".into()]);
        }
    }

    pub(super) fn per_word(
        &mut self,
        look: &Look,
        of: fn(&Counted) -> &BTreeMap<&'static str, u64>,
    ) {
        for (name, tally) in &look.sessions {
            for (word, count) in of(&tally.counted) {
                self.of(*count, &[name.into(), (*word).into()]);
            }
        }
    }
}

/// Takes what rises and falls.
pub(super) struct Levels<'o>(Told<'o, i64>);

impl Levels<'_> {
    pub(super) fn of(&mut self, level: i64, values: &[Value<'_>]) {
        self.0.tell(level, values);
    }

    pub(super) fn size(&mut self, size: usize, values: &[Value<'_>]) {
        self.of(i64::try_from(size).unwrap_or(i64::MAX), values);
    }
}

/// Takes shares.
pub(super) struct Ratios<'o>(Told<'o, f64>);

impl Ratios<'_> {
    pub(super) fn of(&mut self, ratio: f64, values: &[Value<'_>]) {
        self.0.tell(ratio, values);
    }
}
