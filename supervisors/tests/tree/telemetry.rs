//! What `tracing` gets of trees that work. Which fields an event has is held against the catalogue in the
//! crate itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ChildSpec, Jitter, Restart, ShutdownPlan, Strategy, SupervisorEventKind,
    SupervisorSpec, Verdict,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::admin::id;
use crate::kit::{Do, LineDead, Log, Script, generous, ping, puppet, scripted, settle, started};

#[derive(Clone)]
struct Recorded {
    level: Level,
    fields: BTreeMap<String, String>,
}

impl Recorded {
    fn told(&self) -> String {
        let level = self.level.as_str().to_lowercase();
        let child = self.fields.get("child.id").map_or("", String::as_str);
        let generation = self.fields.get("child.generation");
        let generation = generation.map(|it| format!("#{it}")).unwrap_or_default();
        let told = format!("{level} {} {child}{generation}", self.fields["message"]);
        told.trim().to_owned()
    }
}

/// Keeps what this crate records on this thread, and the spans it opens.
#[derive(Clone, Default)]
pub(crate) struct Tape {
    records: Arc<Mutex<Vec<Recorded>>>,
    /// What was said in plain words, with the spans around it.
    said: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<Spanning>>>,
    entered: Arc<Mutex<Vec<span::Id>>>,
}

struct Spanning {
    name: String,
    parent: Option<span::Id>,
    handles: usize,
}

impl Tape {
    pub(crate) fn told(&self) -> Vec<String> {
        let records = self.records.lock().unwrap();
        records.iter().map(Recorded::told).collect()
    }

    pub(crate) fn find(&self, told: &str) -> BTreeMap<String, String> {
        let records = self.records.lock().unwrap();
        let found = records.iter().find(|record| record.told() == told);
        found.unwrap_or_else(|| panic!("no {told}")).fields.clone()
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }

    /// The spans that are open.
    fn open(&self) -> Vec<String> {
        let spans = self.spans.lock().unwrap();
        let open = spans.iter().filter(|span| span.handles > 0);
        open.map(|span| span.name.clone()).collect()
    }

    /// A span and those around it, from the outside.
    fn path(&self, id: Option<&span::Id>) -> String {
        let Some(id) = id else {
            return String::new();
        };
        let (name, parent) = {
            let span = &self.spans.lock().unwrap()[at(id)];
            (span.name.clone(), span.parent.clone())
        };
        match parent {
            Some(parent) => format!("{} > {name}", self.path(Some(&parent))),
            None => name,
        }
    }
}

fn at(id: &span::Id) -> usize {
    usize::try_from(id.into_u64()).unwrap() - 1
}

impl Visit for Recorded {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let name = field.name().to_owned();
        self.fields.insert(name, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields
            .insert(field.name().to_owned(), value.to_owned());
    }
}

impl Subscriber for Tape {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("supervisors")
            || metadata.target().starts_with("mainstay_supervisors")
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut read = Recorded {
            level: *attributes.metadata().level(),
            fields: BTreeMap::new(),
        };
        attributes.record(&mut read);
        let child = read.fields.get("child.id").map_or("", String::as_str);
        let name = format!("{} {child}", attributes.metadata().name());
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.clone()),
            None if attributes.is_contextual() => self.entered.lock().unwrap().last().cloned(),
            None => None,
        };
        let mut spans = self.spans.lock().unwrap();
        spans.push(Spanning {
            name: name.trim().to_owned(),
            parent,
            handles: 1,
        });
        span::Id::from_u64(spans.len() as u64)
    }

    fn clone_span(&self, id: &span::Id) -> span::Id {
        self.spans.lock().unwrap()[at(id)].handles += 1;
        id.clone()
    }

    fn try_close(&self, id: span::Id) -> bool {
        let span = &mut self.spans.lock().unwrap()[at(&id)];
        span.handles -= 1;
        span.handles == 0
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut record = Recorded {
            level: *event.metadata().level(),
            fields: BTreeMap::new(),
        };
        event.record(&mut record);
        if event.metadata().target() == "supervisors" {
            self.records.lock().unwrap().push(record);
            return;
        }
        let around = self.entered.lock().unwrap().last().cloned();
        let said = format!(
            "{}: {}",
            self.path(around.as_ref()),
            record.fields["message"]
        );
        self.said.lock().unwrap().push(said);
    }

    fn enter(&self, id: &span::Id) {
        self.entered.lock().unwrap().push(id.clone());
    }

    fn exit(&self, _: &span::Id) {
        self.entered.lock().unwrap().pop();
    }
}

