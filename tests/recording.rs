//! What a recorded session leaves on the disk, against servers on the loopback.
//!
//! Each test awaits events; none sleeps. Deadlines are only there so that a broken promise ends the test.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

#[path = "recording/claiming.rs"]
mod claiming;
#[path = "recording/killing.rs"]
mod killing;
#[path = "recording/replaying.rs"]
mod replaying;
#[path = "recording/writing.rs"]
mod writing;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay::config::{ConfigBuilder, ReconnectOwner, Record};
use mainstay::protocol::recording::Entry;
use mainstay::supervisors::Backoff;
use mainstay::testing::{Script, ScriptedServer};
use mainstay::{Client, Config, Event, Session, Subscription};

const LONG: Duration = Duration::from_secs(20);
/// So long that nothing is written by the clock.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// The file of one test, in a folder of its own that is gone with its owner.
struct File(PathBuf);

impl Deref for File {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for File {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl From<&File> for PathBuf {
    fn from(file: &File) -> Self {
        file.0.clone()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(folder) = self.0.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// A path of this test's own; what an earlier run left there is removed.
fn path(test: &str) -> File {
    let folder = std::env::temp_dir().join(format!("mainstay-rec-{}-{test}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    File(folder.join("session.jsonl"))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn entries(path: &Path) -> Vec<Entry> {
    let text = text(path);
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| Entry::parse(line).expect("an entry"))
        .collect()
}

fn builder(url: String, record: Record) -> ConfigBuilder {
    Config::builder(url)
        .reconnect_owner(ReconnectOwner::Client)
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .shutdown_timeout(Duration::from_secs(3))
        .record(record)
}

async fn connect(url: String, record: Record) -> Session {
    let config = builder(url, record).build().expect("valid");
    Client::connect_with(config).await.expect("a session")
}

async fn server(script: Script) -> ScriptedServer {
    let server = ScriptedServer::builder().script(script).start().await;
    server.expect("a server")
}

async fn next<M: mainstay::Message>(subscription: &mut Subscription<M>) -> Event<M> {
    let event = tokio::time::timeout(LONG, subscription.next())
        .await
        .expect("an event in time");
    event.expect("a subscription that goes on")
}
