//! What the SubscriptionManager does about channels whose data is late.
//!
//! Apart from the wishes because only channels with a cadence climb the ladder, and most have none.
//!
//! Invariants: data tells nobody that it came; whoever is due is looked at. On the last rung nothing more is done
//! about the connection, which is the Client's.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ractor::ActorRef;

use super::super::clock;
use super::super::observe::Notice;
use super::super::spans::Traced;
use super::super::task::OwnedTask;
use super::{Doubt, SubscriptionMessage, SubscriptionState};
use crate::close::{CloseReason, GapCause};
use crate::protocol::cadence::{CadenceAction, Rung, Silence};
use crate::protocol::continuity::Epoch;
use crate::protocol::market::MarketHours;
use crate::telemetry::TelemetryEvent;

impl SubscriptionState {
    /// Expects data of every channel that has a cadence, when it is confirmed.
    pub(super) fn expect_all(&mut self) {
        let table = self.arguments.plane.routes.snapshot();
        let channels = table.all().filter_map(|one| one.channel.clone());
        let channels: Vec<Arc<str>> = channels.collect();
        for channel in channels {
            self.expect(&channel);
            if self.arguments.adapter.is_none() {
                self.cadences.on_confirmed(&channel, clock::now());
            }
        }
    }

    /// Expects data of a channel as often as the most impatient of its subscriptions does.
    pub(super) fn expect(&mut self, channel: &Arc<str>) {
        let table = self.arguments.plane.routes.snapshot();
        let cadences = table.of(channel).iter().filter_map(|one| one.kind.cadence);
        match cadences.min() {
            Some(cadence) => self.cadences.watch(channel, cadence, clock::now()),
            None => self.cadences.unwatch(channel),
        }
    }

    /// Looks at the channels that are due.
    pub(super) fn look(&mut self, myself: &ActorRef<Traced<SubscriptionMessage>>) {
        self.look = None;
        let plane = Arc::clone(&self.arguments.plane);
        let (now, epoch) = (clock::now(), plane.epoch());
        self.begin_afresh(epoch);
        let silence = self.silence(now, epoch);
        let table = plane.routes.snapshot();
        let last = |channel: &str| {
            let each = table.of(channel).iter();
            let each = each.filter_map(|one| one.last_received().ok());
            // Where nobody lets anything in, nobody can say that none came.
            each.max().unwrap_or(Some(now))
        };
        for action in self.cadences.on_tick(now, silence, last) {
            match action {
                CadenceAction::Climb {
                    channel,
                    rung,
                    quiet,
                } => {
                    self.ledger().on_rung(&channel, Some(rung));
                    plane.report(&TelemetryEvent::ChannelStale {
                        epoch: epoch.as_u64(),
                        channel: &channel,
                        rung: rung.label(),
                        quiet,
                    });
                    plane.observers.tell(&Notice::Stale {
                        epoch,
                        channel: Arc::clone(&channel),
                        rung,
                        quiet,
                    });
                    match rung {
                        Rung::Stale => {}
                        Rung::Resubscribe => {
                            let cause = GapCause::Stale { quiet };
                            let of = |name: Option<&str>| name == Some(&*channel);
                            plane.interrupt_where(
                                |one| of(one.channel.as_deref()),
                                &cause,
                                epoch,
                                now - quiet,
                            );
                            if let Some(subscriber) = table.of(&channel).first() {
                                self.resync(myself, subscriber, now);
                            }
                        }
                        Rung::Probe => (self.arguments.doubts)(Doubt::Probe(epoch)),
                        Rung::Reconnect => {
                            let channel = channel.to_string();
                            let reason = CloseReason::Mute { channel, quiet };
                            (self.arguments.doubts)(Doubt::Abandon(epoch, reason));
                        }
                    }
                }
                CadenceAction::Fresh { channel, quiet } => {
                    self.ledger().on_rung(&channel, None);
                    plane.report(&TelemetryEvent::ChannelFresh {
                        epoch: epoch.as_u64(),
                        channel: &channel,
                        quiet,
                    });
                    plane.observers.tell(&Notice::Fresh { epoch, channel });
                }
                CadenceAction::Excused { channel } => self.ledger().on_rung(&channel, None),
            }
        }
    }

    /// Where nobody confirms channels, each connection is one on which all of them are expected.
    pub(super) fn begin_afresh(&mut self, epoch: Epoch) {
        if self.arguments.adapter.is_some() || self.looked_at == epoch {
            return;
        }
        self.looked_at = epoch;
        for channel in self.cadences.on_closed() {
            self.ledger().on_rung(&channel, None);
        }
        self.expect_all();
    }

    /// What silence means now.
    fn silence(&self, now: Instant, epoch: Epoch) -> Silence {
        let plane = &self.arguments.plane;
        if !plane.is_open(epoch) || plane.is_paused() {
            return Silence::Held;
        }
        let wall = clock::wall_of_runtime();
        let ahead = |at: SystemTime| now + at.duration_since(wall).unwrap_or_default();
        let ago = |at: SystemTime| now.checked_sub(wall.duration_since(at).unwrap_or_default());
        match plane.market_hours(wall) {
            MarketHours::Closed { until } => Silence::Closed {
                until: until.map(ahead),
            },
            MarketHours::Open { since } => Silence::Counts {
                open_since: since.and_then(ago),
            },
        }
    }

    /// Sets the timer to when the next channel is due.
    pub(super) fn arm(&mut self, myself: &ActorRef<Traced<SubscriptionMessage>>) {
        let next = self.cadences.next_timeout();
        if next == self.look.as_ref().map(|(at, _)| *at) {
            return;
        }
        self.look = next.map(|at| {
            let myself = myself.clone();
            let timer = OwnedTask::spawn(async move {
                tokio::time::sleep_until(at.into()).await;
                // An actor that is gone looks at nothing.
                let _ = myself.cast(SubscriptionMessage::Look.into());
            });
            (at, timer)
        });
    }
}
