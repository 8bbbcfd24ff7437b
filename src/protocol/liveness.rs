//! Whether one connection still lives: notices silence, probes with a ping, and gives up in the end.
//!
//! Apart from the actor that holds the timer because a half-open connection shows itself by nothing but
//! time passing, and every order of silence, ping and late timer must be tried.
//!
//! ```text
//!         quiet is over, a doubt: Ping             grace is over: Lost
//!     Quiet ------------------------> Probing ----------------------------> Lost
//!       ^                              |   |
//!       |   anything newer arrives     |   | the tick itself comes far too late: Ping, once more
//!       +------------------------------+   +---> Probing
//! ```
//!
//! Invariants:
//! - never `Lost` while something arrives at least once in every `quiet`, and within `grace` of a doubt;
//! - with timely ticks, always `Lost` at the latest `quiet + grace` after the last arrival, or `grace` after the shell
//!   last said that its ping is held up;
//! - never `Lost` right after a suspend: a tick far behind the time that was asked for probes first;
//! - `Lost` is said once; a round trip is measured only by the pong that matches the last ping.

use std::time::{Duration, Instant};

/// The silence detector of one connection.
#[derive(Debug, Clone)]
pub struct Liveness {
    quiet: Duration,
    grace: Duration,
    /// When something last arrived.
    inbound: Instant,
    /// The last ping, until its pong; stays when other traffic ends the probing.
    outstanding: Option<Outstanding>,
    state: State,
}

/// What the shell has to do after a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum LivenessAction {
    /// Nothing.
    None,
    /// Send a ping with this payload (RFC 6455, section 5.5.2).
    Ping {
        /// Chosen so that no pong of an earlier ping matches it.
        payload: [u8; 8],
    },
    /// Give the connection up.
    Lost {
        /// How long nothing has arrived.
        quiet: Duration,
    },
}

#[derive(Debug, Clone, Copy)]
enum State {
    Quiet,
    Probing {
        deadline: Instant,
        /// A late tick has been forgiven already.
        forgiven: bool,
    },
    Lost {
        /// Only so that there is always a next time.
        idle_until: Instant,
    },
}

#[derive(Debug, Clone, Copy)]
struct Outstanding {
    payload: [u8; 8],
    sent: Instant,
}

impl Liveness {
    /// Begins to watch a connection that opened `now`: after `quiet` without a frame it is probed,
    /// after `grace` without an answer it is lost.
    #[must_use]
    pub fn new(quiet: Duration, grace: Duration, now: Instant) -> Self {
        Self {
            quiet,
            grace,
            inbound: now,
            outstanding: None,
            state: State::Quiet,
        }
    }

    /// A frame, of whatever kind, arrived at `now`. The shell may report the last of many frames, and
    /// the same one again.
    pub fn on_inbound(&mut self, now: Instant) {
        if now <= self.inbound {
            return;
        }
        self.inbound = now;
        match self.state {
            State::Quiet | State::Probing { .. } => self.state = State::Quiet,
            State::Lost { .. } => {}
        }
    }

    /// The time that was asked for has come, or may have.
    pub fn on_tick(&mut self, now: Instant, random: u64) -> LivenessAction {
        if now < self.next_timeout() {
            return LivenessAction::None;
        }
        match self.state {
            State::Quiet => self.probe(false, random, now),
            State::Probing {
                deadline,
                forgiven: false,
            } if now.saturating_duration_since(deadline) > self.slack() => {
                self.probe(true, random, now)
            }
            State::Probing { .. } => {
                self.state = State::Lost {
                    idle_until: now + self.quiet + self.grace,
                };
                LivenessAction::Lost {
                    quiet: now.saturating_duration_since(self.inbound),
                }
            }
            State::Lost { .. } => {
                self.state = State::Lost {
                    idle_until: now + self.quiet + self.grace,
                };
                LivenessAction::None
            }
        }
    }

