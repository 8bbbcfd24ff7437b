//! The Client's view of its connection: which epoch is open, and what to do when that changes.
//!
//! Pure, because the same news reaches the Client by several roads (the Transport's own word, its
//! `Down`, silence, an adapter that gives up) and must have its effect once.
//!
//! ```text
//!             opened(epoch)
//!   Seeking ----------------> Open(epoch)
//!      ^                        |    | silent(epoch), abandoned(epoch)
//!      |      closed            |    v
//!      +------------------------+-- Closing(epoch)
//! ```
//!
//! Invariants: an opening and its end are announced once each, in that order; news of another epoch
//! than the open one changes nothing.

use super::continuity::Epoch;
use crate::close::CloseReason;

/// What the Client has to do.
#[derive(Debug, Clone)]
#[must_use]
#[non_exhaustive]
pub enum ConnectionAction {
    /// Nothing.
    None,
    /// Have the connection watched, and announce it.
    AnnounceOpened(Epoch),
    /// Announce its end.
    AnnounceClosed(CloseReason),
    /// Have the Transport give it up.
    Abort(CloseReason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Seeking,
    Open(Epoch),
    Closing(Epoch),
}

/// The machine. See the module's documentation.
#[derive(Debug)]
pub struct Connection {
    state: State,
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// Seeking.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Seeking,
        }
    }

    /// The Transport opened a connection.
    pub fn on_opened(&mut self, epoch: Epoch) -> ConnectionAction {
        match self.state {
            State::Seeking => {
                self.state = State::Open(epoch);
                ConnectionAction::AnnounceOpened(epoch)
            }
            State::Open(_) | State::Closing(_) => ConnectionAction::None,
        }
    }

    /// The Transport ended, or said that its connection did.
    pub fn on_closed(&mut self, reason: CloseReason) -> ConnectionAction {
        match self.state {
            State::Seeking => ConnectionAction::None,
            State::Open(_) | State::Closing(_) => {
                self.state = State::Seeking;
                ConnectionAction::AnnounceClosed(reason)
            }
        }
    }

    /// Somebody found the connection of `epoch` unfit: it was silent, or a step was refused.
    pub fn on_unfit(&mut self, epoch: Epoch, reason: CloseReason) -> ConnectionAction {
        match self.state {
            State::Open(open) if open == epoch => {
                self.state = State::Closing(epoch);
                ConnectionAction::Abort(reason)
            }
            State::Seeking | State::Open(_) | State::Closing(_) => ConnectionAction::None,
        }
    }

    /// The open epoch.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        match self.state {
            State::Open(epoch) => Some(epoch),
            State::Seeking | State::Closing(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> Epoch {
        Epoch::NONE.next()
    }

    #[test]
    fn an_end_is_announced_once() {
        let mut connection = Connection::new();
        assert!(matches!(
            connection.on_opened(first()),
            ConnectionAction::AnnounceOpened(_)
        ));
        assert!(matches!(
            connection.on_closed(CloseReason::Eof),
            ConnectionAction::AnnounceClosed(CloseReason::Eof)
        ));
        assert!(matches!(
            connection.on_closed(CloseReason::Eof),
            ConnectionAction::None
        ));
    }

    #[test]
    fn silence_of_another_epoch_changes_nothing() {
        let mut connection = Connection::new();
        let _ = connection.on_opened(first().next());
        assert!(matches!(
            connection.on_unfit(first(), CloseReason::Eof),
            ConnectionAction::None
        ));
        assert_eq!(connection.epoch(), Some(first().next()));
    }

    #[test]
    fn an_unfit_connection_is_aborted_once() {
        let mut connection = Connection::new();
        let _ = connection.on_opened(first());
        assert!(matches!(
            connection.on_unfit(first(), CloseReason::Eof),
            ConnectionAction::Abort(_)
        ));
        assert!(matches!(
            connection.on_unfit(first(), CloseReason::Eof),
            ConnectionAction::None
        ));
    }

    #[test]
    fn a_failed_attempt_is_not_the_end_of_a_connection() {
        let mut connection = Connection::new();
        assert!(matches!(
            connection.on_closed(CloseReason::Eof),
            ConnectionAction::None
        ));
    }
}
