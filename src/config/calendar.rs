//! When a market is closed: windows of the week, in UTC.
//!
//! Apart from the options because it calculates with them; it reads no clock.
//!
//! Invariants: a window begins with its first second and ends before its last; windows that touch or overlap are one
//! closing; a moment before 1970 is in no window. Deliberately absent: holidays and local time; a venue that keeps
//! them says so itself ([`Platform::market`](crate::Platform::market)), or the program that knows them
//! ([`Session::market`](crate::Session::market)).

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::ConfigError;

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;
const WEEK: u64 = 7 * DAY;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// 1970-01-01 was a Thursday.
const FIRST_DAY: u64 = 3;

/// The windows of each week in which a market is closed, in UTC.
///
/// Written as `"fri 21:00 - sun 22:00"`, `"daily 21:00 - 22:00"`, or several of these with commas between them.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use mainstay::config::Calendar;
///
/// let calendar: Calendar = "fri 21:00 - sun 22:00".parse()?;
/// // 1970-01-03 was a Saturday.
/// let saturday = UNIX_EPOCH + Duration::from_secs(2 * 24 * 3600);
/// let opens = saturday + Duration::from_secs(46 * 3600);
/// assert_eq!(calendar.closed_until(saturday), Some(opens));
/// assert_eq!(calendar.closed_until(opens), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calendar {
    windows: Vec<Window>,
}

/// In seconds of the week, which begins on Monday; it may reach over the end of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    from: u64,
    to: u64,
}

impl Window {
    /// How long it still lasts at this second of the week.
    fn left(self, second: u64) -> Option<u64> {
        let lasts = (self.to + WEEK - self.from) % WEEK;
        let passed = (second + WEEK - self.from) % WEEK;
        lasts.checked_sub(passed).filter(|left| *left > 0)
    }
}

impl Calendar {
    /// A market that never closes.
    #[must_use]
    pub fn always_open() -> Self {
        Self::default()
    }

    /// Whether it never closes.
    #[must_use]
    pub fn is_always_open(&self) -> bool {
        self.windows.is_empty()
    }

    /// When the market opens again, if it is closed at `now`. One that never opens is closed until a week from then.
    #[must_use]
    pub fn closed_until(&self, now: SystemTime) -> Option<SystemTime> {
        let start = second_of_week(now)?;
        let mut left = 0;
        while left < WEEK {
            let at = (start + left) % WEEK;
            let more = self.windows.iter().filter_map(|one| one.left(at)).max();
            let Some(more) = more else { break };
            left += more;
        }
        (left > 0).then(|| whole_second(now) + Duration::from_secs(left))
    }

    /// When the market last opened, if it is open at `now` and ever closes.
    #[must_use]
    pub fn open_since(&self, now: SystemTime) -> Option<SystemTime> {
        if self.closed_until(now).is_some() {
            return None;
        }
        let second = second_of_week(now)?;
        let ago = |window: &Window| (second + WEEK - window.to) % WEEK;
        let ago = self.windows.iter().map(ago).min()?;
        whole_second(now).checked_sub(Duration::from_secs(ago))
    }
}

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn second_of_week(at: SystemTime) -> Option<u64> {
    let seconds = at.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some((seconds + FIRST_DAY * DAY) % WEEK)
}

fn whole_second(at: SystemTime) -> SystemTime {
    at - Duration::from_nanos(since_epoch(at).subsec_nanos().into())
}

impl FromStr for Calendar {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let windows: Option<Vec<Vec<Window>>> = text.split(',').map(windows).collect();
        let windows = windows.ok_or_else(|| {
            let remedy = "write times in utc such as \"fri 21:00 - sun 22:00\" or \"daily 21:00 - 22:00\", \
                          with commas between them";
            ConfigError::new("ladder.closed", text, remedy)
        })?;
        let windows = windows.into_iter().flatten().collect();
        Ok(Self { windows })
    }
}

fn windows(text: &str) -> Option<Vec<Window>> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (from.trim(), to.trim());
    if let Some(from) = from.strip_prefix("daily ") {
        let (from, to) = (time(from)?, time(to)?);
        let each = |day: u64| Window {
            from: day * DAY + from,
            to: (day * DAY + to + if to <= from { DAY } else { 0 }) % WEEK,
        };
        return (from != to).then(|| (0..7).map(each).collect());
    }
    let (from, to) = (moment(from)?, moment(to)?);
    (from != to).then(|| vec![Window { from, to }])
}

/// Such as `fri 21:00`.
fn moment(text: &str) -> Option<u64> {
    let (day, at) = text.split_once(' ')?;
    let day = DAYS.iter().position(|name| *name == day)?;
    Some((u64::try_from(day).ok()? * DAY + time(at)?) % WEEK)
}

/// Such as `21:00`, up to `24:00`.
fn time(text: &str) -> Option<u64> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let two = |digits: &str, most: u64| {
        let number = (digits.len() == 2).then(|| digits.parse().ok()).flatten();
        number.filter(|number: &u64| *number <= most)
    };
    let seconds = two(hours, 24)? * 60 * MINUTE + two(minutes, 59)? * MINUTE;
    (seconds <= DAY).then_some(seconds % WEEK)
}

