//! Collects what the user and presets say.
//!
//! Apart from [`Config`] because it holds what was said and not what follows from it.
//!
//! Invariants: nothing is checked before `build`; a later call wins over an earlier one of the same layer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mainstay_supervisors::backoff::Backoff;

use super::settings::{
    BackoffSettings, LadderSettings, LimitSettings, LivenessSettings, OfflineSettings,
    QueueSettings, Settings,
};
use super::{
    Config, Headers, Ladder, Layers, Liveness, Offline, PhaseLimits, Profile, Queue, RateLimits,
    ReconnectOwner, Record, StableBy, Tls, WireBackend,
};
use crate::connector::Connector;
use crate::error::ConfigErrors;
use crate::telemetry::Collector;

/// Collects the options of a [`Config`]; `build` checks them.
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct ConfigBuilder {
    layers: Layers,
}

impl fmt::Debug for ConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The url may hold user info until `build` has refused it.
        f.debug_struct("ConfigBuilder").finish_non_exhaustive()
    }
}

impl ConfigBuilder {
    /// Says what these settings say, and leaves the rest as it is. A header that they name replaces those
    /// of its name.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.layers.user = settings.or(self.layers.user);
        self
    }

    /// Puts these settings beneath everything that the user says, and above the platform's defaults. A
    /// later preset lies over an earlier one.
    pub fn preset(mut self, settings: Settings) -> Self {
        let below = self.layers.preset.take();
        let preset = settings.or(below.map(|below| *below).unwrap_or_default());
        self.layers.preset = Some(Box::new(preset));
        self
    }

    /// [`ConfigBuilder::preset`] with the values of a profile.
    pub fn profile(self, profile: Profile) -> Self {
        self.preset(profile.settings())
    }

    /// Where to connect when the URL cannot be reached, in the order of preference; see [`Config::fallbacks`]. Says all
    /// of them: a later call replaces those of an earlier one. Default none.
    pub fn fallbacks<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.layers.user.fallbacks = Some(Some(urls.into_iter().collect()));
        self
    }

    /// Whom to trust on `wss://`. Default: the platform's roots where that feature is on.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.layers.user.tls = Some(tls);
        self
    }

    /// Adds a header to the upgrade request. Its value never appears in `Debug`, logs or errors.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let headers = std::mem::take(&mut self.layers.user.headers);
        self.layers.user.headers = headers.with(name, value);
        self
    }

    /// Leaves out a header that a preset or the platform adds.
    pub fn without_header(mut self, name: impl Into<String>) -> Self {
        let headers: Headers = std::mem::take(&mut self.layers.user.headers);
        self.layers.user.headers = headers.without(name);
        self
    }

    /// Subprotocols to offer, the preferred one first (RFC 6455, section 1.9). Default none.
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.layers.user.subprotocols = Some(names);
        self
    }

    /// Deadlines of the phases of opening, all of them.
    pub fn limits(mut self, limits: PhaseLimits) -> Self {
        self.layers.user.limits = LimitSettings::of(&limits);
        self
    }

    /// Whether a lost connection is sought again at all. Default yes.
    pub fn automatic_reconnect(mut self, automatic: bool) -> Self {
        self.layers.user.reconnect.automatic = Some(automatic);
        self
    }

    /// Which layer retries a lost connection. Default [`ReconnectOwner::Adapter`].
    pub fn reconnect_owner(mut self, owner: ReconnectOwner) -> Self {
        self.layers.user.reconnect.owner = Some(owner);
        self
    }

    /// Delays between attempts, and their number. Says all of `backoff`.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.layers.user.backoff = BackoffSettings::of(&backoff);
        self
    }

    /// How many attempts one outage may take; `None`, the default, for any number. The session then ends
    /// with the last attempt's cause. The beginning counts like an outage where [`ConfigBuilder::retry_first`] has it
    /// tried again: the first attempt is one of them.
    pub fn max_attempts(mut self, attempts: Option<u32>) -> Self {
        self.layers.user.backoff.max_attempts = Some(attempts);
        self
    }

    /// How long a connection must have been live before the attempt counter goes back to zero.
    pub fn stable_after(mut self, stable_after: Duration) -> Self {
        self.layers.user.reconnect.stable_after = Some(stable_after);
        self
    }

    /// What has the attempt counter go back to zero. Default [`StableBy::Time`].
    pub fn stable_by(mut self, stable_by: StableBy) -> Self {
        self.layers.user.reconnect.stable_by = Some(stable_by);
        self
    }

    /// How long the session stays with a lesser endpoint before it looks whether a preferred one answers again; `None`
    /// for never. Default 1 min. See [`Reconnect::fail_back_after`](super::Reconnect::fail_back_after).
    pub fn fail_back_after(mut self, after: Option<Duration>) -> Self {
        self.layers.user.reconnect.fail_back_after = Some(after);
        self
    }

    /// Whether the very first connection is retried too. Default no: `start` returns its error.
    pub fn retry_first(mut self, retry: bool) -> Self {
        self.layers.user.reconnect.retry_first = Some(retry);
        self
    }

    /// When a silent connection is given up.
    pub fn liveness(mut self, liveness: Liveness) -> Self {
        self.layers.user.liveness = LivenessSettings::of(&liveness);
        self
    }

    /// What is done when the data of a channel with a cadence is late, all of it.
    pub fn ladder(mut self, ladder: Ladder) -> Self {
        self.layers.user.ladder = LadderSettings::of(&ladder);
        self
    }

    /// How long a request may take unless it says otherwise. Default 10 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.layers.user.request_timeout = Some(limit);
        self
    }

    /// How long the whole start may take. Default 30 s.
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.layers.user.start_timeout = Some(limit);
        self
    }

    /// How long a shutdown may take in all. Default 5 s.
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.layers.user.shutdown_timeout = Some(limit);
        self
    }

    /// How long written bytes may wait for a peer that does not read. Default 10 s.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.layers.user.write_timeout = Some(limit);
        self
    }

    /// Whether subscriptions are made again on the next connection. Default yes.
    pub fn restore_subscriptions(mut self, restore: bool) -> Self {
        self.layers.user.restore_subscriptions = Some(restore);
        self
    }

    /// Requests and frames that may wait to be written. Default 1024.
    pub fn outbound_capacity(mut self, capacity: usize) -> Self {
        self.layers.user.outbound_capacity = Some(capacity);
        self
    }

    /// What may wait for the session to be live, all of it.
    pub fn offline(mut self, offline: Offline) -> Self {
        self.layers.user.offline = OfflineSettings::of(&offline);
        self
    }

    /// Of how many requests `Session::latency` tells, the latest ones: 1 to 100,000. Default 100.
    pub fn latency_window(mut self, requests: usize) -> Self {
        self.layers.user.latency_window = Some(requests);
        self
    }

    /// A span for one in so many batches of received frames, to see in a collector what they are like: up to a
    /// thousand million. Default 0: for none, which costs nothing.
    pub fn batch_spans(mut self, one_in: usize) -> Self {
        self.layers.user.batch_spans = Some(one_in);
        self
    }

    /// The queue of a subscription that does not bring its own.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.layers.user.queue = QueueSettings::of(&queue);
        self
    }

    /// Bytes read from the socket at once, at most: it begins with little and grows with the traffic. Default 512 KiB. Where
    /// messages have 4 KiB and more tungstenite's wire reads half as much.
    pub fn read_buffer(mut self, bytes: usize) -> Self {
        self.layers.user.read_buffer = Some(bytes);
        self
    }

    /// Who reads and writes frames. Default [`WireBackend::Tungstenite`].
    pub fn wire(mut self, wire: WireBackend) -> Self {
        self.layers.user.wire = Some(wire);
        self
    }

    /// Largest message accepted. Default 16 MiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.layers.user.max_message = Some(bytes);
        self
    }

    /// How fast the venue lets itself be asked. Default: what the platform says, and no limit without one;
    /// [`RateLimits::unlimited`] switches a platform's off.
    pub fn rate_limits(mut self, limits: RateLimits) -> Self {
        self.layers.user.rate_limits = Some(Some(limits));
        self
    }

    /// How often the session may try to connect. Default: as often as its backoff says. An attempt above the
    /// limit is postponed. Sessions that share an address share a [`Gate`](crate::Gate) instead.
    pub fn connect_limits(mut self, limits: RateLimits) -> Self {
        self.layers.user.connect_limits = Some(Some(limits));
        self
    }

    /// Records the session into a file. Default: it is not recorded.
    pub fn record(mut self, record: Record) -> Self {
        self.layers.user.record = Some(Some(record));
        self
    }

    /// Adds a collector, which hears of everything that happens in the session.
    pub fn collector(mut self, collector: Arc<dyn Collector>) -> Self {
        self.layers.collectors.push(collector);
        self
    }

    /// Has the byte stream opened by `connector`, in place of name resolution and TCP.
    pub fn connector(mut self, connector: Arc<dyn Connector>) -> Self {
        self.layers.connector = Some(connector);
        self
    }

    /// Checks every option and returns the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] names every option that cannot work, its value, and what to write instead.
    pub fn build(self) -> Result<Config, ConfigErrors> {
        self.layers.build(Vec::new())
    }
}
