//! The view on the screen: a picture of the model, and nothing else.
//!
//! Made for 80 columns and 24 rows; what is larger shows more, what is smaller shows less and does not panic.
//!
//! Invariant: rendering changes nothing.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline, Wrap};

use crate::model::{Model, Row, Trend, age};
use crate::seen::{Session, Subscription, Text};

const WELL: Style = Style::new().fg(Color::Green);
const ILL: Style = Style::new().fg(Color::Red);
const QUIET: Style = Style::new().fg(Color::DarkGray);
const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);

/// Rows of the events' pane, its border included.
const EVENTS: u16 = 7;

pub(crate) fn render(model: &Model, frame: &mut Frame<'_>) {
    let [head, body, events, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(EVENTS),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(title(model)), head);
    if model.drilled {
        detail(model, frame, body);
    } else {
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(44), Constraint::Percentage(56)])
                .areas(body);
        tree(model, frame, left);
        side(model, frame, right);
    }
    last_events(model, frame, events);
    frame.render_widget(Paragraph::new(keys(model)), foot);
    if model.help {
        help(frame);
    }
}

fn title(model: &Model) -> Line<'_> {
    let hello = &model.hello;
    let mut spans = vec![Span::styled("mainstay-console ", TITLE)];
    if model.attached {
        spans.push(Span::raw(format!("{} ({})", hello.program, hello.process)));
        let sessions = model.shown.all().count();
        let live = model.shown.all().filter(|one| one.ready.ok).count();
        let style = if live == sessions { WELL } else { ILL };
        spans.push(Span::styled(format!("  {live} of {sessions} live"), style));
    } else {
        spans.push(Span::styled("not attached", ILL));
    }
    if model.paused {
        spans.push(Span::styled("  PAUSED", Style::new().fg(Color::Yellow)));
    }
    Line::from(spans)
}

fn keys(model: &Model) -> Line<'_> {
    if !model.notice.is_empty() {
        return Line::styled(model.notice.as_str(), Style::new().fg(Color::Yellow));
    }
    let keys = "↑↓ move  Enter open  Esc back  p pause  r reconnect  x kill  ? help  q quit";
    Line::styled(keys, QUIET)
}

fn tree(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::bordered().title("Tree");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let (height, width) = (usize::from(inner.height), usize::from(inner.width));
    let first = (model.selected + 1).saturating_sub(height);
    let shown = model.rows.iter().enumerate().skip(first).take(height);
    let lines: Vec<Line<'_>> = shown
        .map(|(at, row)| row_line(row, at == model.selected, width))
        .collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

fn row_line(row: &Row, selected: bool, width: usize) -> Line<'_> {
    let indent = "  ".repeat(row.depth.min(8));
    let status = if row.status == "running" {
        ""
    } else {
        &row.status
    };
    let tail = format!(" {status} {}", row.detail);
    let room = width.saturating_sub(indent.len() + tail.chars().count());
    let label = format!("{:<room$}", cut(&row.label, room));
    let style = if row.well { WELL } else { ILL };
    let mut line = Line::from(vec![
        Span::raw(indent),
        Span::styled(label, style),
        Span::raw(tail),
    ]);
    if selected {
        line = line.patch_style(Style::new().add_modifier(Modifier::REVERSED));
    }
    line
}

fn side(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    // A tree of its own has no session; then the first one is as good as any.
    let Some(session) = model.session().or_else(|| model.shown.all().next()) else {
        frame.render_widget(Block::bordered().title("No session"), area);
        return;
    };
    let block = Block::bordered().title(format!("Session {}", session.id));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [facts, trends, subscriptions] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(6),
        Constraint::Min(1),
    ])
    .areas(inner);
    frame.render_widget(Paragraph::new(facts_of(session)), facts);
    if let Some(trend) = model.trends.get(session.id.as_str()) {
        sparklines(trend, frame, trends);
    }
    let width = usize::from(subscriptions.width);
    let mut lines = vec![Line::styled("subscriptions", TITLE)];
    lines.extend(
        session
            .subscriptions
            .iter()
            .map(|one| subscription(one, width)),
    );
    frame.render_widget(Paragraph::new(lines), subscriptions);
}

fn facts_of(session: &Session) -> Vec<Line<'_>> {
    let style = if session.ready.ok { WELL } else { ILL };
    let mut state = vec![
        Span::styled(session.status.as_str(), style),
        Span::raw(format!("  epoch {}", session.epoch)),
    ];
    match &session.connection {
        Some(open) => state.push(Span::raw(format!("  open {}", age(open.open_for_ms)))),
        None => {
            let reason = session.ready.reason.as_ref().map_or("", Text::as_str);
            state.push(Span::raw(format!("  {reason}")));
        }
    }
    let requests = &session.requests;
    vec![
        Line::from(state),
        Line::styled(session.endpoint.as_str(), QUIET),
        Line::raw(format!(
            "requests {} in flight, {} queued",
            requests.in_flight, requests.queued
        )),
    ]
}

