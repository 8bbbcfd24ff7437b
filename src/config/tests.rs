//! What a configuration refuses, merges and tells.

use std::time::Duration;

use mainstay_supervisors::backoff::{Backoff, Growth, Jitter};

use super::*;

fn builder() -> ConfigBuilder {
    Config::builder("ws://localhost")
}

#[track_caller]
fn refused(builder: ConfigBuilder) -> String {
    builder.build().expect_err("refused").to_string()
}

#[test]
fn the_defaults_are_valid() {
    assert!(builder().build().is_ok());
}

#[test]
fn a_duration_of_nothing_or_of_more_than_a_year_is_refused_by_name() {
    for odd in [Duration::ZERO, Duration::MAX] {
        let text = refused(builder().request_timeout(odd));
        assert!(text.starts_with("request_timeout cannot be"), "{text}");
        let text = refused(builder().liveness(Liveness::new(odd, Duration::from_secs(1))));
        assert!(text.starts_with("liveness.quiet cannot be"), "{text}");
        let text = refused(builder().shutdown_timeout(odd));
        assert!(text.starts_with("shutdown_timeout cannot be"), "{text}");
    }
}

#[test]
fn a_size_that_no_machine_has_is_refused_by_name() {
    for odd in [0, usize::MAX, 1 << 46] {
        let text = refused(builder().read_buffer(odd));
        assert!(text.starts_with("read_buffer cannot be"), "{text}");
        let text = refused(builder().outbound_capacity(odd));
        assert!(text.starts_with("outbound_capacity cannot be"), "{text}");
        let text = refused(builder().latency_window(odd));
        assert!(text.starts_with("latency_window cannot be"), "{text}");
    }
}

#[test]
fn what_may_wait_offline_is_read_checked_and_explained() {
    let text = r#"{ "url": "ws://h", "offline": { "bytes": 1000, "max_age": "2s" } }"#;
    let config = Config::from_json(text).unwrap();
    assert_eq!(
        config.offline,
        Offline::default()
            .bytes(1000)
            .max_age(Duration::from_secs(2))
    );
    let explanation = config.explain();
    for (option, value, layer) in [
        ("offline.capacity", "1024", Layer::Default),
        ("offline.bytes", "1000", Layer::User),
        ("offline.max_age", "2s", Layer::User),
    ] {
        let row = explanation.option(option).unwrap();
        assert_eq!((row.value.as_str(), row.layer), (value, layer), "{option}");
    }
    assert!(builder().offline(Offline::new(0)).build().is_ok());
    for (odd, option) in [
        (Offline::new(usize::MAX), "offline.capacity"),
        (Offline::default().bytes(0), "offline.bytes"),
        (
            Offline::default().max_age(Duration::ZERO),
            "offline.max_age",
        ),
    ] {
        let text = refused(builder().offline(odd));
        assert!(text.starts_with(&format!("{option} cannot be")), "{text}");
    }
}

#[test]
fn the_bytes_of_a_queue_are_read_checked_and_explained() {
    let text = r#"{ "url": "ws://h", "queue": { "bytes": 1000 } }"#;
    let config = Config::from_json(text).unwrap();
    assert_eq!(config.queue, Queue::default().bytes(1000));
    let explanation = config.explain();
    let row = explanation.option("queue.bytes").unwrap();
    assert_eq!((row.value.as_str(), row.layer), ("1000", Layer::User));
    let text = refused(builder().queue(Queue::default().bytes(0)));
    assert!(text.starts_with("queue.bytes cannot be \"0\""), "{text}");
}

#[test]
fn a_backoff_that_cannot_work_is_refused() {
    let backwards = Backoff::new(Duration::from_secs(2), Duration::from_secs(1));
    assert!(refused(builder().backoff(backwards)).starts_with("backoff.min cannot be"));
}

#[test]
fn headers_of_the_handshake_and_headers_that_are_none_are_refused_without_their_values() {
    assert!(refused(builder().header("Upgrade", "h2c")).contains("Upgrade"));
    for (name, value) in [("x-key", "hunter2\r\nx: y"), ("x-key: hunter2", "")] {
        let text = refused(builder().header(name, value));
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("x-key"), "{text}");
    }
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let errors = Config::builder("http://localhost")
        .header("Upgrade", "h2c")
        .request_timeout(Duration::ZERO)
        .outbound_capacity(0)
        .backoff(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)).factor(0.5))
        .build()
        .expect_err("refused");
    let options: Vec<_> = errors.iter().map(|error| &*error.option).collect();
    assert_eq!(
        options,
        [
            "url",
            "header",
            "request_timeout",
            "outbound_capacity",
            "backoff.min",
            "backoff.factor"
        ]
    );
    let text = errors.to_string();
    assert!(
        text.contains("url cannot be") && text.contains("backoff.min cannot be"),
        "{text}"
    );
}

