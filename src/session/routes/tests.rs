//! What the reader recognises by what it has learnt, held against asking the platform.

use proptest::prelude::*;

use super::super::place::{Place, place};
use super::*;
use crate::config::Queue;
use crate::platform::{ChannelKind, JsonRpc};

/// A sorter for these channels. Theirs and everything else have a listener each.
fn sorter(channels: &[&str]) -> (Sorter, Routes) {
    let routes = Routes::default();
    for channel in channels {
        routes.add(&subscriber(Some(channel)));
    }
    routes.add(&subscriber(None));
    (Sorter::new(&routes), routes)
}

fn subscriber(channel: Option<&str>) -> Arc<Subscriber> {
    Subscriber::new(
        channel.map(Arc::from),
        ChannelKind::default(),
        Queue::default(),
    )
}

fn tick(channel: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":1}}}}"#
    )
}

/// Where each of `frames` goes by way of the sorter, and where the platform would have it go.
fn both(sorter: &mut Sorter, routes: &Routes, frames: &[String]) -> Vec<(Place, Place)> {
    let each = frames.iter().map(|frame| {
        let mut ignorant = Sorter::new(routes);
        let asked = place(&JsonRpc, &mut ignorant, frame.as_bytes());
        (place(&JsonRpc, sorter, frame.as_bytes()), asked)
    });
    // The places of two sorters of one table are the same.
    each.collect()
}

#[test]
fn a_channel_is_recognised_once_the_head_is_known() {
    let (mut sorter, _routes) = sorter(&["a", "ab", "b"]);
    assert_eq!(sorter.recognise(tick("a").as_bytes()), None);
    let first = place(&JsonRpc, &mut sorter, tick("a").as_bytes());
    for channel in ["a", "ab", "b", "a"] {
        let bin = sorter.recognise(tick(channel).as_bytes());
        assert_eq!(bin, Some(sorter.place(Some(channel))), "{channel}");
    }
    assert_eq!(first, Place::Bin(sorter.place(Some("a"))));
}

#[test]
fn what_is_recognised_goes_where_the_platform_would_have_it_go() {
    let (mut sorter, routes) = sorter(&["a", "ab", "b"]);
    let frames = [
        tick("a"),
        tick("ab"),
        tick("abc"),
        tick(""),
        tick(r"\u0061"),
        tick(r#"a\"b"#),
        tick("a").replace(r#""params""#, r#""id":7,"params""#),
        tick("a").replace("data", "channel"),
        tick("a").replace(r#","data""#, r#" ,"data""#),
        tick("b").replace("subscription", "other"),
        tick("b"),
        r#"{"jsonrpc":"2.0","id":7,"result":"a"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"a"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"a""#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"a"}}"#.to_owned(),
        "ping".to_owned(),
    ];
    for (frame, (ours, asked)) in frames.iter().zip(both(&mut sorter, &routes, &frames)) {
        assert_eq!(ours, asked, "{frame}");
    }
}

#[test]
fn a_name_that_json_writes_otherwise_is_never_compared_as_it_stands() {
    let (mut sorter, routes) = sorter(&[r"a\u0062", "ab", "c"]);
    let frames = [tick("c"), tick(r"a\u0062"), tick("ab"), tick(r"a\\u0062")];
    for (frame, (ours, asked)) in frames.iter().zip(both(&mut sorter, &routes, &frames)) {
        assert_eq!(ours, asked, "{frame}");
    }
    assert_eq!(sorter.recognise(tick("c").as_bytes()), None);
}

#[test]
fn what_came_twice_is_recognised_only_where_anything_is() {
    // Nothing has been learnt.
    let (mut before, _routes) = sorter(&["a"]);
    // A name that JSON writes otherwise is among them.
    let (mut among, _routes) = sorter(&["a", r"a\u0062"]);
    among.learn(tick("").split_once(r#"","data"#).unwrap().0.as_bytes());
    for sorter in [&mut before, &mut among] {
        sorter.place(Some("a"));
        sorter.place(Some("a"));
        for frame in [r#"a","b""#, &tick("a")] {
            assert_eq!(sorter.recognise(frame.as_bytes()), None);
        }
    }
}

#[test]
fn what_came_in_one_order_is_expected_in_it() {
    let (mut sorter, _routes) = sorter(&["a", "ab", "b"]);
    for channel in ["a", "ab", "b"].repeat(3) {
        place(&JsonRpc, &mut sorter, tick(channel).as_bytes());
    }
    assert_eq!(sorter.expected().map(|(_, name)| name), Some(&b"a"[..]));
    // Whatever comes instead is found none the less.
    for channel in ["b", "a", "a", "b", "ab"].repeat(3) {
        let bin = sorter.recognise(tick(channel).as_bytes());
        assert_eq!(bin, Some(sorter.place(Some(channel))), "{channel}");
    }
}

#[test]
fn what_comes_in_no_order_is_not_expected() {
    let (mut sorter, _routes) = sorter(&["a", "b", "c", "d"]);
    for channel in ["a", "b", "c", "a", "b", "c", "a"] {
        place(&JsonRpc, &mut sorter, tick(channel).as_bytes());
    }
    assert!(sorter.expected().is_some());
    for channel in ["c", "b", "a", "c", "d", "b", "d", "a", "d", "c"] {
        place(&JsonRpc, &mut sorter, tick(channel).as_bytes());
    }
    assert!(sorter.expected().is_none());
}

proptest! {
    #[test]
    fn whatever_the_order_each_goes_where_the_platform_would_have_it_go(
        turn in prop::collection::vec(0_usize..6, 1..6),
        others in prop::collection::vec((0_usize..40, 0_usize..6), 0..20),
    ) {
        let names = ["a", "ab", "b", "ba", "c", "unknown"];
        let (mut sorter, routes) = sorter(&names[..5]);
        let mut order: Vec<usize> = turn.iter().copied().cycle().take(40).collect();
        for (at, other) in others {
            order[at] = other;
        }
        let frames: Vec<String> = order.iter().map(|name| tick(names[*name])).collect();
        for (ours, asked) in both(&mut sorter, &routes, &frames) {
            prop_assert_eq!(ours, asked);
        }
    }
}

#[test]
fn a_batch_is_full_when_one_channel_has_as_much_as_a_queue_takes_beyond_its_rule() {
    let (mut sorter, _routes) = sorter(&["a", "b"]);
    let (one, other) = (sorter.place(Some("a")), sorter.place(Some("b")));
    for _ in 1..BATCH {
        assert!(sorter.put(one, Frame::text("1")));
        assert!(sorter.put(other, Frame::text("2")));
    }
    assert!(!sorter.is_full());
    assert!(sorter.put(one, Frame::text("1")));
    assert!(sorter.is_full());
    sorter.deliver(Epoch::new(1), Instant::now(), 0, |_, _| {}, |_| {});
    assert!(!sorter.is_full());
}
