//! The supervisor actor: a machine with a mailbox.
//!
//! Dull on purpose: letters become inputs, actions become keepers, commands and reports. Whoever has the
//! [`Household`]'s office does that, in its own task: the actor, or a keeper.
//!
//! Invariants: `handle` never waits; ractor's supervision events are used for one thing only, to
//! explain ends (the text of a stop, all of a child that has no wrapper), and cannot cause one; a foreign
//! stop ends the children in order too, in `post_stop`; a supervisor that is dropped dooms its children.

mod actions;
mod admin;
mod describe;
mod letters;
mod start;

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::AbortHandle;

use crate::event::Audience;
use crate::handle::SupervisorRef;
use crate::id::{ById, ChildId, Generation, SupervisorPath};
use crate::machine::Machine;
use crate::policy::Verdict;
use crate::runtime::foreign::{Strangers, discard};
use crate::runtime::household::{Attended, Doom, Fault, Household, Ledger, Token};
use crate::runtime::inbox::{Inbox, Letter, Letters, Reader, Wake};
use crate::runtime::keeper::Minding;
use crate::runtime::record::Record;
use crate::runtime::telemetry::Listeners;
use crate::spec::{ChildSpec, SupervisorSpec};

use admin::Callers;
pub(crate) use admin::{Call, Inspection};
use start::Deadlines;
pub(crate) use start::launch;

/// After how many letters others get a turn.
const PAUSE: u32 = 64;
/// How many letters are read with each of ractor's events.
const LETTERS_PER_EVENT: u32 = 2;

pub(crate) struct Supervisor;

pub(crate) struct Arguments {
    spec: Arc<SupervisorSpec>,
    record: Arc<Record>,
    listeners: Listeners,
    /// One of the listeners.
    audience: Arc<Audience>,
    token: Token,
    /// Where the reference is put once the actor exists.
    reference: Arc<OnceLock<SupervisorRef>>,
}

/// The supervisor's hand on one incarnation.
struct Charge {
    generation: Generation,
    record: Arc<Record>,
    /// The same for all its incarnations.
    path: SupervisorPath,
    /// Set when it is up, cleared when it has ended.
    up: bool,
    /// Set by the first order to end it.
    told: bool,
    /// When it came up; set and cleared with `up`.
    started_at: Option<SystemTime>,
    /// Its actor while it is up, where it is one.
    cell: Option<ActorCell>,
    /// Set by the launch when the child is a supervisor; for snapshots.
    supervisor: Option<Arc<OnceLock<SupervisorRef>>>,
}

pub(crate) struct State {
    machine: Machine,
    specs: ById<Arc<ChildSpec>>,
    spec: Arc<SupervisorSpec>,
    path: SupervisorPath,
    record: Arc<Record>,
    listeners: Listeners,
    charges: ById<Charge>,
    /// Children without a wrapper.
    strangers: Arc<Strangers>,
    /// The reading side of the inbox.
    letters: Letters,
    household: Arc<Household>,
    deadlines: Deadlines,
    /// Keepers that are to begin when the letters have been read.
    births: Vec<Minding>,
    /// What a panic left while a letter was read: the supervisor fails with it.
    fault: Option<Fault>,
    /// When all children were up for the first time.
    ready_since: Option<(SystemTime, std::time::Instant)>,
    reference: SupervisorRef,
    timer: Option<(std::time::Instant, AbortHandle)>,
    /// Who waits for what.
    callers: Callers,
    /// Children that somebody wants to add or to change; taken when the machine agrees.
    candidates: Vec<Arc<ChildSpec>>,
    /// What somebody wants this supervisor to be from now on; taken when the machine agrees.
    change: Option<SupervisorSpec>,
    /// What was said of the end that is being acted upon.
    judged: Option<(ChildId, Verdict)>,
    /// What stopped children are told.
    text: Arc<str>,
    ended: bool,
}

impl Drop for State {
    fn drop(&mut self) {
        self.vacate();
        self.household.doom.come();
        self.listeners.close();
        if let Some((_, timer)) = &self.timer {
            timer.abort();
        }
    }
}

