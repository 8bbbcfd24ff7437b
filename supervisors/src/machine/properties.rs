//! Properties of the machine against a simulated world that answers its actions in random ways.
//!
//! Invariants under test: one incarnation per child at a time, generations that grow, stops in
//! reverse order, starts in order, the intensity never exceeded, an end that leaves nobody behind;
//! each request answered exactly once, and nothing that was terminated coming back by itself.

mod world;

use std::time::Duration;

use proptest::prelude::{
    Just, ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::strategy::Strategy as Generator;

use super::{Population, Rules};
use crate::policy::{AutoShutdown, Intensity, OnExhausted, Restart, Strategy};
use world::{Call, Life, Turn, World};

fn turns() -> impl Generator<Value = Turn> {
    prop_oneof![
        6 => any::<u8>().prop_map(Turn::Pending),
        3 => (0usize..5, any::<u8>()).prop_map(|(at, how)| Turn::Crash(at, how)),
        3 => (0u16..400).prop_map(Turn::Pass),
        1 => (0usize..5).prop_map(Turn::Stale),
        3 => (calls(), 0usize..7).prop_map(|(call, id)| Turn::Call(call, id)),
    ]
}

fn calls() -> impl Generator<Value = Call> {
    prop_oneof![
        (0u8..3).prop_map(Call::Start),
        Just(Call::Terminate),
        Just(Call::Restart),
        Just(Call::Delete),
    ]
}

fn plans() -> impl Generator<Value = Vec<(Restart, bool)>> {
    proptest::collection::vec(
        (
            prop_oneof![
                Just(Restart::Permanent),
                Just(Restart::Transient),
                Just(Restart::Temporary)
            ],
            any::<bool>(),
        ),
        0..5,
    )
}

fn strategies() -> impl Generator<Value = Strategy> {
    prop_oneof![
        Just(Strategy::OneForOne),
        Just(Strategy::OneForAll),
        Just(Strategy::RestForOne)
    ]
}

fn exhaustions() -> impl Generator<Value = OnExhausted> {
    prop_oneof![Just(OnExhausted::Shutdown), Just(OnExhausted::Park)]
}

fn rules(strategy: Strategy, intensity: Intensity, auto_shutdown: AutoShutdown) -> Rules {
    Rules {
        strategy,
        intensity,
        auto_shutdown,
        on_exhausted: OnExhausted::Shutdown,
        population: Population::Fixed,
    }
}

fn modes() -> impl Generator<Value = AutoShutdown> {
    prop_oneof![
        Just(AutoShutdown::Never),
        Just(AutoShutdown::AnySignificant),
        Just(AutoShutdown::AllSignificant)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_happens_the_tree_stays_in_order_and_can_be_ended(
        strategy in strategies(),
        mode in modes(),
        max in 0u32..5,
        on_exhausted in exhaustions(),
        plans in plans(),
        story in proptest::collection::vec(turns(), 0..160),
    ) {
        let intensity = Intensity::new(max, Duration::from_millis(300));
        let rules = Rules {
            on_exhausted,
            ..rules(strategy, intensity, mode)
        };
        let mut world = World::new(rules, &plans);
        for turn in story {
            world.take(turn);
        }
        world.take(Turn::Shutdown);
        for _ in 0..60 {
            world.pending(255);
        }
        prop_assert!(world.machine.has_ended());
        prop_assert!(world.callers.is_empty(), "{:?} were never answered", world.callers);
        prop_assert_eq!(world.exits, 1);
        prop_assert!(world.live.is_empty());
        prop_assert_eq!(world.machine.next_timeout(), None);
    }

    /// The same of children that come by request only.
    #[test]
    fn a_dynamic_supervisor_keeps_to_its_limit_and_can_be_ended(
        max in 0u32..5,
        on_exhausted in exhaustions(),
        max_children in proptest::option::of(0usize..4),
        story in proptest::collection::vec(turns(), 0..160),
    ) {
        let intensity = Intensity::new(max, Duration::from_millis(300));
        let rules = Rules {
            on_exhausted,
            population: Population::Dynamic { max_children },
            ..rules(Strategy::OneForOne, intensity, AutoShutdown::Never)
        };
        let mut world = World::new(rules, &[]);
        for turn in story {
            world.take(turn);
        }
        world.take(Turn::Shutdown);
        for _ in 0..60 {
            world.pending(255);
        }
        prop_assert!(world.machine.has_ended());
        prop_assert!(world.callers.is_empty(), "{:?} were never answered", world.callers);
        prop_assert_eq!(world.exits, 1);
        prop_assert!(world.live.is_empty());
    }

    /// Without faults everybody comes up, and a group that lost one is whole again.
    #[test]
    fn a_permanent_group_is_whole_again_after_a_crash(
        strategy in strategies(),
        size in 1usize..5,
        crashed in 0usize..5,
    ) {
        let plans = vec![(Restart::Permanent, false); size];
        let intensity = Intensity::new(3, Duration::from_secs(1));
        let mut world = World::new(rules(strategy, intensity, AutoShutdown::Never), &plans);
        for _ in 0..size {
            world.pending(255);
        }
        prop_assert_eq!(world.ready, 1);
        let crashed = crashed % size;
        world.exit(crashed, 13);
        for _ in 0..3 * size {
            world.pending(255);
        }
        let from = match strategy {
            Strategy::OneForOne | Strategy::RestForOne => crashed,
            Strategy::OneForAll => 0,
        };
        for (at, (generation, life)) in &world.live {
            prop_assert_eq!(*life, Life::Running);
            let renewed = match strategy {
                Strategy::OneForOne => *at == crashed,
                Strategy::OneForAll | Strategy::RestForOne => *at >= from,
            };
            prop_assert_eq!(generation.0, if renewed { 2 } else { 1 });
        }
        prop_assert_eq!(world.live.len(), size);
    }
}
