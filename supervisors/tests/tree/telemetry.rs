//! What `tracing` gets of trees that work. Which fields an event has is held against the catalogue in the
//! crate itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ChildSpec, Jitter, Restart, ShutdownPlan, Strategy, SupervisorEventKind,
    SupervisorSpec, Verdict,
};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::admin::id;
use crate::kit::{Do, Log, generous, ping, puppet, started};

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

/// Keeps what this crate records on this thread, and counts the spans it opens.
#[derive(Clone, Default)]
struct Tape {
    records: Arc<Mutex<Vec<Recorded>>>,
    spans: Arc<Mutex<u64>>,
}

impl Tape {
    fn told(&self) -> Vec<String> {
        let records = self.records.lock().unwrap();
        records.iter().map(Recorded::told).collect()
    }

    fn find(&self, told: &str) -> BTreeMap<String, String> {
        let records = self.records.lock().unwrap();
        let found = records.iter().find(|record| record.told() == told);
        found.unwrap_or_else(|| panic!("no {told}")).fields.clone()
    }
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
        metadata.target() == "supervisors" || metadata.target().starts_with("mainstay_supervisors")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        let mut spans = self.spans.lock().unwrap();
        *spans += 1;
        span::Id::from_u64(*spans)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut record = Recorded {
            level: *event.metadata().level(),
            fields: BTreeMap::new(),
        };
        event.record(&mut record);
        self.records.lock().unwrap().push(record);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
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
            "info child.started spec#1",
            "info sup.ready",
            "debug child.started added#1",
            "error child.exit added#1",
            "debug child.restart_planned added#1",
            "info child.restarted added#2",
            "info sup.shutdown",
            "debug child.stopped added#2",
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

/// RX-26: each incarnation has one record of its start, one of its end, one of what follows, and no span.
#[tokio::test(start_paused = true)]
async fn each_incarnation_is_recorded_once_and_without_a_span() {
    let tape = Tape::default();
    let _recording = tracing::subscriber::set_default(tape.clone());
    let address = Address::new();
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(worker("a", &address))).await;
    let mut actors = Vec::new();
    for code in 1..=3 {
        ping(&address).await;
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
    assert_eq!(*tape.spans.lock().unwrap(), 0);
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
