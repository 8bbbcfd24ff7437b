//! What each fault does to one connection.
//!
//! A file of its own because it is the table one compares with the list of faults.
//!
//! Invariants: every fault is named here; one that lasts only turns a knob; one that waits for its
//! occasion is laid up in `Next`.

use tokio::time::Instant;

use super::super::fault::Fault;
use super::super::venue::microseconds;
use super::{Action, End, Failure, Session, heartbeat_text};

impl Session {
    /// A fault was injected.
    pub(in super::super) fn on_fault(&mut self, fault: Fault, now: Instant) -> Vec<Action> {
        self.knobs.turn(&fault);
        match fault {
            Fault::TcpReset => vec![Action::End(End::Reset)],
            Fault::HangUp => vec![Action::End(End::HangUp)],
            Fault::HalfOpen => vec![Action::End(End::Silent)],
            Fault::Close { code, reason } => vec![Action::End(End::Close { code, reason })],
            Fault::ExpireToken => {
                if let Some(tokens) = &mut self.tokens {
                    tokens.expires = now;
                }
                Vec::new()
            }
            Fault::SequenceBreak { channel } => {
                self.next.lost.insert(channel);
                Vec::new()
            }
            Fault::DuplicateMessage { channel } => {
                self.next.doubled.insert(channel);
                Vec::new()
            }
            Fault::RepeatSnapshot { channel } => {
                self.first(&channel).into_iter().map(Action::Send).collect()
            }
            Fault::TooManyRequests => {
                self.next.error = Some((Failure::new(10028, "too_many_requests"), true));
                Vec::new()
            }
            Fault::Maintenance => {
                self.next.error = Some((Failure::new(11051, "system_maintenance"), true));
                Vec::new()
            }
            Fault::AnswerError { code, message } => {
                self.next.error = Some((Failure::new(code, message), false));
                Vec::new()
            }
            Fault::LoseAnswer => {
                self.next.lose_answer = true;
                Vec::new()
            }
            Fault::AnswerOutOfOrder => {
                self.next.out_of_order = true;
                Vec::new()
            }
            Fault::AnswerTwice => {
                self.next.twice = true;
                Vec::new()
            }
            Fault::AnswerUnknownId => {
                let result = Ok("\"nobody asked\"".to_owned());
                vec![Action::Send(self.envelope(
                    Some("9007199254740991"),
                    &result,
                    microseconds(),
                ))]
            }
            Fault::ErrorWithoutId => {
                let failure = Err(Failure::new(11050, "bad_request"));
                vec![Action::Send(self.envelope(None, &failure, microseconds()))]
            }
            Fault::InvalidJson => {
                let broken = r#"{"jsonrpc":"2.0","method":"subscription","params":{"chan"#;
                vec![Action::Send(broken.to_owned())]
            }
            Fault::Burst { count } => self.burst(count),
            Fault::TestRequest => {
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.on_test_request(now);
                }
                vec![Action::Send(heartbeat_text("test_request"))]
            }
            Fault::RefuseRefresh(_)
            | Fault::DelayAuth(_)
            | Fault::OmitChannel(_)
            | Fault::SilenceChannel(_)
            | Fault::FailMethod { .. }
            | Fault::IgnoreMethod(_)
            | Fault::NotificationBeforeAnswer(_)
            | Fault::Mute(_)
            | Fault::SkipTestRequestCheck(_)
            | Fault::NoHeartbeats(_)
            | Fault::LockPlatform { .. }
            | Fault::SkewClock(_)
            | Fault::RefuseUpgrade { .. }
            | Fault::Handshake { .. }
            | Fault::Heal => Vec::new(),
        }
    }

    fn burst(&self, count: usize) -> Vec<Action> {
        /// Keeps one fault from filling the memory.
        const MOST: usize = 1_000_000;
        let mut channels: Vec<_> = self
            .subscriptions
            .keys()
            .filter(|channel| channel.starts_with("ticker."))
            .collect();
        channels.sort();
        let texts: Vec<_> = channels
            .iter()
            .filter_map(|name| self.first(name))
            .collect();
        let texts = texts.iter().cycle().take(count.min(MOST));
        texts.map(|text| Action::Send(text.clone())).collect()
    }
}
