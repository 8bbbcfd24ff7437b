//! What the ledger decides, event by event, and what holds whatever happens.

use super::*;
use proptest::prelude::*;

fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn first() -> Epoch {
    Epoch::NONE.next()
}

#[test]
fn a_wish_made_while_down_is_asked_for_when_ready() {
    let mut ledger = Ledger::new();
    assert_eq!(ledger.wish(&name("a")), WishAction::Wait);
    assert_eq!(ledger.on_ready(first()), [name("a")]);
}

#[test]
fn wishes_are_restored_in_their_order() {
    let mut ledger = Ledger::new();
    for channel in ["c", "a", "b"] {
        let _ = ledger.wish(&name(channel));
    }
    assert_eq!(ledger.on_ready(first()), [name("c"), name("a"), name("b")]);
}

#[test]
fn a_pass_that_is_cut_goes_on_where_it_was_cut() {
    let mut ledger = Ledger::new();
    let names = ["a", "b", "c", "d", "e"].map(name);
    for channel in &names {
        let _ = ledger.wish(channel);
    }
    let mut epoch = first();
    let mut passes = Vec::new();
    // Each connection lives for two confirmations.
    for _ in 0..20 {
        let asked = ledger.on_ready(epoch);
        assert_eq!(asked.len(), names.len());
        for channel in &asked[..2] {
            assert!(ledger.on_confirmed(channel, epoch));
        }
        passes.push(asked[..2].to_vec());
        ledger.on_closed();
        epoch = epoch.next();
    }
    assert_eq!(passes[..3].concat()[..5], names);
    for three in passes.windows(3) {
        let mut reached = three.concat();
        reached.sort();
        reached.dedup();
        assert_eq!(reached, names, "three passes come to all of them");
    }
    for channel in ledger.on_ready(epoch) {
        assert!(ledger.on_confirmed(&channel, epoch));
    }
    ledger.on_closed();
    assert_eq!(
        ledger.on_ready(epoch.next()),
        names,
        "a whole pass is followed by the usual order"
    );
}

#[test]
fn what_is_not_restored_is_dropped_and_a_wish_never_confirmed_stays() {
    let mut ledger = Ledger::new();
    for channel in ["a", "b", "c"] {
        let _ = ledger.wish(&name(channel));
    }
    let _ = ledger.on_ready(first());
    assert!(ledger.on_confirmed("c", first()) && ledger.on_confirmed("a", first()));
    ledger.on_closed();
    assert_eq!(ledger.drop_confirmed(), [name("a"), name("c")]);
    assert_eq!(ledger.on_ready(first().next()), [name("b")]);
}

#[test]
fn a_second_listener_does_not_ask_again() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    assert_eq!(ledger.wish(&name("a")), WishAction::Ask);
    assert_eq!(ledger.wish(&name("a")), WishAction::Wait);
    assert!(ledger.on_confirmed("a", first()));
    assert_eq!(ledger.wish(&name("a")), WishAction::Confirmed(first()));
    assert_eq!(ledger.unwish("a"), WishAction::Keep);
    assert_eq!(ledger.unwish("a"), WishAction::Keep);
    assert_eq!(ledger.unwish("a"), WishAction::Release);
}

#[test]
fn a_close_voids_confirmations_and_keeps_wishes() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert!(ledger.on_confirmed("a", first()));
    ledger.on_closed();
    assert_eq!(ledger.counts(), (1, 0));
    assert_eq!(ledger.on_ready(first().next()), [name("a")]);
}

#[test]
fn a_new_connection_voids_the_confirmations_of_one_whose_end_was_never_told() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert!(ledger.on_confirmed("a", first()));
    assert_eq!(ledger.on_ready(first().next()), [name("a")]);
}

#[test]
fn a_confirmation_of_an_older_epoch_changes_nothing() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    ledger.on_closed();
    let _ = ledger.on_ready(first().next());
    assert!(!ledger.on_confirmed("a", first()));
    assert_eq!(ledger.counts(), (1, 0));
}

