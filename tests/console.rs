//! A program that shows itself over a local socket, as whoever attaches finds it.
#![cfg(unix)]
#![allow(
    clippy::expect_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

#[path = "console/terminal.rs"]
mod terminal;

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay::console::{self, CLIENTS, Console, LINE, Permissions, ServeError};
use mainstay::inspect::Inspector;
use mainstay::testing::ScriptedServer;
use mainstay::{Client, Session};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(20);

/// A folder of its own, gone with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("mainstay-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("console.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn serve(path: &Path, what: Inspector, may: Permissions) -> Console {
    console::serve(path, what, may).await.expect("served")
}

async fn session() -> (ScriptedServer, Session) {
    let server = ScriptedServer::plain().await.expect("a server");
    let session = Client::connect(server.url()).await.expect("a session");
    (server, session)
}

/// One who looks.
struct Visitor(BufReader<UnixStream>);

impl Visitor {
    /// Attaches and has been greeted.
    async fn new(path: &Path) -> (Self, Value) {
        let stream = UnixStream::connect(path).await.expect("attached");
        let mut visitor = Self(BufReader::new(stream));
        let hello = visitor.next().await.expect("a greeting");
        (visitor, hello)
    }

    async fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = timeout(LONG, self.0.read_line(&mut line)).await;
        match read.expect("in time") {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("JSON")),
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.expect("written");
    }

    async fn ask(&mut self, request: &Value) -> Value {
        self.write(format!("{request}\n").as_bytes()).await;
        self.next().await.expect("an answer")
    }
}

#[tokio::test]
async fn whoever_attaches_is_greeted_and_sees_the_program() {
    let folder = Folder::new("look");
    let (_server, session) = session().await;
    let what = Inspector::new().session("main", &session);
    let _console = serve(&folder.socket(), what, Permissions::look()).await;
    let (mut visitor, hello) = Visitor::new(&folder.socket()).await;
    assert_eq!(hello["protocol"], "mainstay-console");
    assert_eq!(hello["version"], 1);
    assert_eq!(hello["process"], std::process::id());
    assert_eq!(
        (&hello["reconnect"], &hello["kill"]),
        (&json!(false), &json!(false))
    );
    let seen = visitor.ask(&json!({"type": "inspect", "id": 7})).await;
    assert_eq!(
        (&seen["type"], &seen["id"]),
        (&json!("inspection"), &json!(7))
    );
    let shown = &seen["inspection"]["sessions"][0];
    assert_eq!(
        (&shown["id"], &shown["status"]),
        (&json!("main"), &json!("live"))
    );
    assert_eq!(shown["tree"]["kind"], "supervisor");
}

#[tokio::test]
async fn who_may_only_look_changes_nothing() {
    let folder = Folder::new("forbidden");
    let (_server, session) = session().await;
    let what = Inspector::new().session("main", &session);
    let _console = serve(&folder.socket(), what, Permissions::look()).await;
    let (mut visitor, _) = Visitor::new(&folder.socket()).await;
    for request in [
        json!({"type": "reconnect", "id": 1, "session": "main"}),
        json!({"type": "kill", "id": 2, "actor": "0.1"}),
    ] {
        let answer = visitor.ask(&request).await;
        assert_eq!(
            (&answer["type"], &answer["id"]),
            (&json!("refused"), &request["id"])
        );
    }
    assert_eq!(session.statistics().opened, 1);
}

