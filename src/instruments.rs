//! What is measured: every metric of the library in one table, with its name, kind, unit, attributes and meaning
//! (features `otel` and `prometheus`).
//!
//! Apart from the ways on which measurements leave the process, because all of them say the same. Names follow
//! OpenTelemetry's conventions; [`Instrument::prometheus_name`] is how a scrape spells them. The table is also the
//! document `docs/metrics.md`, and what the dashboard and the alerts in `dashboards/` are checked against.
//!
//! Nothing has to be switched on in a session: whatever sessions the process has when somebody collects are told of,
//! and what those that have ended counted stays counted.
//!
//! ```
//! use mainstay::instruments::{Kind, TABLE};
//!
//! let gaps = TABLE.iter().find(|one| one.name() == "mainstay.subscription.gaps").expect("a row");
//! assert_eq!(gaps.kind(), Kind::Counter);
//! assert_eq!(gaps.prometheus_name(), "mainstay_subscription_gaps_total");
//! ```
//!
//! Invariants: a measurement is read when somebody collects, never made where a frame passes; every attribute has few
//! values, which are constant words or names that the program gave; no channel, no host, no text of a peer's is one.

mod measure;
mod table;

use std::borrow::Cow;

pub(crate) use measure::register;
pub use table::{ATTRIBUTES, TABLE};

use crate::session::roster::{Look, Tally};
use measure::{Levels, Ratios, Sums};

/// What an instrument's numbers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// They only rise.
    Counter,
    /// They rise and fall, and make sense when they are added up.
    UpDownCounter,
    /// They rise and fall; a sum of them says nothing.
    Gauge,
    /// Times, counted in buckets.
    Histogram,
}

impl Kind {
    /// A constant word, as OpenTelemetry writes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::UpDownCounter => "updowncounter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Instrument {
    name: &'static str,
    unit: &'static str,
    attributes: &'static [&'static str],
    description: &'static str,
    source: Source,
}

/// Where its numbers come from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Counter(fn(&Look, &mut Sums<'_>)),
    UpDownCounter(fn(&Look, &mut Levels<'_>)),
    Gauge(fn(&Look, &mut Ratios<'_>)),
    /// Times of each session, and the bounds of the buckets in seconds.
    Histogram(
        fn(&Tally) -> &crate::protocol::latency::LatencyHistogram,
        &'static [f64],
    ),
}

impl Instrument {
    /// Its name, such as `mainstay.session.connections`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What its numbers do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.source {
            Source::Counter(_) => Kind::Counter,
            Source::UpDownCounter(_) => Kind::UpDownCounter,
            Source::Gauge(_) => Kind::Gauge,
            Source::Histogram(..) => Kind::Histogram,
        }
    }

    /// Its unit, by the Unified Code for Units of Measure, as in `s`, `By`, `1` or `{gap}`.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// The attributes of each number; [`ATTRIBUTES`] says what they mean.
    #[must_use]
    pub fn attributes(&self) -> &'static [&'static str] {
        self.attributes
    }

    /// What it tells.
    #[must_use]
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// The bounds of a histogram's buckets, in its unit; nothing of the other kinds.
    #[must_use]
    pub fn bounds(&self) -> &'static [f64] {
        match self.source {
            Source::Histogram(_, bounds) => bounds,
            Source::Counter(_) | Source::UpDownCounter(_) | Source::Gauge(_) => &[],
        }
    }

    /// Its name in Prometheus: the unit as a suffix, and `_total` behind what only rises. A histogram has three series
    /// behind it, `_bucket`, `_sum` and `_count`.
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        let name = self.name.replace('.', "_");
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            "1" => "_ratio",
            // Annotations are for people.
            _ => "",
        };
        let total = match self.kind() {
            Kind::Counter => "_total",
            Kind::UpDownCounter | Kind::Gauge | Kind::Histogram => "",
        };
        format!("{name}{unit}{total}")
    }
}

/// The table as Markdown: what `docs/metrics.md` has.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| metric | kind | unit | attributes | in Prometheus | meaning |\n|---|---|---|---|---|---|\n",
    );
    for one in TABLE {
        let attributes: Vec<Cow<'_, str>> = one.attributes.iter().map(|name| code(name)).collect();
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            code(one.name),
            one.kind().label(),
            code(one.unit),
            attributes.join(" "),
            code(&one.prometheus_name()),
            one.description,
        ));
    }
    text.push_str("\n| attribute | in Prometheus | values |\n|---|---|---|\n");
    for (name, values) in ATTRIBUTES {
        let label = name.replace('.', "_");
        text.push_str(&format!(
            "| {} | {} | {values} |\n",
            code(name),
            code(&label)
        ));
    }
    text
}

fn code(word: &str) -> Cow<'_, str> {
    format!("`{word}`").into()
}
