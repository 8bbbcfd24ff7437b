//! Options that may be given or left out: one layer of a configuration.
//!
//! Apart from [`Config`], which has a value for everything, because four such layers lie over each other:
//! the user's, a preset's, the platform's, and the library's defaults at the bottom.
//!
//! Invariants: layers merge option by option, so that one that names `liveness.quiet` leaves
//! `liveness.grace` to those below; `None` means "not said here", and an option that may be absent is
//! unset by `Some(None)`; header values and a URL's query never appear in `Debug`. Deliberately absent:
//! writing settings out, which would write header values.

use std::fmt;
use std::time::Duration;

use mainstay_supervisors::backoff::{Backoff, Growth, Jitter};

use super::headers::Headers;
use super::read::Reader;
use super::value::Setting;
use super::{
    Calendar, Config, Ladder, Liveness, Offline, Overflow, PhaseLimits, Queue, RateLimits,
    Reconnect, ReconnectOwner, Record, StableBy, Tls, Urls, WireBackend,
};

/// One group of options in one layer.
pub(super) trait Part {
    /// Takes from `lower` what is not said here. The one place where layers merge.
    fn or(self, lower: Self) -> Self;

    /// Tells of each option its name, and its value where it is said here.
    fn visit(&self, prefix: &str, see: &mut dyn FnMut(String, Option<String>));

