//! `mainstay-console`: a running program in the terminal, live.
//!
//! ```text
//! mainstay-console                     a demo inside: a simulated venue that goes wrong
//! mainstay-console --attach PATH       a program that serves there (mainstay::console::serve)
//! mainstay-console --attach 127.0.0.1:PORT
//! ```
//!
//! The shell around a pure model (`model`, `view`): it reads keys and lines, and carries out what follows.

mod demo;
mod link;
mod model;
mod seen;
mod view;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use demo::Demo;
use link::{Heard, Link, Target};
use model::{Command, Input, Key, Model};

const USAGE: &str = "usage: mainstay-console [--demo | --attach PATH | --attach ADDRESS:PORT]\n";
/// How long a key is waited for before the screen is drawn anew.
const FRAME: Duration = Duration::from_millis(50);
/// How often the program is asked.
const ASK: Duration = Duration::from_millis(500);
/// How long after a loss it is sought again.
const AGAIN: Duration = Duration::from_secs(1);
/// Lines of the program's that may wait for the screen.
const BACKLOG: usize = 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["--help" | "-h"] => {
            say(&mut io::stdout(), USAGE);
            return ExitCode::SUCCESS;
        }
        [] | ["--demo"] => Demo::start().and_then(|demo| look(&demo.target)),
        ["--attach", place] => look(&Target::parse(place)),
        _ => Err(USAGE.trim_end().to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut io::stderr(), &format!("mainstay-console: {error}\n"));
            ExitCode::from(2)
        }
    }
}

fn say(to: &mut impl Write, text: &str) {
    // Nobody is left to be told that nobody listens.
    let _ = to.write_all(text.as_bytes());
}

fn look(target: &Target) -> Result<(), String> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err("run it in a terminal; programs speak to the socket itself".to_owned());
    }
    let (sender, inputs) = sync_channel(BACKLOG);
    // The first failure is told before the screen is taken.
    let link = Link::attach(target, 0, &sender)
        .map_err(|error| format!("could not attach to {target}: {error}"))?;
    // Restored also after a panic.
    let mut terminal = ratatui::try_init().map_err(|error| error.to_string())?;
    let outcome = Shell::new(target, sender, inputs, link).run(&mut terminal);
    let restored = ratatui::try_restore();
    outcome.and(restored).map_err(|error| error.to_string())
}

struct Shell<'t> {
    target: &'t Target,
    sender: SyncSender<Heard>,
    inputs: Receiver<Heard>,
    link: Option<Link>,
    /// Connections so far.
    links: u64,
    model: Model,
    began: Instant,
    /// When the program was last asked, or sought.
    asked: Instant,
}

impl<'t> Shell<'t> {
    fn new(
        target: &'t Target,
        sender: SyncSender<Heard>,
        inputs: Receiver<Heard>,
        link: Link,
    ) -> Self {
        let began = Instant::now();
        let mut model = Model::default();
        let _ = model.on_input(Input::Attached, Duration::ZERO);
        Self {
            target,
            sender,
            inputs,
            link: Some(link),
            links: 1,
            model,
            began,
            asked: began.checked_sub(ASK).unwrap_or(began),
        }
    }

    fn run(mut self, terminal: &mut DefaultTerminal) -> io::Result<()> {
        loop {
            while let Ok((number, input)) = self.inputs.try_recv() {
                // What an earlier connection says, its end above all, is no news.
                if self
                    .link
                    .as_ref()
                    .is_some_and(|link| link.number() == number)
                {
                    self.take(input);
                }
            }
            self.ask();
            terminal.draw(|frame| view::render(&self.model, frame))?;
            if !event::poll(FRAME)? {
                continue;
            }
            if let Some(key) = key(&event::read()?)
                && self.take(Input::Key(key))
            {
                return Ok(());
            }
        }
    }

    /// Takes an input; whether it was the last.
    fn take(&mut self, input: Input) -> bool {
        if matches!(input, Input::Lost(_)) {
            self.link = None;
        }
        let command = self.model.on_input(input, self.began.elapsed());
        match command {
            None => false,
            Some(Command::Quit) => true,
            Some(command) => {
                if let Some(link) = &mut self.link
                    && let Err(error) = link.command(&command)
                {
                    self.lose(&error);
                }
                false
            }
        }
    }

    fn ask(&mut self) {
        let since = self.asked.elapsed();
        match &mut self.link {
            Some(link) if since >= ASK && !self.model.asked => {
                self.asked = Instant::now();
                self.model.asked = true;
                if let Err(error) = link.inspect() {
                    self.lose(&error);
                }
            }
            Some(_) => {}
            None if since >= AGAIN => {
                self.asked = Instant::now();
                match Link::attach(self.target, self.links, &self.sender) {
                    Ok(link) => {
                        self.links += 1;
                        self.link = Some(link);
                        let _ = self.model.on_input(Input::Attached, self.began.elapsed());
                    }
                    Err(error) => self.lose(&error),
                }
            }
            None => {}
        }
    }

    fn lose(&mut self, error: &io::Error) {
        self.link = None;
        let lost = Input::Lost(error.to_string());
        let _ = self.model.on_input(lost, self.began.elapsed());
    }
}

fn key(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return Some(match key.code {
            KeyCode::Char('c') => Key::Quit,
            _ => Key::Other,
        });
    }
    Some(match key.code {
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => Key::Enter,
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace | KeyCode::Char('h') => Key::Back,
        KeyCode::Char('p' | ' ') => Key::Pause,
        KeyCode::Char('r') => Key::Reconnect,
        KeyCode::Char('x') => Key::Kill,
        KeyCode::Char('y') => Key::Yes,
        KeyCode::Char('?') => Key::Help,
        KeyCode::Char('q') => Key::Quit,
        _ => Key::Other,
    })
}
