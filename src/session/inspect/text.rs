//! A session's inspection as indented text.
//!
//! For people at a terminal; programs take the JSON.
//!
//! Invariant: no name that comes from elsewhere breaks its line or speaks to the terminal.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{SessionInspection, SubscriptionInspection};

/// A text without what would break its line, or the terminal.
pub(crate) struct OneLine<'t>(pub(crate) &'t str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if c.is_control() {
                write!(f, "{}", c.escape_default())
            } else {
                write!(f, "{c}")
            }
        })
    }
}

impl fmt::Display for SessionInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            status,
            epoch,
            endpoint,
            ..
        } = self;
        write!(f, "{}: {status}, epoch {epoch}", OneLine(&self.platform))?;
        write!(f, ", ready: {}", OneLine(&self.ready.to_string()))?;
        write!(f, "\n  {}", OneLine(endpoint))?;
        self.connection(f)?;
        self.endpoints(f)?;
        let (requests, counted) = (self.requests, &self.statistics);
        write!(
            f,
            "\n  requests: {} in flight, {} queued; {}",
            requests.in_flight, requests.queued, counted.requests
        )?;
        write!(
            f,
            "\n  frames: {} in, {} out, {} delivered; restarts: {}",
            counted.frames_in,
            counted.frames_out,
            counted.delivered,
            counted.restarts.values().sum::<u64>()
        )?;
        let heart = self.heartbeat;
        write!(
            f,
            "\n  heartbeat: {} pings, {} pongs, {} unanswered, {} of the venue's",
            heart.pings, heart.pongs, heart.unanswered, heart.venue_heartbeats
        )?;
        for pool in self.limiter.iter().flatten() {
            let (name, tokens, capacity) = (OneLine(&pool.name), pool.tokens, pool.capacity);
            write!(f, "\n  limit {name}: {tokens} of {capacity} left")?;
            write!(f, ", {} queued, pressure {}", pool.queued, pool.pressure)?;
        }
        if let Some(recorder) = &self.recorder {
            let (entries, dropped) = (recorder.entries, recorder.dropped);
            write!(f, "\n  recorder: {entries} entries, {dropped} dropped")?;
            if recorder.errors > 0 {
                write!(f, ", refused by the disk {} times", recorder.errors)?;
            }
        }
        self.subscriptions(f)?;
        for step in &self.history {
            let (from, to, why) = (step.from, step.to, OneLine(&step.why));
            write!(f, "\n  {}: {from} -> {to}: {why}", step.number)?;
            write!(f, " ({} ago)", Short(step.ago))?;
        }
        if let Some(tree) = &self.tree {
            for line in tree.to_string().lines() {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

impl SessionInspection {
    fn connection(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(connection) = &self.connection else {
            return write!(f, ", not open, {} attempts", self.connect_attempts);
        };
        write!(f, ", open for {}", Short(connection.open_for))?;
        if let Some(time) = connection.round_trip {
            write!(f, ", round trip {time:.1?}")?;
        }
        Ok(())
    }

    /// One alone has said everything above.
    fn endpoints(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.endpoints.len() < 2 {
            return Ok(());
        }
        for one in &self.endpoints {
            let (mark, url) = (if one.present { "*" } else { "-" }, OneLine(&one.endpoint));
            write!(f, "\n  {mark} endpoint {url}: score {}", one.score)?;
            if one.refused {
                f.write_str(", refused for good")?;
            }
            if let Some(time) = one.rests_for {
                write!(f, ", rests for {}", Short(time))?;
            }
        }
        Ok(())
    }

    fn subscriptions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_channel: BTreeMap<Option<&str>, Vec<&SubscriptionInspection>> = BTreeMap::new();
        for one in &self.subscriptions {
            let channel = one.channel.as_deref();
            by_channel.entry(channel).or_default().push(one);
        }
        for one in &self.channels {
            let (name, status) = (OneLine(&one.channel), one.status);
            write!(f, "\n  {name}: {status} since epoch {}", one.since)?;
            let own = by_channel.remove(&Some(&*one.channel)).unwrap_or_default();
            let between = if own.len() == 1 { ", " } else { "\n    " };
            for one in own {
                write!(f, "{between}{one}")?;
            }
        }
        // Those of no channel, and of one that is just being given up.
        for (channel, own) in by_channel {
            let name = OneLine(channel.unwrap_or("(everything else)"));
            for one in own {
                write!(f, "\n  {name}: {one}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for SubscriptionInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stale_for {
            Some(age) => write!(f, "last data {} ago", Short(age))?,
            None => f.write_str("no data yet")?,
        }
        write!(f, ", {} of {} queued", self.queued, self.capacity)?;
        write!(f, ", {} gaps, {} lost", self.gaps, self.lost)?;
        match self.interrupted_for {
            Some(time) => write!(f, ", interrupted for {}", Short(time)),
            None => Ok(()),
        }
    }
}

/// An age with one digit behind the point.
pub(super) struct Short(pub(super) Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?}", self.0)
    }
}