/// An actor that says what it does.
struct Talker(&'static str);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Talker {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        tracing::info!(target: "supervisors.test", "starting {}", self.0);
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Do>, _: Do, (): &mut ()) -> Result<(), ActorProcessingErr> {
        Err(Box::new(LineDead(1)))
    }

    async fn post_stop(&self, _: ActorRef<Do>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        tracing::info!(target: "supervisors.test", "stopping {}", self.0);
        Ok(())
    }
}

fn talker(name: &'static str) -> ChildSpec {
    ChildSpec::actor(name, move |_| Ok((Talker(name), ())))
}

fn worker(name: &str, address: &Address<Do>) -> mainstay_supervisors::ChildSpec {
    puppet(name, &Log::default()).address(address)
}

/// OTP-ADM-12.
#[tokio::test(start_paused = true)]
async fn a_start_by_request_is_no_progress_report_and_a_restart_is_one() {
    let tape = Tape::default();
    let _recording = tracing::subscriber::set_default(tape.clone());
    let address = Address::new();
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(puppet("spec", &Log::default()))).await;
    tree.start_child(worker("added", &address)).await.unwrap();
    address.cast(Do::Fail(1)).unwrap();
    let event = events.restarted("added").await;
    assert!(event.added);
    tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(
        tape.told(),
        [
            "debug child.start spec#1",
            "info child.started spec#1",
            "info sup.ready",
            "debug child.start added#1",
            "debug child.started added#1",
            "error child.exit added#1",
            "debug child.restart_planned added#1",
            "debug child.start added#2",
            "info child.restarted added#2",
            "info sup.shutdown",
            "debug child.stop added#2",
            "debug child.stopped added#2",
            "debug child.stop spec#1",
            "debug child.stopped spec#1",
        ]
    );
}

/// OTP-LOG-02: at `info` a group restart is one report that says how many it stands for, and so is an end.
#[tokio::test(start_paused = true)]
async fn one_report_stands_for_the_whole_group() {
    let tape = Tape::default();
    let _recording = tracing::subscriber::set_default(tape.clone());
    let address = Address::new();
    let log = Log::default();
    let spec = generous(Strategy::OneForAll)
        .child(worker("a", &address))
        .children(["b", "c", "d"].map(|name| puppet(name, &log)));
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("d").await;
    tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(tape.find("info sup.ready")["children.count"], "4");
    let planned = tape.find("info child.restart_planned a#1");
    assert_eq!(planned["children.count"], "4");
    assert_eq!(planned["restart.window_used"], "1");
    assert_eq!(planned["supervisor.strategy"], "one_for_all");
    assert_eq!(tape.find("info sup.shutdown")["children.count"], "4");
    let told = tape.told();
    let bystanders = told.iter().filter(|told| told.contains("child.stopped"));
    assert_eq!(
        bystanders.cloned().collect::<Vec<_>>(),
        [
            "debug child.stopped d#1",
            "debug child.stopped c#1",
            "debug child.stopped b#1",
            "debug child.stopped d#2",
            "debug child.stopped c#2",
            "debug child.stopped b#2",
            "debug child.stopped a#2",
        ]
    );
}

