//! Whether a market is open: by its calendar, and by what the venue or the user says, who know better.
//!
//! Apart from whoever watches data because silence means nothing while it is closed. It reads no clock.
//!
//! Invariants: closed by a word, it stays closed until the moment that was given with it, or until another word;
//! opened by a word within a window of the calendar, it stays open until that window is over.

use std::time::SystemTime;

use crate::config::Calendar;

/// What somebody who knows says about a market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MarketSignal {
    /// It is closed.
    Closed {
        /// Until then; `None` until something else is said.
        until: Option<SystemTime>,
    },
    /// It is open, whatever was said before.
    Open,
}

/// Whether a market is open at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarketHours {
    /// It is open.
    Open {
        /// Since when; `None` if it has not been closed.
        since: Option<SystemTime>,
    },
    /// It is closed.
    Closed {
        /// Until when; `None` if nobody knows.
        until: Option<SystemTime>,
    },
}

/// A market. See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Market {
    calendar: Calendar,
    word: Option<Word>,
}

#[derive(Debug, Clone, Copy)]
enum Word {
    Closed {
        until: Option<SystemTime>,
    },
    Open {
        since: SystemTime,
        /// Where it was said within a window of the calendar: the window's end.
        until: Option<SystemTime>,
    },
}

impl Market {
    /// A market with this calendar, of which nothing has been said yet.
    #[must_use]
    pub fn new(calendar: Calendar) -> Self {
        Self {
            calendar,
            word: None,
        }
    }

    /// Somebody said so at `now`.
    pub fn on_signal(&mut self, signal: MarketSignal, now: SystemTime) {
        self.word = Some(match signal {
            MarketSignal::Closed { until } => Word::Closed { until },
            MarketSignal::Open => Word::Open {
                since: now,
                until: self.calendar.closed_until(now),
            },
        });
    }

    /// Whether it is open at `now`.
    #[must_use]
    pub fn hours(&self, now: SystemTime) -> MarketHours {
        match self.word {
            Some(Word::Closed { until: None }) => MarketHours::Closed { until: None },
            Some(Word::Closed { until: Some(until) }) if now < until => {
                let until = self.calendar.closed_until(until).unwrap_or(until);
                MarketHours::Closed { until: Some(until) }
            }
            Some(Word::Open {
                since,
                until: Some(until),
            }) if now < until => MarketHours::Open { since: Some(since) },
            Some(
                Word::Closed {
                    until: Some(opened),
                }
                | Word::Open { since: opened, .. },
            ) => self.by_calendar(now, Some(opened)),
            None => self.by_calendar(now, None),
        }
    }

    fn by_calendar(&self, now: SystemTime, opened: Option<SystemTime>) -> MarketHours {
        match self.calendar.closed_until(now) {
            Some(until) => MarketHours::Closed { until: Some(until) },
            None => MarketHours::Open {
                since: opened.max(self.calendar.open_since(now)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn hour(number: u64) -> SystemTime {
        // Monday, 1970-01-05.
        UNIX_EPOCH + Duration::from_secs((4 * 24 + number) * 3600)
    }

    fn closed(until: u64) -> MarketHours {
        let until = Some(hour(until));
        MarketHours::Closed { until }
    }

    fn open(since: u64) -> MarketHours {
        let since = Some(hour(since));
        MarketHours::Open { since }
    }

    #[test]
    fn without_a_calendar_and_a_word_it_is_open() {
        let market = Market::default();
        assert_eq!(market.hours(hour(0)), MarketHours::Open { since: None });
    }

    #[test]
    fn closed_by_a_word_it_stays_closed_until_the_moment_that_was_given_or_the_next_word() {
        let mut market = Market::default();
        let until = Some(hour(5));
        market.on_signal(MarketSignal::Closed { until }, hour(1));
        assert_eq!(market.hours(hour(4)), closed(5));
        assert_eq!(market.hours(hour(6)), open(5));
        market.on_signal(MarketSignal::Closed { until: None }, hour(7));
        assert_eq!(market.hours(hour(999)), MarketHours::Closed { until: None });
        market.on_signal(MarketSignal::Open, hour(1000));
        assert_eq!(market.hours(hour(1001)), open(1000));
    }

    #[test]
    fn opened_by_a_word_within_a_window_it_stays_open_until_that_is_over() {
        let mut market = Market::new("daily 02:00 - 06:00".parse().expect("a calendar"));
        assert_eq!(market.hours(hour(3)), closed(6));
        market.on_signal(MarketSignal::Open, hour(3));
        assert_eq!(market.hours(hour(4)), open(3));
        assert_eq!(market.hours(hour(7)), open(6));
        assert_eq!(market.hours(hour(24 + 3)), closed(24 + 6));
    }

    #[test]
    fn closed_until_a_moment_within_a_window_it_opens_with_the_windows_end() {
        let mut market = Market::new("daily 02:00 - 06:00".parse().expect("a calendar"));
        let until = Some(hour(3));
        market.on_signal(MarketSignal::Closed { until }, hour(1));
        assert_eq!(market.hours(hour(1)), closed(6));
        assert_eq!(market.hours(hour(4)), closed(6));
        assert_eq!(market.hours(hour(8)), open(6));
    }
}
