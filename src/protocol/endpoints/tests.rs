//! Which place is chosen after what, and what no series of ends and probes brings about.

use proptest::prelude::*;

use super::*;
use crate::error::HttpResponse;

const SECOND: Duration = Duration::from_secs(1);
const STABLE: Duration = Duration::from_secs(10);

fn places(count: usize) -> (Endpoints, Instant) {
    let now = Instant::now();
    (Endpoints::new(count, STABLE, now), now)
}

fn open(_: usize) -> Option<Option<Instant>> {
    None
}

fn scores(endpoints: &mut Endpoints, now: Instant) -> Vec<u8> {
    let standings = endpoints.standings(now).into_iter();
    standings.map(|standing| standing.score).collect()
}

#[test]
fn the_first_is_chosen_while_nothing_is_known_against_it() {
    let (mut endpoints, now) = places(3);
    assert_eq!(endpoints.choose(open, now), 0);
    endpoints.on_live(now);
    endpoints.on_end(Ending::Lost, None, now + STABLE);
    assert_eq!(endpoints.choose(open, now + STABLE), 0, "it was stable");
}

#[test]
fn each_failure_costs_what_its_class_says() {
    for (ending, score) in [
        (Ending::Unreached, 50),
        (Ending::Refused, 60),
        (Ending::Lost, 70),
        (Ending::Silent, 70),
        (Ending::Never, 0),
        (Ending::Other, 100),
    ] {
        let (mut endpoints, now) = places(2);
        assert_eq!(endpoints.choose(open, now), 0);
        endpoints.on_end(ending, None, now);
        assert_eq!(scores(&mut endpoints, now), [score, 100], "{ending:?}");
        let next = usize::from(ending != Ending::Other);
        assert_eq!(endpoints.choose(open, now), next, "{ending:?}");
    }
}

#[test]
fn silence_counts_also_where_it_was_stable() {
    let (mut endpoints, now) = places(2);
    let _ = endpoints.choose(open, now);
    endpoints.on_live(now);
    let later = now + 2 * STABLE;
    endpoints.on_end(Ending::Silent, None, later);
    assert_eq!(scores(&mut endpoints, later), [70, 100]);
}

#[test]
fn a_score_comes_back_with_time() {
    let (mut endpoints, now) = places(2);
    let _ = endpoints.choose(open, now);
    endpoints.on_end(Ending::Unreached, None, now);
    assert_eq!(scores(&mut endpoints, now + 75 * SECOND), [75, 100]);
    assert_eq!(endpoints.choose(open, now + 75 * SECOND), 1);
    endpoints.on_end(Ending::Unreached, None, now + 75 * SECOND);
    assert_eq!(scores(&mut endpoints, now + 150 * SECOND), [100, 75]);
    assert_eq!(endpoints.choose(open, now + 150 * SECOND), 0);
}

#[test]
fn a_score_comes_back_when_the_session_has_proved_stable() {
    let (mut endpoints, now) = places(2);
    let _ = endpoints.choose(open, now);
    endpoints.on_end(Ending::Unreached, None, now);
    let _ = endpoints.choose(open, now);
    endpoints.on_end(Ending::Unreached, None, now);
    assert_eq!(endpoints.choose(open, now), 0, "the same, and named first");
    endpoints.on_live(now);
    assert_eq!(scores(&mut endpoints, now + 9 * SECOND)[0], 53);
    assert_eq!(scores(&mut endpoints, now + STABLE)[0], 100);
}

