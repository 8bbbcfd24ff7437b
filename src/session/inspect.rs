//! A session at one moment, as one value: for a person, a dashboard, a ticket.
//!
//! Apart from the values that it is made of ([`Session::statistics`], [`Session::heartbeat_health`] and their
//! like) because those are for programs that act on them; this one is complete, can be serialised, and
//! speaks of ages instead of instants, which mean nothing elsewhere.
//!
//! Invariants: no credential and no word of a peer's is in it, except what a user's own channel names, child ids and
//! errors say; each part is true of some moment during the question, not all of the same; asking sends nothing.

mod mermaid;
mod text;

use std::time::{Duration, Instant, SystemTime};

use mainstay_supervisors::TreeSnapshot;
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::endpoints::EndpointStatus;
use super::statistics::Statistics;
use super::subscriber::Subscriber;
use super::tape::RecordingStatistics;
use super::{Session, clock, probe};
use crate::protocol::cadence::Rung;
use crate::protocol::continuity::Epoch;
use crate::protocol::limiter::{PoolStatus, Pressure};
use crate::protocol::serial;
use crate::protocol::status::{Status, Transition, Why};
use crate::protocol::subscriptions::{ChannelState, ChannelStatus};
pub(crate) use mermaid::Chart;
pub(crate) use text::OneLine;

/// Steps of the history that are shown.
const STEPS: usize = 20;

/// A session at one moment; [`Session::inspect`] makes it. `Display` is text for people, whose form may change;
/// serialised, names and meanings stay and new fields may come.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct SessionInspection {
    /// The platform's name.
    pub platform: String,
    /// Where it is connected to, or tries to be, without the query.
    pub endpoint: String,
    /// Wherever it may connect, in the order of preference.
    pub endpoints: Vec<EndpointStatus>,
    /// When this was, by the wall clock.
    #[serde(rename = "taken_at_unix_ms", serialize_with = "serial::unix_millis")]
    pub taken_at: SystemTime,
    /// Where the session stands.
    pub status: Status,
    /// What [`Session::ready`] says.
    pub ready: probe::Probe,
    /// What [`Session::alive`] says.
    pub alive: probe::Probe,
    /// The epoch of the present connection, or of the last one.
    pub epoch: Epoch,
    /// Attempts to connect since it was last live.
    pub connect_attempts: u32,
    /// The open connection.
    pub connection: Option<ConnectionInspection>,
    /// The last steps of its life, the oldest first.
    pub history: Vec<StepInspection>,
    /// Requests that are under way.
    pub requests: RequestsInspection,
    /// Where each channel stands.
    pub channels: Vec<ChannelInspection>,
    /// Each subscription, by channel.
    pub subscriptions: Vec<SubscriptionInspection>,
    /// The pools of the limiter, if anything is limited.
    pub limiter: Option<Vec<LimiterInspection>>,
    /// What its recording has come to, if it is recorded.
    pub recorder: Option<RecordingStatistics>,
    /// How its heart beats.
    pub heartbeat: HeartbeatInspection,
    /// What it has counted.
    pub statistics: Statistics,
    /// Its actors; `None` if the tree is the user's own.
    #[serde(serialize_with = "tree")]
    pub tree: Option<TreeSnapshot>,
}

/// An open connection.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ConnectionInspection {
    /// The address that answered.
    pub peer: Option<String>,
    /// For how long it has been open.
    #[serde(rename = "open_for_ms", serialize_with = "serial::millis")]
    pub open_for: Duration,
    /// How long nothing has arrived.
    #[serde(rename = "quiet_for_ms", serialize_with = "serial::millis")]
    pub quiet_for: Duration,
    /// How long the last answered ping took.
    #[serde(rename = "round_trip_us", serialize_with = "serial::opt_micros")]
    pub round_trip: Option<Duration>,
}

/// One step of a session's life.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct StepInspection {
    /// Which step it was, counted from 1.
    pub number: u64,
    /// How long ago.
    #[serde(rename = "ago_ms", serialize_with = "serial::millis")]
    pub ago: Duration,
    /// From where.
    pub from: Status,
    /// To where.
    pub to: Status,
    /// Why, without a peer's own words.
    pub why: String,
}

/// Requests under way.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct RequestsInspection {
    /// Written and not answered.
    pub in_flight: usize,
    /// Waiting for the connection to write them.
    pub queued: usize,
}

