//! What the view knows, and what follows from a key, a line, or time.
//!
//! Pure: inputs are values, `now` is an argument, and what is to be done comes back as a value. The terminal and the
//! socket are elsewhere.
//!
//! Invariants: everything that is kept is bounded; while the view is paused it shows what it showed, and goes on
//! counting; nothing is killed without a second key.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::seen::{Hello, Inspection, Message, Node, Session, Text};

/// Samples of a sparkline.
const SAMPLES: usize = 120;
/// Events that are kept.
const EVENTS: usize = 200;
/// Rows of all trees that are shown; nobody reads more.
const ROWS: usize = 5000;

/// How long a notice stands in the place of the keys.
const NOTICE: Duration = Duration::from_secs(5);

/// What happens.
#[derive(Debug)]
pub(crate) enum Input {
    Key(Key),
    Attached,
    Said(Message),
    /// The connection to the program ended.
    Lost(String),
}

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Up,
    Down,
    Enter,
    Back,
    Pause,
    Reconnect,
    Kill,
    Yes,
    Help,
    Quit,
    Other,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Reconnect { session: String },
    Kill { actor: String },
    Quit,
}

/// Something that was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// When, since the view began.
    pub(crate) at: Duration,
    pub(crate) text: String,
}

/// How a session has been.
#[derive(Debug, Default)]
pub(crate) struct Trend {
    /// Messages in a second, the latest last.
    pub(crate) rates: VecDeque<u64>,
    /// Round trips in microseconds: of a ping, or of the last request.
    pub(crate) round_trips: VecDeque<u64>,
    /// Gaps since the sample before.
    pub(crate) gaps: VecDeque<u64>,
    before: Option<Before>,
}

#[derive(Debug, Clone)]
struct Before {
    at: Duration,
    frames: u64,
    gaps: u64,
    step: u64,
    restarts: BTreeMap<String, u64>,
}

/// A line of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Names it over changes of the tree.
    pub(crate) key: String,
    pub(crate) depth: usize,
    pub(crate) label: String,
    pub(crate) status: String,
    pub(crate) well: bool,
    pub(crate) detail: String,
    /// The session that it belongs to.
    pub(crate) session: Option<String>,
    /// The actor that it stands for.
    pub(crate) actor: Option<String>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) hello: Hello,
    pub(crate) attached: bool,
    /// What is shown.
    pub(crate) shown: Inspection,
    pub(crate) rows: Vec<Row>,
    pub(crate) selected: usize,
    /// Whether the selected row fills the screen.
    pub(crate) drilled: bool,
    pub(crate) paused: bool,
    pub(crate) help: bool,
    /// The actor that will be killed if the next key says yes, and its name.
    pub(crate) doomed: Option<(String, String)>,
    pub(crate) notice: String,
    /// When the notice was given.
    told: Duration,
    pub(crate) events: VecDeque<Event>,
    pub(crate) trends: BTreeMap<String, Trend>,
    /// Whether an answer to a question for an inspection is awaited.
    pub(crate) asked: bool,
}

impl Model {
    /// Something happened.
    #[must_use]
    pub(crate) fn on_input(&mut self, input: Input, now: Duration) -> Option<Command> {
        let before = self.notice.clone();
        let pressed = matches!(input, Input::Key(_));
        let command = self.take(input, now);
        if pressed || self.notice != before {
            self.told = now;
        }
        command
    }

    fn take(&mut self, input: Input, now: Duration) -> Option<Command> {
        match input {
            Input::Key(key) => return self.on_key(key),
            Input::Attached => {
                self.attached = true;
                self.asked = false;
                self.notice.clear();
            }
            Input::Said(message) => self.on_message(message, now),
            Input::Lost(why) => {
                if std::mem::take(&mut self.attached) {
                    self.event(format!("detached: {why}"), now);
                }
                self.notice = format!("not attached: {}", Text::from(why));
            }
        }
        None
    }

    /// The selected row.
    pub(crate) fn row(&self) -> Option<&Row> {
        self.rows.get(self.selected)
    }

    /// The session that the selected row belongs to.
    pub(crate) fn session(&self) -> Option<&Session> {
        let id = self.row()?.session.as_deref()?;
        self.shown.session(id)
    }