#[test]
fn two_that_are_down_are_tried_in_turn() {
    let (mut endpoints, mut now) = places(2);
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(endpoints.choose(open, now));
        endpoints.on_end(Ending::Unreached, None, now);
        now += SECOND;
    }
    assert_eq!(seen, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn what_is_refused_for_good_is_passed_over_until_all_are() {
    let (mut endpoints, now) = places(2);
    let _ = endpoints.choose(open, now);
    endpoints.on_end(Ending::Never, None, now);
    let later = now + 3600 * SECOND;
    assert!(!endpoints.all_refused());
    for _ in 0..3 {
        assert_eq!(endpoints.choose(open, later), 1);
        endpoints.on_end(Ending::Unreached, None, later);
    }
    assert_eq!(endpoints.choose(open, later), 1);
    endpoints.on_end(Ending::Never, None, later);
    assert!(endpoints.all_refused());
    assert_eq!(endpoints.choose(open, later), 0, "there is no other");
}

#[test]
fn one_that_rests_is_left_alone_while_another_is_ready() {
    let (mut endpoints, now) = places(2);
    let _ = endpoints.choose(open, now);
    endpoints.on_end(Ending::Refused, Some(60 * SECOND), now);
    assert_eq!(endpoints.rest_left(now), Duration::ZERO);
    for _ in 0..3 {
        assert_eq!(endpoints.choose(open, now), 1);
        endpoints.on_end(Ending::Unreached, None, now);
    }
    endpoints.on_end(Ending::Refused, Some(30 * SECOND), now);
    assert_eq!(endpoints.rest_left(now), 30 * SECOND);
    assert_eq!(endpoints.choose(open, now), 1, "it is ready first");
    let breaker = |index| (index == 1).then_some(None);
    assert_eq!(endpoints.choose(breaker, now), 0, "nobody knows when");
    let standing = endpoints.standings(now)[0];
    assert_eq!(standing.rests_until, Some(now + 60 * SECOND));
}

#[test]
fn no_rest_is_longer_than_an_hour() {
    let (mut endpoints, now) = places(1);
    endpoints.on_end(Ending::Refused, Some(Duration::MAX), now);
    assert_eq!(endpoints.rest_left(now), 3600 * SECOND);
}

#[test]
fn a_probe_that_is_answered_has_the_session_go_back_whatever_it_was() {
    let (mut endpoints, now) = places(2);
    let _ = endpoints.choose(open, now);
    endpoints.on_end(Ending::Never, None, now);
    assert_eq!(endpoints.choose(open, now), 1);
    endpoints.on_live(now);
    assert_eq!(endpoints.preferred(now), [0]);
    endpoints.on_probe(0, Err(Ending::Never), None, now);
    assert!(endpoints.standings(now)[0].refused);
    endpoints.on_probe(0, Ok(()), None, now);
    endpoints.on_end(Ending::Other, None, now);
    assert_eq!(endpoints.choose(open, now), 0);
    assert_eq!(endpoints.standings(now)[0].score, 100);
    assert!(endpoints.preferred(now).is_empty());
}

#[test]
fn a_plan_holds_for_one_attempt() {
    let (mut endpoints, now) = places(3);
    for _ in 0..2 {
        let _ = endpoints.choose(open, now);
        endpoints.on_end(Ending::Unreached, None, now);
    }
    assert_eq!(endpoints.choose(open, now), 2);
    endpoints.on_probe(1, Ok(()), None, now);
    let later = now + 300 * SECOND;
    endpoints.on_end(Ending::Other, None, later);
    assert_eq!(endpoints.choose(open, later), 1, "although all have 100");
    endpoints.on_end(Ending::Other, None, later);
    assert_eq!(endpoints.choose(open, later), 0);
}

#[test]
fn returns_that_do_not_last_become_rarer_until_one_does() {
    let (mut endpoints, mut now) = places(2);
    let _ = endpoints.choose(open, now);
    endpoints.on_end(Ending::Unreached, None, now);
    let mut waits = Vec::new();
    for _ in 0..7 {
        assert_eq!(endpoints.choose(open, now), 1);
        waits.push(endpoints.fail_back_in(SECOND, 0).as_secs());
        endpoints.on_probe(0, Ok(()), None, now);
        endpoints.on_end(Ending::Other, None, now);
        assert_eq!(endpoints.choose(open, now), 0);
        endpoints.on_end(Ending::Lost, None, now);
        now += SECOND;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 16, 16]);
    endpoints.on_probe(0, Ok(()), None, now);
    let _ = endpoints.choose(open, now);
    endpoints.on_live(now);
    now += STABLE;
    endpoints.on_end(Ending::Silent, None, now);
    assert_eq!(endpoints.choose(open, now), 1);
    assert_eq!(endpoints.fail_back_in(SECOND, 0), SECOND);
}

