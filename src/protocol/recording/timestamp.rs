//! ISO-8601 to the microsecond, as recordings write it.
//!
//! Apart because it is calendar arithmetic and nothing else; a crate for dates would be many times its size.
//!
//! Invariants: what is written can be read and is the same microsecond; years have four digits, and what
//! lies beyond them is written as the nearest time within.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MICROS: i64 = 1_000_000;
const DAY: i64 = 24 * 3600;
/// 0000-01-01 and 9999-12-31, in days since 1970-01-01.
const FIRST_DAY: i64 = -719_528;
const LAST_DAY: i64 = 2_932_896;

/// `at` as `2026-01-20T15:30:45.123456Z`.
pub(super) fn format(at: SystemTime) -> String {
    let first = FIRST_DAY * DAY * MICROS;
    let last = (LAST_DAY + 1) * DAY * MICROS - 1;
    let micros = since_epoch(at).clamp(first, last);
    let (seconds, fraction) = (micros.div_euclid(MICROS), micros.rem_euclid(MICROS));
    let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// Reads a date and a time with an offset from UTC. Digits beyond the microsecond are dropped.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let mut rest = Rest(text.as_bytes());
    let (year, month, day) = {
        let year = rest.number(4)?;
        rest.one(b"-")?;
        let month = rest.number(2)?;
        rest.one(b"-")?;
        (year, month, rest.number(2)?)
    };
    rest.one(b"T t")?;
    let hour = rest.number(2)?;
    rest.one(b":")?;
    let minute = rest.number(2)?;
    rest.one(b":")?;
    let second = rest.number(2)?;
    let fraction = match rest.one(b".,") {
        Some(()) => rest.fraction()?,
        None => 0,
    };
    let offset = rest.offset()?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && rest.0.is_empty();
    if !valid {
        return None;
    }
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    from_epoch(seconds * MICROS + fraction)
}

/// What has yet to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// One of these bytes.
    fn one(&mut self, accepted: &[u8]) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        accepted.contains(first).then(|| self.0 = rest)
    }

    /// A number of exactly so many digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + i64::from(byte - b'0'))
        })
    }

    /// The digits of a fraction, in microseconds.
    fn fraction(&mut self) -> Option<i64> {
        let length = self
            .0
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        let padded = digits.iter().chain(std::iter::repeat(&b'0')).take(6);
        (length > 0).then(|| padded.fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    /// `Z`, `+hh:mm`, `+hhmm` or `+hh`, in seconds.
    fn offset(&mut self) -> Option<i64> {
        if self.one(b"Zz").is_some() {
            return Some(0);
        }
        let sign = match self.one(b"+") {
            Some(()) => 1,
            None => self.one(b"-").map(|()| -1)?,
        };
        let hours = self.number(2)?;
        let minutes = match (self.one(b":"), self.0.is_empty()) {
            (None, true) => 0,
            _ => self.number(2)?,
        };
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

fn since_epoch(at: SystemTime) -> i64 {
    let whole = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => whole(after),
        // Downward, as everywhere, so that the fraction stays positive.
        Err(before) => -whole(before.duration().saturating_add(Duration::from_nanos(999))),
    }
}

fn from_epoch(micros: i64) -> Option<SystemTime> {
    let distance = Duration::from_micros(micros.unsigned_abs());
    match micros < 0 {
        true => UNIX_EPOCH.checked_sub(distance),
        false => UNIX_EPOCH.checked_add(distance),
    }
}

/// The date of a day since 1970-01-01, in the proleptic Gregorian calendar. The year is taken to begin in
/// March, so that the day that comes and goes is its last one.
fn civil(days: i64) -> (i64, i64, i64) {
    let since = days + 719_468;
    let era = since.div_euclid(146_097);
    let of_era = since.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The day since 1970-01-01 of a date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: i64) -> SystemTime {
        from_epoch(micros).unwrap()
    }

    #[test]
    fn known_moments_are_written_as_everybody_writes_them() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_768_923_045_123_456, "2026-01-20T15:30:45.123456Z"),
            (4_107_542_399_000_001, "2100-02-28T23:59:59.000001Z"),
            (-62_167_219_200_000_000, "0000-01-01T00:00:00.000000Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(format(at(micros)), text);
            assert_eq!(parse(text), Some(at(micros)), "{text}");
        }
    }

    #[test]
    fn what_lies_beyond_four_digits_is_written_as_the_nearest_time_within() {
        let last = at(253_402_300_799_999_999);
        assert_eq!(format(last + Duration::from_secs(1)), format(last));
    }

    #[test]
    fn other_forms_of_the_same_moment_are_read() {
        let same = parse("2026-01-20T15:30:45.120000Z");
        assert!(same.is_some());
        for text in [
            "2026-01-20T15:30:45.12Z",
            "2026-01-20 15:30:45,12Z",
            "2026-01-20t15:30:45.1200009z",
            "2026-01-20T17:30:45.12+02:00",
            "2026-01-20T10:00:45.12-0530",
            "2026-01-20T16:30:45.12+01",
        ] {
            assert_eq!(parse(text), same, "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "now",
            "2026-01-20",
            "2026-01-20T15:30:45",
            "2026-01-20T15:30:45.Z",
            "2026-01-20T15:30:45Z ",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-20T24:00:00Z",
            "2026-01-20T15:60:00Z",
            "2026-01-20T15:30:60Z",
            "2026-01-20T15:30:45+24:00",
            "20260120T153045Z",
            "2026-01-20T15:30:45+é1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_can_be_read(
            micros in -62_167_219_200_000_000_i64..253_402_300_800_000_000
        ) {
            prop_assert_eq!(parse(&format(at(micros))), Some(at(micros)));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = parse(&text);
        }
    }
}
