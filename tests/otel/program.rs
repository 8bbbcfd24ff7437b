//! The program that is watched: one that lives, and is told everything by its environment.
//!
//! In a file of its own because it runs in another process than the tests, started by them.

use std::sync::Arc;
use std::time::Duration;

use mainstay::otel::Otel;
use mainstay::telemetry::{Collector, TelemetryEvent};
use opentelemetry::metrics::Counter;
use tracing::Instrument;

use super::life;

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
    let day = async {
        let life = life::live(Arc::new(Gaps(gaps))).await;
        tracing::info!("live again");
        life
    };
    let day = day.instrument(tracing::info_span!("a day at the venue"));
    let life = day.await;
    // Before the end, so that what waits is seen to wait.
    let sent = otel.shutdown(Duration::from_secs(10)).await;
    life.end().await;
    if let Err(error) = sent {
        panic!("{error}");
    }
}
