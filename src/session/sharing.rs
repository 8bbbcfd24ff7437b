//! What a session shares with others.
//!
//! Apart from the configuration, which is plain data and each session's own.
//!
//! Invariant: what is not named here a session has for itself.

use super::gate::Gate;
use super::limiter::Limiter;

/// What a session shares with others: a limiter of requests, a gate for attempts to connect, or both.
///
/// A reference to either is one, and so is a pair of them:
///
/// ```
/// # async fn run(limiter: mainstay::Limiter, gate: mainstay::Gate) -> Result<(), Box<dyn std::error::Error>> {
/// use mainstay::{Client, Config};
///
/// let config = || Config::builder("wss://example.com").build();
/// let first = Client::connect_sharing(config()?, &gate).await?;
/// let second = Client::connect_sharing(config()?, (&limiter, &gate)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Sharing {
    /// In place of a limiter of its own.
    pub limiter: Option<Limiter>,
    /// In place of a gate of its own.
    pub gate: Option<Gate>,
}

impl From<&Limiter> for Sharing {
    fn from(limiter: &Limiter) -> Self {
        Self {
            limiter: Some(limiter.clone()),
            gate: None,
        }
    }
}

impl From<&Gate> for Sharing {
    fn from(gate: &Gate) -> Self {
        Self {
            limiter: None,
            gate: Some(gate.clone()),
        }
    }
}

impl From<(&Limiter, &Gate)> for Sharing {
    fn from((limiter, gate): (&Limiter, &Gate)) -> Self {
        Self {
            limiter: Some(limiter.clone()),
            gate: Some(gate.clone()),
        }
    }
}
