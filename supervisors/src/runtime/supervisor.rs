//! The supervisor actor: a machine with a mailbox.
//!
//! Dull on purpose: letters become inputs, actions become keepers, commands and reports. Whoever has the
//! [`Household`]'s office does that, in its own task: the actor, or a keeper.
//!
//! Invariants: `handle` never waits; ractor's supervision events are used for one thing only, to
//! explain ends (the text of a stop, all of a child that has no wrapper), and cannot cause one; a foreign stop ends the children in order too, in
//! `post_stop`; a supervisor that is dropped dooms its children.

mod admin;
mod describe;
mod start;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::AbortHandle;

use crate::event::{Audience, SupervisorEvent, SupervisorEventKind};
use crate::exit::{ExitReason, contained};
use crate::handle::SupervisorRef;
use crate::id::{ById, ChildId, Generation, SupervisorPath};
use crate::machine::{Action, Input, Judged, Machine, Standing, StartRefusal};
use crate::policy::{Restart, Verdict};
use crate::runtime::foreign::{Strangers, discard};
use crate::runtime::household::{Attended, Doom, Fault, Household, Ledger, Token};
use crate::runtime::inbox::{Inbox, Letter, Letters, Reader, Wake};
use crate::runtime::keeper::Minding;
use crate::runtime::launch::Refusal;
use crate::runtime::record::{Obituary, Record};
use crate::runtime::telemetry::Listeners;
use crate::spec::{ChildSpec, Launch, SupervisorSpec};

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
            spec.keys.clone(),
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

impl State {
    fn note_text(&self, who: ActorId, text: Option<String>) {
        if let Some(record) = Record::of(who)
            && self
                .charges
                .get(&record.id)
                .is_some_and(|charge| Arc::ptr_eq(&charge.record, &record))
        {
            record.note_text(text);
        }
    }

    /// Takes a report that did not come by the inbox; gives it back when others are before it.
    pub(crate) fn take(&mut self, letter: Letter) -> Option<Letter> {
        if self.fault.is_some() || self.letters.defers(&letter) {
            return Some(letter);
        }
        self.contain(letter);
        None
    }

    /// Reads so many letters at most.
    pub(crate) fn attend(&mut self, reader: Reader, limit: u32) -> Attended {
        let mut read = 0;
        while self.fault.is_none() && read < limit {
            let Some(letter) = self.letters.take(reader) else {
                break;
            };
            self.contain(letter);
            read += 1;
        }
        Attended {
            more: read == limit || self.fault.is_some() || self.letters.is_deferred(),
            ended: self.ended,
        }
    }

    /// What a letter holds is dropped here, and some of it is the user's.
    fn contain(&mut self, letter: Letter) {
        self.fault = catch_unwind(AssertUnwindSafe(|| self.read(letter))).err();
    }

    pub(crate) fn births(&mut self) -> impl Iterator<Item = Minding> {
        self.births.drain(..)
    }