/// RX-26: each incarnation has one record of its start, one of its end, one of what follows, and no span
/// of its life.
#[tokio::test(start_paused = true)]
async fn each_incarnation_is_recorded_once_and_no_span_lasts_as_long() {
    let tape = Tape::default();
    let _recording = tracing::subscriber::set_default(tape.clone());
    let address = Address::new();
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(worker("a", &address))).await;
    let mut actors = Vec::new();
    for code in 1..=3 {
        ping(&address).await;
        assert_eq!(tape.open(), Vec::<String>::new());
        actors.push(
            tree.which_child(&id("a"))
                .await
                .unwrap()
                .cell
                .unwrap()
                .get_id(),
        );
        address.cast(Do::Fail(code)).unwrap();
        events.restarted("a").await;
    }
    tree.shutdown(ShutdownPlan::default()).await;
    let mut told = tape.told();
    told.sort();
    let mut once = told.clone();
    once.dedup();
    assert_eq!(told, once);
    for (generation, actor) in (1..).zip(actors) {
        let exit = tape.find(&format!("error child.exit a#{generation}"));
        assert_eq!(exit["child.actor_id"], actor.to_string());
        assert_eq!(exit["exit.kind"], "failed");
        assert_eq!(
            exit["exit.reason"],
            format!("failed: the line is dead ({generation})")
        );
        assert_eq!(
            exit["exception.message"],
            format!("the line is dead ({generation})")
        );
        let planned = tape.find(&format!("debug child.restart_planned a#{generation}"));
        assert!(planned.contains_key("restart.delay_ms"));
        assert_eq!(planned["restart.attempt"], generation.to_string());
    }
    assert_eq!(tape.open(), Vec::<String>::new());
}

/// Section 5.6 of the design: spans around bounded work, each within what it is a part of, and the child's own
/// records within them.
#[tokio::test(start_paused = true)]
async fn starts_restarts_stops_and_shutdowns_are_spans_within_one_another() {
    let tape = Tape::default();
    let _recording = tracing::subscriber::set_default(tape.clone());
    let address = Address::new();
    let below = generous(Strategy::OneForAll)
        .child(talker("a").address(&address))
        .child(talker("b"));
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("below", below));
    let (tree, mut events) = started(spec).await;
    let started = tape.said();
    assert_eq!(
        started,
        [
            "child.start below > child.start a: starting a",
            "child.start below > child.start b: starting b",
        ]
    );
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("b").await;
    assert_eq!(
        tape.said(),
        [
            "child.restart a > child.stop b: stopping b",
            "child.restart a > child.start a: starting a",
            "child.restart a > child.start b: starting b",
        ]
    );
    tree.terminate_child(&id("below")).await.unwrap();
    let stops = [
        "child.stop below > sup.shutdown > child.stop b: stopping b",
        "child.stop below > sup.shutdown > child.stop a: stopping a",
    ];
    assert_eq!(tape.said(), stops);
    assert_eq!(tape.open(), Vec::<String>::new());

    tree.restart_child(&id("below")).await.unwrap();
    assert_eq!(tape.said(), started);
    assert_eq!(tape.open(), Vec::<String>::new());
    tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(
        tape.said(),
        stops.map(|told| format!("sup.shutdown > {told}"))
    );
    assert_eq!(tape.open(), Vec::<String>::new());
}

/// A restart that waits, and one that nobody wants any more, and the start and the stop of a task, which has
/// no callbacks to take them along.
#[tokio::test(start_paused = true)]
async fn a_span_ends_with_its_work_whatever_becomes_of_it() {
    let tape = Tape::default();
    let _recording = tracing::subscriber::set_default(tape.clone());
    let hour = Duration::from_secs(3600);
    let address = Address::new();
    let slow = worker("slow", &address).backoff(Backoff::new(hour, hour).first_immediate(false));
    let idle = ChildSpec::task("task", |_| std::future::pending::<Result<(), LineDead>>());
    let spec = generous(Strategy::RestForOne).children([slow, idle]);
    let (tree, _events) = started(spec).await;
    assert_eq!(tape.open(), Vec::<String>::new());
    address.cast(Do::Fail(1)).unwrap();
    settle().await;
    assert_eq!(tape.open(), ["child.restart slow"]);
    tree.terminate_child(&id("slow")).await.unwrap();
    tree.terminate_child(&id("task")).await.unwrap();
    assert_eq!(tape.open(), Vec::<String>::new());

    let stuck = Script {
        start_takes: hour,
        ..Script::default()
    };
    let fails = Script {
        fail_pre_start: true,
        ..Script::default()
    };
    for script in [stuck, fails] {
        let child = scripted("new", script).start_timeout(Duration::from_secs(1));
        tree.start_child(child).await.unwrap_err();
        assert_eq!(tape.open(), Vec::<String>::new());
    }
    tree.restart_child(&id("slow")).await.unwrap();
    address.cast(Do::Fail(2)).unwrap();
    settle().await;
    assert_eq!(tape.open(), ["child.restart slow"]);
    tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(tape.open(), Vec::<String>::new());
}

