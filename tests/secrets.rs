//! Credentials go to the venue and nowhere else: not into a log at any level, not into a debug text.

#[path = "secrets/echoes.rs"]
mod echoes;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::{Config, Event, Session};
use tracing_subscriber::fmt::MakeWriter;

const ID: &str = "an-identity-7261";
const SECRET: &str = "a-secret-9183";
const HEADER: &str = "a-header-5519";

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .expect("no writer panics")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

impl Log {
    #[track_caller]
    fn shows_none_of(&self, secrets: &[&str]) {
        let text = String::from_utf8_lossy(&self.0.lock().expect("no writer panics")).into_owned();
        assert!(text.contains("mainstay"), "something was logged at all");
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} was logged");
        }
    }
}

#[tokio::test]
async fn a_session_through_login_renewal_refusal_and_reconnect_logs_no_credential() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .with_ansi(false)
        .init();
    let simulator = DeribitSimulator::builder()
        .credentials(ID, SECRET)
        .token_life(Duration::from_secs(1))
        .start()
        .await
        .expect("a simulator");
    let config = Config::builder(format!("{}?token={HEADER}", simulator.url()))
        .header("x-key", HEADER)
        .build()
        .expect("valid");
    let deribit = Deribit::builder()
        .credentials(ID, SECRET)
        .build()
        .expect("valid");
    let debugs = format!("{config:?} {deribit:?}");

    let session = Session::start(deribit, config.clone())
        .await
        .expect("a session");
    let orders = deribit::user_orders("BTC-PERPETUAL", Interval::Raw);
    let mut orders = session.subscribe(orders).await.expect("a subscription");
    simulator.inject(Fault::RefuseRefresh(true));
    let mut gaps = 0;
    while gaps < 2 {
        match tokio::time::timeout(Duration::from_secs(10), orders.next())
            .await
            .expect("in time")
        {
            Some(Event::Gap(_)) => gaps += 1,
            Some(Event::Resynced(_)) if gaps == 1 => {
                simulator.inject(Fault::TcpReset);
            }
            Some(_) => {}
            None => panic!("the subscription ended"),
        }
    }
    let debugs = format!("{debugs} {session:?} {orders:?} {:?}", session.statistics());
    session.shutdown().await;

    let wrong = Deribit::builder()
        .credentials(ID, "wrong-4410")
        .build()
        .expect("valid");
    let error = Session::start(wrong, config).await.expect_err("refused");
    let debugs = format!("{debugs} {error:?} {error}");

    for secret in [ID, SECRET, HEADER, "wrong-4410"] {
        assert!(!debugs.contains(secret), "{secret} is in a debug text");
    }
    log.shows_none_of(&[
        ID,
        SECRET,
        HEADER,
        "wrong-4410",
        "access_token",
        "refresh_token",
    ]);
}
