//! The way back from a lesser endpoint to a preferred one.
//!
//! Apart from the Transport because it is about another place than the one that serves: it looks whether a preferred
//! one answers, with a connection of its own that carries nothing, and only then has the session's closed.
//!
//! Invariants: nothing is closed before a preferred endpoint has answered the opening handshake; a probe passes the gate
//! as an attempt does, but never waits there; it ends with the connection that it was made for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::dial::{dial, let_go};
use super::endpoints::Place;
use super::gate::Pass;
use super::line::Outbound;
use super::plane::Plane;
use crate::close::CloseReason;
use crate::config::Config;
use crate::error::ConnectError;
use crate::protocol::breaker::Outcome;
use crate::protocol::continuity::Epoch;

/// Waits beside the connection of `epoch`, which goes to a lesser endpoint, until a preferred one answers, and then has
/// that connection closed.
pub(super) async fn fail_back(
    plane: Arc<Plane>,
    config: Arc<Config>,
    epoch: Epoch,
    after: Duration,
) {
    loop {
        sleep(plane.places.fail_back_in(after)).await;
        if !plane.is_live_in(epoch) || !answers(&plane, &config).await {
            continue;
        }
        // What is under way is given the time that it has anyway; what remains then is told its fate.
        let _ = timeout(config.request_timeout, plane.callers.none()).await;
        let Some(line) = plane.line().filter(|line| line.epoch == epoch) else {
            return;
        };
        let close = Outbound::Close {
            code: 1000,
            reason: "going back".to_owned(),
            cause: CloseReason::FailBack,
        };
        // A line that is closed already is on its way to the next one.
        let _ = line.urgent.send(close).await;
        return;
    }
}

/// Whether one of the preferred endpoints answers; the next attempt then goes to the first that does.
async fn answers(plane: &Plane, config: &Config) -> bool {
    for (index, place) in plane.places.preferred() {
        let pass = match &plane.gate {
            None => None,
            Some(gate) => match gate.try_enter(&place.key) {
                Some(pass) => Some(pass),
                None => continue,
            },
        };
        let answered = probe(plane, config, place, pass).await;
        let outcome = answered.as_ref().copied().map_err(Arc::clone);
        plane.places.probed(index, outcome.as_ref().copied());
        if answered.is_ok() {
            return true;
        }
    }
    false
}

/// Opens a connection and lets go of it.
async fn probe(
    plane: &Plane,
    config: &Config,
    place: &Place,
    pass: Option<Pass>,
) -> Result<(), Arc<ConnectError>> {
    let dialed = dial(config, &place.endpoint).await;
    let outcome = match dialed {
        // The session that goes there will tell whether it is of use.
        Ok(_) => Outcome::GivenUp,
        Err(_) => Outcome::Failed,
    };
    if let Some(pass) = pass {
        pass.end(outcome);
    }
    match dialed {
        Ok(dialed) => {
            let_go(dialed, config).await;
            Ok(())
        }
        Err(error) => {
            let error = Arc::new(plane.secrets.clean_refusal(error));
            if let Some(gate) = &plane.gate {
                gate.heed(&CloseReason::NotOpened(Arc::clone(&error)));
            }
            Err(error)
        }
    }
}