#[test]
fn a_wish_never_confirmed_is_given_up_at_the_first_refusal() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert_eq!(ledger.on_refused("a", first(), "no"), RefusalAction::GiveUp);
    assert!(!ledger.is_wanted("a"));
}

#[test]
fn a_wish_once_confirmed_survives_two_refusals() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert!(ledger.on_confirmed("a", first()));
    ledger.on_closed();
    let second = first().next();
    let _ = ledger.on_ready(second);
    assert_eq!(ledger.on_refused("a", second, "no"), RefusalAction::Later);
    assert_eq!(ledger.retry(), [name("a")]);
    assert_eq!(ledger.on_refused("a", second, "no"), RefusalAction::Later);
    assert_eq!(ledger.retry(), [name("a")]);
    assert_eq!(ledger.on_refused("a", second, "no"), RefusalAction::GiveUp);
}

#[test]
fn a_broken_channel_is_asked_for_once_however_often_it_is_reported() {
    let now = Instant::now();
    let at = |millis| now + std::time::Duration::from_millis(millis);
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert!(ledger.on_confirmed("a", first()));
    assert!(ledger.on_broken("a", at(1), at(2)));
    assert!(
        !ledger.on_broken("a", at(1), at(3)),
        "a second listener's report of the same"
    );
    assert!(ledger.on_confirmed("a", first()));
    assert!(!ledger.is_broken_again("a"));
    assert!(
        !ledger.on_broken("a", at(1), at(5)),
        "a slow listener's report of the same"
    );
    assert!(ledger.on_broken("a", at(6), at(7)), "a new break");
}

#[test]
fn a_break_that_is_found_before_the_answer_is_known_is_not_forgotten() {
    let now = Instant::now();
    let at = |millis| now + std::time::Duration::from_millis(millis);
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert!(
        !ledger.on_broken("a", at(1), at(2)),
        "the venue has been asked"
    );
    assert!(ledger.on_confirmed("a", first()));
    assert!(ledger.is_broken_again("a"));
    assert!(ledger.on_confirmed("a", first()));
    assert!(!ledger.is_broken_again("a"));
}

#[test]
fn a_postponed_wish_stays_however_often() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    for _ in 0..10 {
        assert!(ledger.on_postponed("a", first()));
        assert_eq!(ledger.retry(), [name("a")]);
    }
    assert!(!ledger.on_postponed("a", first().next()));
}

#[test]
fn a_postponed_wish_that_is_dropped_is_released() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert!(ledger.on_postponed("a", first()));
    assert_eq!(ledger.unwish("a"), WishAction::Release);
}

#[test]
fn lost_authorization_asks_for_the_private_channels_alone() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    for channel in ["public", "user.a", "user.b"] {
        let _ = ledger.wish(&name(channel));
        assert!(ledger.on_confirmed(channel, first()));
    }
    let again = ledger.on_lost(|channel| channel.starts_with("user."));
    assert_eq!(again, [name("user.a"), name("user.b")]);
    assert_eq!(ledger.counts(), (3, 1));
}

proptest! {
    /// Whatever happens, only the user's wishes decide what is wanted.
    #[test]
    fn only_the_user_changes_the_wishes(script in proptest::collection::vec((0u8..10, 0usize..4), 0..200)) {
        let channels = [name("a"), name("b"), name("c"), name("d")];
        let mut ledger = Ledger::new();
        let mut wanted = [0usize; 4];
        let mut epoch = Epoch::NONE;
        for (event, index) in script {
            let channel = &channels[index];
            match event {
                0 => { let _ = ledger.wish(channel); wanted[index] += 1; }
                1 if wanted[index] > 0 => { let _ = ledger.unwish(channel); wanted[index] -= 1; }
                2 => { epoch = epoch.next(); let _ = ledger.on_ready(epoch); }
                3 => ledger.on_closed(),
                4 => { let _ = ledger.on_confirmed(channel, epoch); }
                5 => { let _ = ledger.on_postponed(channel, epoch); }
                7 => { let _ = ledger.on_released(channel, epoch); }
                8 => { let _ = ledger.on_release_postponed(channel, epoch); }
                9 => { let _ = ledger.retry_releases(); }
                _ => { let _ = ledger.on_lost(|lost| lost == &**channel); }
            }
            let confirmed = ledger.wishes.values().filter(|wish| wish.status.is_confirmed());
            prop_assert_eq!(ledger.counts(), (ledger.wanted(), confirmed.count()));
            for (index, count) in wanted.iter().enumerate() {
                prop_assert_eq!(ledger.is_wanted(&channels[index]), *count > 0);
                let shown = ledger.state(&channels[index]).map(|state| state.subscriptions);
                prop_assert_eq!(shown.unwrap_or(0), *count);
            }
        }
    }
}

