//! Presets for four kinds of use.
//!
//! Apart from the defaults because they are choices among options, not options: a preset is a layer below
//! the user's and above the platform's.
//!
//! Invariants: a profile says only what distinguishes it.

use std::time::Duration;

use mainstay_supervisors::backoff::{Growth, Jitter};

use super::settings::{BackoffSettings, LimitSettings, LivenessSettings, Settings};

/// A preset for a kind of use: `ConfigBuilder::profile`.
///
/// | | growth | attempts | delays | jitter | timeout | ping | pong |
/// |---|---|---|---|---|---|---|---|
/// | `Financial` | exponential | unlimited | 100 ms to 30 s | 25 % | 5 s | 15 s | 5 s |
/// | `Standard` | linear | 10 | 1 s to 60 s | none | 10 s | 30 s | 10 s |
/// | `Lightweight` | linear | 3 | 2 s to 10 s | none | 15 s | 60 s | 15 s |
/// | `Messaging` | exponential | 20 | 1 s to 30 s | none | 8 s | 45 s | 10 s |
///
/// The timeout is that of each phase of opening (`limits.dns`, `tcp`, `tls`, `upgrade`). The ping comes
/// after so long without any frame (`liveness.quiet`), not at every interval, and the pong's limit is
/// `liveness.grace`. The first attempt after a stable connection waits, too.
///
/// Without counterpart: how detailed telemetry is (all events are always there; filter them by the
/// `tracing` subscriber), and clustering of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// Trading: back within milliseconds, for ever, and soon aware of silence.
    Financial,
    /// An ordinary service.
    Standard,
    /// Little traffic and little effort.
    Lightweight,
    /// Chats and notifications: patient, and tolerant of quiet.
    Messaging,
}

impl Profile {
    /// What it says, to be looked at or changed and used as a preset.
    #[must_use]
    pub fn settings(self) -> Settings {
        let millis = Duration::from_millis;
        let seconds = Duration::from_secs;
        let (backoff, timeout, quiet, grace) = match self {
            Self::Financial => (
                backoff(Growth::Exponential, None, millis(100), seconds(30)),
                seconds(5),
                seconds(15),
                seconds(5),
            ),
            Self::Standard => (
                backoff(Growth::Linear, Some(10), seconds(1), seconds(60)),
                seconds(10),
                seconds(30),
                seconds(10),
            ),
            Self::Lightweight => (
                backoff(Growth::Linear, Some(3), seconds(2), seconds(10)),
                seconds(15),
                seconds(60),
                seconds(15),
            ),
            Self::Messaging => (
                backoff(Growth::Exponential, Some(20), seconds(1), seconds(30)),
                seconds(8),
                seconds(45),
                seconds(10),
            ),
        };
        let jitter = match self {
            Self::Financial => Jitter::Percent(25),
            Self::Standard | Self::Lightweight | Self::Messaging => Jitter::None,
        };
        Settings {
            limits: LimitSettings {
                dns: Some(timeout),
                tcp: Some(timeout),
                tls: Some(timeout),
                upgrade: Some(timeout),
                ..LimitSettings::default()
            },
            backoff: BackoffSettings {
                jitter: Some(jitter),
                ..backoff
            },
            liveness: LivenessSettings {
                quiet: Some(quiet),
                grace: Some(grace),
                ..LivenessSettings::default()
            },
            ..Settings::default()
        }
    }
}

fn backoff(
    growth: Growth,
    max_attempts: Option<u32>,
    min: Duration,
    max: Duration,
) -> BackoffSettings {
    BackoffSettings {
        min: Some(min),
        max: Some(max),
        factor: Some(2.0),
        growth: Some(growth),
        first_immediate: Some(false),
        max_attempts: Some(max_attempts),
        ..BackoffSettings::default()
    }
}
