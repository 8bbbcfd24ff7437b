//! A fault script as data: what the venue does with one connection after the other.
//!
//! Apart from what plays it because a script is kept as a file beside the test that once needed it.
//!
//! Invariants: what is written is what was read; a name that is no option is refused, and so is a script that
//! cannot be played, with the place of the mistake.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bad_frame::BadFrame;
use super::course::{check, span};

/// What a venue does, connection by connection. See the [module](super) for its form as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FaultScript {
    /// What it is called.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it shows, for whoever reads it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// How often each subscribed channel is sent a message while a connection is served. Default 10 ms.
    #[serde(default = "every", with = "human")]
    pub every: Duration,
    /// How fast the venue lets itself be asked, over all connections. Default: as fast as one likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<VenueLimit>,
    /// What is done with the connections, in the order of their coming.
    pub connections: Vec<FaultConnection>,
    /// What is done with the connections behind those. Default: they are served.
    #[serde(default)]
    pub then: Afterwards,
}

fn every() -> Duration {
    Duration::from_millis(10)
}

/// What is done with one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FaultConnection {
    /// In this order. A connection that no step has ended is served from then on.
    #[serde(default)]
    pub steps: Vec<FaultStep>,
}

/// What becomes of the connections that a script does not mention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Afterwards {
    /// They are served.
    #[default]
    Serve,
    /// They fare as the last one did.
    RepeatLast,
    /// They are refused.
    Refuse,
}

/// How fast a venue lets itself be asked, and what it does to those who are faster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct VenueLimit {
    /// So many requests,
    pub requests: usize,
    /// in any such window.
    #[serde(with = "human")]
    pub per: Duration,
    /// What the next one is met with.
    pub punish: Punishment,
    /// For how long the upgrade is then answered by 429 with `Retry-After`. Default: not at all.
    #[serde(default, with = "human")]
    pub ban: Duration,
}

/// What a request beyond the limit is met with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Punishment {
    /// The connection is closed with this code, usually 1008.
    Close(u16),
    /// The request is answered by an error of this code, and not carried out.
    Error(i64),
}