#[test]
fn the_class_of_an_end_is_that_of_the_table() {
    let refused = |status| {
        let status = http::StatusCode::from_u16(status).unwrap();
        let response = Box::new(HttpResponse::new(
            status,
            http::HeaderMap::new(),
            bytes::Bytes::new(),
        ));
        Ending::of(&CloseReason::NotOpened(Arc::new(ConnectError::Refused {
            response,
        })))
    };
    for status in [401, 403, 404] {
        assert_eq!(refused(status), Ending::Never);
    }
    for status in [429, 503] {
        assert_eq!(refused(status), Ending::Refused);
    }
    let timeout = |phase| {
        let limit = SECOND;
        Ending::of_error(&Arc::new(ConnectError::Timeout { phase, limit }))
    };
    assert_eq!(timeout(Phase::Tcp), Ending::Unreached);
    assert_eq!(timeout(Phase::Upgrade), Ending::Refused);
    assert_eq!(timeout(Phase::FirstData), Ending::Silent);
    assert_eq!(timeout(Phase::Gate), Ending::Other);
    let certificate = ConnectError::Certificate {
        host: "venue.example".to_owned(),
        source: Arc::new(rustls::CertificateError::Expired.into()),
    };
    assert_eq!(Ending::of_error(&Arc::new(certificate)), Ending::Never);
    let credentials = CloseReason::NotEstablished {
        step: "auth".to_owned(),
        detail: String::new(),
        recovery: Recovery::Stop,
    };
    assert_eq!(Ending::of(&credentials), Ending::Other, "so everywhere");
    assert_eq!(Ending::of(&CloseReason::Eof), Ending::Lost);
    assert_eq!(Ending::of(&CloseReason::FailBack), Ending::Other);
}

#[derive(Debug, Clone)]
enum Step {
    Attempt(Vec<bool>),
    Live,
    Proven,
    End(Ending, Option<u64>),
    Probe(usize, Result<(), Ending>),
    Wait(u64),
}

fn ending() -> impl Strategy<Value = Ending> {
    prop::sample::select(vec![
        Ending::Unreached,
        Ending::Refused,
        Ending::Lost,
        Ending::Silent,
        Ending::Never,
        Ending::Other,
    ])
}

fn step() -> impl Strategy<Value = Step> {
    let probed = prop_oneof![Just(Ok(())), ending().prop_map(Err)];
    prop_oneof![
        prop::collection::vec(any::<bool>(), 5).prop_map(Step::Attempt),
        Just(Step::Live),
        Just(Step::Proven),
        (ending(), prop::option::of(0..5000_u64)).prop_map(|(end, rest)| Step::End(end, rest)),
        (0..5_usize, probed).prop_map(|(index, outcome)| Step::Probe(index, outcome)),
        (0..200_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn none_that_rests_is_chosen_while_another_is_ready_and_scores_stay_in_bounds(
        count in 1..5_usize,
        steps in prop::collection::vec(step(), 0..120),
        random: u64,
    ) {
        let (mut endpoints, mut now) = places(count);
        let mut twin = endpoints.clone();
        for step in steps {
            match step {
                Step::Attempt(shut) => {
                    let closed = |index: usize| shut[index].then_some(None);
                    let before = endpoints.standings(now);
                    let chosen = endpoints.choose(closed, now);
                    prop_assert_eq!(twin.choose(closed, now), chosen, "chance plays no part");
                    prop_assert!(chosen < count);
                    let all_refused = before.iter().all(|one| one.refused);
                    prop_assert!(all_refused || !before[chosen].refused);
                    let ready = |index: usize| {
                        before[index].rests_until.is_none()
                            && !shut[index]
                            && (all_refused || !before[index].refused)
                    };
                    prop_assert!(ready(chosen) || !(0..count).any(ready));
                }
                Step::Live => {
                    endpoints.on_live(now);
                    twin.on_live(now);
                }
                Step::Proven => {
                    endpoints.on_proven(now);
                    twin.on_proven(now);
                    prop_assert_eq!(endpoints.standings(now)[endpoints.present()].score, 100);
                }
                Step::End(ending, rest) => {
                    let rest = rest.map(Duration::from_secs);
                    endpoints.on_end(ending, rest, now);
                    twin.on_end(ending, rest, now);
                }
                Step::Probe(index, outcome) => {
                    endpoints.on_probe(index, outcome, None, now);
                    twin.on_probe(index, outcome, None, now);
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            for standing in endpoints.standings(now) {
                prop_assert!(standing.score <= 100);
            }
            prop_assert_eq!(endpoints.standings(now), twin.standings(now));
            let preferred = endpoints.preferred(now);
            prop_assert!(preferred.iter().all(|index| *index < endpoints.present()));
            let wait = endpoints.fail_back_in(SECOND, random);
            prop_assert_eq!(wait, twin.fail_back_in(SECOND, random));
            prop_assert!((SECOND..=24 * SECOND).contains(&wait), "{:?}", wait);
        }
    }
}
