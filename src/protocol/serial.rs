//! How times are written where a value is serialised: whole milliseconds or microseconds, as the field's name says.
//!
//! Apart from the values because serde's own spelling, seconds and nanoseconds in an object, is no number that a
//! dashboard can plot.
//!
//! Invariant: what does not fit is the largest number.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

pub(crate) fn millis<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    whole(time.as_millis()).serialize(to)
}

pub(crate) fn opt_millis<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| whole(time.as_millis())).serialize(to)
}

pub(crate) fn micros<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    whole(time.as_micros()).serialize(to)
}

pub(crate) fn opt_micros<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| whole(time.as_micros())).serialize(to)
}

/// Milliseconds since 1970; `null` for what was before.
pub(crate) fn unix_millis<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok();
    since.map(|since| whole(since.as_millis())).serialize(to)
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
