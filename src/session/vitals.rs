//! What a session holds at this moment, and how its heart beats: plain values for a dashboard or a test.
//!
//! Apart from [`Statistics`](super::statistics::Statistics) and [`Metrics`](super::metrics::Metrics), which
//! count what has happened, because these go up and down. What a limiter or a recording holds is told by
//! [`Session::limiter`] and [`Session::recording`].
//!
//! Invariants: asking costs the data path no more than a lock that is held for a moment; nothing here is
//! told elsewhere.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Session;
use super::plane::Plane;
use crate::protocol::continuity::Epoch;
use crate::protocol::subscriptions::{ChannelState, ChannelStatus};

/// What a session holds now. Each number is true of some moment during the question, not all of the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateMetrics {
    /// Requests written on the open connection whose callers wait for the answer. One that was given up, at its
    /// deadline or because its future was dropped, is not among them.
    pub pending_requests: usize,
    /// Requests and frames that wait for the connection to write them.
    pub queued_requests: usize,
    /// Channels that the user wants.
    pub channels: usize,
    /// Those of them that the venue has confirmed on the open connection; none where nobody is asked for
    /// channels, as on a bare connection.
    pub confirmed_channels: usize,
    /// Subscriptions that somebody still holds; several may share a channel, and those of
    /// [`Session::messages`] have none.
    pub subscriptions: usize,
    /// Messages and announcements that wait in their queues.
    pub queued_messages: usize,
    /// The payload of those messages. The memory that it keeps alive can be more, up to the read chunk that a
    /// small frame was cut from.
    pub queued_bytes: usize,
    /// Attempts to connect since the session was last live, the present one included; zero while it is live.
    pub connect_attempts: u32,
    /// Heartbeats and pongs read and not yet looked at.
    pub control_backlog: usize,
}

/// How the heart of the open connection beats, or how that of the last one did. The intervals are those of
/// the configuration's [`liveness`](crate::config::Config::liveness); how many connections were given up for
/// silence is in [`Session::metrics`], and how round trips are distributed in [`Session::statistics`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeartbeatHealth {
    /// Whether a connection is open and watched; not where [`liveness`](crate::config::Config::liveness) is off.
    pub active: bool,
    /// The connection's epoch; [`Epoch::NONE`] before the first one.
    pub epoch: Epoch,
    /// How long nothing may arrive before a ping is sent; zero where none is.
    pub interval: Duration,
    /// Pings sent.
    pub pings: u64,
    /// Pings answered by their own pong.
    pub pongs: u64,
    /// Pings in a row that were not, the present one included. Other traffic keeps a connection, too, but
    /// does not answer a ping.
    pub unanswered: u32,
    /// Heartbeats of the venue's, answered if they ask for it.
    pub venue_heartbeats: u64,
    /// When the last ping was sent.
    pub last_ping: Option<Instant>,
    /// When the last pong came that answered a ping.
    pub last_pong: Option<Instant>,
    /// When the venue's last heartbeat was seen to.
    pub last_venue_heartbeat: Option<Instant>,
    /// How long the last answered ping took.
    pub round_trip: Option<Duration>,
    /// When anything last arrived; `None` before the first connection.
    pub last_inbound: Option<Instant>,
}

impl HeartbeatHealth {
    /// Of a connection that is watched from now on.
    pub(crate) fn of(epoch: Epoch, interval: Duration) -> Self {
        Self {
            epoch,
            interval,
            ..Self::default()
        }
    }

    /// When there was last a sign of the heart: a ping's pong, or a heartbeat of the venue's.
    #[must_use]
    pub fn last_beat(&self) -> Option<Instant> {
        self.last_pong.max(self.last_venue_heartbeat)
    }

    pub(crate) fn pinged(&mut self, now: Instant) {
        self.pings += 1;
        self.unanswered = self.unanswered.saturating_add(1);
        self.last_ping = Some(now);
    }

    pub(crate) fn ponged(&mut self, round_trip: Duration, now: Instant) {
        self.pongs += 1;
        self.unanswered = 0;
        self.last_pong = Some(now);
        self.round_trip = Some(round_trip);
    }

    pub(crate) fn heard_the_venue(&mut self, now: Instant) {
        self.venue_heartbeats += 1;
        self.last_venue_heartbeat = Some(now);
    }
}

