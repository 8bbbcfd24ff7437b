//! What a Deribit session lives through, against the project's own simulator of the venue.
//!
//! Here: the venue, the session, and how a test awaits what a subscription says. Beside it the
//! behaviours, by what they are about. Each test awaits events; none sleeps. Deadlines are only there
//! so that a broken promise ends the test.
#![allow(
    clippy::expect_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

#[path = "deribit/authorization.rs"]
mod authorization;
#[path = "deribit/establishing.rs"]
mod establishing;
#[path = "deribit/heartbeats.rs"]
mod heartbeats;
#[path = "deribit/identity.rs"]
mod identity;
#[path = "deribit/methods.rs"]
mod methods;
#[path = "deribit/misconduct.rs"]
mod misconduct;
#[path = "deribit/sequences.rs"]
mod sequences;
#[path = "deribit/subscriptions.rs"]
mod subscriptions;
#[path = "deribit/unsubscribing.rs"]
mod unsubscribing;

use std::time::Duration;

use mainstay::adapters::deribit::{Deribit, DeribitBuilder};
use mainstay::config::{ConfigBuilder, ReconnectOwner};
use mainstay::supervisors::Backoff;
use mainstay::testing::deribit::{DeribitSimulator, DeribitSimulatorBuilder, LogEvent};
use mainstay::{Config, Data, Event, Gap, Message, Resynced, Session, Subscription};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(20);
const BTC: &str = "BTC-PERPETUAL";
const ETH: &str = "ETH-PERPETUAL";
const OWNERS: [ReconnectOwner; 2] = [ReconnectOwner::Client, ReconnectOwner::Adapter];

/// What every session asks before it logs in.
const GREETING: [&str; 4] = [
    "public/hello",
    "public/get_time",
    "public/status",
    "public/set_heartbeat",
];

/// A venue whose public channels speak every 10 ms and whose private ones every 100 ms.
fn simulator() -> DeribitSimulatorBuilder {
    DeribitSimulator::builder().tick_interval(Duration::from_millis(10))
}

async fn venue() -> DeribitSimulator {
    simulator().start().await.expect("a venue")
}

/// A configuration that reconnects fast.
fn config(venue: &DeribitSimulator, owner: ReconnectOwner) -> ConfigBuilder {
    Config::builder(venue.url())
        .reconnect_owner(owner)
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .request_timeout(LONG)
        .shutdown_timeout(Duration::from_secs(3))
}

fn with_credentials() -> DeribitBuilder {
    Deribit::builder().credentials("id", "secret")
}

async fn start(deribit: DeribitBuilder, config: ConfigBuilder) -> Session {
    let deribit = deribit.build().expect("a valid adapter");
    let config = config.build().expect("a valid configuration");
    Session::start(deribit, config).await.expect("a session")
}

/// A session that has logged in, with layer 2 in charge of reconnecting.
async fn logged_in(venue: &DeribitSimulator) -> Session {
    let config = config(venue, ReconnectOwner::Adapter);
    start(with_credentials(), config).await
}

async fn next<M: Message>(subscription: &mut Subscription<M>) -> Event<M> {
    let event = tokio::time::timeout(LONG, subscription.next())
        .await
        .expect("an event in time");
    event.expect("a subscription that goes on")
}

/// The next event, which has to be data.
async fn data<M: Message + std::fmt::Debug>(subscription: &mut Subscription<M>) -> Data<M> {
    match next(subscription).await {
        Event::Data(data) => data,
        other => panic!("expected data, found {other:?}"),
    }
}

/// The next gap; data before it is passed over.
async fn gap<M: Message + std::fmt::Debug>(subscription: &mut Subscription<M>) -> Gap {
    loop {
        match next(subscription).await {
            Event::Data(_) => {}
            Event::Gap(gap) => return gap,
            other => panic!("expected a gap, found {other:?}"),
        }
    }
}

/// The next event, which has to be the end of a gap.
async fn resynced<M: Message + std::fmt::Debug>(subscription: &mut Subscription<M>) -> Resynced {
    match next(subscription).await {
        Event::Resynced(resynced) => resynced,
        other => panic!("expected a resync, found {other:?}"),
    }
}

/// The next interruption: a gap, its end, and data behind it.
async fn restored<M: Message + std::fmt::Debug>(subscription: &mut Subscription<M>) -> Gap {
    let gap = gap(subscription).await;
    let _ = resynced(subscription).await;
    let _ = data(subscription).await;
    gap
}

/// The requests of one connection in their order.
fn requests(venue: &DeribitSimulator, connection: u64) -> Vec<(String, Value)> {
    let log = venue.log().into_iter();
    log.filter(|entry| entry.connection == connection)
        .filter_map(|entry| match entry.event {
            LogEvent::Request { method, params, .. } => Some((method, params)),
            _ => None,
        })
        .collect()
}

fn methods(venue: &DeribitSimulator, connection: u64) -> Vec<String> {
    let requests = requests(venue, connection).into_iter();
    requests.map(|(method, _)| method).collect()
}

/// The channels that requests of `method` named on one connection, a list for each request.
fn channels(venue: &DeribitSimulator, connection: u64, method: &str) -> Vec<Value> {
    let requests = requests(venue, connection).into_iter();
    requests
        .filter(|(found, _)| found == method)
        .map(|(_, params)| params["channels"].clone())
        .collect()
}

/// The methods of one connection behind [`GREETING`].
fn behind_greeting(venue: &DeribitSimulator, connection: u64) -> Vec<String> {
    let mut methods = methods(venue, connection);
    let rest = methods.split_off(GREETING.len().min(methods.len()));
    assert_eq!(methods, GREETING);
    rest
}