/// One thing that is done to a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum FaultStep {
    /// The port is closed for so long, from the end of the connection before. Alone in its connection.
    Refuse(#[serde(with = "human")] Duration),
    /// TCP is closed as soon as it is accepted.
    HangUpBeforeUpgrade,
    /// TCP is reset as soon as it is accepted.
    ResetBeforeUpgrade,
    /// The upgrade request is answered only after so long.
    StallUpgrade(#[serde(with = "human")] Duration),
    /// The upgrade request is answered by another status than 101.
    Http(HttpAnswer),
    /// The upgrade request is answered by this text, which is no HTTP.
    Garbage(String),
    /// The upgrade request is answered by a 101 with a wrong `Sec-WebSocket-Accept`.
    WrongAccept,
    /// From here on only so many bytes pass at a time.
    Slow(Slow),
    /// After so many bytes more the connection ends.
    Cut(Cut),
    /// Requests are answered and channels are sent for so long.
    Serve(#[serde(with = "human")] Duration),
    /// The same, until a message came that contains this text.
    Await(String),
    /// Pings are answered for so long, and nothing else is.
    Mute(#[serde(with = "human")] Duration),
    /// Pings and requests are answered for so long, but no channel is sent.
    AckedMute(#[serde(with = "human")] Duration),
    /// Nothing is read and nothing written for so long: a half-open connection.
    Silence(#[serde(with = "human")] Duration),
    /// Requests that come within so long are answered behind it, together.
    Delay(#[serde(with = "human")] Duration),
    /// From here on requests are answered by this error.
    Deny(Denial),
    /// From here on requests are answered as they should be.
    Allow,
    /// A text message as it is.
    Send(String),
    /// Bytes below the frames, in hexadecimal digits.
    Raw(Hex),
    /// A ping with this payload.
    Ping(String),
    /// So many pings at once.
    PingFlood(u32),
    /// So many messages at once for each subscribed channel.
    Flood(Flood),
    /// A frame that RFC 6455 forbids.
    BadFrame(BadFrame),
    /// A close frame, and the closing handshake.
    Close(Close),
    /// TCP is closed without a close frame.
    HangUp,
    /// TCP is reset.
    Reset,
    /// The client's clock jumps forward while nothing is wrong with the connection.
    ClockJump(#[serde(with = "human")] Duration),
    /// The client sleeps for so long; when it wakes, the venue has forgotten it and says nothing any more.
    Suspend(#[serde(with = "human")] Duration),
    /// These steps, so many times.
    Repeat(Repeat),
}

/// An answer other than 101.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// Its headers, for example `retry-after` or `location`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// What the venue sends.
    #[default]
    ToClient,
    /// What the client sends.
    FromClient,
}

/// A slow line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Slow {
    /// So many bytes pass; with 0 the line is fast again.
    pub bytes: usize,
    /// This often.
    #[serde(with = "human")]
    pub every: Duration,
    /// In this direction. Default: to the client.
    #[serde(default)]
    pub direction: Direction,
}

/// How a connection ends that is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// By a TCP reset.
    #[default]
    Reset,
    /// By closing TCP.
    HangUp,
    /// Not at all: nothing passes any more in either direction.
    Silence,
}

/// A cut, counted in bytes below the frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Cut {
    /// So many bytes pass from here on.
    pub after: u64,
    /// Counted in this direction. Default: to the client.
    #[serde(default)]
    pub direction: Direction,
    /// What then. Default: a reset. Before the upgrade it is always a hang-up.
    #[serde(default)]
    pub how: Ending,
}

/// An answer to requests that are not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Denial {
    /// The code of the JSON-RPC error.
    pub code: i64,
    /// Its message.
    #[serde(default)]
    pub message: String,
    /// Only requests that contain this text. Default: all of them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
}

impl Denial {
    /// Whether this request is answered by it.
    pub(super) fn meets(&self, request: &str) -> bool {
        request.contains(&self.about)
    }
}

/// Many messages at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Flood {
    /// How many.
    pub messages: u32,
    /// How many bytes each has beside its number. Default none.
    #[serde(default)]
    pub pad: usize,
}

/// A close frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Close {
    /// Its code, also one that may not be sent. Without one the frame is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Its reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Steps that are done again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Repeat {
    /// How often.
    pub times: u32,
    /// What.
    pub steps: Vec<FaultStep>,
}

/// Bytes; read and written as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.replace(' ', "");
        data_encoding::HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .map(Self)
            .map_err(|error| {
                format!("write bytes as hexadecimal digits, such as \"81 02 68 69\" ({error})")
            })
    }
}

impl From<Hex> for String {
    fn from(bytes: Hex) -> Self {
        data_encoding::HEXLOWER.encode(&bytes.0)
    }
}

/// A fault script could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultScriptError {
    /// The file cannot be read.
    #[error("fault script {path} cannot be read")]
    File {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no fault script.
    #[error("not a fault script: {detail}")]
    Form {
        /// What is wrong, and where.
        detail: String,
    },
    /// It has the right form and cannot be played.
    #[error("{place} cannot be played: {remedy}")]
    Senseless {
        /// Where, such as `connections[1].steps[0]`.
        place: String,
        /// What to write instead.
        remedy: &'static str,
    },
}

impl FaultScript {
    /// How long the steps of all connections take by themselves, a ban of the venue's limit included; a jump of the
    /// clock counts `hold` at most.
    pub(super) fn span(&self, hold: Duration) -> Duration {
        let connections = self.connections.iter();
        let ban = self
            .limit
            .as_ref()
            .map_or(Duration::ZERO, |limit| limit.ban);
        connections
            .map(|connection| span(&connection.steps, hold, &mut None))
            .fold(ban, Duration::saturating_add)
    }

