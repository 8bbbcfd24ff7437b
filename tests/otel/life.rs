//! A life in which everything that is measured happens: a session, its venue, and what befalls them.
//!
//! In a file of its own because two tests watch it, one by OTLP and one by a scrape. It is left as it is in the end,
//! so that what waits can be seen to wait.

use std::sync::Arc;
use std::time::Duration;

use mainstay::adapters::deribit::{self, Book, Deribit, Interval, Ticker};
use mainstay::config::{BreakerPolicy, Liveness, Overflow, Queue, RateLimits, ReconnectOwner};
use mainstay::supervisors::Backoff;
use mainstay::telemetry::{Collector, TelemetryEvent};
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::{Call, Client, Config, Event, Gate, Limiter, Part, Session, Subscription};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(60);
const INSTRUMENT: &str = "BTC-PERPETUAL";
/// Carried out by nobody in the end.
const IGNORED: &str = "public/get_time";

/// What is still there when everything has happened.
pub(crate) struct Life {
    session: Session,
    venue: DeribitSimulator,
    /// Nobody reads them any more.
    _ticker: Subscription<Ticker>,
    _slow: Subscription<Book>,
    /// Those who wait for what does not come.
    _waiting: JoinSet<()>,
}

/// Tells of attempts that failed.
#[derive(Debug)]
struct Attempts(watch::Sender<u64>);

impl Collector for Attempts {
    fn on_event(&self, _session: &str, event: &TelemetryEvent<'_>) {
        if let TelemetryEvent::NotOpened { .. } = event {
            self.0.send_modify(|failed| *failed += 1);
        }
    }
}

/// Lives through a loss with attempts that fail, a panic, a slow consumer, and much that waits.
pub(crate) async fn live(collector: Arc<dyn Collector>) -> Life {
    tokio::time::timeout(LONG, begin(collector))
        .await
        .expect("a life in time")
}

async fn venue(port: u16) -> DeribitSimulator {
    DeribitSimulator::builder()
        .tick_interval(Duration::from_millis(20))
        .port(port)
        .start()
        .await
        .expect("a venue")
}

async fn begin(collector: Arc<dyn Collector>) -> Life {
    let venue = self::venue(0).await;
    let failed = watch::Sender::new(0);
    let policy = BreakerPolicy::new(1000, LONG);
    let gate = Gate::new("venue").breaker(policy).expect("a policy");
    let limits = RateLimits::bucket(1000, 1, LONG).reserve(0);
    let limiter = Limiter::new("account", limits).expect("limits");
    let config = Config::builder(venue.url())
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .liveness(Liveness::new(Duration::from_millis(5), LONG))
        .collector(collector)
        .collector(Arc::new(Attempts(failed.clone())))
        .build()
        .expect("a valid configuration");
    let session = Session::start_sharing(Deribit::new(), config, (&limiter, &gate))
        .await
        .expect("a session");
    let ticker = deribit::ticker(INSTRUMENT, Interval::Ms100);
    let mut ticker = session.subscribe(ticker).await.expect("a subscription");
    let slow = session
        .subscribe_with(
            deribit::book(INSTRUMENT, Interval::Ms100),
            Queue::new(2, Overflow::DropOldest),
        )
        .await;
    let mut slow = slow.expect("a subscription");
    data(&mut ticker).await;

    let port = venue.address().port();
    venue.stop().await;
    let mut failures = failed.subscribe();
    failures
        .wait_for(|failed| *failed >= 2)
        .await
        .expect("a collector");
    let venue = self::venue(port).await;
    resynced(&mut ticker).await;
    session.crash(Part::Client);
    resynced(&mut ticker).await;

    session
        .request::<serde_json::Value>("public/test", &json!({}))
        .await
        .expect("an answer");
    while session.statistics().round_trip.count == 0 {
        data(&mut ticker).await;
    }
    while session.statistics().lost.is_empty() {
        slow.next().await.expect("a subscription that goes on");
    }

    let mut waiting = JoinSet::new();
    venue.inject(Fault::IgnoreMethod(IGNORED.to_owned()));
    let asking = session.clone();
    waiting.spawn(async move {
        let call = Call::bare(IGNORED);
        // Nobody answers.
        let _ = asking.call(call, LONG).await;
    });
    while session.state_metrics().pending_requests == 0 {
        data(&mut ticker).await;
    }
    let paying = limiter.clone();
    waiting.spawn(async move {
        // There is less than that by now.
        let _ = paying.acquire(1000, LONG).await;
    });
    let (elsewhere, nowhere) = nowhere().await;
    let connecting = elsewhere.clone();
    waiting.spawn(async move {
        // The breaker is open.
        let _ = Client::connect_sharing(nowhere, &connecting).await;
    });
    while limiter.status().queued() == 0 || elsewhere.status().waiting == 0 {
        data(&mut ticker).await;
    }
    Life {
        session,
        venue,
        _ticker: ticker,
        _slow: slow,
        _waiting: waiting,
    }
}

/// A gate that the first failure closes, and a configuration that leads to one.
async fn nowhere() -> (Gate, Config) {
    let policy = BreakerPolicy::new(1, LONG).rest(LONG);
    let gate = Gate::new("elsewhere").breaker(policy).expect("a policy");
    // Nobody listens where somebody just has.
    let gone = self::venue(0).await;
    let url = gone.url();
    gone.stop().await;
    let config = Config::builder(url)
        .reconnect_owner(ReconnectOwner::Client)
        .retry_first(true)
        .start_timeout(LONG)
        .build()
        .expect("a valid configuration");
    (gate, config)
}

async fn data(ticker: &mut Subscription<Ticker>) {
    while !matches!(next(ticker).await, Event::Data(_)) {}
}

async fn resynced(ticker: &mut Subscription<Ticker>) {
    while !matches!(next(ticker).await, Event::Resynced(_)) {}
}

async fn next(ticker: &mut Subscription<Ticker>) -> Event<Ticker> {
    match ticker.next().await.expect("a subscription that goes on") {
        Event::Ended(reason) => panic!("ended: {reason}"),
        event => event,
    }
}

impl Life {
    pub(crate) async fn end(self) {
        self.session.shutdown().await;
        self.venue.stop().await;
    }
}
