//! The order from open to live, and what a cut or a refusal at each step does to it.

use super::*;
use crate::protocol::call::Call;

fn first() -> Epoch {
    Epoch::NONE.next()
}

fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn batch(channels: &[&str]) -> Batch {
    Batch::new(
        Call::bare("subscribe"),
        channels.iter().map(|channel| name(channel)).collect(),
    )
}

fn failure(recovery: Recovery) -> Failure {
    Failure {
        detail: "refused".to_owned(),
        recovery,
    }
}

fn grant(seconds: u64) -> Option<Grant> {
    Some(Grant::new(
        Some(Duration::from_secs(seconds)),
        Some(Call::bare("renew")),
    ))
}

/// The tag of the only call among the actions, whose method is `method`.
#[track_caller]
fn called(actions: &[Action], method: &str) -> Tag {
    match actions {
        [Action::Call { tag, call }] if call.method() == method => *tag,
        other => panic!("expected one call of {method}, found {other:?}"),
    }
}

#[track_caller]
fn authenticating(actions: &[Action]) -> Tag {
    match actions {
        [Action::Authenticate { tag }] => *tag,
        other => panic!("expected an authentication, found {other:?}"),
    }
}

/// A machine that is live in the first epoch, authenticated for ten seconds from `now`.
fn live(now: Instant) -> Establish {
    let mut machine = Establish::new();
    let tag = authenticating(&machine.on_opened(first(), vec![Step::Authenticate]));
    let actions = machine.on_result(tag, grant(10), &[], now);
    assert!(matches!(actions[..], [Action::AskWishes { .. }]));
    let actions = machine.on_wishes(first(), Vec::new());
    assert!(matches!(actions[..], [Action::Live { .. }]));
    machine
}

#[test]
fn steps_are_taken_in_order_and_each_waits_for_the_one_before() {
    let now = Instant::now();
    let mut machine = Establish::new();
    let steps = vec![
        Step::Call(Call::bare("hello")),
        Step::Authenticate,
        Step::Call(Call::bare("arm")),
    ];
    let hello = called(&machine.on_opened(first(), steps), "hello");
    let login = authenticating(&machine.on_result(hello, None, &[], now));
    let arm = called(&machine.on_result(login, grant(10), &[], now), "arm");
    let actions = machine.on_result(arm, None, &[], now);
    assert!(matches!(actions[..], [Action::AskWishes { epoch }] if epoch == first()));
    assert!(!machine.is_live());
}

#[test]
fn the_session_is_live_when_every_wish_has_been_answered() {
    let now = Instant::now();
    let mut machine = Establish::new();
    let actions = machine.on_opened(first(), Vec::new());
    assert!(matches!(actions[..], [Action::AskWishes { .. }]));
    let actions = machine.on_wishes(first(), vec![batch(&["a"]), batch(&["b"])]);
    let [Action::Call { tag: one, .. }, Action::Call { tag: two, .. }] = actions[..] else {
        panic!("expected two calls, found {actions:?}");
    };
    let actions = machine.on_result(one, None, &[name("a")], now);
    assert!(matches!(actions[..], [Action::Confirm { .. }]));
    assert!(!machine.is_live());
    let actions = machine.on_result(two, None, &[name("b")], now);
    assert!(matches!(
        actions[..],
        [Action::Confirm { .. }, Action::Live { .. }]
    ));
}