    /// The node that the selected row stands for.
    pub(crate) fn node(&self) -> Option<&Node> {
        let actor = self.row()?.actor.as_deref()?;
        let trees = self.shown.all().filter_map(|session| session.tree.as_ref());
        let pools = self
            .shown
            .pools
            .iter()
            .filter_map(|pool| pool.tree.as_ref());
        let mut left: Vec<&Node> = trees.chain(pools).chain(&self.shown.trees).collect();
        while let Some(node) = left.pop() {
            if node
                .actor
                .as_ref()
                .is_some_and(|found| found.as_str() == actor)
            {
                return Some(node);
            }
            left.extend(&node.children);
        }
        None
    }

    fn on_key(&mut self, key: Key) -> Option<Command> {
        if key == Key::Quit {
            return Some(Command::Quit);
        }
        if self.attached {
            self.notice.clear();
        }
        if let Some((actor, _)) = self.doomed.take() {
            return (key == Key::Yes).then_some(Command::Kill { actor });
        }
        if self.help {
            self.help = false;
            return None;
        }
        match key {
            Key::Up => self.selected = self.selected.saturating_sub(1),
            Key::Down => {
                self.selected = (self.selected + 1).min(self.rows.len().saturating_sub(1));
            }
            Key::Enter => self.drilled = self.row().is_some(),
            Key::Back => self.drilled = false,
            Key::Pause => self.paused = !self.paused,
            Key::Help => self.help = true,
            Key::Reconnect => return self.reconnect(),
            Key::Kill => self.doom(),
            Key::Yes | Key::Other | Key::Quit => {}
        }
        None
    }

    fn reconnect(&mut self) -> Option<Command> {
        if !self.hello.reconnect {
            self.notice = "the program does not allow to reconnect".to_owned();
            return None;
        }
        let Some(session) = self.row().and_then(|row| row.session.clone()) else {
            self.notice = "select a session first".to_owned();
            return None;
        };
        self.notice = format!("{session}: reconnecting");
        Some(Command::Reconnect { session })
    }

    fn doom(&mut self) {
        if !self.hello.kill {
            self.notice = "the program does not allow to kill".to_owned();
            return;
        }
        let doomed = self.row().and_then(|row| {
            let actor = row.actor.clone()?;
            Some((actor, row.label.clone()))
        });
        self.notice = match &doomed {
            Some((_, name)) => format!("kill {name}? y kills, any other key does not"),
            None => "select an actor that is up first".to_owned(),
        };
        self.doomed = doomed;
    }

    fn on_message(&mut self, message: Message, now: Duration) {
        match message {
            Message::Hello(hello) => {
                if hello.version > mainstay::console::VERSION {
                    self.notice = format!("the program speaks version {}", hello.version);
                }
                self.hello = hello;
            }
            Message::Inspection { inspection } => {
                self.asked = false;
                if self.doomed.is_none() && now.saturating_sub(self.told) > NOTICE {
                    self.notice.clear();
                }
                self.follow(&inspection, now);
                if !self.paused {
                    self.show(*inspection);
                }
            }
            Message::Done { detail } => self.tell(format!("done: {detail}"), now),
            Message::Refused { reason } => self.tell(format!("refused: {reason}"), now),
            Message::Garbage => {
                self.asked = false;
                self.notice = "the program said something that is not understood".to_owned();
            }
        }
    }

    fn tell(&mut self, text: String, now: Duration) {
        self.notice.clone_from(&text);
        self.event(text, now);
    }

    fn event(&mut self, text: String, at: Duration) {
        self.events.truncate(EVENTS - 1);
        self.events.push_front(Event { at, text });
    }

    /// Takes down what has changed since the inspection before.
    fn follow(&mut self, inspection: &Inspection, now: Duration) {
        let ids: Vec<&str> = inspection.all().map(|one| one.id.as_str()).collect();
        self.trends.retain(|id, _| ids.contains(&id.as_str()));
        let mut news = Vec::new();
        for session in inspection.all() {
            let trend = self
                .trends
                .entry(session.id.as_str().to_owned())
                .or_default();
            trend.follow(session, now, &mut news);
        }
        for (at, text) in news {
            self.event(text, at);
        }
    }

    fn show(&mut self, inspection: Inspection) {
        let key = self.row().map(|row| row.key.clone());
        self.rows = rows(&inspection);
        self.shown = inspection;
        let found = self
            .rows
            .iter()
            .position(|row| Some(&row.key) == key.as_ref());
        let last = self.rows.len().saturating_sub(1);
        self.selected = found.unwrap_or_else(|| self.selected.min(last));
        self.drilled &= !self.rows.is_empty();
    }
}

