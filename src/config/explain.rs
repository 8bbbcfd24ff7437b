//! What a configuration says in the end, and who said it.
//!
//! Apart from the merging because it is for a person to read: which value an option has, and in which of
//! four layers to look for the reason.
//!
//! Invariants: every option has one line; secrets are shown as `[redacted]`.

use std::collections::BTreeMap;
use std::fmt;

use super::Config;
use super::settings::{Part, Settings};

/// Who set an option. The first that says something about it wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Layer {
    /// Whoever starts the session, by the builder or by settings.
    User,
    /// A preset or a [`Profile`](super::Profile).
    Preset,
    /// The venue's `Platform`, by its `defaults`.
    Platform,
    /// The library.
    Default,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::User => "user",
            Self::Preset => "preset",
            Self::Platform => "platform",
            Self::Default => "default",
        })
    }
}

/// One option as it is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Effective {
    /// Its name, as in a settings file: `liveness.quiet`.
    pub option: String,
    /// Its value as it would be written there; `[redacted]` where it may be a secret.
    pub value: String,
    /// Who set it.
    pub layer: Layer,
}

/// Every option of a [`Config`]; `Display` is a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    rows: Vec<Effective>,
}

impl Explanation {
    /// The options, in the order of their documentation.
    #[must_use]
    pub fn rows(&self) -> &[Effective] {
        &self.rows
    }

    /// One option by its name.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&Effective> {
        self.rows.iter().find(|row| row.option == name)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Effective) -> &str, least: usize| {
            let widths = self.rows.iter().map(|row| text(row).chars().count());
            widths.chain([least]).max().unwrap_or(least)
        };
        let option = width(|row| &row.option, "option".len());
        let value = width(|row| &row.value, "value".len());
        writeln!(f, "{:option$}  {:value$}  set by", "option", "value")?;
        for row in &self.rows {
            writeln!(
                f,
                "{:option$}  {:value$}  {}",
                row.option, row.value, row.layer
            )?;
        }
        Ok(())
    }
}

impl Config {
    /// What each option is in the end, and which layer said so.
    ///
    /// ```
    /// use mainstay::config::{Config, Layer, Profile};
    ///
    /// let config = Config::builder("wss://example.com")
    ///     .profile(Profile::Financial)
    ///     .shutdown_timeout(std::time::Duration::from_secs(2))
    ///     .build()?;
    /// let explanation = config.explain();
    /// let quiet = explanation.option("liveness.quiet").unwrap();
    /// assert_eq!((quiet.value.as_str(), quiet.layer), ("15s", Layer::Preset));
    /// println!("{explanation}");
    /// # Ok::<(), mainstay::error::ConfigErrors>(())
    /// ```
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let layers = [
            (Layer::User, Some(&self.layers.user)),
            (Layer::Preset, self.layers.preset.as_deref()),
            (Layer::Platform, self.layers.platform.as_deref()),
        ];
        let mut setters = BTreeMap::new();
        for (layer, settings) in layers {
            let Some(settings) = settings else {
                continue;
            };
            settings.visit("", &mut |option, value| {
                if value.is_some() {
                    setters.entry(option).or_insert(layer);
                }
            });
        }
        let said = self.layers.merged();
        let mut effective = Settings::of(self);
        effective.url = Some(said.url.unwrap_or_default());
        effective.fallbacks = Some(said.fallbacks.flatten());
        effective.subprotocols = Some(said.subprotocols.unwrap_or_default());
        effective.headers = said.headers;
        let mut rows = Vec::new();
        effective.visit("", &mut |option, value| {
            let layer = setters.get(&option).copied().unwrap_or(Layer::Default);
            let value = value.unwrap_or_default();
            rows.push(Effective {
                option,
                value,
                layer,
            });
        });
        Explanation { rows }
    }
}
