//! How a pool is: the vitals and the score of each of its sessions.
//!
//! Apart from the machine (`protocol/health`), which knows numbers and no session.
//!
//! Invariant: asking changes nothing and sends nothing.

use std::fmt;

use serde::Serialize;

use super::Pool;
use super::registry::{ConnectionId, Member};
use crate::protocol::health::{Formula, RecentErrors, Score, Vitals};
use crate::protocol::limiter::Pressure;
use crate::session::clock;
use crate::telemetry::TelemetryEvent;

/// How a pool is. `Display` is a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolHealth {
    /// Each session that the pool chooses among.
    pub sessions: Vec<SessionHealth>,
    /// How many of them are live.
    pub live: usize,
    /// The mean of their scores, where one that is not live counts 0; 0 if there is none.
    pub average: f64,
}

/// How one session is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionHealth {
    /// Its connection id.
    pub id: ConnectionId,
    /// Its score; `None` while it is not live, and so not a candidate.
    pub score: Option<Score>,
    /// What the score is made of.
    pub vitals: Vitals,
}

impl fmt::Display for PoolHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (live, all) = (self.live, self.sessions.len());
        write!(f, "{live} of {all} live, average {:.0}", self.average)?;
        for SessionHealth { id, score, vitals } in &self.sessions {
            let score = score.map_or_else(|| "-".to_owned(), |score| score.to_string());
            write!(f, "\n  {id:<12} {score:>3}  {} pending", vitals.pending)?;
            if let Some(p99) = vitals.p99 {
                write!(f, ", p99 {p99:.1?}")?;
            }
            write!(f, ", {} errors", vitals.recent_errors)?;
            write!(f, ", pressure {}", vitals.pressure)?;
        }
        Ok(())
    }
}

impl Pool {
    /// How the sessions are that the pool chooses among.
    #[must_use]
    pub fn health(&self) -> PoolHealth {
        let formula = self.shared.spec.formula;
        let sessions: Vec<SessionHealth> = self
            .members()
            .into_iter()
            .map(|member| {
                let vitals = self.vitals(&member);
                let score = vitals.score(formula);
                let id = member.id;
                SessionHealth { id, score, vitals }
            })
            .collect();
        let scores = sessions.iter().filter_map(|session| session.score);
        let total: u32 = scores.map(|score| u32::from(score.as_u8())).sum();
        let average = match u32::try_from(sessions.len()) {
            Ok(count @ 1..) => f64::from(total) / f64::from(count),
            Ok(0) | Err(_) => 0.0,
        };
        self.shared.reporter.report(&TelemetryEvent::PoolHealth {
            pool_size: sessions.len(),
            avg_health: average,
        });
        PoolHealth {
            live: sessions.iter().filter(|one| one.score.is_some()).count(),
            sessions,
            average,
        }
    }

    /// Counts an error against a session, for programs that also ask it directly. It is forgotten as the others
    /// are ([`PoolSpec::error_decay`](super::PoolSpec::error_decay)).
    pub fn record_error(&self, id: impl Into<ConnectionId>) {
        let (errors, now) = (&self.shared.errors, clock::now());
        // Whoever has left leaves nothing behind.
        errors.retain(|_, errors| errors.count(now) > 0);
        let decay = self.shared.spec.error_decay;
        errors
            .entry(id.into())
            .or_insert_with(|| RecentErrors::new(decay))
            .on_error(now);
    }

    /// Forgets the errors of a session.
    pub fn clear_errors(&self, id: &str) {
        self.shared.errors.remove(id);
    }

    pub(super) fn vitals(&self, member: &Member) -> Vitals {
        let session = &member.session;
        let errors = self.shared.errors.get(&member.id);
        let limiter = session
            .limiter()
            .map(|limiter| match self.shared.spec.formula {
                Formula::WithPressure => limiter.status().pressure(),
                Formula::Plain => Pressure::None,
            });
        Vitals {
            live: session.live_epoch().is_some(),
            pending: session.pending(),
            p99: session.latency().map(|latency| latency.p99),
            recent_errors: errors.map_or(0, |errors| errors.count(clock::now())),
            pressure: limiter.unwrap_or_default(),
        }
    }
}