/// Where ractor hands the sender's span on with a message, a restart follows from it.
#[cfg(feature = "ractor-default")]
#[tokio::test(start_paused = true)]
async fn a_restart_follows_from_the_span_of_the_message_that_failed() {
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
    use tracing_subscriber::registry::{LookupSpan, Registry};

    #[derive(Clone, Default)]
    struct Links(Arc<Mutex<Vec<[&'static str; 2]>>>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Links {
        fn on_follows_from(&self, id: &span::Id, follows: &span::Id, context: Context<'_, S>) {
            let link = [id, follows].map(|id| context.span(id).unwrap().name());
            self.0.lock().unwrap().push(link);
        }
    }

    let links = Links::default();
    let _recording = tracing::subscriber::set_default(Registry::default().with(links.clone()));
    let address = Address::new();
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(worker("a", &address))).await;
    tracing::info_span!("order").in_scope(|| address.cast(Do::Fail(1)).unwrap());
    events.restarted("a").await;
    assert_eq!(*links.0.lock().unwrap(), [["child.restart", "order"]]);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A loss that `classify` foresaw needs nobody; the event says what was judged.
#[tokio::test(start_paused = true)]
async fn a_foreseen_loss_of_a_permanent_child_is_a_warning() {
    let tape = Tape::default();
    let _recording = tracing::subscriber::set_default(tape.clone());
    let foreseen = Verdict::Uncounted {
        stable: true,
        at_least: Duration::ZERO,
    };
    let address = Address::new();
    let child = worker("a", &address).classify(move |_| foreseen);
    let (tree, mut events) = started(SupervisorSpec::new(Strategy::OneForOne).child(child)).await;
    address.cast(Do::Fail(1)).unwrap();
    let exit = events
        .until(|event| matches!(event.kind, SupervisorEventKind::ChildExited { .. }))
        .await;
    assert_eq!(exit.verdict, foreseen);
    assert_eq!(exit.restart, Some(Restart::Permanent));
    events.restarted("a").await;
    tape.find("warn child.exit a#1");
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A start warns of restarts that nothing limits, once for each supervisor, and of no others.
#[tokio::test(start_paused = true)]
async fn unlimited_restarts_are_warned_of_at_the_start() {
    let tape = Tape::default();
    let _recording = tracing::subscriber::set_default(tape.clone());
    let log = Log::default();
    let minute = Duration::from_secs(60);
    let steady = Backoff::new(minute, minute)
        .jitter(Jitter::None)
        .first_immediate(false);
    let below = SupervisorSpec::new(Strategy::OneForOne)
        .child(puppet("usual", &log))
        .child(puppet("one", &log).backoff(steady))
        .child(puppet("two", &log).backoff(steady))
        .child(puppet("limited", &log).backoff(steady.max_attempts(3)))
        .child(
            puppet("once", &log)
                .backoff(steady)
                .restart(Restart::Temporary),
        );
    let spec =
        SupervisorSpec::new(Strategy::OneForOne).child(ChildSpec::supervisor("below", below));
    let (tree, _events) = started(spec).await;
    let records = tape.records.lock().unwrap().clone();
    let warned: Vec<&Recorded> = records
        .iter()
        .filter(|record| record.level == Level::WARN)
        .collect();
    let [warned] = warned[..] else {
        panic!("there are {}", warned.len());
    };
    assert!(warned.fields["message"].starts_with("unlimited restarts"));
    assert_eq!(warned.fields["supervisor.path"], "root/below");
    assert_eq!(warned.fields["child.id"], "one");
    assert_eq!(warned.fields["children.count"], "2");
    tree.shutdown(ShutdownPlan::default()).await;
}
