//! Every frame that RFC 6455 forbids, over each wire: the gap names the rule that was broken, and the session is served
//! again behind it.

use mainstay::close::{CloseReason, GapCause};
use mainstay::config::WireBackend;
use mainstay::supervisors::Backoff;
use mainstay::testing::faults::{
    BadFrame, FaultPlatform, FaultScript, FaultServer, FaultStep, FaultWire,
};
use mainstay::{Channel, Event, Frame, Session, Subscription};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// What a gap has to say about it: a word for the kind, and words of the rule.
fn rule(frame: BadFrame) -> (&'static str, &'static str) {
    match frame {
        BadFrame::ReservedBit1
        | BadFrame::ReservedBit2
        | BadFrame::ReservedBit3
        | BadFrame::ReservedBitOfControl => ("protocol", "Reserved bits are non-zero"),
        BadFrame::ReservedOpcode => ("protocol", "invalid opcode: 3"),
        BadFrame::ReservedControlOpcode => ("protocol", "invalid opcode: 11"),
        BadFrame::Masked => ("protocol", "masked frame from server"),
        BadFrame::FragmentedPing | BadFrame::FragmentedClose => {
            ("protocol", "Fragmented control frame")
        }
        BadFrame::LongPing | BadFrame::LongClose => ("protocol", "Control frame too big"),
        BadFrame::ContinuationOfNothing => ("protocol", "nothing to continue"),
        BadFrame::MessageWithinFragments => ("protocol", "While waiting for more fragments"),
        BadFrame::BadUtf8
        | BadFrame::BadUtf8InFragment
        | BadFrame::CutUtf8
        | BadFrame::BadUtf8InReason => ("not_utf8", "not utf-8"),
        BadFrame::CloseOfOneByte => ("protocol", "Invalid close sequence"),
        // The code itself is told by neither wire: it is replaced by what it is answered with.
        BadFrame::CloseCode(_) => ("peer_closed", "code 1002: \"Protocol violation\""),
        BadFrame::LengthHighBit | BadFrame::HugeLength => ("too_big", "Message too long"),
        other => panic!("{other:?} is tolerable, or new here"),
    }
}

/// A session over that wire with a channel, at a venue whose first connection brings that frame among its messages.
async fn meet(frame: BadFrame, wire: WireBackend) -> (FaultServer, Session, Subscription<Frame>) {
    let steps = json!([{ "serve": "30ms" }, { "bad_frame": frame }, { "serve": "1h" }]);
    let steps: Vec<FaultStep> = serde_json::from_value(steps).expect("steps");
    let script = FaultScript::new("a bad frame", [steps]).expect("playable");
    let venue = FaultServer::start(script, FaultWire::Memory).await;
    let venue = venue.expect("a venue");
    let delay = Duration::from_millis(5);
    let config = venue
        .config()
        .wire(wire)
        .backoff(Backoff::new(delay, delay));
    let session = Session::start(FaultPlatform, config.build().expect("valid")).await;
    let session = session.expect("a session");
    let subscription = session.subscribe(Channel::new("a")).await;
    (venue, session, subscription.expect("a subscription"))
}

async fn next(subscription: &mut Subscription<Frame>) -> Event<Frame> {
    let event = timeout(Duration::from_secs(5), subscription.next()).await;
    event.expect("in time").expect("it goes on")
}

const WIRES: [WireBackend; 2] = [WireBackend::Tungstenite, WireBackend::Fast];

#[tokio::test(start_paused = true)]
async fn each_bad_frame_is_a_gap_that_names_the_rule_and_the_session_is_served_again() {
    let bad = BadFrame::ALL
        .into_iter()
        .filter(|frame| !frame.is_tolerable());
    for (frame, wire) in bad.flat_map(|frame| WIRES.map(|wire| (frame, wire))) {
        let (venue, session, mut messages) = meet(frame, wire).await;
        let gap = loop {
            match next(&mut messages).await {
                Event::Data(_) => {}
                Event::Gap(gap) => break gap,
                event => panic!("{frame:?}, {wire:?}: {event:?}"),
            }
        };
        let (label, words) = rule(frame);
        let told = gap.cause.to_string();
        assert_eq!(gap.cause.label(), label, "{frame:?}, {wire:?}: {told}");
        assert!(told.contains(words), "{frame:?}, {wire:?}: {told}");
        let event = next(&mut messages).await;
        assert!(matches!(event, Event::Resynced(_)), "{frame:?}: {event:?}");
        let Event::Data(data) = next(&mut messages).await else {
            panic!("{frame:?}, {wire:?}: no data");
        };
        assert_eq!(data.epoch.as_u64(), 2, "{frame:?}, {wire:?}");
        assert!(session.state().is_live());
        assert_eq!(venue.accepted(), 2, "{frame:?}, {wire:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_harms_nobody_is_borne() {
    let borne = BadFrame::ALL
        .into_iter()
        .filter(|frame| frame.is_tolerable());
    let borne: Vec<BadFrame> = borne.collect();
    assert_eq!(borne, [BadFrame::LongLength16, BadFrame::LongLength64]);
    for (frame, wire) in borne
        .into_iter()
        .flat_map(|frame| WIRES.map(|wire| (frame, wire)))
    {
        let (venue, session, mut messages) = meet(frame, wire).await;
        let mut all = session.messages();
        let mut odd = false;
        for _ in 0..20 {
            let event = next(&mut messages).await;
            assert!(
                matches!(event, Event::Data(_)),
                "{frame:?}, {wire:?}: {event:?}"
            );
            while let Ok(Some(Event::Data(data))) = timeout(Duration::ZERO, all.next()).await {
                odd |= data.payload() == b"odd";
            }
        }
        assert!(odd, "{frame:?}, {wire:?}: it came");
        assert_eq!(venue.accepted(), 1);
    }
}

/// What the peer says is told as what it has said, and what it did not say is not.
#[tokio::test(start_paused = true)]
async fn a_close_that_may_be_sent_is_told_with_its_own_code() {
    for wire in WIRES {
        let (_venue, _session, mut messages) = meet(BadFrame::CloseCode(4000), wire).await;
        let gap = loop {
            if let Event::Gap(gap) = next(&mut messages).await {
                break gap;
            }
        };
        assert!(
            matches!(
                &gap.cause,
                GapCause::ConnectionLost(CloseReason::Peer { code: Some(4000), reason }) if reason.is_empty()
            ),
            "{wire:?}: {:?}",
            gap.cause
        );
    }
}
