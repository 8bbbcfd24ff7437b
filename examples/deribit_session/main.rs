//! A supervised Deribit session, end to end: what it is like to live through seven faults.
//!
//! Problem that it shows solved: a program wants ticker, book, trades and its own orders, for weeks,
//! and wants to *know* when it missed something. `cargo run --example deribit_session` starts an
//! embedded venue (TLS on the loopback, certificate made at start), spawns a supervised adapter, and
//! lets the venue and our own process do their worst. After each fault the screen shows the gap that
//! every subscription was told of, and the session live again.
//!
//! It exits 1 if a subscription was not restored or a sequence number is missing outside a declared
//! gap. With `DERIBIT_URL`, `DERIBIT_CLIENT_ID` and `DERIBIT_CLIENT_SECRET` in the environment it talks
//! to the real venue, where it only listens; the faults of the venue's side are left out then. With
//! `--features otel` and `OTEL_EXPORTER_OTLP_ENDPOINT` set, a collector is told of all of it; with
//! `--features otel,prometheus` and `OTEL_METRICS_EXPORTER=otlp,prometheus` too, a page can be scraped.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that shows something"
)]

mod export;
mod screen;
mod venue;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::config::{BreakerPolicy, Liveness, Tls};
use mainstay::supervisors::Backoff;
use mainstay::{Config, Gate, Part, Session};
use tokio::time::{sleep, timeout};

use export::Export;
use screen::Screen;
use venue::{Blow, Venue};
use watch::Watches;

/// Longer than this the whole program never takes.
const LIMIT: Duration = Duration::from_secs(38);
const INSTRUMENT: &str = "BTC-PERPETUAL";

#[tokio::main]
async fn main() -> ExitCode {
    // One line for a panic of ours; the supervisors say the rest.
    std::panic::set_hook(Box::new(|panic| println!("    panicked: {panic}")));
    let export = match Export::start() {
        Ok(export) => export,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    // What a queue or a limiter holds is measured as long as somebody has the session.
    let mut measured = None;
    let code = match timeout(LIMIT, run(&mut measured)).await {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => {
            eprintln!("{error}");
            let mut cause = error.source();
            while let Some(next) = cause {
                eprintln!("  because {next}");
                cause = next.source();
            }
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("not done within {LIMIT:?}");
            ExitCode::FAILURE
        }
    };
    export.end(Duration::from_secs(5)).await;
    drop(measured);
    code
}

async fn run(measured: &mut Option<Session>) -> Result<bool, Box<dyn std::error::Error>> {
    let venue = Venue::from_environment().await?;
    let config = Config::builder(venue.url())
        .tls(match venue.certificate() {
            Some(certificate) => Tls::only(certificate),
            None => Tls::default(),
        })
        .liveness(Liveness::new(
            Duration::from_millis(1200),
            Duration::from_millis(800),
        ))
        .backoff(Backoff::new(
            Duration::from_millis(100),
            Duration::from_secs(5),
        ))
        .build()?;
    let mut deribit = Deribit::builder().heartbeat(Duration::from_secs(10));
    if let Some((id, secret)) = venue.credentials() {
        deribit = deribit.credentials(id, secret);
    }

    println!("venue {}", config.endpoint);
    // All sessions that connect to the venue would share it.
    let gate = Gate::new("venue").breaker(BreakerPolicy::new(20, Duration::from_secs(60)))?;
    let session = Session::start_sharing(deribit.build()?, config, &gate).await?;
    *measured = Some(session.clone());
    println!("{}\n", session.state());
    print_tree(&session, "before").await;

    let mut watches = Watches::new();
    watches.ticker(
        session
            .subscribe(deribit::ticker(INSTRUMENT, Interval::Ms100))
            .await?,
    );
    watches.book(
        session
            .subscribe(deribit::book(INSTRUMENT, Interval::Ms100))
            .await?,
    );
    watches.trades(
        session
            .subscribe(deribit::trades(INSTRUMENT, Interval::Ms100))
            .await?,
    );
    if venue.credentials().is_some() {
        let orders = deribit::user_orders(INSTRUMENT, Interval::Raw);
        watches.orders(session.subscribe(orders).await?);
    }
    let screen = Screen::start(&session, watches.board());
    sleep(Duration::from_secs(2)).await;

    let mut restored = true;
    for blow in venue.blows() {
        println!("\n>>> {blow}");
        let epoch = watches.mark();
        match blow {
            Blow::PanicInClient => session.crash(Part::Client),
            Blow::PanicInAdapter => session.crash(Part::Adapter),
            _ => venue.strike(blow),
        }
        restored &= watches
            .restored(blow.reaches(), epoch, Duration::from_secs(10))
            .await;
        venue.heal();
        if session.live().await.is_err() {
            restored = false;
            break;
        }
        println!("<<< {}", session.state());
        sleep(Duration::from_millis(1200)).await;
    }
    if !venue.is_embedded() {
        sleep(Duration::from_secs(10)).await;
    }

    drop(screen);
    print_tree(&session, "after").await;
    let missing = watches.missing();
    screen::summary(&session.statistics(), &watches.board());
    if let Some(report) = session.shutdown().await {
        println!("shut down in {:?}", report.took);
    }
    println!(
        "{}; {}",
        if restored {
            "every subscription was restored"
        } else {
            "A SUBSCRIPTION WAS NOT RESTORED"
        },
        match missing {
            0 => "no sequence number is missing outside a declared gap".to_owned(),
            n => format!("{n} SEQUENCE NUMBERS ARE MISSING OUTSIDE ANY GAP"),
        }
    );
    Ok(restored && missing == 0)
}

async fn print_tree(session: &Session, when: &str) {
    if let Some(tree) = session.tree().await {
        println!("the tree {when}:\n{tree}");
    }
}