fn sparklines(trend: &Trend, frame: &mut Frame<'_>, area: Rect) {
    let areas: [Rect; 3] = Layout::vertical([Constraint::Length(2); 3]).areas(area);
    let latest = |samples: &VecDeque<u64>| samples.back().copied().unwrap_or(0);
    let trip = latest(&trend.round_trips);
    let gaps = trend
        .gaps
        .iter()
        .fold(0_u64, |sum, one| sum.saturating_add(*one));
    let titles = [
        format!("messages {}/s", latest(&trend.rates)),
        match trip {
            0 => "round trip -".to_owned(),
            trip => format!("round trip {}.{}ms", trip / 1000, trip % 1000 / 100),
        },
        format!("gaps {gaps}"),
    ];
    let samples = [&trend.rates, &trend.round_trips, &trend.gaps];
    for ((area, title), samples) in areas.into_iter().zip(titles).zip(samples) {
        let [name, line] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
        frame.render_widget(Paragraph::new(title), name);
        let newest = samples.len().saturating_sub(usize::from(line.width));
        let data: Vec<u64> = samples.iter().skip(newest).copied().collect();
        frame.render_widget(Sparkline::default().data(data).style(WELL), line);
    }
}

fn subscription(one: &Subscription, width: usize) -> Line<'static> {
    let stale = one.stale_for_ms.map_or_else(|| "-".to_owned(), age);
    let tail = format!(" {stale:>5} q{} g{} l{}", one.queued, one.gaps, one.lost);
    let room = width.saturating_sub(tail.chars().count());
    let name = one.channel.as_ref().map_or("(all else)", Text::as_str);
    let style = if one.interrupted_for_ms.is_some() {
        ILL
    } else {
        WELL
    };
    Line::from(vec![
        Span::styled(format!("{:<room$}", cut(name, room)), style),
        Span::raw(tail),
    ])
}

fn detail(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let Some(row) = model.row() else { return };
    let block = Block::bordered().title(row.label.as_str());
    let width = usize::from(area.width.saturating_sub(2));
    let lines = match (model.node(), model.session()) {
        (Some(node), _) => node_lines(node),
        (None, Some(session)) if row.actor.is_none() && row.key.starts_with("session ") => {
            session_lines(session, width)
        }
        (None, Some(_) | None) => vec![Line::raw(format!("{} {}", row.status, row.detail))],
    };
    let text = Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .block(block);
    frame.render_widget(text, area);
}

fn session_lines(session: &Session, width: usize) -> Vec<Line<'_>> {
    let mut lines = facts_of(session);
    lines.push(Line::styled(
        "subscriptions: age, queued, gaps, lost",
        TITLE,
    ));
    lines.extend(
        session
            .subscriptions
            .iter()
            .map(|one| subscription(one, width)),
    );
    for one in &session.channels {
        lines.push(Line::raw(format!("{}: {}", one.channel, one.status)));
    }
    lines.push(Line::styled("history, the latest first", TITLE));
    for step in session.history.iter().rev() {
        let (from, to, why) = (&step.from, &step.to, &step.why);
        let ago = age(step.ago_ms);
        lines.push(Line::raw(format!("{ago:>5} ago  {from} -> {to}: {why}")));
    }
    lines
}

fn node_lines(node: &crate::seen::Node) -> Vec<Line<'_>> {
    let text = |one: &Option<Text>| one.as_ref().map_or_else(|| "-".to_owned(), Text::to_string);
    let number = |one: Option<u64>| one.map_or_else(|| "-".to_owned(), |one| one.to_string());
    let mut lines = vec![
        Line::raw(format!("path        {}", node.path)),
        Line::raw(format!(
            "kind        {} {}",
            node.kind,
            text(&node.strategy)
        )),
        Line::raw(format!("status      {}", node.status)),
        Line::raw(format!("actor       {}", text(&node.actor))),
        Line::raw(format!(
            "generation  {}, restarted {} times",
            node.generation, node.restarts
        )),
        Line::raw(format!("restart     {}", text(&node.restart))),
        Line::raw(format!(
            "up          {}",
            node.uptime_ms.map_or_else(|| "-".to_owned(), age)
        )),
        Line::raw(format!(
            "intensity   {} of {}",
            number(node.window_used),
            number(node.window_limit)
        )),
        Line::raw(format!("handled     {} messages", node.handled)),
        Line::raw(format!("queued      {}", number(node.queue_depth))),
    ];
    if let Some(exit) = &node.last_exit {
        lines.push(Line::raw(format!("last exit   {}", exit.reason)));
    }
    lines
}

