//! Supervised sessions on realtime WebSocket APIs that tell the truth about every interruption.
//!
//! **Start here:** [`Session::start`] with a venue's platform gives a restored, authenticated, typed
//! stream; [`Client::connect`] opens a bare connection. Either way a supervision tree stands behind the
//! handle, and a [`Subscription`] yields [`Event::Data`], [`Event::Gap`] and [`Event::Resynced`] in
//! order, whatever happens to the connection or to an actor.
//!
//! ```no_run
//! use mainstay::adapters::deribit::{self, Deribit, Interval};
//! use mainstay::{Config, Event, Session};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::builder(deribit::TEST_URL).build()?;
//! let session = Session::start(Deribit::new(), config).await?;
//! let mut ticker = session.subscribe(deribit::ticker("BTC-PERPETUAL", Interval::Ms100)).await?;
//! while let Some(event) = ticker.next().await {
//!     match event {
//!         Event::Data(tick) => println!("mark {:?}", tick.mark_price),
//!         Event::Gap(gap) => println!("interrupted: {}", gap.cause),
//!         Event::Resynced(resynced) => println!("again in epoch {}", resynced.epoch),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! Imports go downward only; `tests/architecture.rs` holds the table.
//!
//! | floor | module | what lives there |
//! |---|---|---|
//! | 0 | [`error`], [`close`], [`config`], [`frame`], [`telemetry`], [`connector`] | plain data |
//! | 1 | [`protocol`] | pure machines: no clock, no socket, no task |
//! | 2 | [`platform`], [`adapters`] | what a venue must tell us, and the venues we ship |
//! | 2 | [`hooks`] | what a user hangs in |
//! | 3 | [`session`] | the actors of one connection, the data plane, the user's handle |
//! | 3 | [`replay`] | recordings read back |
//! | 4 | [`pool`] | many sessions behind one door, and a registry of sessions |
//! | 5 | [`inspect`] | a whole program at a glance, and answers for probes |
//! | 6 | `console` (feature `console-server`) | a running program shows itself over a local socket |
//! | 6 | `instruments` (features `otel`, `prometheus`) | what is measured of all sessions: one table |
//! | – | `otel` (feature `otel`) | spans, logs and metrics for an OpenTelemetry collector |
//! | – | `prometheus` (feature `prometheus`) | the metrics on a page, to be scraped |
//! | – | `testing` (feature `testing`) | scripted server and venue simulators |

pub mod adapters;
pub mod close;
pub mod config;
pub mod connector;
#[cfg(feature = "console-server")]
pub mod console;
pub mod error;
pub mod frame;
pub mod hooks;
pub mod inspect;
#[cfg(any(feature = "otel", feature = "prometheus"))]
pub mod instruments;
#[cfg(feature = "otel")]
pub mod otel;
pub mod platform;
pub mod pool;
#[cfg(feature = "prometheus")]
pub mod prometheus;
pub mod protocol;
pub mod replay;
pub mod session;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

pub use bytes;
pub use http;
pub use mainstay_supervisors as supervisors;

pub use config::Config;
pub use connector::Connector;
pub use frame::Frame;
pub use inspect::{Inspection, Inspector};
pub use platform::{Channel, MarketSignal, Message, Platform};
pub use pool::{Pool, PoolSpec};
pub use protocol::cadence::Rung;
pub use protocol::call::Call;
pub use protocol::continuity::{Epoch, Gap, Resynced};
pub use protocol::rpc::TypedCall;
pub use protocol::status::{Status, Transition, Why};
pub use protocol::subscriptions::{ChannelState, ChannelStatus, Refusal, Wishes};
pub use protocol::venue_time::VenueTime;
#[cfg(feature = "testing")]
pub use session::Part;
pub use session::Session;
pub use session::endpoints::EndpointStatus;
pub use session::gate::{Gate, GateStatus};
pub use session::hand_over::HandOver;
pub use session::handshake::Handshake;
pub use session::hooked::HookStatistics;
pub use session::limiter::{Limiter, LimiterStatus};
pub use session::metrics::{Metrics, MetricsCollector};
pub use session::observe::{Notice, Observer, Registration};
pub use session::plane::SessionState;
pub use session::sharing::Sharing;
pub use session::spec::SessionSpec;
pub use session::start::Client;
pub use session::statistics::Statistics;
pub use session::subscription::{Data, Event, SubscribeOptions, Subscription, Unsubscribed};
pub use session::tape::RecordingStatistics;
pub use session::transport::TransportEnd;
pub use session::vitals::{HeartbeatHealth, StateMetrics};

/// Chapters on what a session does by itself.
pub mod guide {
    // Their examples need the test kit.
    #[cfg_attr(any(not(doctest), feature = "testing"), doc = include_str!("../docs/continuity.md"))]
    pub mod continuity {}

    #[cfg_attr(any(not(doctest), feature = "testing"), doc = include_str!("../docs/fate.md"))]
    pub mod fate {}

    #[cfg_attr(any(not(doctest), feature = "testing"), doc = include_str!("../docs/ending.md"))]
    pub mod ending {}

    #[cfg_attr(any(not(doctest), feature = "testing"), doc = include_str!("../docs/limits.md"))]
    pub mod limits {}

    #[cfg_attr(any(not(doctest), feature = "testing"), doc = include_str!("../docs/liveness.md"))]
    pub mod liveness {}

    #[cfg_attr(any(not(doctest), feature = "testing"), doc = include_str!("../docs/reconnecting.md"))]
    pub mod reconnecting {}

    #[cfg_attr(any(not(doctest), feature = "testing"), doc = include_str!("../docs/restoring.md"))]
    pub mod restoring {}

    #[cfg_attr(any(not(doctest), feature = "testing"), doc = include_str!("../docs/slow_consumers.md"))]
    pub mod slow_consumers {}
}

/// The README's programs, compiled with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The chapters' examples, likewise.
#[cfg(all(doctest, feature = "testing"))]
mod chapters {
    #[doc = include_str!("../docs/faults.md")]
    struct Faults;
}
