//! The binary in a pseudo-terminal of 80 columns and 24 rows, as a person sees it.

use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZeroU16;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::*;

const BINARY: &str = env!("CARGO_BIN_EXE_mainstay-console");

/// The binary, its keyboard and its screen.
struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    screen: Arc<(Mutex<Screen>, Condvar)>,
    /// How the terminal was set before.
    before: String,
}

struct Screen {
    parser: vt100::Parser,
    /// Everything that was written to it.
    bytes: Vec<u8>,
    over: bool,
}

impl Terminal {
    fn run(arguments: &[&str]) -> Self {
        let size = PtySize {
            rows: 24,
            cols: 80,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).expect("a terminal");
        let before = settings(&*pair.master);
        let mut command = CommandBuilder::new(BINARY);
        command.args(arguments);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).expect("the binary");
        let screen = Screen {
            parser: vt100::Parser::new(lines(24), lines(80), 0),
            bytes: Vec::new(),
            over: false,
        };
        let screen = Arc::new((Mutex::new(screen), Condvar::new()));
        let mut output = pair.master.try_clone_reader().expect("its output");
        let written = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The slave stays open here, so that settings can be asked for; the loop ends with the test.
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                let mut screen = written.0.lock().expect("no reader panics");
                screen.parser.process(&buffer[..read]);
                screen.bytes.extend_from_slice(&buffer[..read]);
                written.1.notify_all();
            }
            written.0.lock().expect("no reader panics").over = true;
            written.1.notify_all();
        });
        let keyboard = pair.master.take_writer().expect("its input");
        Self {
            child,
            master: pair.master,
            keyboard,
            screen,
            before,
        }
    }

    /// Waits until the screen shows it.
    #[track_caller]
    fn shows(&self, text: &str) -> String {
        let until = Instant::now() + LONG;
        let mut screen = self.screen.0.lock().expect("no reader panics");
        loop {
            let contents = screen.parser.screen().contents();
            if contents.contains(text) {
                return contents;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !screen.over,
                "{text:?} is not on the screen:\n{contents}"
            );
            screen = self
                .screen
                .1
                .wait_timeout(screen, left)
                .expect("a screen")
                .0;
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("pressed");
        self.keyboard.flush().expect("pressed");
    }

    /// Waits for its end: well, and with the terminal as it was.
    fn ends_well(mut self) {
        let status = self.child.wait().expect("a status");
        assert!(status.success(), "{status:?}");
        assert_eq!(settings(&*self.master), self.before);
        let until = Instant::now() + LONG;
        let mut screen = self.screen.0.lock().expect("no reader panics");
        while screen.parser.screen().alternate_screen() || screen.parser.screen().hide_cursor() {
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !screen.over,
                "the screen is not given back"
            );
            screen = self
                .screen
                .1
                .wait_timeout(screen, left)
                .expect("a screen")
                .0;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
    }
}

fn lines(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).expect("some")
}

fn settings(master: &dyn MasterPty) -> String {
    format!("{:?}", master.get_termios())
}

const DOWN: &str = "\u{1b}[B";

#[test]
fn the_demo_shows_its_tree_reconnects_restarts_and_gives_the_terminal_back() {
    let mut terminal = Terminal::run(&[]);
    terminal.shows("2 of 2 live");
    terminal.shows("ticker.BTC-PERPETUAL.100ms");
    let screen = terminal.shows("heartbeat_manager");
    for part in [
        "main",
        "subscription_manager",
        "epoch 1",
        "messages",
        "round trip",
        "gaps",
    ] {
        assert!(screen.contains(part), "{part} is missing in\n{screen}");
    }

    terminal.press("r");
    terminal.shows("done: live in epoch 2");
    terminal.shows("establishing -> live: established on connection 2");

    terminal.press("\r");
    terminal.shows("history, the latest first");
    terminal.press("h");
    for _ in 0..7 {
        terminal.press(DOWN);
    }
    terminal.press("x");
    terminal.shows("kill heartbeat_manager?");
    terminal.press("y");
    terminal.shows("heartbeat_manager restarted (1 in all)");

    terminal.press("p");
    terminal.shows("PAUSED");
    terminal.press("?");
    terminal.shows("any key closes this");
    terminal.press("q");
    terminal.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_program_is_attached_to_and_forbids_what_it_forbids() {
    let folder = Folder::new("attach");
    let (_server, session) = session().await;
    let what = Inspector::new().session("feed", &session);
    let console = serve(&folder.socket(), what.clone(), Permissions::look()).await;
    let path = folder.socket().display().to_string();
    let seen = tokio::task::spawn_blocking(move || {
        let mut terminal = Terminal::run(&["--attach", &path]);
        terminal.shows("1 of 1 live");
        terminal.press("r");
        terminal.shows("does not allow to reconnect");
        terminal
    });
    let terminal = seen.await.expect("seen");
    drop(console);
    let lost = tokio::task::spawn_blocking(move || {
        terminal.shows("not attached");
        terminal
    });
    let terminal = lost.await.expect("seen");
    let _console = serve(&folder.socket(), what, Permissions::look()).await;
    let again = tokio::task::spawn_blocking(move || {
        let mut terminal = terminal;
        terminal.shows("1 of 1 live");
        terminal.press("\u{3}");
        terminal.ends_well();
    });
    again.await.expect("seen");
}

#[test]
fn a_program_that_lies_breaks_neither_the_view_nor_the_terminal() {
    let folder = Folder::new("liar");
    let listener = UnixListener::bind(folder.socket()).expect("a socket");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let lie = concat!(
                r#"{"type":"hello","version":1,"program":"\u001b]0;OWNED\u0007","process":1}"#,
                "\n\u{1b}]0;OWNED\u{7}\u{1b}[31m not JSON\n[[[[[\n\0\n",
                r#"{"type":"inspection","inspection":{"sessions":[{"id":"\u001b]0;OWNED\u0007","#,
                r#""epoch":18446744073709551615,"status":"live\u001b[6n"}]}}"#,
                "\n",
            );
            if stream.write_all(lie.as_bytes()).is_err() {
                continue;
            }
            let mut asked = BufReader::new(stream.try_clone().expect("a stream"));
            // An answer that is none, to each question.
            let mut line = String::new();
            while asked.read_line(&mut line).is_ok_and(|read| read > 0) {
                if stream.write_all(b"\xff\xfe\n").is_err() {
                    break;
                }
            }
        }
    });
    let path = folder.socket().display().to_string();
    let mut terminal = Terminal::run(&["--attach", &path]);
    terminal.shows("not understood");
    terminal.shows("·]0;OWNED·");
    {
        let screen = terminal.screen.0.lock().expect("no reader panics");
        let bytes = String::from_utf8_lossy(&screen.bytes);
        assert!(!bytes.contains("\u{1b}]0;"), "its title is not ours to set");
        assert!(
            !bytes.contains("\u{1b}[6n"),
            "nobody asks the terminal anything"
        );
    }
    terminal.press("q");
    terminal.ends_well();
}

#[test]
fn a_mistake_on_the_command_line_is_told() {
    for (arguments, part) in [
        (
            &["--attach", "/nowhere/at/all.sock"][..],
            "could not attach",
        ),
        (&["--nonsense"][..], "usage:"),
    ] {
        let mut terminal = Terminal::run(arguments);
        terminal.shows(part);
        assert_eq!(terminal.child.wait().expect("a status").exit_code(), 2);
    }
}
