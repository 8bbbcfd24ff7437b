//! Addresses over restarts of the child and of its supervisors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_supervisors::{
    Address, AddressStatus, Backoff, CallError, ChildSpec, Generation, Intensity, Jitter,
    ShutdownPlan, Strategy, SupervisorSpec,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::kit::{Do, Log, Script, generous, ping, puppet, scripted, started};

fn lazily(millis: u64) -> Backoff {
    Backoff::new(Duration::from_millis(millis), Duration::from_millis(millis))
        .jitter(Jitter::None)
        .first_immediate(false)
}

#[tokio::test(start_paused = true)]
async fn an_address_reaches_each_incarnation() {
    let address = Address::new();
    assert!(matches!(address.status(), AddressStatus::Unbound));
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, mut events) = started(spec).await;
    for generation in 1..5 {
        assert_eq!(address.generation(), Generation(generation));
        assert_eq!(address.cast(Do::Fail(1)).unwrap(), Generation(generation));
        events.restarted("a").await;
    }
    tree.shutdown(ShutdownPlan::default()).await;
    assert!(matches!(address.status(), AddressStatus::Down(_)));
    assert!(address.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_finds_nobody_is_handed_back() {
    let address = Address::new();
    let error = address.cast(Do::Fail(42)).unwrap_err();
    assert!(matches!(error.message, Do::Fail(42)));
    assert!(matches!(error.status, AddressStatus::Unbound));
    let call = address.call(Do::Ping, Duration::from_secs(1)).await;
    assert!(matches!(call, Err(CallError::NotUp { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_cast_can_wait_for_the_next_incarnation() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(
        puppet("a", &Log::default())
            .backoff(lazily(500))
            .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    let short = Duration::from_millis(100);
    let error = address.cast_when_up(Do::Fail(2), short).await.unwrap_err();
    assert!(matches!(error.status, AddressStatus::Restarting { .. }));
    let sent = address
        .cast_when_up(error.message, Duration::from_secs(5))
        .await;
    assert_eq!(sent.unwrap(), Generation(2));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// RX-19: neither hangs nor asks twice.
#[tokio::test(start_paused = true)]
async fn a_call_whose_incarnation_dies_fails_at_once() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, _events) = started(spec).await;
    let calling = address.clone();
    let call = tokio::spawn(async move { calling.call(Do::Keep, Duration::from_secs(60)).await });
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    address.cast(Do::Fail(1)).unwrap();
    let answer = call.await.unwrap();
    assert!(
        matches!(
            answer,
            Err(CallError::Died {
                generation: Generation(1),
                ..
            })
        ),
        "{answer:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(1));
    let patient = address.call(Do::Keep, Duration::from_secs(1)).await;
    assert!(matches!(
        patient,
        Err(CallError::NotUp { .. } | CallError::Timeout { .. })
    ));
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn an_address_outlives_a_restart_of_the_enclosing_supervisor() {
    let (inner, other) = (Address::new(), Address::new());
    let log = Log::default();
    let below = generous(Strategy::OneForOne).child(puppet("inner", &log).address(&inner));
    let spec = generous(Strategy::OneForAll)
        .child(ChildSpec::supervisor("below", below))
        .child(puppet("other", &log).address(&other));
    let (tree, mut events) = started(spec).await;
    other.cast(Do::Fail(1)).unwrap();
    events.restarted("other").await;
    assert_eq!(ping(&inner).await, 2);
    let snapshot = tree.snapshot().await;
    let inner = snapshot.find(["below", "inner"]).unwrap();
    assert_eq!(inner.path.to_string(), "root/below/inner");
    assert_eq!(inner.generation, Generation(2));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Whoever finds nobody learns when it is worth coming back, also for a child that is restarted along.
#[tokio::test(start_paused = true)]
async fn an_address_tells_when_the_next_incarnation_is_due() {
    let (failing, along) = (Address::new(), Address::new());
    let log = Log::default();
    let spec = generous(Strategy::OneForAll)
        .child(
            puppet("failing", &log)
                .backoff(lazily(500))
                .address(&failing),
        )
        .child(puppet("along", &log).address(&along));
    let (tree, mut events) = started(spec).await;
    for attempt in 1..=3 {
        failing.cast(Do::Fail(attempt)).unwrap();
        events.exited("failing").await;
        let due = tokio::time::Instant::now() + Duration::from_millis(500);
        for (address, expected) in [(&failing, attempt), (&along, 0)] {
            let AddressStatus::Restarting { attempt, next_at } = address.status() else {
                panic!("it is {}", address.status());
            };
            assert_eq!((attempt, next_at), (expected, due));
        }
        assert_eq!(
            failing.status().to_string(),
            format!("restarting, attempt {attempt}")
        );
        events.restarted("along").await;
        assert_eq!(tokio::time::Instant::now(), due);
    }
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Emptied when `post_stop` begins, not when it has ended.
#[tokio::test(start_paused = true)]
async fn an_address_is_emptied_at_the_first_sign_of_the_end() {
    let address = Address::new();
    let script = Script {
        stop_takes: Duration::from_secs(5),
        ..Script::default()
    };
    let spec = generous(Strategy::OneForOne).child(scripted("a", script).address(&address));
    let (tree, mut events) = started(spec).await;
    let mut changes = address.changes();
    address.cast(Do::Stop(None)).unwrap();
    assert!(matches!(
        changes.next().await,
        Some(AddressStatus::Leaving(Generation(1)))
    ));
    assert!(address.current().is_none());
    events.restarted("a").await;
    assert!(address.status().is_up());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// So often that the sender's thread remembers the incarnation by then.
const OFTEN: u64 = 30;

#[tokio::test(start_paused = true)]
async fn an_incarnation_that_was_cast_to_often_is_not_reached_once_it_leaves() {
    let address = Address::new();
    let child = puppet("a", &Log::default())
        .backoff(lazily(500))
        .address(&address);
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
    for generation in 1..4 {
        for _ in 0..OFTEN {
            let idle = Do::Sleep(Duration::ZERO);
            assert_eq!(address.cast(idle).unwrap(), Generation(generation));
        }
        address.cast(Do::Fail(7)).unwrap();
        events.exited("a").await;
        let error = address.cast(Do::Fail(8)).unwrap_err();
        assert!(matches!(error.message, Do::Fail(8)));
        assert!(matches!(error.status, AddressStatus::Restarting { .. }));
        events.restarted("a").await;
    }
    tree.shutdown(ShutdownPlan::default()).await;
    assert!(address.cast(Do::Fail(9)).is_err());
}

/// A stop is told after what was cast before, and from the first sign of it the address hands back.
#[tokio::test(start_paused = true)]
async fn what_is_cast_often_is_handed_back_while_the_incarnation_stops() {
    let address = Address::new();
    let script = Script {
        stop_takes: Duration::from_secs(5),
        ..Script::default()
    };
    let spec = generous(Strategy::OneForOne).child(scripted("a", script).address(&address));
    let (tree, mut events) = started(spec).await;
    let mut changes = address.changes();
    for _ in 0..OFTEN {
        address.cast(Do::Sleep(Duration::ZERO)).unwrap();
    }
    address.cast(Do::Stop(None)).unwrap();
    assert!(matches!(
        changes.next().await,
        Some(AddressStatus::Leaving(Generation(1)))
    ));
    let error = address.cast(Do::Fail(1)).unwrap_err();
    assert!(matches!(error.message, Do::Fail(1)));
    events.restarted("a").await;
    assert_eq!(ping(&address).await, 2);
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn casts_are_counted_whoever_makes_them() {
    let addresses: Vec<_> = (0..20).map(|_| Address::new()).collect();
    let log = Log::default();
    let children = addresses
        .iter()
        .enumerate()
        .map(|(number, address)| puppet(&number.to_string(), &log).address(address));
    let (tree, _events) = started(generous(Strategy::OneForOne).children(children)).await;
    for address in &addresses {
        address.cast(Do::Sleep(Duration::from_secs(60))).unwrap();
    }
    // More incarnations than a thread remembers, each often enough, by threads that end and one that does not.
    let often = |addresses: &[Address<Do>]| {
        for address in addresses {
            for _ in 0..OFTEN {
                address.cast(Do::Sleep(Duration::ZERO)).unwrap();
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| often(&addresses));
        scope.spawn(|| often(&addresses));
    });
    often(&addresses);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let snapshot = tree.snapshot().await;
    for number in 0..addresses.len() {
        let number = number.to_string();
        let node = snapshot.find([number.as_str()]).unwrap();
        // With the one that is being handled.
        assert_eq!(node.queue_depth, Some(3 * OFTEN + 1), "{number}");
    }
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Nobody can come up at it any more.
#[tokio::test(start_paused = true)]
async fn changes_end_with_the_last_of_an_address() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, events) = started(spec).await;
    for _ in 0..OFTEN {
        address.cast(Do::Sleep(Duration::ZERO)).unwrap();
    }
    let mut changes = address.changes();
    tree.shutdown(ShutdownPlan::default()).await;
    drop((tree, events, address));
    let end = tokio::time::timeout(Duration::from_secs(60), async {
        while changes.next().await.is_some() {}
    });
    end.await.expect("it is gone for good");
}

/// Counts what each incarnation handles.
struct Tallier(Arc<Mutex<HashMap<u64, u64>>>);

enum Tally {
    One,
    Fail,
}
mainstay_supervisors::message!(Tally);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Tallier {
    type Msg = Tally;
    type State = (u64, u64);
    type Arguments = u64;

    async fn pre_start(
        &self,
        _: ActorRef<Tally>,
        generation: u64,
    ) -> Result<(u64, u64), ActorProcessingErr> {
        Ok((generation, 0))
    }

    async fn handle(
        &self,
        _: ActorRef<Tally>,
        message: Tally,
        (generation, handled): &mut (u64, u64),
    ) -> Result<(), ActorProcessingErr> {
        *handled += 1;
        self.0.lock().unwrap().insert(*generation, *handled);
        match message {
            Tally::One => Ok(()),
            Tally::Fail => Err("as told".into()),
        }
    }
}

/// On a real clock: while an actor is restarted again and again, nobody who was told of an end reaches who ended, and no
/// incarnation gets more than was told to have gone to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_cast_while_it_restarts_reach_whom_they_are_told() {
    const RESTARTS: u64 = 50;
    let (address, handled) = (Address::<Tally>::new(), Arc::<Mutex<_>>::default());
    let tallied = handled.clone();
    let child = ChildSpec::actor("a", move |context| {
        Ok((Tallier(tallied.clone()), context.generation.0))
    });
    let often = Intensity::new(10_000, Duration::from_secs(5));
    let spec = SupervisorSpec::new(Strategy::OneForOne).intensity(often);
    let child = child.backoff(lazily(1)).address(&address);
    let tree = spec.child(child).start().await.unwrap();
    let casting = |failing: bool| {
        let address = address.clone();
        async move {
            let mut sent = HashMap::<u64, u64>::new();
            let (mut last, mut changes) = (0, address.changes());
            while last <= RESTARTS {
                let least = match address.status() {
                    AddressStatus::Up(generation) => generation.0,
                    AddressStatus::Leaving(generation) => generation.0 + 1,
                    _ => last,
                };
                let so_far = sent.get(&last).copied().unwrap_or_default();
                let message = match failing && so_far == OFTEN {
                    true => Tally::Fail,
                    false => Tally::One,
                };
                match address.cast(message) {
                    Ok(Generation(generation)) => {
                        assert!(generation >= least.max(last), "{generation} < {least}");
                        last = generation;
                        *sent.entry(generation).or_default() += 1;
                    }
                    // Nobody is up, which changes.
                    Err(_) => drop(changes.next().await),
                }
                if so_far > OFTEN {
                    // One who casts and casts leaves no room for an end.
                    tokio::task::yield_now().await;
                }
            }
            sent
        }
    };
    let senders = [true, false, false].map(|failing| tokio::spawn(casting(failing)));
    let sent = futures_util::future::try_join_all(senders).await.unwrap();
    tree.shutdown(ShutdownPlan::default()).await;
    for (generation, handled) in &*handled.lock().unwrap() {
        let sent: u64 = sent.iter().filter_map(|sent| sent.get(generation)).sum();
        assert!(*handled <= sent, "{generation}: {handled} of {sent}");
    }
}
