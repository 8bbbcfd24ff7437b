//! Receiving ticks: subscriptions of ours against a bare tokio-tungstenite loop that looks at nothing, and
//! against others who do a like job.
//!
//! `cargo bench --bench receive`; `MESSAGES`, `ROUNDS`, `SETTING` (`T1` or `T2`) and `PARTS`
//! (`ticks,tls,peers,typed,sizes,channels,recorder,otel`) in the environment change what is run.

#[path = "receive/ours.rs"]
mod ours;
#[path = "receive/peers.rs"]
mod peers;
#[path = "receive/theirs.rs"]
mod theirs;

use std::process::Command;

use mainstay_benches::collector::Collector;
use mainstay_benches::load::{Load, channel};
use mainstay_benches::race::Race;
use mainstay_benches::sender::Sender;
use mainstay_benches::session::WIRES;
use mainstay_benches::setting::Setting;
use mainstay_benches::tls::Authority;
use mainstay_benches::{Parts, number, rounds};

const COLUMNS: &[&str] = &["msg/s"];
const PARTS: [&str; 8] = [
    "ticks", "tls", "peers", "typed", "sizes", "channels", "recorder", "otel",
];

fn main() {
    let messages = number("MESSAGES", 500_000);
    let rounds = rounds(11);
    let parts = Parts::asked(&PARTS);
    for setting in Setting::asked() {
        if parts.has("ticks") {
            ticks(setting, messages, rounds);
        }
        if parts.has("tls") {
            ticks_tls(setting, messages / 2, rounds);
        }
        if parts.has("peers") {
            peers(setting, messages / 5, rounds);
        }
        if parts.has("typed") {
            typed(setting, messages / 2, rounds);
        }
        if setting == Setting::One {
            if parts.has("sizes") {
                size("1KiB", 1024, messages / 2, rounds);
                size("16KiB", 16 * 1024, messages / 16, rounds);
            }
            if parts.has("channels") {
                channels(messages, rounds);
            }
            if parts.has("recorder") {
                recorder(messages / 2, rounds);
            }
            if parts.has("otel") {
                // As many as take three collections, over the fast wire one and a half, and often: what is looked for
                // is less than rounds differ by.
                otel(6 * messages, 2 * rounds);
            }
        }
    }
}