/// One channel: [`ChannelState`] without the venue's words.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ChannelInspection {
    /// Its name.
    pub channel: String,
    /// Where it stands.
    pub status: ChannelStatus,
    /// The epoch on which it has come to stand there.
    pub since: Epoch,
    /// How many subscriptions share it.
    pub subscriptions: usize,
    /// Whether the venue has refused it since it was last confirmed.
    pub refused: bool,
    /// How far it has climbed the ladder because its data is late.
    pub stale: Option<Rung>,
}

/// One subscription, as its queue knows it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct SubscriptionInspection {
    /// Its channel; `None` for one that takes all that has no other place.
    pub channel: Option<String>,
    /// How long ago data last came in; `None` before the first.
    #[serde(rename = "stale_for_ms", serialize_with = "serial::opt_millis")]
    pub stale_for: Option<Duration>,
    /// For how long it has been interrupted; `None` while the stream goes on.
    #[serde(rename = "interrupted_for_ms", serialize_with = "serial::opt_millis")]
    pub interrupted_for: Option<Duration>,
    /// Messages and announcements that its consumer has yet to take.
    pub queued: usize,
    /// How many messages may wait.
    pub capacity: usize,
    /// Interruptions so far.
    pub gaps: u64,
    /// Messages dropped because there was no room.
    pub lost: u64,
    /// Messages that newer ones of their key have taken the place of, because there was no room.
    pub conflated: u64,
}

/// One pool of a limiter.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct LimiterInspection {
    /// Its name.
    pub name: String,
    /// What could be taken out of it now.
    pub tokens: u64,
    /// The most that it can hold.
    pub capacity: u64,
    /// How many wait for it.
    pub queued: usize,
    /// How full its queue is.
    pub pressure: Pressure,
    /// For how long the venue's complaint keeps all but the reserved lane waiting.
    #[serde(rename = "paused_for_ms", serialize_with = "serial::opt_millis")]
    pub paused_for: Option<Duration>,
}

/// How the heart beats: [`HeartbeatHealth`](super::vitals::HeartbeatHealth) with ages.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct HeartbeatInspection {
    /// Whether a connection is open and watched.
    pub active: bool,
    /// Pings sent.
    pub pings: u64,
    /// Pings answered by their own pong.
    pub pongs: u64,
    /// Pings in a row that were not.
    pub unanswered: u32,
    /// Heartbeats of the venue's.
    pub venue_heartbeats: u64,
    /// How long ago there was last a sign of it.
    #[serde(rename = "last_beat_ms", serialize_with = "serial::opt_millis")]
    pub last_beat: Option<Duration>,
}

