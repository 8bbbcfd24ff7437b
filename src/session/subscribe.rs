//! How a user comes to a subscription: one channel, many at once, or those of another session.
//!
//! Apart from the handle because the three are one thing: whatever is wanted together is asked for together.
//!
//! Invariants: a subscription that nobody gets has withdrawn its wish; many wishes go to the platform as one list,
//! in their order.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Session;
use super::clock::from_now;
use super::subscriber::Subscriber;
use super::subscription::{SubscribeOptions, Subscription};
use super::subscription_manager::{SubscriptionMessage, Wished};
use crate::config::Queue;
use crate::error::SubscribeError;
use crate::frame::Frame;
use crate::platform::{Channel, ChannelKind, MarketSignal, Message};
use crate::protocol::subscriptions::Wishes;

impl Session {
    /// Subscribes to a channel and waits for the venue's confirmation.
    ///
    /// While the session is down the wish is kept and asked for when it is live again. Where the platform
    /// asks nobody for a channel, as on a bare connection, it counts as confirmed at once, and asking the
    /// peer to send is the user's own request.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: refused, not confirmed within the configured request timeout, or ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the wish.
    pub async fn subscribe<M: Message>(
        &self,
        channel: Channel<M>,
    ) -> Result<Subscription<M>, SubscribeError> {
        self.subscribe_with(channel, SubscribeOptions::new()).await
    }

    /// [`Session::subscribe`] with a queue, or a cadence, of its own.
    ///
    /// # Errors
    ///
    /// As [`Session::subscribe`].
    pub async fn subscribe_with<M: Message>(
        &self,
        channel: Channel<M>,
        options: impl Into<SubscribeOptions>,
    ) -> Result<Subscription<M>, SubscribeError> {
        let subscribed = self.try_subscribe([channel], options.into()).await;
        // One result for one channel.
        subscribed.into_iter().next().expect("as many as channels")
    }

    /// Subscribes to many channels at once and returns what became of each, in their order. The platform gets them
    /// as one list, and asks for them in as few requests as the venue allows; where there is a limit, those keep to
    /// it.
    ///
    /// A channel that is refused keeps no other from being confirmed. All have one deadline, the configured request
    /// timeout: for thousands of channels under a tight limit set it accordingly. To see how far it is, look at
    /// [`Session::channel_states`].
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use mainstay::platform::{Batch, Call, Platform};
    /// # use mainstay::testing::ScriptedServer;
    /// # use mainstay::{Channel, Config, Frame, Session};
    /// # use serde_json::{Value, json};
    /// # #[derive(Debug)]
    /// # struct Teahouse;
    /// # impl Platform for Teahouse {
    /// #     fn name(&self) -> &str { "teahouse" }
    /// #     fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
    /// #         let names: Vec<&str> = channels.iter().map(|name| &**name).collect();
    /// #         let call = Call::new("pour", &json!({ "channels": names })).ok();
    /// #         call.map(|call| Batch::new(call, channels.to_vec())).into_iter().collect()
    /// #     }
    /// # }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let venue = ScriptedServer::builder().respond(|text| {
    /// #     let request: Value = serde_json::from_str(text).ok()?;
    /// #     Some(json!({ "jsonrpc": "2.0", "id": request["id"], "result": "ok" }).to_string())
    /// # }).start().await?;
    /// # let session = Session::start(Teahouse, Config::builder(venue.url()).build()?).await?;
    /// let channels = ["oolong", "sencha", "assam"].map(Channel::<Frame>::new);
    /// let mut teas = Vec::new();
    /// for subscribed in session.subscribe_all(channels).await {
    ///     match subscribed {
    ///         Ok(tea) => teas.push(tea),
    ///         Err(error) => eprintln!("{error}"),
    ///     }
    /// }
    /// # assert_eq!(teas.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws all of the wishes.
    pub async fn subscribe_all<M: Message>(
        &self,
        channels: impl IntoIterator<Item = Channel<M>>,
    ) -> Vec<Result<Subscription<M>, SubscribeError>> {
        self.subscribe_all_with(channels, SubscribeOptions::new())
            .await
    }

    /// [`Session::subscribe_all`], where each has a queue like this one, or this cadence.
    pub async fn subscribe_all_with<M: Message>(
        &self,
        channels: impl IntoIterator<Item = Channel<M>>,
        options: impl Into<SubscribeOptions>,
    ) -> Vec<Result<Subscription<M>, SubscribeError>> {
        self.try_subscribe(channels, options.into()).await
    }