fn last_events(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::bordered().title("Events, the latest first");
    let height = usize::from(block.inner(area).height);
    let lines: Vec<Line<'_>> = model
        .events
        .iter()
        .take(height)
        .map(|event| {
            let at = event.at.as_secs();
            let at = format!("{:02}:{:02} ", at / 60, at % 60);
            Line::from(vec![
                Span::styled(at, QUIET),
                Span::raw(event.text.as_str()),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn help(frame: &mut Frame<'_>) {
    let lines = [
        "↑ ↓ k j    move",
        "Enter      open what is selected",
        "Esc        back",
        "p          pause the view; the program goes on",
        "r          have the selected session reconnect",
        "x          kill the selected actor; y confirms",
        "q, ctrl-c  quit",
        "",
        "× restarts  q queued  g gaps  l lost",
        "",
        "any key closes this",
    ];
    let area = frame.area();
    let (width, height) = (area.width.min(52), area.height.min(13));
    let area = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, area);
    let text = lines.map(Line::raw).to_vec();
    let block = Block::bordered().title("Keys");
    frame.render_widget(Paragraph::new(text).block(block), area);
}

/// At most so many characters.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    if room > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use crate::model::tests::{inspection, model, said};
    use crate::model::{Input, Key, Model};

    fn screen(model: &Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        let drawn = terminal.draw(|frame| super::render(model, frame));
        drawn.expect("drawn");
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content().chunks(usize::from(width.max(1)));
        let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
        rows.collect::<Vec<_>>().join("\n")
    }

    fn press(model: &mut Model, key: Key) {
        let _ = model.on_input(Input::Key(key), Duration::ZERO);
    }

    #[track_caller]
    fn shows(screen: &str, parts: &[&str]) {
        for part in parts {
            assert!(screen.contains(part), "{part} is missing in\n{screen}");
        }
    }

    #[test]
    fn everything_is_there_in_80_columns_and_24_rows() {
        let screen = screen(&model(), 80, 24);
        shows(
            &screen,
            &[
                "feed (42)  1 of 1 live",
                "adapter",
                "restarting  ×7",
                "1m01",
                "epoch 2",
                "messages 250/s",
                "round trip 1.5ms",
                "gaps 2",
                "ticker.BTC",
                "12ms q3 g2 l4",
                "transport restarted",
                "q quit",
            ],
        );
    }

    #[test]
    fn a_larger_screen_shows_it_too_and_a_small_one_does_not_panic() {
        shows(
            &screen(&model(), 160, 50),
            &["workers", "wss://example.com/ws"],
        );
        let mut model = model();
        for key in [Key::Other, Key::Enter, Key::Help] {
            press(&mut model, key);
            for (width, height) in [(1, 1), (3, 9), (20, 5), (79, 11), (0, 0)] {
                let _ = screen(&model, width, height);
            }
        }
    }

    #[test]
    fn a_session_and_an_actor_can_be_opened() {
        let mut model = model();
        press(&mut model, Key::Enter);
        shows(
            &screen(&model, 80, 24),
            &["history, the latest first", "ticker.BTC: confirmed"],
        );
        press(&mut model, Key::Back);
        press(&mut model, Key::Down);
        press(&mut model, Key::Enter);
        shows(
            &screen(&model, 80, 24),
            &["path        feed", "actor       0.1"],
        );
    }

    #[test]
    fn the_selected_row_is_always_on_the_screen() {
        let mut model = model();
        let children: Vec<String> = (0..100)
            .map(|n| format!(r#"{{"path":"w{n}","id":"w{n}"}}"#))
            .collect();
        let many = format!(
            r#"{{"type":"inspection","inspection":{{"trees":[{}]}}}}"#,
            children.join(",")
        );
        said(&mut model, &many, 3000);
        for _ in 0..60 {
            press(&mut model, Key::Down);
        }
        let selected = model.row().expect("a row").label.clone();
        shows(&screen(&model, 80, 24), &[&selected]);
    }

    #[test]
    fn a_program_can_be_paused_lost_and_asked_about() {
        let mut model = model();
        press(&mut model, Key::Pause);
        shows(&screen(&model, 80, 24), &["PAUSED"]);
        press(&mut model, Key::Help);
        shows(&screen(&model, 80, 24), &["any key closes this"]);
        press(&mut model, Key::Other);
        let _ = model.on_input(Input::Lost("refused".to_owned()), Duration::ZERO);
        shows(&screen(&model, 80, 24), &["not attached: refused"]);
    }

    #[test]
    fn no_name_reaches_the_terminal_as_it_came() {
        let mut model = model();
        let evil = inspection(3, 1, 1).replace("main", r"\u001b]0;evil\u0007\u202e\n");
        let evil = evil
            .replace("ticker.BTC", r"\u001b[2J")
            .replace("adapter", r"\u009b2J");
        said(&mut model, &evil, 3000);
        said(
            &mut model,
            r#"{"type":"refused","reason":"\u001b[31m"}"#,
            3000,
        );
        for key in [Key::Other, Key::Enter] {
            press(&mut model, key);
            let screen = screen(&model, 80, 24).replace('\n', "");
            assert!(
                !screen.chars().any(|c| c.is_control() || c == '\u{202e}'),
                "{screen:?}"
            );
            shows(&screen, &["·]0;evil·"]);
        }
    }
}
