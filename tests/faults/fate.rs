//! The fate promise at every byte: whichever byte of a request, or of its answer, is the last one that passes, and
//! however the line ends then, what the request says of itself is what the venue's log says.

use std::time::Duration;

use futures_util::future::join_all;
use mainstay::config::{Liveness, WireBackend};
use mainstay::error::RequestError;
use mainstay::protocol::reconcile::{Finding, Reconcile};
use mainstay::protocol::rpc::{Class, Params};
use mainstay::supervisors::backoff::Backoff;
use mainstay::testing::faults::{
    FaultEntry, FaultEntryKind, FaultPlatform, FaultScript, FaultServer, FaultStep, FaultWire,
    SeenFate, SeenRequest, check_fates,
};
use mainstay::{Session, TypedCall};
use serde_json::{Value, json};

/// Longer than any frame here; a cut behind it never comes.
const BEYOND: u64 = 1000;

/// How a request may be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    AtMostOnce,
    Idempotent,
    /// At most once, with a query about its fate.
    Reconciled,
}

impl Kind {
    fn call(self, order: u64) -> TypedCall<Value> {
        let params = Params::new().with("order", &order);
        match self {
            Self::AtMostOnce => TypedCall::new("order", params, Class::AtMostOnce),
            Self::Idempotent => TypedCall::new("order", params, Class::Idempotent),
            Self::Reconciled => {
                let find = TypedCall::<Value>::new("find", params.clone(), Class::Idempotent);
                let reconcile = Reconcile::new(find, |found| match found {
                    Ok(Value::Null) => Finding::NotExecuted,
                    Ok(_) => Finding::Executed(json!("found")),
                    Err(error) => Finding::CannotTell(error.to_string()),
                });
                TypedCall::new("order", params, Class::AtMostOnce).reconcile(reconcile)
            }
        }
    }
}

/// One way for a line to be cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    after: u64,
    direction: &'static str,
    how: &'static str,
}

/// What became of the orders, and what the venue has to say about it.
struct Story {
    seen: Vec<(Kind, SeenRequest)>,
    log: Vec<FaultEntry>,
}

impl Story {
    /// How often this order came to the venue whole.
    fn received(&self, order: u64) -> usize {
        let texts = self.log.iter().filter_map(|entry| match &entry.kind {
            FaultEntryKind::Received { text } => serde_json::from_str::<Value>(text).ok(),
            _ => None,
        });
        texts
            .filter(|text| text["method"] == "order" && text["params"]["order"] == order)
            .count()
    }

    fn happened_on_the_first(&self, kind: &FaultEntryKind) -> bool {
        let mut log = self.log.iter();
        log.any(|entry| entry.connection == 1 && entry.kind == *kind)
    }

    /// Whether it was carried out on the line that was cut.
    fn executed(&self, order: u64) -> bool {
        self.happened_on_the_first(&FaultEntryKind::Executed { order })
    }

    /// Whether its answer left the venue whole, on the line that was cut.
    fn answered(&self, order: u64) -> bool {
        self.happened_on_the_first(&FaultEntryKind::Answered { order, whole: true })
    }

    /// What was said is true, and no vaguer than it has to be.
    fn judge(&self, cut: Cut) {
        let requests: Vec<SeenRequest> = self.seen.iter().map(|(_, seen)| seen.clone()).collect();
        let violations = check_fates(&self.log, &requests);
        assert!(violations.is_empty(), "{cut:?}: {violations:?}");
        for (kind, seen) in &self.seen {
            let (order, fate) = (seen.order, seen.fate);
            let told = format!("{cut:?}: order {order}, {kind:?}: {fate:?}\n{:?}", self.log);
            if fate == SeenFate::NotSent {
                assert_eq!(self.received(order), 0, "{told}");
            }
            if self.answered(order) {
                assert_eq!(fate, SeenFate::Answered, "{told}");
            }
            match kind {
                Kind::AtMostOnce => assert!(self.received(order) <= 1, "{told}"),
                Kind::Idempotent => assert_eq!(fate, SeenFate::Answered, "{told}"),
                Kind::Reconciled => {
                    assert!(self.received(order) <= 1, "{told}");
                    assert_ne!(fate, SeenFate::Unknown, "{told}");
                }
            }
        }
    }
}

