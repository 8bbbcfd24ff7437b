//! What is left of a recording whose process is killed: SIGKILL, which nobody can do anything about.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mainstay::Event;
use mainstay::config::Record;
use mainstay::protocol::recording::{Direction, Entry};
use mainstay::replay::Replay;
use mainstay::testing::{Script, ServerConnection};

use super::{LONG, connect, next, path, server};

/// Where the program below finds its server and its file; without them it does nothing.
const URL: &str = "MAINSTAY_RECORDING_URL";
const FILE: &str = "MAINSTAY_RECORDING_FILE";
const INTERVAL: Duration = Duration::from_millis(200);
/// What the machine may add to that: the tests beside this one want its processors too.
const SLACK: Duration = Duration::from_millis(800);

/// Records, and sends back what it gets, until it is killed.
#[tokio::test]
#[ignore = "run by the test below, in a process of its own"]
async fn program() {
    let (Ok(url), Ok(file)) = (std::env::var(URL), std::env::var(FILE)) else {
        return;
    };
    // Nothing is written but by the clock.
    let record = Record::to(file)
        .flush_every(INTERVAL)
        .flush_at(1_000_000)
        .bounds(1_000_000, 1 << 30);
    let session = connect(url, record).await;
    let mut messages = session.messages();
    session.send_text("ready").await.expect("written");
    loop {
        if let Event::Data(data) = next(&mut messages).await {
            session.send(data.message).await.expect("written");
        }
    }
}

struct Killed(Child);

impl Killed {
    fn start(url: &str, file: &std::path::Path) -> Self {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "killing::program", "--ignored", "--nocapture"])
            .env(URL, url)
            .env(FILE, file)
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("a process"))
    }

    /// SIGKILL, and what is left of it.
    fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it is over");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It has been killed, or the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends numbers one by one until `enough`, and says when each was known to have come back.
async fn traffic(
    peer: &mut ServerConnection,
    first: usize,
    mut enough: impl FnMut(usize) -> bool,
) -> Vec<Instant> {
    let mut back = Vec::new();
    while !enough(back.len()) {
        let number = (first + back.len()).to_string();
        peer.send_text(number.clone()).await.expect("open");
        let text = tokio::time::timeout(LONG, peer.recv_text()).await;
        assert_eq!(text.expect("in time").expect("open"), number);
        back.push(Instant::now());
    }
    back
}

/// The numbers that were recorded, as they came and as they went.
fn numbers(entries: &[Entry], direction: Direction) -> Vec<usize> {
    let frames = entries.iter().filter(|entry| entry.direction == direction);
    let texts = frames.filter_map(|entry| entry.frame()?.as_text());
    texts.filter_map(|text| text.parse().ok()).collect()
}

async fn read(file: &std::path::Path) -> (Vec<Entry>, u64) {
    let mut replay = Replay::open(file).await.expect("a recording");
    let mut entries = Vec::new();
    while let Some(entry) = replay.next().await.expect("readable") {
        entries.push(entry);
    }
    (entries, replay.skipped().malformed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_killed_process_nothing_older_than_a_flush_interval_is_lost_and_its_file_goes_on() {
    let server = server(Script::new()).await;
    let file = path("killed");
    let mut child = Killed::start(&server.url(), &file);
    let peer = tokio::time::timeout(LONG, server.next_connection()).await;
    let mut peer = peer.expect("in time").expect("a connection");

    let ready = tokio::time::timeout(LONG, peer.recv_text()).await;
    ready.expect("in time").expect("somebody listens");
    let began = Instant::now();
    let back = traffic(&mut peer, 0, |_| began.elapsed() > 2 * (INTERVAL + SLACK)).await;
    let killed = Instant::now();
    child.kill();

    let (entries, torn) = read(&file).await;
    assert!(torn <= 1, "{torn} lines were torn");
    let old = back
        .iter()
        .filter(|at| killed.duration_since(**at) > INTERVAL + SLACK)
        .count();
    assert!(old > 0, "there was traffic before the last interval");
    for direction in [Direction::In, Direction::Out] {
        let kept = numbers(&entries, direction);
        assert!(kept.len() >= old, "{} of {old} are kept", kept.len());
        assert!(
            kept.iter().copied().eq(0..kept.len()),
            "each once, in order"
        );
    }

    // As if it had been killed in the middle of a line, and of a letter.
    let mut broken = std::fs::OpenOptions::new().append(true).open(&file);
    let torn_line =
        &b"{\"ts\":\"2026-01-01T00:00:00.000000Z\",\"dir\":\"in\",\"data\":\"caf\xc3"[..];
    let broken = broken.as_mut().expect("it is there");
    broken.write_all(torn_line).expect("written");

    let before = entries.len();
    let session = connect(server.url(), Record::to(&file).append(true)).await;
    let peer = tokio::time::timeout(LONG, server.next_connection()).await;
    let peer = peer.expect("in time").expect("a connection");
    let mut messages = session.messages();
    peer.send_text("after it").await.expect("open");
    assert!(matches!(next(&mut messages).await, Event::Data(_)));
    session.shutdown().await;

    let (entries, torn_now) = read(&file).await;
    assert_eq!(torn_now, 1, "the line that was torn, and no other");
    let texts = entries[before..].iter();
    let texts: Vec<&str> = texts.filter_map(|entry| entry.frame()?.as_text()).collect();
    assert_eq!(texts, ["after it"]);
    assert!(
        entries.len() > before + 1,
        "the new session's beginning too"
    );
}