#[test]
fn a_settings_text_is_refused_with_all_its_mistakes_and_the_names_that_were_meant() {
    let errors = Config::from_json(
        r#"{
            "url": "ws://localhost",
            "request_timeuot": "5s",
            "retry_count": 3,
            "liveness": { "quiet": 30, "grase": "1s" },
            "grace": "1s",
            "start_timeout": null,
            "max_message": 0,
            "password": "hunter2"
        }"#,
    )
    .expect_err("refused");
    for (option, remedy) in [
        ("request_timeuot", "\"request_timeout\""),
        ("retry_count", "\"backoff.max_attempts\""),
        ("liveness.quiet", "\"250ms\""),
        ("liveness.grase", "\"liveness.grace\""),
        ("grace", "\"liveness.grace\""),
        ("start_timeout", "leave it out"),
        ("max_message", "from 1 to"),
        ("password", "leave it out"),
    ] {
        let error = errors
            .option(option)
            .unwrap_or_else(|| panic!("{option}: {errors}"));
        assert!(error.remedy.contains(remedy), "{error}");
    }
    assert_eq!(errors.iter().count(), 8, "{errors}");
    assert!(!errors.to_string().contains("hunter2"));
}

#[test]
fn what_older_clients_call_an_option_leads_to_its_name_here() {
    let names = [
        ("retry_count", "backoff.max_attempts"),
        ("retry_delay", "backoff.min"),
        ("max_backoff", "backoff.max"),
        ("timeout", "limits.tcp"),
        ("heartbeat_interval", "liveness.quiet"),
        ("reconnect_on_error", "reconnect.automatic"),
        ("latency_buffer_size", "latency_window"),
        ("record_to", "record"),
        ("host", "url"),
    ];
    let settings = names
        .map(|(formerly, _)| format!("\"{formerly}\": 1"))
        .join(",");
    let errors = Config::from_json(&format!("{{ {settings} }}")).expect_err("refused");
    for (formerly, now) in names {
        let error = errors
            .option(formerly)
            .unwrap_or_else(|| panic!("{formerly}: {errors}"));
        assert!(error.remedy.contains(&format!("\"{now}\"")), "{error}");
    }
    // Those that are called the same are taken.
    let text = r#"{ "url": "ws://h", "restore_subscriptions": false, "request_timeout": "30s" }"#;
    assert!(Config::from_json(text).is_ok());
}

#[test]
fn layers_merge_option_by_option() {
    let seconds = Duration::from_secs;
    let platform = Settings {
        liveness: LivenessSettings {
            quiet: Some(seconds(40)),
            grace: Some(seconds(41)),
            ..LivenessSettings::default()
        },
        request_timeout: Some(seconds(42)),
        write_timeout: Some(seconds(43)),
        ..Settings::default()
    };
    let preset = Settings {
        liveness: LivenessSettings {
            quiet: Some(seconds(30)),
            ..LivenessSettings::default()
        },
        request_timeout: Some(seconds(31)),
        ..Settings::default()
    };
    let config = builder()
        .request_timeout(seconds(20))
        .preset(preset)
        .build()
        .unwrap()
        .with_platform(platform)
        .unwrap();
    let explanation = config.explain();
    for (option, value, layer) in [
        ("request_timeout", "20s", Layer::User),
        ("liveness.quiet", "30s", Layer::Preset),
        ("liveness.grace", "41s", Layer::Platform),
        ("write_timeout", "43s", Layer::Platform),
        ("shutdown_timeout", "5s", Layer::Default),
        ("limits.first_data", "none", Layer::Default),
    ] {
        let row = explanation.option(option).unwrap();
        assert_eq!((row.value.as_str(), row.layer), (value, layer), "{option}");
    }
    assert_eq!(config.request_timeout, seconds(20));
    assert_eq!(config.liveness, Liveness::new(seconds(30), seconds(41)));
}

