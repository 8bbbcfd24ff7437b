//! Whether each channel's data comes as often as it should, and what is done if it does not: the ladder.
//!
//! Apart from the actor that holds the timer because a rung too many costs a connection, and because a closed market,
//! a consumer that is waited for and a laptop that slept look like silence and are none.
//!
//! ```text
//!              cadence is over            pause is over        ...           ...
//!   Fresh ---------------------> Stale -----------------> Resubscribe ---> Probe ---> Reconnect
//!     ^                            |                          |              |
//!     +------ data, or the market closes: back to the foot ---+--------------+
//! ```
//!
//! Invariants:
//! - a channel climbs one rung at a time, and stays on each for the pause at least;
//! - never `Stale` while data comes at least once in every cadence, nor while the market is closed, nor within a
//!   cadence of its opening;
//! - a tick far behind its time is believed to come from a process that did not run, once in each silence;
//! - whoever reconnects ends every channel's climb.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::Ladder;

/// How far a channel without data has climbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rung {
    /// Its data is late, and that was told.
    Stale,
    /// It was subscribed to afresh.
    Resubscribe,
    /// The connection was probed by a ping.
    Probe,
    /// The connection was given up.
    Reconnect,
}

impl Rung {
    /// A short, constant word, as it is serialised.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Resubscribe => "resubscribe",
            Self::Probe => "probe",
            Self::Reconnect => "reconnect",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// What silence means at the moment of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// That something is wrong.
    Counts {
        /// Since when the market has been open, if it ever was closed.
        open_since: Option<Instant>,
    },
    /// Nothing: there is no connection, or nobody reads from it.
    Held,
    /// Nothing: the market is closed.
    Closed {
        /// Until then; `None` until [`Cadences::on_opened`].
        until: Option<Instant>,
    },
}

/// What has become of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum CadenceAction {
    /// It has climbed to this rung: do what it says.
    Climb {
        /// Which channel.
        channel: Arc<str>,
        /// The rung.
        rung: Rung,
        /// How long no data has come.
        quiet: Duration,
    },
    /// Data comes again.
    Fresh {
        /// Which channel.
        channel: Arc<str>,
        /// How long none came, and at most a pause more.
        quiet: Duration,
    },
    /// It is silent still, and that is no fault any more: the market is closed.
    Excused {
        /// Which channel.
        channel: Arc<str>,
    },
}

