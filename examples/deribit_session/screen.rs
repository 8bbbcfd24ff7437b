//! What the program shows: one line a second, and a summary at the end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::{Session, Statistics};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use crate::watch::{Board, lock};

/// The line that is printed once a second; stops when dropped.
pub(crate) struct Screen(JoinHandle<()>);

impl Screen {
    pub(crate) fn start(session: &Session, board: Arc<Mutex<Board>>) -> Self {
        let session = session.clone();
        Self(tokio::spawn(async move {
            let began = Instant::now();
            let mut seconds = interval(Duration::from_secs(1));
            seconds.tick().await;
            let mut before = 0;
            loop {
                seconds.tick().await;
                let now = lock(&board).clone();
                println!(
                    "{:>3} s  {:<22} {:>3} msg/s  mark {:>9.1}  bid {:>9.1}  ask {:>9.1}  trade {:>6}  orders {:>3}  gaps {:>2}",
                    began.elapsed().as_secs(),
                    session
                        .state()
                        .to_string()
                        .chars()
                        .take(22)
                        .collect::<String>(),
                    now.messages - before,
                    now.mark,
                    now.bid,
                    now.ask,
                    now.trade,
                    now.orders,
                    now.gaps,
                );
                before = now.messages;
            }
        }))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn summary(statistics: &Statistics, board: &Mutex<Board>) {
    let messages = lock(board).messages;
    println!("summary");
    println!("  messages consumed      {messages}");
    println!(
        "  frames in / out        {} / {}",
        statistics.frames_in, statistics.frames_out
    );
    println!("  connections opened     {}", statistics.opened);
    println!(
        "  reconnects by layer    client {}, adapter {}",
        statistics.reconnects_by_client, statistics.reconnects_by_adapter
    );
    println!("  restarts by actor      {}", table(&statistics.restarts));
    println!("  gaps by cause          {}", table(&statistics.gaps));
    println!("  ping round trip        {}", statistics.round_trip);
    println!("  request round trip     {}", statistics.requests);
    println!("  socket to consumer     {}", statistics.delivery);
}

fn table<K: std::fmt::Display>(counts: &std::collections::BTreeMap<K, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts
        .iter()
        .map(|(key, count)| format!("{key} {count}"))
        .collect::<Vec<_>>()
        .join(", ")
}
