//! Watches the subscriptions: counts, says aloud what each was told, checks the venue's numbers once more.
//!
//! The library checks sequences itself; this checks *the library*, from what a consumer sees.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay::adapters::deribit::{Book, Ticker, Trades, UserOrders};
use mainstay::{Event, Message, Subscription};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::venue::Reach;

/// What is shown of all subscriptions.
#[derive(Debug, Default, Clone)]
pub(crate) struct Board {
    pub(crate) messages: u64,
    pub(crate) gaps: u64,
    pub(crate) mark: f64,
    pub(crate) bid: f64,
    pub(crate) ask: f64,
    pub(crate) trade: u64,
    pub(crate) orders: u64,
}

/// Gaps announced on one channel, and those after which data has come again.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    gaps: u64,
    resyncs: u64,
}

struct Watch {
    private: bool,
    told: watch::Receiver<Told>,
    _task: OnDrop,
}

struct OnDrop(JoinHandle<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// All subscriptions of the program.
pub(crate) struct Watches {
    board: Arc<Mutex<Board>>,
    missing: Arc<Mutex<u64>>,
    watches: Vec<Watch>,
}

/// How many gaps each subscription had been told of at one moment.
pub(crate) struct Mark(Vec<u64>);

impl Watches {
    pub(crate) fn new() -> Self {
        Self {
            board: Arc::default(),
            missing: Arc::default(),
            watches: Vec::new(),
        }
    }

    pub(crate) fn board(&self) -> Arc<Mutex<Board>> {
        Arc::clone(&self.board)
    }

    pub(crate) fn ticker(&mut self, subscription: Subscription<Ticker>) {
        self.watch(subscription, false, |board, tick: &Ticker| {
            board.mark = tick.mark_price.unwrap_or(board.mark);
            board.bid = tick.best_bid_price.unwrap_or(board.bid);
            board.ask = tick.best_ask_price.unwrap_or(board.ask);
            None
        });
    }

    pub(crate) fn book(&mut self, subscription: Subscription<Book>) {
        // A change names its predecessor; a snapshot begins anew.
        self.watch(subscription, false, |_, book: &Book| {
            Some((book.prev_change_id, book.change_id))
        });
    }

    pub(crate) fn trades(&mut self, subscription: Subscription<Trades>) {
        self.watch(subscription, false, |board, trades: &Trades| {
            let (first, last) = (
                trades.trades.first()?.trade_seq,
                trades.trades.last()?.trade_seq,
            );
            board.trade = last;
            Some((first.checked_sub(1), last))
        });
    }

    pub(crate) fn orders(&mut self, subscription: Subscription<UserOrders>) {
        self.watch(subscription, true, |board, _: &UserOrders| {
            board.orders += 1;
            None
        });
    }

    /// Follows one subscription; `read` shows a message and says which number must have come before
    /// it, and which one it ends with.
    fn watch<M: Message + Send>(
        &mut self,
        mut subscription: Subscription<M>,
        private: bool,
        read: impl Fn(&mut Board, &M) -> Option<(Option<u64>, u64)> + Send + 'static,
    ) {
        let channel = subscription.channel().unwrap_or("everything").to_owned();
        let (board, missing) = (Arc::clone(&self.board), Arc::clone(&self.missing));
        let (tell, told) = watch::channel(Told::default());
        let task = tokio::spawn(async move {
            let mut last: Option<u64> = None;
            // Restored is what delivers again, not what says that it will.
            let mut awaits_data = false;
            while let Some(event) = subscription.next().await {
                match event {
                    Event::Data(data) => {
                        if std::mem::take(&mut awaits_data) {
                            tell.send_modify(|told| told.resyncs += 1);
                        }
                        let mut board = lock(&board);
                        board.messages += 1;
                        if let Some((before, current)) = read(&mut board, &data) {
                            if let (Some(last), Some(before)) = (last, before)
                                && last != before
                            {
                                println!(
                                    "    {channel}: {last} was followed by {before}, undeclared"
                                );
                                *lock(&missing) += 1;
                            }
                            last = Some(current);
                        }
                    }
                    Event::Gap(gap) => {
                        last = None;
                        lock(&board).gaps += 1;
                        println!("    {channel}: gap in epoch {}: {}", gap.epoch, gap.cause);
                        tell.send_modify(|told| told.gaps += 1);
                    }
                    Event::Resynced(resynced) => {
                        println!(
                            "    {channel}: again in epoch {} after {:.3} s, {}",
                            resynced.epoch,
                            resynced.length.as_secs_f64(),
                            if resynced.complete {
                                "complete"
                            } else {
                                "NOT complete"
                            },
                        );
                        awaits_data = true;
                    }
                    Event::Ended(reason) => println!("    {channel}: over: {reason}"),
                    other => println!("    {channel}: {other}", other = Kind(&other)),
                }
            }
        });
        self.watches.push(Watch {
            private,
            told,
            _task: OnDrop(task),
        });
    }

    /// Now, for [`Watches::restored`].
    pub(crate) fn mark(&self) -> Mark {
        Mark(
            self.watches
                .iter()
                .map(|watch| watch.told.borrow().gaps)
                .collect(),
        )
    }

    /// Waits until each subscription that a fault reaches was told of a gap and of its end, and has
    /// received data again.
    pub(crate) async fn restored(&mut self, reach: Reach, mark: Mark, limit: Duration) -> bool {
        let all = async {
            for (watch, before) in self.watches.iter_mut().zip(mark.0) {
                if reach == Reach::Private && !watch.private {
                    continue;
                }
                let told = watch
                    .told
                    .wait_for(|told| told.gaps > before && told.resyncs >= told.gaps)
                    .await;
                if told.is_err() {
                    return false;
                }
            }
            true
        };
        let restored = timeout(limit, all).await.unwrap_or(false);
        if !restored {
            println!("    NOT RESTORED within {limit:?}");
        }
        restored
    }

    /// Sequence numbers that are missing although no gap was declared.
    pub(crate) fn missing(&self) -> u64 {
        *lock(&self.missing)
    }
}

/// An event's kind, without its payload.
struct Kind<'e, M>(&'e Event<M>);

impl<M> fmt::Display for Kind<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Event::Data(_) => "data",
            Event::Gap(_) => "gap",
            Event::Resynced(_) => "resynced",
            Event::Ended(_) => "ended",
            _ => "something new",
        })
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