impl Plane {
    /// What [`Session::state_metrics`] says.
    pub(crate) fn state_metrics(&self) -> StateMetrics {
        let line = self.line();
        let (channels, confirmed) = self.ledger().counts();
        let mut metrics = StateMetrics {
            pending_requests: self.waiting(),
            queued_requests: line.as_ref().map_or(0, |line| line.queued()),
            channels,
            // Void with the connection, also while the manager has yet to hear of its end.
            confirmed_channels: line.as_ref().map_or(0, |_| confirmed),
            connect_attempts: self.attempts.load(Ordering::Relaxed),
            control_backlog: self.control_backlog.load(Ordering::Relaxed),
            ..StateMetrics::default()
        };
        for subscriber in self.routes.snapshot().all() {
            if subscriber.is_gone() {
                continue;
            }
            let (messages, bytes) = subscriber.held();
            metrics.subscriptions += 1;
            metrics.queued_messages += messages;
            metrics.queued_bytes += bytes;
        }
        metrics
    }
}

impl Session {
    /// What the session holds now: requests, channels, subscriptions and their queues. It looks into the queue of
    /// each subscription, so ask every second rather than for every message.
    #[must_use]
    #[doc(alias = "get_state_metrics")]
    pub fn state_metrics(&self) -> StateMetrics {
        self.shared.plane.state_metrics()
    }

    /// The channels that the user wants, each once, sorted by name: those that are asked for again on the next
    /// connection.
    #[must_use]
    #[doc(alias = "active_subscriptions")]
    pub fn channels(&self) -> Vec<Arc<str>> {
        let table = self.shared.plane.routes.snapshot();
        let held = table.all().filter(|subscriber| !subscriber.is_gone());
        let names: BTreeSet<Arc<str>> = held
            .filter_map(|subscriber| subscriber.channel.clone())
            .collect();
        names.into_iter().collect()
    }

    /// Where each channel stands, since when, and what the venue had against it: those that are wanted, in the order
    /// of the wishes; then those that the venue has yet to confirm the end of; then the last 64 that it refused for
    /// good and that nobody has asked for since. Can be serialised.
    #[must_use]
    pub fn channel_states(&self) -> Vec<ChannelState> {
        let states = self.shared.plane.ledger().states();
        states.into_iter().map(|state| self.told(state)).collect()
    }

    /// Where one channel stands, as in [`Session::channel_states`]; `None` if nobody wants it and there is nothing
    /// more to say of it.
    #[must_use]
    pub fn channel_state(&self, channel: &str) -> Option<ChannelState> {
        let state = self.shared.plane.ledger().state(channel)?;
        Some(self.told(state))
    }

    /// On a bare connection nobody is asked, whatever the ledger hopes for.
    fn told(&self, state: ChannelState) -> ChannelState {
        let status = match self.shared.addresses.adapter {
            Some(_) => state.status,
            None => ChannelStatus::Unasked,
        };
        ChannelState { status, ..state }
    }

    /// How the heart of the open connection beats, or how that of the last one did.
    #[must_use]
    #[doc(alias = "get_heartbeat_health")]
    pub fn heartbeat_health(&self) -> HeartbeatHealth {
        let plane = &self.shared.plane;
        let health = plane.health.lock().unwrap_or_else(PoisonError::into_inner);
        let health = *health;
        let ever = health.epoch > Epoch::NONE;
        let liveness = self.shared.config.liveness;
        HeartbeatHealth {
            active: liveness.enabled && plane.is_open(health.epoch),
            interval: match liveness.enabled {
                true => liveness.quiet,
                false => Duration::ZERO,
            },
            last_inbound: ever.then(|| plane.last_inbound()),
            ..health
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_forgets_the_pings_that_were_not_answered() {
        let (now, round_trip) = (Instant::now(), Duration::from_millis(5));
        let mut health = HeartbeatHealth::of(Epoch::NONE.next(), Duration::from_secs(1));
        for unanswered in 1..=3 {
            health.pinged(now);
            assert_eq!(health.unanswered, unanswered);
        }
        health.ponged(round_trip, now + round_trip);
        assert_eq!(health.unanswered, 0);
        assert_eq!((health.pings, health.pongs), (3, 1));
        assert_eq!(health.round_trip, Some(round_trip));
    }
}