impl Session {
    /// Everything about the session at this moment: status and history, connection, tree, subscriptions with their
    /// ages and losses, requests, limiter, recorder, heartbeat, statistics. It waits for the tree's answers, a
    /// second at most, and for nothing else; cancel safe.
    ///
    /// ```
    /// # use mainstay::Client;
    /// # use mainstay::testing::ScriptedServer;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let server = ScriptedServer::plain().await?;
    /// # let session = Client::connect(server.url()).await?;
    /// let seen = session.inspect().await;
    /// println!("{seen}"); // for people
    /// println!("{}", seen.to_mermaid()); // to be drawn
    /// let json = serde_json::to_value(&seen)?; // for programs
    /// assert_eq!(json["status"], "live");
    /// assert_eq!(json["ready"]["ok"], true);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn inspect(&self) -> SessionInspection {
        let tree = self.tree().await;
        let now = clock::now();
        let plane = &self.shared.plane;
        let held = self.state_metrics();
        let history = self.history();
        let tail = history.iter().skip(history.len().saturating_sub(STEPS));
        SessionInspection {
            platform: self.shared.platform.name().to_owned(),
            endpoint: plane.places.present().endpoint.to_string(),
            endpoints: self.endpoints(),
            taken_at: clock::wall(),
            status: self.status(),
            ready: probe::Probe::of(self.ready()),
            alive: probe::Probe::of(self.alive()),
            epoch: plane.epoch(),
            connect_attempts: held.connect_attempts,
            connection: self.look_at_connection(now),
            history: tail.map(|step| StepInspection::of(step, now)).collect(),
            requests: RequestsInspection {
                in_flight: held.pending_requests,
                queued: held.queued_requests,
            },
            channels: self.channel_states().iter().map(channel).collect(),
            subscriptions: self.look_at_subscriptions(now),
            limiter: self.limiter().map(|limiter| {
                let pools = limiter.status().pools.into_iter();
                pools.map(|pool| LimiterInspection::of(pool, now)).collect()
            }),
            recorder: self.recording(),
            heartbeat: self.look_at_heartbeat(now),
            statistics: self.statistics(),
            tree,
        }
    }

    fn look_at_connection(&self, now: Instant) -> Option<ConnectionInspection> {
        let plane = &self.shared.plane;
        let since = plane.open_since()?;
        Some(ConnectionInspection {
            peer: self.handshake().map(|handshake| handshake.peer.to_string()),
            open_for: now.saturating_duration_since(since),
            quiet_for: now.saturating_duration_since(plane.last_inbound().max(since)),
            round_trip: self.heartbeat_health().round_trip,
        })
    }

    fn look_at_subscriptions(&self, now: Instant) -> Vec<SubscriptionInspection> {
        let table = self.shared.plane.routes.snapshot();
        let held = table.all().filter(|subscriber| !subscriber.is_gone());
        let mut seen: Vec<_> = held
            .map(|subscriber| SubscriptionInspection::of(subscriber, now))
            .collect();
        seen.sort_by(|one, other| one.channel.cmp(&other.channel));
        seen
    }

    fn look_at_heartbeat(&self, now: Instant) -> HeartbeatInspection {
        let health = self.heartbeat_health();
        HeartbeatInspection {
            active: health.active,
            pings: health.pings,
            pongs: health.pongs,
            unanswered: health.unanswered,
            venue_heartbeats: health.venue_heartbeats,
            last_beat: health
                .last_beat()
                .map(|beat| now.saturating_duration_since(beat)),
        }
    }
}

impl StepInspection {
    fn of(step: &Transition, now: Instant) -> Self {
        Self {
            number: step.number,
            ago: now.saturating_duration_since(step.at),
            from: step.from,
            to: step.to,
            why: match &step.why {
                Why::Closed(reason) => reason.without_peers_words().to_string(),
                Why::Ended(reason) => probe::without_peers_words(reason),
                Why::Attempt | Why::Opened(_) | Why::Established(_) => step.why.to_string(),
            },
        }
    }
}

fn channel(state: &ChannelState) -> ChannelInspection {
    ChannelInspection {
        channel: state.channel.to_string(),
        status: state.status,
        since: state.since,
        subscriptions: state.subscriptions,
        refused: state.last_refusal.is_some(),
        stale: state.stale,
    }
}

impl SubscriptionInspection {
    fn of(subscriber: &Subscriber, now: Instant) -> Self {
        let look = subscriber.look();
        let age = |since: Instant| now.saturating_duration_since(since);
        Self {
            channel: subscriber.channel.as_deref().map(str::to_owned),
            stale_for: look.last_received.map(age),
            interrupted_for: look.interrupted_since.map(age),
            queued: look.messages,
            capacity: look.capacity,
            gaps: look.gaps,
            lost: look.lost,
            conflated: look.conflated,
        }
    }
}

impl LimiterInspection {
    fn of(pool: PoolStatus, now: Instant) -> Self {
        let left = |until: Instant| until.saturating_duration_since(now);
        Self {
            name: pool.name,
            tokens: pool.tokens,
            capacity: pool.capacity,
            queued: pool.queued,
            pressure: pool.pressure,
            paused_for: pool.paused_until.map(left).filter(|left| !left.is_zero()),
        }
    }
}

/// A tree, as [`TreeSnapshot::to_json`] writes it.
pub(crate) fn tree<S: Serializer>(tree: &Option<TreeSnapshot>, to: S) -> Result<S::Ok, S::Error> {
    let json = tree.as_ref().map(raw).transpose();
    json.map_err(S::Error::custom)?.serialize(to)
}

/// Several of them.
pub(crate) fn trees<S: Serializer>(trees: &[TreeSnapshot], to: S) -> Result<S::Ok, S::Error> {
    let json: Result<Vec<_>, _> = trees.iter().map(raw).collect();
    json.map_err(S::Error::custom)?.serialize(to)
}

fn raw(tree: &TreeSnapshot) -> Result<Box<RawValue>, serde_json::Error> {
    RawValue::from_string(tree.to_json())
}