    /// Somebody has a doubt: probes now, unless that is being done already.
    pub fn on_doubt(&mut self, now: Instant, random: u64) -> LivenessAction {
        match self.state {
            State::Quiet => self.probe(false, random, now),
            State::Probing { .. } | State::Lost { .. } => LivenessAction::None,
        }
    }

    /// The last ping has not been written, because a limit of ours holds it up: that nothing answers says nothing yet.
    pub fn on_held(&mut self, now: Instant) {
        if let State::Probing { deadline, .. } = &mut self.state {
            *deadline = (*deadline).max(now + self.grace);
        }
    }

    /// A pong arrived (RFC 6455, section 5.5.3): the round-trip time if it answers the last ping. Any
    /// other pong is a sign of life and no more.
    pub fn on_pong(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        self.on_inbound(now);
        let ping = self.outstanding.take_if(|ping| ping.payload == payload)?;
        Some(now.saturating_duration_since(ping.sent))
    }

    /// When [`Self::on_tick`] is next due.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        match self.state {
            State::Quiet => self.inbound + self.quiet,
            State::Probing { deadline, .. } => deadline,
            State::Lost { idle_until } => idle_until,
        }
    }

    fn probe(&mut self, forgiven: bool, random: u64, now: Instant) -> LivenessAction {
        let payload = random.to_be_bytes();
        self.outstanding = Some(Outstanding { payload, sent: now });
        self.state = State::Probing {
            deadline: now + self.grace,
            forgiven,
        };
        LivenessAction::Ping { payload }
    }

    /// How late a tick may be before we rather believe that this process did not run.
    fn slack(&self) -> Duration {
        self.grace / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUIET: Duration = Duration::from_secs(10);
    const GRACE: Duration = Duration::from_secs(4);

    fn watched() -> (Liveness, Instant) {
        let began = Instant::now();
        (Liveness::new(QUIET, GRACE, began), began)
    }

    fn ping(random: u64) -> LivenessAction {
        LivenessAction::Ping {
            payload: random.to_be_bytes(),
        }
    }

    fn is_lost(action: LivenessAction) -> bool {
        matches!(action, LivenessAction::Lost { .. })
    }

    #[test]
    fn silence_is_probed_and_then_lost_once() {
        let (mut liveness, began) = watched();
        assert_eq!(liveness.next_timeout(), began + QUIET);
        assert_eq!(liveness.on_tick(began + QUIET / 2, 1), LivenessAction::None);
        assert_eq!(liveness.on_tick(began + QUIET, 1), ping(1));
        let end = began + QUIET + GRACE;
        assert_eq!(liveness.next_timeout(), end);
        assert_eq!(
            liveness.on_tick(end, 2),
            LivenessAction::Lost {
                quiet: QUIET + GRACE
            }
        );
        assert!(liveness.next_timeout() > end);
        assert_eq!(
            liveness.on_tick(liveness.next_timeout(), 3),
            LivenessAction::None
        );
    }

    #[test]
    fn only_the_matching_pong_measures_a_round_trip() {
        let (mut liveness, began) = watched();
        let sent = began + QUIET;
        assert_eq!(liveness.on_tick(sent, 7), ping(7));
        let answered = sent + Duration::from_millis(30);
        assert_eq!(liveness.on_pong(b"other", answered), None);
        assert_eq!(
            liveness.next_timeout(),
            answered + QUIET,
            "any pong is a sign of life"
        );
        let payload = 7_u64.to_be_bytes();
        assert_eq!(
            liveness.on_pong(&payload, answered),
            Some(Duration::from_millis(30))
        );
        assert_eq!(liveness.on_pong(&payload, answered), None);
    }

    #[test]
    fn news_of_an_arrival_already_known_changes_nothing() {
        let (mut liveness, began) = watched();
        let _ = liveness.on_tick(began + QUIET, 7);
        liveness.on_inbound(began);
        assert_eq!(liveness.next_timeout(), began + QUIET + GRACE);
    }

    #[test]
    fn a_doubt_is_a_ping_at_once_and_one_is_enough() {
        let (mut liveness, began) = watched();
        let now = began + QUIET / 2;
        assert_eq!(liveness.on_doubt(now, 1), ping(1));
        assert_eq!(liveness.on_doubt(now, 2), LivenessAction::None);
        assert_eq!(liveness.next_timeout(), now + GRACE);
        let answered = now + GRACE / 2;
        assert!(liveness.on_pong(&1_u64.to_be_bytes(), answered).is_some());
        assert_eq!(liveness.next_timeout(), answered + QUIET);
        assert_eq!(liveness.on_doubt(answered, 3), ping(3));
        let lost = liveness.on_tick(answered + GRACE, 4);
        assert!(is_lost(lost));
    }

    #[test]
    fn a_ping_that_is_held_up_is_not_one_that_is_unanswered() {
        let (mut liveness, began) = watched();
        liveness.on_held(began);
        assert_eq!(liveness.next_timeout(), began + QUIET, "nothing is asked");
        assert_eq!(liveness.on_tick(began + QUIET, 1), ping(1));
        let held = began + QUIET + GRACE;
        liveness.on_held(held);
        assert_eq!(liveness.on_tick(held, 2), LivenessAction::None);
        assert_eq!(liveness.next_timeout(), held + GRACE);
        assert!(is_lost(liveness.on_tick(held + GRACE, 3)), "written since");
    }

    #[test]
    fn after_a_suspend_it_probes_before_it_gives_up() {
        let (mut liveness, began) = watched();
        assert_eq!(liveness.on_tick(began + QUIET, 1), ping(1));
        let woken = began + Duration::from_secs(3600);
        assert_eq!(liveness.on_tick(woken, 2), ping(2));
        assert!(matches!(
            liveness.on_tick(woken + GRACE, 3),
            LivenessAction::Lost { .. }
        ));
    }

    #[test]
    fn a_suspend_is_forgiven_once_in_each_silence() {
        let (mut liveness, began) = watched();
        let mut now = began;
        for expected in [ping(0), ping(1)] {
            now += Duration::from_secs(3600);
            let random = u64::from(expected == ping(1));
            assert_eq!(liveness.on_tick(now, random), expected);
        }
        now += Duration::from_secs(3600);
        assert!(matches!(
            liveness.on_tick(now, 2),
            LivenessAction::Lost { .. }
        ));
    }

    proptest! {
        #[test]
        fn never_lost_while_something_arrives_within_each_quiet(
            pauses in prop::collection::vec(1_u64..=10_000, 1..60)
        ) {
            let (mut liveness, began) = watched();
            let mut now = began;
            for pause in pauses {
                let arrival = now + Duration::from_millis(pause);
                while liveness.next_timeout() < arrival {
                    let action = liveness.on_tick(liveness.next_timeout(), 0);
                    prop_assert!(!is_lost(action));
                }
                now = arrival;
                liveness.on_inbound(now);
            }
        }

        #[test]
        fn with_timely_ticks_lost_at_quiet_and_grace_after_the_last_arrival(
            pauses in prop::collection::vec(1_u64..=13_999, 0..30)
        ) {
            let (mut liveness, began) = watched();
            let mut last = began;
            for pause in pauses {
                let arrival = last + Duration::from_millis(pause);
                while liveness.next_timeout() < arrival {
                    let action = liveness.on_tick(liveness.next_timeout(), 0);
                    prop_assert!(!is_lost(action));
                }
                last = arrival;
                liveness.on_inbound(last);
            }
            let at = liveness.next_timeout();
            prop_assert_eq!(liveness.on_tick(at, 0), ping(0));
            let at = liveness.next_timeout();
            prop_assert_eq!(at, last + QUIET + GRACE);
            let expected = LivenessAction::Lost { quiet: QUIET + GRACE };
            prop_assert_eq!(liveness.on_tick(at, 0), expected);
        }
    }
}
