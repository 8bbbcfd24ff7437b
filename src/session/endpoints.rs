//! The places that one session may connect to, and which of them it is at.
//!
//! Apart from the configuration, which names them, because how they stand changes with every attempt. What is decided
//! is decided by `protocol/endpoints`.
//!
//! Invariants: a session is told of each change of place in an event; nothing here shows a URL's query.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Session, clock, lock};
use crate::close::CloseReason;
use crate::config::{Config, Endpoint};
use crate::error::{ConnectError, Recovery};
use crate::protocol::endpoints::{Ending, Endpoints};
use crate::protocol::serial;

/// One of the places that a session may connect to; [`Session::endpoints`] has all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Its URL, without the query.
    pub endpoint: String,
    /// From 0 to 100: how well it has served lately. The next attempt goes to the best one.
    pub score: u8,
    /// Whether the session is connected to it, or tries to be.
    pub present: bool,
    /// Whether it refused the session for good, by HTTP 404 or its certificate for instance, so that it is passed over
    /// while another one remains.
    pub refused: bool,
    /// For how long it has asked to be left alone.
    #[serde(rename = "rests_for_ms", serialize_with = "serial::opt_millis")]
    pub rests_for: Option<Duration>,
}

/// The places of one session.
pub(crate) struct Places {
    all: Vec<Place>,
    machine: Mutex<Machine>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    /// What a breaker knows it by: host and port, since one server stands behind all its paths.
    pub(crate) key: Arc<str>,
}

struct Machine {
    endpoints: Endpoints,
    /// Where the attempt before went; `None` before the first.
    last: Option<usize>,
    /// Whether the change to come is one back to a preferred place.
    returning: bool,
}

/// A session goes to another place than the time before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) score: u8,
    pub(crate) why: &'static str,
}

impl Places {
    /// Those that the configuration names.
    pub(crate) fn new(config: &Config) -> Self {
        let place = |endpoint: &Endpoint| Place {
            key: Arc::from(format!("{}:{}", endpoint.host(), endpoint.port())),
            endpoint: endpoint.clone(),
        };
        let all: Vec<_> = config.endpoints().map(place).collect();
        let stable_after = config.reconnect.stable_after;
        let endpoints = Endpoints::new(all.len(), stable_after, clock::now());
        Self {
            all,
            machine: Mutex::new(Machine {
                endpoints,
                last: None,
                returning: false,
            }),
        }
    }

    /// Whether there is more than one.
    pub(crate) fn several(&self) -> bool {
        self.all.len() > 1
    }

    /// Where the session is connected to, or tries to be.
    pub(crate) fn present(&self) -> &Place {
        let present = lock(&self.machine).endpoints.present();
        &self.all[present]
    }

    /// Chooses where the attempt goes; `closed` is what a breaker says of a place's key.
    pub(crate) fn choose(&self, closed: impl Fn(&str) -> Option<Option<Instant>>) -> &Place {
        // Asked first: whoever is told of a breaker's change may ask how the places stand.
        let closed: Vec<_> = self.all.iter().map(|one| closed(&one.key)).collect();
        let endpoints = &mut lock(&self.machine).endpoints;
        let chosen = endpoints.choose(|index| closed[index], clock::now());
        &self.all[chosen]
    }

    /// The attempt begins. Yields what it changes.
    pub(crate) fn begin(&self) -> Option<Moved> {
        let mut machine = lock(&self.machine);
        let present = machine.endpoints.present();
        let returning = std::mem::take(&mut machine.returning);
        let last = machine.last.replace(present)?;
        if last == present {
            return None;
        }
        let standings = machine.endpoints.standings(clock::now());
        Some(Moved {
            from: self.all[last].endpoint.to_string(),
            to: self.all[present].endpoint.to_string(),
            score: standings[present].score,
            why: if returning { "fail_back" } else { "failover" },
        })
    }

    /// The session is live.
    pub(crate) fn live(&self) {
        lock(&self.machine).endpoints.on_live(clock::now());
    }

    /// The connection has proved that its place is well.
    pub(crate) fn proven(&self) {
        lock(&self.machine).endpoints.on_proven(clock::now());
    }

    /// The attempt, or its connection, has ended. Whether each place has had its attempt.
    pub(crate) fn ended(&self, reason: &CloseReason) -> bool {
        let endpoints = &mut lock(&self.machine).endpoints;
        let ending = Ending::of(reason);
        endpoints.on_end(ending, rest(reason.recovery()), clock::now());
        endpoints.all_tried()
    }

    /// Whether what ended by this cause, which another attempt at the same place does not cure, may be cured at
    /// another one.
    pub(crate) fn remain_after(&self, reason: &CloseReason) -> bool {
        Ending::of(reason) == Ending::Never && !lock(&self.machine).endpoints.all_refused()
    }

    /// How long it takes until one of them no longer rests.
    pub(crate) fn rest_left(&self) -> Duration {
        lock(&self.machine).endpoints.rest_left(clock::now())
    }

    /// How long to stay before a preferred one is tried.
    pub(crate) fn fail_back_in(&self, after: Duration) -> Duration {
        let machine = lock(&self.machine);
        machine.endpoints.fail_back_in(after, fastrand::u64(..))
    }

    /// Whether there is one that is preferred to the present one.
    pub(crate) fn is_lesser(&self) -> bool {
        lock(&self.machine).endpoints.present() > 0
    }

    /// Those that are preferred to the present one and do not rest, with their numbers.
    pub(crate) fn preferred(&self) -> Vec<(usize, &Place)> {
        let preferred = lock(&self.machine).endpoints.preferred(clock::now());
        let place = |index: usize| Some((index, self.all.get(index)?));
        preferred.into_iter().filter_map(place).collect()
    }

    /// What a probe of one of them has come to.
    pub(crate) fn probed(&self, index: usize, outcome: Result<(), &Arc<ConnectError>>) {
        let rest = outcome.err().and_then(|error| rest(error.recovery()));
        let outcome = outcome.map_err(Ending::of_error);
        let mut machine = lock(&self.machine);
        machine.returning |= outcome.is_ok();
        let now = clock::now();
        machine.endpoints.on_probe(index, outcome, rest, now);
    }

    /// How they stand.
    pub(crate) fn status(&self) -> Vec<EndpointStatus> {
        let now = clock::now();
        let mut machine = lock(&self.machine);
        let (present, standings) = (
            machine.endpoints.present(),
            machine.endpoints.standings(now),
        );
        let told = self.all.iter().zip(standings).enumerate();
        told.map(|(index, (place, standing))| EndpointStatus {
            endpoint: place.endpoint.to_string(),
            score: standing.score,
            present: index == present,
            refused: standing.refused,
            rests_for: standing
                .rests_until
                .map(|until| until.saturating_duration_since(now)),
        })
        .collect()
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.status()).finish()
    }
}

impl Session {
    /// The places that the session may connect to, in the order of preference: how each stands, and which one it is
    /// connected to. One, unless the configuration names [`fallbacks`](Config::fallbacks).
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.shared.plane.places.status()
    }
}

/// How long a place asks to be left alone.
fn rest(recovery: Recovery) -> Option<Duration> {
    match recovery {
        Recovery::RetryAfter(pause) => Some(pause),
        Recovery::Retry | Recovery::Reauthenticate | Recovery::Reconcile | Recovery::Stop => None,
    }
}