#[test]
fn a_channel_left_out_of_the_answer_is_refused_and_the_others_are_live() {
    let now = Instant::now();
    let mut machine = Establish::new();
    let _ = machine.on_opened(first(), Vec::new());
    let tag = called(
        &machine.on_wishes(first(), vec![batch(&["a", "b"])]),
        "subscribe",
    );
    let actions = machine.on_result(tag, None, &[name("b")], now);
    let [
        Action::Confirm { channels, .. },
        Action::Refuse {
            channels: refused, ..
        },
        Action::Live { .. },
    ] = &actions[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(channels, &[name("b")]);
    assert_eq!(refused, &[name("a")]);
}

#[test]
fn an_answer_of_an_earlier_connection_changes_nothing() {
    let now = Instant::now();
    let mut machine = Establish::new();
    let old = called(
        &machine.on_opened(first(), vec![Step::Call(Call::bare("hello"))]),
        "hello",
    );
    machine.on_closed();
    let steps = vec![Step::Call(Call::bare("hello")), Step::Authenticate];
    let new = called(&machine.on_opened(first().next(), steps), "hello");
    assert_ne!(old, new);
    assert!(machine.on_result(old, None, &[], now).is_empty());
    assert!(
        machine
            .on_failure(old, failure(Recovery::Stop), now)
            .is_empty()
    );
    let _ = authenticating(&machine.on_result(new, None, &[], now));
}

#[test]
fn a_cut_between_any_two_steps_starts_from_the_first() {
    let now = Instant::now();
    let steps = || vec![Step::Call(Call::bare("hello")), Step::Authenticate];
    for cut in 0..4 {
        let mut machine = Establish::new();
        let mut epoch = first();
        let mut actions = machine.on_opened(epoch, steps());
        for step in 0..cut {
            actions = match &actions[..] {
                [Action::Call { tag, .. }] => machine.on_result(*tag, None, &[name("a")], now),
                [Action::Authenticate { tag }] => machine.on_result(*tag, grant(10), &[], now),
                [Action::AskWishes { epoch }] => machine.on_wishes(*epoch, vec![batch(&["a"])]),
                other => panic!("step {step}: {other:?}"),
            };
        }
        machine.on_closed();
        assert_eq!(
            machine.next_timeout(),
            None,
            "cut {cut}: nothing to renew without a connection"
        );
        epoch = epoch.next();
        let _ = called(&machine.on_opened(epoch, steps()), "hello");
    }
}

#[test]
fn credentials_that_were_never_accepted_stop_the_session() {
    let now = Instant::now();
    let mut machine = Establish::new();
    let tag = authenticating(&machine.on_opened(first(), vec![Step::Authenticate]));
    let actions = machine.on_failure(tag, failure(Recovery::Reauthenticate), now);
    assert!(
        matches!(
            actions[..],
            [Action::Abandon {
                recovery: Recovery::Stop,
                ..
            }]
        ),
        "{actions:?}"
    );
}

#[test]
fn credentials_that_were_once_accepted_are_tried_on_the_next_connection() {
    let now = Instant::now();
    let mut machine = live(now);
    machine.on_closed();
    let tag = authenticating(&machine.on_opened(first().next(), vec![Step::Authenticate]));
    let actions = machine.on_failure(tag, failure(Recovery::Reauthenticate), now);
    assert!(
        matches!(
            actions[..],
            [Action::Abandon {
                recovery: Recovery::Retry,
                ..
            }]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_failed_step_names_itself() {
    let mut machine = Establish::new();
    let tag = called(
        &machine.on_opened(first(), vec![Step::Call(Call::bare("arm"))]),
        "arm",
    );
    let actions = machine.on_failure(tag, failure(Recovery::Retry), Instant::now());
    let [
        Action::Abandon {
            step,
            recovery: Recovery::Retry,
            ..
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(step, "arm");
}

#[test]
fn a_grant_is_renewed_ahead_of_its_end() {
    let now = Instant::now();
    let mut machine = live(now);
    let at = machine
        .next_timeout()
        .expect("a grant that ends is renewed");
    assert!(at < now + Duration::from_secs(10));
    assert!(machine.on_tick(at - Duration::from_millis(1)).is_empty());
    let tag = called(&machine.on_tick(at), "renew");
    assert!(machine.on_tick(at).is_empty(), "one renewal at a time");
    assert!(machine.on_result(tag, grant(10), &[], at).is_empty());
    assert!(machine.next_timeout().expect("renewed") > at);
    assert!(machine.is_live());
}

#[test]
fn a_renewal_that_fails_for_a_passing_reason_is_tried_again_before_the_end() {
    let now = Instant::now();
    let mut machine = live(now);
    let at = machine
        .next_timeout()
        .expect("a grant that ends is renewed");
    let tag = called(&machine.on_tick(at), "renew");
    assert!(
        machine
            .on_failure(tag, failure(Recovery::Retry), at)
            .is_empty()
    );
    let again = machine.next_timeout().expect("tried again");
    assert!(again > at && again <= now + Duration::from_secs(10));
}

#[test]
fn a_refused_renewal_loses_the_authorization_and_authenticates_afresh() {
    let now = Instant::now();
    let mut machine = live(now);
    let at = machine
        .next_timeout()
        .expect("a grant that ends is renewed");
    let tag = called(&machine.on_tick(at), "renew");
    let actions = machine.on_failure(tag, failure(Recovery::Reauthenticate), at);
    let [
        Action::AuthorizationLost { .. },
        Action::Authenticate { tag },
    ] = actions[..]
    else {
        panic!("{actions:?}");
    };
    let actions = machine.on_result(tag, grant(10), &[], at);
    assert!(matches!(actions[..], [Action::AskPrivateWishes]));
    let actions = machine.on_wishes(first(), vec![batch(&["user"])]);
    let _ = called(&actions, "subscribe");
    assert!(machine.is_live(), "public data never stopped");
}

#[test]
fn many_reports_of_a_lost_authorization_authenticate_once() {
    let mut machine = live(Instant::now());
    assert_eq!(
        machine
            .on_unauthorized("expired".to_owned(), Instant::now())
            .len(),
        2
    );
    assert!(
        machine
            .on_unauthorized("expired".to_owned(), Instant::now())
            .is_empty()
    );
}

#[test]
fn a_subscription_that_needs_authorization_waits_for_it_and_is_not_refused() {
    let now = Instant::now();
    let mut machine = live(now);
    let tag = called(
        &machine.on_wishes(first(), vec![batch(&["user"])]),
        "subscribe",
    );
    let actions = machine.on_failure(tag, failure(Recovery::Reauthenticate), now);
    assert!(
        matches!(
            actions[..],
            [
                Action::AuthorizationLost { .. },
                Action::Authenticate { .. },
                Action::Postpone { .. }
            ]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_venue_that_never_accepts_the_authorization_does_not_make_a_loop() {
    let now = Instant::now();
    let mut machine = live(now);
    let mut rounds = 0;
    let mut actions = machine.on_wishes(first(), vec![batch(&["user"])]);
    while let [Action::Call { tag, .. }] = actions[..] {
        rounds += 1;
        assert!(rounds < 5, "asked without end");
        actions = machine.on_failure(tag, failure(Recovery::Reauthenticate), now);
        if let [
            Action::AuthorizationLost { .. },
            Action::Authenticate { tag },
            Action::Postpone { .. },
        ] = actions[..]
        {
            let _ = machine.on_result(tag, grant(10), &[], now);
            actions = machine.on_wishes(first(), vec![batch(&["user"])]);
        }
    }
    assert!(
        matches!(actions[..], [Action::Refuse { .. }]),
        "{actions:?}"
    );
}

#[test]
fn nothing_is_subscribed_before_the_last_step_has_succeeded() {
    let mut machine = Establish::new();
    let _ = machine.on_opened(first(), vec![Step::Authenticate]);
    assert!(machine.on_wishes(first(), vec![batch(&["a"])]).is_empty());
    assert!(machine.on_released(first(), vec![batch(&["a"])]).is_empty());
}

#[test]
fn a_renewal_that_comes_too_late_tells_of_the_hole_that_it_left() {
    let now = Instant::now();
    let mut machine = live(now);
    let at = machine
        .next_timeout()
        .expect("a grant that ends is renewed");
    let tag = called(&machine.on_tick(at), "renew");
    let late = now + Duration::from_secs(11);
    let actions = machine.on_result(tag, grant(10), &[], late);
    assert!(
        matches!(
            actions[..],
            [Action::AuthorizationLost { .. }, Action::AskPrivateWishes]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_subscription_whose_answer_is_lost_is_postponed_and_not_refused() {
    let now = Instant::now();
    let pause = Duration::from_secs(5);
    for (recovery, expected) in [
        (Recovery::Retry, Duration::ZERO),
        (Recovery::Reconcile, Duration::ZERO),
        (Recovery::RetryAfter(pause), pause),
    ] {
        let mut machine = live(now);
        let tag = called(
            &machine.on_wishes(first(), vec![batch(&["a"])]),
            "subscribe",
        );
        let actions = machine.on_failure(tag, failure(recovery), now);
        let [
            Action::Postpone {
                channels, at_least, ..
            },
        ] = &actions[..]
        else {
            panic!("{actions:?}");
        };
        assert_eq!(channels, &[name("a")]);
        assert_eq!(*at_least, expected);
    }
}

#[test]
fn a_subscription_that_cannot_be_had_is_refused() {
    let now = Instant::now();
    let mut machine = live(now);
    let tag = called(
        &machine.on_wishes(first(), vec![batch(&["a"])]),
        "subscribe",
    );
    let actions = machine.on_failure(tag, failure(Recovery::Stop), now);
    assert!(
        matches!(actions[..], [Action::Refuse { .. }]),
        "{actions:?}"
    );
}

#[test]
fn a_grant_of_nothing_makes_no_storm_and_one_of_ages_no_overflow() {
    let now = Instant::now();
    for lasts in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_millis(1),
    ] {
        let mut machine = Establish::new();
        let tag = authenticating(&machine.on_opened(first(), vec![Step::Authenticate]));
        let _ = machine.on_result(tag, Some(Grant::new(Some(lasts), None)), &[], now);
        assert!(machine.next_timeout().expect("renewed") >= now + Duration::from_millis(200));
    }
    for lasts in [Duration::MAX, Duration::from_secs(u64::MAX)] {
        let mut machine = Establish::new();
        let tag = authenticating(&machine.on_opened(first(), vec![Step::Authenticate]));
        let _ = machine.on_result(tag, Some(Grant::new(Some(lasts), None)), &[], now);
        assert_eq!(machine.next_timeout(), None);
    }
}

#[test]
fn an_authentication_that_needs_completion_counts_only_with_it() {
    let now = Instant::now();
    let incomplete = || Some(grant(10).unwrap().then(Call::bare("exchange")));
    let mut machine = Establish::new();
    let login = authenticating(&machine.on_opened(first(), vec![Step::Authenticate]));
    let exchange = called(
        &machine.on_result(login, incomplete(), &[], now),
        "exchange",
    );
    assert!(machine.grants(exchange));
    assert_eq!(machine.next_timeout(), None, "nothing is granted yet");
    // The platform reads every grant alike: this one's completion is itself.
    let actions = machine.on_result(exchange, incomplete(), &[], now);
    assert!(matches!(actions[..], [Action::AskWishes { .. }]));
    let at = machine
        .next_timeout()
        .expect("a grant that ends is renewed");
    let renewal = called(&machine.on_tick(at), "renew");
    assert!(machine.on_result(renewal, incomplete(), &[], at).is_empty());
}

#[test]
fn a_refused_completion_gives_the_connection_up_under_its_own_name() {
    let now = Instant::now();
    let mut machine = Establish::new();
    let login = authenticating(&machine.on_opened(first(), vec![Step::Authenticate]));
    let granted = Some(grant(10).unwrap().then(Call::bare("exchange")));
    let exchange = called(&machine.on_result(login, granted, &[], now), "exchange");
    let actions = machine.on_failure(exchange, failure(Recovery::Stop), now);
    let [Action::Abandon { step, .. }] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(step, "exchange");
}

#[test]
fn an_authentication_on_a_connection_in_use_is_completed_too_and_made_once() {
    let now = Instant::now();
    let mut machine = live(now);
    let actions = machine.on_unauthorized("expired".to_owned(), now);
    let [
        Action::AuthorizationLost { .. },
        Action::Authenticate { tag },
    ] = actions[..]
    else {
        panic!("{actions:?}");
    };
    let granted = Some(grant(10).unwrap().then(Call::bare("exchange")));
    let exchange = called(&machine.on_result(tag, granted, &[], now), "exchange");
    assert!(
        machine
            .on_unauthorized("expired".to_owned(), now)
            .is_empty()
    );
    let actions = machine.on_result(exchange, grant(10), &[], now);
    assert!(matches!(actions[..], [Action::AskPrivateWishes]));
}

#[test]
fn a_release_ends_as_confirmed_refused_or_postponed() {
    let now = Instant::now();
    let mut machine = live(now);
    let mut release = |end: &dyn Fn(&mut Establish, Tag) -> Vec<Action>| {
        let tag = called(
            &machine.on_released(first(), vec![batch(&["a"])]),
            "subscribe",
        );
        end(&mut machine, tag)
    };
    let confirmed = [name("a")];
    let actions = release(&|machine, tag| machine.on_result(tag, None, &confirmed, now));
    assert!(
        matches!(&actions[..], [Action::ConfirmRelease { epoch, channels }]
            if *epoch == first() && channels[..] == [name("a")]),
        "{actions:?}"
    );
    let fail = |recovery| {
        move |machine: &mut Establish, tag| machine.on_failure(tag, failure(recovery), now)
    };
    let actions = release(&fail(Recovery::Stop));
    assert!(
        matches!(&actions[..], [Action::RefuseRelease { detail, .. }] if detail == "refused"),
        "{actions:?}"
    );
    let pause = Duration::from_secs(5);
    let passing = [
        (Recovery::Retry, Duration::ZERO),
        (Recovery::Reconcile, Duration::ZERO),
        (Recovery::RetryAfter(pause), pause),
    ];
    for (recovery, expected) in passing {
        let actions = release(&fail(recovery));
        assert!(
            matches!(&actions[..], [Action::PostponeRelease { at_least, .. }] if *at_least == expected),
            "{actions:?}"
        );
    }
    let actions = release(&fail(Recovery::Reauthenticate));
    assert!(
        matches!(
            &actions[..],
            [
                Action::AuthorizationLost { .. },
                Action::Authenticate { .. },
                Action::PostponeRelease { .. }
            ]
        ),
        "{actions:?}"
    );
}

#[test]
fn what_the_venue_leaves_out_of_its_list_is_not_released() {
    let now = Instant::now();
    let mut machine = live(now);
    let tag = called(
        &machine.on_released(first(), vec![batch(&["a", "b"])]),
        "subscribe",
    );
    let actions = machine.on_result(tag, None, &[name("b")], now);
    assert!(
        matches!(&actions[..], [
            Action::ConfirmRelease { channels: released, .. },
            Action::RefuseRelease { channels: left_out, .. },
        ] if released[..] == [name("b")] && left_out[..] == [name("a")]),
        "{actions:?}"
    );
}

#[test]
fn a_batch_of_ends_that_is_refused_is_told_apart_once() {
    let now = Instant::now();
    let mut machine = live(now);
    let both = || vec![batch(&["a", "b"])];
    let tag = called(&machine.on_released(first(), both()), "subscribe");
    let actions = machine.on_failure(tag, failure(Recovery::Stop), now);
    assert!(
        matches!(&actions[..], [Action::ReleaseApart { epoch, channels }]
            if *epoch == first() && channels[..] == [name("a"), name("b")]),
        "{actions:?}"
    );
    // A platform that tells of both together all the same is not asked for ever.
    let tag = called(&machine.on_released_apart(first(), both()), "subscribe");
    let actions = machine.on_failure(tag, failure(Recovery::Stop), now);
    assert!(
        matches!(&actions[..], [Action::RefuseRelease { channels, .. }] if channels.len() == 2),
        "{actions:?}"
    );
    let tag = called(&machine.on_released(first(), both()), "subscribe");
    let actions = machine.on_failure(tag, failure(Recovery::Retry), now);
    assert!(
        matches!(&actions[..], [Action::PostponeRelease { .. }]),
        "{actions:?}"
    );
}

#[test]
fn a_batch_of_wishes_that_is_refused_is_asked_for_apart_before_the_session_is_live() {
    let now = Instant::now();
    let mut machine = Establish::new();
    let _ = machine.on_opened(first(), Vec::new());
    let both = machine.on_wishes(first(), vec![batch(&["a", "b"])]);
    let tag = called(&both, "subscribe");
    let actions = machine.on_failure(tag, failure(Recovery::Stop), now);
    assert!(
        matches!(&actions[..], [Action::SubscribeApart { epoch, channels }]
            if *epoch == first() && channels[..] == [name("a"), name("b")]),
        "{actions:?}"
    );
    let apart = machine.on_wishes_apart(first(), vec![batch(&["a"]), batch(&["b"])]);
    let [Action::Call { tag: a, .. }, Action::Call { tag: b, .. }] = &apart[..] else {
        panic!("expected two calls, got {apart:?}");
    };
    let actions = machine.on_failure(*a, failure(Recovery::Stop), now);
    assert!(
        matches!(&actions[..], [Action::Refuse { channels, .. }] if channels[..] == [name("a")]),
        "{actions:?}"
    );
    let actions = machine.on_result(*b, None, &[name("b")], now);
    assert!(
        matches!(&actions[..], [Action::Confirm { channels, .. }, Action::Live { .. }]
            if channels[..] == [name("b")]),
        "{actions:?}"
    );
}

#[test]
fn what_passes_is_not_asked_for_apart() {
    let now = Instant::now();
    let mut machine = live(now);
    let both = machine.on_wishes(first(), vec![batch(&["a", "b"])]);
    let tag = called(&both, "subscribe");
    let actions = machine.on_failure(tag, failure(Recovery::Retry), now);
    assert!(
        matches!(&actions[..], [Action::Postpone { channels, .. }] if channels.len() == 2),
        "{actions:?}"
    );
}

#[test]
fn nothing_is_released_on_a_connection_that_never_had_it() {
    let mut machine = live(Instant::now());
    let second = first().next();
    assert!(machine.on_released(second, vec![batch(&["a"])]).is_empty());
    let _ = machine.on_opened(second, Vec::new());
    let _ = machine.on_wishes(second, Vec::new());
    assert!(machine.on_released(first(), vec![batch(&["a"])]).is_empty());
    let broken = machine.on_broken(first(), vec![batch(&["a"])], vec![batch(&["a"])]);
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn the_first_half_of_a_renewed_subscription_tells_nothing() {
    let now = Instant::now();
    let mut machine = live(now);
    let actions = machine.on_broken(first(), vec![batch(&["a"])], vec![batch(&["a"])]);
    let [Action::Call { tag: off, .. }, Action::Call { tag: on, .. }] = &actions[..] else {
        panic!("expected two calls, found {actions:?}");
    };
    assert!(machine.on_result(*off, None, &[], now).is_empty());
    let actions = machine.on_result(*on, None, &[name("a")], now);
    assert!(
        matches!(actions[..], [Action::Confirm { .. }]),
        "{actions:?}"
    );
}
