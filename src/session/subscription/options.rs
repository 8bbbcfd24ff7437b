//! What a subscription may be told beside its channel.
//!
//! Apart from the subscription because it is plain data.
//!
//! Invariants: what is not said is as the configuration and the platform say.

use std::time::Duration;

use crate::config::Queue;

/// How a channel is subscribed to. A [`Queue`] alone is one, too.
///
/// ```no_run
/// use std::time::Duration;
/// use mainstay::{Channel, Frame, Session, SubscribeOptions};
///
/// # async fn run(session: Session) -> Result<(), Box<dyn std::error::Error>> {
/// let options = SubscribeOptions::new().cadence(Duration::from_secs(5));
/// let ticker = session.subscribe_with(Channel::<Frame>::new("ticker.BTC"), options).await?;
/// # drop(ticker);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    pub(in crate::session) queue: Option<Queue>,
    pub(in crate::session) cadence: Option<Duration>,
}

impl SubscribeOptions {
    /// As the configuration and the platform say.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Its queue. Default: [`Config::queue`](crate::Config::queue).
    #[must_use]
    pub fn queue(self, queue: Queue) -> Self {
        Self {
            queue: Some(queue),
            ..self
        }
    }

    /// How often data is to come at the least, a millisecond or more. When it does not, the channel is stale and
    /// climbs the [`Ladder`](crate::config::Ladder), as long as the market is open. Of several subscriptions to one
    /// channel the shortest cadence counts. Default: the platform's
    /// ([`ChannelKind::cadence`](crate::platform::ChannelKind)), if it has one.
    #[must_use]
    pub fn cadence(self, cadence: Duration) -> Self {
        Self {
            cadence: Some(cadence),
            ..self
        }
    }
}

impl From<Queue> for SubscribeOptions {
    fn from(queue: Queue) -> Self {
        Self::new().queue(queue)
    }
}