#[test]
fn what_nobody_wants_any_more_is_shown_until_the_venue_has_confirmed_that() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert!(ledger.on_confirmed("a", first()));
    assert_eq!(ledger.unwish("a"), WishAction::Release);
    let state = ledger.state("a").unwrap();
    assert_eq!(state.status, ChannelStatus::Unsubscribing);
    assert_eq!((state.since, state.subscriptions), (first(), 0));
    assert_eq!(ledger.on_released("a", first()), ReleaseAction::Settle);
    assert_eq!(ledger.state("a"), None);
    assert_eq!(ledger.on_released("a", first()), ReleaseAction::Ignore);
}

#[test]
fn a_release_is_over_with_the_last_answer_that_is_awaited() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert_eq!(ledger.unwish("a"), WishAction::Release);
    assert_eq!(ledger.wish(&name("a")), WishAction::Ask);
    assert_eq!(ledger.unwish("a"), WishAction::Release);
    assert_eq!(ledger.on_released("a", first()), ReleaseAction::Ignore);
    assert_eq!(ledger.on_released("a", first()), ReleaseAction::Settle);
}

#[test]
fn a_release_that_came_to_nothing_is_told_again() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert_eq!(ledger.unwish("a"), WishAction::Release);
    assert!(ledger.retry_releases().is_empty(), "an answer is awaited");
    let postponed = ledger.on_release_postponed("a", first());
    assert_eq!(postponed, ReleaseAction::Later);
    assert_eq!(ledger.retry_releases(), [name("a")]);
    assert!(ledger.retry_releases().is_empty(), "told");
    assert_eq!(ledger.on_released("a", first()), ReleaseAction::Settle);
}

#[test]
fn a_release_of_what_is_wanted_again_is_not_told_again() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert_eq!(ledger.unwish("a"), WishAction::Release);
    assert_eq!(ledger.wish(&name("a")), WishAction::Ask);
    let postponed = ledger.on_release_postponed("a", first());
    assert_eq!(postponed, ReleaseAction::Settle);
    assert!(ledger.retry_releases().is_empty());

    assert_eq!(ledger.unwish("a"), WishAction::Release);
    let postponed = ledger.on_release_postponed("a", first());
    assert_eq!(postponed, ReleaseAction::Later);
    assert_eq!(ledger.wish(&name("a")), WishAction::Ask);
    assert!(!ledger.is_releasing("a") && ledger.retry_releases().is_empty());
}

#[test]
fn a_close_releases_everything() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert_eq!(ledger.unwish("a"), WishAction::Release);
    ledger.on_closed();
    assert!(!ledger.is_releasing("a"));
    let _ = ledger.on_ready(first().next());
    assert_eq!(ledger.on_released("a", first()), ReleaseAction::Ignore);
}

#[test]
fn what_is_confirmed_and_was_let_go_of_is_released_once() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    assert_eq!(ledger.unwish("a"), WishAction::Release);
    assert!(!ledger.release_unwanted(&name("a"), first()), "being told");
    assert_eq!(ledger.on_released("a", first()), ReleaseAction::Settle);
    assert!(ledger.release_unwanted(&name("a"), first()));
    assert!(!ledger.release_unwanted(&name("a"), first()));
}

