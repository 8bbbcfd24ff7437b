//! Reads settings from a tree of names and values, and notes all that is wrong with it.
//!
//! Apart from the settings because it knows none of them: it is told which names there are by the groups
//! that ask for them, and refuses what nobody has asked for.
//!
//! Invariants: every mistake is reported; values that may be secret are not shown; nothing unknown passes.

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::settings::{Part, Settings};
use super::value::Setting;
use crate::error::{ConfigError, ConfigErrors};

/// One level of the tree that is read.
pub(super) struct Reader<'e> {
    prefix: String,
    left: Map<String, Value>,
    errors: &'e mut Vec<ConfigError>,
}

impl Reader<'_> {
    /// Takes out one option.
    pub(super) fn option<S: Setting>(&mut self, name: &str) -> Option<S> {
        let json = self.left.remove(name)?;
        match S::read(&json) {
            Ok(value) => Some(value),
            Err(remedy) => {
                let remedy = if json.is_null() {
                    "leave it out to have what a lower layer says".to_owned()
                } else {
                    remedy
                };
                let value = match (name, &json) {
                    ("url" | "fallbacks", _) => "[redacted]".to_owned(),
                    (_, Value::String(text)) => text.clone(),
                    (_, json) => json.to_string(),
                };
                self.refuse(ConfigError::new(self.name(name), value, remedy));
                None
            }
        }
    }

    /// Takes out one group.
    pub(super) fn part<P: Part + Default>(&mut self, name: &str) -> P {
        match self.left.remove(name) {
            None => P::default(),
            Some(Value::Object(left)) => {
                let mut inner = Reader {
                    prefix: self.name(name) + ".",
                    left,
                    errors: self.errors,
                };
                let part = P::read(&mut inner);
                inner.refuse_the_rest();
                part
            }
            Some(_) => {
                let remedy = "write a map of options";
                self.refuse(ConfigError::new(self.name(name), "[redacted]", remedy));
                P::default()
            }
        }
    }

    /// Takes out everything, for a group that has no fixed names.
    pub(super) fn entries(&mut self) -> impl Iterator<Item = (String, Value)> + use<> {
        std::mem::take(&mut self.left).into_iter()
    }

    /// Notes a mistake.
    pub(super) fn refuse(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    fn name(&self, option: &str) -> String {
        format!("{}{option}", self.prefix)
    }

    fn refuse_the_rest(self) {
        for (name, _) in self.left {
            let name = format!("{}{name}", self.prefix);
            let remedy = match near(&name) {
                Some(near) => format!("there is no such option; {near:?} is one"),
                None => "leave it out, there is no such option".to_owned(),
            };
            self.errors.push(ConfigError::new(name, "set", remedy));
        }
    }
}

/// Reads what can be read, and says what cannot.
pub(super) fn read(json: Value) -> (Settings, Vec<ConfigError>) {
    let mut errors = Vec::new();
    let Value::Object(left) = json else {
        let remedy = "write a map of options";
        errors.push(ConfigError::new("settings", "this", remedy));
        return (Settings::default(), errors);
    };
    let mut reader = Reader {
        prefix: String::new(),
        left,
        errors: &mut errors,
    };
    let settings = Settings::read(&mut reader);
    reader.refuse_the_rest();
    (settings, errors)
}

/// Reads what is JSON, with the mistake where it is not.
pub(super) fn read_json(text: &str) -> (Settings, Vec<ConfigError>) {
    match serde_json::from_str(text) {
        Ok(json) => read(json),
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            let remedy = format!("write valid json ({:?} error)", error.classify());
            let error = ConfigError::new("settings", place, remedy);
            (Settings::default(), vec![error])
        }
    }
}

impl<'de> Deserialize<'de> for Settings {
    /// From any format that describes itself, such as JSON or TOML.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (settings, errors) = read(Value::deserialize(deserializer)?);
        ConfigErrors::none_of(errors).map_err(de::Error::custom)?;
        Ok(settings)
    }
}

/// What the options of older clients of this family are called here.
const FORMERLY: [(&str, &str); 21] = [
    ("host", "url"),
    ("port", "url"),
    ("path", "url"),
    ("timeout", "limits.tcp"),
    ("connect_timeout", "limits.tcp"),
    ("retry", "backoff.max_attempts"),
    ("retry_count", "backoff.max_attempts"),
    ("max_reconnect_attempts", "backoff.max_attempts"),
    ("retry_delay", "backoff.min"),
    ("base_backoff", "backoff.min"),
    ("max_backoff", "backoff.max"),
    ("backoff_type", "backoff.growth"),
    ("heartbeat", "liveness.enabled"),
    ("heartbeat_config", "liveness.enabled"),
    ("heartbeat_interval", "liveness.quiet"),
    ("ping_interval", "liveness.quiet"),
    ("reconnect_on_error", "reconnect.automatic"),
    ("latency_buffer_size", "latency_window"),
    ("record_to", "record"),
    ("rate_limit_opts", "rate_limits"),
    ("ws_opts", "subprotocols"),
];

/// The option that was probably meant.
fn near(name: &str) -> Option<String> {
    if let Some((_, now)) = FORMERLY.iter().find(|(formerly, _)| *formerly == name) {
        return Some((*now).to_owned());
    }
    let mut nearest: Option<(usize, String)> = None;
    Settings::default().visit("", &mut |option, _| {
        let last = option.rsplit('.').next().unwrap_or(&option);
        // The right name in the wrong place, or nearly the right name.
        let distance = if last == name.rsplit('.').next().unwrap_or(name) {
            1
        } else {
            strsim::damerau_levenshtein(name, &option)
        };
        if distance * 3 <= option.len()
            && nearest.as_ref().is_none_or(|(least, _)| distance < *least)
        {
            nearest = Some((distance, option));
        }
    });
    nearest.map(|(_, option)| option).or_else(|| {
        let groups = [
            "headers",
            "limits",
            "reconnect",
            "backoff",
            "liveness",
            "queue",
            "offline",
        ];
        let group = groups
            .into_iter()
            .find(|group| strsim::damerau_levenshtein(name, group) <= 2)?;
        Some(group.to_owned())
    })
}