#[tokio::test]
async fn who_may_reconnect_has_the_session_reconnect() {
    let folder = Folder::new("reconnect");
    let (_server, session) = session().await;
    let what = Inspector::new().session("main", &session);
    let _console = serve(&folder.socket(), what, Permissions::look().reconnect()).await;
    let (mut visitor, hello) = Visitor::new(&folder.socket()).await;
    assert_eq!(hello["reconnect"], true);
    let nobody = json!({"type": "reconnect", "id": 1, "session": "nobody"});
    assert_eq!(visitor.ask(&nobody).await["type"], "refused");
    let main = json!({"type": "reconnect", "id": 2, "session": "main"});
    assert_eq!(visitor.ask(&main).await["type"], "done");
    while session.statistics().opened < 2 || session.ready().is_err() {
        session.live().await.expect("it goes on");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_may_kill_has_an_actor_restarted() {
    let folder = Folder::new("kill");
    let (_server, session) = session().await;
    let what = Inspector::new().session("main", &session);
    let _console = serve(&folder.socket(), what, Permissions::look().kill()).await;
    let (mut visitor, _) = Visitor::new(&folder.socket()).await;
    let actor = |tree: &mainstay::supervisors::TreeSnapshot| {
        let heart = tree.find(["connection", "heartbeat_manager"]);
        heart.and_then(|node| node.actor).expect("up").to_string()
    };
    let before = actor(&session.tree().await.expect("a tree"));
    let request = json!({"type": "kill", "id": 1, "actor": before});
    assert_eq!(visitor.ask(&request).await["type"], "done");
    while !session
        .statistics()
        .restarts
        .contains_key("heartbeat_manager")
    {
        tokio::task::yield_now().await;
    }
    let nobody = json!({"type": "kill", "id": 2, "actor": "0.999999"});
    assert_eq!(visitor.ask(&nobody).await["type"], "refused");
}

#[tokio::test]
async fn garbage_is_refused_and_a_line_without_an_end_ends_the_connection() {
    let folder = Folder::new("garbage");
    let _console = serve(&folder.socket(), Inspector::new(), Permissions::look()).await;
    let (mut visitor, _) = Visitor::new(&folder.socket()).await;
    for garbage in [
        &b"\n"[..],
        b"\xff\xfe\n",
        b"{}\n",
        b"[[[[\n",
        b"{\"type\":\"kill\"}\n",
    ] {
        visitor.write(garbage).await;
        assert_eq!(visitor.next().await.expect("an answer")["type"], "refused");
    }
    visitor.write(&vec![b'a'; LINE + 1]).await;
    assert_eq!(visitor.next().await.expect("an answer")["type"], "refused");
    assert_eq!(visitor.next().await, None);
}

#[tokio::test]
async fn the_file_is_its_users_alone_and_goes_with_the_console() {
    let folder = Folder::new("file");
    let path = folder.socket();
    let console = serve(&path, Inspector::new(), Permissions::look()).await;
    let found = std::fs::metadata(&path).expect("a file");
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let files = std::fs::read_dir(&folder.0).expect("a folder").count();
    assert_eq!(files, 1, "nothing else is left behind");

    let second = console::serve(&*path, Inspector::new(), Permissions::look()).await;
    assert!(
        matches!(second, Err(ServeError::InUse { .. })),
        "{second:?}"
    );
    drop(console);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_a_dead_program_left_is_replaced_and_what_is_no_socket_is_not() {
    let folder = Folder::new("stale");
    let path = folder.socket();
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "nobody serves it, and it is there");
    let console = serve(&path, Inspector::new(), Permissions::look()).await;
    let _ = Visitor::new(&path).await;
    drop(console);

    std::fs::write(&path, "precious").expect("a file");
    let refused = console::serve(&*path, Inspector::new(), Permissions::look()).await;
    assert!(
        matches!(refused, Err(ServeError::Occupied { .. })),
        "{refused:?}"
    );
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "precious");
}

#[tokio::test]
async fn a_crowd_is_not_let_in_and_a_place_that_is_left_is_free() {
    let folder = Folder::new("crowd");
    let _console = serve(&folder.socket(), Inspector::new(), Permissions::look()).await;
    let mut inside = Vec::new();
    for _ in 0..CLIENTS {
        inside.push(Visitor::new(&folder.socket()).await);
    }
    let stream = UnixStream::connect(folder.socket())
        .await
        .expect("attached");
    let mut late = Visitor(BufReader::new(stream));
    assert_eq!(late.next().await, None);
    inside.pop();
    loop {
        let stream = UnixStream::connect(folder.socket())
            .await
            .expect("attached");
        let mut next = Visitor(BufReader::new(stream));
        if next.next().await.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn one_who_does_not_read_is_let_go_of() {
    let folder = Folder::new("slow");
    let (_server, session) = session().await;
    let what = (0..200).fold(Inspector::new(), |what, number| {
        what.session(format!("session {number}"), &session)
    });
    let _console = serve(&folder.socket(), what, Permissions::look()).await;
    let (mut slow, _) = Visitor::new(&folder.socket()).await;
    let (mut quick, _) = Visitor::new(&folder.socket()).await;
    // Answers of some 500 kB each, which no socket's buffer takes.
    let request = b"{\"type\":\"inspect\",\"id\":1}\n".repeat(4);
    slow.write(&request).await;
    assert_eq!(
        quick.ask(&json!({"type": "inspect", "id": 2})).await["id"],
        2
    );
    // It finds out by reading after the server's patience, which is what ends the server's side.
    let mut seats = 0;
    timeout(LONG, async {
        while seats < CLIENTS - 1 {
            seats = 0;
            let mut others = Vec::new();
            for _ in 0..CLIENTS - 1 {
                let stream = UnixStream::connect(folder.socket())
                    .await
                    .expect("attached");
                let mut other = Visitor(BufReader::new(stream));
                if other.next().await.is_some() {
                    seats += 1;
                    others.push(other);
                }
            }
        }
    })
    .await
    .expect("its seat is free in the end");
    let mut rest = Vec::new();
    let read = timeout(LONG, slow.0.read_to_end(&mut rest)).await;
    assert!(read.expect("an end").is_ok() || !rest.is_empty());
}

#[tokio::test]
async fn a_port_is_of_the_loopback_or_refused() {
    let everywhere: std::net::SocketAddr = "0.0.0.0:0".parse().expect("an address");
    let refused = console::serve(everywhere, Inspector::new(), Permissions::look()).await;
    assert!(
        matches!(refused, Err(ServeError::NotLoopback { .. })),
        "{refused:?}"
    );
    let here: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let console = console::serve(here, Inspector::new(), Permissions::look()).await;
    let console = console.expect("served");
    let console::Place::Loopback(address) = console.place() else {
        panic!("a port, not {:?}", console.place());
    };
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("attached");
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .await
        .expect("a greeting");
    assert!(line.contains("\"hello\""), "{line}");
}