    /// Reads it; what cannot be read is noted and counts as not said.
    fn read(reader: &mut Reader<'_>) -> Self;
}

/// Declares a group of options, each of which stands for the field of the same name in `$whole`.
macro_rules! settings {
    (
        $(#[$doc:meta])*
        $name:ident for $whole:ty {
            // Not fields of the whole: what becomes of them is decided when it is built.
            parts { $($(#[$part_doc:meta])* $part:ident: $part_type:ty,)* }
            loose { $($(#[$loose_doc:meta])* $loose:ident: $loose_type:ty,)* }
            options { $($(#[$option_doc:meta])* $option:ident: $type:ty,)* }
            groups { $($(#[$group_doc:meta])* $group:ident: $group_type:ty = $($path:ident).+,)* }
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Default)]
        pub struct $name {
            $($(#[$part_doc])* pub $part: $part_type,)*
            $($(#[$loose_doc])* pub $loose: Option<$loose_type>,)*
            $($(#[$option_doc])* pub $option: Option<$type>,)*
            $($(#[$group_doc])* pub $group: $group_type,)*
        }

        impl Part for $name {
            fn or(self, lower: Self) -> Self {
                Self {
                    $($part: self.$part.or(lower.$part),)*
                    $($loose: self.$loose.or(lower.$loose),)*
                    $($option: self.$option.or(lower.$option),)*
                    $($group: self.$group.or(lower.$group),)*
                }
            }

            fn visit(&self, prefix: &str, see: &mut dyn FnMut(String, Option<String>)) {
                let name = |option: &str| format!("{prefix}{option}");
                $(see(name(stringify!($loose)), self.$loose.as_ref().map(Setting::show));)*
                $(self.$part.visit(&name(concat!(stringify!($part), ".")), see);)*
                $(see(name(stringify!($option)), self.$option.as_ref().map(Setting::show));)*
                $(self.$group.visit(&name(concat!(stringify!($group), ".")), see);)*
            }

            fn read(reader: &mut Reader<'_>) -> Self {
                Self {
                    $($part: reader.part(stringify!($part)),)*
                    $($loose: reader.option(stringify!($loose)),)*
                    $($option: reader.option(stringify!($option)),)*
                    $($group: reader.part(stringify!($group)),)*
                }
            }
        }

        impl $name {
            /// Puts what is said here into its place.
            #[allow(clippy::clone_on_copy, reason = "one pattern for all types")]
            pub(super) fn apply(&self, whole: &mut $whole) {
                $(if let Some(value) = &self.$option {
                    whole.$option = value.clone();
                })*
                $(self.$group.apply(&mut whole.$($path).+);)*
            }

            /// Says everything that `whole` holds.
            #[allow(clippy::clone_on_copy, reason = "one pattern for all types")]
            pub(super) fn of(whole: &$whole) -> Self {
                Self {
                    $($part: <$part_type>::default(),)*
                    $($loose: None,)*
                    $($option: Some(whole.$option.clone()),)*
                    $($group: <$group_type>::of(&whole.$($path).+),)*
                }
            }
        }

        impl fmt::Debug for $name {
            /// What is said here, without secrets.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut map = f.debug_map();
                self.visit("", &mut |name, value| {
                    if let Some(value) = value {
                        map.entry(&name, &value);
                    }
                });
                map.finish()
            }
        }
    };
}

settings! {
    /// One layer of a configuration: what somebody says about some options.
    ///
    /// Made in code with `..Settings::default()` for the rest, or read with serde. Read, durations are
    /// texts such as `"250ms"` or `"30s"`; an option that may be absent is unset by `null` or `"none"`; a
    /// name that is no option is refused, with the nearest one that is. Every mistake is reported, not only
    /// the first.
    ///
    /// ```
    /// use mainstay::config::{Config, Settings};
    ///
    /// let settings: Settings = serde_json::from_str(
    ///     r#"{ "request_timeout": "5s", "liveness": { "quiet": "20s" } }"#,
    /// )?;
    /// let config = Config::builder("wss://example.com").settings(settings).build()?;
    /// assert_eq!(config.liveness.quiet.as_secs(), 20);
    /// assert_eq!(config.liveness.grace.as_secs(), 10);
    ///
    /// let error = serde_json::from_str::<Settings>(r#"{ "request_timeuot": "5s" }"#).unwrap_err();
    /// assert!(error.to_string().contains("request_timeout"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Settings for Config {
        parts {
            /// Headers of the upgrade request, merged by name. Read as a map; `null` leaves a header of a
            /// lower layer out. Values never appear in `Debug`, logs or errors.
            headers: Headers,
        }
        loose {
            /// Where to connect: `ws://` or `wss://`. No default.
            url: String,
            /// Where to connect when `url` cannot be reached, in the order of preference. Read as a list of texts. See
            /// [`Config::fallbacks`]. Default none.
            fallbacks: Option<Urls>,
            /// Subprotocols to offer, the preferred one first (RFC 6455, section 1.9). Default none. The
            /// server's choice stands in the session's `handshake`.
            subprotocols: Vec<String>,
        }
        options {
            /// As [`Config::tls`]. Read as `"default"`, `"platform"` or `"webpki"`.
            tls: Tls,
            /// As [`Config::request_timeout`]. Default 10 s.
            request_timeout: Duration,
            /// As [`Config::start_timeout`]. Default 30 s.
            start_timeout: Duration,
            /// As [`Config::shutdown_timeout`]. Default 5 s.
            shutdown_timeout: Duration,
            /// As [`Config::write_timeout`]. Default 10 s.
            write_timeout: Duration,
            /// As [`Config::restore_subscriptions`]. Default yes.
            restore_subscriptions: bool,
            /// As [`Config::outbound_capacity`]. Default 1024.
            outbound_capacity: usize,
            /// As [`Config::latency_window`]. Default 100.
            latency_window: usize,
            /// As [`Config::batch_spans`]. Default 0.
            batch_spans: usize,
            /// As [`Config::read_buffer`]. Default 524288 bytes.
            read_buffer: usize,
            /// As [`Config::wire`]. Read as `"tungstenite"`, the default, or `"fast"`.
            wire: WireBackend,
            /// As [`Config::max_message`]. Default 16777216 bytes.
            max_message: usize,
            /// As [`Config::record`]. Read as the file's path; its other options are set in code. Default none.
            record: Option<Record>,
            /// As [`Config::rate_limits`]. Read as such as `"20 per 1s"`, a strict sliding window, or
            /// `"60 refilled 1 per 1s"`, a bucket; the rest is set in code. Default none.
            rate_limits: Option<RateLimits>,
            /// As [`Config::connect_limits`]. Read as [`rate_limits`](Self::rate_limits) is. Default none.
            connect_limits: Option<RateLimits>,
        }
        groups {
            /// Deadlines of the phases of opening.
            limits: LimitSettings = limits,
            /// How a lost connection is sought again.
            reconnect: ReconnectSettings = reconnect,
            /// Delays between attempts.
            backoff: BackoffSettings = reconnect.backoff,
            /// When a silent connection is given up.
            liveness: LivenessSettings = liveness,
            /// What is done when a channel's data is late.
            ladder: LadderSettings = ladder,
            /// The queue of a subscription that does not bring its own.
            queue: QueueSettings = queue,
            /// What may wait for a session that is not live.
            offline: OfflineSettings = offline,
        }
    }
}

settings! {
    /// What a layer says about [`PhaseLimits`].
    LimitSettings for PhaseLimits {
        parts {}
        loose {}
        options {
            /// As [`PhaseLimits::gate`]. Default 1 h.
            gate: Duration,
            /// As [`PhaseLimits::dns`]. Default 5 s.
            dns: Duration,
            /// As [`PhaseLimits::tcp`]. Default 5 s.
            tcp: Duration,
            /// As [`PhaseLimits::tls`]. Default 5 s.
            tls: Duration,
            /// As [`PhaseLimits::upgrade`]. Default 5 s.
            upgrade: Duration,
            /// As [`PhaseLimits::auth`]. Default 10 s.
            auth: Duration,
            /// As [`PhaseLimits::first_data`]. Default none.
            first_data: Option<Duration>,
        }
        groups {}
    }
}

settings! {
    /// What a layer says about [`Reconnect`].
    ReconnectSettings for Reconnect {
        parts {}
        loose {}
        options {
            /// As [`Reconnect::automatic`]. Default yes.
            automatic: bool,
            /// As [`Reconnect::owner`]. Read as `"client"` or `"adapter"`, the default.
            owner: ReconnectOwner,
            /// As [`Reconnect::stable_after`]. Default 10 s.
            stable_after: Duration,
            /// As [`Reconnect::stable_by`]. Read as `"time"`, the default, or `"data"`.
            stable_by: StableBy,
            /// As [`Reconnect::fail_back_after`]. Default 1 min.
            fail_back_after: Option<Duration>,
            /// As [`Reconnect::retry_first`]. Default no.
            retry_first: bool,
        }
        groups {}
    }
}

settings! {
    /// What a layer says about [`Reconnect::backoff`].
    BackoffSettings for Backoff {
        parts {}
        loose {}
        options {
            /// The first delay; with growth, the unit of all. Default 250 ms. Shorter finds a peer that
            /// was away for a moment sooner, and costs one that is in trouble more.
            min: Duration,
            /// The longest delay. Default 30 s.
            max: Duration,
            /// Growth of the delay from one attempt to the next, where it is exponential. Default 2.
            factor: f64,
            /// Read as `"exponential"`, the default, or `"linear"`.
            growth: Growth,
            /// How far delays are spread below their ceiling, so that many clients do not return at once.
            /// Read as `"full"`, the default, `"equal"`, `"none"` or a share such as `"25%"`.
            jitter: Jitter,
            /// Whether the first attempt after a stable connection is made at once. Default yes.
            first_immediate: bool,
            /// After so many attempts in one outage the session ends with the last attempt's cause.
            /// Default none: it goes on for ever.
            max_attempts: Option<u32>,
        }
        groups {}
    }
}

settings! {
    /// What a layer says about [`Liveness`].
    LivenessSettings for Liveness {
        parts {}
        loose {}
        options {
            /// As [`Liveness::enabled`]. Default yes.
            enabled: bool,
            /// As [`Liveness::quiet`]. Default 15 s.
            quiet: Duration,
            /// As [`Liveness::grace`]. Default 10 s.
            grace: Duration,
        }
        groups {}
    }
}

settings! {
    /// What a layer says about [`Ladder`].
    LadderSettings for Ladder {
        parts {}
        loose {}
        options {
            /// As [`Ladder::resubscribe`]. Default yes.
            resubscribe: bool,
            /// As [`Ladder::probe`]. Default yes.
            probe: bool,
            /// As [`Ladder::reconnect`]. Default yes.
            reconnect: bool,
            /// As [`Ladder::pause`]. Default none.
            pause: Option<Duration>,
            /// As [`Ladder::closed`]. Read as such as `"fri 21:00 - sun 22:00"`, in UTC. Default none.
            closed: Calendar,
        }
        groups {}
    }
}

settings! {
    /// What a layer says about [`Queue`].
    QueueSettings for Queue {
        parts {}
        loose {}
        options {
            /// As [`Queue::capacity`]. Default 4096 messages.
            capacity: usize,
            /// As [`Queue::bytes`]. Default 67108864.
            bytes: usize,
            /// As [`Queue::overflow`]. Read as `"drop_oldest"`, the default, `"drop_newest"`,
            /// `"disconnect"`, or such as `"block 250ms"` or `"conflate /params/data/symbol"`.
            overflow: Overflow,
        }
        groups {}
    }
}

settings! {
    /// What a layer says about [`Offline`].
    OfflineSettings for Offline {
        parts {}
        loose {}
        options {
            /// As [`Offline::capacity`]. Default 1024.
            capacity: usize,
            /// As [`Offline::bytes`]. Default 4194304.
            bytes: usize,
            /// As [`Offline::max_age`]. Default none.
            max_age: Option<Duration>,
        }
        groups {}
    }
}

impl Settings {
    /// These settings, and from `lower` whatever they do not say. Headers merge by name.
    #[must_use]
    pub fn or(self, lower: Self) -> Self {
        Part::or(self, lower)
    }

    /// Whether nothing is said at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let mut empty = true;
        self.visit("", &mut |_, value| empty &= value.is_none());
        empty
    }
}