    /// The channels that the user wants, each once, in the order in which they are restored: to be kept as text, and
    /// wanted again by another session, in this process or another ([`Session::import_subscriptions`]). Also after
    /// the session's end, as long as the subscriptions are held.
    #[must_use]
    #[doc(alias = "export_state")]
    pub fn export_subscriptions(&self) -> Wishes {
        let held = self.channels();
        let states = self.shared.plane.ledger().states();
        let wanted = states.into_iter().map(|state| state.channel);
        wanted
            .filter(|channel| held.binary_search(channel).is_ok())
            .collect()
    }

    /// Subscribes to the channels that another session wanted, all at once and in their order
    /// ([`Session::subscribe_all`]). What reads their messages does not travel: with [`Frame`] for `M` they come as
    /// they are; a program that knows its channels by name makes a [`Channel`] of the right type of each instead.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws all of the wishes.
    #[doc(alias = "import_state")]
    pub async fn import_subscriptions<M: Message>(
        &self,
        wishes: &Wishes,
    ) -> Vec<Result<Subscription<M>, SubscribeError>> {
        let names = wishes.channels.iter();
        self.subscribe_all(names.map(|name| Channel::new(name.as_str())))
            .await
    }

    async fn try_subscribe<M: Message>(
        &self,
        channels: impl IntoIterator<Item = Channel<M>>,
        options: SubscribeOptions,
    ) -> Vec<Result<Subscription<M>, SubscribeError>> {
        let SubscribeOptions { queue, cadence } = options;
        let queue = queue.unwrap_or_else(|| self.shared.config.queue.clone());
        let limit = self.shared.config.request_timeout;
        let deadline = from_now(limit);
        let (mut wished, mut awaited) = (Vec::new(), Vec::new());
        for channel in channels {
            let name = channel.name();
            let mut kind = self.shared.platform.channel(name);
            kind.cadence = cadence.or(kind.cadence);
            let subscriber = Subscriber::new(Some(Arc::clone(name)), kind, queue.clone());
            // Dropped without an answer it withdraws its wish.
            let subscription = self.subscription(&subscriber);
            let (reply, answer) = oneshot::channel();
            wished.push(Wished { subscriber, reply });
            awaited.push((channel, subscription, answer));
        }
        if wished.is_empty() {
            return Vec::new();
        }
        let within = deadline.saturating_duration_since(Instant::now());
        let manager = &self.shared.addresses.manager;
        let told = tokio::select! {
            biased;
            told = manager.cast_when_up(SubscriptionMessage::Subscribe(wished).into(), within) => told.is_ok(),
            _ = self.ended() => false,
        };
        let mut results = Vec::with_capacity(awaited.len());
        for (channel, subscription, answer) in awaited {
            let name = || channel.name().to_string();
            let ended = || Err(SubscribeError::Ended { channel: name() });
            let answer = async {
                match told {
                    true => answer.await.unwrap_or_else(|_| ended()),
                    false => ended(),
                }
            };
            let confirmed = tokio::select! {
                biased;
                answer = timeout_at(deadline, answer) => answer.unwrap_or_else(|_| {
                    Err(SubscribeError::Timeout { channel: name(), limit })
                }),
                _ = self.ended() => ended(),
            };
            results.push(confirmed.map(|()| subscription).inspect_err(|error| {
                let reason = error.explain().code;
                self.shared.plane.failed("subscription", reason);
            }));
        }
        results
    }

    /// Everything that is neither an answer nor a message of a subscribed channel: on a plain
    /// connection, every message.
    #[must_use]
    pub fn messages(&self) -> Subscription<Frame> {
        self.messages_with(self.shared.config.queue.clone())
    }

    /// [`Session::messages`] with a queue of its own.
    #[must_use]
    pub fn messages_with(&self, queue: Queue) -> Subscription<Frame> {
        let subscriber = Subscriber::new(None, ChannelKind::events(), queue);
        self.shared.plane.admit(&subscriber);
        self.subscription(&subscriber)
    }

    /// Says that the market has closed, or opened: while it is closed, channels that have a cadence may be silent. It
    /// counts for all channels of the session, and over [`Ladder::closed`](crate::config::Ladder::closed). A venue may say so
    /// itself ([`Platform::market`](crate::Platform::market)).
    pub fn market(&self, signal: MarketSignal) {
        self.shared.plane.market_said(signal, "user");
        let message = SubscriptionMessage::Market(signal);
        // One that is down expects no data before it is back.
        let _ = self.shared.addresses.manager.cast(message.into());
    }

    fn subscription<M: Message>(&self, subscriber: &Arc<Subscriber>) -> Subscription<M> {
        let manager = self.shared.addresses.manager.clone();
        Subscription::new(
            Arc::clone(subscriber),
            Arc::clone(&self.shared.plane),
            manager,
        )
    }
}
