//! The ladder by example, and under random data.

use proptest::prelude::*;

use super::*;

const CADENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(4);
const COUNTS: Silence = Silence::Counts { open_since: None };

/// One watched channel `a`, confirmed at the beginning.
struct Rig {
    cadences: Cadences,
    began: Instant,
    last: Option<Instant>,
}

impl Rig {
    fn new(ladder: Ladder) -> Self {
        let began = Instant::now();
        let mut cadences = Cadences::new(ladder, true);
        cadences.watch(&"a".into(), CADENCE, began);
        assert_eq!(cadences.next_timeout(), None, "not before it is confirmed");
        cadences.on_confirmed("a", began);
        Self {
            cadences,
            began,
            last: None,
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.began + Duration::from_secs(seconds)
    }

    fn data(&mut self, seconds: u64) {
        self.last = Some(self.at(seconds));
    }

    fn tick(&mut self, now: Instant, silence: Silence) -> Vec<String> {
        let last = self.last;
        let actions = self.cadences.on_tick(now, silence, |_| last);
        assert!(self.cadences.next_timeout().is_none_or(|next| next > now));
        actions.iter().map(word).collect()
    }

    /// Everything that happens until `seconds`, with timely ticks: when and what.
    fn until(&mut self, seconds: u64, silence: Silence) -> Vec<String> {
        let mut story = Vec::new();
        while let Some(next) = self.cadences.next_timeout() {
            if next > self.at(seconds) {
                break;
            }
            let second = (next - self.began).as_secs();
            let words = self.tick(next, silence);
            story.extend(words.into_iter().map(|word| format!("{second} {word}")));
        }
        story
    }
}

fn word(action: &CadenceAction) -> String {
    match action {
        CadenceAction::Climb {
            channel,
            rung,
            quiet,
        } => format!("{channel} {rung} {}", quiet.as_secs()),
        CadenceAction::Fresh { channel, quiet } => {
            format!("{channel} fresh {}", quiet.as_secs())
        }
        CadenceAction::Excused { channel } => format!("{channel} excused"),
    }
}

fn ladder() -> Ladder {
    Ladder::default().pause(PAUSE)
}

#[test]
fn silence_climbs_one_rung_after_the_other_and_ends_with_another_connection() {
    let mut rig = Rig::new(ladder());
    assert_eq!(
        rig.until(60, COUNTS),
        [
            "10 a stale 10",
            "14 a resubscribe 14",
            "18 a probe 18",
            "22 a reconnect 22"
        ]
    );
    assert_eq!(rig.cadences.on_closed(), ["a".into()]);
    assert_eq!(rig.cadences.next_timeout(), None);
}

#[test]
fn without_a_pause_of_its_own_a_rung_lasts_for_the_cadence() {
    let mut rig = Rig::new(Ladder::default());
    assert_eq!(
        rig.until(25, COUNTS),
        ["10 a stale 10", "20 a resubscribe 20"]
    );
}

#[test]
fn rungs_can_be_left_out() {
    let mut rig = Rig::new(ladder().resubscribe(false).reconnect(false));
    assert_eq!(rig.until(60, COUNTS), ["10 a stale 10", "14 a probe 14"]);
    let mut rig = Rig::new(ladder().resubscribe(false).probe(false).reconnect(false));
    assert_eq!(rig.until(60, COUNTS), ["10 a stale 10"]);
}

#[test]
fn where_nobody_is_asked_for_channels_none_is_subscribed_to_afresh() {
    let began = Instant::now();
    let mut cadences = Cadences::new(ladder(), false);
    cadences.watch(&"a".into(), CADENCE, began);
    cadences.on_confirmed("a", began);
    let _ = cadences.on_tick(began + CADENCE, COUNTS, |_| None);
    let actions = cadences.on_tick(began + CADENCE + PAUSE, COUNTS, |_| None);
    assert_eq!(actions.iter().map(word).collect::<Vec<_>>(), ["a probe 14"]);
}

#[test]
fn data_brings_it_down_from_any_rung() {
    let mut rig = Rig::new(ladder());
    assert_eq!(rig.until(14, COUNTS).len(), 2);
    rig.data(16);
    assert_eq!(
        rig.until(30, COUNTS),
        ["18 a fresh 16", "26 a stale 10", "30 a resubscribe 14"]
    );
}

#[test]
fn a_confirmation_does_not_bring_it_down() {
    let mut rig = Rig::new(ladder());
    let _ = rig.until(14, COUNTS);
    rig.cadences.on_confirmed("a", rig.at(15));
    assert_eq!(rig.until(18, COUNTS), ["18 a probe 18"]);
}

#[test]
fn a_closed_market_is_no_fault_and_opening_raises_no_alarm() {
    let mut rig = Rig::new(ladder());
    let closed = Silence::Closed {
        until: Some(rig.at(100)),
    };
    assert_eq!(rig.until(99, closed), [""; 0]);
    assert_eq!(rig.cadences.next_timeout(), Some(rig.at(110)));
    let opened = Silence::Counts {
        open_since: Some(rig.at(100)),
    };
    assert_eq!(rig.until(110, opened), ["110 a stale 10"]);
}

#[test]
fn a_market_that_nobody_knows_when_to_open_is_waited_for() {
    let mut rig = Rig::new(ladder());
    assert_eq!(rig.until(11, COUNTS), ["10 a stale 10"]);
    assert_eq!(
        rig.until(99, Silence::Closed { until: None }),
        ["14 a excused"]
    );
    assert_eq!(rig.cadences.next_timeout(), None);
    rig.cadences.on_opened(rig.at(200));
    rig.data(205);
    assert_eq!(rig.until(214, COUNTS), [""; 0]);
    assert_eq!(rig.until(215, COUNTS), ["215 a stale 10"]);
}

#[test]
fn a_market_that_opens_before_its_time_is_watched_from_then_on() {
    let mut rig = Rig::new(ladder());
    let closed = Silence::Closed {
        until: Some(rig.at(100)),
    };
    assert_eq!(rig.until(50, closed), [""; 0]);
    rig.cadences.on_opened(rig.at(60));
    rig.data(65);
    assert_eq!(rig.until(75, COUNTS), ["75 a stale 10"]);
}

#[test]
fn a_closing_within_the_silence_is_not_counted() {
    let mut rig = Rig::new(ladder());
    let opened = Silence::Counts {
        open_since: Some(rig.at(8)),
    };
    assert_eq!(rig.until(17, opened), [""; 0]);
    assert_eq!(rig.until(18, opened), ["18 a stale 10"]);
}

#[test]
fn while_nobody_reads_silence_says_nothing() {
    let mut rig = Rig::new(ladder());
    assert_eq!(rig.until(45, Silence::Held), [""; 0]);
    assert_eq!(rig.until(50, COUNTS), ["50 a stale 10"]);
}

#[test]
fn a_laptop_that_slept_is_given_a_cadence_once_in_each_silence() {
    let mut rig = Rig::new(ladder());
    assert_eq!(rig.tick(rig.at(3600), COUNTS), [""; 0]);
    assert_eq!(rig.until(3610, COUNTS), ["3610 a stale 3610"]);
    rig.data(3611);
    assert_eq!(rig.until(3614, COUNTS), ["3614 a fresh 3611"]);
    assert_eq!(rig.tick(rig.at(9000), COUNTS), [""; 0]);
}

#[test]
fn another_connection_begins_at_the_foot() {
    let mut rig = Rig::new(ladder());
    let _ = rig.until(18, COUNTS);
    let _ = rig.cadences.on_closed();
    assert_eq!(rig.until(90, COUNTS), [""; 0]);
    rig.cadences.on_confirmed("a", rig.at(100));
    assert_eq!(rig.until(110, COUNTS), ["110 a stale 10"]);
}

#[test]
fn one_reconnect_is_enough_for_all_channels() {
    let began = Instant::now();
    let mut cadences = Cadences::new(ladder(), true);
    for channel in ["b", "a", "c"] {
        cadences.watch(&channel.into(), CADENCE, began);
        cadences.on_confirmed(channel, began);
    }
    cadences.unwatch("c");
    let mut story = Vec::new();
    while story.len() < 7 {
        let now = cadences.next_timeout().expect("watched");
        let actions = cadences.on_tick(now, COUNTS, |_| None);
        story.extend(actions.iter().map(word));
    }
    assert_eq!(
        story,
        [
            "a stale 10",
            "b stale 10",
            "a resubscribe 14",
            "b resubscribe 14",
            "a probe 18",
            "b probe 18",
            "a reconnect 22"
        ]
    );
}

proptest! {
    /// Data that comes within each cadence never raises an alarm.
    #[test]
    fn whoever_keeps_its_cadence_is_never_stale(
        pauses in prop::collection::vec(1_u64..=10_000, 1..80),
    ) {
        let mut rig = Rig::new(ladder());
        let mut now = rig.began;
        for pause in pauses {
            let arrival = now + Duration::from_millis(pause);
            while let Some(next) = rig.cadences.next_timeout().filter(|next| *next < arrival) {
                prop_assert_eq!(rig.tick(next, COUNTS), [""; 0]);
            }
            now = arrival;
            rig.last = Some(now);
        }
    }

    /// Whatever comes, and however late the ticks are: a channel climbs rung by rung, stays on each for the pause,
    /// and is back at the foot with data; the same script tells the same story.
    #[test]
    fn a_channel_climbs_one_rung_at_a_time(
        script in prop::collection::vec((0_u8..10, 0_u64..15_000), 1..80),
    ) {
        let play = || {
            let mut rig = Rig::new(ladder());
            let mut now = rig.began;
            let mut story = Vec::new();
            for (event, wait) in &script {
                let wait = Duration::from_millis(*wait);
                match event {
                    0 | 1 => {
                        now += wait / 10;
                        rig.last = Some(now);
                    }
                    2 => now += wait * 3,
                    _ => now = now.max(rig.cadences.next_timeout().unwrap_or(now)),
                }
                let silence = match event {
                    3 => Silence::Held,
                    4 => Silence::Closed { until: Some(now + wait) },
                    _ => COUNTS,
                };
                let last = rig.last;
                for action in rig.cadences.on_tick(now, silence, |_| last) {
                    if matches!(&action, CadenceAction::Climb { rung: Rung::Reconnect, .. }) {
                        let _ = rig.cadences.on_closed();
                        rig.cadences.on_confirmed("a", now);
                    }
                    story.push((now - rig.began, action));
                }
            }
            story
        };
        let story = play();
        let mut on: Option<(Duration, Rung)> = None;
        for (at, action) in &story {
            match action {
                CadenceAction::Climb { rung, .. } => {
                    let before = match rung {
                        Rung::Stale => None,
                        Rung::Resubscribe => Some(Rung::Stale),
                        Rung::Probe => Some(Rung::Resubscribe),
                        Rung::Reconnect => Some(Rung::Probe),
                    };
                    prop_assert_eq!(on.map(|(_, rung)| rung), before);
                    prop_assert!(on.is_none_or(|(since, _)| *at >= since + PAUSE));
                    on = (*rung != Rung::Reconnect).then_some((*at, *rung));
                }
                CadenceAction::Fresh { .. } | CadenceAction::Excused { .. } => {
                    prop_assert!(on.take().is_some());
                }
            }
        }
        prop_assert_eq!(story, play());
    }
}