    pub(crate) fn fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    fn read(&mut self, letter: Letter) {
        let mut obituary = None;
        let input = match letter {
            Letter::Boot => Input::Boot,
            Letter::Started {
                child,
                generation,
                cell,
            } => {
                if let Some(charge) = self.charges.get_mut(&child)
                    && charge.generation == generation
                {
                    charge.up = true;
                    charge.started_at = Some(SystemTime::now());
                    charge.cell = cell;
                }
                self.spend(&child);
                Input::Started { child, generation }
            }
            Letter::Refused {
                child,
                generation,
                refusal,
            } => Input::Refused {
                refusal: match refusal {
                    Refusal::Ignored => StartRefusal::Ignored,
                    Refusal::Postponed(delay) => StartRefusal::Postponed(delay),
                    Refusal::Failed(reason) => StartRefusal::Failed {
                        judged: self.judge(&child, &reason),
                        reason,
                    },
                },
                child,
                generation,
            },
            Letter::Exited {
                child,
                generation,
                parting,
                obituary: mut notice,
            } => {
                notice.complete();
                if let Some(charge) = self.charges.get_mut(&child) {
                    charge.up = false;
                    charge.started_at = None;
                    charge.cell = None;
                }
                let reason = notice.reason.clone();
                obituary = Some(notice);
                Input::Exited {
                    judged: self.judge(&child, &reason),
                    child,
                    generation,
                    reason,
                    parting,
                }
            }
            Letter::Tick => {
                self.timer = None;
                self.expire_starts();
                Input::Tick
            }
            Letter::Shutdown { deadline, text } => {
                self.text = text;
                Input::Shutdown { deadline }
            }
            Letter::Describe(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.describe());
                return;
            }
            Letter::Call(call) => match self.take_call(call) {
                Some(input) => input,
                None => return,
            },
        };
        self.judged = match &input {
            Input::Exited { child, judged, .. }
            | Input::Refused {
                child,
                refusal: StartRefusal::Failed { judged, .. },
                ..
            } => Some((child.clone(), judged.verdict)),
            _ => None,
        };
        let mut actions = self.machine.step(now(), input);
        for action in actions.drain(..) {
            self.carry_out(action, &mut obituary);
        }
        self.machine.recycle(actions);
        drop(obituary);
        self.candidates.clear();
        self.change = None;
        self.arm_timer();
    }

    /// A temporary child that is up is never made again: what its factory holds is let go.
    fn spend(&mut self, child: &ChildId) {
        if let Some(spec) = self.specs.get_mut(child)
            && spec.restart == Restart::Temporary
        {
            let make_binding = match &spec.launch {
                Launch::Worker(launcher) => launcher.make_binding(),
                Launch::Made(_) => None,
                Launch::Supervisor(_) | Launch::Spent(..) => return,
            };
            let spec = Arc::make_mut(spec);
            spec.launch = Launch::Spent(spec.kind(), make_binding);
        }
    }

    /// The child's own judgement of its end.
    fn judge(&self, child: &ChildId, reason: &ExitReason) -> Judged {
        let classify = self.specs.get(child).and_then(|spec| spec.classify.clone());
        let verdict = match classify {
            None => Verdict::Default,
            Some(classify) => contained(|| classify(reason)).unwrap_or_else(|| {
                tracing::error!(
                    target: "supervisors",
                    { supervisor.path = %self.path, child.id = child.as_str() },
                    "classify panicked"
                );
                Verdict::Default
            }),
        };
        Judged {
            verdict,
            random: fastrand::f64(),
        }
    }

    fn carry_out(&mut self, action: Action, obituary: &mut Option<Obituary>) {
        // Observers and addresses know first, then monitors, and only then is the end acted upon.
        if !matches!(action, Action::Notice { .. } | Action::Settle { .. }) {
            drop(obituary.take());
        }
        match action {
            Action::Notice {
                child,
                generation,
                kind,
            } => {
                if matches!(kind, SupervisorEventKind::Shutdown { .. }) {
                    self.vacate();
                }
                self.announce(child, generation, kind);
            }
            Action::Settle {
                child,
                generation,
                standing,
            } => {
                if let Some(spec) = self.specs.get(&child) {
                    for binding in &spec.bindings {
                        match &standing {
                            Standing::Restarting => binding.restarting(generation),
                            Standing::Down(reason) => binding.down(generation, reason),
                        }
                    }
                }
            }
            Action::Start {
                child,
                generation,
                attempt,
                previous,
            } => self.start(&child, generation, attempt, previous),
            Action::Stop {
                child,
                generation,
                order,
            } => {
                if let Some(charge) = self.charges.get(&child)
                    && charge.generation == generation
                {
                    charge.record.command(order, self.text.clone());
                }
            }
            Action::Admit(child) => {
                let found = self.candidates.iter().position(|spec| spec.id == child);
                if let Some(spec) = found.map(|at| self.candidates.swap_remove(at)) {
                    self.specs.insert(child, spec);
                }
            }
            Action::Forget(child) => {
                self.specs.remove(&child);
                self.charges.remove(&child);
            }
            Action::Reply(ticket, answer) => self.reply(ticket, answer),
            Action::Ready => {
                for seat in &self.spec.seats {
                    seat.up(&self.reference);
                }
                self.ready_since = Some((SystemTime::now(), now()));
                self.record.note_ready();
            }
            Action::Exit(cause) => {
                self.record.note_cause(cause);
                self.ended = true;
            }
        }
    }

    /// Addresses of this supervisor no longer reach it.
    fn vacate(&self) {
        for seat in &self.spec.seats {
            seat.leaving(&self.reference);
        }
    }

    fn announce(&self, child: Option<ChildId>, generation: Generation, kind: SupervisorEventKind) {
        if !self.listeners.is_anybody() {
            return;
        }
        let spec = child.as_ref().and_then(|child| self.specs.get(child));
        let charge = child
            .as_ref()
            .and_then(|child| self.charges.get(child))
            .filter(|charge| charge.generation == generation);
        let judged = self
            .judged
            .as_ref()
            .filter(|(judged, _)| Some(judged) == child.as_ref());
        let event = SupervisorEvent {
            path: self.path.clone(),
            strategy: self.spec.strategy,
            generation,
            child_kind: spec.map(|spec| spec.kind()),
            restart: spec.map(|spec| spec.restart),
            added: spec.is_some_and(|spec| spec.added),
            actor: charge.and_then(|charge| charge.record.actor()),
            verdict: judged.map(|(_, verdict)| *verdict).unwrap_or_default(),
            children: match &kind {
                SupervisorEventKind::RestartPlanned { group, .. } => group.len(),
                SupervisorEventKind::Ready | SupervisorEventKind::Shutdown { .. } => {
                    self.charges.values().filter(|charge| charge.up).count()
                }
                _ => usize::from(child.is_some()),
            },
            child,
            kind,
        };
        self.listeners.announce(&event);
    }

    /// One timer, for whatever is due next: the machine's next deadline, or the next start that takes too
    /// long. One that rings too early is no harm, and costs less than a new one for each start.
    fn arm_timer(&mut self) {
        self.sweep_deadlines();
        let wanted = [self.machine.next_timeout(), self.deadlines.next()];
        let Some(due) = wanted.into_iter().flatten().min() else {
            return;
        };
        if let Some((armed, timer)) = &self.timer {
            if *armed <= due {
                return;
            }
            timer.abort();
        }
        let inbox = self.household.inbox.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            inbox.put(Letter::Tick);
        });
        self.timer = Some((due, timer.abort_handle()));
    }
}
