//! The place behind an address: who is up there, and what is known of them.
//!
//! Its own file because it has another caller: records fill and empty it, while addresses only look.
//!
//! Invariants: of two incarnations the later one has the place, whichever is heard of last; whoever was told that
//! the place is empty reaches nobody there any more.

use std::any::{Any, TypeId};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use ractor::{ActorCell, ActorRef, Message};
use tokio::sync::watch;
use tokio::time::Instant;

use super::AddressStatus;
use super::shortcut::{Mark, Sent, Sign};
use crate::exit::ExitReason;
use crate::id::Generation;
use crate::runtime::record::{Record, lock};

/// An incarnation that is up.
pub(super) struct Incumbent<M> {
    pub(super) actor: ActorRef<M>,
    pub(super) record: Arc<Record>,
    pub(super) generation: Generation,
    pub(super) mark: Mark,
    pub(super) sent: Arc<Sent>,
}

/// What the clones of an address share.
pub(super) struct Place<M> {
    pub(super) incumbent: ArcSwapOption<Incumbent<M>>,
    /// Shows the incumbent from after it came to before it goes.
    pub(super) sign: Sign,
    pub(super) status: watch::Sender<AddressStatus>,
    /// The last incarnation that was up; kept after its end for late monitors.
    pub(super) latest: Mutex<Option<Arc<Record>>>,
}

/// Makes an address of a kind that only its maker knows.
pub(crate) type MakeBinding = fn() -> Arc<dyn Binding>;

/// The side of an address that a child spec holds.
pub(crate) trait Binding: Send + Sync {
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn message_type(&self) -> TypeId;
    /// Whether an actor takes these messages; unknown of a remote one, which is taken on trust.
    fn fits(&self, cell: &ActorCell) -> bool;
    /// How many messages went to that incarnation through this address.
    fn sent(&self, generation: Generation) -> u64;
    /// Takes in an incarnation that was up and has ended.
    fn recall(&self, record: &Arc<Record>, reason: &Arc<ExitReason>);
    fn up(&self, cell: &ActorCell, record: &Arc<Record>);
    fn leaving(&self, generation: Generation);
    fn restarting(&self, generation: Generation, attempt: u32, next_at: Instant);
    fn ended(&self, generation: Generation, reason: &Arc<ExitReason>);
    fn down(&self, generation: Generation, reason: &Arc<ExitReason>);
}

impl<M: Message> Place<M> {
    /// Nobody has been up here.
    pub(super) fn new() -> Self {
        Self {
            incumbent: ArcSwapOption::empty(),
            sign: Sign::new(),
            status: watch::Sender::new(AddressStatus::Unbound),
            latest: Mutex::new(None),
        }
    }

    /// Empties the place, unless a later incarnation has taken it.
    fn vacate(&self, generation: Generation) {
        if let Some(incumbent) = &*self.incumbent.load()
            && incumbent.generation == generation
        {
            self.sign.clear(incumbent.mark);
        }
        self.incumbent.rcu(|incumbent| {
            incumbent
                .as_ref()
                .filter(|incumbent| incumbent.generation != generation)
                .cloned()
        });
    }
}

impl<M: Message> Binding for Place<M> {
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn message_type(&self) -> TypeId {
        TypeId::of::<M>()
    }

    fn fits(&self, cell: &ActorCell) -> bool {
        cell.is_message_type_of::<M>() != Some(false)
    }

    fn sent(&self, generation: Generation) -> u64 {
        let incumbent = self.incumbent.load();
        incumbent
            .as_ref()
            .filter(|incumbent| incumbent.generation == generation)
            .map_or(0, |incumbent| incumbent.sent.total())
    }

    fn recall(&self, record: &Arc<Record>, reason: &Arc<ExitReason>) {
        *lock(&self.latest) = Some(record.clone());
        self.status
            .send_replace(AddressStatus::Down(reason.clone()));
    }

    fn up(&self, cell: &ActorCell, record: &Arc<Record>) {
        *lock(&self.latest) = Some(record.clone());
        let mark = Mark::new();
        self.incumbent.store(Some(Arc::new(Incumbent {
            actor: ActorRef::from(cell.clone()),
            record: record.clone(),
            generation: record.generation,
            mark,
            sent: Arc::default(),
        })));
        self.sign.show(mark);
        self.status
            .send_replace(AddressStatus::Up(record.generation));
    }

    fn leaving(&self, generation: Generation) {
        self.vacate(generation);
        self.status.send_if_modified(|status| {
            let mine = matches!(status, AddressStatus::Up(up) if *up == generation);
            if mine {
                *status = AddressStatus::Leaving(generation);
            }
            mine
        });
    }

    fn restarting(&self, generation: Generation, attempt: u32, next_at: Instant) {
        self.status.send_if_modified(|status| {
            let known = match status {
                // A later incarnation may be up already.
                AddressStatus::Up(up) => *up > generation,
                AddressStatus::Restarting {
                    attempt: before,
                    next_at: due,
                } => (*before, *due) == (attempt, next_at),
                AddressStatus::Unbound | AddressStatus::Leaving(_) | AddressStatus::Down(_) => {
                    false
                }
            };
            if !known {
                *status = AddressStatus::Restarting { attempt, next_at };
            }
            !known
        });
    }

    fn ended(&self, generation: Generation, reason: &Arc<ExitReason>) {
        self.vacate(generation);
        self.status.send_if_modified(|status| {
            let mine = matches!(
                status,
                AddressStatus::Up(of) | AddressStatus::Leaving(of) if *of == generation
            );
            if mine {
                *status = AddressStatus::Down(reason.clone());
            }
            mine
        });
    }

    fn down(&self, generation: Generation, reason: &Arc<ExitReason>) {
        self.status.send_if_modified(|status| {
            let later = matches!(status, AddressStatus::Up(up) if *up > generation);
            if !later {
                *status = AddressStatus::Down(reason.clone());
            }
            !later
        });
    }
}
