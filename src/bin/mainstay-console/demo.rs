//! A program to look at: two sessions with a simulated venue that goes wrong every few seconds.
//!
//! Apart from the view, which attaches to it over a local socket as it would to any other program.
//!
//! Invariant: it ends with its owner, and its socket's file with it.

use std::error::Error;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::console::{self, Permissions, Place};
use mainstay::inspect::Inspector;
use mainstay::supervisors::Backoff;
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::{Channel, Config, Message, Session};
use tokio::sync::oneshot;

use crate::link::Target;

/// How often the venue goes wrong.
const TROUBLE: Duration = Duration::from_secs(8);
const BTC: &str = "BTC-PERPETUAL";
const ETH: &str = "ETH-PERPETUAL";

/// A program that runs. Dropping it ends it.
pub(crate) struct Demo {
    pub(crate) target: Target,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Demo {
    /// Starts it and waits until it can be looked at.
    pub(crate) fn start() -> Result<Self, String> {
        let (end, ended) = oneshot::channel();
        let (place, placed) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let outcome = runtime
                .map_err(Into::into)
                .and_then(|runtime| runtime.block_on(run(&place, ended)));
            if let Err(error) = outcome {
                // Only who has left does not hear it.
                let _ = place.send(Err(error.to_string()));
            }
        });
        let target = placed
            .recv()
            .unwrap_or_else(|_| Err("the demo ended".to_owned()))?;
        Ok(Self {
            target,
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Dropped unsent, it says the same.
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the demo's is not the view's.
            let _ = thread.join();
        }
    }
}

async fn run(
    place: &mpsc::Sender<Result<Target, String>>,
    ended: oneshot::Receiver<()>,
) -> Result<(), Box<dyn Error>> {
    let venue = DeribitSimulator::builder()
        .credentials("demo", "demo")
        .tick_interval(Duration::from_millis(50))
        .start()
        .await?;
    let (main, second) = (session(&venue).await?, session(&venue).await?);
    let book = deribit::book(BTC, Interval::Ms100);
    follow(&main, deribit::ticker(BTC, Interval::Ms100)).await?;
    follow(&main, book).await?;
    follow(&second, deribit::ticker(ETH, Interval::Ms100)).await?;
    tokio::spawn(ask(main.clone()));
    tokio::spawn(ask(second.clone()));
    let what = Inspector::new()
        .session("main", &main)
        .session("second", &second);
    let permissions = Permissions::look().reconnect().kill();
    let console = console::serve(somewhere(), what, permissions).await?;
    let target = match console.place() {
        Place::Path(path) => Target::Path(path.clone()),
        Place::Loopback(address) => Target::Loopback(*address),
    };
    place.send(Ok(target))?;
    tokio::select! {
        () = trouble(&venue) => {}
        // Its owner has gone.
        _ = ended => {}
    }
    Ok(())
}

/// A place of our own.
fn somewhere() -> Place {
    if cfg!(unix) {
        let name = format!("mainstay-demo-{}.sock", std::process::id());
        Place::Path(std::env::temp_dir().join(name))
    } else {
        Place::Loopback(([127, 0, 0, 1], 0).into())
    }
}

async fn session(venue: &DeribitSimulator) -> Result<Session, Box<dyn Error>> {
    let config = Config::builder(venue.url())
        .backoff(Backoff::new(
            Duration::from_millis(300),
            Duration::from_secs(2),
        ))
        .build()?;
    let deribit = Deribit::builder().credentials("demo", "demo").build()?;
    Ok(Session::start(deribit, config).await?)
}

/// Subscribes, and reads for as long as the session lasts.
async fn follow<M: Message>(session: &Session, channel: Channel<M>) -> Result<(), Box<dyn Error>> {
    let mut subscription = session.subscribe(channel).await?;
    tokio::spawn(async move { while subscription.next().await.is_some() {} });
    Ok(())
}

/// Asks the time for as long as the session lasts.
async fn ask(session: Session) {
    while session.alive().is_ok() {
        // One that fails is the view's to show.
        let _ = session.invoke(deribit::rpc::time()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn trouble(venue: &DeribitSimulator) {
    let faults = || {
        [
            Fault::SequenceBreak {
                channel: format!("book.{BTC}.100ms"),
            },
            Fault::TcpReset,
            Fault::Close {
                code: 1012,
                reason: "service restart".to_owned(),
            },
            Fault::ExpireToken,
        ]
    };
    for fault in std::iter::repeat_with(faults).flatten() {
        tokio::time::sleep(TROUBLE).await;
        venue.inject(fault);
    }
}