/// 200-byte ticks through one subscription: envelope routed, payload raw, statistics on.
fn ticks(setting: Setting, messages: usize, rounds: usize) {
    const SIZE: usize = 200;
    let port = Sender::start(Load::ticks(SIZE, messages), setting).port;
    let mut race = Race::new(format!("receive {SIZE} B, {setting}"), COLUMNS)
        .with("bare", move || theirs::bare(port, messages, SIZE))
        .with("raw tcp", move || theirs::raw(port, messages, SIZE))
        .with("three mailboxes", move || theirs::mailboxes(port, messages));
    for (name, wire) in WIRES {
        race = race.with(name, move || ours::raw(port, wire, messages, SIZE));
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    let (bound, fast) = match setting {
        Setting::One => (0.92, 1.5),
        Setting::Two => (0.80, 1.1),
    };
    outcome.at_least(&format!("receive_200B_{setting}"), "ours", "bare", 0, bound);
    outcome.at_least(
        &format!("receive_200B_{setting}_fast"),
        "ours_fast",
        "bare",
        0,
        fast,
    );
}

/// The same over TLS, which takes most of the time on both sides.
fn ticks_tls(setting: Setting, messages: usize, rounds: usize) {
    const SIZE: usize = 200;
    let authority = Authority::new();
    let port = Sender::start_tls(Load::ticks(SIZE, messages), setting, &authority).port;
    let trusting = authority.clone();
    let mut race = Race::new(format!("receive {SIZE} B, TLS, {setting}"), COLUMNS)
        .with("bare", move || {
            theirs::bare_tls(port, trusting.clone(), messages, SIZE)
        });
    for (name, wire) in WIRES {
        let trusting = authority.clone();
        race = race.with(name, move || {
            ours::raw_tls(port, trusting.clone(), wire, messages, SIZE)
        });
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    let bound = match setting {
        Setting::One => 0.92,
        Setting::Two => 0.80,
    };
    for (name, bar) in [("ours", ""), ("ours_fast", "_fast")] {
        let bar = format!("receive_200B_tls_{setting}{bar}");
        outcome.at_least(&bar, name, "bare", 0, bound);
    }
}

/// The same bytes, or for JSON-RPC libraries as many in the shape that they want, received by others.
fn peers(setting: Setting, messages: usize, rounds: usize) {
    const SIZE: usize = 200;
    let ticks = Sender::start(Load::ticks(SIZE, messages), setting).port;
    let subscription = Load::notifications("subscription", SIZE, messages);
    let jsonrpsee = Sender::start(subscription, setting).port;
    let subscription = Load::notifications("eth_subscription", SIZE, messages);
    let alloy = Sender::start(subscription, setting).port;
    let title = format!("receive {SIZE} B, others, {setting}");
    let mut race = Race::new(title, COLUMNS)
        .with("bare", move || theirs::bare(ticks, messages, SIZE))
        .with("tokio-websockets", move || {
            peers::tokio_websockets(ticks, messages)
        })
        .with("fastwebsockets", move || {
            peers::fastwebsockets(ticks, messages)
        })
        .with("jsonrpsee", move || peers::jsonrpsee(jsonrpsee, messages))
        .with("alloy-pubsub", move || peers::alloy(alloy, messages))
        .with("ezsockets", move || peers::ezsockets(ticks, messages));
    for (name, wire) in WIRES {
        race = race.with(name, move || ours::raw(ticks, wire, messages, SIZE));
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    for peer in ["jsonrpsee", "alloy-pubsub", "ezsockets"] {
        for (name, bar) in [("ours", ""), ("ours_fast", "_fast")] {
            let bar = format!("receive_over_{peer}_{setting}{bar}");
            outcome.at_least(&bar, name, peer, 0, 2.5);
        }
    }
}

/// The same, decoded to a typed struct by the consumer.
fn typed(setting: Setting, messages: usize, rounds: usize) {
    let port = Sender::start(Load::ticks(200, messages), setting).port;
    let title = format!("receive 200 B, decoded, {setting}");
    let mut race = Race::new(title, COLUMNS).with("bare + serde_json", move || {
        theirs::decoding(port, messages)
    });
    for (name, wire) in WIRES {
        race = race.with(name, move || ours::typed(port, wire, messages));
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    let bound = match setting {
        Setting::One => 0.95,
        Setting::Two => 1.0,
    };
    for (name, bar) in [("ours", ""), ("ours_fast", "_fast")] {
        let bar = format!("receive_typed_{setting}{bar}");
        outcome.at_least(&bar, name, "bare + serde_json", 0, bound);
    }
}

/// Larger messages.
fn size(label: &str, size: usize, messages: usize, rounds: usize) {
    let setting = Setting::One;
    let port = Sender::start(Load::ticks(size, messages), setting).port;
    let mut race = Race::new(format!("receive {label}, {setting}"), COLUMNS)
        .with("bare", move || theirs::bare(port, messages, size))
        .with("raw tcp", move || theirs::raw(port, messages, size));
    for (name, wire) in WIRES {
        race = race.with(name, move || ours::raw(port, wire, messages, size));
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    for (name, bar) in [("ours", ""), ("ours_fast", "_fast")] {
        let bar = format!("receive_{label}_{setting}{bar}");
        outcome.at_least(&bar, name, "bare", 0, 0.95);
    }
}

/// 200 subscriptions on one connection, 8 of them consumed slowly under a dropping policy.
fn channels(messages: usize, rounds: usize) {
    const COUNT: usize = 200;
    const SLOW: usize = 8;
    let setting = Setting::One;
    let messages = messages / COUNT * COUNT;
    let port = Sender::start(Load::channels(COUNT, 200, messages), setting).port;
    let names: Vec<String> = (0..COUNT).map(channel).collect();
    let title = format!("receive 200 B, {COUNT} subscriptions, {SLOW} slow, {setting}");
    let mut race =
        Race::new(title, COLUMNS).with("bare", move || theirs::bare(port, messages, 200));
    for (name, wire) in WIRES {
        let names = names.clone();
        race = race.with(name, move || {
            ours::many(port, wire, names.clone(), SLOW, messages / COUNT)
        });
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    for (name, bar) in [("ours", ""), ("ours_fast", "_fast")] {
        let bar = format!("receive_200_subscriptions_{setting}{bar}");
        outcome.at_least(&bar, name, "bare", 0, 0.85);
    }
}

/// What a recording costs, over the same session without one. The bar is that of a recording with room for all that may
/// wait: one that leaves frames out writes less. How many that are by default is told beside it.
fn recorder(messages: usize, rounds: usize) {
    let setting = Setting::One;
    let port = Sender::start(Load::ticks(200, messages), setting).port;
    let wire = WIRES[0].1;
    let title = format!("receive 200 B, what a recording costs, {setting}");
    let race = Race::new(title, ours::RECORDING)
        .with("ours", move || ours::plain(port, wire, messages, 200))
        .with("ours, recorded", move || {
            ours::recorded(port, wire, messages, 200, true)
        })
        .with("ours, recorded, default bounds", move || {
            ours::recorded(port, wire, messages, 200, false)
        });
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    let bar = format!("receive_recorder_{setting}");
    outcome.at_least(&bar, "ours, recorded", "ours", 0, 0.97);
}

/// What it costs to be watched: spans, records and metrics to a collector, over the same session unwatched. The
/// feature is compiled in either way. So that metrics are collected meanwhile, and not once a minute, this runs in a process of
/// its own, which reads in its environment how often.
fn otel(messages: usize, rounds: usize) {
    const EVERY: &str = "OTEL_METRIC_EXPORT_INTERVAL";
    if std::env::var_os(EVERY).is_none() {
        let this = std::env::current_exe().expect("this program has a path");
        let status = Command::new(this)
            .env(EVERY, "100")
            .env("PARTS", "otel")
            .env("SETTING", Setting::One.to_string())
            .status();
        assert!(status.expect("this program runs again").success());
        return;
    }
    let setting = Setting::One;
    let port = Sender::start(Load::ticks(200, messages), setting).port;
    let collector = Collector::start().port;
    let mut race = Race::new(
        format!("receive 200 B, what otel costs, {setting}"),
        COLUMNS,
    );
    for (name, watched, wire) in [
        ("ours", "ours, watched", WIRES[0].1),
        ("ours_fast", "ours_fast, watched", WIRES[1].1),
    ] {
        race = race
            .with(name, move || ours::raw(port, wire, messages, 200))
            .with(watched, move || {
                ours::watched(port, collector, wire, messages, 200)
            });
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    let bar = format!("receive_otel_{setting}");
    outcome.at_least(&bar, "ours, watched", "ours", 0, 0.97);
    let bar = format!("receive_otel_{setting}_fast");
    outcome.at_least(&bar, "ours_fast, watched", "ours_fast", 0, 0.97);
}
