//! What values an option may have, and which may not stand together.
//!
//! Apart from the merging because it looks only at the result: no value is right or wrong for having come
//! from one layer or another.
//!
//! Invariants: everything that is wrong is named, not only the first; nothing here stops at a finding.

use std::time::Duration;

use mainstay_supervisors::backoff::{Backoff, Jitter};

use super::value::Setting;
use super::{Config, Endpoint, Offline, Overflow, WireBackend};
use crate::error::ConfigError;

/// The longest duration that an option may have. Sums of a few of them stay within any clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

pub(super) fn check(config: &Config, errors: &mut Vec<ConfigError>) {
    if config.endpoints().any(Endpoint::is_tls) {
        // Loads the trust anchors now, so that a configuration without any fails here.
        errors.extend(config.tls.client_config().err());
    }
    durations(config, errors);
    for (option, value, largest) in [
        ("outbound_capacity", config.outbound_capacity, 1 << 20),
        ("latency_window", config.latency_window, 100_000),
        ("read_buffer", config.read_buffer, 1 << 26),
        ("max_message", config.max_message, 1 << 32),
        ("queue.capacity", config.queue.capacity, 1 << 24),
    ] {
        if value == 0 || value > largest {
            let remedy = format!("give a number from 1 to {largest}");
            errors.push(ConfigError::new(option, value.to_string(), remedy));
        }
    }
    let Offline {
        capacity, bytes, ..
    } = config.offline;
    for (option, value, least, largest) in [
        ("offline.capacity", capacity, 0, 1 << 20),
        ("offline.bytes", bytes, 1, 1 << 32),
        ("queue.bytes", config.queue.bytes, 1, 1 << 40),
        ("batch_spans", config.batch_spans, 0, 1_000_000_000),
    ] {
        if value < least || value > largest {
            let remedy = format!("give a number from {least} to {largest}");
            errors.push(ConfigError::new(option, value.to_string(), remedy));
        }
    }
    if config.wire == WireBackend::Fast && !cfg!(feature = "fast-wire") {
        let remedy = "build with the feature fast-wire, or leave it out";
        errors.push(ConfigError::new("wire", config.wire.show(), remedy));
    }
    backoff(&config.reconnect.backoff, errors);
    if let Some(limits) = &config.rate_limits {
        errors.extend(limits.check().err());
    }
    if let Some(limits) = &config.connect_limits {
        errors.extend(limits.check().err().map(|mut error| {
            let option = error.option.replacen("rate_limits", "connect_limits", 1);
            error.option = option.into();
            error
        }));
    }
    if let Some(record) = &config.record {
        record.check(LONGEST, errors);
    }
}

fn durations(config: &Config, errors: &mut Vec<ConfigError>) {
    let limits = &config.limits;
    // The phases of opening are only ever waited for; the others are added to moments.
    let phases = [
        ("limits.gate", Some(limits.gate)),
        ("limits.dns", Some(limits.dns)),
        ("limits.tcp", Some(limits.tcp)),
        ("limits.tls", Some(limits.tls)),
        ("limits.upgrade", Some(limits.upgrade)),
        ("limits.auth", Some(limits.auth)),
        ("limits.first_data", limits.first_data),
    ];
    let others = [
        ("request_timeout", Some(config.request_timeout)),
        ("start_timeout", Some(config.start_timeout)),
        ("shutdown_timeout", Some(config.shutdown_timeout)),
        ("write_timeout", Some(config.write_timeout)),
        (
            "reconnect.stable_after",
            Some(config.reconnect.stable_after),
        ),
        (
            "reconnect.fail_back_after",
            config.reconnect.fail_back_after,
        ),
        ("backoff.min", Some(config.reconnect.backoff.min)),
        ("backoff.max", Some(config.reconnect.backoff.max)),
        ("liveness.quiet", Some(config.liveness.quiet)),
        ("liveness.grace", Some(config.liveness.grace)),
        ("ladder.pause", config.ladder.pause),
        ("offline.max_age", config.offline.max_age),
        (
            "queue.overflow",
            match config.queue.overflow {
                Overflow::Block(limit) => Some(limit),
                Overflow::DropOldest
                | Overflow::DropNewest
                | Overflow::Conflate(_)
                | Overflow::Disconnect => None,
            },
        ),
    ];
    let phases = phases.map(|(option, value)| (option, value, Duration::MAX));
    let others = others.map(|(option, value)| (option, value, LONGEST));
    for (option, value, longest) in phases.into_iter().chain(others) {
        let Some(value) = value else { continue };
        if value.is_zero() || value > longest {
            let remedy = "give a duration above zero, of at most a year";
            errors.push(ConfigError::new(option, value.show(), remedy));
        }
    }
}

fn backoff(backoff: &Backoff, errors: &mut Vec<ConfigError>) {
    if backoff.min > backoff.max {
        let remedy = format!(
            "give a duration of at most backoff.max, {}",
            backoff.max.show()
        );
        errors.push(ConfigError::new("backoff.min", backoff.min.show(), remedy));
    }
    if backoff.max_attempts == Some(0) {
        let remedy = "give at least 1, or switch off reconnect.automatic";
        errors.push(ConfigError::new("backoff.max_attempts", "0", remedy));
    }
    if !(backoff.factor.is_finite() && backoff.factor >= 1.0) {
        let factor = backoff.factor.to_string();
        let remedy = "give a number of at least 1";
        errors.push(ConfigError::new("backoff.factor", factor, remedy));
    }
    match backoff.jitter {
        Jitter::Percent(percent) if percent > 100 => {
            let remedy = "give a share of at most 100%";
            let jitter = backoff.jitter.show();
            errors.push(ConfigError::new("backoff.jitter", jitter, remedy));
        }
        Jitter::Percent(_) | Jitter::Full | Jitter::Equal | Jitter::None => {}
    }
}