#[test]
fn every_channel_has_its_place_with_its_epoch_and_its_refusal() {
    let place = |ledger: &Ledger, channel: &str| {
        let state = ledger.state(channel).unwrap();
        let refusal = state.last_refusal.map(|refusal| refusal.detail);
        (state.status, state.since, refusal)
    };
    let (second, no) = (first().next(), || Some("no".to_owned()));
    let mut ledger = Ledger::new();
    let _ = ledger.wish(&name("a"));
    assert_eq!(
        place(&ledger, "a"),
        (ChannelStatus::Pending, Epoch::NONE, None)
    );
    let _ = ledger.on_ready(first());
    assert_eq!(
        place(&ledger, "a"),
        (ChannelStatus::Subscribing, first(), None)
    );
    assert!(ledger.on_confirmed("a", first()));
    assert_eq!(
        place(&ledger, "a"),
        (ChannelStatus::Confirmed, first(), None)
    );
    ledger.on_closed();
    assert_eq!(place(&ledger, "a"), (ChannelStatus::Pending, first(), None));
    let _ = ledger.on_ready(second);
    assert_eq!(ledger.on_refused("a", second, "no"), RefusalAction::Later);
    assert_eq!(place(&ledger, "a"), (ChannelStatus::Pending, second, no()));
    let _ = ledger.retry();
    assert_eq!(
        place(&ledger, "a"),
        (ChannelStatus::Subscribing, second, no())
    );
    assert!(ledger.on_confirmed("a", second));
    assert_eq!(
        place(&ledger, "a"),
        (ChannelStatus::Confirmed, second, None)
    );

    let _ = ledger.wish(&name("b"));
    assert_eq!(ledger.on_refused("b", second, "no"), RefusalAction::GiveUp);
    assert_eq!(place(&ledger, "b"), (ChannelStatus::Refused, second, no()));
    assert_eq!(ledger.states().len(), 2);
    let _ = ledger.wish(&name("b"));
    assert_eq!(
        place(&ledger, "b"),
        (ChannelStatus::Subscribing, second, None)
    );
    assert_eq!(ledger.state("c"), None);
}

#[test]
fn of_what_was_given_up_the_latest_are_remembered_with_the_beginning_of_what_was_said() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    for number in 0..=GIVEN_UP {
        let channel = number.to_string();
        let _ = ledger.wish(&name(&channel));
        let refused = ledger.on_refused(&channel, first(), &"ä".repeat(300));
        assert_eq!(refused, RefusalAction::GiveUp);
    }
    let states = ledger.states();
    assert_eq!(states.len(), GIVEN_UP);
    assert_eq!(*states[0].channel, *"1");
    let refusal = states[0].last_refusal.as_ref().unwrap();
    assert_eq!(refusal.detail.chars().count(), 256);
}

#[test]
fn a_channels_state_is_serialised_with_plain_names_and_numbers() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    let _ = ledger.on_refused("a", first(), "no");
    assert_eq!(
        serde_json::to_string(&ledger.states()).unwrap(),
        r#"[{"channel":"a","status":"refused","since":1,"subscriptions":0,"last_refusal":{"epoch":1,"detail":"no"}}]"#
    );
}

#[test]
fn how_far_a_channel_has_climbed_is_shown_until_data_comes_or_the_connection_ends() {
    let mut ledger = Ledger::new();
    let _ = ledger.on_ready(first());
    let _ = ledger.wish(&name("a"));
    ledger.on_confirmed("a", first());
    ledger.on_rung("a", Some(Rung::Probe));
    let text = serde_json::to_string(&ledger.states()).unwrap();
    assert!(text.ends_with(r#""stale":"probe"}]"#), "{text}");
    ledger.on_rung("a", None);
    assert_eq!(ledger.state("a").unwrap().stale, None);
    ledger.on_rung("a", Some(Rung::Stale));
    ledger.on_closed();
    assert_eq!(ledger.state("a").unwrap().stale, None);
}
