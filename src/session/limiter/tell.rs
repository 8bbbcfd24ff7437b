//! What a limiter tells of itself: the ledger's movements and the queue's pressure as events.
//!
//! Apart from the limiter because it decides nothing, and because nothing is told under the lock.

use std::time::Duration;

use super::Shared;
use crate::protocol::limiter::{Movement, PressureChange};
use crate::telemetry::TelemetryEvent;

impl Shared {
    pub(super) fn report(&self, event: &TelemetryEvent<'_>) {
        self.reporter.report(event);
    }

    /// The name of a pool.
    pub(super) fn pool(&self, pool: usize) -> &str {
        let pools = &self.limits.pools;
        // As the machine does: what names no pool means the first.
        let pool = pools.get(pool).or(pools.first());
        pool.map_or("", |pool| &*pool.name)
    }

    /// What the ledger says.
    pub(super) fn tell(&self, movements: &[Movement]) {
        for movement in movements {
            self.report(&match *movement {
                Movement::Refilled {
                    pool,
                    before,
                    after,
                } => {
                    let rule = self.limits.pools.get(pool).map(|pool| pool.rule);
                    TelemetryEvent::LimitRefilled {
                        pool: self.pool(pool),
                        before,
                        after,
                        refill: rule.map_or(0, |rule| rule.refill()),
                        every: rule.map_or(Duration::ZERO, |rule| rule.interval()),
                    }
                }
                Movement::Expired { pool, count } => TelemetryEvent::LimitExpired {
                    pool: self.pool(pool),
                    count,
                },
                Movement::Consumed {
                    pool,
                    count,
                    cost,
                    left,
                } => TelemetryEvent::LimitConsumed {
                    pool: self.pool(pool),
                    count,
                    cost,
                    tokens: left,
                },
                Movement::Queued {
                    pool,
                    queued,
                    capacity,
                } => TelemetryEvent::LimitQueued {
                    pool: self.pool(pool),
                    queued,
                    capacity,
                },
            });
        }
    }
}

/// The event of a change.
pub(super) fn pressure(change: &PressureChange) -> TelemetryEvent<'_> {
    TelemetryEvent::LimitPressure {
        pool: &change.pool,
        level: change.level.label(),
        previous: change.previous.label(),
        queued: change.queued,
        capacity: change.capacity,
    }
}