/// The channels of a session that have a cadence.
#[derive(Debug)]
pub struct Cadences {
    ladder: Ladder,
    /// Whether there is somebody to ask for a channel afresh.
    can_resubscribe: bool,
    watched: HashMap<Arc<str>, Watched>,
    /// When each armed channel is looked at next, but for those that wait for the market.
    due: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Watched {
    cadence: Duration,
    /// The data that came last, or when it began to be expected.
    last: Instant,
    /// Whether data is expected. Set by a confirmation, cleared by the end of the connection.
    armed: bool,
    /// As in `due`.
    due: Option<Instant>,
    rung: Option<Rung>,
    /// A late tick has been forgiven already. Cleared by data.
    forgiven: bool,
}

impl Cadences {
    /// No channels yet.
    #[must_use]
    pub fn new(ladder: Ladder, can_resubscribe: bool) -> Self {
        Self {
            ladder,
            can_resubscribe,
            watched: HashMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Data of `channel` is to come at least once in every `cadence`, when it is confirmed.
    pub fn watch(&mut self, channel: &Arc<str>, cadence: Duration, now: Instant) {
        let cadence = cadence.max(LEAST);
        if let Some(watched) = self.watched.get_mut(channel) {
            watched.cadence = cadence;
            return;
        }
        let watched = Watched {
            cadence,
            last: now,
            armed: false,
            due: None,
            rung: None,
            forgiven: false,
        };
        self.watched.insert(Arc::clone(channel), watched);
    }

    /// Nothing is expected of `channel` any more.
    pub fn unwatch(&mut self, channel: &str) {
        if let Some((channel, watched)) = self.watched.remove_entry(channel)
            && let Some(due) = watched.due
        {
            self.due.remove(&(due, channel));
        }
    }

    /// The venue has confirmed `channel`. A channel on the ladder stays where it is: only data brings it down.
    pub fn on_confirmed(&mut self, channel: &str, now: Instant) {
        if let Some((channel, watched)) = self.watched.get_key_value(channel)
            && !watched.armed
        {
            let (channel, due) = (Arc::clone(channel), now + watched.cadence);
            self.change(&channel, Some(due), |watched| {
                *watched = Watched {
                    cadence: watched.cadence,
                    last: now,
                    armed: true,
                    due: watched.due,
                    rung: None,
                    forgiven: false,
                };
            });
        }
    }

    /// The connection has ended: nothing is expected until the next confirmations. Returns the channels that stood on
    /// the ladder.
    pub fn on_closed(&mut self) -> Vec<Arc<str>> {
        self.due.clear();
        let mut stood = Vec::new();
        for (channel, watched) in &mut self.watched {
            watched.armed = false;
            watched.due = None;
            if watched.rung.take().is_some() {
                stood.push(Arc::clone(channel));
            }
        }
        stood.sort();
        stood
    }

    /// The market has opened by somebody's word: data is expected from now on.
    pub fn on_opened(&mut self, now: Instant) {
        let armed = self.watched.iter().filter(|(_, watched)| watched.armed);
        let armed: Vec<(Arc<str>, Duration)> = armed
            .map(|(channel, watched)| (Arc::clone(channel), watched.cadence))
            .collect();
        for (channel, cadence) in armed {
            // Also where it had been expected to open later.
            self.change(&channel, Some(now + cadence), |watched| watched.last = now);
        }
    }

    /// When [`Self::on_tick`] is next due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The time that was asked for has come, or may have. `last` tells when data of a channel last came. What follows
    /// is done in order; behind a [`Rung::Reconnect`] there is nothing.
    pub fn on_tick(
        &mut self,
        now: Instant,
        silence: Silence,
        last: impl Fn(&str) -> Option<Instant>,
    ) -> Vec<CadenceAction> {
        let mut actions = Vec::new();
        while let Some((_, channel)) = self.due.first().filter(|(due, _)| *due <= now) {
            let channel = Arc::clone(channel);
            let action = self.look(&channel, now, silence, last(&channel));
            let reconnects = matches!(
                action,
                Some(CadenceAction::Climb {
                    rung: Rung::Reconnect,
                    ..
                })
            );
            actions.extend(action);
            if reconnects {
                break;
            }
        }
        actions
    }

    /// Looks at a channel that is due, and sets its next time, which is later than `now`.
    fn look(
        &mut self,
        channel: &Arc<str>,
        now: Instant,
        silence: Silence,
        last: Option<Instant>,
    ) -> Option<CadenceAction> {
        let watched = self.watched.get(channel)?;
        let (cadence, rung) = (watched.cadence, watched.rung);
        let late = watched.due.map(|due| now.saturating_duration_since(due));
        let pause = self.ladder.pause.unwrap_or(cadence).max(LEAST);
        let quiet_since = watched.last;
        if let Some(last) = last.filter(|last| *last > watched.last) {
            let quiet = last.saturating_duration_since(quiet_since);
            // What is due at once is looked at once more: its data is late again.
            self.change(channel, Some(last + cadence), |watched| {
                (watched.last, watched.rung, watched.forgiven) = (last, None, false);
            });
            let channel = Arc::clone(channel);
            return rung.map(|_| CadenceAction::Fresh { channel, quiet });
        }
        match silence {
            Silence::Held => {
                let next = if rung.is_some() { pause } else { cadence };
                self.change(channel, Some(now + next), |watched| watched.last = now);
                return None;
            }
            Silence::Closed { until } => {
                let due = until.map(|until| until.max(now) + cadence);
                self.change(channel, due, |watched| {
                    watched.last = watched.last.max(until.unwrap_or(now));
                    (watched.rung, watched.forgiven) = (None, false);
                });
                let channel = Arc::clone(channel);
                return rung.map(|_| CadenceAction::Excused { channel });
            }
            Silence::Counts {
                open_since: Some(since),
            } if since > watched.last => {
                self.change(channel, Some(since + cadence), |watched| {
                    (watched.last, watched.rung, watched.forgiven) = (since, None, false);
                });
                let channel = Arc::clone(channel);
                return rung.map(|_| CadenceAction::Excused { channel });
            }
            Silence::Counts { .. } => {}
        }
        let wait = if rung.is_some() { pause } else { cadence };
        if !watched.forgiven && late.is_some_and(|late| late > wait / 2) {
            self.change(channel, Some(now + wait), |watched| watched.forgiven = true);
            return None;
        }
        let next = self.next(rung);
        self.change(channel, Some(now + pause), |watched| {
            watched.rung = next.or(watched.rung);
        });
        next.map(|rung| CadenceAction::Climb {
            channel: Arc::clone(channel),
            rung,
            quiet: now.saturating_duration_since(quiet_since),
        })
    }

    /// The rung above, of those that the ladder has.
    fn next(&self, from: Option<Rung>) -> Option<Rung> {
        let Ladder {
            resubscribe,
            probe,
            reconnect,
            ..
        } = self.ladder;
        let rungs = [
            (Rung::Stale, true),
            (Rung::Resubscribe, resubscribe && self.can_resubscribe),
            (Rung::Probe, probe),
            (Rung::Reconnect, reconnect),
        ];
        rungs
            .into_iter()
            .find(|(rung, has)| *has && Some(*rung) > from)
            .map(|(rung, _)| rung)
    }

    fn change(
        &mut self,
        channel: &Arc<str>,
        due: Option<Instant>,
        change: impl FnOnce(&mut Watched),
    ) {
        let Some(watched) = self.watched.get_mut(channel) else {
            return;
        };
        if let Some(due) = watched.due.take() {
            self.due.remove(&(due, Arc::clone(channel)));
        }
        change(watched);
        watched.due = due;
        if let Some(due) = due {
            self.due.insert((due, Arc::clone(channel)));
        }
    }
}

/// The shortest cadence, and the shortest pause on a rung.
const LEAST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