/// Places these orders at once, over a line that is cut after so many bytes behind an answer to something else.
async fn place(kinds: &[Kind], cut: Cut, wire: WireBackend) -> Story {
    let (after, direction, how) = (cut.after, cut.direction, cut.how);
    let cut = json!({ "cut": { "after": after, "direction": direction, "how": how } });
    let cut: FaultStep = serde_json::from_value(cut).expect("a step");
    let steps = vec![FaultStep::Await("ready".to_owned()), cut];
    let script = FaultScript::new("cut", [steps]).expect("a script");
    let venue = FaultServer::start(script, FaultWire::Memory)
        .await
        .expect("a venue");
    let config = venue
        .config()
        .wire(wire)
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .liveness(Liveness::new(
            Duration::from_millis(300),
            Duration::from_millis(300),
        ))
        .request_timeout(Duration::from_secs(5))
        .build()
        .expect("a configuration");
    let session = Session::start(FaultPlatform, config)
        .await
        .expect("a session");
    // The line is cut behind this answer's last byte.
    let ready: Result<Value, _> = session.request("ready", &json!({})).await;
    ready.expect("an answer");
    let orders = kinds.iter().zip(1..).map(async |(kind, order)| {
        let fate = fate(session.invoke(kind.call(order)).await);
        let repeatable = *kind == Kind::Idempotent;
        (*kind, SeenRequest::new(order, repeatable, fate))
    });
    let seen = join_all(orders).await;
    session.shutdown().await;
    let log = venue.log();
    venue.stop().await;
    Story { seen, log }
}

fn fate(result: Result<Value, RequestError>) -> SeenFate {
    match result {
        Ok(found) if found == "found" => SeenFate::Found,
        Ok(_) => SeenFate::Answered,
        Err(RequestError::Answered { .. }) => SeenFate::Refused,
        Err(RequestError::NotSent { .. }) => SeenFate::NotSent,
        Err(RequestError::Unknown { .. }) => SeenFate::Unknown,
        Err(RequestError::NotExecuted { .. }) => SeenFate::NotExecuted,
        Err(error) => panic!("{error:?}"),
    }
}

const ENDINGS: [&str; 3] = ["reset", "hang_up", "silence"];
const WIRES: [WireBackend; 2] = [WireBackend::Tungstenite, WireBackend::Fast];

/// Cuts at one byte after the other until the last order has passed whole, and at two more.
async fn at_every_byte(kinds: &[Kind], direction: &'static str, least: u64) {
    let last = kinds.len() as u64;
    for how in ENDINGS {
        let (mut after, mut more, mut unknown) = (0, 2, 0);
        while more > 0 {
            assert!(after < BEYOND, "the cut never came to the end");
            let cut = Cut {
                after,
                direction,
                how,
            };
            let mut passed = false;
            for wire in WIRES {
                // Many orders have many bytes; each is cut at by one of the wires.
                if last > 1 && (after % 2 == 0) == (wire == WireBackend::Fast) {
                    continue;
                }
                let story = place(kinds, cut, wire).await;
                story.judge(cut);
                passed = match direction {
                    "from_client" => story.executed(last),
                    _ => story.answered(last),
                };
                let mut seen = story.seen.iter();
                unknown += usize::from(seen.any(|(_, seen)| seen.fate == SeenFate::Unknown));
            }
            more -= u64::from(passed);
            after += 1;
        }
        assert!(after > least, "only {after} bytes were cut at");
        if kinds.contains(&Kind::AtMostOnce) {
            assert!(unknown > 0, "no cut ever made a fate unknown");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_of_an_order_tells_its_true_fate() {
    at_every_byte(&[Kind::AtMostOnce], "from_client", 40).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_of_an_orders_answer_tells_its_true_fate() {
    at_every_byte(&[Kind::AtMostOnce], "to_client", 40).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_of_a_read_is_mended_by_asking_again() {
    at_every_byte(&[Kind::Idempotent], "from_client", 40).await;
    at_every_byte(&[Kind::Idempotent], "to_client", 40).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_of_an_order_with_a_query_leaves_no_fate_unknown() {
    at_every_byte(&[Kind::Reconciled], "from_client", 40).await;
    at_every_byte(&[Kind::Reconciled], "to_client", 40).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_of_a_crowd_of_requests_tells_each_ones_true_fate() {
    let kinds = [Kind::AtMostOnce, Kind::Idempotent, Kind::Reconciled];
    at_every_byte(&kinds, "from_client", 120).await;
    at_every_byte(&kinds, "to_client", 120).await;
}