/// As it can be read.
impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, window) in self.windows.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{} - {}", Shown(window.from), Shown(window.to))?;
        }
        Ok(())
    }
}

struct Shown(u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0 % WEEK;
        let day = usize::try_from(at / DAY).ok().and_then(|day| DAYS.get(day));
        let minute = at % DAY / MINUTE;
        let day = day.copied().unwrap_or_default();
        write!(f, "{day} {:02}:{:02}", minute / 60, minute % 60)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A moment in the week that began on Monday, 1970-01-05.
    fn at(text: &str) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(4 * DAY + moment(text).expect("a moment"))
    }

    fn calendar(text: &str) -> Calendar {
        text.parse().expect("a calendar")
    }

    #[test]
    fn a_weekend_is_closed_from_its_first_second_to_before_its_last() {
        let weekend = calendar("fri 21:00 - sun 22:00");
        let opens = Some(at("sun 22:00"));
        assert_eq!(weekend.closed_until(at("fri 20:59")), None);
        assert_eq!(weekend.closed_until(at("fri 21:00")), opens);
        let nearly = at("sun 21:59") + Duration::from_millis(59_999);
        assert_eq!(weekend.closed_until(nearly), opens);
        assert_eq!(weekend.closed_until(at("sun 22:00")), None);
        assert_eq!(weekend.open_since(at("sun 23:00")), opens);
        assert_eq!(weekend.open_since(at("sat 12:00")), None);
    }

    #[test]
    fn a_window_may_reach_over_the_end_of_the_week() {
        let night = calendar("sun 23:00 - mon 01:00");
        let next = Duration::from_secs(WEEK);
        let opens = at("mon 01:00") + next;
        assert_eq!(night.closed_until(at("sun 23:30")), Some(opens));
        assert_eq!(night.closed_until(at("mon 00:30") + next), Some(opens));
    }

    #[test]
    fn windows_that_touch_are_one_closing() {
        let evenings =
            calendar("daily 21:00 - 24:00, fri 24:00 - sat 06:00, sat 05:00 - sat 07:00");
        let opens = Some(at("sat 07:00"));
        assert_eq!(evenings.closed_until(at("fri 22:00")), opens);
        assert_eq!(
            evenings.closed_until(at("thu 22:00")),
            Some(at("fri 00:00"))
        );
    }

    #[test]
    fn a_day_may_end_after_midnight() {
        let night = calendar("daily 22:00 - 02:00");
        assert_eq!(night.closed_until(at("tue 23:00")), Some(at("wed 02:00")));
        assert_eq!(night.closed_until(at("wed 01:00")), Some(at("wed 02:00")));
        assert_eq!(night.closed_until(at("wed 03:00")), None);
    }

    #[test]
    fn a_market_that_never_opens_is_closed_for_a_week_and_longer() {
        let never = calendar("daily 00:00 - 24:00");
        let until = never.closed_until(at("tue 12:00")).expect("closed");
        assert!(until >= at("tue 12:00") + Duration::from_secs(WEEK));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "weekend",
            "fri 21:00",
            "fri 21:00 - fri 21:00",
            "fri 25:00 - sat 01:00",
            "fri 9:00 - sat 01:00",
            "fri 24:01 - sat 01:00",
            "friday 09:00 - sat 01:00",
            "fri 21:00 - sun 22:00,",
        ] {
            let error = text.parse::<Calendar>().expect_err(text);
            assert!(error.to_string().contains("fri 21:00 - sun 22:00"));
        }
    }

    proptest! {
        /// A market is closed until a moment at which it is open, and open since one before which it was closed.
        #[test]
        fn what_is_shown_means_the_same_and_ends_are_ends(
            windows in prop::collection::vec((0_u64..WEEK / 60, 1_u64..WEEK / 120), 1..4),
            seconds in 0_u64..10 * WEEK,
            nanos in 0_u32..1_000_000_000,
        ) {
            let windows = windows.into_iter().map(|(from, lasts)| Window {
                from: from * 60,
                to: (from + lasts) * 60 % WEEK,
            });
            let calendar = Calendar { windows: windows.collect() };
            let again: Calendar = calendar.to_string().parse().expect("as shown");
            prop_assert_eq!(&again, &calendar);
            let now = UNIX_EPOCH + Duration::new(WEEK + seconds, nanos);
            let second = Duration::from_secs(1);
            match calendar.closed_until(now) {
                Some(opens) if opens < now + Duration::from_secs(WEEK) => {
                    prop_assert!(opens > now);
                    prop_assert_eq!(calendar.closed_until(opens), None);
                    prop_assert_eq!(calendar.closed_until(opens - second), Some(opens));
                }
                Some(_) => {}
                None => {
                    let opened = calendar.open_since(now).expect("it closes");
                    prop_assert!(opened <= now);
                    prop_assert_eq!(calendar.closed_until(opened), None);
                    prop_assert!(calendar.closed_until(opened - second).is_some());
                }
            }
        }
    }
}
