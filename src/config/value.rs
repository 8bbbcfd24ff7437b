//! How one option's value is read from a settings file and shown to a person.
//!
//! Apart from the options because it is about types, not about names: a duration is read and shown the
//! same way wherever it stands.
//!
//! Invariants: what `show` writes, `read` accepts; a URL's query is never shown.

use std::time::Duration;

use mainstay_supervisors::backoff::{Growth, Jitter};
use serde_json::Value;

use super::endpoint;
use super::{
    Calendar, ConflationKey, Overflow, RateLimits, ReconnectOwner, Record, Rule, StableBy, Tls,
    Urls, WireBackend,
};
use crate::error::ConfigError;

/// A type that an option can have.
pub(super) trait Setting: Sized {
    /// Reads it; else says what to write instead.
    fn read(json: &Value) -> Result<Self, String>;

    /// The value for tables and errors, without secrets.
    fn show(&self) -> String;
}

impl Setting for Duration {
    fn read(json: &Value) -> Result<Self, String> {
        let remedy = || "write a number with its unit, such as \"250ms\" or \"30s\"".to_owned();
        let text = json.as_str().ok_or_else(remedy)?;
        humantime::parse_duration(text).map_err(|error| format!("{} ({error})", remedy()))
    }

    fn show(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

/// `null` and `"none"` unset an option that may be absent.
impl<S: Setting> Setting for Option<S> {
    fn read(json: &Value) -> Result<Self, String> {
        match json {
            Value::Null => Ok(None),
            Value::String(none) if none == "none" => Ok(None),
            given => S::read(given).map(Some),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), S::show)
    }
}

impl Setting for bool {
    fn read(json: &Value) -> Result<Self, String> {
        json.as_bool().ok_or_else(|| "write true or false".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for usize {
    fn read(json: &Value) -> Result<Self, String> {
        json.as_u64()
            .and_then(|number| number.try_into().ok())
            .ok_or_else(|| "write a whole number, not below zero".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u32 {
    fn read(json: &Value) -> Result<Self, String> {
        json.as_u64()
            .and_then(|number| number.try_into().ok())
            .ok_or_else(|| format!("write a whole number from 0 to {}", Self::MAX))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for f64 {
    fn read(json: &Value) -> Result<Self, String> {
        json.as_f64().ok_or_else(|| "write a number".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// The only option that is a plain text is the URL, so that it is shown as one.
impl Setting for String {
    fn read(json: &Value) -> Result<Self, String> {
        let text = json.as_str().map(str::to_owned);
        text.ok_or_else(|| "write a text".into())
    }

    fn show(&self) -> String {
        endpoint::redacted(self)
    }
}

/// Subprotocols, in the order of preference.
impl Setting for Vec<String> {
    fn read(json: &Value) -> Result<Self, String> {
        let texts = json.as_array().and_then(|texts| {
            let texts = texts.iter().map(|text| text.as_str().map(str::to_owned));
            texts.collect()
        });
        texts.ok_or_else(|| "write a list of texts".into())
    }

    fn show(&self) -> String {
        if self.is_empty() {
            "none".to_owned()
        } else {
            self.join(", ")
        }
    }
}

impl Setting for Urls {
    fn read(json: &Value) -> Result<Self, String> {
        Vec::<String>::read(json).map(Self)
    }

    fn show(&self) -> String {
        let shown = self.0.iter().map(|url| endpoint::redacted(url));
        shown.collect::<Vec<_>>().join(", ")
    }
}

impl Setting for StableBy {
    fn read(json: &Value) -> Result<Self, String> {
        match json.as_str() {
            Some("time") => Ok(Self::Time),
            Some("data") => Ok(Self::Data),
            _ => Err("write \"time\" or \"data\"".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Time => "time".to_owned(),
            Self::Data => "data".to_owned(),
        }
    }
}

impl Setting for ReconnectOwner {
    fn read(json: &Value) -> Result<Self, String> {
        match json.as_str() {
            Some("client") => Ok(Self::Client),
            Some("adapter") => Ok(Self::Adapter),
            _ => Err("write \"client\" or \"adapter\"".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Client => "client".to_owned(),
            Self::Adapter => "adapter".to_owned(),
        }
    }
}

impl Setting for WireBackend {
    fn read(json: &Value) -> Result<Self, String> {
        match json.as_str() {
            Some("tungstenite") => Ok(Self::Tungstenite),
            Some("fast") => Ok(Self::Fast),
            _ => Err("write \"tungstenite\" or \"fast\"".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Tungstenite => "tungstenite".to_owned(),
            Self::Fast => "fast".to_owned(),
        }
    }
}

impl Setting for Growth {
    fn read(json: &Value) -> Result<Self, String> {
        match json.as_str() {
            Some("exponential") => Ok(Self::Exponential),
            Some("linear") => Ok(Self::Linear),
            _ => Err("write \"exponential\" or \"linear\"".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Exponential => "exponential".to_owned(),
            Self::Linear => "linear".to_owned(),
        }
    }
}

impl Setting for Jitter {
    fn read(json: &Value) -> Result<Self, String> {
        let percent = |text: &str| text.strip_suffix('%')?.trim().parse().ok();
        match json.as_str() {
            Some("full") => Ok(Self::Full),
            Some("equal") => Ok(Self::Equal),
            Some("none") => Ok(Self::None),
            text => text
                .and_then(percent)
                .map(Self::Percent)
                .ok_or_else(|| "write \"full\", \"equal\", \"none\" or such as \"25%\"".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Full => "full".to_owned(),
            Self::Equal => "equal".to_owned(),
            Self::None => "none".to_owned(),
            Self::Percent(percent) => format!("{percent}%"),
        }
    }
}

impl Setting for Overflow {
    fn read(json: &Value) -> Result<Self, String> {
        let other = |text: &str| {
            if let Some(pointer) = text.strip_prefix("conflate ") {
                return ConflationKey::json_pointer(pointer)
                    .ok()
                    .map(Self::Conflate);
            }
            let limit = text.strip_prefix("block ")?;
            humantime::parse_duration(limit).ok().map(Self::Block)
        };
        match json.as_str() {
            Some("drop_oldest") => Ok(Self::DropOldest),
            Some("drop_newest") => Ok(Self::DropNewest),
            Some("disconnect") => Ok(Self::Disconnect),
            text => text.and_then(other).ok_or_else(|| {
                "write \"drop_oldest\", \"drop_newest\", \"disconnect\", or such as \"block 250ms\" or \
                 \"conflate /params/data/symbol\", with a json pointer (RFC 6901) to what makes messages the same"
                    .into()
            }),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::DropOldest => "drop_oldest".to_owned(),
            Self::DropNewest => "drop_newest".to_owned(),
            Self::Disconnect => "disconnect".to_owned(),
            Self::Block(limit) => format!("block {}", limit.show()),
            Self::Conflate(key) => match key.as_json_pointer() {
                Some(pointer) => format!("conflate {pointer}"),
                // Set in code, and only there.
                None => "conflate by a function".to_owned(),
            },
        }
    }
}

impl Setting for Calendar {
    fn read(json: &Value) -> Result<Self, String> {
        match json {
            Value::Null => Ok(Self::always_open()),
            Value::String(none) if none == "none" => Ok(Self::always_open()),
            given => {
                let text = given.as_str().unwrap_or_default();
                text.parse().map_err(|error: ConfigError| error.remedy)
            }
        }
    }

    fn show(&self) -> String {
        match self.is_always_open() {
            true => "none".to_owned(),
            false => self.to_string(),
        }
    }
}

/// A single rule; costs and several pools are given by
/// [`ConfigBuilder::rate_limits`](super::ConfigBuilder::rate_limits).
impl Setting for RateLimits {
    fn read(json: &Value) -> Result<Self, String> {
        let remedy =
            || "write such as \"20 per 1s\", \"60 refilled 1 per 1s\" or \"unlimited\"".to_owned();
        let text = json.as_str().ok_or_else(remedy)?;
        if text == "unlimited" {
            return Ok(Self::unlimited());
        }
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| remedy());
        let (amount, interval) = text.split_once(" per ").ok_or_else(remedy)?;
        let interval = Duration::read(&Value::from(interval.trim()))?;
        match amount.split_once(" refilled ") {
            Some((capacity, refill)) => {
                Ok(Self::bucket(number(capacity)?, number(refill)?, interval))
            }
            None => Ok(Self::window(number(amount)?, interval)),
        }
    }

    fn show(&self) -> String {
        let rules = self.pools.iter().map(|pool| match pool.rule {
            Rule::Window { limit, within } => format!("{limit} per {}", within.show()),
            Rule::Bucket {
                capacity,
                refill,
                every,
            } => format!("{capacity} refilled {refill} per {}", every.show()),
        });
        let rules: Vec<String> = rules.collect();
        if rules.is_empty() {
            return "unlimited".to_owned();
        }
        rules.join(", ")
    }
}

/// What is beside the path is given by [`ConfigBuilder::record`](super::ConfigBuilder::record).
impl Setting for Record {
    fn read(json: &Value) -> Result<Self, String> {
        let path = json.as_str().map(Self::to);
        path.ok_or_else(|| "write the path of a file".into())
    }

    fn show(&self) -> String {
        self.path.display().to_string()
    }
}

/// Certificates of one's own are given by [`ConfigBuilder::tls`](super::ConfigBuilder::tls).
impl Setting for Tls {
    fn read(json: &Value) -> Result<Self, String> {
        match json.as_str() {
            Some("default") => Ok(Self::default()),
            #[cfg(feature = "platform-roots")]
            Some("platform") => Ok(Self::platform()),
            #[cfg(feature = "webpki-roots")]
            Some("webpki") => Ok(Self::webpki()),
            _ => Err(
                "write \"default\", or \"platform\" or \"webpki\" where that feature is on".into(),
            ),
        }
    }

    fn show(&self) -> String {
        self.summary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn comes_back<S: Setting>(text: &str) {
        let read = S::read(&Value::from(text));
        assert_eq!(read.map(|value| value.show()), Ok(text.to_owned()));
    }

    #[test]
    fn what_is_shown_can_be_read() {
        comes_back::<Duration>("1m 30s 250ms");
        comes_back::<Option<Duration>>("none");
        comes_back::<ReconnectOwner>("client");
        comes_back::<WireBackend>("fast");
        comes_back::<Growth>("linear");
        comes_back::<Jitter>("25%");
        comes_back::<Jitter>("equal");
        comes_back::<Overflow>("block 250ms");
        comes_back::<Overflow>("drop_newest");
        comes_back::<Overflow>("conflate /params/data/symbol");
        comes_back::<Calendar>("fri 21:00 - sun 22:00, wed 01:00 - wed 01:30");
        comes_back::<Calendar>("none");
        comes_back::<Tls>("default");
        comes_back::<RateLimits>("20 per 1s");
        comes_back::<RateLimits>("60 refilled 1 per 1s");
        comes_back::<RateLimits>("unlimited");
    }

    #[test]
    fn a_key_that_is_no_pointer_is_refused() {
        for text in ["conflate", "conflate ", "conflate symbol", "conflate /a~2"] {
            let remedy = Overflow::read(&Value::from(text)).expect_err("no key");
            assert!(remedy.contains("conflate /params/data/symbol"), "{remedy}");
        }
    }

    #[test]
    fn a_number_is_no_duration() {
        for json in [Value::from(30), Value::from("30"), Value::from("soon")] {
            let remedy = Duration::read(&json).expect_err("no duration");
            assert!(remedy.contains("\"250ms\""), "{remedy}");
        }
    }
}