#[test]
fn heartbeats_can_be_switched_off_by_any_layer_and_on_again_by_a_higher_one() {
    assert_eq!(builder().build().unwrap().liveness, Liveness::default());
    let off = builder().liveness(Liveness::off()).build().unwrap();
    assert!(!off.liveness.enabled);
    let explained = off.explain();
    let row = explained.option("liveness.enabled").unwrap();
    assert_eq!((row.value.as_str(), row.layer), ("false", Layer::User));

    let text = r#"{ "url": "ws://localhost", "liveness": { "enabled": false } }"#;
    let read = Config::from_json(text).unwrap();
    assert_eq!(read.liveness, Liveness::off());
    let errors = Config::from_json(r#"{ "url": "ws://localhost", "heartbeat": "disabled" }"#);
    let errors = errors.expect_err("no such option");
    let error = errors.option("heartbeat").unwrap();
    assert!(error.remedy.contains("liveness.enabled"), "{error}");

    let preset = Settings {
        liveness: LivenessSettings {
            enabled: Some(false),
            ..LivenessSettings::default()
        },
        ..Settings::default()
    };
    let preset = builder().preset(preset);
    assert!(!preset.clone().build().unwrap().liveness.enabled);
    let on = preset.liveness(Liveness::default()).build().unwrap();
    assert!(on.liveness.enabled);
}

#[test]
fn an_option_that_may_be_absent_can_be_unset() {
    let limited = Profile::Standard;
    let config = builder().profile(limited).build().unwrap();
    assert_eq!(config.reconnect.backoff.max_attempts, Some(10));
    let config = builder()
        .profile(limited)
        .max_attempts(None)
        .build()
        .unwrap();
    assert_eq!(config.reconnect.backoff.max_attempts, None);
    for unset in ["null", "\"none\""] {
        let text = format!(r#"{{ "backoff": {{ "max_attempts": {unset} }} }}"#);
        let settings: Settings = serde_json::from_str(&text).unwrap();
        let config = builder()
            .profile(limited)
            .settings(settings)
            .build()
            .unwrap();
        assert_eq!(config.reconnect.backoff.max_attempts, None);
        assert_eq!(config.reconnect.backoff.max, Duration::from_secs(60));
    }
}

#[test]
fn headers_merge_by_name_and_can_be_left_out() {
    let platform = Settings {
        headers: Headers::new()
            .with("X-Venue", "v")
            .with("X-Api", "p")
            .with("Origin", "o"),
        ..Settings::default()
    };
    let config = builder()
        .header("x-api", "hunter2")
        .without_header("origin")
        .build()
        .unwrap()
        .with_platform(platform)
        .unwrap();
    assert_eq!(config.headers.get("x-venue").unwrap(), "v");
    assert_eq!(config.headers.get_all("x-api").iter().count(), 1);
    assert_eq!(config.headers.get("x-api").unwrap(), "hunter2");
    assert!(!config.headers.contains_key("origin"));
    let table = config.explain().to_string();
    assert!(
        table.contains("headers.x-venue") && !table.contains("hunter2"),
        "{table}"
    );
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn nothing_secret_is_in_the_debug_text_of_settings() {
    let settings: Settings = serde_json::from_str(
        r#"{ "url": "wss://h/ws?token=hunter2", "headers": { "authorization": "hunter2" } }"#,
    )
    .unwrap();
    let text = format!("{settings:?}");
    assert!(
        text.contains("headers.authorization") && !text.contains("hunter2"),
        "{text}"
    );
    let config = settings_only(settings);
    assert!(!config.explain().to_string().contains("hunter2"));
}

fn settings_only(settings: Settings) -> Config {
    ConfigBuilder::default().settings(settings).build().unwrap()
}

#[test]
fn fallbacks_are_read_in_their_order_and_each_mistake_is_named() {
    let config = builder()
        .fallbacks(["wss://b.example/ws?key=hunter2", "ws://c.example"])
        .build()
        .unwrap();
    let hosts: Vec<_> = config.endpoints().map(Endpoint::host).collect();
    assert_eq!(hosts, ["localhost", "b.example", "c.example"]);
    let table = config.explain();
    let row = table.option("fallbacks").unwrap();
    assert_eq!(row.value, "wss://b.example/ws?…, ws://c.example");
    assert!(!format!("{config:?}").contains("hunter2"));

    let read = r#"{ "fallbacks": ["ws://b.example"], "reconnect": { "fail_back_after": "none", "stable_by": "data" } }"#;
    let read: Settings = serde_json::from_str(read).unwrap();
    let config = builder().settings(read.clone()).build().unwrap();
    assert_eq!(config.fallbacks[0].host(), "b.example");
    assert_eq!(config.reconnect.fail_back_after, None);
    assert_eq!(config.reconnect.stable_by, StableBy::Data);
    let unset: Settings = serde_json::from_str(r#"{ "fallbacks": "none" }"#).unwrap();
    let config = builder().preset(read).settings(unset).build().unwrap();
    assert!(config.fallbacks.is_empty());

    let wrong = [
        "http://b.example",
        "ws://localhost/",
        "ws://c.example",
        "ws://c.example:80/",
    ];
    let errors = builder().fallbacks(wrong).build().unwrap_err();
    let errors: Vec<_> = errors
        .iter()
        .filter(|one| one.option == "fallbacks")
        .collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[0].remedy.contains("ws://"), "{}", errors[0]);
    assert!(errors[1].remedy.contains("once"), "{}", errors[1]);
    let none: [&str; 0] = [];
    assert!(refused(builder().fallbacks(none)).contains("fallbacks"));
    let zero = builder().fail_back_after(Some(Duration::ZERO));
    assert!(refused(zero).contains("reconnect.fail_back_after"));
    let text = r#"{ "url": "ws://h", "fallbacks": "ws://h?key=hunter2", "reconnect": { "stable_by": "luck" } }"#;
    let errors = Config::from_json(text).unwrap_err();
    assert!(errors.option("fallbacks").is_some() && errors.option("reconnect.stable_by").is_some());
    assert!(!errors.to_string().contains("hunter2"));
}

#[test]
fn subprotocols_are_offered_in_their_order_and_checked() {
    let config = builder().subprotocols(["mqtt", "wamp"]).build().unwrap();
    assert_eq!(
        config.headers.get("sec-websocket-protocol").unwrap(),
        "mqtt, wamp"
    );
    for wrong in [vec!["a b"], vec!["mqtt", "mqtt"], vec![""]] {
        assert!(refused(builder().subprotocols(wrong)).starts_with("subprotocols cannot be"));
    }
    let twice = builder()
        .header("Sec-WebSocket-Protocol", "mqtt")
        .subprotocols(["mqtt"]);
    assert!(refused(twice).contains("not in both"));
}

#[test]
fn every_profile_is_valid_and_has_the_values_of_its_table() {
    for (profile, min, max, attempts, timeout, quiet, grace) in [
        (Profile::Financial, 100, 30_000, None, 5, 15, 5),
        (Profile::Standard, 1_000, 60_000, Some(10), 10, 30, 10),
        (Profile::Lightweight, 2_000, 10_000, Some(3), 15, 60, 15),
        (Profile::Messaging, 1_000, 30_000, Some(20), 8, 45, 10),
    ] {
        let config = builder().profile(profile).build().unwrap();
        let backoff = config.reconnect.backoff;
        assert_eq!(backoff.min, Duration::from_millis(min), "{profile:?}");
        assert_eq!(backoff.max, Duration::from_millis(max), "{profile:?}");
        assert_eq!(backoff.max_attempts, attempts, "{profile:?}");
        let (growth, jitter) = match profile {
            Profile::Financial => (Growth::Exponential, Jitter::Percent(25)),
            Profile::Messaging => (Growth::Exponential, Jitter::None),
            Profile::Standard | Profile::Lightweight => (Growth::Linear, Jitter::None),
        };
        assert_eq!((backoff.growth, backoff.jitter), (growth, jitter));
        assert_eq!(config.limits.upgrade, Duration::from_secs(timeout));
        assert_eq!(
            config.liveness,
            Liveness::new(Duration::from_secs(quiet), Duration::from_secs(grace))
        );
    }
}

#[test]
fn a_later_call_of_the_same_layer_wins() {
    let seconds = |request| Settings {
        request_timeout: Some(Duration::from_secs(request)),
        ..Settings::default()
    };
    let config = builder()
        .settings(seconds(1))
        .request_timeout(Duration::from_secs(2))
        .settings(seconds(3))
        .build()
        .unwrap();
    assert_eq!(config.request_timeout, Duration::from_secs(3));
}

#[test]
fn a_configuration_without_a_url_says_so() {
    let errors = Config::from_json("{}").expect_err("refused");
    assert!(errors.option("url").is_some(), "{errors}");
    let errors = Config::from_json("{ url").expect_err("refused");
    assert!(errors.option("settings").is_some(), "{errors}");
}
