//! The program that is watched: a session that lives through one loss.
//!
//! In a file of its own because it runs in another process than the tests, started by them.

use std::sync::Arc;
use std::time::Duration;

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::otel::Otel;
use mainstay::supervisors::Backoff;
use mainstay::telemetry::{Collector, TelemetryEvent};
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::{Config, Event, Session};
use opentelemetry::metrics::Counter;
use tracing::Instrument;

/// The variable without which it does nothing, should anybody run all that is ignored.
pub(crate) const SWITCH: &str = "MAINSTAY_OTEL_PROGRAM";
pub(crate) const SPAN: &str = "a day at the venue";
pub(crate) const RECORD: &str = "live again";
pub(crate) const GAPS: &str = "quoter.gaps";

/// Counts gaps with OpenTelemetry's own counter, as a user would.
#[derive(Debug)]
struct Gaps(Counter<u64>);

impl Collector for Gaps {
    fn on_event(&self, _session: &str, event: &TelemetryEvent<'_>) {
        if let TelemetryEvent::Gap { .. } = event {
            self.0.add(1, &[]);
        }
    }
}

#[tokio::test]
#[ignore = "run by the tests, in a process and an environment of its own"]
async fn program() {
    if std::env::var_os(SWITCH).is_none() {
        return;
    }
    let otel = match Otel::from_env().start() {
        Ok(otel) => otel,
        Err(error) => panic!("{error}"),
    };
    let gaps = opentelemetry::global::meter("quoter")
        .u64_counter(GAPS)
        .build();
    live(Arc::new(Gaps(gaps)))
        .instrument(tracing::info_span!("a day at the venue"))
        .await;
    if let Err(error) = otel.shutdown(Duration::from_secs(10)).await {
        panic!("{error}");
    }
}

async fn live(gaps: Arc<dyn Collector>) {
    let venue = DeribitSimulator::builder()
        .tick_interval(Duration::from_millis(10))
        .start()
        .await
        .expect("a venue");
    let config = Config::builder(venue.url())
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .collector(gaps)
        .build()
        .expect("a valid configuration");
    let session = Session::start(Deribit::new(), config)
        .await
        .expect("a session");
    let mut ticker = session
        .subscribe(deribit::ticker("BTC-PERPETUAL", Interval::Ms100))
        .await
        .expect("a subscription");
    let mut cut = false;
    loop {
        match ticker.next().await.expect("a subscription that goes on") {
            Event::Data(_) if !cut => {
                venue.inject(Fault::TcpReset);
                cut = true;
            }
            Event::Resynced(_) if cut => break,
            Event::Ended(reason) => panic!("ended: {reason}"),
            _ => {}
        }
    }
    tracing::info!("live again");
    session.shutdown().await;
    venue.stop().await;
}