impl Trend {
    fn follow(&mut self, session: &Session, now: Duration, news: &mut Vec<(Duration, String)>) {
        let counted = &session.statistics;
        let present = Before {
            at: now,
            frames: counted.frames_in,
            gaps: sum(&counted.gaps),
            step: session
                .history
                .iter()
                .map(|step| step.number)
                .max()
                .unwrap_or(0),
            restarts: counted.restarts.clone(),
        };
        let id = &session.id;
        let seen = self.before.as_ref().map_or(0, |before| before.step);
        for step in session.history.iter().filter(|step| step.number > seen) {
            let at = now.saturating_sub(Duration::from_millis(step.ago_ms));
            news.push((
                at,
                format!("{id}: {} -> {}: {}", step.from, step.to, step.why),
            ));
        }
        if let Some(before) = &self.before {
            let passed = now.saturating_sub(before.at).as_millis().max(1);
            let frames = u128::from(present.frames.saturating_sub(before.frames));
            let rate = u64::try_from(frames * 1000 / passed).unwrap_or(u64::MAX);
            let gaps = present.gaps.saturating_sub(before.gaps);
            keep(&mut self.rates, rate);
            keep(&mut self.gaps, gaps);
            if gaps > 0 {
                news.push((now, format!("{id}: {gaps} gaps")));
            }
            for (actor, count) in &present.restarts {
                if before.restarts.get(actor).is_none_or(|known| count > known) {
                    let actor = Text::from(actor.as_str());
                    news.push((now, format!("{id}: {actor} restarted ({count} in all)")));
                }
            }
        }
        let pinged = session
            .connection
            .as_ref()
            .and_then(|open| open.round_trip_us);
        // Nobody pings while data flows; a request's answer has gone the same way.
        let asked = counted
            .recent_requests
            .as_ref()
            .map(|recent| recent.last_us);
        let round_trip = pinged.or(asked);
        keep(&mut self.round_trips, round_trip.unwrap_or(0));
        self.before = Some(present);
    }
}

fn sum(counts: &BTreeMap<String, u64>) -> u64 {
    counts
        .values()
        .fold(0, |sum, count| sum.saturating_add(*count))
}

fn keep(samples: &mut VecDeque<u64>, sample: u64) {
    if samples.len() == SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn rows(inspection: &Inspection) -> Vec<Row> {
    let mut rows = Vec::new();
    for session in &inspection.sessions {
        session_row(session, 0, None, &mut rows);
    }
    for pool in &inspection.pools {
        rows.push(Row {
            key: format!("pool {}", pool.name),
            depth: 0,
            label: pool.name.to_string(),
            status: "pool".to_owned(),
            well: pool.ready.ok,
            detail: pool
                .ready
                .reason
                .as_ref()
                .map_or_else(String::new, Text::to_string),
            session: None,
            actor: None,
        });
        for session in &pool.sessions {
            let mut scores = pool.health.sessions.iter();
            let score = scores.find(|scored| scored.id == session.id);
            session_row(session, 1, score.and_then(|scored| scored.score), &mut rows);
        }
        if let Some(tree) = &pool.tree {
            node_rows(tree, 1, None, &mut rows);
        }
    }
    for tree in &inspection.trees {
        node_rows(tree, 0, None, &mut rows);
    }
    rows
}

fn session_row(session: &Session, depth: usize, score: Option<u64>, rows: &mut Vec<Row>) {
    let id = session.id.as_str();
    rows.push(Row {
        key: format!("session {id}"),
        depth,
        label: id.to_owned(),
        status: session.status.to_string(),
        well: session.ready.ok,
        detail: match score {
            Some(score) => format!("epoch {} score {score}", session.epoch),
            None => format!("epoch {}", session.epoch),
        },
        session: Some(id.to_owned()),
        actor: None,
    });
    if let Some(tree) = &session.tree {
        node_rows(tree, depth + 1, Some(id), rows);
    }
}

fn node_rows(node: &Node, depth: usize, session: Option<&str>, rows: &mut Vec<Row>) {
    if rows.len() >= ROWS {
        return;
    }
    let mut detail = node.uptime_ms.map_or_else(String::new, age);
    if node.restarts > 0 {
        detail = format!("{detail} ×{}", node.restarts);
    }
    rows.push(Row {
        key: format!("{} {}", session.unwrap_or_default(), node.path),
        depth,
        label: node.id.to_string(),
        status: node.status.to_string(),
        well: node.status.as_str() == "running",
        detail,
        session: session.map(str::to_owned),
        actor: node.actor.as_ref().map(Text::to_string),
    });
    for child in &node.children {
        node_rows(child, depth + 1, session, rows);
    }
}

/// A time in at most five characters.
pub(crate) fn age(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
pub(crate) mod tests;
