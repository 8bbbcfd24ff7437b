//! What the reader recognises by what it has learnt, held against asking the platform.

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