/// The actor's hold on its office, which closes with the actor.
pub(crate) struct Tenure {
    household: Arc<Household>,
    /// Children without a wrapper.
    strangers: Arc<Strangers>,
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.household.close();
    }
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Supervisor {
    type Msg = Wake;
    type State = Tenure;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Wake>,
        arguments: Arguments,
    ) -> Result<Tenure, ActorProcessingErr> {
        let (inbox, letters) = Inbox::new(myself.clone());
        let doom = Arc::new(Doom::default());
        let ledger = Arc::new(Ledger::default());
        let spec = arguments.spec;
        let reference = SupervisorRef::new(
            myself.get_cell(),
            arguments.record.clone(),
            inbox.clone(),
            doom.clone(),
            ledger.clone(),
            arguments.audience,
            &spec,
        );
        // Nobody else sets it.
        let _ = arguments.reference.set(reference.clone());
        let machine = Machine::new(spec.rules(), spec.children.iter().map(|child| child.plan()));
        let strangers: Arc<Strangers> = Arc::default();
        let household = Household::new(inbox, ledger, doom, arguments.token);
        let tenure = Tenure {
            household: household.clone(),
            strangers: strangers.clone(),
        };
        household.open(State {
            machine,
            specs: spec
                .children
                .iter()
                .map(|child| (child.id.clone(), child.clone()))
                .collect(),
            path: arguments.record.path(),
            spec,
            record: arguments.record,
            listeners: arguments.listeners,
            charges: ById::default(),
            strangers,
            letters,
            household: household.clone(),
            deadlines: Deadlines::default(),
            births: Vec::new(),
            fault: None,
            ready_since: None,
            reference,
            timer: None,
            callers: Callers::default(),
            candidates: Vec::new(),
            change: None,
            judged: None,
            text: "shutdown".into(),
            ended: false,
        });
        household.inbox.put(Letter::Boot);
        Ok(tenure)
    }

    async fn handle(
        &self,
        myself: ActorRef<Wake>,
        _: Wake,
        tenure: &mut Tenure,
    ) -> Result<(), ActorProcessingErr> {
        let household = &tenure.household;
        household.inbox.answer();
        tenure.strangers.have_been_heard();
        loop {
            let Attended { more, ended } = household.attend(Reader::Mailbox, PAUSE);
            if ended {
                myself.stop(None);
            }
            if !more {
                return Ok(());
            }
            // A kill, and on a single worker everybody else, gets in between.
            tokio::task::yield_now().await;
        }
    }

    /// Stopped by somebody else, or at the end of its own: whoever is left is ended in order.
    async fn post_stop(
        &self,
        _: ActorRef<Wake>,
        tenure: &mut Tenure,
    ) -> Result<(), ActorProcessingErr> {
        let household = &tenure.household;
        household.note_orderly_end();
        household.with(|state| {
            if !state.ended {
                let text = state.text.clone();
                household.inbox.order_end(None, text);
            }
        });
        loop {
            let Attended { more, ended } = household.attend(Reader::Mailbox, PAUSE);
            if ended {
                return Ok(());
            }
            if more {
                tokio::task::yield_now().await;
            } else {
                household.inbox.woken().await;
            }
        }
    }

    /// ractor's default would end the supervisor with any child, and with anybody it monitors.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Wake>,
        event: SupervisionEvent,
        tenure: &mut Tenure,
    ) -> Result<(), ActorProcessingErr> {
        let household = &tenure.household;
        // ractor sends it before the task ends, and this port comes before the mailbox: the text
        // is there when the supervisor itself reads of the end.
        match tenure.strangers.sight(event) {
            Some(SupervisionEvent::ActorTerminated(who, remainder, text)) => {
                if text.is_some() {
                    household.with(|state| state.note_text(who.get_id(), text));
                }
                discard(remainder);
            }
            other => discard(other),
        }
        // This port comes before the mailbox: without this, whoever asks would wait for all of them.
        if household.inbox.has_woken() {
            let Attended { ended, .. } = household.attend(Reader::Keeper, LETTERS_PER_EVENT);
            if ended {
                myself.stop(None);
            }
        }
        Ok(())
    }
}