    /// A script of these connections.
    ///
    /// # Errors
    ///
    /// [`FaultScriptError::Senseless`].
    pub fn new(
        name: impl Into<String>,
        connections: impl IntoIterator<Item = Vec<FaultStep>>,
    ) -> Result<Self, FaultScriptError> {
        let connections = connections.into_iter();
        Self {
            name: name.into(),
            about: String::new(),
            every: every(),
            limit: None,
            connections: connections.map(|steps| FaultConnection { steps }).collect(),
            then: Afterwards::default(),
        }
        .checked()
    }

    /// Reads a script out of its JSON.
    ///
    /// # Errors
    ///
    /// [`FaultScriptError`], with line and column or with the place in the script.
    pub fn from_json(text: &str) -> Result<Self, FaultScriptError> {
        serde_json::from_str::<Self>(text)
            .map_err(|error| FaultScriptError::Form {
                detail: error.to_string(),
            })?
            .checked()
    }

    /// Reads a script out of a file.
    ///
    /// # Errors
    ///
    /// [`FaultScriptError`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, FaultScriptError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| FaultScriptError::File {
            path: path.display().to_string(),
            source,
        })?;
        Self::from_json(&text)
    }

    /// The script as JSON, to be kept.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Names and numbers only; nothing of it can fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Whether it can be played; fields can be set in code, too.
    ///
    /// # Errors
    ///
    /// [`FaultScriptError::Senseless`].
    pub fn checked(self) -> Result<Self, FaultScriptError> {
        let senseless = |place: &str, remedy| {
            Err(FaultScriptError::Senseless {
                place: place.to_owned(),
                remedy,
            })
        };
        if self.every.is_zero() {
            return senseless("every", "write a time above zero");
        }
        if self.limit.as_ref().is_some_and(|limit| limit.per.is_zero()) {
            return senseless("limit.per", "write a time above zero");
        }
        for (number, connection) in self.connections.iter().enumerate() {
            check(
                &connection.steps,
                &format!("connections[{number}].steps"),
                true,
            )?;
        }
        Ok(self)
    }
}

impl FaultStep {
    /// Whether nothing can follow it.
    #[must_use]
    pub fn ends(&self) -> bool {
        match self {
            Self::Refuse(_)
            | Self::HangUpBeforeUpgrade
            | Self::ResetBeforeUpgrade
            | Self::Http(_)
            | Self::Garbage(_)
            | Self::WrongAccept
            | Self::Close(_)
            | Self::HangUp
            | Self::Reset
            | Self::Suspend(_) => true,
            Self::Repeat(repeat) => repeat.times > 0 && repeat.steps.iter().any(Self::ends),
            Self::StallUpgrade(_)
            | Self::Slow(_)
            | Self::Cut(_)
            | Self::Serve(_)
            | Self::Await(_)
            | Self::Mute(_)
            | Self::AckedMute(_)
            | Self::Silence(_)
            | Self::Delay(_)
            | Self::Deny(_)
            | Self::Allow
            | Self::Send(_)
            | Self::Raw(_)
            | Self::Ping(_)
            | Self::PingFlood(_)
            | Self::Flood(_)
            | Self::BadFrame(_)
            | Self::ClockJump(_) => false,
        }
    }

    /// Whether the upgrade need not have happened for it.
    pub(super) fn is_before_upgrade(&self) -> bool {
        matches!(
            self,
            Self::Refuse(_)
                | Self::HangUpBeforeUpgrade
                | Self::ResetBeforeUpgrade
                | Self::StallUpgrade(_)
                | Self::Http(_)
                | Self::Garbage(_)
                | Self::WrongAccept
                | Self::Slow(_)
                | Self::Cut(_)
        )
    }
}

/// Durations as people write them.
mod human {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|error| {
            de::Error::custom(format!(
                "{text:?} is no duration, write one such as \"250ms\" or \"30s\" ({error})"
            ))
        })
    }
}
